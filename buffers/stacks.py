"""Reading stacks of frames by id, for samplers whose items are frames and not transitions."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from playfield._ext import windows
from playfield.buffers.augmentation import Augmenter
from playfield.buffers.store import FrameStore


class StackReader:
    """Gathers the stacks that end at given frames into memory of its own, used again by each call.

    With an `augmenter`, every stack is a random view. Raises ValueError for a stack that the
    store's rings are too short for.
    """

    def __init__(
        self, store: FrameStore, stack: int = 1, augmenter: Augmenter | None = None
    ) -> None:
        if not 1 <= stack <= store.slots:
            raise ValueError(f"stack={stack} has to lie in 1..{store.slots}, the slots of a stream")
        self.store, self.stack, self.augmenter = store, stack, augmenter
        # Of the largest batch so far; a smaller one takes up its beginning.
        self._frames = np.empty((0, store.frame_bytes), np.uint8)
        self._views = torch.empty(0)

    def rows(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Table rows `[B, stack]` of the stacks that end at `ids` `[B]`; -1 before an episode.

        Raises IndexError for an id whose frame, or one of its stack, is not in the store.
        """
        store = self.store
        times, streams = np.divmod(ids, store.streams)
        absent = (times < 0) | (times >= store.head[streams])
        if absent.any():
            raise IndexError(f"id {ids[absent.argmax()]} is not in the store")
        rows = np.empty((len(ids), self.stack), np.int64)
        windows.stack_rows(streams, times, store.step_in_episode, rows)
        self.check_kept(ids)
        return rows

    def check_kept(self, ids: NDArray[np.int64]) -> None:
        """Raise IndexError if a frame of these stacks has been overwritten, or is just being so.

        A reader beside a writing thread asks after it has read.
        """
        lost = windows.overwritten(self.store.kernel_columns, self.store.claimed, ids, self.stack)
        if lost:
            raise IndexError(
                f"id {ids[lost[0]]}: its frame, or one of its stack of {self.stack}, has been "
                "overwritten; a ring has to be long enough for what is still to be read"
            )

    def read(self, ids: NDArray[np.int64]) -> torch.Tensor:
        """Stacks `[B, stack*C, H, W]` (or `[B, stack*D]`), valid until the next call.

        Raises IndexError for an id whose frame, or one of its stack, is not in the store.
        """
        store = self.store
        rows = self.rows(ids)
        if self.augmenter is not None:
            if len(self._views) < len(rows):
                self._views = self.augmenter.empty(rows.shape, store.device)
            frames = self.augmenter.gather(store, rows, self._views[: len(rows)])
        elif store.device.type == "cpu":
            if len(self._frames) < rows.size:
                self._frames = np.empty((rows.size, store.frame_bytes), np.uint8)
            flat = self._frames[: rows.size]
            store.gather_into(rows, flat)
            frames = store.as_frames(torch.from_numpy(flat), rows)
        else:
            frames = store.gather(rows)
        self.check_kept(ids)
        return frames
