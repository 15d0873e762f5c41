"""The settings that every model that paints has, and what follows from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from playfield.errors import UserError
from playfield.training.ema import EMAConfig

if TYPE_CHECKING:
    import torch
    from torch import nn

    from playfield.generative.images import ImageData
    from playfield.generative.model import PaintingModel
    from playfield.generative.objective import ImageSpec
    from playfield.generative.painter import PainterTrainer
    from playfield.generative.teacher import Teacher


@dataclass(frozen=True)
class PainterConfig(ABC):
    """What is learned with, whatever the family. Steps are images."""

    batch_size: int = 128
    """Images per update."""
    conditional: bool = True
    """Learn to paint what a label asks for, where the data has labels."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What the network computes in; auto: bfloat16 where the processor multiplies it. Parameters,
    losses and the optimiser are float32."""
    ema: EMAConfig = field(default_factory=EMAConfig)
    """The average of the weights that paints."""

    @abstractmethod
    def build_trainer(
        self,
        data: ImageData,
        teacher: Teacher | None,
        *,
        seed: int,
        device: torch.device,
        steps: int,
    ) -> PainterTrainer:
        """A fresh trainer on `data` for a run of `steps` images.

        `teacher` is the model that the run begins with, whose weights the trainer does not have
        yet. Raises `UserError` where settings, data and teacher do not fit.
        """

    @abstractmethod
    def build_network(self, spec: ImageSpec, seed: int, device: torch.device) -> nn.Module:
        """A fresh network that paints such images; the same seed gives the same weights."""

    @abstractmethod
    def painting_model(
        self,
        network: nn.Module,
        spec: ImageSpec,
        std: float,
        teacher: Teacher | None,
        device: torch.device,
    ) -> PaintingModel:
        """What `network`, of `build_network` and in `eval()`, paints.

        `std` is the standard deviation of the images it has learned from, `teacher` the model that
        it began with.
        """

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"batch_size has to be 1 or more, not {self.batch_size}.")
