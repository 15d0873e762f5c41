"""The toy worlds: how long every agent needs for them, and how well it plays them then.

Each preset for `CartPole-v1`, `playfield/Catch-v0` and `playfield/Corridor-v0` is trained as a user
would, `playfield train ALGORITHM --preset NAME` in a process of its own, and plays 100 whole games
with the final weights. The seconds are those of the process, from its start to its end.

    python benchmarks/small_worlds.py
    python benchmarks/small_worlds.py --seeds 0 --only pqn
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from measure import Target, conditions, destination, parser, report, show, threads_of
from time_to_score import Learnt, Task, learn_playfield

from playfield.agents.presets import PRESETS, Preset
from playfield.agents.registry import ALGORITHMS

#: By environment, the mean score that counts as solved, and the seconds in which agents without a
#: replay have to get there; None: nothing was promised.
WORLDS = {
    "CartPole-v1": (475.0, 30.0),
    "playfield/Catch-v0": (0.9, 60.0),
    "playfield/Corridor-v0": (0.9, None),
}
GAMES, QUICK_GAMES = 100, 2
QUICK_STEPS = 2_000


def lessons(only: Collection[str]) -> list[Preset]:
    """The presets of these algorithms that are made for a toy world, by world."""
    chosen = [each for each in PRESETS.values() if each.env in WORLDS and each.algorithm in only]
    return sorted(chosen, key=lambda preset: list(WORLDS).index(str(preset.env)))


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="0 1 2")
    arguments.add_argument(
        "--only", nargs="+", choices=ALGORITHMS, default=list(ALGORITHMS), metavar="ALGORITHM",
        help=f"of {', '.join(ALGORITHMS)}",
    )  # fmt: skip
    options = arguments.parse_args()
    record = conditions(options)
    threads = threads_of(options)
    found: dict[str, Any] = {}
    for lesson in lessons(options.only):
        runs = []
        for seed in options.seeds[:1] if options.quick else options.seeds:
            task = Task(
                str(lesson.env),
                seed=seed,
                steps=QUICK_STEPS if options.quick else None,
                episodes=QUICK_GAMES if options.quick else GAMES,
                threads=threads,
            )
            with tempfile.TemporaryDirectory() as root:
                learnt = learn_playfield(task, lesson.algorithm, lesson.name, [], Path(root))
            runs.append(run_record(learnt, seed))
        found[lesson.name] = {
            "algorithm": lesson.algorithm,
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
        "evaluation": {name: learnt.evaluation[name] for name in ("epsilon", "seed", "truncated")},
    }


def targets(found: Mapping[str, Any]) -> Iterator[Target]:
    for name, each in found.items():
        score, seconds = WORLDS[each["env"]]
        weakest = min(run["mean"] for run in each["runs"])
        yield Target(f"{name}: mean score of the weakest seed", score, weakest)
        if seconds is not None and each["algorithm"] != "dqn":
            slowest = max(run["seconds"] for run in each["runs"])
            yield Target(f"{name}: seconds of the slowest", seconds, slowest, at_least=False)


if __name__ == "__main__":
    main()
