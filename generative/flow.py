"""Flow matching along straight lines (Lipman et al. 2023, the conditional optimal-transport path).

**Time runs from noise to data**: `x_t = t image + (1 - t) noise`, noise at t = 0 and the image at
t = 1, and the network learns `v = dx/dt = image - noise`. (Stable Diffusion 3 and others count the
other way round.) In the samplers' coordinates x_t is `t x` at `sigma = (1 - t) / t`, so
`t = 1 / (1 + sigma)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch

from playfield.errors import UserError
from playfield.generative.denoiser_config import DenoiserConfig
from playfield.generative.objective import (
    Denoiser,
    Draw,
    Family,
    Losses,
    Network,
    Objective,
    Velocity,
)
from playfield.generative.parametrisation import image_from
from playfield.generative.teacher import Teacher

#: Draws keep this distance from t = 0 and t = 1, one step of float32 below 1: sigma, and its
#: logarithm, are finite there.
EDGE = 2.0**-24
#: The network's number for time t is this times t: embeddings are made for a thousand steps.
LEVELS = 1000.0

TimeDistribution = Literal["uniform", "logit-normal"]


def sigma_at(t: torch.Tensor) -> torch.Tensor:
    """`(1 - t) / t`: infinite at t = 0."""
    return (1 - t) / t


def time_at(sigma: torch.Tensor) -> torch.Tensor:
    """`1 / (1 + sigma)`: 0 for an infinite sigma."""
    return 1 / (1 + sigma)


@dataclass(frozen=True)
class Flow(Objective):
    """A flow and its training; times are t."""

    time_distribution: TimeDistribution = "uniform"  # of t in training
    logit_mean: float = (
        0.0  # of log(t / (1 - t)) if that is normal (Esser et al. 2024, section 3.1)
    )
    logit_std: float = 1.0
    sigma_min: float = 0.002  # for samplers in sigma; those in t go from 0 to 1
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        if self.time_distribution not in ("uniform", "logit-normal"):
            raise ValueError(
                "Flow: time_distribution must be uniform or logit-normal, not "
                f"{self.time_distribution!r}"
            )
        if not math.isfinite(self.logit_mean):
            raise UserError(f"logit_mean has to be a finite number, not {self.logit_mean}.")
        if not 0 < self.logit_std < math.inf:
            raise UserError(f"logit_std has to be more than 0, not {self.logit_std}.")
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError("Flow: sigma_min and sigma_max must be finite, rising and above 0")

    @property
    def family(self) -> Family:
        return "flow"

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Draw:
        device = generator.device
        if self.time_distribution == "uniform":
            t = torch.rand(shape[0], generator=generator, device=device)
        else:
            normal = torch.randn(shape[0], generator=generator, device=device)
            t = (normal * self.logit_std + self.logit_mean).sigmoid()
        noise = torch.randn(shape, generator=generator, device=device)
        return Draw(noise, t.clamp(EDGE, 1 - EDGE))

    def judge(
        self,
        network: Network,
        images: torch.Tensor,
        label: torch.Tensor,
        augment: torch.Tensor | None,
        draw: Draw,
    ) -> Losses:
        t = draw.time[:, None, None, None]
        x = t * images + (1 - t) * draw.noise
        velocity = self.velocity(network, augment)(x, draw.time, label)
        error = (velocity - (images - draw.noise)).square().mean((1, 2, 3))
        return Losses(error, sigma_at(draw.time))

    def velocity(self, network: Network, augment: torch.Tensor | None = None) -> Velocity:
        """The network as dx/dt, at every t from 0 to 1, both included."""

        def velocity(x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            return network(x, LEVELS * t, label, augment)

        return velocity

    def denoiser(self, network: Network, augment: torch.Tensor | None = None) -> Denoiser:
        """The network as a denoiser, at every finite sigma.

        t = 0, where sigma is infinite and an x in these coordinates with it, is for `velocity`.
        """
        velocity = self.velocity(network, augment)

        def denoise(x: torch.Tensor, sigma: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            t = time_at(sigma)
            alpha = t[:, None, None, None]
            remaining = (sigma * t)[:, None, None, None]  # 1 - t, without its rounding near 1
            x_t = alpha * x
            return image_from("velocity", velocity(x_t, t, label), x_t, alpha, remaining)

        return denoise


@dataclass(frozen=True)
class FlowObjectiveConfig:
    """What a flow learns."""

    time_distribution: TimeDistribution = "uniform"
    """How often which moments between noise and image are seen in training; logit-normal: those in
    the middle more often."""
    logit_mean: float = 0.0
    """Mean of log(t / (1 - t)) for logit-normal; above 0: closer to the image."""
    logit_std: float = 1.0
    """Its standard deviation."""

    def __post_init__(self) -> None:
        self.build()  # raises UserError for what makes no sense

    def build(self) -> Flow:
        """The objective with these settings."""
        return Flow(self.time_distribution, self.logit_mean, self.logit_std)


@dataclass(frozen=True)
class FlowConfig(DenoiserConfig):
    """A flow's settings. Steps are images."""

    objective: FlowObjectiveConfig = field(default_factory=FlowObjectiveConfig)
    """What it learns."""

    def build_objective(self, std: float, teacher: Teacher | None) -> Objective:
        return self.objective.build()
