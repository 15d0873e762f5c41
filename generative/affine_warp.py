"""Images moved, turned and stretched by an affine map, differentiable as often as one likes.

A map is a matrix `[N, 3, 3]` float32 from a pixel of the result to the place in the image that it
shows. Places are (x, y, 1) in pixels from the image's middle, x to the right and y down. So the
change that comes last stands last in the product, and each factor is an inverse: to enlarge by 2 is
`scaling(1/2, 1/2)`. Beyond its border an image goes on as its reflection, in mirrors that stand
just outside the outermost pixels (numpy's "symmetric"), at any distance and from a single pixel on.

The images are gathered and weighed: torch's own `grid_sample` has no second derivative, which a
penalty on gradients needs. Derivatives of a gather are sums; CUDA adds them up in any order.
"""

from __future__ import annotations

import torch


def translation(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Places moved by (x, y) pixels, `[N]` each, as `[N, 3, 3]`."""
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    return _matrix(one, zero, x, zero, one, y)


def scaling(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Places x and y times as far from the middle, `[N]` each, as `[N, 3, 3]`."""
    zero = torch.zeros_like(x)
    return _matrix(x, zero, zero, zero, y, zero)


def rotation(angle: torch.Tensor) -> torch.Tensor:
    """Places turned from x towards y, clockwise to the eye, by `angle` `[N]` in radians."""
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return _matrix(cos, -sin, zero, sin, cos, zero)


def copy_pixels(images: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Images `[N, C, H, W]` whose every pixel is the one nearest to where `matrix` takes it.

    For maps that take pixels to pixels: flips, quarter turns of square images, whole steps.
    """
    _, _, height, width = images.shape
    x, y = _places(matrix, height, width)
    pixel = _reflected(y.round(), height) * width + _reflected(x.round(), width)  # [N, H, W]
    return _gathered(images, pixel.unsqueeze(1))[:, :, 0]


def warp(images: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Images `[N, C, H, W]` seen through `matrix`, with bilinear interpolation between pixels.

    Where an image shrinks it is low-passed first (`low_passed`).
    """
    _, _, height, width = images.shape
    x, y = _places(matrix, height, width)
    left, top = x.floor(), y.floor()
    columns = ((_reflected(left, width), 1 - (x - left)), (_reflected(left + 1, width), x - left))
    rows = ((_reflected(top, height), 1 - (y - top)), (_reflected(top + 1, height), y - top))
    pixel = torch.stack([row * width + column for row, _ in rows for column, _ in columns], 1)
    weight = torch.stack([down * across for _, down in rows for _, across in columns], 1)
    taps = _gathered(low_passed(images, matrix), pixel)  # [N, C, 4, H, W]
    return (taps * weight.unsqueeze(1)).sum(2)


def low_passed(images: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Images `[N, C, H, W]` without the detail that would alias when `matrix` shrinks them.

    A pixel of the result covers a parallelogram of the image; along x it spreads with variance
    (m_xx^2 + m_xy^2) / 12, where a pixel's own is 1/12. What is more than that is made up by three
    taps (a, 1 - 2a, a) of variance 2a; likewise along y. Turned, moved and enlarged images stay
    sharp. With a <= 1/4, which shrinking by 2.6 reaches, the taps pass every frequency with its
    sign.
    """
    spread = matrix[:, :2, :2].square().sum(2)  # [N, 2], of x and of y
    share = ((spread - 1) / 24).clamp(0, 1 / 4)[:, :, None, None, None]
    left = torch.cat([images[..., :1], images[..., :-1]], 3)
    right = torch.cat([images[..., 1:], images[..., -1:]], 3)
    images = images + share[:, 0] * (left + right - 2 * images)
    above = torch.cat([images[..., :1, :], images[..., :-1, :]], 2)
    below = torch.cat([images[..., 1:, :], images[..., -1:, :]], 2)
    return images + share[:, 1] * (above + below - 2 * images)


def _matrix(*entries: torch.Tensor) -> torch.Tensor:
    """The two upper rows given, each entry `[N]`, and the lower row (0, 0, 1) as `[N, 3, 3]`."""
    zero, one = torch.zeros_like(entries[0]), torch.ones_like(entries[0])
    return torch.stack([*entries, zero, zero, one], 1).view(-1, 3, 3)


def _places(matrix: torch.Tensor, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Columns and rows `[N, H, W]` in the image, in fractions of pixels, that the result shows."""
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    x = torch.arange(width, device=matrix.device) - middle_x  # [W]
    y = (torch.arange(height, device=matrix.device) - middle_y)[:, None]  # [H, 1]
    m = matrix[:, :, :, None, None]  # so that each entry is [N, 1, 1]
    return (
        m[:, 0, 0] * x + m[:, 0, 1] * y + (m[:, 0, 2] + middle_x),
        m[:, 1, 0] * x + m[:, 1, 1] * y + (m[:, 1, 2] + middle_y),
    )


def _reflected(index: torch.Tensor, size: int) -> torch.Tensor:
    """Whole numbers, of any dtype, as int64 in 0..size-1."""
    index = index.long() % (2 * size)
    return torch.minimum(index, 2 * size - 1 - index)


def _gathered(images: torch.Tensor, pixel: torch.Tensor) -> torch.Tensor:
    """The pixels `[N, C, K, H, W]` of `images` at `pixel` `[N, K, H, W]`, row * width + column."""
    count, channels, height, width = images.shape
    index = pixel.reshape(count, 1, -1).expand(count, channels, -1)
    return images.flatten(2).gather(2, index).view(count, channels, -1, height, width)
