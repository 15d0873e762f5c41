"""How long a model that paints trains, and what is particular to images in that."""

from __future__ import annotations

from dataclasses import dataclass

from playfield.errors import UserError
from playfield.training.loop import TrainingConfig


@dataclass(frozen=True)
class PaintingTrainingConfig(TrainingConfig):
    """How long to train, and when to log, save and paint. Steps are images learned from."""

    evaluate_images: int = 512
    """Images to paint at an evaluation and to compare with as many real ones: the distance between
    them, which says what the best checkpoint is, needs 257 of each. 0: paint a grid only."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.evaluate_images < 0:
            raise UserError(f"evaluate_images must be 0 or more, not {self.evaluate_images}.")
