"""The diffusion model of Karras et al. 2022 (EDM): its parts, and the whole.

Symbols, equations and defaults are those of the paper's table 1. `sigma` has any shape, in any
float type, and so has what the functions here make of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from playfield.errors import UserError
from playfield.generative.objective import Denoiser, Draw, Family, Losses, Network, Objective


class Preconditioning(NamedTuple):
    """`D(x; sigma) = skip x + out F(in_ x; noise)`, with network F and denoiser D."""

    skip: torch.Tensor
    out: torch.Tensor
    in_: torch.Tensor
    noise: torch.Tensor


def preconditioning(sigma: torch.Tensor, sigma_data: float) -> Preconditioning:
    """Factors by which what enters F, and what F should say, have variance 1 at every sigma.

    At sigma = 0 they are 1, 0, 1 / sigma_data and a finite number: there D is the identity.
    """
    total = sigma.square() + sigma_data**2
    return Preconditioning(
        skip=sigma_data**2 / total,
        out=sigma * sigma_data / total.sqrt(),
        in_=1 / total.sqrt(),
        noise=sigma.clamp(min=torch.finfo(sigma.dtype).tiny).log() / 4,
    )


def loss_weight(sigma: torch.Tensor, sigma_data: float) -> torch.Tensor:
    """Weight of D's squared error, the inverse square of `out`: F's error counts alike."""
    return (sigma.square() + sigma_data**2) / (sigma * sigma_data).square()


def log_normal_sigma(
    count: int, p_mean: float, p_std: float, generator: torch.Generator
) -> torch.Tensor:
    """float32 `[count]` whose logarithm is normal, on the generator's device."""
    normal = torch.randn(count, generator=generator, device=generator.device)
    return (normal * p_std + p_mean).exp()


@dataclass(frozen=True)
class EDM(Objective):
    """EDM's denoiser and its training; times are sigmas."""

    sigma_data: float = 0.5  # standard deviation of the images, in [-1, 1]
    p_mean: float = -1.2  # of log(sigma) in training
    p_std: float = 1.2
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        for name in ("sigma_data", "p_std", "sigma_min"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{name} has to be more than 0, not {getattr(self, name)}.")
        if not math.isfinite(self.p_mean):
            raise UserError(f"p_mean has to be a finite number, not {self.p_mean}.")
        if not self.sigma_min < self.sigma_max < math.inf:
            raise UserError(
                f"sigma_max has to be more than sigma_min={self.sigma_min}, not {self.sigma_max}."
            )

    @property
    def family(self) -> Family:
        return "edm"

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Draw:
        sigma = log_normal_sigma(shape[0], self.p_mean, self.p_std, generator)
        return Draw(torch.randn(shape, generator=generator, device=generator.device), sigma)

    def judge(
        self,
        network: Network,
        images: torch.Tensor,
        label: torch.Tensor,
        augment: torch.Tensor | None,
        draw: Draw,
    ) -> Losses:
        sigma = draw.time
        x = images + sigma[:, None, None, None] * draw.noise
        denoised = self.denoiser(network, augment)(x, sigma, label)
        error = (denoised - images).square().mean((1, 2, 3))
        return Losses(loss_weight(sigma, self.sigma_data) * error, sigma)

    def denoiser(self, network: Network, augment: torch.Tensor | None = None) -> Denoiser:
        def denoise(x: torch.Tensor, sigma: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            c = preconditioning(sigma[:, None, None, None], self.sigma_data)
            return c.skip * x + c.out * network(c.in_ * x, c.noise.flatten(), label, augment)

        return denoise
