"""From a trained network and what it means to a model that is ready to paint."""

from __future__ import annotations

import torch
from torch import nn

from playfield.generative.model import DenoisingModel
from playfield.generative.objective import ImageSpec, Objective


def painting_model(
    objective: Objective,
    network: nn.Module,
    spec: ImageSpec,
    *,
    unconditional: bool,
    device: torch.device,
) -> DenoisingModel:
    """The model that `network`, in `eval()` on `device`, is under `objective`.

    `unconditional`: it has learned without labels too.
    """
    return DenoisingModel(
        family=objective.family,
        spec=spec,
        denoiser=objective.denoiser(network),
        sigma_min=objective.sigma_min,
        sigma_max=objective.sigma_max,
        velocity=objective.velocity(network),
        sigmas=objective.sigmas,
        unconditional=unconditional or not spec.classes,
        device=device,
    )
