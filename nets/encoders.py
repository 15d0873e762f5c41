"""Encoders: observations in, features out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from playfield.nets.dropout import Dropout
from playfield.nets.layers import Conv2d, Linear, PixelConv2d
from playfield.nets.normalization import Norm, activated


class NatureCNN(nn.Module):
    """The convolutional encoder of DQN (Mnih et al. 2015, Methods, "Model architecture").

    uint8 `[B, C, H, W]`, 36×36 or larger, to features `[B, features]` in the compute dtype: 3136
    of them for 84×84. The hidden layer of 512 units belongs to the heads.

    As in all encoders, `width` multiplies the channels, `norm` stands between each layer and its
    ReLU (`nets.normalization`), and `dropout` is the chance of a feature to be dropped. As in all
    for pictures, `centered` kernels of the first convolution have mean 0 (`layers.PixelConv2d`).
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
        channels, height, columns = obs_shape
        few, many = widened(32, width), widened(64, width)
        self.layers = nn.Sequential(
            *activated(
                PixelConv2d(channels, few, 8, stride=4, dtype=dtype, centered=centered), norm
            ),
            *activated(Conv2d(few, many, 4, stride=2), norm),
            *activated(Conv2d(many, many, 3, stride=1), norm),
        )
        self.dropout = Dropout(dropout) if dropout else nn.Identity()
        for kernel, stride in ((8, 4), (4, 2), (3, 1)):
            height, columns = (height - kernel) // stride + 1, (columns - kernel) // stride + 1
        if min(height, columns) < 1:
            raise ValueError(f"frames of {obs_shape[1]}x{obs_shape[2]} are too small for this CNN")
        self.features = many * height * columns

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.dropout(self.layers(obs).flatten(1))
        return features


class SmallCNN(nn.Module):
    """One 3×3 convolution for the pictures of toy worlds (the network of MinAtar, 2019).

    uint8 `[B, C, H, W]` of 3×3 or larger to features `[B, features]` in the compute dtype.
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
        channels = widened(16, width)
        self.layers = nn.Sequential(
            *activated(
                PixelConv2d(inputs, channels, 3, stride=1, dtype=dtype, centered=centered), norm
            )
        )
        self.dropout = Dropout(dropout) if dropout else nn.Identity()
        self.features = channels * (height - 2) * (columns - 2)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.dropout(self.layers(obs).flatten(1))
        return features


class MLP(nn.Module):
    """Linear layers with ReLU for vector observations; `width` multiplies their units.

    float32 `[B, D]` to features `[B, features]` in the compute dtype: the units of the last layer,
    or D where there is none.
    """

    def __init__(
        self,
        obs_shape: Sequence[int],
        hidden: Sequence[int] = (64,),
        dtype: torch.dtype = torch.float32,
        *,
        width: float = 1.0,
        norm: Norm = "none",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        (inputs,) = obs_shape
        self.compute_dtype = dtype
        sizes = [inputs, *(widened(units, width) for units in hidden)]
        self.layers = nn.Sequential(
            *(
                module
                for fan_in, fan_out in pairwise(sizes)
                for module in activated(Linear(fan_in, fan_out), norm)
            )
        )
        self.dropout = Dropout(dropout) if dropout else nn.Identity()
        self.features = sizes[-1]

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.dropout(self.layers(obs.to(self.compute_dtype)))
        return features


def widened(channels: int, width: float) -> int:
    """`channels` times `width`, rounded, at least 1."""
    return max(1, round(channels * width))


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
