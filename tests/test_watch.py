"""Watching an agent: scenes, their bounds, the terminal and video files."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import CommandLine, catch_run, playfield
from numpy.typing import NDArray
from PIL import Image

from playfield import envs
from playfield.commands.watch import Scene, bounded, pictures_per_second, scenes
from playfield.envs.contract import EnvSpec
from playfield.evaluation.terminal import Screen
from playfield.training.trainer import Decision

__all__ = ["catch_run", "playfield"]  # fixtures


class Stay:
    """Never moves the paddle of Catch, and thinks little of it."""

    stack = 1

    def act(self, obs: torch.Tensor, first: NDArray[np.bool_]) -> Decision:
        values = np.array([[-3.0, -2.0, -5.0]], np.float32)
        return Decision(np.ones(len(obs), np.int64), values.max(1), values, "action values")


@pytest.fixture
def catch_scenes() -> Iterator[Scene]:
    env = envs.make("playfield/Catch-v0", 1, render=True)
    return scenes(env, Stay(), seed=0, epsilon=0.0)


def test_a_game_is_shown_from_its_first_picture_to_its_last(catch_scenes: Iterator[Scene]) -> None:
    shown = list(bounded(catch_scenes, pictures=None, games=2))
    # A game of Catch is the reset observation and nine steps.
    assert [scene.game for scene in shown] == [1] * 10 + [2] * 10
    assert [scene.ended for scene in shown] == ([False] * 9 + [True]) * 2
    assert {abs(scene.score) for scene in shown if scene.ended} == {1.0}
    assert all(scene.score == 0 for scene in shown if not scene.ended)


def test_a_scene_names_the_action_and_what_the_agent_expects(
    catch_scenes: Iterator[Scene],
) -> None:
    scene = next(catch_scenes)
    assert (scene.action, scene.value) == ("STAY", -2.0)
    assert scene.picture.dtype == np.uint8 and scene.picture.shape[2] == 3


def test_the_first_bound_that_is_reached_ends_the_show(catch_scenes: Iterator[Scene]) -> None:
    assert len(list(bounded(catch_scenes, pictures=4, games=5))) == 4


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (EnvSpec("ALE/Pong-v5", (1, 84, 84), "uint8", 6, (), 4, {"frame_skip": 4}), 15.0),
        (EnvSpec("ALE/Pong-v5", (1, 84, 84), "uint8", 6, (), 1, {"frame_skip": 1}), 60.0),
        (EnvSpec("CartPole-v1", (4,), "float32", 2, ()), 30.0),
    ],
)
def test_atari_is_shown_at_the_speed_of_the_machine(spec: EnvSpec, expected: float) -> None:
    assert pictures_per_second(spec) == expected


# --- files ---


def frames_of(path: Path) -> int:
    with Image.open(path) as film:
        return int(film.n_frames)


@pytest.mark.parametrize("ending", [".gif", ".png"])
def test_a_film_of_n_steps_has_n_plus_one_pictures(
    playfield: CommandLine, catch_run: Path, tmp_path: Path, ending: str
) -> None:
    film = tmp_path / f"film{ending}"
    result = playfield("watch", "catch", "--video", str(film), "--steps", "4")
    assert result.code == 0, result
    assert "5 pictures" in result.out and "step 120" in result.out
    assert frames_of(film) == 5


def test_an_mp4_lasts_as_long_as_was_asked(
    playfield: CommandLine, catch_run: Path, tmp_path: Path
) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    film = tmp_path / "film.mp4"
    args = ("--seconds", "2", "--fps", "10")
    assert playfield("watch", "catch", "--video", str(film), *args).code == 0
    count, seconds = imageio_ffmpeg.count_frames_and_secs(str(film))
    assert (count, seconds) == (20, pytest.approx(2.0, abs=0.11))


def test_the_same_seed_shows_the_same_game(
    playfield: CommandLine, catch_run: Path, tmp_path: Path
) -> None:
    films = [tmp_path / "one.png", tmp_path / "two.png"]
    for film in films:
        playfield("watch", "catch", "--video", str(film), "--seed", "5", "--episodes", "2")
    assert films[0].read_bytes() == films[1].read_bytes()


def test_an_interrupted_film_ends_there_and_is_kept(
    playfield: CommandLine, catch_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from playfield.commands import watch

    def interrupted(*args: object, **kwargs: object) -> Iterator[Scene]:
        for number in range(3):
            yield Scene(np.full((240, 8, 3), number, np.uint8), 1, 0.0, "STAY", 0.0, False)
        raise KeyboardInterrupt

    monkeypatch.setattr(watch, "scenes", interrupted)
    film = tmp_path / "film.png"
    assert playfield("watch", "catch", "--video", str(film)).code == 0
    assert frames_of(film) == 3


def test_an_older_checkpoint_can_be_watched(
    playfield: CommandLine, catch_run: Path, tmp_path: Path
) -> None:
    film = str(tmp_path / "film.gif")
    result = playfield("watch", "catch", "--video", film, "--steps", "1", "--checkpoint", "80")
    assert "at step 80" in result.out


# --- terminal ---


def test_a_screen_comes_and_goes_without_leaving_anything_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((20, 6)))
    stream = io.StringIO()
    with Screen(stream) as screen:
        screen.draw(np.full((8, 8, 3), 7, np.uint8), ["a title that is too long to fit", "short"])
    text = stream.getvalue()
    assert text.startswith("\x1b[?1049h\x1b[?25l") and text.endswith("\x1b[?25h\x1b[?1049l")
    assert text.count("▀") == 4 * 8  # eight pixels high is four cells, which fit above two lines
    assert "a title that is too \x1b[K" in text and "short" in text


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are POSIX")
def test_watch_draws_in_a_terminal(playfield: CommandLine, catch_run: Path) -> None:
    import pty
    import subprocess
    import sys

    master, slave = pty.openpty()
    command = [sys.executable, "-m", "playfield.cli", "watch", "catch", "--steps", "2"]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "60", "LINES": "20"}
    process = subprocess.Popen(
        [*command, "--fps", "100"], stdout=slave, stderr=slave, env=environment
    )
    os.close(slave)
    output = b""
    while chunk := _read(master):
        output += chunk
    os.close(master)
    text = output.decode()
    assert process.wait() == 0, text
    assert text.count("\x1b[H") == 3  # three pictures
    assert re.search(r"\x1b\[38;2;\d+;\d+;\d+m", text)
    assert "game 1  score 0" in text
    assert text.endswith("\x1b[?1049l")


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # Linux ends a pseudo-terminal that way
        return b""
