"""Agents that hold a policy and a value: their settings, how they act, and how they see a batch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from playfield.agents.encoders import EncoderConfig, MemoryConfig, build_encoder, build_memory
from playfield.agents.transitions import stack_for
from playfield.buffers.rollout import StepBatch, StreamBatch
from playfield.buffers.store import Column
from playfield.envs.contract import EnvSpec, VectorEnv
from playfield.errors import UserError
from playfield.nets.actor_critic import ActorCritic
from playfield.nets.layers import copy_weights, frozen_copy
from playfield.training.devices import precision
from playfield.training.seeding import derive_seed
from playfield.training.trainer import Decision, Scores, State


@dataclass(frozen=True)
class PolicyGradientConfig:
    """What all of them can be told. Steps are environment steps, over all environments together."""

    num_envs: int = 8
    """Environments stepped together."""
    stack: int | None = None
    """Frames per observation; None: 4 for pictures of 36x36 or more, else 1."""
    gamma: float = 0.99
    """Discount per step."""
    value_coef: float = 0.5
    """Weight of the value's loss, which is half the squared error."""
    entropy_coef: float = 0.01
    """Weight of the bonus for a policy that is undecided."""
    normalize_advantage: bool = True
    """Bring the advantages of each batch to mean 0 and deviation 1."""
    reward_clip: float = 1.0
    """Clip each reward to plus or minus this for learning; 0: don't. Scores are always raw."""
    life_loss_terminal: bool | None = None
    """Let a lost life end the return, for the learner only; None: as the Atari protocol says."""
    hidden: int = 512
    """Units of the layer that policy and value share behind the encoder; 0: none."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """What turns observations into features."""
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    """What is carried from step to step."""
    greedy_evaluation: bool = False
    """Evaluate the likeliest action instead of a draw from the policy."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What convolutions and hidden layers compute in; auto: bfloat16 where the processor has it."""

    def __post_init__(self) -> None:
        if self.num_envs < 1:
            raise UserError(f"num_envs has to be 1 or more, not {self.num_envs}.")
        if not 0 <= self.gamma <= 1:
            raise UserError(f"gamma has to lie between 0 and 1, not {self.gamma}.")
        for name in ("value_coef", "entropy_coef", "reward_clip", "hidden"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name} has to be 0 or more, not {getattr(self, name)}.")
        if self.stack is not None and self.stack < 1:
            raise UserError(f"stack has to be 1 or more, not {self.stack}.")


