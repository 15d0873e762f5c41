"""The last layer of a discriminator: is it real, and is it what its label says."""

from __future__ import annotations

import math

import torch
from torch import nn

from playfield.nets.embeddings import LabelEmbedding
from playfield.nets.layers import Linear
from playfield.nets.normalization import Norm, SpectralNorm


class ProjectionHead(nn.Module):
    """Features `[B, F]` and labels int64 `[B]` to float32 logits `[B]`: w x + b + <v_y, x>.

    The class enters as an inner product with a vector of its own (Miyato & Koyama 2018, equation
    4); an image without a label (below 0) goes without. `classes=0` makes a linear layer. With
    `norm="spectral"` w and the matrix of all v are divided by their largest singular values; other
    norms have no place here. It computes in float32.
    """

    def __init__(self, features: int, classes: int, norm: Norm = "none") -> None:
        super().__init__()
        self.linear = Linear(features, 1)
        self.classes = LabelEmbedding(classes, features) if classes else None
        if self.classes is not None:
            # Like a layer's weights, so that the product is of the order of the features.
            nn.init.normal_(self.classes.weight, std=1 / math.sqrt(features))
        if norm == "spectral":
            self.linear.spectral = SpectralNorm(self.linear.weight)
            if self.classes is not None:
                self.classes.spectral = SpectralNorm(self.classes.weight)

    def forward(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        x = x.float()
        logits: torch.Tensor = self.linear(x).squeeze(1).float()
        if self.classes is not None:
            logits = logits + (x * self.classes(label)).sum(1)
        return logits
