"""A set of images as the one picture that shows most of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from playfield.evaluation.grids import Picture, grid
from playfield.evaluation.scatter import are_points, scatter


def picture_of(
    images: NDArray[np.uint8],
    columns: int | None = None,
    *,
    scale: int | None = None,
    gap: int = 2,
    captions: Sequence[str] | None = None,
) -> Picture:
    """A grid of `images` `[N, C, H, W]` uint8, or a scatter plot where they are points.

    In a grid points would be squares of some colour. What is said beside the images is for the
    grid: see `grids.grid`. The picture is `[H', W', 3]`.
    """
    if are_points(images.shape[1:]):
        return scatter(images)
    return grid(images, columns, scale=scale, gap=gap, captions=captions)
