"""Pictures as text: two pixels in every character cell, in 24-bit colour."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Self, TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

RESET = "\x1b[0m"


def fit(height: int, width: int, rows: int, columns: int) -> tuple[int, int]:
    """The size in pixels `(height, width)` at which a picture fills `rows` by `columns` cells.

    A cell is one pixel wide and two high, which makes the pixels about square. The proportions are
    kept; the height is even, so that no cell is half used, and neither side is below one cell.
    """
    scale = min(2 * rows / height, columns / width)
    if scale > 1:
        scale = float(int(scale))  # whole factors, so that all pixels are of one size
    fitted_height = max(2, min(2 * rows, round(height * scale)))
    return fitted_height - fitted_height % 2, max(1, min(columns, round(width * scale)))


def half_blocks(picture: NDArray[np.uint8], rows: int, columns: int) -> list[str]:
    """`picture` `[H, W, 3]` uint8 RGB as at most `rows` lines of at most `columns` cells.

    Every cell is an upper half block: its foreground is the upper pixel, its background the lower.
    """
    height, width = fit(picture.shape[0], picture.shape[1], rows, columns)
    if (height, width) != picture.shape[:2]:
        # BOX is the mean over the area: small bright things (the ball in Pong) dim but stay.
        shrink = height < picture.shape[0] or width < picture.shape[1]
        method = Image.Resampling.BOX if shrink else Image.Resampling.NEAREST
        picture = np.asarray(Image.fromarray(picture).resize((width, height), method))
    upper, lower = picture[0::2].tolist(), picture[1::2].tolist()
    return [_line(above, below) for above, below in zip(upper, lower, strict=True)]


def _line(above: list[list[int]], below: list[list[int]]) -> str:
    """One line of cells; a colour is written only where it changes."""
    cells: list[str] = []
    foreground: list[int] | None = None
    background: list[int] | None = None
    for top, bottom in zip(above, below, strict=True):
        if top != foreground:
            cells.append("\x1b[38;2;{};{};{}m".format(*top))
            foreground = top
        if bottom != background:
            cells.append("\x1b[48;2;{};{};{}m".format(*bottom))
            background = bottom
        cells.append("▀")
    return "".join(cells) + RESET


class Screen:
    """The whole terminal as a screen; what was on it before comes back at the end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._size: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        self._stream.write("\x1b[?1049h\x1b[?25l")  # the alternative screen, without a cursor
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.write(f"{RESET}\x1b[?25h\x1b[?1049l")
        self._stream.flush()

    def draw(self, picture: NDArray[np.uint8], captions: Sequence[str]) -> None:
        """Show `picture` `[H, W, 3]` uint8 as large as fits above the lines of `captions`."""
        columns, rows = shutil.get_terminal_size()
        # A changed size leaves remains of the old picture; otherwise overwriting avoids flicker.
        clear = "\x1b[2J" if self._size != (columns, rows) else ""
        self._size = (columns, rows)
        lines = half_blocks(picture, max(1, rows - len(captions)), columns)
        lines += [f"{caption[:columns]}\x1b[K" for caption in captions]
        # Written in one go, for a terminal may paint between two writes.
        self._stream.write(clear + "\x1b[H" + "\r\n".join(lines))
        self._stream.flush()
