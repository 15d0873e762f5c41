"""What every memory of the replay benchmark is filled with: the same episodes of Pong's frames.

The frames are ALE Pong's under a random policy, in the order they were played, over and over; where
episodes end, what was done and what it brought is made up. Each frame carries its time in its first
four bytes, so that a batch from any memory says which transitions it holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from playfield import envs
from playfield.envs.contract import VectorStep

ENV = "PongNoFrameskip-v4"
STACK, SIZE, ACTIONS = 4, 84, 6
STAMP = 4  # bytes of each frame that hold its time
NO, YES, NONE = np.zeros(1, bool), np.ones(1, bool), np.zeros(1, np.int64)


@dataclass(frozen=True)
class Transition:
    """One step of one environment, in memory of its own: what a memory is handed while playing."""

    obs: NDArray[np.uint8]  # [4, H, W]
    next_obs: NDArray[np.uint8]  # [4, H, W]
    action: int
    reward: float
    terminated: bool
    arrival: VectorStep  # the newest frame of `next_obs` and what came with it


@dataclass(frozen=True)
class Episode:
    """L transitions over L + 1 frames; the last one terminates."""

    start: int  # the time of its first frame
    padded: NDArray[np.uint8]  # [3 + L + 1, H, W]: three empty frames, then the episode's
    action: NDArray[np.int64]  # [L]
    reward: NDArray[np.float32]  # [L]

    def __len__(self) -> int:
        return len(self.action)

    @property
    def frames(self) -> NDArray[np.uint8]:
        """All frames `[L + 1, H, W]`."""
        return self.padded[STACK - 1 :]

    @cached_property
    def stacks(self) -> NDArray[np.uint8]:
        """The observations `[L + 1, 4, H, W]`, oldest frame first, as a view without a copy."""
        return np.moveaxis(sliding_window_view(self.padded, STACK, axis=0), -1, 1)

    @property
    def terminated(self) -> NDArray[np.bool_]:
        """Whether each transition is the last, `[L]`."""
        return np.arange(1, len(self) + 1) == len(self)

    def arrivals(self) -> Iterator[tuple[VectorStep, NDArray[np.int64]]]:
        """What playfield's store is handed frame by frame, and the action chosen on seeing it."""
        action = np.append(self.action, 0)[:, None]
        reward = np.append(np.float32(0), self.reward)[:, None]
        frames = self.frames[:, None, None]
        last = len(self)
        for k in range(last + 1):
            step = VectorStep(
                frames=frames[k],
                reward=reward[k],
                terminated=YES if k == last else NO,
                truncated=NO,
                life_lost=NO,
                first=YES if k == 0 else NO,
                lives=NONE,
            )
            yield step, action[k]

    def transitions(self) -> Iterator[Transition]:
        """The same one by one, as an environment that stacks frames hands them over."""
        arrivals = [step for step, _ in self.arrivals()][1:]
        ends = self.terminated
        for k, arrival in enumerate(arrivals):
            yield Transition(
                np.array(self.stacks[k]),
                np.array(self.stacks[k + 1]),
                int(self.action[k]),
                float(self.reward[k]),
                bool(ends[k]),
                arrival,
            )


def pong(count: int) -> NDArray[np.uint8]:
    """`count` consecutive frames `[count, 84, 84]` of a random policy's games."""
    rng = np.random.default_rng(0)
    env = envs.make(ENV, 1)
    frames = np.empty((count, SIZE, SIZE), np.uint8)
    try:
        frames[0] = env.reset(seed=0).frames[0, 0]
        for k in range(1, count):
            frames[k] = env.step(rng.integers(env.spec.num_actions, size=1)).frames[0, 0]
    finally:
        env.close()
    return frames


def episode_lengths(transitions: int, episodes: int, seed: int) -> list[int]:
    """Random lengths of 1 or more that sum to `transitions`."""
    cuts = np.random.default_rng(seed).choice(transitions - 1, episodes - 1, replace=False) + 1
    return np.diff([0, *np.sort(cuts), transitions]).tolist()


def episodes(
    pictures: NDArray[np.uint8], lengths: Sequence[int], start: int = 0
) -> Iterator[Episode]:
    """Episodes of these lengths, one after the other from time `start` on; always the same."""
    for length in lengths:
        rng = np.random.default_rng(start)
        times = np.arange(start, start + length + 1)
        padded = np.zeros((STACK + length, SIZE, SIZE), np.uint8)
        frames = padded[STACK - 1 :]
        np.take(pictures, times % len(pictures), axis=0, out=frames)
        frames.reshape(length + 1, -1)[:, :STAMP] = times.astype("<u4")[:, None].view(np.uint8)
        yield Episode(
            start=start,
            padded=padded,
            action=rng.integers(ACTIONS, size=length),
            reward=rng.integers(-1, 2, length).astype(np.float32),
        )
        start += length + 1


def times_of(frames: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The times `[B]` that frames `[B, H, W]` carry."""
    stamps = np.ascontiguousarray(frames.reshape(len(frames), -1)[:, :STAMP])
    return stamps.view("<u4")[:, 0].astype(np.int64)
