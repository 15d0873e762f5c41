"""Pictures as text: two pixels in every character cell, in 24-bit colour."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

RESET = "\x1b[0m"


def fit(
    height: int, width: int, rows: int, columns: int, *, enlarge: bool = True
) -> tuple[int, int]:
    """The size in pixels `(height, width)` at which a picture fills `rows` by `columns` cells.

    A cell is one pixel wide and two high, which makes the pixels about square. The proportions are
    kept; the height is even, so that no cell is half used, and neither side is below one cell.
    """
    scale = min(2 * rows / height, columns / width)
    if scale > 1:
        scale = float(int(scale)) if enlarge else 1.0
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
