"""Painters' runs that die in the middle and go on: what the tests of exact resume share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fake_trainer import SilentDisplay

from playfield.training.checkpoint import newest_intact
from playfield.training.loop import TrainingConfig, train
from playfield.training.run import Run


class Crash(Exception):
    pass


def go(run: Run, new_trainer: Callable[[], Any], steps: int, dies_at: int = 10**9) -> Any:
    """Train `run` from its newest checkpoint, or from the start, with objects of its own.

    The checkpoints are at 112 images and so on. Raises `Crash` past `dies_at` images.
    """
    trainer = new_trainer()

    class Mortal(type(trainer)):  # type: ignore[misc]
        def step(self) -> Any:
            if self.progress > dies_at:
                raise Crash
            return super().step()

    trainer.__class__ = Mortal
    training = TrainingConfig(steps=steps, log_every=64, checkpoint_every=112)
    checkpoint = newest_intact(run.checkpoints_folder, pytest.fail)
    train(trainer, run, training, resume_from=checkpoint, display=SilentDisplay())
    return trainer


def weights(network: torch.nn.Module) -> torch.Tensor:
    """All numbers of a network, buffers included."""
    return torch.cat([t.detach().flatten().double() for t in network.state_dict().values()])


def assert_same_moments(one: torch.optim.Optimizer, other: torch.optim.Optimizer) -> None:
    mine, theirs = one.state_dict()["state"], other.state_dict()["state"]
    assert mine.keys() == theirs.keys()
    for index, moments in mine.items():
        for name, value in moments.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(theirs[index][name]))
