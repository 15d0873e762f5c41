"""Memories: what a network carries from one step of an episode to the next."""

from __future__ import annotations

from typing import Protocol

import torch


class Memory(Protocol):
    """A causal network over the steps of an episode, with its whole state in one flat row.

    A state is float32 `[B, state_size]`, and all zeros before the first step of an episode. So it
    can be noted beside a frame, and a sequence that begins in mid-episode be taken up from there.
    """

    features: int  # of the output
    state_size: int

    def __call__(
        self, features: torch.Tensor, first: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs `[T, B, features]` for inputs `[T, B, F]`, and the state `[B, S]` after them.

        `first` `[T, B]` bool: the step begins an episode, and nothing before it counts.
        """
        ...
