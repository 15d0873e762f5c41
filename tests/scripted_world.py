"""A world that plays what a test wrote down: episode lengths, endings and rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from playfield.envs.contract import EnvSpec, VectorStep


@dataclass(frozen=True)
class Episode:
    """How long an episode lasts, and how it ends: "terminated" or "truncated"."""

    steps: int
    ending: str


def reward_of(env: int, episode: int, step: int) -> float:
    """What arrives after `step` (0 is the first) of an episode; no two are alike."""
    return float(np.float32(np.sin(1 + 7 * env + 3 * episode + step)))


def frame_of(env: int, episode: int, step: int) -> NDArray[np.float32]:
    """The observation before `step` of an episode; no two are alike."""
    return np.asarray([env, episode, step], np.float32) / 4


class ScriptedWorld:
    """A `VectorEnv` of E environments; number e plays `scripts[e]` over and over.

    Actions change nothing. `reset_reward` stands on the rows that begin an episode after another,
    where the contract says 0: whatever learns from it learns from what is no step.
    """

    def __init__(self, scripts: Sequence[Sequence[Episode]], reset_reward: float = 0.0) -> None:
        self.scripts, self.num_envs, self.reset_reward = scripts, len(scripts), reset_reward
        self.spec = EnvSpec("test/Scripted-v0", (3,), "float32", 2, ("THIS", "THAT"))
        self.seeds: list[int] = []
        self.actions: list[list[int]] = []  # that were sent, a list for each vector step

    def reset(self, seed: int) -> VectorStep:
        self.seeds.append(seed)
        self._at = [(0, 0)] * self.num_envs  # episode, step in it
        nothing = np.zeros(self.num_envs, np.bool_)
        return self._arrival(np.zeros(self.num_envs), nothing, nothing.copy(), ~nothing)

    def send(self, actions: NDArray[np.int64]) -> None:
        self.actions.append(actions.tolist())

    def recv(self) -> VectorStep:
        reward = np.zeros(self.num_envs)
        terminated, truncated, first = (np.zeros(self.num_envs, np.bool_) for _ in range(3))
        for env, (episode, step) in enumerate(self._at):
            script = self.scripts[env][episode % len(self.scripts[env])]
            if step == script.steps:
                self._at[env], first[env], reward[env] = (episode + 1, 0), True, self.reset_reward
                continue
            self._at[env] = episode, step + 1
            reward[env] = reward_of(env, episode, step)
            if step + 1 == script.steps:
                (terminated if script.ending == "terminated" else truncated)[env] = True
        return self._arrival(reward, terminated, truncated, first)

    def step(self, actions: NDArray[np.int64]) -> VectorStep:
        self.send(actions)
        return self.recv()

    def render(self) -> NDArray[np.uint8]:
        return np.zeros((2, 2, 3), np.uint8)

    def close(self) -> None:
        pass

    def _arrival(
        self,
        reward: NDArray[np.float64],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        first: NDArray[np.bool_],
    ) -> VectorStep:
        frames = [frame_of(env, *at) for env, at in enumerate(self._at)]
        return VectorStep(
            frames=np.stack(frames),
            reward=reward.astype(np.float32),
            terminated=terminated,
            truncated=truncated,
            life_lost=np.zeros(self.num_envs, np.bool_),
            first=first,
            lives=np.zeros(self.num_envs, np.int64),
        )
