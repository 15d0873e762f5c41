"""What a preset of a model that paints is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

from playfield.generative.painter_config import PainterConfig
from playfield.generative.training import PaintingTrainingConfig


@dataclass(frozen=True)
class Larger:
    """What a preset is for larger images."""

    above: int  # pixels of the shorter side; for images with more
    config: PainterConfig
    training: PaintingTrainingConfig


@dataclass(frozen=True)
class PaintingPreset:
    """Settings that were tried together."""

    name: str
    algorithm: str
    summary: str
    config: PainterConfig
    training: PaintingTrainingConfig = field(default_factory=PaintingTrainingConfig)
    data: str = "digits"
    larger: tuple[Larger, ...] = ()  # by size, rising

    def sized(self, height: int, width: int) -> Self:
        """The preset as it is for images of this size."""
        found = self
        for each in self.larger:
            if min(height, width) > each.above:
                found = replace(found, config=each.config, training=each.training)
        return found
