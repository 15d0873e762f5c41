"""How a log interval sums up what its steps measured; the names are in `metric_names`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from playfield.training.metric_names import GROUPS as GROUPS
from playfield.training.metric_names import MEAN_SUFFIX, PERCENTILES, SPREAD
from playfield.training.metric_names import METRICS as METRICS
from playfield.training.metric_names import WINDOW as WINDOW
from playfield.training.metric_names import Metric as Metric
from playfield.training.trainer import Metrics, Share, State


@dataclass(frozen=True)
class Point:
    """One value of one curve."""

    progress: int
    name: str
    value: float


class Recorder:
    """Sums up what the steps of a log interval report, without waiting for a device.

    Scalars become means over the reports of the interval. A sequence is a series of values finished
    in that step: each stays a point of its own, and the mean over the last `WINDOW` of them is one
    more metric, named with `MEAN_SUFFIX`.
    """

    def __init__(self) -> None:
        self._sums: dict[str, float | torch.Tensor] = {}
        self._counts: dict[str, int] = {}
        self._shares: dict[str, float | torch.Tensor] = {}  # the counts of those in `_sums`
        self._finished: list[Point] = []
        self._windows: dict[str, deque[float]] = {}

    def add(self, progress: int, metrics: Metrics) -> None:
        """Take in what one step reported. Tensors are read here, and may be reused afterwards."""
        for name, value in metrics.items():
            if isinstance(value, Share):
                _accumulate(self._sums, name, value.total)
                _accumulate(self._shares, name, value.count)
                continue
            if isinstance(value, torch.Tensor):
                _accumulate(self._sums, name, value)
            elif isinstance(value, int | float):
                self._sums[name] = self._sums.get(name, 0.0) + value
            else:
                self._finish(progress, name, value)
                continue
            self._counts[name] = self._counts.get(name, 0) + 1

    def _finish(self, progress: int, name: str, values: Iterable[float]) -> None:
        window = self._windows.setdefault(name, deque(maxlen=WINDOW))
        for value in map(float, values):
            self._finished.append(Point(progress, name, value))
            window.append(value)

    def take(self) -> tuple[list[Point], dict[str, float]]:
        """The values finished in this interval, and the means over it; starts the next interval.

        Waits for the device once.
        """
        sums, shares = _to_host([self._sums, self._shares])
        counts = {**self._counts, **shares}
        means = {name: total / counts[name] for name, total in sums.items() if counts[name]}
        finished, self._finished = self._finished, []
        for name, window in self._windows.items():
            means[name + MEAN_SUFFIX] = sum(window) / len(window)
        self._sums.clear()
        self._counts.clear()
        self._shares.clear()
        return finished, means

    def spread(self) -> dict[str, float]:
        """The 10th and 90th percentile (linear) of the newest values of each series in `SPREAD`."""
        return {
            name + suffix: float(np.percentile(self._windows[name], percent))
            for name in SPREAD
            if self._windows.get(name)
            for suffix, percent in PERCENTILES.items()
        }

    def state_dict(self) -> State:
        """The moving windows; call it right after `take`, when nothing else is held."""
        return {name: list(window) for name, window in self._windows.items()}

    def load_state_dict(self, state: Mapping[str, list[float]]) -> None:
        self._windows = {name: deque(values, maxlen=WINDOW) for name, values in state.items()}


def _accumulate(sums: dict[str, float | torch.Tensor], name: str, value: torch.Tensor) -> None:
    value = value.detach()
    if name in sums:
        sums[name] += value  # in place where the sum is a tensor
    else:
        sums[name] = value.to(torch.float32, copy=True)


def _to_host(groups: Sequence[Mapping[str, float | torch.Tensor]]) -> list[dict[str, float]]:
    """The same numbers, for which a device is waited for once."""
    tensors = [v for group in groups for v in group.values() if isinstance(v, torch.Tensor)]
    if len({tensor.device for tensor in tensors}) == 1:
        read = iter(torch.stack(tensors).tolist())
    else:
        read = map(float, tensors)
    return [
        {name: next(read) if isinstance(v, torch.Tensor) else float(v) for name, v in group.items()}
        for group in groups
    ]
