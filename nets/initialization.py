"""Weights before training."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def orthogonal_(module: nn.Module, gain: float) -> None:
    """Make the weights of every linear and convolutional layer in `module` orthogonal, biases 0.

    A weight counts as the matrix `[out, everything else]`: its rows or its columns, whichever are
    fewer, are orthogonal and of length `gain` (Saxe et al. 2014).
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.orthogonal_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
