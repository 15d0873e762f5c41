"""Windows of consecutive steps, for recurrent learners and world models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from playfield._ext import sequences
from playfield.buffers.augmentation import Augmentation, Augmenter, augmenter_for
from playfield.buffers.batch import changed
from playfield.buffers.generator import CounterGenerator
from playfield.buffers.store import FrameStore

# As for transitions, but of `stride` frames only one may begin a window.
DRAWS_BEFORE_SEARCH = 16


@dataclass(frozen=True, slots=True)
class SequenceSpec:
    """How a learner wants to see what is stored; none of it is stored itself.

    A window covers `burn_in + length` steps and one observation more. Windows begin at every
    `stride`-th step of an episode, so they overlap by `burn_in + length - stride` steps. The last
    ones of an episode are shorter and padded: a window never goes on into the next episode.

    Every step but the first `burn_in` of an episode is learnt from in some window as long as
    `stride <= length`, and in exactly one if `stride == length`. R2D2 (Kapturowski et al. 2019,
    section 2.3), in which sequences of 80 steps overlap by 40, has `length=80, stride=40`. A window
    that ends within its own burn-in would teach nothing and is never drawn.

    A lost life ends the return where `life_loss_terminal` asks for it, but not the window: the game
    goes on, and so does a recurrent state.
    """

    length: int  # steps to learn from
    burn_in: int = 0  # steps before these, which only warm a recurrent state up
    stride: int = 1  # steps from the start of one window to the next in the same episode
    stack: int = 1  # frames per observation
    gamma: float = 0.99  # discount per step
    reward_clip: float = 0.0  # each reward is clipped to plus or minus this; 0 leaves it raw
    life_loss_terminal: bool = False  # a lost life ends the return, as in the 2015 protocol
    recency_half_life: float | None = None  # in frames of a stream; None: all windows alike

    def __post_init__(self) -> None:
        for name, least in (("length", 1), ("burn_in", 0), ("stride", 1), ("stack", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} has to be {least} or more")
        if not 0 <= self.gamma <= 1 or not self.reward_clip >= 0:
            raise ValueError(
                f"gamma={self.gamma} has to lie in [0, 1] and "
                f"reward_clip={self.reward_clip} in [0, inf)"
            )
        half_life = self.recency_half_life
        if half_life is not None and not (half_life > 0 and math.isfinite(half_life)):
            raise ValueError(f"recency_half_life={half_life} has to be None or above 0 and finite")

    @property
    def steps(self) -> int:
        """Steps per window, T."""
        return self.burn_in + self.length

    @property
    def frames_read(self) -> int:
        """Frames per window: the stacks of successive observations share all but one of theirs."""
        return self.steps + self.stack


@dataclass(frozen=True, slots=True)
class SequenceBatch:
    """B windows of T steps, the first `SequenceSpec.burn_in` of which are for burning in.

    A window with fewer real steps is padded at its end, where `mask` is 0: action, reward, discount
    and extra columns are zero there. Its observations go on for one place after its last step,
    which is the episode's final observation. The frames after that are zero. So are observations
    then, except that in the next `stack - 1` the episode's last frames are still on their way out:
    they are the price of holding every frame of a window once.
    """

    frames: torch.Tensor  # [B, T + stack, C, H, W] uint8, or [B, T + stack, D] float32: each once
    action: torch.Tensor  # [B, T] int64
    reward: torch.Tensor  # [B, T] float32, what the action brought, clipped
    discount: torch.Tensor  # [B, T] float32, gamma; 0 where the episode terminated
    mask: torch.Tensor  # [B, T] float32, 1 for real steps and 0 for padding
    first: torch.Tensor  # [B] bool, whether the window begins its episode, with no state before it
    weight: torch.Tensor  # [B] float32, importance weights: 1
    index: torch.Tensor  # [B] int64 on the CPU, the store's id of each window's first frame
    extra: dict[str, torch.Tensor]  # each [B, T, ...]: the columns asked for; [:, 0] at the start
    stack: int  # frames per observation

    @property
    def obs(self) -> torch.Tensor:
        """Observations `[B, T+1, stack*C, H, W]` (or `[B, T+1, stack*D]`), oldest frame first.

        A view of `frames` in which successive observations share memory: only to be read.
        """
        return self.frames.unfold(1, self.stack, 1).movedim(-1, 2).flatten(2, 3)

    def clone(self) -> SequenceBatch:
        """A copy that stays as it is when the sampler draws again."""
        return changed(self, torch.Tensor.clone, stays=("stack",))

    def to(self, device: torch.device | str) -> SequenceBatch:
        """The same batch on another device; the ids stay on the CPU."""
        return changed(self, lambda tensor: tensor.to(device), stays=("index", "stack"))


class SequenceReader:
    """Assembles batches of one size into memory of its own, which the next call uses again.

    Raises ValueError for windows longer than the ring, columns that the store lacks, and empty
    batches.
    """

    def __init__(
        self,
        store: FrameStore,
        spec: SequenceSpec,
        batch_size: int,
        columns: Sequence[str] = (),
        augmenter: Augmenter | None = None,
    ) -> None:
        check_window(store, spec, columns)
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} has to be 1 or more")
        self.store, self.spec = store, spec
        self.ids = np.zeros(batch_size, np.int64)  # of the next batch: write them, then `read`
        self._augmenter = augmenter
        self._rows = np.empty((batch_size, spec.frames_read), np.int64)
        shape = (batch_size, spec.steps)
        self._action = torch.empty(shape, dtype=torch.int64)
        self._reward = torch.empty(shape)
        self._discount = torch.empty(shape)
        self._mask = torch.empty(shape)
        self._first = torch.empty(batch_size, dtype=torch.bool)
        self._weight = torch.ones(batch_size, device=store.device)
        self._extra = {
            name: torch.from_numpy(np.empty((*shape, *column.shape[2:]), column.dtype))
            for name in columns
            for column in (store.extra[name],)
        }
        self._reach = np.zeros(batch_size, np.int64)  # time of the oldest frame of each window
        self._frames: torch.Tensor | None = None
        if store.device.type == "cpu":
            if augmenter is not None:
                self._frames = augmenter.empty(self._rows.shape, store.device)
            else:
                flat = torch.from_numpy(np.empty((self._rows.size, store.frame_bytes), np.uint8))
                self._frames = store.as_frames(flat, self._rows)

    def expect(self) -> None:
        """Say that `read` comes in a moment: call it before choosing `self.ids`."""
        if self._augmenter is None:
            self.store.expect_gather(self._rows.size)

    def __call__(self, ids: NDArray[np.int64]) -> SequenceBatch:
        """The windows that begin at `ids` `[B]`.

        Raises IndexError for an id that begins no valid window: overwritten, final, no multiple of
        the stride, not yet complete, over within the burn-in, or with a stack that reaches past the
        oldest stored frame.
        """
        self.ids[:] = ids
        batch = self.read()
        if lost := self.overwritten():
            raise self._invalid(lost[0])
        return batch

    def read(self) -> SequenceBatch:
        """The windows that begin at `self.ids`, drawn by a sampler.

        If another thread writes into the store, some may be overwritten by now, and their contents
        are undefined: `overwritten` tells, and has to be asked before the batch is used. Raises
        IndexError for an id that begins no valid window for any other reason.
        """
        store, spec = self.store, self.spec
        mask = self._mask.numpy()
        bad = sequences.read(
            self.ids, store.head.copy(),
            store.action, store.reward, store.flags, store.step_in_episode,
            spec.stack, spec.burn_in, spec.stride,
            spec.gamma, spec.reward_clip, spec.life_loss_terminal,
            self._rows, self._action.numpy(), self._reward.numpy(), self._discount.numpy(), mask,
            self._first.numpy().view(np.uint8), self._reach,
        )  # fmt: skip
        if bad:
            places = np.flatnonzero(mask[:, 0] == 0)
            for place in set(places.tolist()) - set(self.overwritten()):
                raise self._invalid(place)
        padding = mask == 0
        rows = self._rows[:, spec.stack - 1 : -1]  # [B, T], of the frames that were acted on
        for name, tensor in self._extra.items():
            column = store.extra[name]
            out = tensor.numpy()
            column.reshape(-1, *column.shape[2:]).take(rows, axis=0, out=out, mode="clip")
            out[padding] = 0
        return self._view(self._gather())

    def overwritten(self) -> list[int]:
        """Places in `self.ids` whose frames a writer took while they were read, or before."""
        store = self.store
        oldest = store.claimed[self.ids % store.streams] - store.slots
        return np.flatnonzero(self._reach < oldest).tolist()

    def _invalid(self, place: int) -> IndexError:
        return IndexError(f"id {self.ids[place]} begins no valid window")

    def _gather(self) -> torch.Tensor:
        store, frames = self.store, self._frames
        if self._augmenter is not None:
            return self._augmenter.gather(store, self._rows, frames)
        if frames is None:
            return store.gather(self._rows)
        flat = frames.view(torch.uint8).view(-1, store.frame_bytes)
        store.gather_into(self._rows, flat.numpy())
        return frames

    def _view(self, frames: torch.Tensor) -> SequenceBatch:
        on_device = self.store.on_device
        return SequenceBatch(
            frames=frames.view(len(frames), self.spec.frames_read, -1, *frames.shape[2:]),
            action=on_device(self._action),
            reward=on_device(self._reward),
            discount=on_device(self._discount),
            mask=on_device(self._mask),
            first=on_device(self._first),
            weight=self._weight,
            index=torch.from_numpy(self.ids),
            extra={name: on_device(tensor) for name, tensor in self._extra.items()},
            stack=self.spec.stack,
        )


class Sequences:
    """Draws windows with replacement from all that are valid now: uniformly, or recent ones more.

    With `SequenceSpec.recency_half_life`, the probability of a window is proportional to
    0.5^(age / half-life), exactly; its age is the number of frames that its stream has taken in
    since the window's first one.

    Args:
        store: where the windows lie.
        spec: what a window is.
        seed: of the draws, and of the augmentation.
        columns: declared columns of the store to read along, into `SequenceBatch.extra`.
        augmentation: of the pictures; all frames of a window are treated alike.

    Raises ValueError for windows longer than the ring, columns that the store lacks, and
    augmentation that its frames do not admit. Another thread may write into the store meanwhile:
    what it overwrites is drawn again.
    """

    def __init__(
        self,
        store: FrameStore,
        spec: SequenceSpec,
        seed: int,
        columns: Sequence[str] = (),
        augmentation: Augmentation | None = None,
    ) -> None:
        self.store, self.spec, self.columns = store, spec, tuple(columns)
        self.generator = CounterGenerator(seed)
        self.augmenter = augmenter_for(store, augmentation, seed)
        self._readers: dict[int, SequenceReader] = {}
        check_window(store, spec, self.columns)  # now, not at the first draw

    def sample(self, batch_size: int) -> SequenceBatch:
        """A batch of `batch_size` windows, valid until the next draw of that size.

        Raises ValueError while the store holds no valid window.
        """
        reader = self._reader(batch_size)
        reader.expect()
        reader.ids[:] = self.draw(batch_size)
        batch = reader.read()
        while lost := reader.overwritten():
            reader.ids[lost] = self.draw(len(lost))
            batch = reader.read()
        return batch

    def draw(self, count: int) -> NDArray[np.int64]:
        """Ids `[count]` of windows, each drawn from all valid ones."""
        store, spec, generator = self.store, self.spec, self.generator
        ids, head = np.empty(count, np.int64), store.head.copy()
        # Where it takes more draws than there are frames, a search from end to end is as quick.
        draws = DRAWS_BEFORE_SEARCH * count + min(
            DRAWS_BEFORE_SEARCH * count * (spec.stride - 1), len(store)
        )
        columns = (store.action, store.flags, store.step_in_episode)
        window = (spec.stack, spec.steps, spec.burn_in, spec.stride)
        random = (generator.seed, generator.counter, draws)
        if spec.recency_half_life is None:
            filled, generator.counter = sequences.draw(head, *columns, *window, *random, ids)
        else:
            filled, generator.counter = sequences.draw_recent(
                head, *columns, *window, spec.recency_half_life, *random,
                np.empty(store.streams, np.int64), np.empty(store.streams), ids,
            )  # fmt: skip
        if filled < count:
            ids[filled:] = self._search(head, count - filled)
        return ids

    def _search(self, head: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """`draw` among all valid windows, listed."""
        store, spec = self.store, self.spec
        valid = self._valid(head)
        if not len(valid):
            raise ValueError(
                f"none of the {len(store)} stored frames begins a window of length={spec.length} "
                f"with burn_in={spec.burn_in}, stride={spec.stride} and stack={spec.stack} yet"
            )
        if spec.recency_half_life is None:
            return valid[self.generator.integers(len(valid), count)]
        age = head[valid % store.streams] - valid // store.streams
        weight = np.exp2((age.min() - age) / spec.recency_half_life)
        below = np.cumsum(weight)
        drawn = np.searchsorted(below, self.generator.uniforms(count) * below[-1], side="right")
        return valid[np.minimum(drawn, len(valid) - 1)]

    def valid_ids(self) -> NDArray[np.int64]:
        """The ids of all windows that could be drawn now, stream by stream, oldest first."""
        return self._valid(self.store.head.copy())

    def _valid(self, head: NDArray[np.int64]) -> NDArray[np.int64]:
        store, spec = self.store, self.spec
        ids = np.empty(store.capacity, np.int64)
        found = sequences.valid(
            head, store.action, store.flags, store.step_in_episode,
            spec.stack, spec.steps, spec.burn_in, spec.stride, ids,
        )  # fmt: skip
        return ids[:found]

    def _reader(self, batch_size: int) -> SequenceReader:
        reader = self._readers.get(batch_size)
        if reader is None:
            reader = SequenceReader(self.store, self.spec, batch_size, self.columns, self.augmenter)
            self._readers[batch_size] = reader
        return reader

    def state_dict(self) -> dict[str, Any]:
        """The generators' state; the store saves itself."""
        state = self.generator.state_dict()
        if self.augmenter is not None:
            state["augmenter"] = self.augmenter.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the same draws. Raises ValueError, naming the field, for another's state."""
        self.generator.load_state_dict(state)
        if self.augmenter is not None:
            self.augmenter.load_state_dict(state.get("augmenter", {}))


def check_window(store: FrameStore, spec: SequenceSpec, columns: Sequence[str]) -> None:
    """Raise ValueError unless a whole window fits in a stream's ring and the columns are there."""
    if spec.frames_read > store.slots:
        raise ValueError(
            f"a window of burn_in={spec.burn_in} and length={spec.length} steps with "
            f"stack={spec.stack} reads {spec.frames_read} frames, which do not fit in a ring of "
            f"{store.slots} frames per stream"
        )
    for name in columns:
        if name not in store.columns:
            declared = ", ".join(store.columns) or "none"
            raise ValueError(f"columns: {name!r} is not one of the store's ({declared})")
