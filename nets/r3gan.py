"""R3GAN: one kind of residual block and no normalisation, in generator and discriminator alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from playfield.nets.image_generator import ImageGenerator, LabelledLatent
from playfield.nets.initialization import fan_in_normal_, zero_
from playfield.nets.layers import Conv2d, Linear, RowLinear
from playfield.nets.leaky_relu import GAIN, leaky_relu
from playfield.nets.minibatch_std import MinibatchStd
from playfield.nets.projection import ProjectionHead
from playfield.nets.resampling import smoothly_doubled, smoothly_halved
from playfield.nets.unet import channels_last, level_sizes


class R3GANGenerator(ImageGenerator):
    """The generator of Huang et al. 2024 (arXiv 2501.05441), configuration E.

    `channels` holds the numbers of channels on each level, first of images at their own size; from
    level to level they are halved, odd sizes up. The last level's map begins as a learned one, each
    channel of which is scaled by a linear function of the latent and the class. On each level there
    are `blocks` residual blocks, between levels a 1x1 convolution (where the number of channels
    changes) and bilinear doubling. At the end a 1x1 convolution, without bounds.

    Blocks widen their channels `expansion` times, in groups of `group_channels`.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        latent: int,
        channels: Sequence[int],
        blocks: int,
        group_channels: int,
        expansion: int = 2,
        classes: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(latent, dtype)
        planes, height, width = shape
        self.sizes = level_sizes(height, width, len(channels))[::-1]
        widths = list(channels)[::-1]
        self.input = LabelledLatent(latent, classes)
        self.scale = RowLinear(self.input.features, widths[0], bias=False)
        self.basis = nn.Parameter(torch.randn(widths[0], *self.sizes[0]))
        self.widen = nn.ModuleList(map(transition, widths[:-1], widths[1:]))
        every = blocks * len(widths)
        self.levels = nn.ModuleList(
            residual_blocks(width, blocks, group_channels, expansion, every) for width in widths
        )
        self.output = PixelLinear(widths[-1], planes)
        fan_in_normal_(self.scale, 1.0)
        fan_in_normal_(self.output, 1.0)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def paint(self, z: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        scale = self.scale(self.input(z, label).to(self.dtype))
        x = self.basis.to(scale.dtype) * scale[:, :, None, None]
        x = self.levels[0](x.contiguous(memory_format=torch.channels_last))
        for widen, level, size in zip(self.widen, self.levels[1:], self.sizes[1:], strict=True):
            x = level(smoothly_doubled(widen(x), size))
        images: torch.Tensor = self.output(x)
        return images


class R3GANDiscriminator(nn.Module):
    """The discriminator of Huang et al. 2024 (arXiv 2501.05441), configuration E.

    The generator the other way round, with the same settings: a 1x1 convolution on the image;
    `blocks` residual blocks on each level; between levels bilinear halving and a 1x1 convolution;
    on the last level each channel's map times a learned one, summed, and a linear layer. That layer
    gives the logit itself, or, with classes, `class_features` numbers for a `ProjectionHead`. There
    the paper has an inner product with a class's vector alone; this one has one with a vector of
    all classes besides, or an image without a label would be neither real nor false. `group` is
    `MinibatchStd`'s, of the last map; the paper's is 0.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        channels: Sequence[int],
        blocks: int,
        group_channels: int,
        expansion: int = 2,
        class_features: int = 64,
        group: int = 0,
        classes: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.dtype = dtype
        planes, height, width = shape
        size = level_sizes(height, width, len(channels))[-1]
        self.input = Conv2d(planes, channels[0], 1, bias=False)
        every = blocks * len(channels)
        self.levels = nn.ModuleList(
            residual_blocks(width, blocks, group_channels, expansion, every) for width in channels
        )
        self.narrow = nn.ModuleList(map(transition, channels[:-1], channels[1:]))
        self.minibatch_std = MinibatchStd(group)
        features = channels[-1] + self.minibatch_std.extra
        self.basis = nn.Parameter(torch.randn(features, *size) / math.sqrt(math.prod(size)))
        self.vector = Linear(features, class_features, bias=False) if classes else nn.Identity()
        self.head = ProjectionHead(class_features if classes else features, classes)
        for layer in (self.input, self.vector, self.head):
            fan_in_normal_(layer, 1.0)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Images `[B, C, H, W]` and labels int64 `[B]` to logits `[B]`, all float32."""
        logits: torch.Tensor = self.head(self.features(x), label)
        return logits

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """What the head looks at: float32 `[B, F]`."""
        x = self.levels[0](self.input(channels_last(x, self.dtype)))
        for narrow, level in zip(self.narrow, self.levels[1:], strict=True):
            x = level(narrow(smoothly_halved(x)))
        # A depthwise convolution down to one pixel, whose second derivatives torch would take
        # channel by channel.
        x = (self.minibatch_std(x).float() * self.basis).sum((2, 3))
        vector: torch.Tensor = self.vector(x)
        return vector


class ResidualBlock(nn.Module):
    """x plus an inverted bottleneck: 1x1 to more channels, 3x3 in groups, 1x1 back.

    There is no norm; what keeps the numbers in bounds is Fixup (Zhang et al. 2019). The last
    convolution is 0 at first, so the block is the identity; the two before it are drawn smaller,
    the more blocks (`every`) the network has in all: by every^(-1/4), which is Fixup's for three
    layers, so that one step changes a deep network about as much as a shallow one. Biases stand
    before the leaky ReLUs alone.
    """

    def __init__(self, channels: int, group_channels: int, expansion: int, every: int) -> None:
        super().__init__()
        wide = expansion * channels
        if wide % group_channels:
            raise ValueError(f"{group_channels=} does not divide {wide} channels")
        groups = wide // group_channels
        self.first = Conv2d(channels, wide, 1)
        self.grouped = Conv2d(wide, wide, 3, padding=1, groups=groups)
        self.last = Conv2d(wide, channels, 1, bias=False)
        fan_in_normal_(self, GAIN * every**-0.25)
        zero_(self.last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.grouped(leaky_relu(self.first(x)))
        features: torch.Tensor = x + self.last(leaky_relu(h))
        return features


class PixelLinear(Conv2d):
    """A 1x1 convolution that makes of a pixel the same bits whatever pixels are beside it.

    For a single channel a processor multiplies by another program than for more, and its roundings
    depend on how many pixels there are. So it gets a second one, of zeros.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.out_channels > 1 or x.device.type != "cpu":
            return super().forward(x)
        weight = F.pad(self.weight.to(x.dtype), (0, 0, 0, 0, 0, 0, 0, 1))
        return F.conv2d(x, weight)[:, :1]


def residual_blocks(
    channels: int, blocks: int, group_channels: int, expansion: int, every: int
) -> nn.Sequential:
    """The blocks of one level, in a network of `every` blocks."""
    return nn.Sequential(
        *(ResidualBlock(channels, group_channels, expansion, every) for _ in range(blocks))
    )


def transition(inputs: int, outputs: int) -> nn.Module:
    """From one level's number of channels to another's."""
    if inputs == outputs:
        return nn.Identity()
    layer = Conv2d(inputs, outputs, 1, bias=False)
    fan_in_normal_(layer, 1.0)
    return layer
