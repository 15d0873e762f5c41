"""Numbers that change with progress: pure functions of the trainer's clock, nothing to save."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol


class Schedule(Protocol):
    """A number for every moment of a run, such as epsilon, beta or a learning rate."""

    def __call__(self, progress: float) -> float: ...


@dataclass(frozen=True)
class Constant:
    """The same value at every moment."""

    value: float

    def __call__(self, progress: float) -> float:
        return self.value


@dataclass(frozen=True)
class Linear:
    """A straight line from `start` at progress 0 to `end` at `duration`, and `end` from there on.

    `duration` is in the unit of progress (environment steps, or images) and may be 0: then the
    value is `end` throughout. Raises `ValueError` for a negative or non-finite duration.
    """

    start: float
    end: float
    duration: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.duration) and self.duration >= 0):
            raise ValueError(f"Linear: duration must be 0 or more, not {self.duration}")

    def __call__(self, progress: float) -> float:
        if progress >= self.duration:
            return self.end  # exactly, whatever the rounding of the line
        fraction = max(progress, 0.0) / self.duration
        return self.start + fraction * (self.end - self.start)
