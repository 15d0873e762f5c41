"""Runs' agents at play: their whole games, kept as soon as they are played."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from playfield.errors import UserError

if TYPE_CHECKING:
    import torch

    from playfield.envs.contract import EnvSpec
    from playfield.evaluation.results import Evaluation
    from playfield.evaluation.run_groups import PlayedRun
    from playfield.training.run import Run

#: The file in a run's folder that holds what was found of it.
RESULTS = "evaluation.json"


@dataclass(frozen=True)
class GameOptions:
    """How many games are played, by which agent, and how it plays."""

    episodes: int = 20
    """Whole games to play, under each seed."""
    seeds: int = 1
    """Seeds to play that many games under."""
    seed: int | None = None
    """First seed of the games; None: one made from the run's own."""
    checkpoint: str | None = None
    """Which checkpoint, by its step or path, best or last; None: the newest intact one."""
    epsilon: float = 0.001
    """Share of random actions; 0: none at all."""
    num_envs: int = 8
    """Environments side by side; each plays its share of the games."""
    reuse: bool = False
    """Take games that were played under the very same conditions from evaluation.json."""

    def __post_init__(self) -> None:
        for name in ("episodes", "seeds", "num_envs"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise UserError(f"--{option} has to be 1 or more, not {getattr(self, name)}.")
        if not 0 <= self.epsilon <= 1:
            raise UserError(f"--epsilon has to lie between 0 and 1, not {self.epsilon}.")
        if self.seed is not None and self.seed < 0:
            raise UserError(f"--seed has to be 0 or more, not {self.seed}.")


def play_runs(
    runs: Sequence[Run], options: GameOptions, device: torch.device
) -> tuple[list[PlayedRun], list[UserError]]:
    """Every run's games, added to its evaluation.json; and the sentences where that failed.

    The games of each seed are kept before the next ones are played.
    """
    from playfield.evaluation.run_groups import PlayedRun, settings_of
    from playfield.training.signals import raise_at_interrupt

    played, trouble = [], []
    raise_at_interrupt()  # the counter hides the cursor, and has to be able to bring it back
    with _Counter(options.episodes * options.seeds * len(runs)) as counter:
        for each in runs:
            evaluations = []
            failed: UserError | None = None
            for evaluation in _play(each, options, device, counter):
                evaluations.append(evaluation)
                failed = _keep(each, evaluation) or failed
            if failed is not None:
                trouble.append(failed)
            manifest = each.manifest
            settings = settings_of(each)
            played.append(
                PlayedRun(
                    *(each.name, manifest["algorithm"], manifest["seed"], settings),
                    evaluations=tuple(evaluations),
                )
            )
    return played, trouble


def _keep(run: Run, evaluation: Evaluation) -> UserError | None:
    """Add it to the run's evaluation.json; what went wrong, where that failed."""
    from playfield.evaluation.results import add_evaluation

    try:
        add_evaluation(run.folder / RESULTS, evaluation)
    except UserError as error:
        return error
    return None


def _play(
    run: Run, options: GameOptions, device: torch.device, counter: _Counter
) -> Iterator[Evaluation]:
    """The games of one run: an evaluation for each seed, in environments made anew for it."""
    from datetime import UTC, datetime

    from playfield.commands import stored
    from playfield.evaluation.games import play_games
    from playfield.evaluation.results import read_evaluations, summarise

    checkpoint = stored.stored_checkpoint(run, options.checkpoint, stores=False)
    saved = read_evaluations(run.folder / RESULTS) if options.reuse else []
    num_envs = min(options.num_envs, options.episodes)
    for seed in _game_seeds(run, options):
        conditions: dict[str, Any] = {
            "checkpoint": checkpoint.path.name,
            "progress": checkpoint.progress,
            "num_envs": num_envs,
            "seed": seed,
            "epsilon": options.epsilon,
        }
        env = stored.stored_env(run, num_envs)
        try:
            known = _saved(saved, env.spec, options.episodes, conditions)
            if known is not None:
                counter.add(options.episodes)
                yield known
                continue
            games = play_games(
                env,
                stored.stored_policy(run, checkpoint, env.spec, device),
                episodes=options.episodes,
                seed=seed,
                epsilon=options.epsilon,
                finished=lambda game: counter.add(1),
            )
        finally:
            env.close()
        finished_at = datetime.now(UTC).isoformat(timespec="seconds")
        yield summarise(games, env.spec, **conditions, finished_at=finished_at)


def _saved(
    saved: Sequence[Evaluation], spec: EnvSpec, episodes: int, conditions: Mapping[str, Any]
) -> Evaluation | None:
    """The one of `saved` that playing now would repeat."""
    wanted = {"env": spec.id, "protocol": dict(spec.protocol), "episodes": episodes, **conditions}
    for each in saved:
        if all(getattr(each, name) == value for name, value in wanted.items()):
            return each
    return None


def _game_seeds(run: Run, options: GameOptions) -> list[int]:
    """`options.seeds` of them, of which fewer are the first ones of more."""
    from playfield.commands.agent_evaluation import report_seed
    from playfield.training.seeding import derive_seed

    first = report_seed(run.manifest["seed"]) if options.seed is None else options.seed
    further = range(1, options.seeds)
    return [first, *(derive_seed(first, "evaluation", "again", number) for number in further)]


class _Counter:
    """How many games are over, on a terminal; nothing in a log."""

    def __init__(self, total: int) -> None:
        from rich.console import Console

        self._total = total
        self._done = 0
        self._status = Console(stderr=True).status(self._text())

    def add(self, games: int) -> None:
        self._done += games
        self._status.update(self._text())

    def __enter__(self) -> _Counter:
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def _text(self) -> str:
        return f"{self._done} of {self._total} games"
