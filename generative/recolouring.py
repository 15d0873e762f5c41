"""The colours of images changed: affine maps of a pixel's channels, and changes about a mean.

Signals lie in about [-1, 1], so that 0 is mid-grey. Three channels are red, green and blue. Any
other number are no colours: all channels are treated alike, as one channel of grey would be.
"""

from __future__ import annotations

import math

import torch


def colour_axes(channels: int) -> int:
    """Dimensions of the colours of images with so many channels: 3, or 1 where they are none."""
    return 3 if channels == 3 else 1


def brightening(amount: torch.Tensor, axes: int) -> torch.Tensor:
    """`amount` `[N]` added to every channel, as a map `[N, axes + 1, axes + 1]`."""
    matrix = _identity(len(amount), axes)
    matrix[:, :axes, axes] = amount[:, None]
    return matrix


def contrasting(factor: torch.Tensor, axes: int) -> torch.Tensor:
    """Every channel times `factor` `[N]`: contrast about mid-grey."""
    return _on_colours(factor[:, None, None] * torch.eye(axes))


def luma_flip(flipped: torch.Tensor, axes: int) -> torch.Tensor:
    """Light for dark with hue and saturation kept, where `flipped` `[N]` is 1; of grey: negated."""
    return _on_colours(torch.eye(axes) - 2 * flipped[:, None, None] * _grey(axes))


def hue_rotation(angle: torch.Tensor) -> torch.Tensor:
    """Colours turned about the axis of greys by `angle` `[N]` in radians, red towards green."""
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    third = 1 / math.sqrt(3)
    across = torch.tensor([[0, -third, third], [third, 0, -third], [-third, third, 0]])
    grey = _grey(3)
    return _on_colours(grey + cos * (torch.eye(3) - grey) + sin * across)  # Rodrigues


def saturating(factor: torch.Tensor, axes: int) -> torch.Tensor:
    """The distance from grey times `factor` `[N]`; grey, the mean of the channels, stays."""
    grey = _grey(axes)
    return _on_colours(grey + factor[:, None, None] * (torch.eye(axes) - grey))


def recoloured(images: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Images `[N, C, H, W]` through maps `[N, axes + 1, axes + 1]` of as many axes as they have."""
    axes = matrix.shape[1] - 1
    shift = matrix[:, :axes, axes, None, None]
    if axes == 1:
        return images * matrix[:, :1, :1, None] + shift[:, :1]
    # No matrix product: it would round to bfloat16 under autocast, and the matrices are tiny.
    return (matrix[:, :axes, :axes, None, None] * images[:, None]).sum(2) + shift


def brightened(images: torch.Tensor, amount: torch.Tensor) -> torch.Tensor:
    """`amount` `[N]` added to images `[N, C, H, W]`."""
    return images + _per_image(amount)


def saturated(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Each pixel's distance from the mean of its channels times `factor` `[N]`."""
    grey = images.mean(1, keepdim=True)
    return grey + _per_image(factor) * (images - grey)


def contrasted(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """The distance from the image's own mean times `factor` `[N]`."""
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + _per_image(factor) * (images - mean)


def _per_image(numbers: torch.Tensor) -> torch.Tensor:
    return numbers[:, None, None, None]


def _identity(count: int, axes: int) -> torch.Tensor:
    return torch.eye(axes + 1).repeat(count, 1, 1)


def _on_colours(linear: torch.Tensor) -> torch.Tensor:
    """`[N, axes, axes]` as an affine map."""
    axes = linear.shape[1]
    matrix = _identity(len(linear), axes)
    matrix[:, :axes, :axes] = linear
    return matrix


def _grey(axes: int) -> torch.Tensor:
    """The projection onto greys: v v^T with v = (1, …, 1) / sqrt(axes)."""
    return torch.full((axes, axes), 1 / axes)
