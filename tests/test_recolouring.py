"""Colours as affine maps against what they do to colours that everybody knows."""

from __future__ import annotations

import math

import pytest
import torch

from playfield.generative.recolouring import (
    brightened,
    brightening,
    colour_axes,
    contrasted,
    contrasting,
    hue_rotation,
    luma_flip,
    recoloured,
    saturated,
    saturating,
)


def pictures(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.rand(shape, generator=generator, dtype=dtype) * 2 - 1


def one(number: float) -> torch.Tensor:
    return torch.tensor([number])


def pixel(*colour: float) -> torch.Tensor:
    return torch.tensor(colour, dtype=torch.float32).view(1, -1, 1, 1)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_brightness_adds_and_contrast_multiplies_every_channel(channels):
    images, axes = pictures(1, channels, 3, 4), colour_axes(channels)
    torch.testing.assert_close(recoloured(images, brightening(one(0.3), axes)), images + 0.3)
    torch.testing.assert_close(recoloured(images, contrasting(one(1.7), axes)), images * 1.7)


def test_a_hue_turned_by_a_third_takes_red_to_green_and_green_to_blue():
    turn = hue_rotation(one(2 * math.pi / 3))
    red, green, blue = pixel(1, 0, 0), pixel(0, 1, 0), pixel(0, 0, 1)
    torch.testing.assert_close(recoloured(red, turn), green, atol=1e-6, rtol=0)
    torch.testing.assert_close(recoloured(green, turn), blue, atol=1e-6, rtol=0)
    grey = pixel(0.4, 0.4, 0.4)
    torch.testing.assert_close(recoloured(grey, hue_rotation(one(1.0))), grey)


def test_no_saturation_is_the_mean_of_the_channels_and_grey_has_none():
    images = pictures(1, 3, 4, 4)
    mean = images.mean(1, keepdim=True)
    torch.testing.assert_close(recoloured(images, saturating(one(0), 3)), mean.expand(-1, 3, 4, 4))
    doubled = recoloured(images, saturating(one(2), 3))
    torch.testing.assert_close(doubled, mean + 2 * (images - mean))
    grey = pictures(1, 1, 4, 4)
    torch.testing.assert_close(recoloured(grey, saturating(one(2), 1)), grey)


def test_a_luma_flip_takes_white_to_black_and_keeps_hue_and_saturation():
    images = pictures(1, 3, 4, 4)
    flipped = recoloured(images, luma_flip(one(1), 3))
    mean = images.mean(1, keepdim=True)
    torch.testing.assert_close(flipped.mean(1, keepdim=True), -mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(flipped + mean, images - mean, atol=1e-6, rtol=0)
    assert torch.equal(recoloured(images, luma_flip(one(0), 3)), images)
    grey = pictures(1, 1, 4, 4)
    assert torch.equal(recoloured(grey, luma_flip(one(1), 1)), -grey)


def test_a_product_of_maps_is_the_rightmost_first():
    images = pictures(1, 3, 4, 4)
    both = contrasting(one(2), 3) @ brightening(one(0.1), 3)
    torch.testing.assert_close(recoloured(images, both), 2 * (images + 0.1))


def test_each_image_has_its_own_numbers_about_its_own_mean():
    images, factor = pictures(3, 3, 4, 5), torch.tensor([0.0, 1.0, 1.5])
    for image, by, shown, faded, lit in zip(
        images,
        factor.tolist(),
        contrasted(images, factor),
        saturated(images, factor),
        brightened(images, factor),
        strict=True,
    ):
        mean = sum(image.flatten().tolist()) / 60
        torch.testing.assert_close(shown, (image - mean) * by + mean)
        for y in range(4):
            for x in range(5):
                grey = sum(image[:, y, x].tolist()) / 3
                torch.testing.assert_close(faded[:, y, x], (image[:, y, x] - grey) * by + grey)
        torch.testing.assert_close(lit, image + by)


def test_gradients_are_adjoints_and_have_gradients_themselves():
    images = pictures(2, 3, 2, 2, dtype=torch.float64).requires_grad_()
    numbers = torch.tensor([0.6, 1.4])
    matrix = hue_rotation(numbers) @ saturating(numbers, 3) @ brightening(numbers, 3)
    for change in (
        lambda x: recoloured(x, matrix),
        lambda x: saturated(x, numbers),
        lambda x: contrasted(x, numbers),
    ):
        assert torch.autograd.gradcheck(change, images)
        assert torch.autograd.gradgradcheck(lambda x, change=change: change(x).tanh(), images)
