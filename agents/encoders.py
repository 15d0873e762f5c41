"""Which encoder, and which memory, an agent has: settings that all algorithms share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from playfield.errors import UserError
from playfield.nets.encoders import encoder_for
from playfield.nets.memory import Memory


@dataclass(frozen=True)
class EncoderConfig:
    """What turns an observation into features."""

    encoder: Literal["auto", "mlp", "small", "nature", "impala"] = "auto"
    """mlp for vectors; small (one convolution), nature (Mnih et al. 2015) or impala (residual,
    Espeholt et al. 2018) for pictures; auto: mlp, nature, or small below 36x36."""
    width: float = 1.0
    """Channels of its convolutions, as a multiple of the usual number."""
    norm: Literal["none", "layer", "batch", "spectral"] = "none"
    """Normalise what each layer gives (layer, batch) or its weights (spectral)."""
    dropout: float = 0.0
    """Chance of a feature to be dropped while learning."""
    mlp_layers: tuple[int, ...] = (64,)
    """Units of each layer of an mlp."""

    def __post_init__(self) -> None:
        if not self.width > 0:
            raise UserError(f"width has to be more than 0, not {self.width}.")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout has to be at least 0 and below 1, not {self.dropout}.")
        if min(self.mlp_layers, default=1) < 1:
            raise UserError(f"mlp_layers have to be 1 or more each, not {self.mlp_layers}.")


@dataclass(frozen=True)
class MemoryConfig:
    """What an agent carries from step to step of an episode."""

    memory: Literal["none", "lstm", "gru", "transformer"] = "none"
    """A memory behind the encoder: recurrent, or attention over a window of past steps."""
    memory_units: int = 256
    """Its units."""
    memory_window: int = 16
    """Past steps that a transformer attends to, in every layer."""
    memory_layers: int = 1
    """Layers of a transformer."""
    memory_heads: int = 4
    """Heads of a transformer's attention; they share its units."""

    def __post_init__(self) -> None:
        for name in ("memory_units", "memory_window", "memory_layers", "memory_heads"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} has to be 1 or more, not {getattr(self, name)}.")
        if self.memory == "transformer" and self.memory_units % self.memory_heads:
            raise UserError(
                f"memory_units={self.memory_units} can't be shared by "
                f"memory_heads={self.memory_heads}: choose a multiple."
            )


def build_encoder(
    config: EncoderConfig, obs_shape: Sequence[int], dtype: torch.dtype
) -> tuple[nn.Module, int]:
    """The encoder of observations of `obs_shape`, computing in `dtype`, and its features' number.

    Raises `UserError` for a kind that does not suit them.
    """
    encoder = encoder_for(obs_shape, dtype)
    return encoder, encoder.features


def build_memory(config: MemoryConfig, features: int) -> Memory | None:
    """The memory behind `features` inputs; None where there is none."""
    return None
