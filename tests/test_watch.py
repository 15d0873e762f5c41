"""Watching an agent: scenes, their bounds, overlays, the terminal and video files."""

from __future__ import annotations

import io
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import TINY, CommandLine, catch_run, playfield
from numpy.typing import NDArray
from PIL import Image

from playfield import envs
from playfield.envs.contract import EnvSpec
from playfield.evaluation.scenes import Scene, bounded, pictures_per_second, scenes
from playfield.evaluation.terminal import Screen, Style, shades, style_of
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
    assert (scene.action, scene.chosen, scene.value) == (1, 1, -2.0)
    assert scene.preference.tolist() == [-3.0, -2.0, -5.0]
    assert scene.picture.dtype == np.uint8 and scene.picture.shape[2] == 3


def test_steps_are_counted_anew_in_every_game(catch_scenes: Iterator[Scene]) -> None:
    shown = list(bounded(catch_scenes, pictures=None, games=2))
    assert [scene.step for scene in shown] == [*range(10), *range(10)]


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
    from playfield.evaluation import scenes as module

    def interrupted(*args: object, **kwargs: object) -> Iterator[Scene]:
        yield from itertools.islice(scenes(*args, **kwargs), 3)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "scenes", interrupted)
    film = tmp_path / "film.png"
    assert playfield("watch", "catch", "--video", str(film)).code == 0
    assert frames_of(film) == 3


def test_an_older_checkpoint_can_be_watched(
    playfield: CommandLine, catch_run: Path, tmp_path: Path
) -> None:
    film = str(tmp_path / "film.gif")
    result = playfield("watch", "catch", "--video", film, "--steps", "1", "--checkpoint", "80")
    assert "at step 80" in result.out


@pytest.mark.parametrize("overlay", ["values", "saliency"])
def test_a_film_with_an_overlay_is_as_long_and_wider(
    playfield: CommandLine, catch_run: Path, tmp_path: Path, overlay: str
) -> None:
    films = {name: tmp_path / f"{name}.png" for name in ("none", overlay)}
    for name, film in films.items():
        args = ("--video", str(film), "--steps", "4", "--seed", "1", "--overlay", name)
        assert playfield("watch", "catch", *args).code == 0
    assert [frames_of(film) for film in films.values()] == [5, 5]
    widths = []
    for film in films.values():
        with Image.open(film) as file:
            widths.append(file.width)
    assert widths[1] == widths[0] + 200


def pictures_of(playfield: CommandLine, film: Path, *overlay: str) -> NDArray[np.int16]:
    """`[T, H, W, 3]` of one game of the run `catch`: its part of the film, without the panel."""
    args = ("--video", str(film), "--seed", "1", "--overlay", *overlay)
    assert playfield("watch", "catch", *args).code == 0
    pictures = []
    with Image.open(film) as file:
        for number in range(file.n_frames):  # type: ignore[attr-defined]
            file.seek(number)
            pictures.append(np.asarray(file.convert("RGB"), np.int16)[:, :-200])
    return np.stack(pictures)


@pytest.mark.parametrize("method", ["gradient", "perturbation"])
def test_saliency_glows_over_the_game_and_dims_the_rest(
    playfield: CommandLine, catch_run: Path, tmp_path: Path, method: str
) -> None:
    plain = pictures_of(playfield, tmp_path / "plain.png", "values")
    heated = {
        target: pictures_of(
            *(playfield, tmp_path / f"{target}.png", "saliency"), "--method", method, "--of", target
        )
        for target in ("actions", "value")
    }
    for shown in heated.values():
        assert shown.shape == plain.shape
        red, green, blue = np.moveaxis(shown, -1, 0)
        assert (shown != plain).any(axis=(1, 2, 3)).all()
        assert ((red > green) & (green >= blue) & (red > 150)).any()
        # Nothing of the background is red without heat, and the rest is grey and darker.
        dark = (plain == 0).all(-1)
        assert (red[dark] > 20).any()
        cold = (red == green) & (green == blue) & ~dark
        assert (shown[cold].max(-1) < plain[cold].max(-1)).all()
    if method == "perturbation":  # the slope of the value is that of the best action's
        assert not np.array_equal(heated["actions"], heated["value"])


def test_saliency_of_what_is_no_picture_is_refused(playfield: CommandLine, tmp_path: Path) -> None:
    pytest.importorskip("gymnasium")
    tiny = (*TINY[2:], "--env", "CartPole-v1", "--steps", "50", "--checkpoint-every", "50")
    assert playfield("train", "dqn", *tiny, "--run", "pole").code == 0
    args = ("--video", str(tmp_path / "film.gif"), "--overlay", "saliency")
    assert "vectors of 4 numbers" in playfield.refuses("watch", "pole", *args)
    assert "vectors of 4 numbers" in playfield.refuses("explain", "pole")


