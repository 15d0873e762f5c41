"""What all learners from rollouts do besides learning: collect, count, save, begin again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import ClassVar, Generic, Literal, Protocol, TypeVar

import torch
from torch import nn

from playfield.agents.collector import Collected, Collector, Player
from playfield.agents.transitions import TransitionConfig, transitions_for
from playfield.buffers.store import FrameStore
from playfield.envs.contract import VectorEnv
from playfield.training.gradient_step import GradientStep
from playfield.training.optimizers import (
    OptimizerConfig,
    build_optimizer,
    learning_rate,
    set_learning_rate,
)
from playfield.training.seeding import derive_seed
from playfield.training.spans import span
from playfield.training.trainer import Metrics, Policy, State

N = TypeVar("N", bound=nn.Module)
N_contra = TypeVar("N_contra", bound=nn.Module, contravariant=True)


class RolloutConfig(TransitionConfig, Protocol):
    """The settings that decide it."""

    @property
    def num_steps(self) -> int: ...
    @property
    def optimizer(self) -> OptimizerConfig: ...


class RolloutPlayer(Player, Protocol[N_contra]):
    """A player that follows a network and can be saved."""

    def refresh(self, network: N_contra) -> None: ...

    def state_dict(self) -> State: ...

    def load_state_dict(self, state: State) -> None: ...


class RolloutTrainer(ABC, Generic[N]):
    """A trainer whose `step` is one rollout and all that is learned from it.

    A subclass says in `learn` how. Between two steps nothing is under way, so a checkpoint needs no
    frames. With `overlap` the next rollout is collected, by the player as it was before, while
    this one is learned from; what is under way when a segment begins is dropped.
    """

    unit: Literal["steps"] = "steps"
    #: How it collects.
    collector_type: ClassVar[type[Collector]] = Collector

    def __init__(
        self,
        config: RolloutConfig,
        env: VectorEnv,
        network: N,
        player: RolloutPlayer[N],
        *,
        seed: int,
        device: torch.device,
        steps: int | None,
        overlap: bool = False,
    ) -> None:
        self.env, self.seed, self.device = env, seed, device
        self.network, self.player = network, player
        self.collector = self.collector_type(
            env,
            player,
            transitions_for(config, env.spec),
            steps=config.num_steps,
            seed=derive_seed(seed, "rollouts"),
            device=device,
            ahead=int(overlap),
        )
        self.rollout = self.collector.rollout
        self.gradient_step = GradientStep(
            build_optimizer(config.optimizer, network),
            network.named_parameters(),
            config.optimizer.max_grad_norm,
        )
        self.learning_rate = learning_rate(config.optimizer, steps)
        self.progress = 0
        self._worker = ThreadPoolExecutor(1, "collector") if overlap else None
        self._under_way: Future[Collected] | None = None

    @property
    def stores(self) -> Mapping[str, FrameStore]:
        return {}

    @property
    def frames_per_step(self) -> int:
        return self.env.spec.frames_per_step

    @property
    def gradient_steps(self) -> Mapping[str, GradientStep]:
        return {"network": self.gradient_step}

    @abstractmethod
    def policy(self) -> Policy:
        """The agent as it would be evaluated now."""

    @abstractmethod
    def learn(self, collected: Collected) -> dict[str, torch.Tensor | float]:
        """Improve `network` by what was collected; returns the means of what to report."""

    def network_replaced(self) -> None:
        self.player.refresh(self.network)

    def begin_segment(self, segment: int) -> None:
        if self._under_way is not None:
            self._under_way.result()
            self._under_way = None
        self.collector.begin_segment(segment)

    def step(self) -> Metrics:
        rate = self.learning_rate(self.progress)
        set_learning_rate(self.gradient_step.optimizer, rate)
        collected = self._next()
        try:
            report = self.learn(collected)
        finally:
            # Nobody may be acting when the player changes, or when a failure closes the env.
            if self._under_way is not None:
                with span("wait"):
                    wait([self._under_way])
        if self._under_way is not None:
            self._under_way.result()  # or its error, before anything is saved or evaluated
        self.player.refresh(self.network)
        self.progress += collected.steps
        return {**report, **collected.finished, "train/learning_rate": rate}

    def _next(self) -> Collected:
        """A rollout; with overlap the one after it is under way from here on."""
        if self._worker is None:
            return self.collector.collect()
        if self._under_way is None:
            self._under_way = self._worker.submit(self.collector.collect)
        with span("wait"):
            collected = self._under_way.result()
        self._under_way = self._worker.submit(self.collector.collect)
        return collected

    def state_dict(self) -> State:
        return {
            "network": self.network.state_dict(),
            "gradient_step": self.gradient_step.state_dict(),
            "rollouts": self.collector.state_dict(),
            "player": self.player.state_dict(),
            "progress": self.progress,
        }

    def load_state_dict(self, state: State) -> None:
        self.network.load_state_dict(state["network"])
        self.gradient_step.load_state_dict(state["gradient_step"])
        self.collector.load_state_dict(state["rollouts"])
        self.player.load_state_dict(state["player"])
        self.player.refresh(self.network)
        self.progress = state["progress"]
