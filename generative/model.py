"""A model that is ready to paint: what sampling needs to know of it, whatever its family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Protocol

import torch

from playfield.errors import UserError
from playfield.generative.objective import Denoiser, Family, ImageSpec, Velocity


@dataclass(frozen=True, kw_only=True)
class PaintingModel(ABC):
    """A trained model, on its device and in evaluation mode: a `DenoisingModel` or a
    `GeneratorModel`."""

    spec: ImageSpec  # of the images it paints
    unconditional: bool = True  # it has learned to paint without a label too
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def conditional(self) -> bool:
        """Whether it paints what a label asks for."""
        return bool(self.spec.classes)

    @property
    @abstractmethod
    def noise_shape(self) -> tuple[int, ...]:
        """The shape of the noise that an image begins with."""


@dataclass(frozen=True, kw_only=True)
class DenoisingModel(PaintingModel):
    """A model that takes noise away, step by step."""

    family: Family
    denoiser: Denoiser  # for a consistency model: what leads to the image in one step
    sigma_min: float  # the least and the greatest noise level that the denoiser is good for
    sigma_max: float
    velocity: Velocity | None = None  # of a flow
    sigmas: torch.Tensor | None = None  # [T] float64, rising: the schedule of a DDPM

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(f"sigma_min={self.sigma_min}, sigma_max={self.sigma_max}: no range")
        if (self.velocity is not None) != (self.family == "flow"):
            raise ValueError("velocity: a flow has one, and no other family")
        if (self.sigmas is not None) != (self.family == "ddpm"):
            raise ValueError("sigmas: a DDPM has a schedule, and no other family")

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return self.spec.shape


def denoising(model: PaintingModel, purpose: str) -> DenoisingModel:
    """`model`, which `purpose` needs to be one that denoises; `UserError` if it is not."""
    if not isinstance(model, DenoisingModel):
        raise UserError(
            f"{purpose} needs a model that takes noise away step by step; a GAN paints in one call "
            "of its generator."
        )
    return model


class Generator(Protocol):
    """What a GAN learns: from noise to an image in one go."""

    def __call__(self, z: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """`z` `[B, latent]` float32 of unit variance and `label` `[B]` int64, `NO_LABEL` for none,
        to images `[B, C, H, W]` float32 in about [-1, 1]."""
        ...


@dataclass(frozen=True, kw_only=True)
class GeneratorModel(PaintingModel):
    """A model that paints in one call of its generator."""

    generator: Generator
    latent: int  # numbers of noise that make an image

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (self.latent,)
