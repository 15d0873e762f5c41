"""Diffusion in discrete steps (Ho et al. 2020), predicting the noise, the image, or v.

The network sees `x_t = alpha image + s noise` with `alpha² + s² = 1`, and the step as a number
between 0 and T-1. It is trained at whole steps. Samplers ask its denoiser at any sigma; between two
steps that shows it a fraction which grows with log(sigma), and an embedding of the step is smooth
enough for that. At a step's own sigma the number is that step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from playfield.errors import UserError
from playfield.generative.noise_schedules import (
    DiscreteSchedule,
    ScheduleName,
    min_snr_weight,
    schedule_on,
)
from playfield.generative.objective import Denoiser, Draw, Family, Losses, Network, Objective
from playfield.generative.parametrisation import image_from, target


@dataclass(frozen=True)
class DDPM(Objective):
    """A DDPM and its training; times are steps, int64."""

    prediction: Literal["eps", "x0", "v"] = "eps"
    noise_schedule: ScheduleName = "linear"
    timesteps: int = 1000
    min_snr: float | None = None  # gamma of min-SNR weights; None: the plain squared error
    zero_terminal_snr: bool = False  # the last step is pure noise

    def __post_init__(self) -> None:
        self.tables(torch.device("cpu"))  # raises UserError for a number of steps too small
        if self.min_snr is not None and not self.min_snr > 0:
            raise UserError(f"min_snr has to be more than 0, not {self.min_snr}.")
        if self.zero_terminal_snr and self.prediction == "eps":
            raise UserError(
                "zero_terminal_snr cannot be used with the prediction eps: noise says nothing of "
                "the image where nothing is left of it; predict v or x0."
            )

    @property
    def family(self) -> Family:
        return "ddpm"

    def tables(self, device: torch.device) -> DiscreteSchedule:
        """The tables of this model's steps."""
        return schedule_on(device, self.noise_schedule, self.timesteps, self.zero_terminal_snr)

    @property
    def sigmas(self) -> torch.Tensor:
        """The levels that samplers step along, float64, rising: each step's that is finite."""
        schedule = self.tables(torch.device("cpu"))
        return schedule.sigma if schedule.has_terminal_signal else schedule.sigma[:-1]

    @property
    def sigma_min(self) -> float:
        return float(self.sigmas[0])

    @property
    def sigma_max(self) -> float:
        return float(self.sigmas[-1])

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Draw:
        device = generator.device
        step = torch.randint(self.timesteps, shape[:1], generator=generator, device=device)
        return Draw(torch.randn(shape, generator=generator, device=device), step)

    def judge(
        self,
        network: Network,
        images: torch.Tensor,
        label: torch.Tensor,
        augment: torch.Tensor | None,
        draw: Draw,
    ) -> Losses:
        schedule = self.tables(images.device)
        step = draw.time
        alpha_bar = schedule.alpha_bar[step, None, None, None]
        alpha, s = alpha_bar.sqrt().to(images.dtype), (1 - alpha_bar).sqrt().to(images.dtype)
        predicted = network(alpha * images + s * draw.noise, step.float(), label, augment)
        wanted = target(self.prediction, images, draw.noise, alpha, s)
        loss = (predicted - wanted).square().mean((1, 2, 3))
        if self.min_snr is not None:
            weight = min_snr_weight(self.prediction, schedule.snr[step], self.min_snr)
            loss = weight.to(loss.dtype) * loss
        return Losses(loss, schedule.sigma_of(step))

    def denoiser(self, network: Network, augment: torch.Tensor | None = None) -> Denoiser:
        def denoise(x: torch.Tensor, sigma: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            level = self.tables(x.device).index_of(sigma)
            alpha = 1 / (1 + sigma.square()).sqrt()[:, None, None, None]
            s = sigma[:, None, None, None] * alpha
            predicted = network(alpha * x, level, label, augment)
            return image_from(self.prediction, predicted, alpha * x, alpha, s)

        return denoise
