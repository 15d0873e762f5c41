"""Pictures as text: two pixels in every character cell, in 24-bit colour or in plain letters."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping, Sequence
from typing import Literal, Self, TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

RESET = "\x1b[0m"
#: From dark to bright, in letters that every terminal has.
SHADES = " .:-=+*#%@"

Style = Literal["colour", "plain"]


def style_of(stream: TextIO, environment: Mapping[str, str]) -> Style | None:
    """How pictures are drawn on the terminal behind `stream`; None: it can only print lines.

    In plain letters where the user wants no colour (no-color.org), where the terminal has none or
    where half blocks are not in its character set.
    """
    terminal = environment.get("TERM", "")
    if terminal in ("", "dumb", "unknown"):
        return None
    try:
        "▀█▶▁".encode(stream.encoding or "ascii")
    except UnicodeEncodeError:
        return "plain"
    colourless = terminal.startswith(("vt1", "vt2")) or terminal.endswith("-m")
    return "plain" if colourless or environment.get("NO_COLOR") else "colour"


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
    picture = _fitted(picture, rows, columns)
    upper, lower = picture[0::2].tolist(), picture[1::2].tolist()
    return [_line(above, below) for above, below in zip(upper, lower, strict=True)]


def shades(picture: NDArray[np.uint8], rows: int, columns: int) -> list[str]:
    """`picture` `[H, W, 3]` uint8 RGB in letters for brightness, at most `rows` by `columns`."""
    grey = _fitted(picture, rows, columns) @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    cells = np.maximum(grey[0::2], grey[1::2])  # the brighter one: a ball has to stay visible
    return ["".join(SHADES[round(cell * 9 / 255)] for cell in row) for row in cells.tolist()]


def _fitted(picture: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.uint8]:
    """`picture` at the size that `fit` says."""
    height, width = fit(picture.shape[0], picture.shape[1], rows, columns)
    if (height, width) == picture.shape[:2]:
        return picture
    # BOX is the mean over the area: small bright things (the ball in Pong) dim but stay.
    shrink = height < picture.shape[0] or width < picture.shape[1]
    method = Image.Resampling.BOX if shrink else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(picture).resize((width, height), method))


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

    def __init__(self, stream: TextIO, style: Style = "colour") -> None:
        self._stream = stream
        self._rendered = half_blocks if style == "colour" else shades
        self._size: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        self._stream.write("\x1b[?1049h\x1b[?25l")  # the alternative screen, without a cursor
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.write(f"{RESET}\x1b[?25h\x1b[?1049l")
        self._stream.flush()

    def draw(
        self, picture: NDArray[np.uint8], captions: Sequence[str], beside: Sequence[str] = ()
    ) -> None:
        """Show `picture` `[H, W, 3]` uint8 as large as fits above `captions`, beside other text.

        What stands `beside` it is the caller's to fit: its longest line and two cells are taken off
        the picture's width.
        """
        columns, rows = shutil.get_terminal_size()
        # A changed size leaves remains of the old picture; otherwise overwriting avoids flicker.
        clear = "\x1b[2J" if self._size != (columns, rows) else ""
        self._size = (columns, rows)
        room = max(1, rows - len(captions)), max(1, columns - max(map(len, beside), default=-2) - 2)
        lines = self._rendered(picture, *room)
        if beside:
            blank = " " * fit(picture.shape[0], picture.shape[1], *room)[1]
            pairs = itertools.zip_longest(lines, beside)
            lines = [f"{left or blank}  {right or ''}\x1b[K" for left, right in pairs]
        lines += [f"{caption[:columns]}\x1b[K" for caption in captions]
        # Written in one go, for a terminal may paint between two writes.
        self._stream.write(clear + "\x1b[H" + "\r\n".join(lines))
        self._stream.flush()
