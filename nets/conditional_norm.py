"""Batch normalisation with gains and biases of each class."""

from __future__ import annotations

import torch
from torch import nn

from playfield.nets.embeddings import LabelEmbedding


class ConditionalBatchNorm(nn.Module):
    """Batch norm whose gain and bias are those of an image's class (Dumoulin et al. 2017).

    `[B, C, H, W]` and labels int64 `[B]`. Every class begins with gain 1 and bias 0, and that is
    what an image without a label (below 0) is given always. `classes=0` makes an ordinary batch
    norm with a learned gain and bias, which looks at no label.

    In training mode an image is normalised along with its batch, and running means move; in
    `eval()` these are used, and an image is given the same whatever is beside it.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=not classes)
        # As differences from 1 and 0: so zeros, the embedding of no label, mean what they should.
        self.gain = LabelEmbedding(classes, channels) if classes else None
        self.bias = LabelEmbedding(classes, channels) if classes else None
        for embedding in (self.gain, self.bias):
            if embedding is not None:
                nn.init.zeros_(embedding.weight)

    def forward(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        x = self.norm(x)
        if self.gain is None or self.bias is None:
            return x
        gain = (1 + self.gain(label)).to(x.dtype)[:, :, None, None]
        bias = self.bias(label).to(x.dtype)[:, :, None, None]
        return torch.addcmul(bias, x, gain)
