"""Parallelised Q-network: Q-learning without a replay and without a target network.

Source: Gallici et al. 2024 (arXiv 2407.04811) and its code, purejaxql. Many environments stand in
for the replay, and layer normalisation for the target network. docs/algorithms/pqn.md lists the
details and where this deviates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from playfield.agents.collector import Collected
from playfield.agents.encoders import EncoderConfig, build_encoder
from playfield.agents.greedy import GreedyPolicy
from playfield.agents.policy_gradient import mean_of
from playfield.agents.rollout_trainer import RolloutTrainer
from playfield.agents.transitions import stack_for
from playfield.buffers.returns import lambda_returns
from playfield.buffers.rollout import StepBatch
from playfield.buffers.store import Column
from playfield.envs.contract import EnvSpec, VectorEnv
from playfield.errors import UserError
from playfield.nets.initialization import fan_in_normal_
from playfield.nets.layers import copy_weights, frozen_copy
from playfield.nets.q_heads import QHead, QNetwork
from playfield.training.devices import precision
from playfield.training.optimizers import OptimizerConfig
from playfield.training.schedules import Linear
from playfield.training.seeding import derive_seed
from playfield.training.spans import each, span, spanned
from playfield.training.trainer import Metrics, State


@dataclass(frozen=True)
class PQNConfig:
    """PQN's settings. Steps are environment steps, counted over all environments together."""

    num_envs: int = 128
    """Environments stepped together."""
    num_steps: int = 32
    """Steps of each environment per rollout: all that the agent learns from at a time."""
    stack: int | None = None
    """Frames per observation; None: 4 for pictures of 36x36 or more, else 1."""
    gamma: float = 0.99
    """Discount per step."""
    q_lambda: float = 0.65
    """Weight of later values in what a Q-value learns: 0 trusts the next value, 1 only rewards."""
    epochs: int = 2
    """Times that each rollout is learned from."""
    minibatches: int = 32
    """Updates per epoch, which share its steps evenly."""
    reward_clip: float = 1.0
    """Clip each reward to plus or minus this for learning; 0: don't. Scores are always raw."""
    life_loss_terminal: bool | None = None
    """Let a lost life end the return, for the learner only; None: as the Atari protocol says."""
    epsilon_start: float = 1.0
    """Share of random actions at the beginning."""
    epsilon_final: float = 0.001
    """Share of random actions from `epsilon_steps` on."""
    epsilon_steps: int | None = None
    """Steps over which epsilon falls in a straight line; None: a tenth of the run."""
    hidden: int = 512
    """Units of the hidden layer in the head, normalised like the encoder's layers."""
    encoder: EncoderConfig = field(default_factory=lambda: EncoderConfig(norm="layer"))
    """What turns observations into features."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What convolutions and hidden layers compute in; auto: bfloat16 where the processor has it."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            optimizer="radam", learning_rate=2.5e-4, max_grad_norm=10.0
        )
    )
    """How gradients become steps."""

    def __post_init__(self) -> None:
        for name in ("num_envs", "num_steps", "epochs", "minibatches", "hidden"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} has to be 1 or more, not {getattr(self, name)}.")
        for name in ("gamma", "q_lambda", "epsilon_start", "epsilon_final"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} has to lie between 0 and 1, not {getattr(self, name)}.")
        if not self.reward_clip >= 0:
            raise UserError(f"reward_clip has to be 0 or more, not {self.reward_clip}.")
        if self.stack is not None and self.stack < 1:
            raise UserError(f"stack has to be 1 or more, not {self.stack}.")
        if self.epsilon_steps is not None and self.epsilon_steps < 0:
            raise UserError(f"epsilon_steps has to be 0 or more, not {self.epsilon_steps}.")


# --- losses ---------------------------------------------------------------------------------------


def q_loss(
    q: torch.Tensor, action: torch.Tensor, return_: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Half the mean squared error (0-d), and the TD errors `Q(s, a) - return` `[B]`, detached.

    `q` `[B, A]`, `action` `[B]` int64, `return_` `[B]`: λ-returns, which are constants here.
    """
    if not action.shape == return_.shape == q.shape[:1] or q.dim() != 2:
        # [B] against [B, 1] would broadcast to [B, B] in silence.
        raise ValueError(
            f"shapes {list(q.shape)}, {list(action.shape)} and {list(return_.shape)} do not "
            "belong together: expected [B, A], [B] and [B]"
        )
    error = q.gather(1, action.unsqueeze(1)).squeeze(1) - return_
    return 0.5 * error.square().mean(), error.detach()


# --- acting ---------------------------------------------------------------------------------------


