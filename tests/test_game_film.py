"""The film of an evaluation: its first game, at no cost to the evaluation."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from playfield import envs
from playfield.cli import main
from playfield.commands import agent_evaluation
from playfield.commands.agent_evaluation import during_training
from playfield.envs.contract import VectorEnv
from playfield.errors import UserError
from playfield.evaluation import game_film
from playfield.training.media import Film, Histogram
from playfield.training.trainer import Decision


class Random:
    """Plays at random, from draws of its own."""

    stack = 1

    def __init__(self) -> None:
        self.rng = np.random.default_rng(3)

    def act(self, obs: torch.Tensor, first: NDArray[np.bool_]) -> Decision:
        chances = self.rng.dirichlet([1.0] * 3, len(obs)).astype(np.float32)
        return Decision(chances.argmax(1), chances.max(1), chances, "probabilities")


def catch(num_envs: int = 1) -> VectorEnv:
    return envs.make("playfield/Catch-v0", num_envs, render=True)


def evaluated(folder: Path | None = None, episodes: int = 4, **options: object) -> Mapping:  # type: ignore[type-arg]
    policy = Random()
    evaluate = during_training(
        lambda: policy,
        catch,
        episodes=episodes,
        seed=0,
        folder=folder,
        **options,  # type: ignore[arg-type]
    )
    assert evaluate is not None
    return evaluate()


def frames(film: Film) -> list[NDArray[np.uint8]]:
    with Image.open(io.BytesIO(film.encoded)) as file:
        pictures = []
        for number in range(file.n_frames):
            file.seek(number)
            pictures.append(np.asarray(file.convert("RGB")))
    return pictures


def test_a_film_changes_no_score() -> None:
    plain, filmed = evaluated(episodes=30), evaluated(episodes=30, pictured=catch)
    assert {**filmed}.keys() - plain.keys() == {"eval/game"}
    assert [plain[name] for name in ("eval/return", "eval/length")] == [
        filmed[name] for name in ("eval/return", "eval/length")
    ]
    assert np.array_equal(plain["eval/actions"].values, filmed["eval/actions"].values)


def test_the_film_is_the_first_game_whole_and_kept_in_the_run(tmp_path: Path) -> None:
    film = evaluated(tmp_path, pictured=catch)["eval/game"]
    pictures = frames(film)
    assert len(pictures) == 10  # the first picture, and nine steps
    assert {picture.shape for picture in pictures} == {(film.height, film.width, 3)}
    assert not np.array_equal(pictures[0], pictures[-1])
    assert (tmp_path / "videos" / "evaluation.gif").read_bytes() == film.encoded


def test_a_long_game_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(game_film, "SECONDS", 0.5)  # of 8 pictures per second
    assert len(frames(evaluated(pictured=catch)["eval/game"])) == 4


def test_a_large_film_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = len(evaluated(pictured=catch)["eval/game"].encoded)
    monkeypatch.setattr(game_film, "MAX_BYTES", whole // 2)
    film = evaluated(pictured=catch)["eval/game"]
    assert len(film.encoded) <= whole // 2 and 1 <= len(frames(film)) < 10


def test_where_nothing_can_be_drawn_the_evaluation_goes_on(tmp_path: Path) -> None:
    def missing() -> VectorEnv:
        raise UserError("pygame is missing")

    def broken() -> VectorEnv:
        env = catch()
        env.render = missing  # type: ignore[method-assign, assignment]
        return env

    for pictured in (missing, broken):
        found = evaluated(tmp_path, pictured=pictured)
        assert "eval/return" in found and "eval/game" not in found


def test_what_cannot_be_closed_spoils_neither_the_film_nor_the_evaluation() -> None:
    def stuck() -> VectorEnv:
        env = catch()
        env.close = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
        return env

    assert "eval/game" in evaluated(pictured=stuck)


def test_a_folder_that_cannot_be_written_costs_only_the_file(tmp_path: Path) -> None:
    (tmp_path / "videos").write_text("in the way")
    assert isinstance(evaluated(tmp_path, pictured=catch)["eval/game"], Film)


class Clock:
    """Moves only where a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        monkeypatch.setattr(agent_evaluation.time, "monotonic", lambda: self.seconds)

    def charge(self, cost: float, work: Callable[..., Any]) -> Callable[..., Any]:
        """`work`, which now takes `cost` seconds."""

        def charged(*args: Any, **kwargs: Any) -> Any:
            self.seconds += cost
            return work(*args, **kwargs)

        return charged


