"""tianshou's ReplayBuffer and PrioritizedReplayBuffer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from replay_data import SIZE, STACK, Episode

from peers.base import ALPHA, BETA, GAMMA, Drawn, Peer, Wanted


class Tianshou(Peer):
    """n steps are taken when drawing, by tianshou's own compute_nstep_return."""

    label, library, frames = "tianshou", "tianshou", 2 * STACK
    how = "(Prioritized)ReplayBuffer of stacks, n = 3: compute_nstep_return"
    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, wanted: Wanted) -> None:
        super().__init__(wanted)
        self.buffer: Any = self._buffer()
        self.filled = 0

    def _buffer(self) -> Any:
        from tianshou.data import Batch, PrioritizedReplayBuffer, ReplayBuffer

        size = self.wanted.capacity
        buffer = (
            PrioritizedReplayBuffer(size, alpha=ALPHA, beta=BETA, **self.options)
            if self.wanted.prioritized
            else ReplayBuffer(size, **self.options)
        )
        # Half a million calls of `add` would be minutes; `fill` writes into these instead.
        no = np.zeros(size, bool)
        kept = Batch(
            obs=self._pictures(size), act=np.zeros(size, np.int64), rew=np.zeros(size),
            terminated=no, truncated=no.copy(), done=no.copy(),
        )  # fmt: skip
        if not self.options:
            kept.obs_next = self._pictures(size)
        buffer.set_batch(kept)
        return buffer

    def _pictures(self, size: int) -> NDArray[np.uint8]:
        return np.zeros((size, STACK, SIZE, SIZE), np.uint8)

    def _write(self, rows: slice, episode: Episode) -> None:
        self.buffer.obs[rows] = episode.stacks[:-1]
        self.buffer.obs_next[rows] = episode.stacks[1:]

    def fill(self, episode: Episode) -> None:
        buffer = self.buffer
        rows = slice(self.filled, self.filled + len(episode))
        self._write(rows, episode)
        buffer.act[rows], buffer.rew[rows] = episode.action, episode.reward
        buffer.terminated[rows] = buffer.done[rows] = episode.terminated
        self.filled = rows.stop
        # What `from_data` does, which knows neither options nor priorities.
        buffer._size = self.filled
        buffer.last_index[0] = self.filled - 1
        buffer._insertion_idx = self.filled % self.wanted.capacity
        if self.wanted.prioritized:
            buffer.init_weight(np.arange(rows.start, rows.stop))

    def insert(self, ready: Any) -> None:
        from tianshou.data import Batch

        t = ready
        self.buffer.add(
            Batch(
                obs=t.obs, act=t.action, rew=t.reward,
                terminated=t.terminated, truncated=False, obs_next=t.next_obs, info={},
            )
        )  # fmt: skip

    def stored(self) -> int:
        return len(self.buffer)

    def sample(self, batch_size: int) -> Drawn:
        if self.wanted.n_step > 1:
            return self._several_steps(batch_size)
        b, index = self.buffer.sample(batch_size)
        return Drawn(
            torch.from_numpy(b.obs),
            torch.from_numpy(b.obs_next),
            torch.from_numpy(b.act),
            torch.from_numpy(b.rew),
            torch.from_numpy(b.terminated),
            torch.from_numpy(b.weight) if self.wanted.prioritized else None,
            index,
        )

    def _several_steps(self, batch_size: int) -> Drawn:
        """What its DQN does, but for the frames that it reads and does not need."""
        from tianshou.algorithm.algorithm_base import Algorithm
        from tianshou.data import Batch

        buffer = self.buffer
        index = buffer.sample_indices(batch_size)
        b = Batch(act=buffer.act[index])
        if self.wanted.prioritized:
            weight = buffer.get_weight(index)
            b.weight = weight / weight.max()
        ends = []

        def no_values(buffer: Any, terminal: NDArray[np.int64]) -> torch.Tensor:
            ends.append(terminal)
            return torch.zeros(len(terminal), 1)

        Algorithm.compute_nstep_return(b, buffer, index, no_values, GAMMA, self.wanted.n_step)
        (end,) = ends
        return Drawn(
            torch.from_numpy(buffer.get(index, "obs")),
            torch.from_numpy(self._after(end)),
            torch.from_numpy(b.act),
            b.returns,
            torch.from_numpy(buffer.terminated[end]),
            b.weight if self.wanted.prioritized else None,
            index,
        )

    def _after(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.buffer.get(index, "obs_next")

    def update(self, index: Any, priority: torch.Tensor) -> None:
        self.buffer.update_weight(index, priority)

    def save(self, path: Path) -> None:
        self.buffer.save_hdf5(str(path / "buffer.hdf5"))

    def load(self, path: Path) -> None:
        kind = type(self.buffer)
        del self.buffer
        self.buffer = kind.load_hdf5(str(path / "buffer.hdf5"))


class TianshouLean(Tianshou):
    label, frames = "tianshou, stack_num", 1
    how = "stack_num=4, save_only_last_obs=True, ignore_obs_next=True"
    options: ClassVar[dict[str, Any]] = {
        "stack_num": STACK, "save_only_last_obs": True, "ignore_obs_next": True
    }  # fmt: skip
    pads = False  # it repeats the first frame
    keeps_final = False

    def _pictures(self, size: int) -> NDArray[np.uint8]:
        return np.zeros((size, SIZE, SIZE), np.uint8)

    def _write(self, rows: slice, episode: Episode) -> None:
        self.buffer.obs[rows] = episode.frames[:-1]

    def _after(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.buffer.get(self.buffer.next(index), "obs")
