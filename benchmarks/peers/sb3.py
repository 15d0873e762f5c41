"""stable-baselines3's ReplayBuffer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from replay_data import ACTIONS, SIZE, STACK, Episode, Transition

from peers.base import GAMMA, Drawn, Peer, Wanted


class StableBaselines3(Peer):
    label, library, frames = "SB3", "stable-baselines3", 2 * STACK
    how = "ReplayBuffer, n = 3: NStepReplayBuffer"
    lean: ClassVar[bool] = False

    def __init__(self, wanted: Wanted) -> None:
        from gymnasium import spaces
        from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer

        super().__init__(wanted)
        several = wanted.n_step > 1
        self.buffer = (NStepReplayBuffer if several else ReplayBuffer)(
            wanted.capacity,
            spaces.Box(0, 255, (STACK, SIZE, SIZE), np.uint8),
            spaces.Discrete(ACTIONS),
            device="cpu",
            optimize_memory_usage=self.lean,
            handle_timeout_termination=not self.lean,  # SB3 refuses both at once
            **({"n_steps": wanted.n_step, "gamma": GAMMA} if several else {}),
        )
        self.infos: list[dict[str, Any]] = [{}]

    @classmethod
    def lacks(cls, n_step: int, prioritized: bool) -> str | None:
        return "SB3 has no prioritised replay" if prioritized else None

    def fill(self, episode: Episode) -> None:
        add, stacks, ends = self.buffer.add, episode.stacks, episode.terminated
        action, reward = episode.action[:, None], episode.reward[:, None]
        for k in range(len(episode)):
            add(stacks[k], stacks[k + 1], action[k], reward[k], ends[k : k + 1], self.infos)

    def ready(self, transition: Transition) -> Any:
        t = transition
        numbers = (np.array([t.action]), np.array([t.reward]), np.array([t.terminated]))
        return (t.obs[None], t.next_obs[None], *numbers)

    def insert(self, ready: Any) -> None:
        self.buffer.add(*ready, self.infos)

    def stored(self) -> int:
        return int(self.buffer.size())

    def sample(self, batch_size: int) -> Drawn:
        b = self.buffer.sample(batch_size)
        return Drawn(b.observations, b.next_observations, b.actions, b.rewards, b.dones)

    def save(self, path: Path) -> None:
        from stable_baselines3.common.save_util import save_to_pkl

        save_to_pkl(path / "buffer.pkl", self.buffer)

    def load(self, path: Path) -> None:
        from stable_baselines3.common.save_util import load_from_pkl

        del self.buffer  # it takes no part in loading
        self.buffer = load_from_pkl(path / "buffer.pkl")


class StableBaselines3Lean(StableBaselines3):
    label, frames = "SB3, optimize_memory_usage", STACK
    how = "ReplayBuffer(optimize_memory_usage=True, handle_timeout_termination=False)"
    lean = True
    keeps_final = False

    @classmethod
    def lacks(cls, n_step: int, prioritized: bool) -> str | None:
        if n_step > 1:
            return "SB3's NStepReplayBuffer refuses optimize_memory_usage"
        return super().lacks(n_step, prioritized)
