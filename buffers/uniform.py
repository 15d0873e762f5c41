"""Uniform sampling of transitions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playfield._ext import windows
from playfield.buffers.augmentation import Augmentation, augmenter_for
from playfield.buffers.batch import Batch
from playfield.buffers.generator import CounterGenerator
from playfield.buffers.store import FrameStore
from playfield.buffers.transitions import TransitionReader, TransitionSpec, check_window

# Passing over what is not valid is exact and costs next to nothing as long as most frames are; a
# store with hardly a valid transition in it is searched from end to end instead.
DRAWS_BEFORE_SEARCH = 16


class Uniform:
    """Draws transitions uniformly, with replacement, from all that are valid now.

    Stored frames are drawn uniformly and those that begin no valid transition are passed over, so
    that every valid transition has the same probability. The generator is counter based: its whole
    state is the seed and the number of draws so far.

    Another thread may write into the store meanwhile: what it overwrites is drawn again. With an
    `augmentation` every observation is a random view of what is stored.

    Raises ValueError for transitions that reach over more than the ring, and for an augmentation
    that the store's frames do not admit.
    """

    def __init__(
        self,
        store: FrameStore,
        spec: TransitionSpec,
        seed: int,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.store, self.spec = store, spec
        self.augmenter = augmenter_for(store, augmentation, seed)
        self.generator = CounterGenerator(seed)
        self._readers: dict[int, TransitionReader] = {}
        check_window(store, spec)  # now, not at the first draw

    def sample(self, batch_size: int) -> Batch:
        """A batch of `batch_size` transitions, valid until the next draw of that size.

        Raises ValueError while the store holds no valid transition.
        """
        reader = self._readers.get(batch_size)
        if reader is None:
            reader = TransitionReader(self.store, self.spec, batch_size, self.augmenter)
            self._readers[batch_size] = reader
        reader.expect()
        self._fill(reader.ids)
        batch = reader.read()
        while lost := reader.overwritten():
            reader.ids[lost] = self.draw(len(lost))
            batch = reader.read()
        return batch

    def draw(self, count: int) -> NDArray[np.int64]:
        """Ids `[count]` of transitions drawn uniformly from the valid ones."""
        ids = np.empty(count, np.int64)
        self._fill(ids)
        return ids

    def _fill(self, ids: NDArray[np.int64]) -> None:
        store, spec, generator = self.store, self.spec, self.generator
        filled, generator.counter = windows.draw(
            store.kernel_columns, store.head.copy(),
            spec.stack, spec.n_step, spec.life_loss_terminal,
            generator.seed, generator.counter, DRAWS_BEFORE_SEARCH * len(ids), ids,
        )  # fmt: skip
        if filled == len(ids):
            return
        valid = self.valid_ids()
        if not len(valid):
            raise ValueError(
                f"none of the {len(store)} stored frames begins a transition with "
                f"stack={spec.stack}, n_step={spec.n_step} yet"
            )
        ids[filled:] = valid[generator.integers(len(valid), len(ids) - filled)]

    def valid_ids(self) -> NDArray[np.int64]:
        """The ids of all transitions that could be drawn now, stream by stream, oldest first."""
        store, spec = self.store, self.spec
        ids = np.empty(store.capacity, np.int64)
        found = windows.valid(
            store.kernel_columns, store.head.copy(),
            spec.stack, spec.n_step, spec.life_loss_terminal, ids,
        )  # fmt: skip
        return ids[:found]

    def state_dict(self) -> dict[str, Any]:
        """The generators' states; the store saves itself."""
        state = self.generator.state_dict()
        if self.augmenter is not None:
            state["augmenter"] = self.augmenter.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the same draws. Raises ValueError, naming the field, for another's state."""
        self.generator.load_state_dict(state)
        if self.augmenter is not None:
            self.augmenter.load_state_dict(state.get("augmenter", {}))
