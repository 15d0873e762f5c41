"""A network that says what is in a picture."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from playfield.nets.dropout import Dropout
from playfield.nets.layers import Conv2d, LayerNorm, Linear, OutputLinear


class ConvClassifier(nn.Module):
    """Pairs of 3×3 convolutions, halved in size down to 4 pixels, and a hidden layer.

    Signals `[B, C, H, W]` float32 in [-1, 1] to logits `[B, classes]` float32, of any height and
    width. The channels are `width`, doubled at each halving up to four times as many. Layers
    normalise over channels, not over a batch: a picture is seen alike in any company. `dropout` is
    the chance of a feature to be dropped while training. Inside it computes in `dtype`.
    """

    encoder_name = "stages"

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        *,
        width: int = 32,
        features: int = 128,
        dropout: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        channels, *size = shape
        self.dtype = dtype
        self.stages = nn.ModuleList()
        while True:
            wider = width * min(2 ** len(self.stages), 4)
            self.stages.append(nn.Sequential(*_layer(channels, wider), *_layer(wider, wider)))
            channels = wider
            if max(size) <= 4:
                break
            size = [-(-side // 2) for side in size]
        self.hidden = Linear(channels * size[0] * size[1], features)
        self.dropout = Dropout(dropout) if dropout else nn.Identity()
        self.output = OutputLinear(features, classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """The layer before the logits, `[B, features]` float32, 0 or more."""
        x = x.to(self.dtype, memory_format=torch.channels_last)
        for index, stage in enumerate(self.stages):
            if index:
                x = F.max_pool2d(x, 2, ceil_mode=True)
            x = stage(x)
        return F.relu(self.hidden(x.flatten(1))).float()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.output(self.dropout(self.features(x)))
        return logits


def _layer(channels: int, width: int) -> tuple[nn.Module, ...]:
    return Conv2d(channels, width, 3, padding=1), LayerNorm(width), nn.ReLU()
