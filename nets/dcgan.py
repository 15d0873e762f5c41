"""DCGAN: a generator of transposed convolutions, a discriminator of strided ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from playfield.nets.conditional_norm import ConditionalBatchNorm
from playfield.nets.image_generator import ImageGenerator
from playfield.nets.initialization import fan_in_normal_
from playfield.nets.layers import Conv2d, RowLinear, used_weight
from playfield.nets.leaky_relu import GAIN, leaky_relu
from playfield.nets.minibatch_std import MinibatchStd
from playfield.nets.normalization import Norm, normalized
from playfield.nets.projection import ProjectionHead
from playfield.nets.unet import channels_last, level_sizes


class DCGANGenerator(ImageGenerator):
    """The generator of Radford et al. 2015: batch norm and ReLU, at the end a tanh.

    `channels` holds the numbers of channels of the feature maps, the largest map first, which has
    half the images' height and width; from each to the next they are halved, odd sizes up. The
    latent becomes the smallest by a linear layer, and each following one by a transposed
    convolution, cut off where the size is odd.

    It departs from the paper in three things. Kernels have 4x4 pixels instead of 5x5, so all
    pixels are made of as many products, which leaves no checkerboard (Odena et al. 2016). Weights
    are drawn by their fan-in and not with a deviation of 0.02, which is about that of 4x4 kernels
    on 512 channels: with 32 it would be far too small. Classes, which the paper has none of, have
    gains and biases of their own in each norm.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        latent: int,
        channels: Sequence[int],
        classes: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(latent, dtype)
        planes, height, width = shape
        self.sizes = level_sizes(height, width, 1 + len(channels))[::-1]
        widths = list(channels)[::-1]
        self.start = (widths[0], *self.sizes[0])
        self.input = RowLinear(latent, math.prod(self.start), bias=False)
        self.norms = nn.ModuleList(ConditionalBatchNorm(width, classes) for width in widths)
        self.layers = nn.ModuleList()
        for inputs, outputs in pairwise(widths):
            self.layers.append(Doubling(inputs, outputs, bias=False))  # the norm has one
        self.layers.append(Doubling(widths[-1], planes, bias=True))
        fan_in_normal_(self.input, 1.0)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def paint(self, z: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        x = self.input(z.to(self.dtype)).view(-1, *self.start)
        x = x.contiguous(memory_format=torch.channels_last)
        for norm, layer, (height, width) in zip(
            self.norms, self.layers, self.sizes[1:], strict=True
        ):
            x = layer(F.relu(norm(x, label)))[:, :, :height, :width]
        return x.tanh()


class DCGANDiscriminator(nn.Module):
    """The discriminator of Radford et al. 2015: strided convolutions with a leaky ReLU.

    `channels` as for `DCGANGenerator`. `norm` stands behind each convolution but the first, which
    sees the image ("spectral": on the weights of all, the last layer included). The paper's is
    "batch"; WGAN-GP, whose penalty is on each image's gradient, needs "layer" or "none", because a
    batch norm makes it depend on the others (Gulrajani et al. 2017, section 4). The head is a
    linear one on the smallest map, all places of it, with the class by projection. `group` is
    `MinibatchStd`'s, of that map.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        channels: Sequence[int],
        norm: Norm = "batch",
        group: int = 0,
        classes: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.dtype = dtype
        planes, height, width = shape
        size = level_sizes(height, width, 1 + len(channels))[-1]
        self.layers = nn.ModuleList()
        for inputs, outputs in zip([planes, *channels[:-1]], channels, strict=True):
            halving = Conv2d(inputs, outputs, 4, stride=2, padding=1)
            own = norm if self.layers or norm == "spectral" else "none"
            self.layers.append(nn.Sequential(*normalized(halving, own)))
        self.minibatch_std = MinibatchStd(group)
        fan_in_normal_(self.layers, GAIN)
        features = (channels[-1] + self.minibatch_std.extra) * math.prod(size)
        self.head = ProjectionHead(features, classes, norm)
        fan_in_normal_(self.head, 1.0)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Images `[B, C, H, W]` and labels int64 `[B]` to logits `[B]`, all float32."""
        logits: torch.Tensor = self.head(self.features(x), label)
        return logits

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """What the head looks at: `[B, F]`."""
        x = channels_last(x, self.dtype)
        for layer in self.layers:
            # A row and a column of zeros more where a size is odd, so that it is halved upwards.
            if x.shape[2] % 2 or x.shape[3] % 2:  # padding by nothing copies
                x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
            x = leaky_relu(layer(x))
        return self.minibatch_std(x).flatten(1)


class Doubling(nn.ConvTranspose2d):
    """A transposed convolution with 4x4 kernels that doubles height and width.

    In its input's dtype, as those of `layers` are.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool) -> None:
        super().__init__(inputs, outputs, 4, stride=2, padding=1, bias=bias)
        # Of the 16 numbers of a kernel, 4 meet in a pixel.
        nn.init.normal_(self.weight, std=1 / math.sqrt(4 * inputs))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        if output_size is not None:
            raise ValueError("output_size: this layer doubles")
        bias = None if self.bias is None else self.bias.to(x.dtype)
        weight = used_weight(self).to(x.dtype)
        return F.conv_transpose2d(x, weight, bias, stride=2, padding=1)
