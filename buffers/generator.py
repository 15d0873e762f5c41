"""A counter-based random generator: the same numbers in Cython, numpy and torch, on any device.

splitmix64 (Steele, Lea and Flood 2014): number i of a stream is a hash of (seed, i), so the whole
state is the seed and the count of numbers used so far. `_ext/rings.pxd` has the same function.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

NAME = "splitmix64"
_STEP, _MIX1, _MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MASK = (1 << 64) - 1


class CounterGenerator:
    """One stream of random numbers; kernels take `seed` and `counter` and report what they used.

    Streams of one seed with different `stream` are unrelated.
    """

    def __init__(self, seed: int, stream: int = 0) -> None:
        sequence = np.random.SeedSequence(seed, spawn_key=(stream,))
        self.seed = int(sequence.generate_state(1, np.uint64)[0])
        self.counter = 0

    def take(self, count: int) -> int:
        """Set `count` numbers aside; returns the counter of the first."""
        first = self.counter
        self.counter += count
        return first

    def bits(self, count: int) -> NDArray[np.uint64]:
        """The next `count` numbers, 64 random bits each."""
        return random_bits(self.seed, self.take(count), count)

    def uniforms(self, count: int) -> NDArray[np.float64]:
        """The next `count` numbers as float64 in `[0, 1)`, multiples of 2^-53."""
        return (self.bits(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def integers(self, high: int, count: int) -> NDArray[np.int64]:
        """The next `count` numbers scaled to `0 <= i < high`; `high` is below 2^32."""
        return scaled(self.bits(count), high)

    def state_dict(self) -> dict[str, Any]:
        return {"generator": NAME, "seed": self.seed, "counter": self.counter}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the same numbers. Raises ValueError, naming the field, for another's state."""
        if state.get("generator") != NAME:
            raise ValueError(f"generator: {state.get('generator')!r}, expected {NAME!r}")
        for name in ("seed", "counter"):
            value = state.get(name)
            if not isinstance(value, int) or not 0 <= value <= _MASK:
                raise ValueError(f"{name}: {value!r}, expected an integer of 64 bits")
        self.seed, self.counter = state["seed"], state["counter"]


def random_bits(seed: int, counter: int, count: int) -> NDArray[np.uint64]:
    """Numbers `counter .. counter + count - 1` of the stream, uint64 `[count]`."""
    z = np.arange(counter + 1, counter + 1 + count, dtype=np.uint64) * np.uint64(_STEP)
    z += np.uint64(seed)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(_MIX1)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(_MIX2)
    return z ^ (z >> np.uint64(31))


def scaled(bits: NDArray[np.uint64], high: int) -> NDArray[np.int64]:
    """64 random bits each as integers `0 <= i < high`: the high word of bits * high."""
    low = ((bits & np.uint64(0xFFFFFFFF)) * np.uint64(high)) >> np.uint64(32)
    result: NDArray[np.int64] = (
        ((bits >> np.uint64(32)) * np.uint64(high) + low) >> np.uint64(32)
    ).astype(np.int64)
    return result


def torch_bits(seed: int, counter: int, count: int, device: torch.device) -> torch.Tensor:
    """`random_bits` on a device, as int64 `[count]` with the same 64 bits (torch lacks uint64)."""
    z = torch.arange(counter + 1, counter + 1 + count, dtype=torch.int64, device=device)
    z = z * _signed(_STEP) + _signed(seed)
    z = (z ^ _shifted(z, 30)) * _signed(_MIX1)
    z = (z ^ _shifted(z, 27)) * _signed(_MIX2)
    return z ^ _shifted(z, 31)


def torch_uniforms(seed: int, counter: int, count: int, device: torch.device) -> torch.Tensor:
    """`CounterGenerator.uniforms` on a device: float64 `[count]`, the same bits."""
    return _shifted(torch_bits(seed, counter, count, device), 11).to(torch.float64) * 2.0**-53


def _signed(bits: int) -> int:
    return bits - (1 << 64) if bits >> 63 else bits


def _shifted(z: torch.Tensor, by: int) -> torch.Tensor:
    """Logical shift to the right: torch's own keeps the sign."""
    return (z >> by) & ((1 << (64 - by)) - 1)
