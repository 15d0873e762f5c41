"""The training loop: budget, logging, checkpoints, evaluation, signals and the non-finite guard."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from playfield.training.trainer import Policy, Trainer

if TYPE_CHECKING:
    from playfield.training.checkpoint import Checkpoint
    from playfield.training.console import Display
    from playfield.training.run import Run


@dataclass(frozen=True)
class TrainingConfig:
    """How long to train, and when to log, save and evaluate; none of it knows the algorithm.

    "Steps" are the trainer's clock: environment steps, or images.
    """

    steps: int = 1_000_000
    """Steps to train for in all, those before a resume included."""
    minutes: float | None = None
    """Wall-clock minutes to train for in all, those before a resume included; None: no limit."""
    log_every: int = 1_000
    """Steps between two points of the curves."""
    checkpoint_every: int = 50_000
    """Steps between two checkpoints; one more is written at the end and on Ctrl-C."""
    keep_checkpoints: int = 2
    """How many checkpoints to keep; older ones are removed."""
    evaluate_every: int = 0
    """Steps between two evaluations; 0: only at the end."""
    evaluate_episodes: int = 10
    """Whole games per evaluation; 0: never evaluate."""
    max_skipped: int = 100
    """Non-finite updates in a row that stop the run."""


@dataclass(frozen=True)
class Outcome:
    """How a call of `train` ended."""

    progress: int  # steps in all
    minutes: float  # of training in all
    reason: Literal["steps", "minutes", "signal"]
    signal: int | None  # the signal's number where that was the reason
    checkpoint: Path | None  # the newest one written by this call, None if none was
    evaluation: Mapping[str, float]  # the final evaluation; empty if there was none


def train(
    trainer: Trainer,
    run: Run,
    config: TrainingConfig,
    *,
    evaluate: Callable[[Policy], Mapping[str, float]] | None = None,
    resume_from: Checkpoint | None = None,
    display: Display | None = None,
) -> Outcome:
    """Train until the budget is spent or a signal asks to stop.

    `evaluate(policy)` returns metrics such as {"eval/return": 12.5}; it must leave the trainer
    alone. `resume_from` restores the trainer, its stores and the curves first. `display` defaults
    to a live one on a terminal and plain lines elsewhere.
    """
    raise NotImplementedError
