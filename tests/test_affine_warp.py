"""Warps by gathering against numpy's padding and turning, and against pixel-by-pixel loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from playfield.generative.affine_warp import (
    copy_pixels,
    low_passed,
    rotation,
    scaling,
    translation,
    warp,
)


def pictures(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.rand(shape, generator=generator, dtype=dtype) * 2 - 1


def row(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float32)


def mirrored_pixel(image: np.ndarray, y: int, x: int) -> np.ndarray:
    """The pixel `[C]` at any place, in tiles of images that mirror each other."""
    _, height, width = image.shape
    tile_y, in_y = divmod(y, height)
    tile_x, in_x = divmod(x, width)
    return image[
        :, height - 1 - in_y if tile_y % 2 else in_y, width - 1 - in_x if tile_x % 2 else in_x
    ]


def warped_by_loops(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """`[C, H, W]`, without a low pass."""
    _, height, width = image.shape
    result = np.empty_like(image)
    for y in range(height):
        for x in range(width):
            offset = np.array([x - (width - 1) / 2, y - (height - 1) / 2, 1.0])
            px, py, _ = matrix @ offset + np.array([(width - 1) / 2, (height - 1) / 2, 0])
            left, top = math.floor(px), math.floor(py)
            fx, fy = px - left, py - top
            result[:, y, x] = (
                (1 - fy) * (1 - fx) * mirrored_pixel(image, top, left)
                + (1 - fy) * fx * mirrored_pixel(image, top, left + 1)
                + fy * (1 - fx) * mirrored_pixel(image, top + 1, left)
                + fy * fx * mirrored_pixel(image, top + 1, left + 1)
            )
    return result


def test_the_unit_map_returns_the_image_bit_for_bit():
    images = pictures(2, 3, 5, 8)
    unit = torch.eye(3).repeat(2, 1, 1)
    assert torch.equal(warp(images, unit), images)
    assert torch.equal(copy_pixels(images, unit), images)


@pytest.mark.parametrize("quarters", [-1, 1, 2, 3])
@pytest.mark.parametrize("side", [5, 8])
def test_a_rotation_by_quarters_is_the_array_turned(quarters, side):
    images = pictures(2, 3, side, side)
    matrix = rotation(row(quarters * math.pi / 2)).repeat(2, 1, 1)
    turned = torch.rot90(images, quarters, (2, 3))
    assert torch.equal(copy_pixels(images, matrix), turned)
    torch.testing.assert_close(warp(images, matrix), turned, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(6, 6), (3, 7), (1, 4)])
@pytest.mark.parametrize(("down", "right"), [(0, 2), (-1, 0), (5, -11), (-20, 17)])
def test_whole_steps_show_numpys_symmetric_padding(height, width, down, right):
    images = pictures(1, 2, height, width)
    matrix = translation(row(-right), row(-down))
    padded = np.pad(images[0].numpy(), ((0, 0), (20, 20), (20, 20)), mode="symmetric")
    expected = padded[:, 20 - down : 20 - down + height, 20 - right : 20 - right + width]
    np.testing.assert_array_equal(copy_pixels(images, matrix)[0].numpy(), expected)
    torch.testing.assert_close(warp(images, matrix)[0], torch.from_numpy(expected))


def test_mirroring_takes_the_columns_from_the_other_side():
    images = pictures(1, 1, 4, 7)
    assert torch.equal(copy_pixels(images, scaling(row(-1), row(1))), images.flip(3))


@pytest.mark.parametrize(("height", "width"), [(6, 6), (4, 9), (1, 5), (2, 1)])
def test_any_map_that_enlarges_is_bilinear_interpolation_pixel_by_pixel(height, width):
    images = pictures(6, 2, height, width)
    numbers = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    matrix = (
        scaling(torch.full((6,), 0.6), torch.full((6,), 0.8))
        @ rotation(numbers[0])
        @ translation(numbers[1] * width, numbers[2] * height)
    )
    changed = warp(images, matrix)
    for image, m, result in zip(images, matrix, changed, strict=True):
        expected = warped_by_loops(image.double().numpy(), m.double().numpy())
        np.testing.assert_allclose(result.numpy(), expected, atol=2e-5)


def test_an_image_that_is_not_shrunk_passes_unfiltered():
    images = pictures(3, 2, 5, 6)
    maps = torch.cat(
        [rotation(row(math.pi / 2)), translation(row(0.3), row(-2.6)), scaling(row(0.5), row(1))]
    )
    torch.testing.assert_close(low_passed(images, maps), images, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("shrinking", "share"), [(1.5, 1.25 / 24), (2.0, 3 / 24), (9.0, 1 / 4)])
def test_shrinking_spreads_a_dot_by_the_variance_that_its_pixels_lack(shrinking, share):
    dot = torch.zeros(1, 1, 7, 9)
    dot[0, 0, 3, 4] = 1
    across = low_passed(dot, scaling(row(shrinking), row(1)))
    taps = row(0, 0, 0, share, 1 - 2 * share, share, 0, 0, 0)
    torch.testing.assert_close(across[0, 0, 3], taps)
    assert across.sum() == pytest.approx(1)
    both = low_passed(dot, scaling(row(shrinking), row(shrinking)))
    torch.testing.assert_close(both[0, 0], torch.outer(taps[1:8], taps))


def test_a_low_pass_leaves_a_flat_image_flat_up_to_its_border():
    flat = torch.full((1, 1, 3, 4), 0.7)
    torch.testing.assert_close(low_passed(flat, scaling(row(2), row(3))), flat)


def test_a_fine_checkerboard_that_shrinks_by_two_turns_grey_instead_of_aliasing():
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 2.0 - 1
    # Without the filter every second pixel would be taken: all white or all black.
    every_second = translation(row(0.5), row(0.5)) @ scaling(row(2), row(2))
    inside = warp(board[None, None], every_second)[..., 4:11, 4:11]  # not the reflections
    torch.testing.assert_close(inside.abs(), torch.full_like(inside, 1 / 2 * 1 / 2))


def test_the_gradient_is_the_adjoint_and_has_a_gradient_itself():
    images = pictures(2, 2, 3, 4, dtype=torch.float64).requires_grad_()
    matrix = scaling(row(1.4, 0.7), row(0.9, 1.3)) @ rotation(row(0.4, -2.0))
    matrix = matrix @ translation(row(0.7, -3.2), row(0.1, 1.9))
    assert torch.autograd.gradcheck(lambda x: warp(x, matrix), images)
    assert torch.autograd.gradgradcheck(lambda x: warp(x, matrix).tanh(), images)
    whole = translation(row(1, -2), row(0, 3))
    assert torch.autograd.gradgradcheck(lambda x: copy_pixels(x, whole).tanh(), images)


@pytest.mark.gpu
def test_an_accelerator_warps_alike():
    images, matrix = pictures(2, 3, 8, 8), rotation(row(0.3, 2.0)) @ scaling(row(1.5, 1), row(1, 2))
    there = warp(images.cuda(), matrix.cuda())
    torch.testing.assert_close(there.cpu(), warp(images, matrix), atol=1e-5, rtol=0)
