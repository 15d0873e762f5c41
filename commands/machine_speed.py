"""How fast this machine is at what training asks of it, each measured in a fraction of a second."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SECONDS = 0.3  # that each measurement takes, or one repetition if that takes longer
COPIED = 128 * 2**20  # bytes: more than most caches hold
WRITTEN = 8 * 2**20  # bytes at a time


def rate(act: Callable[[], None], amount: float, seconds: float = SECONDS) -> float:
    """`amount` per second of calls of `act` that do so much each: that of the median call.

    The first call is not counted, because it may allocate and start threads.
    """
    act()
    times: list[float] = []
    begun = time.perf_counter()
    while not times or time.perf_counter() - begun < seconds:
        started = time.perf_counter()
        act()
        times.append(time.perf_counter() - started)
    return amount / max(statistics.median(times), 1e-9)


def memory_bandwidth(device: torch.device) -> float:
    """Bytes per second that are read and written when much is copied within `device`'s memory."""
    import torch

    source = torch.ones(COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)
        int(target[-1])  # waits for an accelerator

    return rate(copy, 2 * COPIED)


def matmul_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of square matrices multiplied on `device`."""
    import torch

    size = 512 if device.type == "cpu" else 8192
    matrix = torch.ones(size, size, dtype=dtype, device=device)

    def multiply() -> None:
        product = matrix @ matrix
        float(product[0, 0])  # waits for an accelerator

    return rate(multiply, 2 * size**3)


def emulator_speed(env_id: str, num_envs: int) -> float:
    """Environment steps per second of `num_envs` environments that step together."""
    import numpy as np

    from playfield import envs

    env = envs.make(env_id, num_envs)
    try:
        env.reset(0)
        draws = np.random.default_rng(0)

        def step() -> None:
            env.step(draws.integers(env.spec.num_actions, size=num_envs))

        return rate(step, num_envs)
    finally:
        env.close()


def disk_speed(folder: Path) -> float:
    """Bytes per second that reach the disk of `folder`, as a checkpoint's do. Raises OSError."""
    data = os.urandom(WRITTEN)  # nothing that a file system could make small
    with tempfile.TemporaryFile(dir=folder) as file:

        def write() -> None:
            file.seek(0)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

        return rate(write, WRITTEN)
