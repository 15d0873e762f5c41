"""Collecting rollouts: a player acts, the store keeps, and T steps come back as a trajectory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from playfield.agents.episodes import EpisodeLog
from playfield.buffers.rollout import Rollout, Trajectory
from playfield.buffers.store import Column, FrameStore
from playfield.buffers.transitions import TransitionSpec
from playfield.envs.contract import VectorEnv, VectorStep
from playfield.training.seeding import derive_seed
from playfield.training.spans import span


class Player(Protocol):
    """What acts while a rollout is collected: a network as it was, and the draws for exploring."""

    @property
    def columns(self) -> Mapping[str, Column]:
        """What it notes beside each frame, by name; "value" among them."""
        ...

    def begin(self) -> None:
        """Forget the episodes so far: all environments start anew."""
        ...

    def choose(
        self, obs: torch.Tensor, first: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], Mapping[str, NDArray[Any]]]:
        """Actions `[E]` on the newest observations `[E, ...]`, and a row `[E, ...]` per column."""
        ...

    def value(self, obs: torch.Tensor, first: NDArray[np.bool_]) -> NDArray[np.float32]:
        """The values `[E]` of the newest observations, which will be shown again to `choose`."""
        ...


@dataclass(frozen=True, slots=True)
class Collected:
    """T steps of E environments, and what they report."""

    trajectory: Trajectory
    value: NDArray[np.float32]  # [T+1, E], of every observation, as the player saw it
    steps: int  # environment steps among the T*E rows
    finished: dict[str, list[float]]  # games that ended, as metrics


class Collector:
    """T steps at a time of E environments, in a store that is just long enough for them.

    Observations stay bytes in the store, and minibatches gather their stacks from it. The final
    observation of an episode has a row of its own that is no step; its value is known because the
    player looks at it like at any other.

    `ahead` further rollouts can be collected while minibatches of one are still read.
    """

    def __init__(
        self,
        env: VectorEnv,
        player: Player,
        spec: TransitionSpec,
        *,
        steps: int,
        seed: int,
        device: torch.device,
        ahead: int = 0,
    ) -> None:
        self.env, self.player, self.steps, self.seed = env, player, steps, seed
        initial = [name for name in player.columns if name == "memory"]
        self.store = FrameStore(
            # The newest frame, and what the oldest step's stack reaches back to.
            env.num_envs * ((1 + ahead) * steps + spec.stack + 1),
            env.num_envs,
            env.spec.frame_shape,
            env.spec.frame_dtype,
            player.columns,
            device=device,
            num_actions=env.spec.num_actions,
        )
        self.rollout = Rollout(self.store, steps, spec, derive_seed(seed, "minibatches"), initial)
        self.episodes = EpisodeLog(env.num_envs)
        self._first = np.ones(env.num_envs, np.bool_)

    def begin_segment(self, segment: int) -> None:
        """Start over in all environments, seeded by (run seed, segment)."""
        self.restart(derive_seed(self.seed, "train", "env", segment))

    def restart(self, seed: int) -> None:
        """Start over in all environments; open episodes end as truncated."""
        self.store.end_episodes()
        self.episodes.restart()
        self.player.begin()
        step = self.env.reset(seed)
        self.store.append(step)
        self._first = step.first

    def collect(self) -> Collected:
        """Play T vector steps."""
        steps, finished = 0, dict[str, list[float]]()
        for _ in range(self.steps):
            step = self.play()
            steps += int((~step.first).sum())
            for name, values in self.episodes.add(step).items():
                finished.setdefault(name, []).extend(values)
        return self.read(steps, finished)

    def play(self) -> VectorStep:
        """Take one step of every environment."""
        with span("act"):
            actions, columns = self.player.choose(self._latest(), self._first)
        with span("environments"):
            self.env.send(actions)
        with span("store"):
            self.store.act(actions, **columns)  # while the environments run
        with span("environments"):
            step = self.env.recv()
        with span("store"):
            self.store.append(step)
        self._first = step.first
        return step

    def read(self, steps: int, finished: dict[str, list[float]]) -> Collected:
        """The last T vector steps, of which `steps` rows are environment steps."""
        trajectory = self.rollout.read()
        with span("act"):
            value = trajectory.values(self.player.value(self._latest(), self._first))
        return Collected(trajectory, value, steps, finished)

    def _latest(self) -> torch.Tensor:
        return self.store.latest(self.rollout.spec.stack)

    def state_dict(self) -> dict[str, Any]:
        """The order of minibatches to come. What was collected is not kept: a segment begins."""
        return self.rollout.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.rollout.load_state_dict(state)
