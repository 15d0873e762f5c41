"""How different painted images are from one another, beside real ones: the sight of a collapse.

A painter that has collapsed paints much the same whatever its noise; distances between
distributions see that as one fault among others. Here it is a number of its own, near 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from playfield.evaluation.distances import BLOCK, distance_blocks

Rows = NDArray[np.floating]
Labels = NDArray[np.int64]


def mean_distance(rows: Rows, block: int = BLOCK) -> float:
    """The mean Euclidean distance of two different rows of `[N, D]`, over all pairs of them.

    A mean over pairs depends on N by chance alone. Copies are at distance 0. Raises ValueError for
    fewer than two rows.
    """
    if rows.ndim != 2 or len(rows) < 2:
        raise ValueError(f"rows: shape {list(rows.shape)}, expected [N, D], N at least 2")
    # Small numbers have small rounding errors: of a collapse only the differences are left.
    centred = rows - rows.mean(axis=0, dtype=np.float64)
    total = 0.0
    for part in distance_blocks(centred, centred, block):
        part.square[part.square <= part.error] = 0
        total += float(np.sqrt(part.square).sum())
    return total / (len(rows) * (len(rows) - 1))


def diversity(real: Rows, painted: Rows, block: int = BLOCK) -> float:
    """The mean distance of two painted images over that of two real ones, `[N, D]` and `[M, D]`.

    1 for images as various as real ones, 0 for one image over and over. More than 1 is no merit:
    noise is more various than any picture. Raises ValueError where all real ones are alike.
    """
    among_real = mean_distance(real, block)
    if not among_real:
        raise ValueError("real: all rows are alike, so there is nothing to compare with")
    return mean_distance(painted, block) / among_real


def class_diversity(
    real: Rows, real_labels: Labels, painted: Rows, painted_labels: Labels, block: int = BLOCK
) -> dict[int, float]:
    """`diversity` within each class, by label, for classes of which both sets have two or more.

    It sees the painter that paints every class, but one picture of it. Images without a label (-1)
    and classes whose real images are all alike are left out. Raises ValueError for labels that are
    not one per row.
    """
    for name, rows, labels in (
        ("real_labels", real, real_labels),
        ("painted_labels", painted, painted_labels),
    ):
        if labels.shape != (len(rows),):
            raise ValueError(f"{name}: shape {list(labels.shape)}, expected [{len(rows)}]")
    found = {}
    for label in np.intersect1d(real_labels, painted_labels).tolist():
        ours, theirs = real[real_labels == label], painted[painted_labels == label]
        if label < 0 or min(len(ours), len(theirs)) < 2:
            continue
        among_real = mean_distance(ours, block)
        if among_real:
            found[label] = mean_distance(theirs, block) / among_real
    return found
