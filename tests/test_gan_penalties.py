"""Penalties on a discriminator's slope where the slope is known, and lazy regularisation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from playfield.generative.gan_penalties import (
    LazyRegularisation,
    interpolated,
    squared_gradient,
    unit_gradient,
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def asked(*shape: int) -> torch.Tensor:
    """Images that a penalty can be taken at."""
    return noise(*shape).requires_grad_()


@pytest.mark.parametrize("batch", [1, 3, 16])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 1), (3, 8, 8), (1, 5, 12)])
def test_a_linear_discriminator_costs_its_squared_weights(
    batch: int, shape: tuple[int, ...]
) -> None:
    """For D(x) = w.x, R1 is gamma / 2 ||w||²: no mean over pixels, and no sum over the batch."""
    weight, images = noise(*shape, seed=1), asked(batch, *shape)
    penalty = squared_gradient((images * weight).sum((1, 2, 3)), images)
    norm = float(weight.square().sum())
    assert penalty.tolist() == pytest.approx([norm] * batch, rel=1e-12)
    gamma = 10.0
    assert float(gamma / 2 * penalty.mean()) == pytest.approx(5 * norm, rel=1e-12)
    unit = unit_gradient((images * weight).sum((1, 2, 3)), images)
    assert unit.tolist() == pytest.approx([(math.sqrt(norm) - 1) ** 2] * batch, rel=1e-12)


def test_a_quadratic_discriminator_costs_by_image() -> None:
    """For D(x) = a / 2 ||x||² the slope at x is a x."""
    a, images = 3.0, asked(4, 2, 3, 5)
    norm = images.detach().square().sum((1, 2, 3))
    logits = a / 2 * images.square().sum((1, 2, 3))
    assert torch.allclose(squared_gradient(logits, images), a**2 * norm, rtol=1e-12)
    assert torch.allclose(unit_gradient(logits, images), (a * norm.sqrt() - 1) ** 2, rtol=1e-12)


def test_the_penalty_of_linear_weights_pulls_them_to_zero_by_gamma() -> None:
    weight, images = noise(6, seed=1).requires_grad_(), asked(5, 6, 1, 1)
    gamma = 0.3
    (gamma / 2 * squared_gradient(images.flatten(1) @ weight, images).mean()).backward()
    assert weight.grad is not None
    assert torch.allclose(weight.grad, gamma * weight.detach(), rtol=1e-12)


def test_the_penalty_does_not_pull_the_generator() -> None:
    latent = asked(3, 2, 1, 1)
    images = interpolated(noise(3, 2, 1, 1, seed=1), latent.tanh(), torch.zeros(3))
    unit_gradient(images.square().sum((1, 2, 3)), images).sum().backward()
    assert latent.grad is None
    assert images.is_leaf and images.requires_grad


def small_discriminator() -> nn.Module:
    """Bent everywhere, and smooth so that differences converge."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(2, 3, 3, padding=1), nn.SiLU(), nn.Flatten(), nn.Linear(36, 4), nn.Tanh())
    return nn.Sequential(*layers, nn.Linear(4, 1), nn.Flatten(0)).double()


@pytest.mark.parametrize("penalty", [squared_gradient, unit_gradient])
def test_the_gradient_of_a_penalty_is_that_of_finite_differences(penalty) -> None:
    network, data = small_discriminator(), noise(3, 2, 3, 4, seed=2)

    def value() -> torch.Tensor:
        images = data.clone().requires_grad_()
        return penalty(network(images), images).mean()

    value().backward()
    step = 1e-5
    # The last bias adds the same to every logit: no slope depends on it.
    *bending, last = network.parameters()
    assert last.grad is None or float(last.grad) == 0
    for parameter in bending:
        assert parameter.grad is not None
        flat, gradient = parameter.data.view(-1), parameter.grad.view(-1)
        for index in range(0, len(flat), 7):
            kept = float(flat[index])
            flat[index] = kept + step
            above = float(value().detach())
            flat[index] = kept - step
            below = float(value().detach())
            flat[index] = kept
            expected = (above - below) / (2 * step)
            assert float(gradient[index]) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_where_there_is_no_slope_the_unit_penalty_is_one_and_has_a_finite_gradient() -> None:
    images, weight = asked(2, 3, 2, 2), torch.zeros((), dtype=torch.float64, requires_grad=True)
    penalty = unit_gradient(weight * images.sum((1, 2, 3)), images)
    assert penalty.tolist() == [1.0, 1.0]
    penalty.mean().backward()
    assert float(weight.grad) == 0.0


def test_interpolation_takes_one_share_for_each_pair() -> None:
    real, fake = noise(3, 2, 4, 5), noise(3, 2, 4, 5, seed=1)
    between = interpolated(real, fake, torch.tensor([1.0, 0.0, 0.25]))
    assert torch.equal(between[0], real[0])
    assert torch.equal(between[1], fake[1])
    assert torch.allclose(between[2], 0.25 * real[2] + 0.75 * fake[2], rtol=1e-14)


def test_images_nobody_asked_the_slope_at_are_refused() -> None:
    images = noise(2, 1, 2, 2)
    for penalty in (squared_gradient, unit_gradient):
        with pytest.raises(ValueError, match="images"):
            penalty(images.sum((1, 2, 3)), images)


def test_lazy_regularisation_has_the_constants_of_stylegan2() -> None:
    """Every 16 steps: c = 16/17, as its code has for a learning rate of 0.002 and betas 0, 0.99."""
    lazy = LazyRegularisation(16)
    assert lazy.learning_rate(0.002) == pytest.approx(0.0018823529411764706, rel=1e-15)
    beta1, beta2 = lazy.betas(0.0, 0.99)
    assert (beta1, beta2) == (0.0, pytest.approx(0.9905854573074332, rel=1e-12))


@pytest.mark.parametrize("interval", [1, 4, 16])
def test_lazy_regularisation_weighs_and_forgets_the_same_over_an_interval(interval: int) -> None:
    lazy = LazyRegularisation(interval)
    due = [lazy.is_due(step) for step in range(5 * interval)]
    assert due[0] and sum(due) == 5
    assert sum(lazy.factor * each for each in due) == len(due)
    # Of interval + 1 optimiser steps: as far, and as much left of old moments, as of `interval`.
    assert (interval + 1) * lazy.learning_rate(1e-3) == pytest.approx(interval * 1e-3)
    assert [beta ** (interval + 1) for beta in lazy.betas(0.5, 0.99)] == pytest.approx(
        [0.5**interval, 0.99**interval]
    )


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="interval=0"):
        LazyRegularisation(0)
