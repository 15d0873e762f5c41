"""REINFORCE with a learned baseline: whole episodes, and nothing but their rewards.

Sources: Williams 1992; Sutton and Barto 2018, section 13.4, whose pseudocode this follows but for
what docs/algorithms/reinforce.md lists.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch

from playfield.agents.a2c import learn_at_once
from playfield.agents.actor_critic import (
    ActorCriticPolicy,
    PolicyGradientConfig,
    build_player,
    build_policy,
)
from playfield.agents.collector import Collected, Collector
from playfield.agents.rollout_trainer import RolloutTrainer
from playfield.envs.contract import VectorEnv
from playfield.errors import UserError
from playfield.nets.actor_critic import ActorCritic
from playfield.training.optimizers import OptimizerConfig
from playfield.training.seeding import derive_seed

__all__ = ["EpisodeCollector", "Reinforce", "ReinforceConfig", "build_policy"]


@dataclass(frozen=True)
class ReinforceConfig(PolicyGradientConfig):
    """REINFORCE's settings. Steps are environment steps, over all environments together."""

    num_envs: int = 16
    """Environments stepped together, and episodes per update: one of each."""
    max_episode_steps: int = 1_000
    """Cut an episode after so many steps; the value of its last observation stands for the rest."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=1e-3, max_grad_norm=0.5)
    )
    """How gradients become steps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_episode_steps < 1:
            raise UserError(f"max_episode_steps has to be 1 or more, not {self.max_episode_steps}.")

    @property
    def num_steps(self) -> int:
        """Steps per rollout, at most."""
        return self.max_episode_steps


class EpisodeCollector(Collector):
    """The first episode of every environment after a restart of all.

    Letting them go on and taking what ends would favour short episodes, and cut long ones. Whatever
    an environment plays while others are still in their first episode is no step of the trajectory
    and no finished game, but it is counted as progress.
    """

    def begin_segment(self, segment: int) -> None:
        self.segment, self.iteration = segment, 0

    def collect(self) -> Collected:
        """Play until the first episode of each environment is over, or for T vector steps."""
        path = ("train", "env", self.segment, self.iteration)
        self.restart(derive_seed(self.seed, *path))
        self.iteration += 1
        steps, played, finished = 0, 0, dict[str, list[float]]()
        over = np.zeros(self.env.num_envs, np.bool_)
        while played < self.steps and not over.all():
            step = self.play()
            played += 1
            steps += int((~step.first).sum())
            terminated, truncated = step.terminated & ~over, step.truncated & ~over
            games = self.episodes.add(replace(step, terminated=terminated, truncated=truncated))
            for name, values in games.items():
                finished.setdefault(name, []).extend(values)
            over |= terminated | truncated
        self.rollout.steps = played
        collected = self.read(steps, finished)
        trajectory = collected.trajectory
        in_first = trajectory.first.cumsum(0) == 1  # [T, E]
        trajectory = replace(trajectory, valid=trajectory.valid & in_first)
        return replace(collected, trajectory=trajectory)


class Reinforce(RolloutTrainer[ActorCritic]):
    """The trainer. One `step` is one whole episode of every environment, and one update on them.

    The update is A2C's with lambda 1: then an advantage is the return that followed, with no value
    in it, minus the baseline.
    """

    collector_type: ClassVar[type[Collector]] = EpisodeCollector

    def __init__(
        self,
        config: ReinforceConfig,
        env: VectorEnv,
        *,
        seed: int,
        device: torch.device,
        steps: int | None = None,
    ) -> None:
        self.config = config
        network, player = build_player(config, env, seed=seed, device=device)
        super().__init__(config, env, network, player, seed=seed, device=device, steps=steps)

    def policy(self) -> ActorCriticPolicy:
        stack = self.rollout.spec.stack
        return ActorCriticPolicy(
            self.network, stack, self.device, greedy=self.config.greedy_evaluation
        )

    def learn(self, collected: Collected) -> dict[str, torch.Tensor | float]:
        return learn_at_once(self, collected, self.config, lambda_=1.0)
