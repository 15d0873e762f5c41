"""Layers that compute in the dtype of their input and keep their parameters in float32.

The usual way to train in bfloat16 is `torch.autocast`. It casts every weight again in every
forward pass and cannot know that a target network never changes between two copies; on small
networks that costs as much as the arithmetic. Here a float32 parameter is cast where it is used,
and a network that only runs forward keeps its weights in bfloat16 (`frozen_copy`), where the cast
is free. The numbers are autocast's: bfloat16 products, float32 parameters, gradients and moments.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn
from torch.nn import functional as F


class Conv2d(nn.Conv2d):
    """A convolution in its input's dtype."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return self._conv_forward(x, self.weight.to(x.dtype), bias)


class Linear(nn.Linear):
    """A linear layer in its input's dtype."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)


class OutputLinear(nn.Linear):
    """The last layer of a head: float32 whatever comes in.

    bfloat16 resolves a value of 20 to 0.125 at best; differences between actions are smaller.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bias = None if self.bias is None else self.bias.float()
        return F.linear(x.float(), self.weight.float(), bias)


class PixelConv2d(nn.Conv2d):
    """The first convolution on bytes: casts uint8 `[B, C, H, W]` once, and scales it to [0, 1].

    The factor 1/255 goes into the weights: the integers 0..255 are exact in bfloat16 and their
    255ths are not, and a kernel is a thousandth of a batch of frames.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride)
        self.compute_dtype = dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dtype = self.compute_dtype
        # Two passes: torch casts and permutes in one go at half the speed of one after the other.
        pixels = x.to(dtype).contiguous(memory_format=torch.channels_last)
        weight = (self.weight.float() / 255).to(dtype)
        bias = None if self.bias is None else self.bias.to(dtype)
        return self._conv_forward(pixels, weight, bias)


def frozen_copy(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy that only runs forward, with the weights that are used in `dtype` kept in `dtype`.

    It computes bit for bit what `network` computes, and casts no weight to do so.
    """
    copy = deepcopy(network).requires_grad_(False)
    for module in copy.modules():
        if isinstance(module, (Conv2d, Linear)):
            module.to(dtype)
    return copy


@torch.no_grad()
def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Make `target`, a frozen copy of `source`, equal to it again; buffers included."""
    torch._foreach_copy_(list(target.parameters()), list(source.parameters()))
    for new, old in zip(source.buffers(), target.buffers(), strict=True):
        old.copy_(new)
