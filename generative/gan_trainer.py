"""Two networks that learn from each other: batches, penalties, balance, averages, state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import torch
from torch import nn

from playfield.buffers.augmentation import Augmentation
from playfield.buffers.epochs import FrameEpochs
from playfield.buffers.store import FrameStore
from playfield.generative import gan_augmentation
from playfield.generative.adaptive import AdaptiveProbability
from playfield.generative.averages import Averages
from playfield.generative.gan_health import GANHealth, relative_diversity
from playfield.generative.gan_losses import LOSSES
from playfield.generative.gan_networks import build_discriminator
from playfield.generative.gan_penalties import (
    LazyRegularisation,
    interpolated,
    squared_gradient,
    unit_gradient,
)
from playfield.generative.images import LABEL, ImageData
from playfield.generative.objective import NO_LABEL
from playfield.generative.pixels import to_signal
from playfield.generative.teacher import Teacher
from playfield.training.gradient_step import GradientStep
from playfield.training.optimizers import build_optimizer, learning_rate, set_learning_rate
from playfield.training.schedules import Constant, Cosine, Schedule
from playfield.training.seeding import derive_seed
from playfield.training.spans import span, spanned
from playfield.training.trainer import Metrics, State

if TYPE_CHECKING:
    from playfield.generative.gan import GANConfig
    from playfield.generative.model import GeneratorModel


class Draws(NamedTuple):
    """Where random numbers come from: two streams that know nothing of each other."""

    noise: torch.Generator  # on the device
    changes: torch.Generator  # of augmentation, which is planned on the CPU


class GANTrainer:
    """A trainer whose `step` is some updates of the discriminator and one of the generator.

    Real images come from the data's store, each once per epoch; painted ones have the labels of the
    real ones that they meet, so labels are as frequent as in the data. Everything else that is
    random in a step follows from the run's seed and the number of real images seen before it. So a
    run's state is its two networks, their optimisers, the averages of the generator, the chance of
    augmentation, and a place in the data.
    """

    unit: Literal["images"] = "images"
    frames_per_step = None

    def __init__(
        self,
        config: GANConfig,
        data: ImageData,
        *,
        seed: int,
        device: torch.device,
        steps: int,
    ) -> None:
        self.config, self.seed, self.device = config, seed, device
        self.spec = data.spec if config.conditional else data.spec.without_classes()
        self.epochs = FrameEpochs(
            data.store,
            min(config.batch_size, len(data)),
            derive_seed(seed, "data"),
            drop_last=True,
            augmentation=Augmentation(flip=True) if config.flip else None,
        )
        self.network = config.build_network(self.spec, derive_seed(seed, "generator"), device)
        self.discriminator = self._new_discriminator()
        self.averages = Averages(self.network, config.ema)
        self.loss = LOSSES[config.loss]
        self.lazy = LazyRegularisation(config.penalty_every)
        self.generator_step = self._gradient_step(self.network, lazy=False)
        self.discriminator_step = self._gradient_step(self.discriminator, self.is_lazy)
        self.learning_rate = learning_rate(config.optimizer, steps)
        self.penalty_weight = _penalty_weight(config, steps)
        self.augment = AdaptiveProbability(config.augmentation)
        self.health = GANHealth.begin(device)
        self.progress = 0
        self.updates = 0  # of the discriminator

    @property
    def is_lazy(self) -> bool:
        """Whether the penalty has updates of its own."""
        return self.config.penalty != "none" and self.config.penalty_every > 1

    def _new_discriminator(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.seed, "discriminator"))
            config = self.config
            network = build_discriminator(config.net, self.spec, config.dtype(self.device))
        return network.to(self.device)

    def _gradient_step(self, network: nn.Module, lazy: bool) -> GradientStep:
        config = self.config.optimizer
        if lazy:
            beta1, beta2 = self.lazy.betas(config.beta1, config.beta2)
            config = replace(config, beta1=beta1, beta2=beta2)
        optimizer = build_optimizer(config, network)
        return GradientStep(optimizer, network.named_parameters(), config.max_grad_norm)

    @property
    def stores(self) -> Mapping[str, FrameStore]:
        return {}  # the data set is opened again, not saved again

    @property
    def gradient_steps(self) -> Mapping[str, GradientStep]:
        return {"generator": self.generator_step, "discriminator": self.discriminator_step}

    @property
    def at_once(self) -> int:
        return self.config.batch_size

    def begin_segment(self, segment: int) -> None:
        pass  # nothing here can't be saved

    def network_replaced(self) -> None:
        self.averages.restart(self.network)

    @property
    def networks(self) -> nn.Module:
        return nn.ModuleDict({"generator": self.network, "discriminator": self.discriminator})

    def begin_with(self, teacher: Teacher) -> None:
        raise AssertionError("a GAN has no teacher")

    def painting_model(self, averaged: bool = True) -> GeneratorModel:
        network = self.averages.network if averaged else self.network.eval()
        return self.config.painting_model(network, self.spec, 0.0, None, self.device)

    def diagnosis(self) -> list[str]:
        return self.health.diagnosis()

    def step(self) -> Metrics:
        self.network.train()
        rate = self.learning_rate(self.progress)
        set_learning_rate(self.generator_step.optimizer, rate)
        rate *= self.config.discriminator_rate
        if self.is_lazy:
            rate = self.lazy.learning_rate(rate)
        set_learning_rate(self.discriminator_step.optimizer, rate)
        before = self.progress
        metrics: dict[str, float | torch.Tensor] = {}
        for _ in range(self.config.discriminator_steps):
            draws = self._draws("discriminator")
            real, label = self._next_images()
            metrics.update(self._teach_discriminator(real, label, draws))
            self.progress += len(real)
            self.updates += 1
        metrics.update(self._teach_generator(real, label, self._draws("generator")))
        with span("average"):
            self.averages.update(self.progress, self.progress - before)
        return {"train/learning_rate": self.learning_rate(before), **metrics}

    def _draws(self, player: str) -> Draws:
        """The sources of what is random in one player's next update."""
        noise, changes = torch.Generator(self.device), torch.Generator()
        noise.manual_seed(derive_seed(self.seed, player, self.progress))
        changes.manual_seed(derive_seed(self.seed, player, "augment", self.progress))
        return Draws(noise, changes)

    @spanned("sample")
    def _next_images(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Real images `[B, C, H, W]` as signals, and their labels `[B]`."""
        batch = self.epochs.sample()
        real = to_signal(batch.frames.to(self.device))
        if not self.spec.classes:
            return real, torch.full((len(real),), NO_LABEL, device=self.device)
        return real, batch.extra[LABEL].to(self.device, copy=True)

    def _noise(self, count: int, draws: Draws) -> torch.Tensor:
        return torch.randn(count, self.config.net.latent, generator=draws.noise, device=self.device)

    def _seen(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        """What the discriminator is shown of `images`; gradients flow through."""
        transform = gan_augmentation.draw(
            self.config.augmentation, tuple(images.shape), self.augment.p, draws.changes
        )
        return transform(images)

    @spanned("discriminator")
    def _teach_discriminator(
        self, real: torch.Tensor, label: torch.Tensor, draws: Draws
    ) -> dict[str, float | torch.Tensor]:
        config = self.config
        with torch.no_grad():
            fake = self.network(self._noise(len(real), draws), label)
        due = config.penalty != "none" and self.lazy.is_due(self.updates)
        weight = self.penalty_weight(self.progress)
        penalty = None
        if due and not self.is_lazy:
            # One pass for both: in float32 then, because the penalty is a difference of gradients.
            with computing_in_float32(self.discriminator):
                real_logits, fake_logits, penalty = self._judged(real, fake, label, draws, True)
        else:
            real_logits, fake_logits, _ = self._judged(real, fake, label, draws, False)
        loss = self.loss.discriminator(real_logits, fake_logits).mean()
        total = loss + config.drift * real_logits.square().mean()
        norm = self.discriminator_step.step(total if penalty is None else total + weight * penalty)
        if due and self.is_lazy:
            with computing_in_float32(self.discriminator):
                _, _, penalty = self._judged(real, fake, label, draws, True)
            self.discriminator_step.step(self.lazy.factor * weight * penalty)
        real_logits, fake_logits = real_logits.detach(), fake_logits.detach()
        signs = self.loss.told(real_logits, fake_logits).sign()
        adaptive = config.augmentation.augment == "ada"
        if adaptive:
            self.augment.update(signs.sum(), len(signs))
        diversity = relative_diversity(fake, real.detach(), label)
        self.health.add(diversity, torch.cat([real_logits, fake_logits]).std())
        metrics: dict[str, float | torch.Tensor] = {
            "train/discriminator_loss": loss.detach(),
            "train/discriminator_gradient_norm": norm,
            "gan/logit_real": real_logits.mean(),
            "gan/logit_fake": fake_logits.mean(),
            "gan/real_sign": signs.mean(),
            "gan/diversity": diversity,
            "health/generator_collapsed": self.health.collapsed,
            "health/discriminator_collapsed": self.health.blind,
        }
        if adaptive:
            metrics["gan/augment_probability"] = self.augment.p
        if penalty is not None:
            metrics["train/penalty"] = weight * penalty.detach()
        return metrics

    def _judged(
        self,
        real: torch.Tensor,
        fake: torch.Tensor,
        label: torch.Tensor,
        draws: Draws,
        penalise: bool,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits `[B]` of real and painted images, and the penalty, 0-d (0 if none is wanted).

        R1 and R2 are taken through the augmentation, at the images as they were before it. The
        gradient penalty looks at points between augmented images: those are what the critic sees.
        """
        kind = self.config.penalty if penalise else "none"
        real = real.detach().requires_grad_(kind in ("r1", "r1r2"))
        fake = fake.detach().requires_grad_(kind == "r1r2")
        real_seen, fake_seen = self._seen(real, draws), self._seen(fake, draws)
        real_logits = self.discriminator(real_seen, label)
        fake_logits = self.discriminator(fake_seen, label)
        penalty = torch.zeros((), device=self.device)
        if kind == "gradient":
            fraction = torch.rand(len(real), generator=draws.noise, device=self.device)
            between = interpolated(real_seen, fake_seen, fraction)
            penalty = unit_gradient(self.discriminator(between, label), between).mean()
        if kind in ("r1", "r1r2"):
            penalty = squared_gradient(real_logits, real).mean() / 2
        if kind == "r1r2":
            penalty = penalty + squared_gradient(fake_logits, fake).mean() / 2
        return real_logits, fake_logits, penalty

    @spanned("generator")
    def _teach_generator(
        self, real: torch.Tensor, label: torch.Tensor, draws: Draws
    ) -> dict[str, float | torch.Tensor]:
        self.discriminator.requires_grad_(False)
        fake = self.network(self._noise(len(label), draws), label)
        fake_logits = self.discriminator(self._seen(fake, draws), label)
        real_logits = fake_logits.detach()
        if self.loss.relativistic:
            with torch.no_grad():
                real_logits = self.discriminator(self._seen(real, draws), label)
        loss = self.loss.generator(real_logits, fake_logits).mean()
        norm = self.generator_step.step(loss)
        self.discriminator.requires_grad_(True)
        return {"train/generator_loss": loss.detach(), "train/generator_gradient_norm": norm}

    def state_dict(self) -> State:
        return {
            "network": self.network.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            **self.averages.state_dict(),
            "generator_step": self.generator_step.state_dict(),
            "discriminator_step": self.discriminator_step.state_dict(),
            "epochs": self.epochs.state_dict(),
            "augment": self.augment.state_dict(),
            "health": self.health.state_dict(),
            "progress": self.progress,
            "updates": self.updates,
        }

    def load_state_dict(self, state: State) -> None:
        self.network.load_state_dict(state["network"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.averages.load_state_dict(state, state["progress"])
        self.generator_step.load_state_dict(state["generator_step"])
        self.discriminator_step.load_state_dict(state["discriminator_step"])
        self.epochs.load_state_dict(state["epochs"])
        self.augment.load_state_dict(state["augment"])
        self.health.load_state_dict(state["health"])
        self.progress, self.updates = state["progress"], state["updates"]


@contextmanager
def computing_in_float32(network: nn.Module) -> Iterator[None]:
    """Have `network`, and whatever autocast there is around it, compute in float32 for a while."""
    device, computing = next(network.parameters()).device, cast(Any, network)
    before, computing.dtype = computing.dtype, torch.float32
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        computing.dtype = before


def _penalty_weight(config: GANConfig, steps: int) -> Schedule:
    """The penalty's weight at every image of a run of `steps`."""
    first, last = config.penalty_weight, config.final_penalty_weight
    return Constant(first) if last is None else Cosine(first, last, steps)
