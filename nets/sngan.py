"""SNGAN: residual generator and discriminator, the latter with spectral norms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from playfield.nets.conditional_norm import ConditionalBatchNorm
from playfield.nets.image_generator import ImageGenerator
from playfield.nets.initialization import fan_in_normal_
from playfield.nets.layers import Conv2d, LayerNorm, RowLinear
from playfield.nets.minibatch_std import MinibatchStd
from playfield.nets.normalization import Norm, normalized
from playfield.nets.projection import ProjectionHead
from playfield.nets.unet import channels_last, doubled, halved, level_sizes


class SNGANGenerator(ImageGenerator):
    """The residual generator of Miyato et al. 2018, figure 8, with conditional batch norm.

    `channels` holds the numbers of channels on each level, first of images at their own size; from
    level to level they are halved, odd sizes up. The latent becomes a map of the last level by a
    linear layer. A block leads from each level to the next larger one (nearest neighbours), with
    `blocks - 1` more behind it at that size. At the end: norm, ReLU, convolution, tanh.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        latent: int,
        channels: Sequence[int],
        blocks: int = 1,
        classes: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(latent, dtype)
        planes, height, width = shape
        sizes = level_sizes(height, width, len(channels))[::-1]
        widths = list(channels)[::-1]
        self.start = (widths[0], *sizes[0])
        self.input = RowLinear(latent, math.prod(self.start))
        self.blocks = nn.ModuleList()
        self.sizes: list[tuple[int, int]] = []  # that blocks lead to
        for inputs, outputs, size in zip(widths[:-1], widths[1:], sizes[1:], strict=True):
            for index in range(blocks):
                current = outputs if index else inputs
                self.blocks.append(GeneratorBlock(current, outputs, classes, skip=not index))
                self.sizes.append(size)
        self.norm = ConditionalBatchNorm(widths[-1], classes)
        self.output = Conv2d(widths[-1], planes, 3, padding=1)
        fan_in_normal_(self, math.sqrt(2))
        for block in self.blocks:
            if isinstance(block.skip, Conv2d):
                fan_in_normal_(block.skip, 1.0)
        fan_in_normal_(self.output, 1.0)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def paint(self, z: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        x = self.input(z.to(self.dtype)).view(-1, *self.start)
        x = x.contiguous(memory_format=torch.channels_last)
        for block, size in zip(self.blocks, self.sizes, strict=True):
            x = block(x, label, size)
        images: torch.Tensor = self.output(F.relu(self.norm(x, label))).tanh()
        return images


class GeneratorBlock(nn.Module):
    """x, brought to a size, plus two convolutions of it, each behind norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, classes: int, *, skip: bool) -> None:
        super().__init__()
        self.first_norm = ConditionalBatchNorm(inputs, classes)
        self.first = Conv2d(inputs, outputs, 3, padding=1)
        self.last_norm = ConditionalBatchNorm(outputs, classes)
        self.last = Conv2d(outputs, outputs, 3, padding=1)
        self.skip = Conv2d(inputs, outputs, 1) if skip else nn.Identity()

    def forward(self, x: torch.Tensor, label: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        h = F.relu(self.first_norm(x, label))
        if x.shape[2:] != tuple(size):
            h = doubled(h, size)
        h = self.first(h)
        h = self.last(F.relu(self.last_norm(h, label)))
        # A 1x1 convolution of pixels that are repeated is the same before and after: so before.
        x = self.skip(x)
        if x.shape[2:] != tuple(size):
            x = doubled(x, size)
        return x + h


class SNGANDiscriminator(nn.Module):
    """The residual discriminator of Miyato et al. 2018, figures 8 and 9, with class projection.

    `channels` as for `SNGANGenerator`: images come in at the first level's size, and a block leads
    from each level to the next smaller one (means of 2x2 pixels), with `blocks - 1` more behind it.
    On the last level stands one block that keeps the size; then ReLU, the sum over all pixels, and
    the projection head. `norm="spectral"` divides each weight by its largest singular value, the
    head's and the classes' included; "layer" puts a norm before each ReLU inside blocks and none on
    weights, for WGAN-GP. `group` is `MinibatchStd`'s, of the last map before the sum.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        channels: Sequence[int],
        blocks: int = 1,
        norm: Norm = "spectral",
        group: int = 0,
        classes: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if norm == "batch":
            raise ValueError(f"{norm=}: this discriminator takes none, layer or spectral")
        self.dtype = dtype
        planes, height, width = shape
        level_sizes(height, width, len(channels))  # raises where images are too small
        self.blocks = nn.ModuleList()
        current = planes
        for outputs in channels[1:]:
            for index in range(blocks):
                halves, first = not index, not self.blocks
                self.blocks.append(
                    DiscriminatorBlock(current, outputs, norm, halves=halves, sees_image=first)
                )
                current = outputs
        first = not self.blocks
        self.blocks.append(DiscriminatorBlock(current, channels[-1], norm, sees_image=first))
        self.minibatch_std = MinibatchStd(group)
        self.head = ProjectionHead(channels[-1] + self.minibatch_std.extra, classes, norm)
        fan_in_normal_(self.blocks, math.sqrt(2))
        for block in self.blocks:
            if isinstance(block, DiscriminatorBlock) and block.skip is not None:
                fan_in_normal_(block.skip, 1.0)
        fan_in_normal_(self.head, 1.0)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Images `[B, C, H, W]` and labels int64 `[B]` to logits `[B]`, all float32."""
        logits: torch.Tensor = self.head(self.features(x), label)
        return logits

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """What the head looks at: `[B, F]`, 0 or more."""
        x = channels_last(x, self.dtype)
        for block in self.blocks:
            x = block(x)
        return self.minibatch_std(F.relu(x)).float().sum((2, 3))


class DiscriminatorBlock(nn.Module):
    """x plus two convolutions of it, behind a ReLU each, both perhaps halved in size.

    The block that sees the image has no ReLU before its first convolution: half of what the image
    says would be lost. The 1x1 convolution stands behind the halving, where the paper has it before
    in all blocks but the first: which is the same function, at a quarter of the work.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        norm: Norm,
        *,
        halves: bool = False,
        sees_image: bool = False,
    ) -> None:
        super().__init__()
        self.halves, self.sees_image = halves, sees_image
        layered = norm == "layer"
        on_weights: Norm = "spectral" if norm == "spectral" else "none"
        self.first_norm = LayerNorm(inputs) if layered and not sees_image else nn.Identity()
        self.first, _ = normalized(Conv2d(inputs, outputs, 3, padding=1), on_weights)
        self.last_norm = LayerNorm(outputs) if layered else nn.Identity()
        self.last, _ = normalized(Conv2d(outputs, outputs, 3, padding=1), on_weights)
        self.skip: nn.Module | None = None
        if halves or inputs != outputs:
            self.skip, _ = normalized(Conv2d(inputs, outputs, 1), on_weights)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x if self.sees_image else F.relu(self.first_norm(x))
        h = self.last(F.relu(self.last_norm(self.first(h))))
        if self.halves:
            h, x = halved(h), halved(x)
        return h + (x if self.skip is None else self.skip(x))
