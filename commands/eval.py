"""`playfield eval RUN`: whole games on the raw reward, and what they say.

A classifier's run is measured on its held-out images instead (`classifier_evaluation`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from playfield.commands import arguments
from playfield.errors import UserError
from playfield.generative.judges import JUDGES
from playfield.training.places import runs_root

if TYPE_CHECKING:
    import torch

    from playfield.evaluation.results import Evaluation
    from playfield.training.run import Run


@dataclass(frozen=True)
class Options:
    """Play whole games with a run's agent; print the scores and add them to evaluation.json.

    Scores are raw, lost lives do not end a game, and the games are others than those of training.
    The run of a classifier is measured on its held-out images: see its classification.json.
    """

    run: tyro.conf.Positional[str]
    """Name or folder of the run."""
    episodes: int = 20
    """Whole games to play."""
    checkpoint: str | None = None
    """Which checkpoint, by its step or path, best or last; None: the newest intact one."""
    epsilon: float = 0.001
    """Share of random actions."""
    seed: int | None = None
    """Seed of the games; None: one made from the run's own."""
    num_envs: int = 8
    """Environments side by side; each plays its share of the games."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    threads: int | None = None
    """Threads to compute with; None: as many as there are cores to use."""
    root: Path = field(default_factory=runs_root)
    """Folder that runs are kept in."""


def run(args: Sequence[str]) -> int:
    options = arguments.parse(Options, args, command="eval")
    _check(options)

    from datetime import UTC, datetime

    from playfield.commands import stored
    from playfield.commands.agent_evaluation import report_seed
    from playfield.evaluation.games import play_games
    from playfield.evaluation.results import add_evaluation, read_evaluations, summarise
    from playfield.training.devices import resolve_device, set_threads
    from playfield.training.run import Run

    device = resolve_device(options.device)
    set_threads(options.threads)
    old = Run.open(options.run, options.root)
    if old.manifest["algorithm"] in JUDGES:
        return _classifier(options, old, device)
    results = old.folder / "evaluation.json"
    read_evaluations(results)  # a damaged file is told before the games, not after them
    checkpoint = stored.stored_checkpoint(old, options.checkpoint, stores=False)
    num_envs = min(options.num_envs, options.episodes)
    env = stored.stored_env(old, num_envs)
    seed = report_seed(old.manifest["seed"]) if options.seed is None else options.seed
    try:
        policy = stored.stored_policy(old, checkpoint, env.spec, device)
        with _Counter(options.episodes) as counter:
            games = play_games(
                env,
                policy,
                episodes=options.episodes,
                seed=seed,
                epsilon=options.epsilon,
                finished=lambda game: counter.add(),
            )
        evaluation = summarise(
            games,
            env.spec,
            checkpoint=checkpoint.path.name,
            progress=checkpoint.progress,
            num_envs=num_envs,
            seed=seed,
            epsilon=options.epsilon,
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
    finally:
        env.close()
    print("\n".join(lines(old.name, evaluation)))
    add_evaluation(results, evaluation)
    print(f"written to    {results}")
    return 0


def _classifier(options: Options, run: Run, device: torch.device) -> int:
    """Measure a classifier again; what only games have is refused."""
    from playfield.commands.classifier_evaluation import measure_again

    usual = Options(run=options.run)
    for name in ("episodes", "epsilon", "seed", "num_envs"):
        if getattr(options, name) != getattr(usual, name):
            raise UserError(
                f"Run {run.name!r} is of a classifier, which plays no games: leave "
                f"--{name.replace('_', '-')} out."
            )
    measure_again(run, options.checkpoint, device)
    return 0


def lines(run_name: str, evaluation: Evaluation) -> list[str]:
    """The report: every condition that decides what the score can be compared with."""
    spread = ""
    if not math.isnan(evaluation.standard_error):
        spread = f" ± {evaluation.standard_error:.2f} (standard error)"
    low, high = min(evaluation.scores), max(evaluation.scores)
    cut = f", {evaluation.truncated} cut by the time limit" if evaluation.truncated else ""
    normalised = evaluation.human_normalised
    human = "no human score is published for this environment"
    if normalised is not None:
        human = f"{100 * normalised:.1f} % (0 % is random play, 100 % a professional game tester)"
    return [
        f"run           {run_name}, checkpoint of step {evaluation.progress:,} "
        f"({evaluation.checkpoint})",
        f"environment   {evaluation.env}",
        f"protocol      {_protocol(evaluation)}",
        f"games         {evaluation.episodes} whole ones in {evaluation.num_envs} environments, "
        f"{sum(evaluation.steps) / evaluation.episodes:,.0f} steps on average{cut}",
        f"agent         {100 * evaluation.epsilon:g} % random actions; seed {evaluation.seed}",
        f"raw score     {evaluation.mean:.2f}{spread}; median {evaluation.median:g}, "
        f"from {low:g} to {high:g}",
        f"human score   {human}",
    ]


def _protocol(evaluation: Evaluation) -> str:
    """Its name, and for Atari the settings that are argued about."""
    protocol = evaluation.protocol
    name = str(protocol.get("name", "its own"))
    if "repeat_action_probability" not in protocol:
        return name
    return (
        f"{name}: sticky actions {protocol['repeat_action_probability']:g}, "
        f"up to {protocol['noop_max']} no-ops, "
        f"{'all 18' if protocol['full_action_space'] else 'minimal'} actions, "
        f"frame skip {protocol['frame_skip']}, {protocol['max_frames']:,} frames at most"
    )


def _check(options: Options) -> None:
    if options.episodes < 1:
        raise UserError(f"--episodes has to be 1 or more, not {options.episodes}.")
    if options.num_envs < 1:
        raise UserError(f"--num-envs has to be 1 or more, not {options.num_envs}.")
    if not 0 <= options.epsilon <= 1:
        raise UserError(f"--epsilon has to lie between 0 and 1, not {options.epsilon}.")
    if options.seed is not None and options.seed < 0:
        raise UserError(f"--seed has to be 0 or more, not {options.seed}.")


class _Counter:
    """How many games are over, on a terminal; nothing in a log."""

    def __init__(self, total: int) -> None:
        from rich.console import Console

        self._total = total
        self._done = 0
        self._status = Console(stderr=True).status(self._text())

    def add(self) -> None:
        self._done += 1
        self._status.update(self._text())

    def __enter__(self) -> _Counter:
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def _text(self) -> str:
        return f"{self._done} of {self._total} games"
