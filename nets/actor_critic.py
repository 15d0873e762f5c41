"""A policy and a state value on one body."""

from __future__ import annotations

import math

import torch
from torch import nn

from playfield.nets.initialization import orthogonal_
from playfield.nets.layers import Linear, OutputLinear
from playfield.nets.memory import Memory


class ActorCritic(nn.Module):
    """An encoder, a hidden layer, perhaps a memory; then logits and a value, both float32.

    Weights are orthogonal with gain sqrt(2), 0.01 for the logits (at first all actions are about
    equally likely) and 1 for the value; biases are 0. These are OpenAI Baselines' (Huang et al.
    2022, "The 37 Implementation Details of PPO", detail 2).

    `hidden=0` leaves the hidden layer out: the encoder's features go on as they are.
    """

    def __init__(
        self,
        encoder: nn.Module,
        features: int,
        hidden: int,
        num_actions: int,
        memory: Memory | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.body = nn.Sequential(Linear(features, hidden), nn.ReLU()) if hidden else nn.Identity()
        self.memory = memory
        width = hidden or features if memory is None else memory.features
        self.policy = OutputLinear(width, num_actions)
        self.value = OutputLinear(width, 1)
        orthogonal_(self.encoder, math.sqrt(2))
        orthogonal_(self.body, math.sqrt(2))
        orthogonal_(self.policy, 0.01)
        orthogonal_(self.value, 1.0)

    @property
    def state_size(self) -> int:
        """Numbers that the memory carries from step to step, for each environment."""
        return 0 if self.memory is None else self.memory.state_size

    def forward(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits `[B, A]` and values `[B]` of observations `[B, ...]`, without a memory."""
        assert self.memory is None
        return self._heads(self.body(self.encoder(obs)))

    def unroll(
        self, obs: torch.Tensor, first: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits `[T, B, A]`, values `[T, B]` and the state `[B, S]` after T steps in order.

        `obs` `[T, B, ...]`; `first` `[T, B]` bool sets the state back before the observation is
        used; `state` `[B, S]` float32 is the one before step 0.
        """
        assert self.memory is not None
        features = self.body(self.encoder(obs.flatten(0, 1))).unflatten(0, first.shape)
        features, state = self.memory(features, first, state)
        return (*self._heads(features), state)

    def step(
        self, obs: torch.Tensor, first: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """One step with or without a memory: logits `[B, A]`, values `[B]`, state `[B, S]`."""
        if self.memory is None:
            return (*self(obs), state)
        logits, value, state = self.unroll(obs[None], first[None], state)
        return logits[0], value[0], state

    def _heads(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.policy(features), self.value(features).squeeze(-1)
