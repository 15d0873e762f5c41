"""Recurrent memories: LSTM and GRU."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

KEEPS = 1  # torch's order of gates: input, forget, cell, output; and reset, update, new


class Recurrent(nn.Module):
    """One recurrent layer as a `nets.memory.Memory`; its state is h, and with an LSTM also c.

    It computes in float32 whatever comes in: a state carried over many steps gathers the rounding
    errors of them all. Weights are orthogonal, input and recurrent ones each as one matrix over all
    gates, and biases 0 (OpenAI Baselines' LSTM) but for that of the gate that keeps the state, an
    LSTM's forget gate and a GRU's update gate: it is 1, so that a memory at first remembers (Gers
    et al. 2000; Jozefowicz et al. 2015).
    """

    def __init__(self, kind: Literal["lstm", "gru"], inputs: int, units: int) -> None:
        super().__init__()
        self.cells = nn.LSTM(inputs, units) if kind == "lstm" else nn.GRU(inputs, units)
        self.features = units
        self.state_size = 2 * units if kind == "lstm" else units
        self._initialize()

    @torch.no_grad()
    def _initialize(self) -> None:
        parameters = dict(self.cells.named_parameters())
        nn.init.orthogonal_(parameters["weight_ih_l0"])
        nn.init.orthogonal_(parameters["weight_hh_l0"])
        nn.init.zeros_(parameters["bias_ih_l0"])
        nn.init.zeros_(parameters["bias_hh_l0"])
        gates = 4 if isinstance(self.cells, nn.LSTM) else 3
        parameters["bias_ih_l0"].chunk(gates)[KEEPS].fill_(1)

    def forward(
        self, features: torch.Tensor, first: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        features = features.float()
        outputs = []
        for begin, end in stretches(first):
            state = state.masked_fill(first[begin].unsqueeze(1), 0)
            output, state = self._run(features[begin:end], state)
            outputs.append(output)
        return torch.cat(outputs), state

    def _run(
        self, features: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The layer over steps in which no episode begins."""
        if isinstance(self.cells, nn.GRU):
            output, hidden = self.cells(features, state.unsqueeze(0))
            return output, hidden.squeeze(0)
        hidden, cell = (part.contiguous().unsqueeze(0) for part in state.chunk(2, 1))
        output, (hidden, cell) = self.cells(features, (hidden, cell))
        return output, torch.cat((hidden, cell), 2).squeeze(0)


def stretches(first: torch.Tensor) -> list[tuple[int, int]]:
    """The steps 0..T of `first` `[T, B]`, cut wherever an episode of any of the B begins.

    torch's layers run over many steps in one call but can't reset in between. Episodes begin
    seldom, so there are few cuts; finding them waits for an accelerator, unless T is 1.
    """
    steps = len(first)
    begins = [] if steps == 1 else (1 + first[1:].any(1).nonzero().flatten()).tolist()
    return list(zip([0, *begins], [*begins, steps], strict=True))
