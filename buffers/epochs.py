"""Epochs: every item exactly once, in an order that three numbers decide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from playfield._ext import shuffle
from playfield.buffers import generator
from playfield.buffers.augmentation import NUMBERS_PER_SAMPLE, Augmentation, augmenter_for
from playfield.buffers.batch import changed
from playfield.buffers.stacks import StackReader
from playfield.buffers.store import FrameStore

#: An epoch's order takes up fewer numbers of its stream than this; views are chosen by later ones.
ORDER_NUMBERS = 1 << 32


class Epochs:
    """Goes through `0 .. count-1` in batches, each epoch in a random order of its own.

    The whole state is the seed, the epoch's number and the cursor: how many items of the epoch's
    order are used up. The order follows from seed, number and count alone, so a restored state goes
    on with the same items, whatever versions, batch size or number of ranks it goes on with.

    Ranks that share the work see the same batches: one batch of `batch_size` is cut among them into
    consecutive shares that differ by at most one item. All ranks take the same number of batches;
    in a short last one the share of a rank may be empty.

    Args:
        count: items.
        batch_size: items per batch, of all ranks together.
        seed: of the orders; any integer of 0 or more.
        rank, ranks: whose share this object gives.
        drop_last: leave out the last batch of an epoch if it is short, instead of giving it short.

    Raises ValueError, naming the argument, for numbers that make no epochs.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        ranks: int = 1,
        drop_last: bool = False,
    ) -> None:
        if not 0 <= rank < ranks:
            raise ValueError(f"rank={rank} has to lie in 0..{ranks - 1}")
        if batch_size < ranks:
            raise ValueError(f"batch_size={batch_size} leaves nothing to some of {ranks} ranks")
        self.batch_size, self.rank, self.ranks, self.drop_last = batch_size, rank, ranks, drop_last
        self.seed = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
        self.epoch = 0  # number of the epoch that the next batch belongs to
        self.cursor = 0  # items of it that are used up, by all ranks together
        self.count = count
        self._order: NDArray[np.int64] | None = None  # of this epoch, from its first batch on
        self.start()

    def __len__(self) -> int:
        """Batches in an epoch."""
        whole, rest = divmod(self.count, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """This rank's indices, batch by batch, to the end of the present epoch."""
        epoch = self.epoch
        while self.epoch == epoch:
            yield self.indices()

    def indices(self) -> NDArray[np.int64]:
        """This rank's share `[B]` of the next batch; after an epoch's last, the next one begins."""
        share = self.upcoming()
        self.advance()
        return share

    def upcoming(self) -> NDArray[np.int64]:
        """What `indices` will give, for those who `advance` only once they have used it."""
        order = self._order
        if order is None:
            order = self._order = np.empty(self.count, np.int64)
            shuffle.permutation(self.seed, self.epoch, order)
        return order[self.share].copy()

    @property
    def share(self) -> slice:
        """Places in the epoch's order that this rank's part of the next batch takes up."""
        size = min(self.batch_size, self.count - self.cursor)
        begin, end = (size * rank // self.ranks for rank in (self.rank, self.rank + 1))
        return slice(self.cursor + begin, self.cursor + end)

    def advance(self) -> None:
        """Count the next batch as used."""
        self.cursor = min(self.cursor + self.batch_size, self.count)
        self._end_if_used_up()

    def _end_if_used_up(self) -> None:
        if self.count - self.cursor < (self.batch_size if self.drop_last else 1):
            self.start()

    def start(self, count: int | None = None) -> None:
        """Leave the rest of the present epoch out; the next one has `count` items, if given.

        At the start of an epoch there is nothing to leave out: its number stays the same.
        """
        count = self.count if count is None else count
        if count < 1 or (self.drop_last and count < self.batch_size):
            raise ValueError(f"count={count} gives no batch of {self.batch_size}")
        self.epoch += self.cursor > 0
        self.cursor, self.count = 0, count
        self._order = None

    def state_dict(self) -> dict[str, Any]:
        """Seed, epoch and cursor, and the count that they are true of."""
        return {
            "seed": self.seed,
            "epoch": self.epoch,
            "cursor": self.cursor,
            "count": self.count,
        }

    def load_state_dict(self, state: Mapping[str, Any], count: int | None = None) -> None:
        """Go on at the same batch, in an epoch of `count` items (as many as now, if not given).

        Raises ValueError, naming the field, for what does not fit.
        """
        count = self.count if count is None else count
        for name, limit in {"seed": 1 << 64, "epoch": 1 << 64, "cursor": max(count, 1)}.items():
            value = state.get(name)
            if type(value) is not int or not 0 <= value < limit:
                raise ValueError(f"{name}: {value!r}, expected an integer in 0..{limit - 1}")
        if state.get("count") != count:
            raise ValueError(f"count: {state.get('count')!r}, expected {count}")
        self.seed, self.epoch, self.cursor = state["seed"], state["epoch"], state["cursor"]
        self.count, self._order = count, None
        self._end_if_used_up()


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """B stored frames with what is declared beside them."""

    frames: torch.Tensor  # [B, C, H, W] uint8, or [B, D] float32
    extra: dict[str, torch.Tensor]  # the store's columns, such as a label: [B, …] each
    index: torch.Tensor  # [B] int64 on the CPU, the store's ids

    def clone(self) -> FrameBatch:
        """A copy that stays as it is when the sampler goes on."""
        return changed(self, torch.Tensor.clone)

    def to(self, device: torch.device | str) -> FrameBatch:
        """The same batch on another device; the ids stay on the CPU."""
        return changed(self, lambda tensor: tensor.to(device), stays=("index",))


class FrameEpochs:
    """Goes through the frames of a store in batches, each frame once per epoch.

    The items of an epoch are the frames that are stored when its first batch is taken, stream by
    stream and oldest first; what comes later waits for the next epoch. An item that the store
    overwrites before its turn is an IndexError, and `epochs.start()` goes on to the next epoch.

    `epochs` holds the order and is the whole state, with the heads that the epoch began with: in a
    data set, which does not grow, they say no more than the number of items.

    With an `augmentation` every frame is a random view, which follows from seed, epoch and place in
    the order like everything else. The other arguments are those of `Epochs`. Raises ValueError for
    an empty store, and for an augmentation that does not fit its frames.
    """

    def __init__(
        self,
        store: FrameStore,
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        ranks: int = 1,
        drop_last: bool = False,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.store = store
        self.epochs = Epochs(
            len(store), batch_size, seed, rank=rank, ranks=ranks, drop_last=drop_last
        )
        self._head = store.head.copy()  # when the epoch began
        self.augmenter = augmenter_for(store, augmentation, seed)
        self._reader = StackReader(store, augmenter=self.augmenter)

    def __iter__(self) -> Iterator[FrameBatch]:
        """Batch by batch to the end of the present epoch; see `sample`."""
        epoch = self.epochs.epoch
        while self.epochs.epoch == epoch:
            yield self.sample()

    def sample(self) -> FrameBatch:
        """This rank's share of the next batch, valid until the next call.

        Raises IndexError, and does not go on, if a frame was overwritten since the epoch began.
        """
        if self.epochs.cursor == 0:
            self._head = self.store.head.copy()
            self.epochs.start(self._sizes().sum().item())
        ids = self._ids(self.epochs.upcoming())
        times, streams = np.divmod(ids, self.store.streams)
        extra = {
            name: self.store.on_device(torch.from_numpy(column[streams, times % self.store.slots]))
            for name, column in self.store.extra.items()
        }
        self._place_views()
        batch = FrameBatch(self._reader.read(ids), extra, torch.from_numpy(ids))
        self.epochs.advance()
        return batch

    def _place_views(self) -> None:
        """Let the augmenter choose by the numbers that belong to the next batch's places."""
        if self.augmenter is None:
            return
        epochs = self.epochs
        self.augmenter.load_state_dict(
            {
                "generator": generator.NAME,
                "seed": int(generator.random_bits(epochs.seed, epochs.epoch, 1)[0]),
                "counter": ORDER_NUMBERS + NUMBERS_PER_SAMPLE * epochs.share.start,
            }
        )

    def _sizes(self) -> NDArray[np.int64]:
        """Items in each stream."""
        return np.minimum(self._head, self.store.slots)

    def _ids(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        ends = np.cumsum(self._sizes(), dtype=np.int64)
        streams = np.searchsorted(ends, items, side="right")
        # A stream's last item is the frame before its head.
        times = self._head[streams] - (ends[streams] - items)
        return times * self.store.streams + streams

    def state_dict(self) -> dict[str, Any]:
        """Seed, epoch, cursor and count, and the heads that the epoch's items follow from."""
        return {**self.epochs.state_dict(), "head": self._head.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on at the same batch of the same frames.

        Raises ValueError, naming the field, for what does not fit, such as a store that does not
        hold what the epoch began with.
        """
        head = state.get("head")
        if not (
            isinstance(head, list)
            and len(head) == self.store.streams
            and all(type(time) is int for time in head)
            and all(0 <= time <= now for time, now in zip(head, self.store.head, strict=True))
        ):
            raise ValueError(
                f"head: {head!r}, expected one time for each stream, up to {self.store.head}"
            )
        count = sum(min(time, self.store.slots) for time in head)
        self.epochs.load_state_dict(state, count)
        self._head[:] = head
