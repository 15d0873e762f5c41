"""Precision, recall, density and coverage: do painted images lie among real ones, and all over?

Each set of features is taken for the union of balls around its rows, each ball as large as the
distance to the k-th nearest other row. Precision and recall are the improved ones of Kynkäänniemi
et al. 2019 (equations 1 and 2), density and coverage those of Naeem et al. 2020 (section 3).
Whatever lies on the surface of a ball is inside, as in the first paper; the second one's code
leaves it out, so that among copies, whose balls are points, nothing could be covered.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from playfield.evaluation.distances import BLOCK, distance_blocks, neighbour_distances

#: The neighbour that a ball reaches to, as the papers have it.
PRECISION_K, DENSITY_K = 3, 5


@dataclass(frozen=True)
class Manifold:
    """How painted images lie to real ones."""

    precision: float
    """The part of painted images that lie in the real ones' balls."""
    recall: float
    """The part of real images that lie in the painted ones' balls."""
    density: float
    """Real balls that a painted image lies in, over k: about 1 for new real images, and more where
    painted ones crowd among the densest real ones."""
    coverage: float
    """The part of real images whose ball holds a painted one: see `expected_coverage`."""


def manifold(
    real: NDArray[np.floating],
    painted: NDArray[np.floating],
    precision_k: int = PRECISION_K,
    density_k: int = DENSITY_K,
    block: int = BLOCK,
) -> Manifold:
    """Compare features `[N, D]` and `[M, D]`; about `block` of their distances are held at once.

    Distances are Euclidean. The result does not depend on `block`: ties are ties. Raises ValueError
    for sets of no more than k rows, and of different widths.
    """
    if real.ndim != 2 or painted.ndim != 2 or real.shape[1] != painted.shape[1]:
        raise ValueError(f"painted: shape {list(painted.shape)}, real: {list(real.shape)}")
    near_real, real_ball = neighbour_distances(real, (precision_k, density_k), block)
    (near_painted,) = neighbour_distances(painted, (precision_k,), block)
    precise = inside = 0
    recalled, covered = np.zeros((2, len(real)), dtype=bool)
    for part in distance_blocks(painted, real, block):
        rows = slice(part.begin, part.begin + len(part.square))
        precise += int(np.count_nonzero(part.at_most(near_real).any(axis=1)))
        recalled |= part.at_most(near_painted[rows, None]).any(axis=0)
        within = part.at_most(real_ball)
        inside += int(np.count_nonzero(within))
        covered |= within.any(axis=0)
    return Manifold(
        precision=precise / len(painted),
        recall=float(recalled.mean()),
        density=inside / (density_k * len(painted)),
        coverage=float(covered.mean()),
    )


def expected_coverage(real: int, painted: int, k: int = DENSITY_K) -> float:
    """The coverage of `real` images by as good as real ones, `painted` in number.

    A ball is empty if its centre's k nearest among all others are real ones (Naeem et al. 2020,
    section 3). For as many painted as real images it is about 1 - 2^-k, 0.969 for k = 5: no painter
    should be expected to come closer to 1 but one that copies.
    """
    empty = 1.0
    for j in range(k):
        empty *= (real - 1 - j) / (real + painted - 1 - j)
    return 1 - empty
