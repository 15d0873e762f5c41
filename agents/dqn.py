"""Deep Q-networks: Nature DQN with double, dueling, n-step and prioritised learning as fields.

Sources: Mnih et al. 2015 (DQN), van Hasselt et al. 2016 (double), Wang et al. 2016 (dueling),
Hessel et al. 2018 (n-step), Schaul et al. 2016 (prioritised replay). Deviations from them are
listed in docs/algorithms/dqn.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from playfield.agents.encoders import EncoderConfig, build_encoder
from playfield.agents.episodes import EpisodeLog
from playfield.agents.greedy import GreedyPolicy
from playfield.agents.replay import Placement, Replay
from playfield.agents.transitions import stack_for, transitions_for
from playfield.buffers.batch import Batch
from playfield.buffers.store import FrameStore
from playfield.envs.contract import EnvSpec, VectorEnv
from playfield.errors import UserError
from playfield.nets.layers import copy_weights, frozen_copy
from playfield.nets.q_heads import DuelingHead, QHead, QNetwork
from playfield.training.devices import precision
from playfield.training.gradient_step import GradientStep
from playfield.training.optimizers import (
    OptimizerConfig,
    build_optimizer,
    learning_rate,
    set_learning_rate,
)
from playfield.training.schedules import Linear
from playfield.training.seeding import derive_seed
from playfield.training.spans import span, spanned
from playfield.training.trainer import Metrics, State


@dataclass(frozen=True)
class DQNConfig:
    """DQN's settings. Steps are environment steps, counted over all environments together."""

    num_envs: int = 8
    """Environments stepped together; the number of updates per step does not depend on it."""
    stack: int | None = None
    """Frames per observation; None: 4 for pictures of 36x36 or more, else 1."""
    double: bool = False
    """Double Q-learning: the online network chooses the next action, the target one rates it."""
    dueling: bool = False
    """Dueling head: a state value plus advantages."""
    n_step: int = 1
    """Rewards summed before bootstrapping."""
    gamma: float = 0.99
    """Discount per step."""
    huber: bool = True
    """Huber loss (the TD error's gradient clipped to [-1, 1]); else half the squared error."""
    reward_clip: float = 1.0
    """Clip each reward to plus or minus this for learning; 0: don't. Scores are always raw."""
    life_loss_terminal: bool | None = None
    """Let a lost life end the return, for the learner only; None: as the Atari protocol says."""
    hidden: int = 512
    """Units of the hidden layer in the head."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """What turns observations into features."""
    buffer_size: int = 100_000
    """Frames in the replay store, about 7.1 kB each for Atari."""
    replay_device: Placement = "auto"
    """Where these frames lie: cpu, cuda, or mmap, a file, for more than fits in memory; auto: where
    the learner computes."""
    random_shift: int = 0
    """Shift sampled pictures by up to so many pixels at random (DrQ: 4 for 84x84); 0: don't."""
    batch_size: int = 32
    """Transitions per update."""
    learning_starts: int = 10_000
    """Steps of random play before the first update."""
    prioritized: bool = False
    """Prioritised replay: transitions of large TD error are drawn more often."""
    priority_alpha: float = 0.6
    """How much more often: chances are |TD error| to this power; 0 is uniform."""
    priority_beta_start: float = 0.4
    """How much of that bias importance weights take back at first; it rises to 1, all of it."""
    priority_beta_steps: int = 1_000_000
    """Steps over which beta rises to 1 in a straight line: the length of the training."""
    priority_epsilon: float = 1e-6
    """Added to each |TD error|, so that no transition is out of reach for ever."""
    update_every: int = 4
    """Steps per update."""
    target_every: int = 4_000
    """Steps between two copies of the online network to the target network."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(adam_eps=1.5e-4, max_grad_norm=10.0)
    )
    """How gradients become steps."""
    epsilon_start: float = 1.0
    """Share of random actions at the beginning."""
    epsilon_final: float = 0.01
    """Share of random actions from `epsilon_steps` on."""
    epsilon_steps: int = 100_000
    """Steps over which epsilon falls in a straight line."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What convolutions and hidden layers compute in; auto: bfloat16 where the processor has it."""

    def __post_init__(self) -> None:
        for name in (
            "num_envs",
            "n_step",
            "hidden",
            "batch_size",
            "update_every",
            "target_every",
        ):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} has to be more than 0, not {getattr(self, name)}.")
        shares = (
            "gamma", "epsilon_start", "epsilon_final", "priority_alpha", "priority_beta_start",
        )  # fmt: skip
        for name in shares:
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} has to lie between 0 and 1, not {getattr(self, name)}.")
        for name in (
            "reward_clip",
            "epsilon_steps",
            "random_shift",
            "priority_beta_steps",
            "priority_epsilon",
        ):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name} has to be 0 or more, not {getattr(self, name)}.")
        if self.stack is not None and self.stack < 1:
            raise UserError(f"stack has to be 1 or more, not {self.stack}.")
        reach = self.num_envs * ((self.stack or 4) + self.n_step + 1)
        if self.buffer_size < reach:
            raise UserError(
                f"buffer_size={self.buffer_size} is too small: {self.num_envs} environments with "
                f"n_step={self.n_step} need {reach} frames or more."
            )
        first = self.num_envs * (self.n_step + 1)
        if not first <= self.learning_starts:
            raise UserError(
                f"learning_starts={self.learning_starts} is before the first complete transition: "
                f"{self.num_envs} environments with n_step={self.n_step} need {first} or more."
            )


