"""Optimisers by name, with weight decay where it belongs and learning rates that change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch

from playfield.errors import UserError
from playfield.training.schedules import Constant, Cosine, Linear, Schedule, Steps, Warmup


@dataclass(frozen=True)
class OptimizerConfig:
    """How gradients become steps: the same fields for every trainer."""

    optimizer: Literal["sgd", "rmsprop", "adam", "adamw", "radam"] = "adam"
    """Kind of optimiser."""
    learning_rate: float = 1e-4
    """Step size."""
    schedule: Literal["constant", "linear", "step", "cosine"] = "constant"
    """How the learning rate changes: falls in a straight line, halves (or see step_factor) every
    step_every, or follows half a cosine."""
    schedule_steps: int | None = None
    """Steps over which it falls; None: those of the run."""
    final_learning_rate: float = 0.0
    """Where linear and cosine end."""
    step_every: int = 1_000_000
    """Steps between two falls of the schedule step."""
    step_factor: float = 0.5
    """By how much each of them multiplies the learning rate."""
    warmup_steps: int = 0
    """Steps over which the learning rate first rises from 0."""
    adam_eps: float = 1e-8
    """Epsilon of Adam, AdamW and RAdam, and of RMSprop."""
    beta1: float = 0.9
    """Decay of the mean gradient in Adam, AdamW and RAdam."""
    beta2: float = 0.999
    """Decay of the mean squared gradient in Adam, AdamW and RAdam."""
    rmsprop_decay: float = 0.99
    """Decay of the mean squared gradient in RMSprop."""
    momentum: float = 0.0
    """Momentum of SGD and RMSprop."""
    weight_decay: float = 0.0
    """Pull on weights towards 0, biases and norms excepted: decoupled in AdamW and SGD, an L2
    term in the gradient elsewhere."""
    max_grad_norm: float | None = None
    """Clip the gradient to this global norm; None: don't."""

    def __post_init__(self) -> None:
        for name in ("learning_rate", "adam_eps", "step_every", "step_factor"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} has to be more than 0, not {getattr(self, name)}.")
        for name in ("final_learning_rate", "warmup_steps", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name} has to be 0 or more, not {getattr(self, name)}.")
        for name in ("beta1", "beta2", "rmsprop_decay", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(
                    f"{name} has to be at least 0 and below 1, not {getattr(self, name)}."
                )
        if self.schedule_steps is not None and self.schedule_steps < 1:
            raise UserError(f"schedule_steps has to be 1 or more, not {self.schedule_steps}.")
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise UserError(f"max_grad_norm has to be more than 0, not {self.max_grad_norm}.")


def build_optimizer(
    config: OptimizerConfig, parameters: Iterable[torch.nn.Parameter]
) -> torch.optim.Optimizer:
    """The optimiser of `parameters`; those of one dimension (biases, norms) do not decay."""
    every = list(parameters)
    groups = [
        {"params": [p for p in every if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in every if p.dim() <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    rate, eps, betas = config.learning_rate, config.adam_eps, (config.beta1, config.beta2)
    match config.optimizer:
        case "sgd":
            return torch.optim.SGD(groups, rate, momentum=config.momentum, fused=True)
        case "rmsprop":
            return torch.optim.RMSprop(
                groups, rate, alpha=config.rmsprop_decay, eps=eps, momentum=config.momentum
            )
        case "adam":
            return torch.optim.Adam(groups, rate, betas=betas, eps=eps, fused=True)
        case "adamw":
            return torch.optim.AdamW(groups, rate, betas=betas, eps=eps, fused=True)
        case "radam":
            return torch.optim.RAdam(groups, rate, betas=betas, eps=eps)


def learning_rate(config: OptimizerConfig, steps: int | None) -> Schedule:
    """The learning rate at every step of a run of `steps` (None: unknown).

    Raises `UserError` where a schedule has to end with a run whose length is unknown.
    """
    rate, over = config.learning_rate, config.schedule_steps or steps
    schedule: Schedule
    match config.schedule:
        case "constant":
            schedule = Constant(rate)
        case "step":
            schedule = Steps(rate, config.step_factor, config.step_every)
        case "linear" | "cosine" as kind:
            if over is None:
                raise UserError(f"schedule={kind} needs schedule_steps, or the length of the run.")
            line = Linear if kind == "linear" else Cosine
            schedule = line(rate, config.final_learning_rate, over)
    return Warmup(schedule, config.warmup_steps) if config.warmup_steps else schedule


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Have the next step take `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate
