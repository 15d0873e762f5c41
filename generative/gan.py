"""Generative adversarial networks (Goodfellow et al. 2014): the settings of the family.

One network paints from noise, the other tells painted images from real ones, and each learns from
the other. Which loss they play for, what keeps the discriminator from becoming too steep, and which
nets they are, are fields; the presets put them together as papers did.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch

from playfield.errors import UserError
from playfield.generative.gan_augmentation import GANAugmentation
from playfield.generative.gan_networks import GAN_SIZES, GANNetConfig, build_generator
from playfield.generative.gan_trainer import GANTrainer
from playfield.generative.model import GeneratorModel
from playfield.generative.objective import ImageSpec
from playfield.generative.painter_config import PainterConfig
from playfield.training.devices import precision
from playfield.training.optimizers import OptimizerConfig

if TYPE_CHECKING:
    from torch import nn

    from playfield.generative.images import ImageData
    from playfield.generative.teacher import Teacher

LossName = Literal["non-saturating", "hinge", "wasserstein", "least-squares", "relativistic"]
Penalty = Literal["none", "r1", "r1r2", "gradient"]


@dataclass(frozen=True)
class GANConfig(PainterConfig):
    """A GAN's settings. Steps are real images that the discriminator has seen."""

    loss: LossName = "relativistic"
    """What the two networks play for: relativistic is R3GAN's, hinge SN-GAN's, wasserstein
    WGAN-GP's, non-saturating DCGAN's and StyleGAN's."""
    penalty: Penalty = "r1r2"
    """What keeps the discriminator's slope small: r1 on real images, r1r2 on real and painted ones
    (R3GAN), gradient between the two and towards 1 (WGAN-GP), or none."""
    penalty_weight: float = 1.0
    """Its weight: gamma of R1 and R2, lambda of the gradient penalty (10 in the paper)."""
    final_penalty_weight: float | None = None
    """Where the weight ends, half a cosine below the first; None: it does not change."""
    penalty_every: int = 1
    """Updates of the discriminator between two penalties; more than 1 saves time (lazy
    regularisation), and Adam's constants are corrected for it."""
    drift: float = 0.0
    """Weight of the squared logits of real images, which keeps them near 0: 0.001 in some WGANs."""
    discriminator_steps: int = 1
    """Updates of the discriminator for each of the generator: 5 in the papers of WGAN-GP and
    SN-GAN; the preset sngan has 1 for images of up to 48 pixels."""
    discriminator_rate: float = 1.0
    """The discriminator's learning rate, as a multiple of the generator's."""
    flip: bool = False
    """Mirror real images left to right with chance 1/2; the generator paints mirror images too."""
    net: GANNetConfig = field(default_factory=lambda: GAN_SIZES["r3gan-tiny"])
    """The two networks."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=2e-4, beta1=0.0, beta2=0.99)
    )
    """How gradients become steps, of both networks."""
    augmentation: GANAugmentation = field(default_factory=GANAugmentation)
    """What the discriminator sees of images: changed ones, so that it can't learn few by heart."""

    def build_trainer(
        self,
        data: ImageData,
        teacher: Teacher | None,
        *,
        seed: int,
        device: torch.device,
        steps: int,
    ) -> GANTrainer:
        assert teacher is None, "a GAN has no teacher"
        return GANTrainer(self, data, seed=seed, device=device, steps=steps)

    def dtype(self, device: torch.device) -> torch.dtype:
        """What the networks compute in, but for penalties."""
        return precision(device, self.precision) or torch.float32

    def build_network(self, spec: ImageSpec, seed: int, device: torch.device) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            generator = build_generator(self.net, spec, self.dtype(device))
        return generator.to(device)

    def painting_model(
        self,
        network: nn.Module,
        spec: ImageSpec,
        std: float,
        teacher: Teacher | None,
        device: torch.device,
    ) -> GeneratorModel:
        return GeneratorModel(
            generator=network,
            latent=self.net.latent,
            spec=spec,
            unconditional=not spec.classes,
            device=device,
        )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("penalty_every", "discriminator_steps"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} has to be 1 or more, not {getattr(self, name)}.")
        for name in ("penalty_weight", "drift"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name} has to be 0 or more, not {getattr(self, name)}.")
        if self.final_penalty_weight is not None and not 0 <= self.final_penalty_weight < math.inf:
            raise UserError(
                f"final_penalty_weight has to be 0 or more, not {self.final_penalty_weight}."
            )
        if not 0 < self.discriminator_rate < math.inf:
            raise UserError(
                f"discriminator_rate has to be more than 0, not {self.discriminator_rate}."
            )
        if self.loss == "wasserstein" and self.penalty == "none":
            raise UserError(
                "The wasserstein loss has no bound without a penalty: choose penalty gradient, r1 "
                "or r1r2."
            )
        if self.penalty != "none" and self.net.discriminator_norm == "batch":
            raise UserError(
                f"penalty={self.penalty} is on the slope at each image, and with batch norms an "
                "image's output depends on the others: choose another discriminator_norm, or "
                "penalty none."
            )
        if self.penalty_every > 1 and self.optimizer.optimizer not in ("adam", "adamw"):
            raise UserError(
                f"penalty_every={self.penalty_every} corrects the constants of adam and adamw, and "
                f"{self.optimizer.optimizer} is neither: choose one of them, or penalty_every 1."
            )
