"""One seed of its own for each environment of a vector."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def env_seeds(seed: int, num_envs: int) -> NDArray[np.int64]:
    """The seeds of E environments under `seed` (>= 0): int64 `[E]` in `0 <= seed < 2**31`.

    Environment i has the same seed in a vector of any size. Unlike `seed, seed + 1, ...`, the seeds
    of two vectors with neighbouring seeds do not overlap. 31 bits are what ALE can take.

    Raises `ValueError` for a negative seed. Source: numpy's `SeedSequence`.
    """
    if seed < 0:
        raise ValueError(f"a seed must be 0 or more, not {seed}")
    words = [
        np.random.SeedSequence(seed, spawn_key=(env,)).generate_state(1)[0]
        for env in range(num_envs)
    ]
    return np.asarray(words, np.int64) >> 1
