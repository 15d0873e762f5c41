"""Pictures in the terminal and in video files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from playfield.errors import UserError
from playfield.evaluation.terminal import RESET, fit, half_blocks
from playfield.evaluation.video import VideoWriter

RED, GREEN, BLUE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)


def picture(*rows: tuple[tuple[int, int, int], ...]) -> NDArray[np.uint8]:
    return np.asarray(rows, np.uint8)


def film(count: int, height: int = 240, width: int = 64) -> list[NDArray[np.uint8]]:
    """A white bar that moves one pixel to the right in each picture."""
    pictures = []
    for position in range(count):
        canvas = np.zeros((height, width, 3), np.uint8)
        canvas[:, position : position + 4] = 255
        pictures.append(canvas)
    return pictures


def write(path: Path, pictures: list[NDArray[np.uint8]], rate: float = 15.0) -> None:
    with VideoWriter(path, rate) as writer:
        for one in pictures:
            writer.add(one)


# --- terminal ---


def test_a_cell_shows_the_upper_pixel_before_the_lower() -> None:
    assert half_blocks(picture((RED,), (BLUE,)), 1, 1) == [
        "\x1b[38;2;255;0;0m\x1b[48;2;0;0;255m▀" + RESET
    ]


def test_a_colour_is_written_only_where_it_changes() -> None:
    (line,) = half_blocks(picture((RED, RED, GREEN), (BLUE, BLUE, BLUE)), 1, 3)
    assert line == "\x1b[38;2;255;0;0m\x1b[48;2;0;0;255m▀▀\x1b[38;2;0;255;0m▀" + RESET


@pytest.mark.parametrize(
    ("size", "cells", "expected"),
    [
        ((210, 160), (24, 80), (48, 37)),  # bounded by the height: 160 * 48 / 210 = 36.6
        ((210, 160), (200, 40), (52, 40)),  # bounded by the width: 210 / 4 = 52.5
        ((10, 10), (24, 80), (40, 40)),  # enlarged by whole factors only
        ((400, 600), (24, 80), (48, 72)),
        ((1, 10), (5, 20), (2, 20)),
    ],
)
def test_a_picture_fills_the_terminal_in_its_proportions(
    size: tuple[int, int], cells: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert fit(*size, *cells) == expected


@pytest.mark.parametrize("size", [(210, 160), (7, 3), (1, 1), (400, 601)])
@pytest.mark.parametrize("cells", [(1, 1), (24, 80), (3, 200)])
def test_a_picture_never_leaves_the_terminal(size: tuple[int, int], cells: tuple[int, int]) -> None:
    lines = half_blocks(np.zeros((*size, 3), np.uint8), *cells)
    widths = {len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in lines}
    assert 1 <= len(lines) <= cells[0]
    assert len(widths) == 1 and max(widths) <= cells[1]


def test_shrinking_averages_so_that_nothing_small_vanishes() -> None:
    canvas = np.zeros((4, 2, 3), np.uint8)
    canvas[0, 0] = 200
    (line,) = half_blocks(canvas, 1, 1)
    # The upper pixel of the cell is the mean over 2 by 2 pixels: 200 / 4.
    assert "38;2;50;50;50" in line and "48;2;0;0;0" in line


# --- files ---


@pytest.mark.parametrize("ending", [".gif", ".png"])
def test_a_film_holds_every_picture_as_it_was(tmp_path: Path, ending: str) -> None:
    pictures = film(6)
    write(tmp_path / f"film{ending}", pictures)
    with Image.open(tmp_path / f"film{ending}") as file:
        assert file.n_frames == 6
        for number, expected in enumerate(pictures):
            file.seek(number)
            assert np.array_equal(np.asarray(file.convert("RGB")), expected)


@pytest.mark.parametrize("ending", [".gif", ".png"])
def test_a_film_lasts_as_long_as_its_pictures(tmp_path: Path, ending: str) -> None:
    write(tmp_path / f"film{ending}", film(30), rate=15.0)
    with Image.open(tmp_path / f"film{ending}") as file:
        total = 0
        for number in range(file.n_frames):
            file.seek(number)
            total += file.info["duration"]
    assert total == pytest.approx(2000, abs=10)


def test_an_mp4_can_be_read_back(tmp_path: Path) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    pictures = film(10, height=241, width=63)  # odd sides, which the format doesn't have
    write(tmp_path / "film.mp4", pictures)
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "film.mp4"))
    meta = next(reader)
    frames = [np.frombuffer(frame, np.uint8).reshape(242, 64, 3) for frame in reader]
    assert meta["size"] == (64, 242)
    assert meta["fps"] == pytest.approx(15.0)
    assert len(frames) == 10
    for frame, expected in zip(frames, pictures, strict=True):
        difference = np.abs(frame[:241, :63].astype(int) - expected.astype(int))
        assert difference.mean() < 8  # lossy, with one colour for four pixels


def test_small_worlds_are_enlarged_by_a_whole_factor(tmp_path: Path) -> None:
    write(tmp_path / "film.png", [np.zeros((100, 50, 3), np.uint8)])
    with Image.open(tmp_path / "film.png") as file:
        assert file.size == (150, 300)


@pytest.mark.parametrize("name", ["film.avi", "film", "film.jpg"])
def test_another_ending_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"\.mp4, \.gif or \.png"):
        VideoWriter(tmp_path / name, 15.0)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_missing_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        VideoWriter(tmp_path / "missing" / "film.gif", 15.0)


@pytest.mark.parametrize("ending", [".gif", ".png", ".mp4"])
def test_a_film_cut_by_an_error_leaves_the_old_one(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"film{ending}"
    path.write_bytes(b"the old film")
    with pytest.raises(RuntimeError), VideoWriter(path, 15.0) as writer:
        writer.add(film(1)[0])
        raise RuntimeError("the game crashed")
    assert path.read_bytes() == b"the old film"
    assert list(tmp_path.iterdir()) == [path]
