"""Images at the size and with the channels that a trained network takes, without an artefact.

Enlarging or shrinking in bytes, or shrinking without a filter as wide as the shrinking asks, moves
a Fréchet distance more than models differ by (Parmar et al. 2022).
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from playfield.errors import UserError


def as_rgb(images: torch.Tensor) -> torch.Tensor:
    """Bytes `[B, C, H, W]`, grey or RGB, as float32 `[B, 3, H, W]` in 0..255.

    Raises `UserError` for other numbers of channels.
    """
    channels = images.shape[1]
    if channels not in (1, 3):
        raise UserError(
            f"This network sees grey or RGB images, and these have {channels} channels: use "
            "--features random."
        )
    return images.float().expand(-1, 3, -1, -1)


def bicubic(images: torch.Tensor, size: int) -> torch.Tensor:
    """`[B, C, H, W]` float32 as `[B, C, size, size]`, by bicubic filters (a = -1/2).

    Where images shrink, filters widen with it. It is Pillow's `Image.resize` in mode F; values
    may go a little beyond those of the image, and are neither clipped nor rounded.
    """
    return F.interpolate(images, (size, size), mode="bicubic", align_corners=False, antialias=True)


def tensorflow_bilinear(images: torch.Tensor, size: int) -> torch.Tensor:
    """`[B, C, H, W]` float32 as `[B, C, size, size]`, as TensorFlow 1 did for the first FIDs.

    It takes pixel i of the result from place i * H / size, in line with the image's first pixel and
    not with the middle of the image, and never from more than two pixels a side: it shifts images
    by up to half a pixel and aliases where they shrink.
    """
    for dim in (2, 3):
        side = images.shape[dim]
        # In float32, as it was: the places decide which pixels are mixed.
        places = torch.arange(size, dtype=torch.float32, device=images.device) * (side / size)
        low = places.long().clamp(max=side - 1)
        high = (low + 1).clamp(max=side - 1)
        share = (places - low).view(-1, *[1] * (3 - dim))
        first, second = images.index_select(dim, low), images.index_select(dim, high)
        images = first + (second - first) * share
    return images
