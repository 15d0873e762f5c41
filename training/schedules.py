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
        _check_duration(self, self.duration)

    def __call__(self, progress: float) -> float:
        if progress >= self.duration:
            return self.end  # exactly, whatever the rounding of the line
        fraction = max(progress, 0.0) / self.duration
        return self.start + fraction * (self.end - self.start)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from `start` at progress 0 to `end` at `duration`, and `end` from there on.

    Loshchilov and Hutter 2017, equation 5, without restarts. `duration` as for `Linear`.
    """

    start: float
    end: float
    duration: float

    def __post_init__(self) -> None:
        _check_duration(self, self.duration)

    def __call__(self, progress: float) -> float:
        if progress >= self.duration:
            return self.end
        fraction = max(progress, 0.0) / self.duration
        return self.end + 0.5 * (self.start - self.end) * (1 + math.cos(math.pi * fraction))


@dataclass(frozen=True)
class Steps:
    """`start`, multiplied by `factor` whenever another `every` of progress is done.

    Raises `ValueError` for an `every` that is not more than 0, or not finite.
    """

    start: float
    factor: float
    every: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.every) and self.every > 0):
            raise ValueError(f"Steps: every must be more than 0, not {self.every}")

    def __call__(self, progress: float) -> float:
        return self.start * self.factor ** math.floor(max(progress, 0.0) / self.every)


@dataclass(frozen=True)
class Warmup:
    """`schedule`, times a factor that rises in a straight line from 0 to 1 over `duration`.

    The schedule itself goes on meanwhile. `duration` as for `Linear`.
    """

    schedule: Schedule
    duration: float

    def __post_init__(self) -> None:
        _check_duration(self, self.duration)

    def __call__(self, progress: float) -> float:
        return Linear(0.0, 1.0, self.duration)(progress) * self.schedule(progress)


def _check_duration(schedule: Schedule, duration: float) -> None:
    if not (math.isfinite(duration) and duration >= 0):
        raise ValueError(f"{type(schedule).__name__}: duration must be 0 or more, not {duration}")
