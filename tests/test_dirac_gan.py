"""The Dirac-GAN of Mescheder et al. 2018: it converges with R1, and not without it.

The data are all 0, the generator paints one number theta, and the discriminator is D(x) = psi x.
At the only equilibrium (0, 0) the discriminator's loss has the mixed derivative a = f'(0) and the
generator's -a (a is 1/2 for the losses made of softplus and 1 for those that are linear there), and
a penalty of gamma / 2 ||slope||² adds gamma psi²/2. So a step of size h of gradient descent is, of
(psi, theta),

    simultaneous  [[1 - h gamma, -h a], [h a, 1]]
    alternating   the same, with the new psi in theta's row

whose eigenvalues, where they are complex, have the modulus sqrt(determinant).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from playfield.generative.gan_losses import LOSSES
from playfield.generative.gan_penalties import squared_gradient

STEP, GAMMA = 0.2, 0.5
STEPS, START = 120, 1e-3


@dataclass(frozen=True)
class DiracGAN:
    """Both players' gradients, by the project's own losses and penalty."""

    loss: str
    gamma: float = 0.0  # of R1, at the real image
    gamma_fake: float = 0.0  # of R2, at the painted one

    def discriminator_gradient(self, psi: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        psi = psi.clone()
        real = torch.zeros(1, 1, 1, 1, dtype=torch.float64, requires_grad=True)
        # R2's images would be cut off from the generator; here the Jacobian has to see theta.
        fake = theta.reshape(1, 1, 1, 1) + torch.zeros_like(real)
        logit_real, logit_fake = (psi * real).flatten(), (psi * fake).flatten()
        value = LOSSES[self.loss].discriminator(logit_real, logit_fake)
        value = value + self.gamma / 2 * squared_gradient(logit_real, real)
        value = value + self.gamma_fake / 2 * squared_gradient(logit_fake, fake)
        return torch.autograd.grad(value.sum(), psi, create_graph=True)[0]

    def generator_gradient(self, psi: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        theta = theta.clone()  # that psi was moved because of theta is not the generator's business
        value = LOSSES[self.loss].generator(0 * psi.reshape(1), (psi * theta).reshape(1))
        return torch.autograd.grad(value.sum(), theta, create_graph=True)[0]

    def step(self, players: torch.Tensor, alternating: bool) -> torch.Tensor:
        """One step of gradient descent of (psi, theta), with a graph."""
        psi, theta = players
        new_psi = psi - STEP * self.discriminator_gradient(psi, theta)
        seen = new_psi if alternating else psi
        return torch.stack([new_psi, theta - STEP * self.generator_gradient(seen, theta)])


@functools.cache
def play(game: DiracGAN, alternating: bool) -> NDArray[np.float64]:
    """Where the players are `[STEPS + 1, 2]`, from a start near the equilibrium on."""
    players = torch.tensor([0.0, START], dtype=torch.float64)
    places = [players]
    for _ in range(STEPS):
        players = game.step(players.requires_grad_(), alternating).detach()
        places.append(players)
    return torch.stack(places).detach().numpy()


def distances(game: DiracGAN, alternating: bool) -> NDArray[np.float64]:
    """From the equilibrium, as multiples of the start's `[STEPS + 1]`."""
    return np.linalg.norm(play(game, alternating), axis=1) / START


def linearised(slope: float, gamma: float, alternating: bool) -> NDArray[np.float64]:
    """The matrix of a step, by hand."""
    psi = [1 - STEP * gamma, -STEP * slope]
    seen = psi if alternating else [1, 0]
    return np.array([psi, [STEP * slope * seen[0], 1 + STEP * slope * seen[1]]])


def spectral_radius(slope: float, gamma: float, alternating: bool) -> float:
    """Of that matrix, by hand: the roots of z² - trace z + determinant."""
    exchange = (STEP * slope) ** 2
    if alternating:
        trace, determinant = 2 - STEP * gamma - exchange, 1 - STEP * gamma
    else:
        trace, determinant = 2 - STEP * gamma, 1 - STEP * gamma + exchange
    under_root = trace**2 / 4 - determinant
    if under_root < 0:
        return math.sqrt(determinant)
    return max(abs(trace / 2 + sign * math.sqrt(under_root)) for sign in (-1, 1))


#: The losses and their f'(0). Least squares has its targets at 0 and 1, and another equilibrium.
SLOPES = {"non-saturating": 0.5, "relativistic": 0.5, "hinge": 1.0, "wasserstein": 1.0}
games = pytest.mark.parametrize("loss", SLOPES)
orders = pytest.mark.parametrize("alternating", [False, True], ids=["at once", "in turn"])


@games
@orders
@pytest.mark.parametrize("gamma", [0.0, GAMMA, 4.0])
def test_the_linearised_step_has_the_spectral_radius_worked_out_by_hand(
    loss: str, gamma: float, alternating: bool
) -> None:
    game, equilibrium = DiracGAN(loss, gamma), torch.zeros(2, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(
        lambda players: game.step(players, alternating), equilibrium
    ).numpy()
    expected = linearised(SLOPES[loss], gamma, alternating)
    assert np.allclose(jacobian, expected, rtol=0, atol=1e-15)
    radius = max(abs(np.linalg.eigvals(jacobian)))
    assert radius == pytest.approx(spectral_radius(SLOPES[loss], gamma, alternating), rel=1e-12)
    if gamma:
        assert radius < 1
    else:
        divergent = math.sqrt(1 + (STEP * SLOPES[loss]) ** 2)
        assert radius == pytest.approx(1 if alternating else divergent, rel=1e-12)


@games
@orders
@pytest.mark.parametrize("gamma", [0.0, GAMMA])
def test_the_game_goes_where_its_linearisation_says(
    loss: str, gamma: float, alternating: bool
) -> None:
    matrix = linearised(SLOPES[loss], gamma, alternating)
    expected = np.linalg.matrix_power(matrix, STEPS) @ [0.0, START]
    end = play(DiracGAN(loss, gamma), alternating)[-1]
    assert np.linalg.norm(end - expected) < 0.01 * np.linalg.norm(expected)


@games
def test_without_a_penalty_simultaneous_descent_spirals_away(loss: str) -> None:
    found = distances(DiracGAN(loss), alternating=False)
    assert np.all(np.diff(found) > 0) and found[-1] > 1.5


@games
def test_without_a_penalty_alternating_descent_circles_for_ever(loss: str) -> None:
    found = distances(DiracGAN(loss), alternating=True)
    assert 0.8 < found.min() and found.max() < 1.2
    assert found[STEPS // 2 :].max() == pytest.approx(found[: STEPS // 2].max(), rel=0.01)


@games
@orders
def test_with_r1_the_game_ends_at_the_equilibrium(loss: str, alternating: bool) -> None:
    assert distances(DiracGAN(loss, GAMMA), alternating)[-1] < 0.05


def test_penalties_on_real_and_painted_images_damp_together() -> None:
    """R1 and R2 of gamma each, as R3GAN has them, are at the equilibrium R1 of twice the gamma."""
    game, equilibrium = DiracGAN("relativistic", GAMMA, GAMMA), torch.zeros(2, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(
        lambda players: game.step(players, False), equilibrium
    ).numpy()
    assert np.allclose(jacobian, linearised(0.5, 2 * GAMMA, False), rtol=0, atol=1e-15)
    assert distances(game, alternating=False)[-1] < 0.05
