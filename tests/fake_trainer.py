"""A trainer without an algorithm, for the loop's tests: it counts, draws and adds up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch

from playfield.training.gradient_step import GradientStep


class FakeTrainer:
    """Fits one weight to noise; every `game_length` steps a game ends with a return of its number.

    `on_step(progress)` runs inside every step, and `spoil(progress)` says whether its loss is NaN.
    """

    unit: Literal["steps", "images"] = "steps"

    def __init__(
        self,
        *,
        stride: int = 1,
        game_length: int = 10,
        on_step: Callable[[int], None] = lambda progress: None,
        spoil: Callable[[int], bool] = lambda progress: False,
    ) -> None:
        self.stride = stride
        self.game_length = game_length
        self.on_step = on_step
        self.spoil = spoil
        self.progress = 0
        self.stores: dict[str, Any] = {}
        self.frames_per_step = 4
        self.segments: list[int] = []
        self.rng = np.random.default_rng(5)
        self.network = torch.nn.Module()
        self.weight = torch.nn.Parameter(torch.zeros(3))
        optimizer = torch.optim.Adam([self.weight], lr=0.1)
        self.gradient_steps = {"fit": GradientStep(optimizer, [("weight", self.weight)], 1.0)}

    @property
    def weight(self) -> torch.nn.Parameter:
        return self.network.weight  # type: ignore[return-value]

    @weight.setter
    def weight(self, weight: torch.nn.Parameter) -> None:
        self.network.weight = weight

    def step(self) -> dict[str, Any]:
        self.progress += self.stride
        self.on_step(self.progress)
        target = torch.from_numpy(self.rng.normal(size=3)).float()
        loss = (self.weight - target).square().mean()
        if self.spoil(self.progress):
            loss = loss * float("nan")
        norm = self.gradient_steps["fit"].step(loss)
        metrics: dict[str, Any] = {"train/loss": loss, "train/gradient_norm": norm}
        if self.progress % self.game_length == 0:
            game = self.progress // self.game_length
            metrics |= {"episode/return": [float(game)], "episode/length": [self.game_length]}
        return metrics

    def begin_segment(self, segment: int) -> None:
        self.segments.append(segment)

    def policy(self) -> Any:
        return self

    def state_dict(self) -> dict[str, Any]:
        return {
            "progress": self.progress,
            "weight": self.weight.detach(),
            "fit": self.gradient_steps["fit"].state_dict(),
            "rng": self.rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.progress = state["progress"]
        with torch.no_grad():
            self.weight.copy_(state["weight"])
        self.gradient_steps["fit"].load_state_dict(state["fit"])
        self.rng.bit_generator.state = state["rng"]


class SilentDisplay:
    """Keeps what it is told."""

    every = 1e9

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.updates: list[int] = []

    def __enter__(self) -> SilentDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, progress: int, fraction: float, rate: float, metrics: object) -> None:
        self.updates.append(progress)

    def note(self, text: str) -> None:
        self.notes.append(text)


def manifest() -> dict[str, Any]:
    """A run's manifest that is quick to make."""
    return {
        "format": 1,
        "created": "2026-01-31T14:25:01+00:00",
        "command": ["playfield", "train"],
        "algorithm": "dqn",
        "preset": None,
        "env": "ALE/Pong-v5",
        "protocol": {"sticky": 0.25},
        "config": {},
        "training": {},
        "seed": 0,
        "device": "cpu",
        "versions": {},
        "hardware": {},
        "git": None,
    }
