"""Normalising what a layer gives, or the weight that it multiplies by."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from playfield.nets.layers import Conv2d, LayerNorm, Linear, PixelConv2d

Norm = Literal["none", "layer", "batch", "spectral"]
Layer = Conv2d | PixelConv2d | Linear


def normalized(layer: Layer, norm: Norm) -> tuple[Layer, nn.Module]:
    """`layer`, perhaps with a spectral norm, and the module that normalises what it gives.

    - "layer": over the channels of each pixel, or the units of each row (`layers.LayerNorm`).
    - "batch": over batch and pixels while learning. Running means take its place in `eval()`, so
      an agent that acts has to be in it (Ioffe & Szegedy 2015).
    - "spectral": `SpectralNorm` on the weight, and nothing behind it.
    """
    width = layer.weight.shape[0]
    match norm:
        case "none":
            return layer, nn.Identity()
        case "layer":
            return layer, LayerNorm(width)
        case "batch":
            batch_norm = nn.BatchNorm1d if isinstance(layer, Linear) else nn.BatchNorm2d
            return layer, batch_norm(width)
        case "spectral":
            layer.spectral = SpectralNorm(layer.weight)
            return layer, nn.Identity()


def activated(layer: Layer, norm: Norm) -> tuple[Layer, nn.Module]:
    """`layer` and what follows it: the norm, if any, then ReLU.

    Both are one module, so a network's layers have the same names under every norm, and weights
    can be carried from one to the other.
    """
    layer, after = normalized(layer, norm)
    if isinstance(after, nn.Identity):
        return layer, nn.ReLU()
    return layer, nn.Sequential(after, nn.ReLU())


class SpectralNorm(nn.Module):
    """A weight over its largest singular value (Miyato et al. 2018), as a matrix `[out, the rest]`.

    The value is ||W v||, where power iteration brings v towards the right singular vector: one step
    in each forward pass in training mode, none in `eval()`. v `[the rest]` is a buffer, so it is
    saved. It moves after it was used, not before: so a copy in `eval()` gives what the network
    itself gives in its next pass, and the policy that acted is the one that learning begins with.

    `torch.nn.utils.parametrizations.spectral_norm` is the same function, but it renames the weight,
    hides it from initialisation in place, and has its vectors cast along with the layer.
    """

    v: torch.Tensor

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("v", F.normalize(torch.randn(weight[0].numel()), dim=0))
        self.settle(weight)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        matrix = weight.flatten(1)
        # A clone, because backward needs these values after the buffer has moved on.
        sigma = torch.linalg.vector_norm(matrix @ self.v.clone())
        if self.training:
            self.settle(weight, steps=1)
        return weight / sigma

    @torch.no_grad()
    def settle(self, weight: torch.Tensor, steps: int = 15) -> None:
        """Take power iterations; a new weight needs some before its first use."""
        matrix = weight.flatten(1)
        for _ in range(steps):
            self.v.copy_(F.normalize(matrix.T @ (matrix @ self.v), dim=0))
