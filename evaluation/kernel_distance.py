"""The kernel distance: the squared maximum mean discrepancy under a cubic kernel.

With Inception's features it is the KID (Bińkowski et al. 2018, section 4). Unlike the Fréchet
distance it is unbiased, so that it does not depend on how many images there are, only its error
does; and it is below 0 about as often as above for two sets from the same distribution.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = NDArray[np.floating]

#: Rows of each set whose products are held at once: 32 MiB of them.
BLOCK = 2048
#: How the KID is published: so many subsets, of so many images each.
SUBSETS, SUBSET_SIZE = 100, 1000


class Estimate(NamedTuple):
    """A number and its standard error."""

    value: float
    standard_error: float


def polynomial_kernel(x: Array, y: Array) -> Array:
    """`(x·y / D + 1)³` `[M, N]` of rows `[M, D]` and `[N, D]`."""
    product = x @ y.T
    product /= x.shape[1]
    product += 1
    return product * product * product


def kernel_distance(real: Rows, painted: Rows, block: int = BLOCK) -> Estimate:
    """The unbiased estimate from all of `real` `[N, D]` and `painted` `[M, D]`, in float64.

    Gretton et al. 2012, equation 3: no image is compared with itself. The standard error is the
    jackknife's, which leaves out every image in turn (Efron and Stein 1981: it is rather too large
    than too small); it tells what other images from the same two distributions would have changed.
    Raises ValueError for fewer than three rows, and for different widths.
    """
    _check(real, painted, 3)
    among_real, among_painted = _among(real, block), _among(painted, block)
    across, back = _across(real, painted, block)
    value = among_real.mean() + among_painted.mean() - 2 * across.mean()
    variance = _jackknife(among_real, across) + _jackknife(among_painted, back)
    return Estimate(float(value), float(np.sqrt(variance)))


def subset_kernel_distance(
    real: Rows, painted: Rows, seed: int, size: int = SUBSET_SIZE, subsets: int = SUBSETS
) -> Estimate:
    """The mean of the unbiased estimates from random subsets of `size` rows, as it is published.

    It is the estimate from all images with some chance added. Its standard error is that of the
    mean over draws of subsets: these share images, so it is no measure of how well the images stand
    for their distributions. The same seed gives the same subsets. Raises ValueError for sets of
    fewer rows than a subset, for fewer than two subsets and for subsets of fewer than two rows.
    """
    if size < 2 or subsets < 2:
        raise ValueError(f"size={size}, subsets={subsets}: expected 2 or more of each")
    _check(real, painted, size)
    generator = np.random.default_rng(seed)
    found = np.empty(subsets)
    for index in range(subsets):
        x, y = (
            rows[generator.choice(len(rows), size, replace=False)].astype(np.float64)
            for rows in (real, painted)
        )
        within = sum(_others(polynomial_kernel(rows, rows)).sum() for rows in (x, y))
        between = polynomial_kernel(x, y).mean()
        found[index] = within / (size * (size - 1)) - 2 * between
    return Estimate(float(found.mean()), float(found.std(ddof=1) / np.sqrt(subsets)))


def _among(rows: Rows, block: int) -> Array:
    """`[N]`, the mean of each row's kernels with all others."""
    sums = np.zeros(len(rows))
    starts = range(0, len(rows), block)
    for begin in starts:
        left = rows[begin : begin + block].astype(np.float64)
        sums[begin : begin + block] += _others(polynomial_kernel(left, left)).sum(axis=1)
        for other in range(begin + block, len(rows), block):
            kernel = polynomial_kernel(left, rows[other : other + block].astype(np.float64))
            sums[begin : begin + block] += kernel.sum(axis=1)
            sums[other : other + block] += kernel.sum(axis=0)
    return sums / (len(rows) - 1)


def _across(real: Rows, painted: Rows, block: int) -> tuple[Array, Array]:
    """`[N]` and `[M]`, the means of each row's kernels with all rows of the other set."""
    by_real, by_painted = np.zeros(len(real)), np.zeros(len(painted))
    for begin in range(0, len(real), block):
        left = real[begin : begin + block].astype(np.float64)
        for other in range(0, len(painted), block):
            kernel = polynomial_kernel(left, painted[other : other + block].astype(np.float64))
            by_real[begin : begin + block] += kernel.sum(axis=1)
            by_painted[other : other + block] += kernel.sum(axis=0)
    return by_real / len(painted), by_painted / len(real)


def _others(kernel: Array) -> Array:
    """A set's kernels with itself `[N, N]`, less those of a row with itself."""
    np.fill_diagonal(kernel, 0)
    return kernel


def _jackknife(among: Array, across: Array) -> float:
    """The variance that one set brings in, from what leaving out each of its rows would change."""
    n = len(among)
    change = (among - among.mean()) / (n - 2) - (across - across.mean()) / (n - 1)
    return float(4 * (n - 1) / n * np.square(change).sum())


def _check(real: Rows, painted: Rows, least: int) -> None:
    for name, rows in (("real", real), ("painted", painted)):
        if rows.ndim != 2 or len(rows) < least or rows.shape[1] != real.shape[1]:
            raise ValueError(
                f"{name}: shape {list(rows.shape)}, expected {least} or more rows of one width"
            )
