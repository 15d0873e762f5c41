"""Which encoder, and which memory, an agent has: settings that all algorithms share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from playfield.errors import UserError
from playfield.nets.encoders import MLP, NatureCNN, SmallCNN
from playfield.nets.impala import ImpalaCNN
from playfield.nets.memory import Memory
from playfield.nets.recurrent import Recurrent
from playfield.nets.transformer import GatedTransformer


@dataclass(frozen=True)
class EncoderConfig:
    """What turns an observation into features."""

    encoder: Literal["auto", "mlp", "small", "nature", "impala"] = "auto"
    """mlp for vectors; small (one convolution), nature (Mnih et al. 2015) or impala (residual,
    Espeholt et al. 2018) for pictures; auto: mlp, nature, or small below 36x36."""
    width: float = 1.0
    """Channels of its convolutions or units of an mlp, as a multiple of the usual number."""
    norm: Literal["none", "layer", "batch", "spectral"] = "none"
    """Normalise what each layer gives (layer, batch) or its weights (spectral)."""
    centered: bool = False
    """Take the mean off each kernel of the first convolution: it then answers to contrasts, not to
    brightness, and its channels outlive high learning rates. Nothing to a vector."""
    dropout: float = 0.0
    """Chance of a feature that it gives to be dropped while learning."""
    mlp_layers: tuple[int, ...] = (64,)
    """Units of each layer of an mlp."""

    def __post_init__(self) -> None:
        if not 0 < self.width < math.inf:
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
    """Steps that each layer of a transformer attends to: the newest ones, the present included."""
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


#: The kinds for pictures, and the height and width that each needs at least.
_PICTURES: dict[str, tuple[type[SmallCNN | NatureCNN | ImpalaCNN], int]] = {
    "small": (SmallCNN, 3),
    "nature": (NatureCNN, 36),
    "impala": (ImpalaCNN, 1),
}


def build_encoder(
    config: EncoderConfig, obs_shape: Sequence[int], dtype: torch.dtype
) -> tuple[nn.Module, int]:
    """The encoder of observations of `obs_shape`, computing in `dtype`, and its features' number.

    Raises `UserError` for a kind that does not suit them.
    """
    kind = _kind(config.encoder, obs_shape)
    encoder: MLP | SmallCNN | NatureCNN | ImpalaCNN
    if kind == "mlp":
        encoder = MLP(
            obs_shape,
            config.mlp_layers,
            dtype,
            width=config.width,
            norm=config.norm,
            dropout=config.dropout,
        )
    else:
        encoder = _PICTURES[kind][0](
            obs_shape,
            dtype,
            width=config.width,
            norm=config.norm,
            centered=config.centered,
            dropout=config.dropout,
        )
    return encoder, encoder.features


def _kind(encoder: str, obs_shape: Sequence[int]) -> str:
    """`encoder`, or what auto stands for, once it is known to suit observations of `obs_shape`."""
    if len(obs_shape) == 1:
        if encoder not in ("auto", "mlp"):
            raise UserError(
                f"encoder={encoder} is for pictures, and an observation here is a vector of "
                f"{obs_shape[0]} numbers: choose mlp or auto."
            )
        return "mlp"
    if len(obs_shape) != 3:
        raise UserError(
            f"There is no encoder for observations of shape {tuple(obs_shape)}: they have to be "
            "vectors, or pictures of (channels, height, width)."
        )
    _, height, width = obs_shape
    side = min(height, width)
    if encoder == "mlp":
        raise UserError(
            "encoder=mlp is for vectors, and an observation here is a picture of "
            f"{height}x{width}: choose small, nature, impala or auto."
        )
    kind = encoder
    if encoder == "auto":
        kind = "nature" if side >= _PICTURES["nature"][1] else "small"
    least = _PICTURES[kind][1]
    if side < least:
        raise UserError(
            f"encoder={kind} needs pictures of {least}x{least} or more, not {height}x{width}: "
            f"choose {'impala' if side < _PICTURES['small'][1] else 'small, impala or auto'}."
        )
    return kind


def build_memory(config: MemoryConfig, features: int) -> Memory | None:
    """The memory behind `features` inputs; None where there is none."""
    match config.memory:
        case "none":
            return None
        case "lstm" | "gru" as kind:
            return Recurrent(kind, features, config.memory_units)
        case "transformer":
            return GatedTransformer(
                features,
                config.memory_units,
                config.memory_window,
                config.memory_layers,
                config.memory_heads,
            )
