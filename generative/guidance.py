"""Guidance: steer a model away from what a worse answer to the same question would be.

Both kinds wrap a denoiser into a denoiser, or a velocity into a velocity: the image is a linear
function of either, so guiding the one is guiding the other. All channels are guided.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar, cast

import torch

from playfield.errors import UserError
from playfield.generative.model import DenoisingModel
from playfield.generative.objective import NO_LABEL, Denoiser, Velocity

#: What can be guided: both are called with (x, noise level or time, label).
Guidable = TypeVar("Guidable", Denoiser, Velocity)
_Answer = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def classifier_free(model: Guidable, scale: float, *, doubled: bool = True) -> Guidable:
    """u + scale * (c - u), with c for the label asked for and u for none (Ho & Salimans 2022).

    1 is the conditional model itself and 0 the unconditional one; neither asks the network twice.
    Otherwise both answers come from one pass over a batch of twice the size, or with `doubled` off
    from two passes.
    """
    if scale == 1:
        return model

    def guided(x: torch.Tensor, level: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        nothing = torch.full_like(label, NO_LABEL)
        if scale == 0:
            return model(x, level, nothing)
        if doubled:
            both = model(torch.cat([x, x]), level.repeat(2), torch.cat([label, nothing]))
            conditional, unconditional = both.chunk(2)
        else:
            conditional, unconditional = model(x, level, label), model(x, level, nothing)
        return unconditional + scale * (conditional - unconditional)

    return _like(model, guided)


def autoguidance(model: Guidable, reference: Guidable, scale: float) -> Guidable:
    """reference + scale * (model - reference) (Karras et al. 2024a).

    The reference is a worse version of the model: smaller, or stopped earlier. It errs where the
    model errs, and further; so their difference points to better images, whatever the label. At 1
    the reference is not asked.
    """
    if scale == 1:
        return model

    def guided(x: torch.Tensor, level: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        worse = reference(x, level, label)
        return worse + scale * (model(x, level, label) - worse)

    return _like(model, guided)


def autoguided(model: DenoisingModel, reference: DenoisingModel, scale: float) -> DenoisingModel:
    """`model` under `autoguidance` by `reference`.

    Raises `UserError` for a reference of another family, or of images of another shape or with
    other classes.
    """
    if reference.family != model.family:
        raise UserError(
            f"A model of the {model.family} family cannot be guided by one of the "
            f"{reference.family} family: take a smaller one of its own, or an earlier checkpoint."
        )
    if reference.spec != model.spec:
        raise UserError(
            f"The guiding model paints {_images(reference)}, expected {_images(model)}: take one "
            "that was trained on the same data."
        )
    velocity = None
    if model.velocity is not None and reference.velocity is not None:
        velocity = autoguidance(model.velocity, reference.velocity, scale)
    denoiser = autoguidance(model.denoiser, reference.denoiser, scale)
    return replace(model, denoiser=denoiser, velocity=velocity)


def _images(model: DenoisingModel) -> str:
    spec = model.spec
    return f"{spec.width}x{spec.height} x {spec.channels} of {len(spec.classes)} classes"


def _like(model: Guidable, answer: _Answer) -> Guidable:
    """`answer`, for what `model` is: the two differ in what they call their second argument."""
    return cast(Guidable, answer)
