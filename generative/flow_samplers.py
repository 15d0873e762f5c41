"""Samplers that follow the velocity of a flow from noise (t = 0) to the image (t = 1).

`x` `[B, C, H, W]` is t * image + (1 - t) * noise, so the start is noise of unit variance. `times`
`[N + 1]` rise, as in playfield.generative.time_grids; falling times lead from an image to its
noise. Precision, labels and callbacks are those of playfield.generative.samplers: a callback's
`sigma` is (1 - t) / t, infinite at the start.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch

from playfield.generative.objective import Velocity
from playfield.generative.samplers import Callback, state_dtype


def flow_euler(
    velocity: Velocity,
    x: torch.Tensor,
    times: torch.Tensor,
    label: torch.Tensor,
    *,
    callback: Callback | None = None,
) -> torch.Tensor:
    """Euler's method: DDIM's step, in the coordinates of a flow. N network calls."""
    x = x.to(state_dtype(x.device))
    for step, t, t_next in _steps(times):
        v = velocity_at(velocity, x, t, label)
        _tell(callback, step, x, v, t)
        x = x + (t_next - t) * v
    return x


def flow_midpoint(
    velocity: Velocity,
    x: torch.Tensor,
    times: torch.Tensor,
    label: torch.Tensor,
    *,
    callback: Callback | None = None,
) -> torch.Tensor:
    """The midpoint method, of second order; never asks for the velocity at t = 1. 2N calls."""
    x = x.to(state_dtype(x.device))
    for step, t, t_next in _steps(times):
        v = velocity_at(velocity, x, t, label)
        _tell(callback, step, x, v, t)
        half = (t_next - t) / 2
        x = x + (t_next - t) * velocity_at(velocity, x + half * v, t + half, label)
    return x


def flow_heun(
    velocity: Velocity,
    x: torch.Tensor,
    times: torch.Tensor,
    label: torch.Tensor,
    *,
    callback: Callback | None = None,
) -> torch.Tensor:
    """Heun's method, of second order; a flow has a velocity at its end as well. 2N calls."""
    x = x.to(state_dtype(x.device))
    for step, t, t_next in _steps(times):
        v = velocity_at(velocity, x, t, label)
        _tell(callback, step, x, v, t)
        v_next = velocity_at(velocity, x + (t_next - t) * v, t_next, label)
        x = x + (t_next - t) * ((v + v_next) / 2)
    return x


def velocity_at(velocity: Velocity, x: torch.Tensor, t: float, label: torch.Tensor) -> torch.Tensor:
    """The velocity of a batch at one time, in x's dtype; the network sees float32."""
    time = torch.full((len(x),), t, dtype=torch.float32, device=x.device)
    return velocity(x.to(torch.float32), time, label).to(x.dtype)


def _steps(times: torch.Tensor) -> Iterator[tuple[int, float, float]]:
    """(number, time, next time) of each step."""
    points = times.tolist()
    widths = [after - before for before, after in pairwise(points)]
    one_way = all(width > 0 for width in widths) or all(width < 0 for width in widths)
    if not widths or not one_way or min(points) < 0 or max(points) > 1:
        raise ValueError("times: two or more are expected, rising or falling within 0..1")
    for step, (t, t_next) in enumerate(pairwise(points)):
        yield step, t, t_next


def _tell(callback: Callback | None, step: int, x: torch.Tensor, v: torch.Tensor, t: float) -> None:
    if callback is not None:
        callback(step, x, x + (1 - t) * v, (1 - t) / t if t > 0 else math.inf)