@dataclass(frozen=True)
class ActorCriticConfig(PolicyGradientConfig):
    """And those that learn from a part of an episode, whose value stands for the rest of it."""

    num_steps: int = 128
    """Steps of each environment per rollout: all that the agent learns from at a time."""
    gae_lambda: float = 0.95
    """Weight of later value errors in an advantage: 0 trusts the next value, 1 only rewards."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_steps < 1:
            raise UserError(f"num_steps has to be 1 or more, not {self.num_steps}.")
        if self.num_steps < 2 and self.memory.memory != "none":
            # A row may be no step, and one that learns from whole streams needs a step in each.
            raise UserError(f"num_steps has to be 2 or more with memory={self.memory.memory}.")
        if not 0 <= self.gae_lambda <= 1:
            raise UserError(f"gae_lambda has to lie between 0 and 1, not {self.gae_lambda}.")


def build_network(
    config: PolicyGradientConfig, spec: EnvSpec, seed: int, device: torch.device
) -> ActorCritic:
    """A fresh network for this environment; the same seed gives the same weights."""
    channels, *rest = spec.frame_shape
    obs_shape = (stack_for(config, spec) * channels, *rest)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder, features = build_encoder(config.encoder, obs_shape, compute_dtype(config, device))
        memory = build_memory(config.memory, config.hidden or features)
        network = ActorCritic(encoder, features, config.hidden, spec.num_actions, memory)
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def compute_dtype(config: PolicyGradientConfig, device: torch.device) -> torch.dtype:
    """What hidden layers compute in."""
    return precision(device, config.precision) or torch.float32


# --- acting ---------------------------------------------------------------------------------------


def sample(logits: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.int64]:
    """An action `[E]` from each of the policies with logits `[E, A]`.

    The largest of logits plus Gumbel noise has the policy's distribution (Gumbel 1954).
    """
    noise = -np.log(-np.log(rng.uniform(np.finfo(float).tiny, 1.0, logits.shape)))
    actions: NDArray[np.int64] = (logits + noise).argmax(1)
    return actions


class ActorCriticPlayer:
    """Draws actions from a copy of the network that stays as it is until `refresh`.

    Columns: "log_prob" of the action, "value" of the observation, and the "memory" from before it.
    """

    def __init__(
        self,
        network: ActorCritic,
        num_envs: int,
        *,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.device = device
        self.actor = frozen_copy(network, dtype).eval()
        self.rng = np.random.default_rng(seed)
        self._memory = torch.zeros(num_envs, network.state_size, device=device)

    @property
    def columns(self) -> Mapping[str, Column]:
        size = self._memory.shape[1]
        memory = {"memory": Column((size,))} if size else {}
        return {"log_prob": Column(), "value": Column(), **memory}

    def refresh(self, network: ActorCritic) -> None:
        """Act as `network` from now on."""
        copy_weights(network, self.actor)

    def begin(self) -> None:
        # Not in place: what inference mode gave is not to be written outside of it.
        self._memory = torch.zeros_like(self._memory)

    @torch.inference_mode()
    def choose(
        self, obs: torch.Tensor, first: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], Mapping[str, NDArray[Any]]]:
        before = self._memory
        logits, value, self._memory = self._look(obs, first)
        log_probs, values = logits.float().log_softmax(1).cpu().numpy(), value.cpu().numpy()
        actions = sample(log_probs, self.rng)
        columns = {"log_prob": log_probs[np.arange(len(actions)), actions], "value": values}
        if before.shape[1]:
            columns["memory"] = before.cpu().numpy()
        return actions, columns

    @torch.inference_mode()
    def value(self, obs: torch.Tensor, first: NDArray[np.bool_]) -> NDArray[np.float32]:
        values: NDArray[np.float32] = self._look(obs, first)[1].cpu().numpy()
        return values

    def _look(
        self, obs: torch.Tensor, first: NDArray[np.bool_]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        begins = torch.from_numpy(first).to(self.device)
        seen: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
        seen = self.actor.step(obs.to(self.device), begins, self._memory)  # type: ignore[operator]
        return seen

    def state_dict(self) -> State:
        """The draws to come. Memories are not kept: a segment begins after a load."""
        return {"rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: State) -> None:
        self.rng.bit_generator.state = state["rng"]


def build_player(
    config: PolicyGradientConfig, env: VectorEnv, *, seed: int, device: torch.device
) -> tuple[ActorCritic, ActorCriticPlayer]:
    """A fresh network for a trainer with `seed`, and the player that collects for it."""
    network = build_network(config, env.spec, derive_seed(seed, "network"), device)
    player = ActorCriticPlayer(
        network,
        env.num_envs,
        seed=derive_seed(seed, "actions"),
        device=device,
        dtype=compute_dtype(config, device),
    )
    return network, player


class ActorCriticPolicy:
    """The agent at play: it draws from its policy, or takes the likeliest action if `greedy`."""

    def __init__(
        self,
        network: ActorCritic,
        stack: int,
        device: torch.device,
        *,
        greedy: bool = False,
        seed: int = 0,
    ) -> None:
        self.network, self.stack, self.device, self.greedy = network, stack, device, greedy
        self.rng = np.random.default_rng(seed)
        self._memory = torch.zeros(0, network.state_size, device=device)
        self._before = self._memory  # the newest observations
        self._begins = torch.ones(0, dtype=torch.bool, device=device)  # an episode, with them

    @torch.inference_mode()
    def act(self, obs: torch.Tensor, first: NDArray[np.bool_]) -> Decision:
        """Actions on observations `[E, ...]`, state values, and the actions' probabilities."""
        if len(self._memory) != len(obs):
            self._memory = torch.zeros(len(obs), self._memory.shape[1], device=self.device)
        training = self.network.training
        self.network.eval()
        self._before, self._begins = self._memory, torch.from_numpy(first).to(self.device)
        logits, value, self._memory = self.network.step(
            obs.to(self.device), self._begins, self._before
        )
        self.network.train(training)
        log_probs = logits.float().log_softmax(1).cpu().numpy()
        action = log_probs.argmax(1) if self.greedy else sample(log_probs, self.rng)
        return Decision(action, value.cpu().numpy(), np.exp(log_probs), "probabilities")

    def scores(self, obs: torch.Tensor) -> Scores:
        """The values and logits of `obs` `[N, ...]` float32, with a graph."""
        count = len(obs)
        # A clone, for autograd refuses what was made in inference mode.
        memory = self._before[:1].clone().expand(count, -1)
        begins = self._begins[:1].clone().expand(count)
        training = self.network.training
        self.network.eval()
        # cuDNN's LSTM and GRU have no backward in eval mode ("cudnn RNN backward can only be called
        # in training mode"); torch's own have one.
        differentiable = torch.is_grad_enabled()
        with torch.backends.cudnn.flags(enabled=False) if differentiable else nullcontext():
            logits, value, _ = self.network.step(obs.to(self.device), begins, memory)
        self.network.train(training)
        return Scores(value, logits.float())


def build_policy(
    config: PolicyGradientConfig, spec: EnvSpec, state: State, device: torch.device
) -> ActorCriticPolicy:
    """The policy that a saved trainer's `state` holds."""
    network = build_network(config, spec, 0, device)
    network.load_state_dict(state["network"])
    return ActorCriticPolicy(
        network, stack_for(config, spec), device, greedy=config.greedy_evaluation
    )


# --- learning -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """What the network now makes of the N steps of a batch, beside what was noted of them."""

    logits: torch.Tensor  # [N, A] float32
    value: torch.Tensor  # [N] float32
    action: torch.Tensor  # [N] int64
    noted: dict[str, torch.Tensor]  # columns and targets, [N] each


def look(network: ActorCritic, batch: StepBatch | StreamBatch) -> Seen:
    """Run the network over a batch; of whole streams only the valid steps come back."""
    if isinstance(batch, StepBatch):
        logits, value = network(batch.obs)
        return Seen(logits, value, batch.action, batch.extra)
    logits, value = look_at_streams(network, batch)
    valid = batch.valid
    noted = {name: column[valid] for name, column in batch.extra.items()}
    return Seen(logits[valid], value[valid], batch.action[valid], noted)


def look_at_streams(network: ActorCritic, batch: StreamBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits `[T, B, A]` and values `[T, B]` of every row, final observations among them."""
    if network.memory is None:
        logits, value = network(batch.obs.flatten(0, 1))
        return logits.unflatten(0, batch.first.shape), value.unflatten(0, batch.first.shape)
    logits, value, _ = network.unroll(batch.obs, batch.first, batch.initial["memory"])
    return logits, value