def build_network(config: PQNConfig, spec: EnvSpec, seed: int, device: torch.device) -> QNetwork:
    """A fresh Q-network for this environment; the same seed gives the same weights.

    Drawn by He et al. 2015, the last layer by LeCun: purejaxql's choice.
    """
    channels, *rest = spec.frame_shape
    obs_shape = (stack_for(config, spec) * channels, *rest)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder, features = build_encoder(config.encoder, obs_shape, compute_dtype(config, device))
        head = QHead(features, config.hidden, spec.num_actions, config.encoder.norm)
        network = QNetwork(encoder, head)
        fan_in_normal_(network, math.sqrt(2))
        fan_in_normal_(head.layers[-1], 1.0)
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def compute_dtype(config: PQNConfig, device: torch.device) -> torch.dtype:
    """What hidden layers compute in."""
    return precision(device, config.precision) or torch.float32


class EpsilonGreedyPlayer:
    """Acts on a copy of the network that stays as it is until `refresh`, now and then at random.

    Its column "value" is the greatest Q-value of each observation, final ones included.
    """

    def __init__(
        self, network: QNetwork, *, seed: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.device = device
        self.actor = frozen_copy(network, dtype).eval()
        self.rng = np.random.default_rng(seed)
        self.epsilon = 1.0  # share of random actions

    @property
    def columns(self) -> Mapping[str, Column]:
        return {"value": Column()}

    def refresh(self, network: QNetwork) -> None:
        """Act as `network` from now on."""
        copy_weights(network, self.actor)

    def begin(self) -> None:
        """Nothing is carried from step to step."""

    @torch.inference_mode()
    def choose(
        self, obs: torch.Tensor, first: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], Mapping[str, NDArray[Any]]]:
        q: torch.Tensor = self.actor(obs.to(self.device)).cpu()
        value, greedy = (part.numpy() for part in q.max(1))
        explore = self.rng.random(len(q)) < self.epsilon
        random = self.rng.integers(q.shape[1], size=len(q))
        return np.where(explore, random, greedy), {"value": value}

    @torch.inference_mode()
    def value(self, obs: torch.Tensor, first: NDArray[np.bool_]) -> NDArray[np.float32]:
        values: NDArray[np.float32] = self.actor(obs.to(self.device)).amax(1).cpu().numpy()
        return values

    def state_dict(self) -> State:
        """The draws to come."""
        return {"rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: State) -> None:
        self.rng.bit_generator.state = state["rng"]


def build_policy(
    config: PQNConfig, spec: EnvSpec, state: State, device: torch.device
) -> GreedyPolicy:
    """The policy that a saved trainer's `state` holds."""
    network = build_network(config, spec, 0, device)
    network.load_state_dict(state["network"])
    return GreedyPolicy(network, stack_for(config, spec), device)


# --- training -------------------------------------------------------------------------------------


class PQN(RolloutTrainer[QNetwork]):
    """The trainer. One `step` is one rollout, and its epochs of updates."""

    player: EpsilonGreedyPlayer

    def __init__(
        self,
        config: PQNConfig,
        env: VectorEnv,
        *,
        seed: int,
        device: torch.device,
        steps: int | None = None,
    ) -> None:
        self.config = config
        network = build_network(config, env.spec, derive_seed(seed, "network"), device)
        player = EpsilonGreedyPlayer(
            network,
            seed=derive_seed(seed, "actions"),
            device=device,
            dtype=compute_dtype(config, device),
        )
        super().__init__(config, env, network, player, seed=seed, device=device, steps=steps)
        falling = config.epsilon_steps
        if falling is None and steps is None:
            raise UserError("epsilon_steps is a tenth of the run if unset: give it, or steps.")
        self.epsilon = Linear(
            config.epsilon_start,
            config.epsilon_final,
            (steps or 0) / 10 if falling is None else falling,
        )

    def policy(self) -> GreedyPolicy:
        return GreedyPolicy(self.network, self.rollout.spec.stack, self.device)

    def step(self) -> Metrics:
        self.player.epsilon = self.epsilon(self.progress)
        return {**super().step(), "train/epsilon": self.player.epsilon}

    def learn(self, collected: Collected) -> dict[str, torch.Tensor | float]:
        config, steps = self.config, collected.trajectory
        with span("targets"):
            return_ = lambda_returns(
                steps.reward, steps.discount, collected.value, steps.ends, steps.valid,
                config.q_lambda,
            )  # fmt: skip
        batch_size = max(1, -(-int(steps.valid.sum()) // config.minibatches))
        batches = self.rollout.minibatches(steps, config.epochs, batch_size, return_=return_)
        return {**mean_of([self._update(batch) for batch in each("sample", batches)])}

    @spanned("update")
    def _update(self, batch: StepBatch) -> dict[str, torch.Tensor]:
        return_ = batch.extra["return_"]
        loss, td_error = q_loss(self.network(batch.obs), batch.action, return_)
        norm = self.gradient_step.step(loss)
        return {
            "train/loss": loss.detach(),
            "train/q": (return_ + td_error).mean(),
            "train/td_error": td_error.abs().mean(),
            "train/gradient_norm": norm,
        }
