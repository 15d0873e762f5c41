"""Reading transitions out of a store: n steps, discount as data, stacks within an episode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from playfield._ext import windows
from playfield.buffers.augmentation import Augmenter
from playfield.buffers.batch import Batch
from playfield.buffers.store import FrameStore


@dataclass(frozen=True, slots=True)
class TransitionSpec:
    """How a learner wants to see what is stored; none of it is stored itself."""

    stack: int = 4  # frames per observation
    n_step: int = 1  # most steps per transition
    gamma: float = 0.99  # discount per step
    reward_clip: float = 0.0  # each reward is clipped to plus or minus this; 0 leaves it raw
    life_loss_terminal: bool = False  # a lost life ends the return, as in the 2015 protocol

    def __post_init__(self) -> None:
        if self.stack < 1 or self.n_step < 1:
            raise ValueError(f"stack={self.stack} and n_step={self.n_step} have to be 1 or more")
        if not 0 <= self.gamma <= 1 or self.reward_clip < 0:
            raise ValueError(
                f"gamma={self.gamma} has to lie in [0, 1] and "
                f"reward_clip={self.reward_clip} in [0, inf)"
            )

    @property
    def frames_read(self) -> int:
        """Frames per transition: with one step, both observations share all but one of theirs."""
        return self.stack + 1 if self.n_step == 1 else 2 * self.stack


class TransitionReader:
    """Assembles batches of one size into memory of its own, which the next call uses again.

    Fresh memory for every batch would cost more than the copy into it: the system has to clear
    each page first. `Batch.clone` keeps what has to stay. With an `augmenter`, every observation is
    a random view, `obs` and `next_obs` of a transition each one of their own.

    Raises ValueError for transitions that reach over more than the ring, and for empty batches.
    """

    def __init__(
        self,
        store: FrameStore,
        spec: TransitionSpec,
        batch_size: int,
        augmenter: Augmenter | None = None,
    ) -> None:
        check_window(store, spec)
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} has to be 1 or more")
        self.store, self.spec, self.augmenter = store, spec, augmenter
        self.ids = np.zeros(batch_size, np.int64)  # of the next batch: write them, then `read`
        self._rows = np.empty((batch_size, spec.frames_read), np.int64)
        self._action = torch.empty(batch_size, dtype=torch.int64)
        self._reward = torch.empty(batch_size, dtype=torch.float32)
        self._discount = torch.empty(batch_size, dtype=torch.float32)
        self._columns = (self._action.numpy(), self._reward.numpy(), self._discount.numpy())
        self._weight = torch.ones(batch_size, device=store.device)
        self._views: tuple[torch.Tensor, torch.Tensor] | None = None  # augmented observations
        self._frames: NDArray[np.uint8] | None = None
        self._batch: Batch | None = None
        if augmenter is not None:
            shape = (batch_size, spec.stack)
            self._views = (
                augmenter.empty(shape, store.device),
                augmenter.empty(shape, store.device),
            )
        elif store.device.type == "cpu":
            self._frames = np.empty((self._rows.size, store.frame_bytes), np.uint8)
            # All of its tensors are views of memory that stays, so one batch serves every call.
            frames = store.as_frames(torch.from_numpy(self._frames), self._rows)
            self._batch = self._assemble(*self._split(frames))

    def expect(self) -> None:
        """Say that `read` comes in a moment: call it before choosing `self.ids`."""
        if self._frames is not None:
            self.store.expect_gather(self._rows.size)

    def __call__(self, ids: NDArray[np.int64]) -> Batch:
        """The transitions that begin at `ids` `[B]`.

        Raises IndexError for an id that begins no valid transition: overwritten, final, not yet
        complete, or with a stack that reaches past the oldest stored frame.
        """
        self.ids[:] = ids
        batch = self.read()
        if lost := self.overwritten():
            raise self._invalid(lost[0])
        return batch

    def read(self) -> Batch:
        """The transitions that begin at `self.ids`, drawn by a sampler.

        If another thread writes into the store, some may be overwritten by now, and their contents
        are undefined: `overwritten` tells, and has to be asked before the batch is used. Raises
        IndexError for an id that begins no valid transition for any other reason.
        """
        store, spec = self.store, self.spec
        bad = windows.transitions(
            store.kernel_columns, store.head.copy(), self.ids,
            spec.stack, spec.n_step, spec.gamma, spec.reward_clip, spec.life_loss_terminal,
            self._rows, *self._columns,
        )  # fmt: skip
        if bad:
            places = np.flatnonzero(self._columns[0] < 0)
            for place in set(places.tolist()) - set(self.overwritten()):
                raise self._invalid(place)
        if self._frames is not None and self._batch is not None:
            store.gather_into(self._rows, self._frames)
            return self._batch
        if self._views is None or self.augmenter is None:
            return self._assemble(*self._split(store.gather(self._rows)))
        obs, next_obs = self._views
        self.augmenter.gather(store, self._rows[:, : spec.stack], obs)
        self.augmenter.gather(store, self._rows[:, -spec.stack :], next_obs)
        return self._assemble(obs, next_obs)

    def overwritten(self) -> list[int]:
        """Places in `self.ids` whose frames a writer took while they were read, or before."""
        store = self.store
        return windows.overwritten(store.kernel_columns, store.claimed, self.ids, self.spec.stack)

    def _invalid(self, place: int) -> IndexError:
        return IndexError(f"id {self.ids[place]} begins no valid transition")

    def _split(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        planes = self.spec.stack * self.store.frame_shape[0]
        return frames[:, :planes], frames[:, -planes:]

    def _assemble(self, obs: torch.Tensor, next_obs: torch.Tensor) -> Batch:
        on_device = self.store.on_device
        return Batch(
            obs=obs,
            action=on_device(self._action),
            reward=on_device(self._reward),
            discount=on_device(self._discount),
            next_obs=next_obs,
            weight=self._weight,
            index=torch.from_numpy(self.ids),
        )


def check_window(store: FrameStore, spec: TransitionSpec) -> None:
    """Raise ValueError unless a transition's frames fit in a stream's ring."""
    if spec.stack + spec.n_step > store.slots:
        raise ValueError(
            f"stack={spec.stack} and n_step={spec.n_step} do not fit in a ring of "
            f"{store.slots} frames per stream"
        )
