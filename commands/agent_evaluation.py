"""Evaluation as commands need it: environments of its own, and seeds that training never uses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from playfield.atomic import write_atomically
from playfield.evaluation.game_film import GameFilm
from playfield.evaluation.games import Moment, play_games
from playfield.training.logs import MEDIA_MB_PER_HOUR
from playfield.training.media import Film, Histogram, Picture
from playfield.training.seeding import derive_seed
from playfield.training.signals import Interrupted

if TYPE_CHECKING:
    from playfield.envs.contract import VectorEnv
    from playfield.training.trainer import Policy

#: Share of random actions when an agent is evaluated. Hessel et al. 2018 (Rainbow) use the same:
#: too little to cost points, enough to leave a position that a deterministic game repeats for ever.
EPSILON = 0.001
#: Environments side by side; more would only make the last, longest games wait for each other.
NUM_ENVS = 8
#: Films are made while they, from the game to the file, took no more than this share of the time
#: since training began.
FILM_SHARE = 0.01
#: The newest evaluation's film, in the run's folder.
FILM = Path("videos", "evaluation.gif")


def during_training(
    policy: Callable[[], Policy],
    make_env: Callable[[int], VectorEnv],
    *,
    episodes: int,
    seed: int,
    pictured: Callable[[], VectorEnv] | None = None,
    folder: Path | None = None,
    media_mb_per_hour: float = MEDIA_MB_PER_HOUR,
) -> Callable[[], Mapping[str, float | Picture | Film | Histogram]] | None:
    """What the training loop calls to evaluate its agent; None for no episodes.

    `policy()` is the agent as it is then. `make_env(num_envs)` makes the environments, anew for
    every evaluation. All evaluations of a run start from the same seeds, so that two points of the
    curve differ by the agent alone. `playfield eval` draws from others: a checkpoint chosen by this
    curve is not reported by the same games.

    Scores are "eval/return" and "eval/length"; "eval/actions" is which actions were taken, by
    number. With `pictured`, which makes one environment that can be shown, "eval/game" is a film of
    the first game; the run's `folder` keeps the newest one in videos/evaluation.gif. The training
    thread makes it, so where the curves take no pictures (`media_mb_per_hour` is 0) none is made.
    """
    if episodes < 1:
        return None
    studio = None if pictured is None or not media_mb_per_hour else _Studio(pictured, folder)
    evaluation_seed = derive_seed(seed, "evaluation", "during training")

    def evaluate() -> Mapping[str, float | Picture | Film | Histogram]:
        num_envs = min(episodes, NUM_ENVS)
        env = make_env(num_envs)
        film = None if studio is None else studio.open(evaluation_seed)
        taken = np.zeros(env.spec.num_actions, np.int64)

        def watch(moment: Moment) -> None:
            # What is sent after a game's last picture is not played.
            over = moment.step.terminated | moment.step.truncated
            np.add.at(taken, moment.actions[~over], 1)
            if studio is not None and film is not None:
                studio.watch(film, moment)

        try:
            games = play_games(
                env,
                policy(),
                episodes=episodes,
                seed=evaluation_seed,
                epsilon=EPSILON,
                watch=watch,
            )
        finally:
            if film is not None:
                film.close()
            env.close()
        developed = None if studio is None or film is None else studio.develop(film)
        return {
            "eval/return": sum(game.score for game in games) / len(games),
            "eval/length": sum(game.steps for game in games) / len(games),
            "eval/actions": Histogram(np.repeat(np.arange(len(taken), dtype=np.float64), taken)),
            **({} if developed is None else {"eval/game": developed}),
        }

    return evaluate


def report_seed(run_seed: int) -> int:
    """The seed of `playfield eval`'s games, unless the user gives one."""
    return derive_seed(run_seed, "evaluation", "report")


class _Studio:
    """Makes films while there is time for them, and puts the newest into the run's folder."""

    def __init__(self, pictured: Callable[[], VectorEnv], folder: Path | None) -> None:
        self._pictured, self._folder = pictured, folder
        self._began, self._spent = time.monotonic(), 0.0

    def open(self, seed: int) -> GameFilm | None:
        """An empty film; None where films took too long so far, or nothing can be shown."""
        if self._spent > FILM_SHARE * (time.monotonic() - self._began):
            return None
        with self._timed():
            try:
                return GameFilm(self._pictured(), seed)
            except Interrupted:
                raise
            except Exception:  # renderers fail in ways of their own; the evaluation does without
                return None

    def watch(self, film: GameFilm, moment: Moment) -> None:
        """Film `moment` if `film` has not ended."""
        if film.rolling:
            with self._timed():
                film.watch(moment)

    def develop(self, film: GameFilm) -> Film | None:
        """The finished film; one that finds no place in the folder is no reason to stop."""
        with self._timed():
            developed = film.developed()
            if developed is not None and self._folder is not None:
                try:
                    (self._folder / FILM).parent.mkdir(exist_ok=True)
                    write_atomically(self._folder / FILM, developed.encoded)
                except OSError:
                    pass  # the curves and checkpoints tell of a disk in trouble
        return developed

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.monotonic()
        yield
        self._spent += time.monotonic() - started
