"""Consistency tuning of a trained model: images in one or two steps.

Source: Geng et al. 2024, "Consistency Models Made Easy" (ECT). A consistency function f takes every
noisy image of one path to that path's image. It is a trained model's denoiser, tuned until what it
says at noise t equals what it says at a lower noise r, with the same image, noise and dropout
masks; r comes closer to t in stages. While r is 0 this is diffusion training, because f(x, 0) = x.

The denoisers of EDM, of flows, and of DDPMs that predict eps or v are the identity at sigma = 0 by
construction, so each of them can be tuned; the function is the same in training and in sampling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import nn

from playfield.errors import UserError
from playfield.generative.ddpm import DDPM
from playfield.generative.denoiser_config import DenoiserConfig
from playfield.generative.edm import EDM, log_normal_sigma, loss_weight
from playfield.generative.objective import Denoiser, Draw, Family, Losses, Network, Objective
from playfield.generative.teacher import Teacher
from playfield.nets.dropout import Dropout


def lower_noise(
    t: torch.Tensor, stage: int, q: float = 2.0, k: float = 8.0, b: float = 1.0
) -> torch.Tensor:
    """The noise r < t whose answer is the target at noise t: the paper's section 3 and appendix.

    `r = t (1 - n(t) / q^(stage + 1))`, and 0 where that is negative, with
    `n(t) = 1 + k sigmoid(-b t)`. Elementwise; `stage` counts from 0.
    """
    n = 1 + k * torch.sigmoid(-b * t)
    return t * (1 - n / q ** (stage + 1)).clamp(min=0)


def pseudo_huber(difference: torch.Tensor, c: float) -> torch.Tensor:
    """`sqrt(d² + c²) - c` of each image `[B]`, with d the root mean square over `[C, H, W]`.

    Over the root of the number of pixels N, this is the loss of Song and Dhariwal 2024 (equation
    7), whose constant is `c sqrt(N)`.
    """
    square = difference.square().mean((1, 2, 3))
    return square / ((square + c**2).sqrt() + c)  # the same, without the cancellation near 0


@dataclass(frozen=True)
class Consistency(Objective):
    """The consistency function of a model, and its training; times are sigmas."""

    base: Objective  # the family of the model that is tuned
    sigma_data: float = 0.5
    p_mean: float = -1.1  # of log(t)
    p_std: float = 2.0
    gap_factor: float = 2.0  # the paper's q, k and b, as in `lower_noise`
    gap_spread: float = 8.0
    gap_fade: float = 1.0
    huber: float = 0.00054  # c, per pixel
    stages: int = 8
    stage_images: int | None = None  # images per stage; None: the training in equal stages
    stage: int = 0  # the one that it is at
    sigma_max: float = 80.0  # where sampling begins

    def __post_init__(self) -> None:
        if isinstance(self.base, DDPM) and self.base.prediction == "x0":
            raise UserError(
                "A model that predicts x0 cannot be consistency-tuned: it does not return an image "
                "without noise as it is; choose one trained with edm, v or eps, or a flow."
            )
        for name in ("sigma_data", "p_std", "huber"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{name} has to be more than 0, not {getattr(self, name)}.")
        for name in ("gap_spread", "gap_fade"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name} has to be 0 or more, not {getattr(self, name)}.")
        if not math.isfinite(self.p_mean):
            raise UserError(f"p_mean has to be a finite number, not {self.p_mean}.")
        if not 1 < self.gap_factor < math.inf:
            raise UserError(f"gap_factor has to be more than 1, not {self.gap_factor}.")
        # Closer than this, t and r, or the answers there, are one number in float32.
        if not 1 <= self.stages <= 16 / math.log2(self.gap_factor):
            raise UserError(
                "stages has to be 1 or more, and gap_factor to that power 65,536 or less, not "
                f"stages={self.stages} with gap_factor={self.gap_factor}."
            )
        if self.stage_images is not None and self.stage_images < 1:
            raise UserError(f"stage_images has to be 1 or more, not {self.stage_images}.")

    @property
    def family(self) -> Family:
        return "consistency"

    @property
    def sigma_min(self) -> float:
        return self.base.sigma_min

    def at(self, progress: int, steps: int) -> Self:
        """The objective with the stage of that moment; the last stage goes on to the end."""
        if self.stage_images is None:
            stage = progress * self.stages // max(steps, 1)
        else:
            stage = progress // self.stage_images
        return replace(self, stage=min(stage, self.stages - 1))

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Draw:
        t = log_normal_sigma(shape[0], self.p_mean, self.p_std, generator)
        return Draw(torch.randn(shape, generator=generator, device=generator.device), t)

    def judge(
        self,
        network: Network,
        images: torch.Tensor,
        label: torch.Tensor,
        augment: torch.Tensor | None,
        draw: Draw,
    ) -> Losses:
        t = draw.time
        r = lower_noise(t, self.stage, self.gap_factor, self.gap_spread, self.gap_fade)
        f = self.base.denoiser(network, augment)
        masks = dropout_position(network)
        answer = f(images + t[:, None, None, None] * draw.noise, t, label)
        return_to(masks)
        with torch.no_grad():
            # Where r is 0 this is the clean image, as everywhere that f is asked at no noise.
            target = f(images + r[:, None, None, None] * draw.noise, r, label)
        loss = loss_weight(t, self.sigma_data) * pseudo_huber(answer - target, self.huber)
        return Losses(loss, t)

    def denoiser(self, network: Network, augment: torch.Tensor | None = None) -> Denoiser:
        return self.base.denoiser(network, augment)


def dropout_position(network: Network) -> list[tuple[Dropout, torch.Tensor]]:
    """Which masks the network's dropout layers draw next."""
    modules = network.modules() if isinstance(network, nn.Module) else ()
    return [(module, module.get_extra_state()) for module in modules if isinstance(module, Dropout)]


