"""What a model that paints, of any kind, is to the commands that train it and look at it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from playfield.training.trainer import Trainer

if TYPE_CHECKING:
    import torch
    from torch import nn

    from playfield.generative.averages import Averages
    from playfield.generative.model import PaintingModel
    from playfield.generative.objective import ImageSpec
    from playfield.generative.painter_config import PainterConfig
    from playfield.generative.teacher import Teacher


class PainterTrainer(Trainer, Protocol):
    """A trainer of something that paints. Its clock counts images."""

    @property
    def config(self) -> PainterConfig:
        """The settings it was built with."""
        ...

    @property
    def spec(self) -> ImageSpec:
        """The images that it learns to paint; without classes if it learns without."""
        ...

    @property
    def device(self) -> torch.device: ...

    @property
    def averages(self) -> Averages:
        """The averages of the weights of `network`."""
        ...

    @property
    def at_once(self) -> int:
        """Images that fit into memory for learning, and so for painting too."""
        ...

    def diagnosis(self) -> list[str]:
        """What is wrong with what was learned, a sentence each, for the end of training."""
        ...

    @property
    def networks(self) -> nn.Module:
        """All that learns, in one: what takes the weights of another run."""
        ...

    def begin_with(self, teacher: Teacher) -> None:
        """Take the weights of `teacher`, of a taught run; UserError where they don't fit."""
        ...

    def painting_model(self, averaged: bool = True) -> PaintingModel:
        """The model as it is now, in `eval()`: with the average of its weights, or the newest.

        It shares the weights: it is good until the next step.
        """
        ...
