"""Inpainting: paint what is missing of an image around what is known of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch

from playfield.errors import UserError
from playfield.generative.model import PaintingModel, denoising
from playfield.generative.noise import ImageGenerators
from playfield.generative.objective import Denoiser
from playfield.generative.samplers import (
    Callback,
    Noise,
    Variance,
    ancestral_std,
    denoise,
    state_dtype,
)
from playfield.generative.sampling import (
    Plan,
    SamplerConfig,
    check_label,
    guided_denoiser,
    plan,
    start_noise,
    usual_steps,
)

#: Steps where none are asked for.
STEPS = 50
#: What this is called in the sentence for a model that can't.
INPAINTING = "Painting around what is known"


def inpaint(
    denoiser: Denoiser,
    x: torch.Tensor,
    sigmas: torch.Tensor,
    label: torch.Tensor,
    known: torch.Tensor,
    mask: torch.Tensor,
    *,
    noise: Noise,
    variance: Variance = "small",
    resamples: int = 10,
    callback: Callback | None = None,
) -> torch.Tensor:
    """RePaint (Lugmayr et al. 2022, algorithm 1): ancestral sampling in which the known is given.

    At every level the known pixels of x are replaced by those of `known` `[B, C, H, W]` with fresh
    noise of that level. `mask`, bool and broadcast to that shape, is true where pixels are known.

    Early on, noise hides what is known, and what is painted in one pass fits it badly. So each step
    but the last is gone down `resamples` times, with as much noise added in between as leads up
    again; the more often, the closer what is painted comes to the distribution that the known
    pixels leave it. (RePaint goes up ten levels at once, this one.) The known pixels come back
    exactly. (N - 1) * resamples + 1 network calls.

    The other arguments are those of playfield.generative.samplers.
    """
    if resamples < 1:
        raise ValueError(f"resamples={resamples} has to be 1 or more")
    x = x.to(state_dtype(x.device))
    known, mask = known.to(x), mask.to(x.device)
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        visits = resamples if sigma_next > 0 else 1
        for visit in range(visits):
            if visit > 0:
                x = x + math.sqrt(sigma**2 - sigma_next**2) * noise(x)
            x = torch.where(mask, known + sigma * noise(x), x)
            denoised = denoise(denoiser, x, sigma, label)
            if callback is not None and visit == 0:
                callback(step, x, torch.where(mask, known, denoised), sigma)
            x = denoised + (sigma_next / sigma) ** 2 * (x - denoised)
            if sigma_next > 0:
                x = x + ancestral_std(sigma, sigma_next, variance) * noise(x)
    return torch.where(mask, known, x)


def paint_around(
    model: PaintingModel,
    config: SamplerConfig,
    seeds: Sequence[int],
    label: torch.Tensor,
    known: torch.Tensor,
    mask: torch.Tensor,
    *,
    resamples: int = 10,
    callback: Callback | None = None,
) -> torch.Tensor:
    """Images `[B, C, H, W]`, float32 signals, that agree with `known` wherever `mask` is true.

    `known` is `[C, H, W]` or `[B, C, H, W]`, `mask` bool `[H, W]` or what broadcasts to these. The
    sampler is `inpaint`; of `config` it takes steps, guidance, variance and clip. Seeds and labels
    are those of playfield.generative.sampling.paint.

    Raises `UserError` for another sampler, a consistency model, an image or a mask of another size,
    and as `paint` does.
    """
    planned = plan_around(model, config)
    model = denoising(model, INPAINTING)
    shape = (len(seeds), *model.spec.shape)
    _check_fits("known image", known, shape)
    _check_fits("mask", mask, shape)
    check_label(model, label, len(seeds))
    if resamples < 1:
        raise UserError(f"resamples has to be 1 or more, not {resamples}.")
    noise = ImageGenerators(seeds)
    x = start_noise(model, noise, None) * planned.start
    with torch.no_grad():
        image = inpaint(
            guided_denoiser(model, config),
            x,
            planned.grid,
            label.to(model.device),
            known.expand(shape),
            mask.expand(shape),
            noise=noise,
            variance=config.variance,
            resamples=resamples,
            callback=callback,
        )
    return image.to(torch.float32)


def plan_around(model: PaintingModel, config: SamplerConfig) -> Plan:
    """The way that `paint_around` goes down; raises `UserError` as it does."""
    model = denoising(model, INPAINTING)
    if model.family == "consistency":
        raise UserError(
            "A consistency model cannot paint around what is known: it takes no small steps. Use "
            "the model that it was tuned from."
        )
    if config.sampler not in ("auto", "ddpm"):
        raise UserError(
            f"Sampler {config.sampler!r} does not paint around what is known: use auto or ddpm."
        )
    steps = config.steps or usual_steps(model, "ddpm", STEPS)
    return plan(model, replace(config, sampler="ddpm", steps=steps))


def _check_fits(what: str, tensor: torch.Tensor, shape: tuple[int, ...]) -> None:
    # Sizes of 1 broadcast, but a picture of one row is no picture of 32.
    if tensor.dim() < 2 or tensor.shape[-2:] != shape[-2:]:
        size = "x".join(str(number) for number in reversed(tensor.shape[-2:]))
        raise UserError(f"The {what} has {size} pixels; the model paints {shape[-1]}x{shape[-2]}.")
    try:
        tensor.expand(shape)
    except RuntimeError:
        raise UserError(
            f"The {what} has the shape {list(tensor.shape)}, expected {list(shape[1:])}: as many "
            "channels as the model paints."
        ) from None
