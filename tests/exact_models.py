"""Models whose answers are known: data of one Gaussian, and of a mixture, each pixel by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from playfield.generative.model import DenoisingModel
from playfield.generative.objective import ImageSpec

Answer = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def pixelwise(level: torch.Tensor) -> torch.Tensor:
    return level.view(-1, 1, 1, 1)


@dataclass(frozen=True)
class Gaussian:
    """Pixels of N(mean, std^2), all independent."""

    std: float = 0.5
    mean: float = 0.0

    def denoiser(self, x: torch.Tensor, sigma: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        sigma = pixelwise(sigma)
        return self.mean + self.std**2 / (self.std**2 + sigma**2) * (x - self.mean)

    def velocity(self, x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Expected image less expected noise, given that t image + (1 - t) noise is x."""
        t = pixelwise(t)
        residual = (x - t * self.mean) / (t**2 * self.std**2 + (1 - t) ** 2)
        return self.mean + t * self.std**2 * residual - (1 - t) * residual


@dataclass(frozen=True)
class Mixture:
    """Pixels of a mixture of Gaussians, all independent."""

    weights: tuple[float, ...] = (0.3, 0.7)
    means: tuple[float, ...] = (-0.5, 0.4)
    stds: tuple[float, ...] = (0.2, 0.3)

    def _parts(self) -> list[torch.Tensor]:
        return [torch.tensor(v, dtype=torch.float64) for v in (self.weights, self.means, self.stds)]

    def denoiser(self, x: torch.Tensor, sigma: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        weights, means, stds = self._parts()
        x = x.double().unsqueeze(-1)
        variance = stds**2 + pixelwise(sigma).double().unsqueeze(-1) ** 2
        share = (weights.log() - variance.log() / 2 - (x - means) ** 2 / (2 * variance)).softmax(-1)
        return (share * (means + stds**2 / variance * (x - means))).sum(-1)

    def velocity(self, x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        weights, means, stds = self._parts()
        x, t = x.double().unsqueeze(-1), pixelwise(t).double().unsqueeze(-1)
        variance = t**2 * stds**2 + (1 - t) ** 2
        residual = x - t * means
        share = (weights.log() - variance.log() / 2 - residual**2 / (2 * variance)).softmax(-1)
        image = means + t * stds**2 / variance * residual
        return (share * (image - (1 - t) / variance * residual)).sum(-1)

    def cdf(self, x: torch.Tensor, sigma: float = 0.0) -> torch.Tensor:
        """The distribution function of a noisy pixel."""
        weights, means, stds = self._parts()
        spread = (stds**2 + sigma**2).sqrt()
        return (weights * torch.special.ndtr((x.unsqueeze(-1) - means) / spread)).sum(-1)

    def quantile(self, share: torch.Tensor) -> torch.Tensor:
        """Its inverse for clean pixels, by bisection.

        In one dimension a flow keeps the order of points, and with it their quantiles; so this is
        where the differential equation ends, exactly.
        """
        low, high = torch.full_like(share, -5.0), torch.full_like(share, 5.0)
        for _ in range(100):
            middle = (low + high) / 2
            below = self.cdf(middle) < share
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2


class Recorded:
    """A denoiser or velocity that writes down what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.levels: list[float] = []
        self.batches: list[int] = []

    def __call__(self, x: torch.Tensor, level: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        assert x.dtype == level.dtype == torch.float32 and label.dtype == torch.int64
        assert level.shape == label.shape == x.shape[:1]
        self.levels.append(level[0].item())
        self.batches.append(len(x))
        return self.answer(x, level, label)

    @property
    def calls(self) -> int:
        return len(self.levels)


def labels(count: int, label: int = -1) -> torch.Tensor:
    return torch.full((count,), label)


def linear_betas(length: int = 1000) -> torch.Tensor:
    """The schedule of Ho et al. 2020."""
    return torch.linspace(1e-4, 0.02, length, dtype=torch.float64)


def schedule(betas: torch.Tensor) -> torch.Tensor:
    """Noise levels sqrt(1 / alpha_bar - 1)."""
    return (1 / (1 - betas).cumprod(0) - 1).sqrt()


def painting(
    family: str = "edm",
    denoiser: Answer = Gaussian().denoiser,
    velocity: Answer | None = None,
    *,
    shape: tuple[int, int, int] = (1, 5, 7),
    classes: tuple[str, ...] = (),
    **more: object,
) -> DenoisingModel:
    """A model of a family that answers so."""
    sigmas = schedule(linear_betas()) if family == "ddpm" else None
    if family == "flow" and velocity is None:
        velocity = Gaussian().velocity
    return DenoisingModel(
        family=family,  # type: ignore[arg-type]
        spec=ImageSpec(*shape, classes),
        denoiser=denoiser,
        sigma_min=0.002 if sigmas is None else sigmas[0].item(),
        sigma_max=80.0 if sigmas is None else sigmas[-1].item(),
        velocity=velocity,
        sigmas=sigmas,
        **more,  # type: ignore[arg-type]
    )
