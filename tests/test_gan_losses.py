"""The adversarial losses against numbers worked out by hand and their gradients."""

from __future__ import annotations

import math

import pytest
import torch

from playfield.generative.gan_losses import LOSSES

REAL = torch.tensor([0.5, -2.0], dtype=torch.float64)
FAKE = torch.tensor([-1.0, 3.0], dtype=torch.float64)


def softplus(x: float) -> float:
    return math.log(1 + math.exp(x))


#: The loss of each pair above: discriminator, generator.
BY_HAND = {
    "non-saturating": (
        [softplus(-0.5) + softplus(-1), softplus(2) + softplus(3)],
        [softplus(1), softplus(-3)],
    ),
    "hinge": ([0.5 + 0, 3 + 4], [1, -3]),
    "wasserstein": ([-1.5, 5], [1, -3]),
    "least-squares": ([(0.25 + 1) / 2, (9 + 9) / 2], [4 / 2, 4 / 2]),
    "relativistic": ([softplus(-1.5), softplus(5)], [softplus(1.5), softplus(-5)]),
}


def gradient(loss, real: float, fake: float) -> tuple[float, float]:
    """By the logit of a real and by that of a painted image, in float32."""
    logits = torch.tensor([[real], [fake]], requires_grad=True)
    loss(*logits).sum().backward()
    return float(logits.grad[0]), float(logits.grad[1])


def test_the_losses_are_these() -> None:
    assert set(LOSSES) == set(BY_HAND)
    assert [name for name, loss in LOSSES.items() if loss.relativistic] == ["relativistic"]


@pytest.mark.parametrize("name", BY_HAND)
def test_each_image_has_the_loss_worked_out_by_hand(name: str) -> None:
    discriminator, generator = BY_HAND[name]
    loss = LOSSES[name]
    assert loss.name == name
    assert loss.discriminator(REAL, FAKE).tolist() == pytest.approx(discriminator, rel=1e-12)
    assert loss.generator(REAL, FAKE).tolist() == pytest.approx(generator, rel=1e-12)


@pytest.mark.parametrize("name", BY_HAND)
def test_only_a_relativistic_generator_looks_at_real_images(name: str) -> None:
    loss = LOSSES[name]
    same = torch.equal(loss.generator(REAL, FAKE), loss.generator(-REAL, FAKE))
    assert same != loss.relativistic


@pytest.mark.parametrize("name", BY_HAND)
def test_the_players_pull_a_painted_image_in_opposite_directions(name: str) -> None:
    loss = LOSSES[name]
    for fake in (-0.7, 0.2):  # between the goals of both in every loss
        assert gradient(loss.discriminator, 0.1, fake)[0] < 0 or name == "relativistic"
        assert gradient(loss.generator, 0.1, fake)[1] < 0
        down = gradient(loss.discriminator, 0.1, fake)[1]
        assert down > 0 or (name == "least-squares" and fake < 0)


@pytest.mark.parametrize("name", ["non-saturating", "relativistic"])
def test_a_generator_that_is_seen_through_has_its_whole_gradient(name: str) -> None:
    """`log(sigmoid(x) + 1e-8)` has a gradient of about 0 at -100: the sigmoid is 4e-44 there."""
    assert gradient(LOSSES[name].generator, 0.0, -100.0)[1] == -1.0
    assert float(LOSSES[name].generator(torch.zeros(1), torch.tensor([-100.0]))) == 100.0


@pytest.mark.parametrize("name", ["non-saturating", "relativistic"])
def test_a_discriminator_that_is_deceived_has_its_whole_gradient(name: str) -> None:
    real, fake = gradient(LOSSES[name].discriminator, -100.0, 100.0)
    assert (real, fake) == (-1.0, 1.0)


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("size", [-1e4, 1e4])
def test_losses_of_enormous_logits_are_finite(name: str, size: float) -> None:
    for player in (LOSSES[name].discriminator, LOSSES[name].generator):
        assert math.isfinite(float(player(torch.tensor([size]), torch.tensor([-size]))))
        assert all(map(math.isfinite, gradient(player, size, -size)))


def test_the_hinge_leaves_alone_what_is_beyond_the_margin_and_never_the_generator() -> None:
    hinge = LOSSES["hinge"]
    assert gradient(hinge.discriminator, 1.5, -1.5) == (0.0, 0.0)
    assert gradient(hinge.discriminator, 0.5, -0.5) == (-1.0, 1.0)
    for fake in (-50.0, -1.5, 0.0, 1.5, 50.0):
        assert gradient(hinge.generator, 0.0, fake)[1] == -1.0


def test_relativistic_images_are_compared_index_by_index() -> None:
    loss = LOSSES["relativistic"].discriminator
    pairs = [float(loss(REAL[i : i + 1], FAKE[i : i + 1])) for i in range(2)]
    assert loss(REAL, FAKE).tolist() == pairs
    assert loss(REAL.flip(0), FAKE.flip(0)).tolist() == pairs[::-1]
    assert loss(REAL, FAKE.flip(0)).sum() != pytest.approx(sum(pairs), rel=0.01)


def test_relativistic_players_have_each_others_loss_with_the_roles_exchanged() -> None:
    loss = LOSSES["relativistic"]
    assert torch.equal(loss.generator(REAL, FAKE), loss.discriminator(FAKE, REAL))
    for player in (loss.discriminator, loss.generator):
        equal = player(REAL, REAL).tolist()
        assert equal == pytest.approx([math.log(2)] * 2, rel=1e-15)
    # What both logits have in common says nothing.
    assert (
        loss.discriminator(REAL + 8, FAKE + 8).tolist() == loss.discriminator(REAL, FAKE).tolist()
    )
