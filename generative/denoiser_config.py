"""The settings of models that take noise away: diffusion, flow, and what is tuned from them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from playfield.errors import UserError
from playfield.generative.augmentation import ImageAugmentation
from playfield.generative.denoiser_trainer import DenoiserTrainer
from playfield.generative.networks import SIZES, NetConfig, build_network
from playfield.generative.objective import ImageSpec, Objective
from playfield.generative.painter_config import PainterConfig
from playfield.generative.painting import painting_model
from playfield.generative.teacher import Teacher
from playfield.training.devices import precision
from playfield.training.optimizers import OptimizerConfig

if TYPE_CHECKING:
    from torch import nn

    from playfield.generative.images import ImageData
    from playfield.generative.model import DenoisingModel


@dataclass(frozen=True)
class DenoiserConfig(PainterConfig):
    """What a denoiser is learned with, whatever the family. Steps are images."""

    micro_batch: int | None = None
    """Images per pass through the network; None: all of them. The gradient of the parts adds up to
    that of the whole batch."""
    label_dropout: float = 0.1
    """Chance that the network does not see an image's label: what guidance compares with."""
    compile_network: bool = True
    """Compile the network where it learns on a GPU: a minute at the start for faster steps."""
    net: NetConfig = field(default_factory=lambda: SIZES["tiny"])
    """The network."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=1e-3, warmup_steps=10_000)
    )
    """How gradients become steps."""
    augmentation: ImageAugmentation = field(default_factory=ImageAugmentation)
    """How images are changed before they are learned from."""

    @property
    def asks_teacher(self) -> bool:
        """Whether training asks the model that it began with, at every step."""
        return False

    @abstractmethod
    def build_objective(self, std: float, teacher: Teacher | None) -> Objective:
        """What the network learns, from images of standard deviation `std`.

        `teacher` is the model that the run begins with. Raises `UserError` where it does not do.
        """

    def build_trainer(
        self,
        data: ImageData,
        teacher: Teacher | None,
        *,
        seed: int,
        device: torch.device,
        steps: int,
    ) -> DenoiserTrainer:
        objective = self.build_objective(data.std(), teacher)
        return DenoiserTrainer(
            self, objective, data, teacher, seed=seed, device=device, steps=steps
        )

    def build_network(self, spec: ImageSpec, seed: int, device: torch.device) -> nn.Module:
        dtype = precision(device, self.precision) or torch.float32
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = build_network(self.net, spec, dtype, self.augmentation.numbers)
        return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def painting_model(
        self,
        network: nn.Module,
        spec: ImageSpec,
        std: float,
        teacher: Teacher | None,
        device: torch.device,
    ) -> DenoisingModel:
        objective = self.build_objective(std, teacher)
        unconditional = self.label_dropout > 0
        return painting_model(objective, network, spec, unconditional=unconditional, device=device)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.micro_batch is not None and not 1 <= self.micro_batch <= self.batch_size:
            raise UserError(
                f"micro_batch has to lie between 1 and the batch size ({self.batch_size}), not "
                f"{self.micro_batch}."
            )
        if not 0 <= self.label_dropout <= 1:
            raise UserError(f"label_dropout has to lie in 0..1, not {self.label_dropout}.")
