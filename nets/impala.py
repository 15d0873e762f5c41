"""The residual encoder of IMPALA."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from playfield.nets.dropout import Dropout
from playfield.nets.encoders import widened
from playfield.nets.layers import Conv2d, PixelConv2d
from playfield.nets.normalization import Norm, normalized


class ImpalaCNN(nn.Module):
    """15 convolutions in three stages (Espeholt et al. 2018, figure 3, the larger network).

    uint8 `[B, C, H, W]` of any size to features `[B, features]` in the compute dtype: 3872 of them
    for 84×84. The hidden layer of 256 units, and the LSTM, belong to what follows.

    `width` multiplies the channels 16, 32 and 32; a norm follows each convolution, as in Cobbe et
    al. 2019. Pooling pads both sides, as all ports to torch do; TensorFlow's "SAME" pads the far
    side alone where a side is even.
    """

    def __init__(
        self,
        obs_shape: Sequence[int],
        dtype: torch.dtype = torch.float32,
        *,
        width: float = 1.0,
        norm: Norm = "none",
        centered: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        inputs, height, columns = obs_shape
        channels, *others = (widened(usual, width) for usual in (16, 32, 32))
        pixels = PixelConv2d(
            inputs, channels, 3, stride=1, padding=1, dtype=dtype, centered=centered
        )
        stages = [Stage(pixels, norm)]
        for wider in others:
            stages.append(Stage(Conv2d(channels, wider, 3, padding=1), norm))
            channels = wider
        self.layers = nn.Sequential(*stages, nn.ReLU())
        self.dropout = Dropout(dropout) if dropout else nn.Identity()
        for _ in stages:
            height, columns = (height + 1) // 2, (columns + 1) // 2
        self.features = channels * height * columns

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.dropout(self.layers(obs).flatten(1))
        return features


class Stage(nn.Module):
    """A convolution, pooling to half the size (rounded up), and two residual blocks."""

    def __init__(self, convolution: Conv2d | PixelConv2d, norm: Norm) -> None:
        super().__init__()
        channels = convolution.out_channels
        self.convolution, self.norm = normalized(convolution, norm)
        self.blocks = nn.Sequential(ResidualBlock(channels, norm), ResidualBlock(channels, norm))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.convolution(x))
        features: torch.Tensor = self.blocks(F.max_pool2d(x, 3, stride=2, padding=1))
        return features


class ResidualBlock(nn.Module):
    """x plus two convolutions of it, each with ReLU before it."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),
            *normalized(Conv2d(channels, channels, 3, padding=1), norm),
            nn.ReLU(),
            *normalized(Conv2d(channels, channels, 3, padding=1), norm),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)