def return_to(position: list[tuple[Dropout, torch.Tensor]]) -> None:
    """Have the layers draw these masks again: a mask is a function of a seed and a number.

    Unlike the GPU generator's state, which the paper's code puts back, it has nothing to do with
    the device.
    """
    for module, state in position:
        module.set_extra_state(state)


@dataclass(frozen=True)
class ConsistencyObjectiveConfig:
    """How a trained model is tuned to paint in one step or two."""

    p_mean: float = -1.1
    """Mean of log(sigma) in training."""
    p_std: float = 2.0
    """Its standard deviation."""
    gap_factor: float = 2.0
    """Factor by which the two noise levels that are compared come closer, from stage to stage: q in
    the paper."""
    gap_spread: float = 8.0
    """How much further apart they are at low noise, up to 1 + half of this times: k."""
    gap_fade: float = 1.0
    """How fast that fades with more noise: b."""
    stages: int = 8
    """Number of stages."""
    stage_images: int | None = None
    """Images per stage; None: the run in equal stages."""
    huber: float = 0.00054
    """Difference per pixel below which the loss is squared and above which it is linear."""

    def __post_init__(self) -> None:
        self.build(EDM())  # raises UserError for what makes no sense

    def build(self, base: Objective, sigma_data: float = 0.5) -> Consistency:
        """The objective that tunes a model of family `base` on images of that standard deviation.

        Raises `UserError` for a model that cannot be tuned.
        """
        return Consistency(
            base,
            sigma_data,
            self.p_mean,
            self.p_std,
            self.gap_factor,
            self.gap_spread,
            self.gap_fade,
            self.huber,
            self.stages,
            self.stage_images,
        )


@dataclass(frozen=True)
class ConsistencyConfig(DenoiserConfig):
    """The settings of consistency tuning. Steps are images."""

    objective: ConsistencyObjectiveConfig = field(default_factory=ConsistencyObjectiveConfig)
    """How the trained model is tuned."""

    def build_objective(self, std: float, teacher: Teacher | None) -> Objective:
        if teacher is None:
            raise UserError("Consistency tuning wants a trained model to begin with: --init-from.")
        return self.objective.build(teacher.objective, std)
