"""Points of the plane as a picture.

A point is an image of two channels, x and y, and one pixel: what the data kind `gaussians:` holds.
Bytes 0 to 255 run from left to right and from the bottom up.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from playfield.evaluation.grids import BACKGROUND, Picture

#: Of the picture's pixels, on each side of a byte's square.
SCALE = 2
CODES = 256
#: Grey of the axes, of a dot where one point is, and of the one where most are.
AXES, ONE, MOST = 56, 128, 255


def are_points(shape: tuple[int, ...]) -> bool:
    """Whether images of `shape` `(C, H, W)` are points of the plane."""
    return shape == (2, 1, 1)


def scatter(points: NDArray[np.uint8]) -> Picture:
    """`points` `[N, 2, 1, 1]` uint8 as a picture `[512, 512, 3]`, brighter where more of them lie.

    A point is a dot of 3x3 bytes: a single one is seen. The axes cross in the middle, at signal 0.
    Raises ValueError for what are no points.
    """
    if points.dtype != np.uint8 or not are_points(points.shape[1:]):
        raise ValueError(f"points are {points.dtype} {list(points.shape)}, not uint8 [N, 2, 1, 1]")
    x, y = points[:, 0, 0, 0].astype(np.intp), points[:, 1, 0, 0].astype(np.intp)
    counts = np.bincount((CODES - 1 - y) * CODES + x, minlength=CODES**2).reshape(CODES, CODES)
    # From one point to the most of them in a logarithm: single points stay visible beside a mode.
    share = np.log(np.maximum(counts, 1)) / max(np.log(max(counts.max(), 1)), 1e-9)
    grey = np.where(counts > 0, ONE + (MOST - ONE) * share, 0)
    dots = _spread(grey).round().astype(np.uint8).repeat(SCALE, axis=0).repeat(SCALE, axis=1)
    middle = slice(len(dots) // 2 - 1, len(dots) // 2 + 1)
    paper = np.full(dots.shape, BACKGROUND, np.uint8)
    paper[middle] = paper[:, middle] = AXES
    return np.repeat(np.where(dots > 0, dots, paper)[:, :, None], 3, axis=2)


def _spread(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """The greatest of every square of 3x3."""
    room = np.pad(grey, 1)
    columns = np.maximum(np.maximum(room[:, :-2], room[:, 1:-1]), room[:, 2:])
    greatest: NDArray[np.float64] = np.maximum(np.maximum(columns[:-2], columns[1:-1]), columns[2:])
    return greatest
