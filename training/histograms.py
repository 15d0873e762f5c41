"""Distributions for TensorBoard: of any numbers, and of a network's weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

#: Buckets of a histogram, as in TensorBoard's own writer.
BUCKETS = 30
#: Weights of one part of a network that its histogram is made from; of more, every k-th.
MOST_WEIGHTS = 16_384


def buckets(values: NDArray[Any]) -> NDArray[np.float64]:
    """Histogram of `values` as TensorBoard keeps it: `[K, 3]` of left edge, right edge, count.

    `BUCKETS` of the same width span the values; whole numbers that are near each other, such as
    actions, get one each, with the number in its middle. Values that are not finite are left out,
    and where nothing remains there is no bucket.
    """
    finite = np.asarray(values, dtype=np.float64).ravel()
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return np.zeros((0, 3))
    low, high = float(finite.min()), float(finite.max())
    near = high - low < BUCKETS and max(-low, high) < 2**50  # where a half can be added
    if near and np.array_equal(finite, np.round(finite)):
        edges = np.arange(low, high + 2) - 0.5
    elif high - low < np.inf and low + (high - low) / BUCKETS > low:
        edges = np.linspace(low, high, BUCKETS + 1)
    else:  # too near each other, or too far apart, to be told by buckets
        return np.array([[low, high, len(finite)]])
    counts, edges = np.histogram(finite, edges)
    return np.stack([edges[:-1], edges[1:], counts], axis=1)


def weights(network: nn.Module) -> dict[str, NDArray[np.float32]]:
    """Weights of each part of `network`, by the tag of their histogram, as in "weights/encoder".

    Parts are its direct children; parameters of its own are "weights/own". About `MOST_WEIGHTS`
    of a part at most, evenly spread over it: a histogram of more would look the same.
    """
    parts = {name: list(child.parameters()) for name, child in network.named_children()}
    parts["own"] = list(network.parameters(recurse=False))
    return {
        f"weights/{name}": _spread(parameters) for name, parameters in parts.items() if parameters
    }


def _spread(parameters: list[nn.Parameter]) -> NDArray[np.float32]:
    step = -(-sum(parameter.numel() for parameter in parameters) // MOST_WEIGHTS)
    chosen = [parameter.detach().reshape(-1)[::step].float() for parameter in parameters]
    spread: NDArray[np.float32] = torch.cat(chosen).cpu().numpy()  # a copy: training goes on
    return spread
