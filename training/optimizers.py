"""Optimisers by name, with weight decay where it belongs and learning rates that change.

docs/optimizers.md has the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from playfield.errors import UserError
from playfield.training.schedules import Constant, Cosine, Linear, Schedule, Steps, Warmup


@dataclass(frozen=True)
class OptimizerConfig:
    """How gradients become steps: the same fields for every trainer.

    Steps are those of the trainer's clock, counted from its first update.
    """

    optimizer: Literal["sgd", "rmsprop", "adam", "adamw", "radam"] = "adam"
    """Kind of optimiser."""
    learning_rate: float = 1e-4
    """Step size, where the schedule begins."""
    schedule: Literal["constant", "linear", "step", "cosine"] = "constant"
    """How the learning rate changes; step: times step_factor every step_every steps."""
    schedule_steps: int | None = None
    """Steps that linear and cosine take to their end; None: up to the end of the run."""
    final_learning_rate: float = 0.0
    """Where linear and cosine end."""
    step_every: int = 1_000_000
    """Steps between two changes by the schedule step."""
    step_factor: float = 0.5
    """What each of these changes multiplies the learning rate by."""
    warmup_steps: int = 0
    """Steps over which a factor on the schedule rises from 0 to 1 in a straight line; 0: none."""
    adam_eps: float = 1e-8
    """Epsilon of adam, adamw, radam and rmsprop, added to the root of the mean squared gradient."""
    beta1: float = 0.9
    """Decay of the mean gradient in adam, adamw and radam."""
    beta2: float = 0.999
    """Decay of the mean squared gradient in adam, adamw and radam."""
    rmsprop_decay: float = 0.99
    """Decay of the mean squared gradient in rmsprop."""
    momentum: float = 0.0
    """Momentum of sgd and rmsprop."""
    weight_decay: float = 0.0
    """Pull of weights (not of biases and norms) to 0: beside the gradient in adamw, else in it."""
    max_grad_norm: float | None = None
    """Clip the gradient to this global norm; None: don't."""

    def __post_init__(self) -> None:
        for name in ("learning_rate", "adam_eps", "step_every", "step_factor"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{name} has to be more than 0, not {getattr(self, name)}.")
        for name in ("final_learning_rate", "warmup_steps", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
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


def build_optimizer(config: OptimizerConfig, network: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of all parameters of `network`, which are on their device by now.

    Its learning rate is the one that the schedule begins with: see `set_learning_rate`.
    """
    groups = _groups(network, config.weight_decay)
    rate, eps, betas = config.learning_rate, config.adam_eps, (config.beta1, config.beta2)
    match config.optimizer:
        case "sgd":
            optimizer = torch.optim.SGD(groups, rate, momentum=config.momentum, fused=True)
            if config.momentum:
                _begin_momentum(optimizer, network)
            return optimizer
        case "rmsprop":
            return torch.optim.RMSprop(
                groups, rate, alpha=config.rmsprop_decay, eps=eps, momentum=config.momentum
            )
        case "adam":
            return torch.optim.Adam(groups, rate, betas=betas, eps=eps, fused=True)
        case "adamw":
            return torch.optim.AdamW(groups, rate, betas=betas, eps=eps, fused=True)
        case "radam":
            # On the CPU torch would go through one tensor at a time: a third of the speed.
            return torch.optim.RAdam(groups, rate, betas=betas, eps=eps, foreach=True)


#: Layers whose parameters are gains and biases, whatever their shape.
_NORMS = (
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.modules.batchnorm._NormBase,  # of any dimension, instance norms included
)


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    every = list(network.parameters())
    if not weight_decay:  # one group: a kernel fewer, and the order that saved moments have
        return [{"params": every, "weight_decay": 0.0}]
    spared = set(map(id, _gains_and_biases(network)))
    groups = [
        {"params": [p for p in every if id(p) not in spared], "weight_decay": weight_decay},
        {"params": [p for p in every if id(p) in spared], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _gains_and_biases(network: nn.Module) -> Iterator[nn.Parameter]:
    for module in network.modules():
        norm = isinstance(module, _NORMS)
        for name, parameter in module.named_parameters(recurse=False):
            if norm or name.endswith("bias") or parameter.dim() <= 1:
                yield parameter


def _begin_momentum(optimizer: torch.optim.Optimizer, network: nn.Module) -> None:
    # torch allocates momentum at the first step and leaves it to the kernel to write it. A kernel
    # that is told on the device to skip that step doesn't, and the second step would read memory
    # that nobody wrote. From zero, the first step is the same.
    for parameter in network.parameters():
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def learning_rate(config: OptimizerConfig, steps: int | None) -> Schedule:
    """The learning rate at every step of a run that learns for `steps` (None: nobody knows).

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
                raise UserError(
                    f"schedule={kind} ends with the run, and the length of this one is unknown: "
                    "give schedule_steps, or the trainer its steps."
                )
            curve = Linear if kind == "linear" else Cosine
            schedule = curve(rate, config.final_learning_rate, over)
    return Warmup(schedule, config.warmup_steps) if config.warmup_steps else schedule


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Have the next step take `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate
