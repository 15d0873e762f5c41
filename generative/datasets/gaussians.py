"""`gaussians:8` and `gaussians:25`: points of the plane around known centres.

Worlds in which everything about a model that paints can be counted: how many of the centres (modes)
it found, and how many of its points lie where there are data. Points are images of two channels, x
and y, and one pixel, in the store like any others.

A coordinate is a byte, and [-1, 1] has 256 of them, 1/127.5 apart. Rounding adds an error of
standard deviation 1/127.5/sqrt(12) = 0.0023 to modes whose own is 0.03: they become 0.3 % wider.
That is why modes are three to four times as wide, next to the distance between them, as those of
the papers in float32 (0.052 against 0.013 of it on the ring, 0.075 against 0.025 on the grid); they
are still 19 and 13 standard deviations apart.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from playfield.errors import UserError
from playfield.generative.datasets.options import DataOptions
from playfield.generative.datasets.spec import DataSpec
from playfield.generative.datasets.storing import store_images
from playfield.generative.images import ImageData

#: Of a mode, in each direction, in signal coordinates.
STD = 0.03
#: Narrower modes would be a handful of bytes; wider ones would leave the square and touch.
LEAST_STD, MOST_STD = 0.01, 0.06
RADIUS = 0.75
#: The coordinates of the grid's rows and columns.
LINES = (-0.8, -0.4, 0.0, 0.4, 0.8)


def modes(n: int) -> NDArray[np.float64]:
    """The centres `[n, 2]` (x, y) in signal coordinates, in the order of the labels.

    8: on a ring around 0, the first on the x-axis, counter-clockwise. 25: on a square grid, row by
    row from the bottom left. Raises ValueError for another number.
    """
    if n == 8:
        angle = 2 * np.pi * np.arange(8) / 8
        return RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    if n == 25:
        y, x = np.meshgrid(LINES, LINES, indexing="ij")
        return np.stack([x.ravel(), y.ravel()], axis=1)
    raise ValueError(f"n={n} has to be 8 or 25")


class Coverage(NamedTuple):
    """Which modes points have found, and how many of the points are where data are."""

    modes: int  # with one high-quality point at least
    share: float  # of high-quality points among all


def covered_modes(
    points: NDArray[np.floating[Any]], centres: NDArray[np.floating[Any]], std: float = STD
) -> Coverage:
    """How `points` `[N, 2]` cover Gaussians around `centres` `[M, 2]`, in the same coordinates.

    A point is of high quality if it is within three standard deviations of the nearest centre; a
    mode is covered if it is the nearest of one such point: Srivastava et al. 2017 (VEEGAN)
    and Lin et al. 2018 (PacGAN), with 2,500 points. Of the data themselves a share of
    1 - exp(-9/2) = 0.989 is of high quality. Raises ValueError for no points.
    """
    if len(points) == 0:
        raise ValueError("points: there are none")
    square = np.square(points[:, None] - centres[None]).sum(axis=2)  # [N, M]
    near = square.min(axis=1) <= (3 * std) ** 2
    found = np.unique(square.argmin(axis=1)[near])
    return Coverage(len(found), float(near.mean()))


def draw_points(
    n: int, count: int, std: float, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """`count` points `[count, 2]` and their modes `[count]`, in a random order.

    The modes have equally many points, the first ones one more where that can't be. Everything
    follows from `seed`, and the first of two worlds that differ in `std` alone is the second,
    scaled around its centres.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    label = rng.permutation(np.arange(count) % n)
    return modes(n)[label] + std * rng.standard_normal((count, 2)), label


def open_gaussians(spec: DataSpec, options: DataOptions) -> ImageData:
    """A world of 8 or 25 Gaussians; a point's label is its mode.

    `count=` points (10,000), `std=` of a mode (0.03), and the `seed=` (0). What lies outside of
    [-1, 1], less than a point in a thousand at the greatest `std`, is laid on the border.
    """
    if spec.path not in ("8", "25"):
        raise UserError(
            f"gaussians:{spec.path} is unknown; use gaussians:8 (a ring) or gaussians:25 (a grid)."
        )
    if options.size not in (None, (1, 1)):
        raise UserError("gaussians are points, images of 1x1 pixel: leave out the size.")
    n, count = int(spec.path), spec.whole("count", 10_000)
    std = spec.number("std", STD, LEAST_STD, MOST_STD)
    points, label = draw_points(n, count, std, spec.whole("seed", 0, least=0))
    codes = np.floor((points + 1) * 127.5 + 0.5).clip(0, 255).astype(np.uint8)
    images = codes[:, :, None, None]
    classes = [str(mode) for mode in range(n)]
    return store_images(str(spec), images, count, (2, 1, 1), options, label, classes)
