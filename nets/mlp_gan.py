"""Generator and discriminator without convolutions: for points in the plane, and small images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from playfield.nets.image_generator import ImageGenerator, LabelledLatent
from playfield.nets.initialization import fan_in_normal_
from playfield.nets.layers import Linear, RowLinear
from playfield.nets.leaky_relu import GAIN, leaky_relu
from playfield.nets.minibatch_std import MinibatchStd
from playfield.nets.normalization import Norm, normalized
from playfield.nets.projection import ProjectionHead


class MLPGenerator(ImageGenerator):
    """A latent, joined with its class, through `depth` layers of `width` units and a linear one.

    Images of `shape` (C, H, W); a point in the plane is one of shape (2, 1, 1). What it gives is
    not bounded.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        latent: int,
        width: int,
        depth: int,
        classes: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(latent, dtype)
        self.shape = tuple(shape)
        self.input = LabelledLatent(latent, classes)
        widths = [self.input.features, *[width] * depth]
        self.hidden = nn.ModuleList(map(RowLinear, widths[:-1], widths[1:]))
        self.output = RowLinear(width, math.prod(shape))
        fan_in_normal_(self.hidden, GAIN)
        fan_in_normal_(self.output, 1.0)

    def paint(self, z: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        x = self.input(z, label).to(self.dtype)
        for layer in self.hidden:
            x = leaky_relu(layer(x))
        x = self.output(x)
        return x.view(-1, *self.shape)


class MLPDiscriminator(nn.Module):
    """An image's numbers through `depth` layers of `width` units, and a projection head.

    `norm` is any but "batch"; it comes before the leaky ReLU. `group` is `MinibatchStd`'s, of the
    last layer's units.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        width: int,
        depth: int,
        norm: Norm = "none",
        group: int = 0,
        classes: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.dtype = dtype
        widths = [math.prod(shape), *[width] * depth]
        self.hidden = nn.ModuleList()
        for inputs, outputs in pairwise(widths):
            self.hidden.append(nn.Sequential(*normalized(Linear(inputs, outputs), norm)))
        self.minibatch_std = MinibatchStd(group)
        fan_in_normal_(self.hidden, GAIN)
        self.head = ProjectionHead(width + self.minibatch_std.extra, classes, norm)
        fan_in_normal_(self.head, 1.0)

    def forward(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Images `[B, C, H, W]` and labels int64 `[B]` to logits `[B]`, all float32."""
        logits: torch.Tensor = self.head(self.features(x), label)
        return logits

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """What the head looks at: `[B, F]`."""
        x = x.flatten(1).to(self.dtype)
        for layer in self.hidden:
            x = leaky_relu(layer(x))
        return self.minibatch_std(x[:, :, None, None]).flatten(1)