@pytest.mark.parametrize("costly", ["make", "reset", "step", "render", "close", "developed"])
def test_films_that_took_too_long_are_not_made_again(
    monkeypatch: pytest.MonkeyPatch, costly: str
) -> None:
    clock = Clock(monkeypatch)
    if costly == "developed":
        monkeypatch.setattr(
            game_film.GameFilm, costly, clock.charge(18.0, game_film.GameFilm.developed)
        )

    def pictured() -> VectorEnv:
        env = catch()
        times = {"step": 9, "render": 10}.get(costly, 1)  # in a game of Catch
        if costly in ("reset", "step", "render", "close"):
            setattr(env, costly, clock.charge(18.0 / times, getattr(env, costly)))
        clock.seconds += 18.0 if costly == "make" else 0.0
        return env

    evaluate = during_training(Random, catch, episodes=1, seed=0, pictured=pictured)
    assert evaluate is not None
    # 18 seconds are too much at second 1799, when 1 % is 17.99 of them, not at 1801.
    filmed = []
    for second in (10.0, 1799.0, 1801.0):
        clock.seconds = second
        filmed.append("eval/game" in evaluate())
    assert filmed == [True, False, True]


def test_games_that_nobody_films_cost_films_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    def slow(num_envs: int) -> VectorEnv:
        env = catch(num_envs)
        env.step = clock.charge(10.0, env.step)  # type: ignore[method-assign]
        return env

    evaluate = during_training(Random, slow, episodes=2, seed=0, pictured=catch)
    assert evaluate is not None
    assert ["eval/game" in evaluate() for _ in range(3)] == [True] * 3


def test_where_the_curves_take_no_pictures_nothing_is_filmed(tmp_path: Path) -> None:
    def pictured() -> VectorEnv:
        raise AssertionError("nobody asked for a film")

    found = evaluated(tmp_path, pictured=pictured, media_mb_per_hour=0.0)
    assert "eval/return" in found and "eval/game" not in found
    assert not (tmp_path / "videos").exists()


@pytest.mark.parametrize("budget", [0.0, 8.0])
def test_a_run_films_if_its_budget_of_pictures_is_not_0(tmp_path: Path, budget: float) -> None:
    args = ["train", "ppo", "--env", "playfield/Catch-v0", "--num-envs", "2", "--hidden", "8"]
    args += ["--num-steps", "16", "--steps", "64", "--evaluate-episodes", "2", "--threads", "1"]
    args += ["--device", "cpu", "--media-mb-per-hour", str(budget)]
    assert main([*args, "--run", "here", "--root", str(tmp_path)]) == 0
    film = tmp_path / "here" / "videos" / "evaluation.gif"
    assert film.exists() == (budget > 0)
    film.unlink(missing_ok=True)
    more = ["--steps", "128", "--threads", "1", "--root", str(tmp_path)]
    assert main(["resume", "here", *more]) == 0
    assert film.exists() == (budget > 0)


@pytest.mark.parametrize("seconds", [20.0, 0.5])
def test_what_is_filmed_plays_no_longer_than_the_film(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(game_film, "SECONDS", seconds)  # of 8 pictures per second
    done: list[str] = []

    def pictured() -> VectorEnv:
        env = catch()
        for name in ("step", "close"):
            work = getattr(env, name)
            setattr(env, name, lambda *args, n=name, w=work: (done.append(n), w(*args))[1])
        return env

    evaluated(episodes=16, pictured=pictured)  # two games in each of 8 environments
    assert done == ["step"] * (9 if seconds > 1 else 3) + ["close"]


def test_a_double_that_plays_another_game_is_not_shown() -> None:
    def other() -> VectorEnv:
        env = catch()
        reset = env.reset
        env.reset = lambda seed: reset(seed + 1)  # type: ignore[method-assign]
        return env

    assert "eval/game" not in evaluated(pictured=other)


def test_every_action_that_is_played_counts_once() -> None:
    found = evaluated(episodes=1)["eval/actions"]
    assert isinstance(found, Histogram)
    assert len(found.values) == 9  # a game of Catch; what follows its last picture is not played
    assert set(found.values.tolist()) <= {0.0, 1.0, 2.0}


def test_an_atari_game_scores_the_same_while_it_is_filmed() -> None:
    pytest.importorskip("ale_py")

    def scores(render: bool) -> tuple[float, float]:
        def breakout(num_envs: int = 1) -> VectorEnv:
            from dataclasses import replace

            from playfield.envs.protocols import MACHADO2018

            short = replace(MACHADO2018, max_frames=400)
            return envs.make("ALE/Breakout-v5", num_envs, protocol=short, render=render)

        pictured = breakout if render else None
        evaluate = during_training(Random, breakout, episodes=2, seed=1, pictured=pictured)
        assert evaluate is not None
        found = evaluate()
        assert ("eval/game" in found) == render
        return found["eval/return"], found["eval/length"]  # type: ignore[return-value]

    assert scores(False) == scores(True)
