"""Uniform sampling of transitions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from playfield._ext import windows
from playfield.buffers.batch import Batch
from playfield.buffers.store import FrameStore
from playfield.buffers.transitions import TransitionReader, TransitionSpec

# Rejection is exact and nearly always needs one round; a store with hardly a valid transition in it
# is searched from end to end instead.
ROUNDS_BEFORE_SEARCH = 16


class Uniform:
    """Draws transitions uniformly, with replacement, from all that are valid now.

    Stored frames are drawn uniformly and those that begin no valid transition are drawn again one
    by one, so that every valid transition has the same probability.
    """

    def __init__(self, store: FrameStore, spec: TransitionSpec, seed: int) -> None:
        self.store, self.spec = store, spec
        self._rng = np.random.default_rng(seed)
        self._readers: dict[int, TransitionReader] = {}

    def sample(self, batch_size: int) -> Batch:
        """A batch of `batch_size` transitions, valid until the next draw of that size.

        Raises ValueError while the store holds no valid transition.
        """
        reader = self._readers.get(batch_size)
        if reader is None:
            reader = TransitionReader(self.store, self.spec, batch_size)
            self._readers[batch_size] = reader
        return reader(self.draw(batch_size))

    def draw(self, count: int) -> NDArray[np.int64]:
        """Ids `[count]` of transitions drawn uniformly from the valid ones."""
        stored = len(self.store)
        ids = np.empty(count, np.int64)
        filled = 0
        for _ in range(ROUNDS_BEFORE_SEARCH if stored else 0):
            draws = self._rng.integers(0, stored, size=count - filled + 8)
            filled = self._accept(draws, ids, filled)
            if filled == count:
                return ids
        valid = self.valid_ids()
        if not len(valid):
            raise ValueError(
                f"none of the {stored} stored frames begins a transition with "
                f"stack={self.spec.stack}, n_step={self.spec.n_step} yet"
            )
        ids[filled:] = self._rng.choice(valid, count - filled)
        return ids

    def valid_ids(self) -> NDArray[np.int64]:
        """The ids of all transitions that could be drawn now, stream by stream, oldest first."""
        stored = len(self.store)
        ids = np.empty(stored, np.int64)
        return ids[: self._accept(np.arange(stored), ids, 0)]

    def _accept(self, draws: NDArray[np.int64], ids: NDArray[np.int64], filled: int) -> int:
        store, spec = self.store, self.spec
        accepted: int = windows.accept(
            draws, store.head, store.action, store.flags, store.step_in_episode,
            spec.stack, spec.n_step, spec.life_loss_terminal, ids, filled,
        )  # fmt: skip
        return accepted

    def state_dict(self) -> dict[str, Any]:
        """The generator's state; the store saves itself."""
        return {"rng": self._rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the same draws. Raises ValueError for another generator's state."""
        if state["rng"].get("bit_generator") != "PCG64":
            raise ValueError(f"rng: {state['rng'].get('bit_generator')!r}, expected 'PCG64'")
        self._rng.bit_generator.state = state["rng"]