# --- terminal ---

on_posix = pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are POSIX")


def test_watch_that_is_piped_says_how_to_write_a_file(
    playfield: CommandLine, catch_run: Path
) -> None:
    assert "--video FILE" in playfield.refuses("watch", "catch", "--overlay", "values")


@pytest.mark.parametrize(
    ("environment", "encoding", "expected"),
    [
        ({"TERM": "xterm-256color"}, "utf-8", "colour"),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, "utf-8", "plain"),
        ({"TERM": "xterm-256color", "NO_COLOR": ""}, "utf-8", "colour"),  # as no-color.org has it
        ({"TERM": "vt100"}, "utf-8", "plain"),
        ({"TERM": "xterm"}, "latin-1", "plain"),
        ({"TERM": "dumb"}, "utf-8", None),
        ({}, "utf-8", None),
    ],
)
def test_a_terminal_gets_what_it_can_show(
    environment: dict[str, str], encoding: str, expected: Style | None
) -> None:
    assert style_of(io.TextIOWrapper(io.BytesIO(), encoding), environment) == expected


def test_without_colour_brightness_becomes_letters() -> None:
    picture = np.zeros((2, 3, 3), np.uint8)
    picture[1, 1], picture[0, 2] = 255, 128
    assert shades(picture, 1, 3) == [" @+"]  # of "@" and 9 steps down to " ", half is the fifth


def test_a_plain_screen_holds_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((80, 24)))
    stream = io.StringIO()
    with Screen(stream, "plain") as screen:
        screen.draw(np.full((8, 8, 3), 255, np.uint8), ["caption"])
    assert "@" in stream.getvalue() and "38;2" not in stream.getvalue()
    assert stream.getvalue().isascii()


def test_text_beside_a_picture_stays_within_eighty_columns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((80, 24)))
    stream = io.StringIO()
    beside = ["x" * 40, *["y"] * 21]
    with Screen(stream) as screen:
        screen.draw(np.zeros((10, 400, 3), np.uint8), ["caption", "more"], beside)
    body = stream.getvalue().split("\x1b[H")[1].split("\x1b[0m\x1b[?25h")[0]
    lines = re.sub(r"\x1b\[[\d;]*[mK]", "", body).split("\r\n")
    assert len(lines) == 24
    assert max(map(len, lines)) <= 80
    assert [line.rstrip()[-1] for line in lines[:22]] == ["x", *"y" * 21]


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


def watched_in_a_terminal(overlay: str, terminal: str = "xterm-256color") -> str:
    """What a pseudo-terminal gets of three pictures of the run `catch`."""
    import pty
    import subprocess
    import sys

    master, slave = pty.openpty()
    show = ["watch", "catch", "--steps", "2", "--seed", "1", "--overlay", overlay]
    command = [sys.executable, "-m", "playfield.cli", *show]
    environment = {**os.environ, "TERM": terminal, "COLUMNS": "60", "LINES": "20"}
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
    return text


def colours_of(text: str) -> set[tuple[int, ...]]:
    return {tuple(map(int, rgb)) for rgb in re.findall(r"\x1b\[[34]8;2;(\d+);(\d+);(\d+)m", text)}


@on_posix
def test_watch_draws_in_a_terminal(playfield: CommandLine, catch_run: Path) -> None:
    text = watched_in_a_terminal("values")
    assert re.search(r"\x1b\[38;2;\d+;\d+;\d+m", text)
    assert "game 1  score 0" in text
    assert "action values" in text and "▶" in text
    assert text.endswith("\x1b[?1049l")


@on_posix
def test_saliency_glows_in_a_terminal_too(playfield: CommandLine, catch_run: Path) -> None:
    plain, text = watched_in_a_terminal("values"), watched_in_a_terminal("saliency")
    new = colours_of(text) - colours_of(plain)
    assert any(red > green >= blue and red > 150 for red, green, blue in new)
    assert "action values" in text and "--video" not in text


@on_posix
def test_without_colours_saliency_says_what_cannot_be_seen(
    playfield: CommandLine, catch_run: Path
) -> None:
    text = watched_in_a_terminal("saliency", "vt100")
    assert colours_of(text) == set() and text.isascii()
    assert text.count("without colour heat only looks bright: see --video FILE") == 3
    assert "--video" not in watched_in_a_terminal("values", "vt100")


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # Linux ends a pseudo-terminal that way
        return b""
