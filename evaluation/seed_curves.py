"""One line of several runs: their mean at each step, and how sure it is.

Runs log at steps of their own. A point of the line is the mean over runs of their curves there,
straight between points; where there are more points than a chart can show, of their means around
there. The line lasts from where the last of the runs begins to where the first one ends: with the
set of runs changing, the mean would move though none of them did.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playfield.evaluation.charts import Series
from playfield.evaluation.statistics import FEWEST_RUNS

#: Points of a line, beyond which they become means.
POINTS = 400

Floats = NDArray[np.float64]

#: 97.5 % quantiles of Student's t with 1 to 10 degrees of freedom, and of the normal distribution.
_T = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)
_Z = 1.959964


def mean_of_runs(
    label: str, runs: Sequence[tuple[NDArray[Any], Floats]], smooth: int = 1
) -> Series:
    """The mean of `runs`, pairs of x ascending and y `[N]`, with its 95 % interval by Student's t.

    Each run is smoothed before, as `moving_mean` does. Fewer than `FEWEST_RUNS` have no interval:
    that of two is so wide that it hides the lines. Runs that share no x, or one without a finite
    point, leave a line without points.
    """
    curves = [_finite(x, moving_mean(y, smooth)) for x, y in runs]
    if not curves or not all(len(x) for x, _ in curves):
        return Series(label, np.zeros(0), np.zeros(0))
    first, last = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    if first > last:
        return Series(label, np.zeros(0), np.zeros(0))
    within = [x[(x >= first) & (x <= last)] for x, _ in curves]
    if max(map(len, within)) <= POINTS:
        at = np.unique(np.concatenate([*within, [first, last]]))
        values = np.stack([np.interp(at, x, y) for x, y in curves])
    else:
        at = np.linspace(first, last, POINTS)
        values = np.stack([_means_around(at, x, y) for x, y in curves])
    mean = values.mean(axis=0)  # [runs, P] -> [P]
    if len(curves) < FEWEST_RUNS:
        return Series(label, at, mean)
    error = values.std(axis=0, ddof=1) / math.sqrt(len(curves))
    half = t_quantile(len(curves) - 1) * error
    return Series(label, at, mean, mean - half, mean + half)


def moving_mean(values: Floats, count: int) -> Floats:
    """The mean of each of `values` `[N]` and the `count` - 1 before it, of fewer at the beginning.

    Values that are not finite are left out of it; where all are, it is NaN.
    """
    if count == 1:
        return values
    finite = np.isfinite(values)
    sums = np.append(0.0, np.cumsum(np.where(finite, values, 0.0)))
    counts = np.append(0, np.cumsum(finite))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - count, 0)
    with np.errstate(invalid="ignore"):
        mean: Floats = (sums[ends] - sums[starts]) / (counts[ends] - counts[starts])
    return mean


def t_quantile(degrees: int) -> float:
    """What 2.5 % of Student's t distribution lies above.

    Of a table up to 10 degrees of freedom; beyond, by four terms of the expansion in their inverse
    (Abramowitz and Stegun 1964, 26.7.5), right to four digits.
    """
    if degrees <= len(_T):
        return _T[degrees - 1]
    z, n = _Z, degrees
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )


def _finite(x: NDArray[Any], y: Floats) -> tuple[Floats, Floats]:
    """The finite points, one for each x: games that end together count as their mean."""
    finite = np.isfinite(y) & np.isfinite(x)
    places, index = np.unique(np.asarray(x, np.float64)[finite], return_inverse=True)
    sums, counts = np.bincount(index, y[finite], len(places)), np.bincount(index, None, len(places))
    return places, sums / counts


def _means_around(at: Floats, x: Floats, y: Floats) -> Floats:
    """The mean height of the curve `(x, y)` around each of `at`, half-way to its neighbours.

    It is the difference of the curve's integral over the width, so that no point is lost.
    """
    edges = np.concatenate([at[:1], (at[1:] + at[:-1]) / 2, at[-1:]])
    places = np.union1d(x, edges)
    heights = np.interp(places, x, y)
    areas = np.append(0.0, np.cumsum(np.diff(places) * (heights[1:] + heights[:-1]) / 2))
    integral = areas[np.searchsorted(places, edges)]
    means: Floats = np.diff(integral) / np.diff(edges)
    return means
