"""Euclidean distances between two sets of features: in blocks, in float64, compared exactly.

Products of matrices give distances fast, with a rounding error that depends on how the sets were
cut into blocks. It is bounded here. Where the bound leaves open which of two distances is greater,
which is so for copies and hardly ever else, the pair is worked out from its differences. So what
is counted is what a plain loop over all pairs would count, in blocks of any size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = NDArray[np.floating]

#: Distances that are held at once: 64 MiB of them.
BLOCK = 1 << 23
#: Rows that are turned into float64 at once, for a product of matrices.
COLUMNS = 2048
#: Numbers of pairs of rows that are subtracted at once: 32 MiB.
DIFFERENCES = 1 << 22


@dataclass(frozen=True, eq=False)
class DistanceBlock:
    """The squared distances of the rows `a[begin:begin + m]` from all rows of `b`."""

    a: Rows
    b: Rows
    begin: int
    square: Array
    """`[m, N]`, with a rounding error; some may be a little below 0."""
    error: Array
    """`[m, N]`, a bound on that error."""

    def exact(self, row: NDArray[np.intp], column: NDArray[np.intp]) -> Array:
        """The squared distances of pairs `[P]`: from their differences, so that copies are at 0."""
        found = np.empty(len(row))
        step = max(1, DIFFERENCES // self.b.shape[1])
        for start in range(0, len(row), step):
            part = slice(start, start + step)
            left = self.a[self.begin + row[part]].astype(np.float64)
            found[part] = np.square(left - self.b[column[part]]).sum(axis=1)
        return found

    def at_most(self, bound: Array) -> NDArray[np.bool_]:
        """Which squared distances `[m, N]` are no greater than `bound`, of a shape that fits."""
        inside: NDArray[np.bool_] = self.square + self.error <= bound
        row, column = np.nonzero((self.square - self.error <= bound) & ~inside)
        bounds = np.broadcast_to(bound, inside.shape)[row, column]
        inside[row, column] = self.exact(row, column) <= bounds
        return inside


def distance_blocks(a: Rows, b: Rows, block: int = BLOCK) -> Iterator[DistanceBlock]:
    """All pairs of rows of `a` `[M, D]` and `b` `[N, D]`, about `block` of them at once."""
    size_a, size_b = _squared_lengths(a), _squared_lengths(b)
    # Higham 2002, section 3.1: three sums of D terms, and some room for the operations after them.
    rounding = (2 * a.shape[1] + 8) * np.finfo(np.float64).eps / 2
    rows = max(1, block // max(1, len(b)))
    for begin in range(0, len(a), rows):
        left = a[begin : begin + rows].astype(np.float64)
        scale = size_a[begin : begin + rows, None] + size_b  # [m, N], no less than 2 |ab|
        square = np.empty_like(scale)
        for start in range(0, len(b), COLUMNS):
            part = slice(start, start + COLUMNS)
            square[:, part] = left @ b[part].astype(np.float64).T
        square *= -2
        square += scale
        scale *= rounding
        yield DistanceBlock(a, b, begin, square, scale)


def neighbour_distances(rows: Rows, ks: tuple[int, ...], block: int = BLOCK) -> list[Array]:
    """For each k of `ks` the squared distance `[N]` of each row from its k-th nearest other row.

    A copy of a row is another row, at distance 0. Raises ValueError for fewer than k + 1 rows.
    """
    if min(ks) < 1 or max(ks) >= len(rows):
        raise ValueError(f"ks={ks}: expected 1..{len(rows) - 1}, for {len(rows)} rows")
    most = max(ks)
    found = [np.empty(len(rows)) for _ in ks]
    for part in distance_blocks(rows, rows, block):
        m = len(part.square)
        own = np.arange(m)
        part.square[own, part.begin + own] = np.inf  # nobody is a neighbour of itself
        farthest = np.partition(part.square + part.error, most - 1, axis=1)[:, most - 1]
        row, column = np.nonzero(part.square - part.error <= farthest[:, None])
        exact = part.exact(row, column)
        order = np.lexsort((exact, row))
        # Every row has `most` candidates or more; they begin where the rows before it end.
        first = np.searchsorted(row, own)
        for radii, k in zip(found, ks, strict=True):
            radii[part.begin : part.begin + m] = exact[order][first + k - 1]
    return found


def _squared_lengths(rows: Rows) -> Array:
    sizes = np.empty(len(rows))
    for start in range(0, len(rows), COLUMNS):
        part = slice(start, start + COLUMNS)
        sizes[part] = np.square(rows[part].astype(np.float64)).sum(axis=1)
    return sizes
