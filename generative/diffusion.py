"""Diffusion as a user chooses it: EDM, or a DDPM of one kind or another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from playfield.errors import UserError
from playfield.generative.ddpm import DDPM
from playfield.generative.denoiser_config import DenoiserConfig
from playfield.generative.edm import EDM
from playfield.generative.noise_schedules import ScheduleName
from playfield.generative.objective import Objective
from playfield.generative.teacher import Teacher


@dataclass(frozen=True)
class DiffusionObjectiveConfig:
    """What a diffusion model learns."""

    parametrisation: Literal["edm", "eps", "x0", "v"] = "edm"
    """What the network predicts: edm, Karras et al.'s mixture of image and noise; or a DDPM's noise
    (eps), image (x0) or v."""
    noise_schedule: ScheduleName = "linear"
    """A DDPM's noise, step by step."""
    timesteps: int = 1000
    """A DDPM's number of steps."""
    zero_terminal_snr: bool = False
    """Let a DDPM's last step be pure noise; not with eps."""
    min_snr: float | None = None
    """Signal-to-noise ratio above which a DDPM's image errors count no more (5 in the paper on
    min-SNR weights); None: the plain squared error."""
    p_mean: float = -1.2
    """Mean of log(sigma) that EDM trains at."""
    p_std: float = 1.2
    """Its standard deviation."""
    sigma_data: float | None = 0.5
    """Standard deviation of the images in [-1, 1], for EDM; None: as measured from the data."""

    def __post_init__(self) -> None:
        self.build(measured_sigma_data=0.5)  # raises UserError for what makes no sense

    def build(self, measured_sigma_data: float | None = None) -> EDM | DDPM:
        """The objective with these settings.

        Raises `ValueError` if sigma_data is to be measured and was not.
        """
        if self.parametrisation != "edm":
            return DDPM(
                self.parametrisation,
                self.noise_schedule,
                self.timesteps,
                self.min_snr,
                self.zero_terminal_snr,
            )
        if self.min_snr is not None or self.zero_terminal_snr:
            raise UserError(
                "min_snr and zero_terminal_snr are settings of a DDPM; choose the parametrisation "
                "v or x0, or leave them out."
            )
        sigma_data = measured_sigma_data if self.sigma_data is None else self.sigma_data
        if sigma_data is None:
            raise ValueError("DiffusionObjectiveConfig: sigma_data=None needs a measured one")
        return EDM(sigma_data, self.p_mean, self.p_std)


@dataclass(frozen=True)
class DiffusionConfig(DenoiserConfig):
    """A diffusion model's settings. Steps are images."""

    objective: DiffusionObjectiveConfig = field(default_factory=DiffusionObjectiveConfig)
    """What it learns."""

    def build_objective(self, std: float, teacher: Teacher | None) -> Objective:
        return self.objective.build(measured_sigma_data=std)
