"""Features of images that nobody has trained: random convolutions at several scales.

They know nothing of what images show, need no weights from elsewhere and are the same everywhere.
Where images are unlike those that a trained network has seen, they are as good a measure (Naeem et
al. 2020, who use them for digits).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from playfield.nets.layers import Conv2d, Linear

#: The longest side of the image at each scale; None: as it is.
SCALES = (None, 16, 8, 4)
#: Features of each scale.
WIDTH = 64
#: Cells per side that responses are averaged over.
GRID = 4


class RandomFeatures(nn.Module):
    """Signals `[B, channels, H, W]` float32 in [-1, 1], of any size, to features `[B, 256]`.

    The image, and what remains of it at three coarser scales, goes through two convolutions with
    ReLUs; what they give is averaged in 4×4 cells, so that places count, and mixed by a random
    projection, which keeps distances and brings their distribution nearer to a normal one. Weights
    are uniform with the variance that keeps that of the signal (He et al. 2015), so every scale
    and every size of image gives numbers of the same order.

    `uniforms(count)` gives the next `count` numbers in [0, 1), float64; all weights follow from
    them, by arithmetic that every processor rounds alike.
    """

    def __init__(self, channels: int, uniforms: Callable[[int], torch.Tensor]) -> None:
        super().__init__()
        with torch.device("meta"):  # torch's own initialisation would draw from a global generator
            self.scales = nn.ModuleList(_Scale(channels) for _ in SCALES)
        for layer in self.modules():
            if isinstance(layer, Conv2d | Linear):
                _fill(layer, uniforms)

    @property
    def size(self) -> int:
        """Features of an image."""
        return WIDTH * len(SCALES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = []
        for longest, scale in zip(SCALES, self.scales, strict=True):
            if longest is not None:
                height, width = (min(side, longest) for side in x.shape[2:])
                x = F.adaptive_avg_pool2d(x, (height, width))
            seen.append(scale(x))
        return torch.cat(seen, 1)


class _Scale(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = Conv2d(channels, 32, 3)
        self.second = Conv2d(32, WIDTH, 3)
        self.output = Linear(WIDTH * GRID**2, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in (self.first, self.second):
            # Zeros around an image would be an edge that is not in it.
            x = F.relu(layer(F.pad(x, (1, 1, 1, 1), mode="replicate")))
        features: torch.Tensor = self.output(F.adaptive_avg_pool2d(x, GRID).flatten(1))
        return features


def _fill(layer: Conv2d | Linear, uniforms: Callable[[int], torch.Tensor]) -> None:
    """Weights of mean 0, and biases in ±1/2, so that units begin to see at different brightness."""
    gain = 2 if isinstance(layer, Conv2d) else 1  # a ReLU follows, which halves the variance
    bound = math.sqrt(3 * gain / layer.weight[0].numel())
    numbers = uniforms(layer.weight.numel()).mul(2).sub(1).mul(bound)
    layer.weight = nn.Parameter(numbers.view_as(layer.weight).float(), requires_grad=False)
    if layer.bias is not None:
        numbers = uniforms(layer.bias.numel()).sub(0.5)
        layer.bias = nn.Parameter(numbers.float(), requires_grad=False)
