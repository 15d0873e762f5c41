"""Encoders: observations in, features out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from playfield.nets.layers import Conv2d, Linear, PixelConv2d


class NatureCNN(nn.Module):
    """The convolutional encoder of DQN (Mnih et al. 2015, Methods, "Model architecture").

    uint8 `[B, C, H, W]`, 36×36 or larger, to features `[B, features]` in the compute dtype: 3136
    of them for 84×84. The hidden layer of 512 units belongs to the heads.
    """

    def __init__(self, obs_shape: Sequence[int], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        channels, height, width = obs_shape
        self.layers = nn.Sequential(
            PixelConv2d(channels, 32, 8, stride=4, dtype=dtype),
            nn.ReLU(),
            Conv2d(32, 64, 4, stride=2),
            nn.ReLU(),
            Conv2d(64, 64, 3, stride=1),
            nn.ReLU(),
        )
        for kernel, stride in ((8, 4), (4, 2), (3, 1)):
            height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
        if min(height, width) < 1:
            raise ValueError(f"frames of {obs_shape[1]}x{obs_shape[2]} are too small for this CNN")
        self.features = 64 * height * width

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.layers(obs).flatten(1)


class SmallCNN(nn.Module):
    """One 3×3 convolution for the pictures of toy worlds (the network of MinAtar, 2019).

    uint8 `[B, C, H, W]` of 3×3 or larger to features `[B, features]` in the compute dtype.
    """

    def __init__(self, obs_shape: Sequence[int], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        channels, height, width = obs_shape
        self.layers = nn.Sequential(PixelConv2d(channels, 16, 3, stride=1, dtype=dtype), nn.ReLU())
        self.features = 16 * (height - 2) * (width - 2)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.layers(obs).flatten(1)


class MLP(nn.Module):
    """Linear layers with ReLU for vector observations.

    float32 `[B, D]` to features `[B, hidden[-1]]` in the compute dtype.
    """

    def __init__(
        self,
        obs_shape: Sequence[int],
        hidden: Sequence[int] = (64,),
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        (inputs,) = obs_shape
        self.compute_dtype = dtype
        self.layers = nn.Sequential(
            *(
                layer
                for fan_in, fan_out in pairwise((inputs, *hidden))
                for layer in (Linear(fan_in, fan_out), nn.ReLU())
            )
        )
        self.features = hidden[-1] if hidden else inputs

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.layers(obs.to(self.compute_dtype))


def encoder_for(
    obs_shape: Sequence[int], dtype: torch.dtype = torch.float32
) -> NatureCNN | SmallCNN | MLP:
    """The encoder that suits observations of this shape, without the batch dimension.

    Vectors get an MLP, pictures of 36×36 or more the Nature CNN, smaller ones one convolution.
    Raises ValueError for any other shape.
    """
    if len(obs_shape) == 1:
        return MLP(obs_shape, dtype=dtype)
    if len(obs_shape) == 3 and min(obs_shape[1:]) >= 3:
        return (NatureCNN if min(obs_shape[1:]) >= 36 else SmallCNN)(obs_shape, dtype)
    raise ValueError(f"no encoder for observations of shape {list(obs_shape)}")
