"""Painted images as one picture: a labelled row for each painter and way to paint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from playfield.evaluation.grids import BACKGROUND, INK, Picture, grid, write_png

#: Pixels beside a row, for what it is called.
MARGIN = 150
GAP = 2


def sheet(rows: Sequence[tuple[str, NDArray[np.uint8]]], scale: int) -> Picture:
    """`rows` of a name and images `[N, C, H, W]` uint8, as many in each, one below the other.

    Every pixel becomes `scale` by `scale` ones.
    """
    strips = []
    for name, images in rows:
        strip = grid(images, len(images), scale=scale, gap=GAP)
        strips.append(np.concatenate([_name(name, len(strip)), strip], axis=1))
    return np.concatenate(strips)


def write_sheet(path: Path, rows: Sequence[tuple[str, NDArray[np.uint8]]], scale: int) -> None:
    write_png(path, sheet(rows, scale))


def _name(text: str, height: int) -> Picture:
    """`text` at the right end of a field `[height, MARGIN, 3]`."""
    font = ImageFont.load_default()
    field = Image.new("RGB", (MARGIN, height), (BACKGROUND,) * 3)
    place = (MARGIN - 6, height / 2)
    ImageDraw.Draw(field).text(place, text, (INK,) * 3, font, anchor="rm")
    return np.asarray(field)
