"""Uniform sampling of transitions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from playfield._ext import windows
from playfield.buffers.batch import Batch
from playfield.buffers.store import FrameStore
from playfield.buffers.transitions import TransitionReader, TransitionSpec

GENERATOR = "splitmix64"
# Passing over what is not valid is exact and costs next to nothing as long as most frames are; a
# store with hardly a valid transition in it is searched from end to end instead.
DRAWS_BEFORE_SEARCH = 16


class Uniform:
    """Draws transitions uniformly, with replacement, from all that are valid now.

    Stored frames are drawn uniformly and those that begin no valid transition are passed over, so
    that every valid transition has the same probability. The generator is counter based: its whole
    state is the seed and the number of draws so far.
    """

    def __init__(self, store: FrameStore, spec: TransitionSpec, seed: int) -> None:
        self.store, self.spec = store, spec
        self._seed = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
        self._counter = 0
        self._readers: dict[int, TransitionReader] = {}

    def sample(self, batch_size: int) -> Batch:
        """A batch of `batch_size` transitions, valid until the next draw of that size.

        Raises ValueError while the store holds no valid transition.
        """
        reader = self._readers.get(batch_size)
        if reader is None:
            reader = TransitionReader(self.store, self.spec, batch_size)
            self._readers[batch_size] = reader
        self._fill(reader.ids)
        return reader.read()

    def draw(self, count: int) -> NDArray[np.int64]:
        """Ids `[count]` of transitions drawn uniformly from the valid ones."""
        ids = np.empty(count, np.int64)
        self._fill(ids)
        return ids

    def _fill(self, ids: NDArray[np.int64]) -> None:
        store, spec = self.store, self.spec
        filled, self._counter = windows.draw(
            store.head, store.action, store.flags, store.step_in_episode,
            spec.stack, spec.n_step, spec.life_loss_terminal,
            self._seed, self._counter, DRAWS_BEFORE_SEARCH * len(ids), ids,
        )  # fmt: skip
        if filled == len(ids):
            return
        valid = self.valid_ids()
        if not len(valid):
            raise ValueError(
                f"none of the {len(store)} stored frames begins a transition with "
                f"stack={spec.stack}, n_step={spec.n_step} yet"
            )
        chosen = np.random.default_rng([self._seed, self._counter])
        ids[filled:] = chosen.choice(valid, len(ids) - filled)

    def valid_ids(self) -> NDArray[np.int64]:
        """The ids of all transitions that could be drawn now, stream by stream, oldest first."""
        store, spec = self.store, self.spec
        ids = np.empty(len(store), np.int64)
        found = windows.valid(
            store.head, store.action, store.flags, store.step_in_episode,
            spec.stack, spec.n_step, spec.life_loss_terminal, ids,
        )  # fmt: skip
        return ids[:found]

    def state_dict(self) -> dict[str, Any]:
        """The generator's state; the store saves itself."""
        return {"generator": GENERATOR, "seed": self._seed, "counter": self._counter}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the same draws. Raises ValueError for another generator's state."""
        if state.get("generator") != GENERATOR:
            raise ValueError(f"generator: {state.get('generator')!r}, expected {GENERATOR!r}")
        self._seed, self._counter = state["seed"], state["counter"]
