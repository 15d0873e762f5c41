"""Dropout with a generator of its own."""

from __future__ import annotations

import torch
from torch import nn


class Dropout(nn.Module):
    """Sets each number to 0 with this chance in training mode, and scales the others up for it.

    `nn.Dropout` draws from torch's global generator, which is nobody's to save. Here a mask is a
    function of a seed, taken from that generator once, and of the number of masks drawn before.
    Both are in the `state_dict`, so a run that is resumed drops what it would have dropped.
    """

    def __init__(self, chance: float) -> None:
        super().__init__()
        self.chance = chance
        self._seed = int(torch.randint(2**62, ()))
        self._drawn = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or not self.chance:
            return x
        generator = torch.Generator(x.device).manual_seed(self._seed + self._drawn)
        self._drawn += 1
        kept = torch.empty_like(x).bernoulli_(1 - self.chance, generator=generator)
        return x * kept.div_(1 - self.chance)

    def get_extra_state(self) -> torch.Tensor:
        return torch.tensor([self._seed, self._drawn])

    def set_extra_state(self, state: torch.Tensor) -> None:
        self._seed, self._drawn = map(int, state)

    def extra_repr(self) -> str:
        return f"chance={self.chance}"
