"""Resizing for trained networks, held against Pillow and a naive TensorFlow 1."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peer_modules import torch_fidelity_module
from PIL import Image

from playfield.errors import UserError
from playfield.evaluation.resize import as_rgb, bicubic, tensorflow_bilinear


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    ("shape", "size"), [((8, 8), 299), ((32, 32), 224), ((128, 96), 64), ((21, 160), 24)]
)
def test_bicubic_is_pillows_in_floats(shape: tuple[int, int], size: int) -> None:
    image = noise(*shape)
    resized = bicubic(torch.from_numpy(image)[None, None].float(), size)[0, 0]
    expected = Image.fromarray(image.astype(np.float32), mode=None).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    np.testing.assert_allclose(resized.numpy(), np.asarray(expected), atol=2e-3)  # of 255


def test_bicubic_neither_rounds_nor_clips() -> None:
    step = torch.zeros(1, 1, 8, 8)
    step[..., 4:] = 255
    resized = bicubic(step, 32)
    assert resized.min() < 0 and resized.max() > 255
    assert (resized != resized.round()).any()


def test_shrinking_a_fine_chequerboard_gives_grey() -> None:
    """Without a filter as wide as the shrinking it would give black or white."""
    y, x = np.indices((64, 64))
    board = torch.from_numpy(((y + x) % 2 * 255).astype(np.float32))[None, None]
    inner = bicubic(board, 8)[..., 2:-2, 2:-2]
    assert (inner - 127.5).abs().max() < 1


def test_resizing_to_the_same_size_changes_nothing() -> None:
    image = torch.from_numpy(noise(1, 3, 9, 9)).float()
    torch.testing.assert_close(bicubic(image, 9), image)
    assert torch.equal(tensorflow_bilinear(image, 9), image)


def test_grey_is_repeated_and_rgb_stays() -> None:
    grey = torch.from_numpy(noise(2, 1, 4, 4))
    assert all(torch.equal(as_rgb(grey)[:, channel], grey[:, 0].float()) for channel in range(3))
    rgb = torch.from_numpy(noise(2, 3, 4, 4))
    assert torch.equal(as_rgb(rgb), rgb.float())


@pytest.mark.parametrize("channels", [2, 4])
def test_other_numbers_of_channels_are_refused(channels: int) -> None:
    with pytest.raises(UserError, match=f"these have {channels} channels: use --features random"):
        as_rgb(torch.zeros(1, channels, 4, 4, dtype=torch.uint8))


@pytest.mark.parametrize(("side", "size"), [(2, 4), (8, 37), (40, 9)])
def test_tensorflows_bilinear_is_that_of_its_definition(side: int, size: int) -> None:
    image = noise(side, side).astype(np.float64)
    expected = np.empty((size, size))
    for row in range(size):
        for column in range(size):
            y, x = row * side / size, column * side / size
            top, left = math.floor(y), math.floor(x)
            low, right = min(top + 1, side - 1), min(left + 1, side - 1)
            upper = image[top, left] * (1 - (x - left)) + image[top, right] * (x - left)
            lower = image[low, left] * (1 - (x - left)) + image[low, right] * (x - left)
            expected[row, column] = upper * (1 - (y - top)) + lower * (y - top)
    resized = tensorflow_bilinear(torch.from_numpy(image)[None, None].float(), size)
    np.testing.assert_allclose(resized[0, 0].numpy(), expected, atol=2e-3)


def test_tensorflows_bilinear_is_torch_fidelitys() -> None:
    module = torch_fidelity_module("interpolate_compat_tensorflow")
    image = torch.from_numpy(noise(1, 3, 37, 50)).float()
    expected = module.interpolate_bilinear_2d_like_tensorflow1x(
        image, size=(299, 299), align_corners=False
    )
    torch.testing.assert_close(tensorflow_bilinear(image, 299), expected, atol=1e-3, rtol=0)
