"""cpprb's ReplayBuffer and PrioritizedReplayBuffer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from replay_data import SIZE, STACK, Episode, Transition

from peers.base import ALPHA, BETA, GAMMA, Drawn, Peer, Wanted


class Cpprb(Peer):
    label, library, frames = "cpprb", "cpprb", 2 * STACK
    how = "(Prioritized)ReplayBuffer, n = 3: Nstep"
    frames_to_save = 2 * STACK
    cuts_steps = False  # where the last of n steps terminates, `done` does not say so
    lean: ClassVar[bool] = False

    def __init__(self, wanted: Wanted) -> None:
        from cpprb import PrioritizedReplayBuffer, ReplayBuffer

        super().__init__(wanted)
        shape = (SIZE, SIZE, STACK) if self.lean else (STACK, SIZE, SIZE)
        picture = {"shape": shape, "dtype": np.uint8}
        fields: dict[str, Any] = {"obs": picture, "act": {"dtype": np.int64}, "rew": {}, "done": {}}
        options: dict[str, Any] = {}
        if self.lean:
            options |= {"next_of": "obs", "stack_compress": "obs"}
        else:
            fields["next_obs"] = picture
        if wanted.n_step > 1:
            options["Nstep"] = {
                "size": wanted.n_step, "gamma": GAMMA, "rew": "rew", "next": "next_obs"
            }  # fmt: skip
        self.buffer: Any
        if wanted.prioritized:
            self.buffer = PrioritizedReplayBuffer(wanted.capacity, fields, alpha=ALPHA, **options)
        else:
            self.buffer = ReplayBuffer(wanted.capacity, fields, **options)

    def _laid_out(self, stacks: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Compressed stacks have to lie along the last axis."""
        return np.moveaxis(stacks, -3, -1) if self.lean else stacks

    def fill(self, episode: Episode) -> None:
        stacks = self._laid_out(episode.stacks)
        self.buffer.add(
            obs=stacks[:-1], next_obs=stacks[1:],
            act=episode.action, rew=episode.reward, done=episode.terminated,
        )  # fmt: skip
        self.buffer.on_episode_end()

    def ready(self, transition: Transition) -> Any:
        t = transition
        obs, next_obs = map(np.ascontiguousarray, map(self._laid_out, (t.obs, t.next_obs)))
        return {
            "obs": obs, "next_obs": next_obs,
            "act": t.action, "rew": t.reward, "done": t.terminated,
        }  # fmt: skip

    def insert(self, ready: Any) -> None:
        self.buffer.add(**ready)
        if ready["done"]:
            self.buffer.on_episode_end()

    def stored(self) -> int:
        return int(self.buffer.get_stored_size())

    def sample(self, batch_size: int) -> Drawn:
        prioritized = self.wanted.prioritized
        b = self.buffer.sample(batch_size, **({"beta": BETA} if prioritized else {}))
        obs, next_obs = torch.from_numpy(b["obs"]), torch.from_numpy(b["next_obs"])
        if self.lean:
            obs, next_obs = obs.permute(0, 3, 1, 2), next_obs.permute(0, 3, 1, 2)
        return Drawn(
            obs,
            next_obs,
            torch.from_numpy(b["act"]),
            torch.from_numpy(b["rew"]),
            torch.from_numpy(b["done"]),
            torch.from_numpy(b["weights"]) if prioritized else None,
            b["indexes"] if prioritized else None,
        )

    def update(self, index: Any, priority: torch.Tensor) -> None:
        self.buffer.update_priorities(index, priority.numpy())

    def save(self, path: Path) -> None:
        # safe=True would write the stacks of compressed memories in full.
        self.buffer.save_transitions(path / "buffer.npz", safe=not self.lean)

    def load(self, path: Path) -> None:
        self.buffer.load_transitions(path / "buffer.npz")


class CpprbLean(Cpprb):
    label, frames, frames_to_save = "cpprb, compressed", 1, STACK
    how = 'next_of="obs", stack_compress="obs"'
    lean = True

    @classmethod
    def lacks(cls, n_step: int, prioritized: bool) -> str | None:
        if n_step > 1:
            return "cpprb's next_of leaves next_obs out of n steps, and stack_compress mixes it up"
        return None
