"""torchrl's ReplayBuffer: a storage, a sampler and a transform."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from replay_data import STACK, Episode, Transition

from peers.base import ALPHA, BETA, GAMMA, Drawn, Peer, Wanted


def load_torchrl() -> None:
    """Make torchrl's compiled sum tree importable, whichever torch its wheel was built for.

    Its wheel for one torch misses a symbol of another's autograd that the tree does not use; bound
    lazily, the tree works, and what it draws is checked like everything else.
    """
    import torchrl

    torchrl.logger.setLevel("ERROR")
    flags = sys.getdlopenflags()
    try:
        sys.setdlopenflags(os.RTLD_LAZY)
        importlib.import_module("torchrl._torchrl")
    finally:
        sys.setdlopenflags(flags)


class TorchRL(Peer):
    label, library, frames = "torchrl", "torchrl", 2 * STACK
    how = "TensorDictReplayBuffer, LazyTensorStorage; n = 3: MultiStepTransform"
    devices = ("cpu", "cuda")
    cuts_steps = False  # MultiStepTransform leaves `done` as it was after the first step

    def __init__(self, wanted: Wanted) -> None:
        super().__init__(wanted)
        load_torchrl()
        self.buffer: Any = self._buffer()

    def _buffer(self) -> Any:
        from torchrl.data import (
            LazyTensorStorage,
            PrioritizedSampler,
            RandomSampler,
            TensorDictReplayBuffer,
        )
        from torchrl.envs.transforms import MultiStepTransform

        wanted = self.wanted
        sampler = (
            PrioritizedSampler(wanted.capacity, alpha=ALPHA, beta=BETA)
            if wanted.prioritized
            else RandomSampler()
        )
        several = MultiStepTransform(wanted.n_step, GAMMA) if wanted.n_step > 1 else None
        return TensorDictReplayBuffer(
            storage=LazyTensorStorage(wanted.capacity, device=wanted.device),
            sampler=sampler,
            transform=several,
        )

    @staticmethod
    def _record(episode: Episode, begin: NDArray[np.uint8], after: NDArray[np.uint8]) -> Any:
        from tensordict import TensorDict

        count = len(episode)
        done = torch.from_numpy(episode.terminated)[:, None]
        return TensorDict(
            {
                "pixels": torch.from_numpy(begin),
                "action": torch.from_numpy(episode.action),
                "next": {
                    "pixels": torch.from_numpy(after),
                    "reward": torch.from_numpy(episode.reward)[:, None],
                    "done": done,
                    "terminated": done,
                    "truncated": torch.zeros_like(done),
                },
            },
            [count],
        )

    def fill(self, episode: Episode) -> None:
        self.buffer.extend(self._record(episode, episode.stacks[:-1], episode.stacks[1:]))

    def _pictures(self, transition: Transition) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return transition.obs, transition.next_obs

    def ready(self, transition: Transition) -> Any:
        from tensordict import TensorDict

        t = transition
        done = torch.tensor([t.terminated])
        begin, after = self._pictures(t)
        return TensorDict(
            {
                "pixels": torch.from_numpy(begin),
                "action": torch.tensor(t.action),
                "next": {
                    "pixels": torch.from_numpy(after),
                    "reward": torch.tensor([t.reward]),
                    "done": done,
                    "terminated": done,
                    "truncated": torch.zeros_like(done),
                },
            },
            [],
        )

    def insert(self, ready: Any) -> None:
        if self.wanted.n_step > 1:
            self.buffer.extend(ready[None])  # MultiStepTransform needs a time dimension
        else:
            self.buffer.add(ready)

    def stored(self) -> int:
        return len(self.buffer)

    def sample(self, batch_size: int) -> Drawn:
        b = self.buffer.sample(batch_size)
        later = b["next"]
        return Drawn(
            b["pixels"],
            later["pixels"],
            b["action"],
            later["reward"],
            later["terminated"],
            b["priority_weight"] if self.wanted.prioritized else None,
            b["index"],
        )

    def update(self, index: Any, priority: torch.Tensor) -> None:
        self.buffer.update_priority(torch.as_tensor(index), priority)

    def save(self, path: Path) -> None:
        self.buffer.dumps(path)

    def load(self, path: Path) -> None:
        self.buffer.loads(path)


class TorchRLLean(TorchRL):
    """Two frames per transition, stacked when drawn; of short beginnings nothing is drawn."""

    label, frames = "torchrl, CatFrames", 2
    how = "ReplayBuffer, LazyTensorStorage of single frames, CatFrames' SliceSampler"
    devices = ("cpu",)

    @classmethod
    def lacks(cls, n_step: int, prioritized: bool) -> str | None:
        if prioritized:
            return "torchrl's PrioritizedSliceSampler weighs where a slice begins, not its end"
        if n_step > 1:
            return "MultiStepTransform repeats the final frame, and CatFrames would stack that"
        return None

    def _buffer(self) -> Any:
        from torchrl.data import LazyTensorStorage, ReplayBuffer
        from torchrl.envs.transforms import CatFrames, Compose

        frames = CatFrames(
            N=STACK, dim=-3, in_keys=["pixels"], padding="constant", reset_key="_reset"
        )
        transform, sampler = frames.make_rb_transform_and_sampler(
            1, end_key=("next", "done"), init_key=None, truncated_key=None, cache_values=True
        )
        # The last of them keeps what CatFrames makes out of the memory; here that has the key of
        # what is kept, because there is no picture to prepare first.
        return ReplayBuffer(
            storage=LazyTensorStorage(self.wanted.capacity),
            sampler=sampler,
            transform=Compose(*list(transform)[:3]),
            batch_size=1,
        )

    def fill(self, episode: Episode) -> None:
        frames = episode.frames[:, None]
        self.buffer.extend(self._record(episode, frames[:-1], frames[1:]))

    def _pictures(self, transition: Transition) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return transition.obs[-1:], transition.next_obs[-1:]

    def sample(self, batch_size: int) -> Drawn:
        b, info = self.buffer.sample(batch_size, return_info=True)  # of slices
        later = b["next"]
        index = info["index"][0].view(-1, STACK)[:, -1]
        return Drawn(
            b["pixels"], later["pixels"], b["action"], later["reward"], later["terminated"],
            index=index,
        )  # fmt: skip

    def save(self, path: Path) -> None:
        self.buffer.storage.dumps(path)  # CatFrames, used in a memory only, refuses to be saved

    def load(self, path: Path) -> None:
        self.buffer.storage.loads(path)
