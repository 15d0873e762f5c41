"""Heads that turn features into action values."""

from __future__ import annotations

import torch
from torch import nn

from playfield.nets.layers import Linear, OutputLinear
from playfield.nets.normalization import Norm, activated


class QHead(nn.Module):
    """One hidden layer, then a value per action: `[B, features]` to float32 `[B, num_actions]`."""

    def __init__(self, features: int, hidden: int, num_actions: int, norm: Norm = "none") -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *activated(Linear(features, hidden), norm), OutputLinear(hidden, num_actions)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.layers(features)


class DuelingHead(nn.Module):
    """A state value plus advantages that have mean zero (Wang et al. 2016, equation 9).

    `[B, features]` to float32 `[B, num_actions]`.
    """

    def __init__(self, features: int, hidden: int, num_actions: int) -> None:
        super().__init__()
        self.value = QHead(features, hidden, 1)
        self.advantage = QHead(features, hidden, num_actions)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        advantage = self.advantage(features)
        return self.value(features) + advantage - advantage.mean(1, keepdim=True)


class QNetwork(nn.Module):
    """An encoder and a head: observations to float32 action values `[B, num_actions]`."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(obs))
