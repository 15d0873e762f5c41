"""Labels to paint, as often as a data set has them: what is compared with it has to show the same.

A painter asked for every class equally often would be found to differ from data that has one class
more often than another, however well it paints each.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from playfield.generative.objective import NO_LABEL


def labels_like(
    labels: NDArray[np.int64], count: int, *, unlabelled: bool = True
) -> NDArray[np.int64]:
    """`count` labels in the proportions of `labels` `[N]`, int64.

    Each label comes as often as its part of `count`, rounded so that the sum is right (largest
    remainders first, of equal ones the least label). They come in turn, the first of each, then the
    second, so that a beginning shows all of them. `unlabelled` False leaves out images without a
    label, for a painter that paints nothing without one. Raises ValueError where nothing is left to
    go by.
    """
    if not unlabelled:
        labels = labels[labels != NO_LABEL]
    values, sizes = np.unique(labels, return_counts=True)
    if not len(values):
        raise ValueError("labels: none of them to go by")
    total = int(sizes.sum())
    # Whole numbers, exact for any N: the parts and what is left of each.
    parts, left = np.divmod(sizes * count, total)
    parts[np.argsort(-left, kind="stable")[: count - parts.sum()]] += 1
    chosen = np.repeat(values, parts)
    turn = np.concatenate([np.arange(part) for part in parts])
    result: NDArray[np.int64] = chosen[np.lexsort((chosen, turn))]
    return result
