"""The toy worlds: how long every agent needs for them, and how well it plays them then.

Each preset for `CartPole-v1` and `playfield/Catch-v0` is trained as a user would, `playfield train
ALGORITHM --preset NAME` in a process of its own, and plays 100 whole games with the final weights.
The seconds are those of the process, from its start to its end.

    python benchmarks/small_worlds.py
    python benchmarks/small_worlds.py --seeds 0 --only pqn
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import Target, conditions, destination, parser, report, show, threads_of
from time_to_score import Learnt, Task, learn_playfield

#: By environment: the mean score that counts as solved, and the seconds to get there.
WORLDS = {"CartPole-v1": (475.0, 30.0), "playfield/Catch-v0": (0.9, 60.0)}
#: By algorithm, the presets for these two. Of DQN nothing was promised about seconds.
PRESETS = {
    "ppo": ("cartpole-ppo", "catch-ppo"),
    "a2c": ("cartpole-a2c", "catch-a2c"),
    "reinforce": ("cartpole-reinforce", "catch-reinforce"),
    "pqn": ("cartpole-pqn", "catch-pqn"),
    "dqn": ("cartpole", "catch"),
}
GAMES, QUICK_GAMES = 100, 2
QUICK_STEPS = 2_000


@dataclass(frozen=True)
class Lesson:
    """One agent in one world."""

    algorithm: str
    preset: str
    env: str

    @property
    def name(self) -> str:
        return f"{self.algorithm} on {self.env}"


def lessons(only: list[str]) -> Iterator[Lesson]:
    for algorithm in only:
        for preset, env in zip(PRESETS[algorithm], WORLDS, strict=True):
            yield Lesson(algorithm, preset, env)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="0 1 2")
    arguments.add_argument(
        "--only", nargs="+", choices=PRESETS, default=list(PRESETS), metavar="ALGORITHM",
        help=f"of {', '.join(PRESETS)}",
    )  # fmt: skip
    options = arguments.parse_args()
    record = conditions(options)
    threads = threads_of(options)
    found: dict[str, Any] = {}
    for lesson in lessons(options.only):
        runs = []
        for seed in options.seeds[:1] if options.quick else options.seeds:
            task = Task(
                lesson.env,
                seed=seed,
                steps=QUICK_STEPS if options.quick else None,
                episodes=QUICK_GAMES if options.quick else GAMES,
                threads=threads,
            )
            with tempfile.TemporaryDirectory() as root:
                learnt = learn_playfield(task, lesson.algorithm, lesson.preset, [], Path(root))
            runs.append(run_record(learnt, seed))
        found[lesson.name] = {
            "algorithm": lesson.algorithm,
            "preset": lesson.preset,
            "env": lesson.env,
            "runs": runs,
        }
    show(
        f"toy worlds: {len(options.seeds)} seeds, {GAMES} games each with the final weights",
        ("", "steps", "seconds, slowest", "mean score of each seed"),
        [
            (
                name,
                f"{each['runs'][0]['steps']:,}",
                f"{max(run['seconds'] for run in each['runs']):.1f}",
                ", ".join(f"{run['mean']:.4g}" for run in each["runs"]),
            )
            for name, each in found.items()
        ],
    )
    record |= {"threads": threads, "games": GAMES, "worlds": found}
    report("small_worlds", record, list(targets(found)), destination(options))


def run_record(learnt: Learnt, seed: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "command": learnt.how["command"],
        "seconds": learnt.seconds,
        "steps": learnt.steps,
        "mean": statistics.fmean(learnt.scores),
        "scores": learnt.scores,
        "evaluation": learnt.evaluation,
    }


def targets(found: Mapping[str, Any]) -> Iterator[Target]:
    for name, each in found.items():
        score, seconds = WORLDS[each["env"]]
        weakest = min(run["mean"] for run in each["runs"])
        yield Target(f"{name}: mean score of the weakest seed", score, weakest)
        if each["algorithm"] != "dqn":
            slowest = max(run["seconds"] for run in each["runs"])
            yield Target(f"{name}: seconds of the slowest", seconds, slowest, at_least=False)


if __name__ == "__main__":
    main()
