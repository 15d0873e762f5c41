"""Rollouts: the last T steps of every stream, and their minibatches for on-policy learners."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from playfield._ext import windows
from playfield.buffers.batch import changed
from playfield.buffers.epochs import Epochs
from playfield.buffers.stacks import StackReader
from playfield.buffers.store import FrameStore
from playfield.buffers.transitions import TransitionSpec


@dataclass(frozen=True, slots=True)
class Trajectory:
    """T steps of E streams, time-major, as `buffers.returns` takes them; arrays of its own.

    The newest frame of every stream is the successor of the last step. It is not a row here, but
    `values` has a row for it.
    """

    index: NDArray[np.int64]  # [T, E], the store's ids of the observations
    action: NDArray[np.int64]  # [T, E]; -1 where there is no step
    reward: NDArray[np.float32]  # [T, E], arrived with the successor, clipped; 0 without a step
    discount: NDArray[np.float32]  # [T, E], gamma; 0 where the successor is terminal, or no step
    ends: NDArray[np.bool_]  # [T, E], the successor is the last of an episode (or of a life)
    valid: NDArray[np.bool_]  # [T, E], False on the final observation of an episode: no step there
    first: NDArray[np.bool_]  # [T, E], the observation is the first of an episode
    extra: dict[str, NDArray[Any]]  # the store's columns, [T, E, …] each
    initial: dict[str, NDArray[Any]]  # those that only the first step needs, [E, …] each

    def values(self, bootstrap: ArrayLike) -> NDArray[np.float32]:
        """The column "value" with the values `[E]` of the newest frames below it: `[T+1, E]`.

        The column holds what `FrameStore.act` was given with every frame, final observations
        included, from whose values a truncated step bootstraps. Raises ValueError if the store has
        no such column.
        """
        if "value" not in self.extra:
            raise ValueError('the store has no column "value" to take values from')
        newest = np.broadcast_to(np.asarray(bootstrap, np.float32), self.valid[:1].shape)
        return np.concatenate([self.extra["value"].astype(np.float32), newest])


@dataclass(frozen=True, slots=True)
class StepBatch:
    """B steps of a trajectory, in random order."""

    obs: torch.Tensor  # [B, stack*C, H, W] uint8, or [B, stack*D] float32
    action: torch.Tensor  # [B] int64
    extra: dict[str, torch.Tensor]  # columns and targets, [B, …] each
    index: torch.Tensor  # [B] int64 on the CPU, the store's ids

    def clone(self) -> StepBatch:
        """A copy that stays as it is when the rollout goes on."""
        return changed(self, torch.Tensor.clone)

    def to(self, device: torch.device | str) -> StepBatch:
        """The same batch on another device; the ids stay on the CPU."""
        return changed(self, lambda tensor: tensor.to(device), stays=("index",))


@dataclass(frozen=True, slots=True)
class StreamBatch:
    """All T steps of B streams, in order, for a recurrent learner.

    A state is set back wherever `first` is, before the observation is used. Rows that are not
    `valid` (final observations) belong to no loss; the state runs through them.
    """

    obs: torch.Tensor  # [T, B, stack*C, H, W] uint8, or [T, B, stack*D] float32
    action: torch.Tensor  # [T, B] int64; 0 where there is no step
    valid: torch.Tensor  # [T, B] bool
    first: torch.Tensor  # [T, B] bool
    extra: dict[str, torch.Tensor]  # columns and targets, [T, B, …] each
    initial: dict[str, torch.Tensor]  # columns of the first step alone, [B, …] each
    index: torch.Tensor  # [T, B] int64 on the CPU, the store's ids

    def clone(self) -> StreamBatch:
        """A copy that stays as it is when the rollout goes on."""
        return changed(self, torch.Tensor.clone)

    def to(self, device: torch.device | str) -> StreamBatch:
        """The same batch on another device; the ids stay on the CPU."""
        return changed(self, lambda tensor: tensor.to(device), stays=("index",))


class Rollout:
    """Reads the last `steps` steps of every stream of a store, and shuffles them.

        rollout = Rollout(store, 128, TransitionSpec(stack=4, reward_clip=1), seed=1)
        ...                                       # 128 times: latest, act, step, append
        steps = rollout.read()
        value = steps.values(bootstrap)           # bootstrap: V(store.latest(4)) [E]
        advantage = gae(steps.reward, steps.discount, value, steps.ends, steps.valid, 0.95)
        for batch in rollout.minibatches(steps, 4, 256, advantage=advantage):
            ...                                   # batch.obs, batch.extra["advantage"]

    Observations stay in the store until a minibatch wants them, so until the last one at most
    `slots - steps - stack` further frames may be appended to a stream; reading what has been
    overwritten is an IndexError.

    Args:
        store: where an actor writes, with a column for each thing that it notes.
        steps: T, per stream.
        spec: stack, gamma, reward clipping and lost lives; its `n_step` has to be 1.
        seed: of the minibatches' order.
        initial: columns of which a trajectory needs only its first step's, such as the recurrent
            state that the actor had before it saw that step's observation.

    Raises ValueError, naming the argument, for numbers that do not fit the store.
    """

    def __init__(
        self,
        store: FrameStore,
        steps: int,
        spec: TransitionSpec,
        seed: int,
        initial: Sequence[str] = (),
    ) -> None:
        if steps < 1:
            raise ValueError(f"steps={steps} has to be 1 or more")
        if spec.n_step != 1:
            raise ValueError(f"n_step={spec.n_step}: a rollout has single steps, n_step=1")
        if steps + spec.stack > store.slots:
            raise ValueError(
                f"steps={steps} with stack={spec.stack} need {steps + spec.stack} frames per "
                f"stream, and the store's rings have {store.slots}"
            )
        if unknown := set(initial) - store.extra.keys():
            raise ValueError(f"initial={sorted(unknown)}: the store has no such column")
        self.store, self.steps, self.spec, self.initial = store, steps, spec, tuple(initial)
        self._streams = np.arange(store.streams)
        self._reader = StackReader(store, spec.stack)
        # Of the shuffles; how many items there are to shuffle is another number for each.
        self._epochs = Epochs(1, 1, seed)

    def read(self) -> Trajectory:
        """The last T steps of every stream: the newest frame is the last one's successor.

        Raises ValueError while a stream holds fewer than T + 1 frames.
        """
        store, spec, streams = self.store, self.spec, self._streams
        head = store.head.copy()
        if (head <= self.steps).any():
            raise ValueError(
                f"stream {head.argmin()} holds {head.min()} frames, and a rollout of "
                f"{self.steps} steps needs {self.steps + 1}"
            )
        times = head - 1 - self.steps + np.arange(self.steps)[:, None]  # [T, E]
        slot, successor = times % store.slots, (times + 1) % store.slots
        index = times * store.streams + streams
        action = store.action[streams, slot].astype(np.int64)
        valid = action >= 0
        stop = windows.TERMINATED | (windows.LIFE_LOST if spec.life_loss_terminal else 0)
        flags = store.flags[streams, successor]
        reward = store.reward[streams, successor]
        if spec.reward_clip:
            reward = reward.clip(-spec.reward_clip, spec.reward_clip)
        trajectory = Trajectory(
            index=index,
            action=action,
            reward=np.where(valid, reward, np.float32(0)),
            discount=np.where(valid & (flags & stop == 0), np.float32(spec.gamma), np.float32(0)),
            ends=valid & (flags & (stop | windows.TRUNCATED) != 0),
            valid=valid,
            first=store.step_in_episode[streams, slot] == 0,
            extra={
                name: column[streams, slot]
                for name, column in store.extra.items()
                if name not in self.initial
            },
            initial={name: store.extra[name][streams, slot[0]] for name in self.initial},
        )
        self._reader.check_kept(index.reshape(-1))
        return trajectory

    def minibatches(
        self,
        trajectory: Trajectory,
        epochs: int,
        batch_size: int,
        **targets: NDArray[Any] | torch.Tensor,
    ) -> Iterator[StepBatch]:
        """Every step of the trajectory once per epoch, in batches, each valid until the next.

        Final observations are no steps and in no batch. The last batch of an epoch holds what is
        left, however few. `targets` `[T, E, …]`, such as advantages, are handed out beside the
        columns. Raises ValueError for a target of another shape or with a column's name.
        """
        places = np.flatnonzero(trajectory.valid)
        extra = {
            name: column.flatten(0, 1)
            for name, column in self._columns(trajectory, targets).items()
        }
        shuffled = self._shuffled(len(places), epochs, batch_size)
        return (self._step_batch(trajectory, extra, places[chosen]) for chosen in shuffled)

    def sequences(
        self,
        trajectory: Trajectory,
        epochs: int,
        batch_size: int,
        **targets: NDArray[Any] | torch.Tensor,
    ) -> Iterator[StreamBatch]:
        """Every stream of the trajectory once per epoch, whole, `batch_size` streams at a time.

        The last batch of an epoch holds the streams that are left. `targets` as for `minibatches`.
        """
        extra = self._columns(trajectory, targets)
        shuffled = self._shuffled(self.store.streams, epochs, batch_size)
        return (self._stream_batch(trajectory, extra, chosen) for chosen in shuffled)

    def _shuffled(self, count: int, epochs: int, batch_size: int) -> Iterator[NDArray[np.int64]]:
        if epochs < 1 or batch_size < 1:
            raise ValueError(f"epochs={epochs} and batch_size={batch_size} have to be 1 or more")
        return self._batches(count, epochs, batch_size) if count else iter(())

    def _batches(self, count: int, epochs: int, batch_size: int) -> Iterator[NDArray[np.int64]]:
        self._epochs.batch_size = batch_size
        for _ in range(epochs):
            # Leaves out the rest of an epoch that the learner broke off.
            self._epochs.start(count)
            yield from self._epochs

    def _step_batch(
        self, trajectory: Trajectory, extra: dict[str, torch.Tensor], places: NDArray[np.int64]
    ) -> StepBatch:
        ids = trajectory.index.reshape(-1)[places]
        at = self._tensor(places)
        return StepBatch(
            obs=self._reader.read(ids),
            action=self._tensor(trajectory.action.reshape(-1)[places]),
            extra={name: column[at] for name, column in extra.items()},
            index=torch.from_numpy(ids),
        )

    def _stream_batch(
        self, trajectory: Trajectory, extra: dict[str, torch.Tensor], streams: NDArray[np.int64]
    ) -> StreamBatch:
        ids = trajectory.index[:, streams]
        at = self._tensor(streams)
        obs = self._reader.read(ids.reshape(-1))
        return StreamBatch(
            obs=obs.view(*ids.shape, *obs.shape[1:]),
            action=self._tensor(trajectory.action[:, streams]).clamp_min(0),
            valid=self._tensor(trajectory.valid[:, streams]),
            first=self._tensor(trajectory.first[:, streams]),
            extra={name: column[:, at] for name, column in extra.items()},
            initial={
                name: self._tensor(state[streams]) for name, state in trajectory.initial.items()
            },
            index=torch.from_numpy(ids),
        )

    def _columns(
        self, trajectory: Trajectory, targets: Mapping[str, NDArray[Any] | torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Columns and targets `[T, E, …]` on the store's device."""
        shape = trajectory.valid.shape
        for name, target in targets.items():
            if name in self.store.extra:
                raise ValueError(f"{name} is the name of a column; call the target something else")
            if tuple(target.shape[:2]) != shape:
                raise ValueError(f"{name} is {list(target.shape)}, expected {[*shape]} and more")
        return {
            name: self.store.on_device(torch.as_tensor(values))
            for name, values in {**trajectory.extra, **targets}.items()
        }

    def _tensor(self, array: NDArray[Any]) -> torch.Tensor:
        return self.store.on_device(torch.from_numpy(array))

    def state_dict(self) -> dict[str, Any]:
        """The shuffles' state; the store saves itself. A broken-off epoch is not taken up again."""
        return self._epochs.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the same shuffles. Raises ValueError, naming the field, for what is none."""
        count = state.get("count")
        if type(count) is not int or count < 1:
            raise ValueError(f"count: {count!r}, expected a number of items")
        self._epochs.load_state_dict(state, count)
