"""A few images in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Cells that an image gets at least, and lines of all of them.
CELLS, LINES = 24, 24


def room(height: int, width: int, columns: int, rows: int) -> tuple[int, int]:
    """How many images of this size a terminal of this size has room for: (across, down)."""
    rows = _lines(rows)
    across = max(1, (columns - 1) // (min(width, CELLS) + 1))
    return across, max(1, (2 * rows - 1) // (min(height, CELLS) + 1))


def preview(images: NDArray[np.uint8], columns: int, rows: int) -> list[str]:
    """`images` `[N, C, H, W]`, as many as there is `room` for, as lines of text."""
    from playfield.evaluation.pictures import picture_of
    from playfield.evaluation.terminal import half_blocks

    across, down = room(images.shape[2], images.shape[3], columns, rows)
    shown = images[: across * down]
    picture = picture_of(shown, min(across, len(shown)), scale=1, gap=1)
    return half_blocks(picture, _lines(rows), columns)


def _lines(rows: int) -> int:
    return max(1, min(rows - 2, LINES))