# --- losses ---------------------------------------------------------------------------------------


def q_target(
    reward: torch.Tensor,
    discount: torch.Tensor,
    next_q: torch.Tensor,
    choosing_q: torch.Tensor | None = None,
) -> torch.Tensor:
    """The target `r + discount * Q(s', argmax_a choosing_q(s', a))`, `[B]` float32.

    `reward`, `discount` `[B]`; `next_q` `[B, A]` from the target network. Without `choosing_q` the
    target network chooses as well (Mnih et al. 2015, Algorithm 1); with the online network's values
    there it is double Q-learning (van Hasselt et al. 2016, equation 4).
    """
    _check(reward, discount, next_q)
    choosing_q = next_q if choosing_q is None else choosing_q
    best = choosing_q.argmax(1, keepdim=True)
    return reward + discount * next_q.gather(1, best).squeeze(1)


def q_loss(
    q: torch.Tensor,
    action: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor,
    huber: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The weighted mean loss (0-d) and the TD errors `Q(s, a) - target` `[B]`, detached.

    `q` `[B, A]`, `action` `[B]` int64, `target` and `weight` `[B]`. The Huber loss with threshold 1
    has the gradient of the squared error with the TD error clipped to [-1, 1] (Mnih et al. 2015,
    Methods, "Training algorithm").
    """
    _check(action, target, q)
    chosen = q.gather(1, action.unsqueeze(1)).squeeze(1)
    if huber:
        losses = F.smooth_l1_loss(chosen, target, reduction="none")
    else:
        losses = 0.5 * (chosen - target).square()
    return (weight * losses).mean(), (chosen - target).detach()


def _check(first: torch.Tensor, second: torch.Tensor, values: torch.Tensor) -> None:
    # [B] against [B, 1] would broadcast to [B, B] in silence.
    if first.shape != second.shape or first.shape != values.shape[:1] or values.dim() != 2:
        raise ValueError(
            f"shapes {list(first.shape)}, {list(second.shape)} and {list(values.shape)} do not "
            "belong together: expected [B], [B] and [B, A]"
        )


# --- acting ---------------------------------------------------------------------------------------


def build_network(config: DQNConfig, spec: EnvSpec, seed: int, device: torch.device) -> QNetwork:
    """A fresh Q-network for this environment, set to act; the same seed gives the same weights."""
    channels, *rest = spec.frame_shape
    obs_shape = (stack_for(config, spec) * channels, *rest)
    dtype = precision(device, config.precision) or torch.float32
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder, features = build_encoder(config.encoder, obs_shape, dtype)
        head = DuelingHead if config.dueling else QHead
        network = QNetwork(encoder, head(features, config.hidden, spec.num_actions)).eval()
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def build_policy(
    config: DQNConfig, spec: EnvSpec, state: State, device: torch.device
) -> GreedyPolicy:
    """The policy that a saved trainer's `state` holds."""
    network = build_network(config, spec, 0, device)
    network.load_state_dict(state["online"])
    return GreedyPolicy(network, stack_for(config, spec), device)


# --- training -------------------------------------------------------------------------------------


class DQN:
    """The trainer. One `step` moves every environment on by one step, and learns meanwhile.

    `steps` is the length of the run, where a schedule of the learning rate has to know it.
    """

    unit: Literal["steps"] = "steps"

    def __init__(
        self,
        config: DQNConfig,
        env: VectorEnv,
        *,
        seed: int,
        device: torch.device,
        steps: int | None = None,
    ) -> None:
        self.config, self.env, self.seed, self.device = config, env, seed, device
        spec = env.spec
        transitions = transitions_for(config, spec, config.n_step)
        self.replay = Replay(
            config, spec, transitions, seed=derive_seed(seed, "replay"), device=device
        )
        self.store = self.replay.store
        self.online = build_network(config, spec, derive_seed(seed, "network"), device)
        self.target = frozen_copy(self.online, precision(device, config.precision) or torch.float32)
        self.gradient_step = GradientStep(
            build_optimizer(config.optimizer, self.online),
            self.online.named_parameters(),
            config.optimizer.max_grad_norm,
        )
        learning_steps = None if steps is None else max(steps - config.learning_starts, 0)
        self.learning_rate = learning_rate(config.optimizer, learning_steps)
        self.epsilon = Linear(config.epsilon_start, config.epsilon_final, config.epsilon_steps)
        self.exploration = np.random.default_rng(derive_seed(seed, "exploration"))
        self.episodes = EpisodeLog(env.num_envs)
        self._first = np.ones(env.num_envs, np.bool_)  # [E], the newest frame begins an episode
        self.progress = 0
        self.updates = 0

    @property
    def frames_per_step(self) -> int:
        return self.env.spec.frames_per_step

    @property
    def stores(self) -> Mapping[str, FrameStore]:
        return {"replay": self.store}

    @property
    def gradient_steps(self) -> Mapping[str, GradientStep]:
        return {"q": self.gradient_step}

    def policy(self) -> GreedyPolicy:
        return GreedyPolicy(self.online, self.replay.sampler.spec.stack, self.device)

    @property
    def network(self) -> QNetwork:
        return self.online

    def network_replaced(self) -> None:
        copy_weights(self.online, self.target)

    def begin_segment(self, segment: int) -> None:
        self.store.end_episodes()
        self.episodes.restart()
        step = self.env.reset(derive_seed(self.seed, "train", "env", segment))
        self.store.append(step)
        self._first = step.first

    def step(self) -> Metrics:
        since = self.progress - self.config.learning_starts
        due = max(0, since // self.config.update_every - self.updates)
        if due:
            with span("sample"):
                self.replay.request(self.progress)
        actions = self._choose_actions()
        with span("store"):
            self.store.act(actions)
        with span("environments"):
            self.env.send(actions)
        learning = self._learn(due)  # while the environments run
        with span("environments"):
            step = self.env.recv()
        with span("store"):
            self.store.append(step)
        self._first = step.first
        before = self.progress
        self.progress += int((~step.first).sum())
        if before // self.config.target_every != self.progress // self.config.target_every:
            copy_weights(self.online, self.target)
        return {
            **learning,
            **self.episodes.add(step),
            **self.replay.metrics(self.progress),
            "train/epsilon": self.epsilon(self.progress),
        }

    @spanned("act")
    def _choose_actions(self) -> NDArray[np.int64]:
        count, num_actions = self.env.num_envs, self.env.spec.num_actions
        explore = self.exploration.random(count) < self.epsilon(self.progress)
        actions = self.exploration.integers(num_actions, size=count)
        if self.progress < self.config.learning_starts or explore.all():
            return actions
        policy = self.policy()
        greedy = policy.act(self.store.latest(policy.stack), self._first).action
        return np.where(explore, actions, greedy)

    def _learn(self, due: int) -> dict[str, torch.Tensor | float]:
        """The updates that are due, and the means of what they report."""
        if not due:
            return {}
        rate = self.learning_rate(self.progress - self.config.learning_starts)
        set_learning_rate(self.gradient_step.optimizer, rate)
        reports = [self._update(self._sample()) for _ in range(due)]
        means = {name: torch.stack([r[name] for r in reports]).mean() for name in reports[0]}
        return {**means, "train/learning_rate": rate}

    @spanned("sample")
    def _sample(self) -> Batch:
        return self.replay.sample(self.progress)

    @spanned("update")
    def _update(self, batch: Batch) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            next_q = self.target(batch.next_obs)
            choosing_q = self.online(batch.next_obs) if self.config.double else None
            target = q_target(batch.reward, batch.discount, next_q, choosing_q)
        self.online.train()  # here only: elsewhere dropout and batch norms act
        q = self.online(batch.obs)
        self.online.eval()
        loss, td_error = q_loss(q, batch.action, target, batch.weight, self.config.huber)
        norm = self.gradient_step.step(loss)
        self.replay.update(batch, td_error)
        self.updates += 1
        return {
            "train/loss": loss.detach(),
            "train/q": (target + td_error).mean(),
            "train/td_error": td_error.abs().mean(),
            "train/gradient_norm": norm,
        }

    def state_dict(self) -> State:
        return {
            "online": self.online.state_dict(),
            "target": self.target.state_dict(),
            "gradient_step": self.gradient_step.state_dict(),
            "sampler": self.replay.state_dict(),
            "exploration": self.exploration.bit_generator.state,
            "progress": self.progress,
            "updates": self.updates,
        }

    def load_state_dict(self, state: State) -> None:
        self.online.load_state_dict(state["online"])
        self.target.load_state_dict(state["target"])
        self.gradient_step.load_state_dict(state["gradient_step"])
        self.replay.load_state_dict(state["sampler"])
        self.exploration.bit_generator.state = state["exploration"]
        self.progress = state["progress"]
        self.updates = state["updates"]
