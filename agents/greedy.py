"""Acting by action values."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from playfield.training.trainer import Decision, Scores


class GreedyPolicy:
    """Acts on the highest Q-value."""

    def __init__(self, network: nn.Module, stack: int, device: torch.device) -> None:
        self.network, self.stack, self.device = network, stack, device

    @torch.inference_mode()
    def act(self, obs: torch.Tensor, first: NDArray[np.bool_]) -> Decision:
        """The best actions, by the Q-values of observations `[E, ...]`; they need no memory."""
        training = self.network.training
        self.network.eval()
        q = self.network(obs.to(self.device)).cpu()
        self.network.train(training)
        value, action = q.max(1)
        return Decision(action.numpy(), value.numpy(), q.numpy(), "action values")

    def scores(self, obs: torch.Tensor) -> Scores:
        """The Q-values of `obs` `[N, ...]` float32, and their maxima, with a graph."""
        training = self.network.training
        self.network.eval()
        q = self.network(obs.to(self.device))
        self.network.train(training)
        return Scores(q.amax(1), q)
