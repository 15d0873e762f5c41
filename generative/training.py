"""How long a model that paints trains, and what is particular to images in that."""

from __future__ import annotations

from dataclasses import dataclass

from playfield.errors import UserError
from playfield.training.loop import TrainingConfig

#: Images of each kind that the distance of an evaluation needs: one more than the 256 numbers that
#: its features have for each.
LEAST_COMPARED = 257


@dataclass(frozen=True)
class PaintingTrainingConfig(TrainingConfig):
    """How long to train, and when to log, save and paint. Steps are images learned from."""

    evaluate_images: int = 512
    """Images to paint at an evaluation and to compare with as many real ones: the distance between
    them, which says what the best checkpoint is, needs 257 of each. 0: paint a grid only."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.evaluate_images and self.evaluate_images < LEAST_COMPARED:
            raise UserError(
                f"evaluate_images must be {LEAST_COMPARED} or more, which the distance needs, or 0 "
                f"for a grid only, not {self.evaluate_images}."
            )
