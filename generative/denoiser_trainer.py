"""What all denoisers do besides their objective: batches, gradients, averages, state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from playfield.buffers.epochs import FrameEpochs
from playfield.buffers.store import FrameStore
from playfield.errors import UserError
from playfield.generative.augmentation import augment_images
from playfield.generative.averages import Averages
from playfield.generative.images import LABEL, ImageData
from playfield.generative.objective import NO_LABEL, Losses, Objective
from playfield.generative.painting import painting_model
from playfield.generative.pixels import to_signal
from playfield.generative.teacher import Teacher
from playfield.nets.dropout import seeded
from playfield.training.gradient_step import GradientStep
from playfield.training.optimizers import build_optimizer, learning_rate, set_learning_rate
from playfield.training.seeding import derive_seed
from playfield.training.spans import span
from playfield.training.trainer import Metrics, Share, State

if TYPE_CHECKING:
    from playfield.generative.denoiser_config import DenoiserConfig
    from playfield.generative.model import DenoisingModel

#: Curves of the loss by noise level: names, and the sigmas from which on they count.
NOISE_BANDS = {
    "loss_by_noise/below_0.1": 0.0,
    "loss_by_noise/from_0.1": 0.1,
    "loss_by_noise/from_0.5": 0.5,
    "loss_by_noise/above_2": 2.0,
}


class DenoiserTrainer:
    """A trainer whose `step` is one update on one batch of images.

    Images come from the data's store, each once per epoch (`buffers.epochs`). Everything else that
    is random in a step (noise, lost labels, augmentation, dropout) follows from the run's seed and
    the number of images seen before it, so the state of a run is its weights, their averages, the
    optimiser, and a place in the data.
    """

    unit: Literal["images"] = "images"
    frames_per_step = None

    def __init__(
        self,
        config: DenoiserConfig,
        objective: Objective,
        data: ImageData,
        teacher: Teacher | None = None,
        *,
        seed: int,
        device: torch.device,
        steps: int,
    ) -> None:
        self.config, self.objective, self.teacher = config, objective, teacher
        self.seed, self.device, self.steps = seed, device, steps
        self.spec = data.spec if config.conditional else data.spec.without_classes()
        shift, smallest = config.augmentation.shift, min(self.spec.height, self.spec.width)
        if shift >= smallest:
            raise UserError(
                f"shift={shift} moves images of {self.spec.height}x{self.spec.width} out of sight: "
                f"choose {smallest - 1} or less."
            )
        batch_size = min(config.batch_size, len(data))
        self.epochs = FrameEpochs(
            data.store,
            batch_size,
            derive_seed(seed, "data"),
            drop_last=True,
            augmentation=config.augmentation.view,
        )
        self.network = config.build_network(self.spec, derive_seed(seed, "network"), device)
        #: What training calls: `network`, or a faster program that shares its weights.
        self.compiled: nn.Module = self.network
        if device.type == "cuda" and config.compile_network:
            self.compiled = torch.compile(self.network)  # type: ignore[assignment]
        self.averages = Averages(self.network, config.ema)
        self.gradient_step = GradientStep(
            build_optimizer(config.optimizer, self.network),
            self.network.named_parameters(),
            config.optimizer.max_grad_norm,
        )
        self.learning_rate = learning_rate(config.optimizer, steps)
        self.progress = 0

    @property
    def stores(self) -> Mapping[str, FrameStore]:
        return {}  # the data set is opened again, not saved again

    @property
    def gradient_steps(self) -> Mapping[str, GradientStep]:
        return {"network": self.gradient_step}

    def begin_segment(self, segment: int) -> None:
        pass  # nothing here can't be saved

    @property
    def at_once(self) -> int:
        return self.config.micro_batch or self.config.batch_size

    def painting_model(self, averaged: bool = True) -> DenoisingModel:
        network = self.averages.network if averaged else self.network.eval()
        return painting_model(
            self.objective, network, self.spec, unconditional=True, device=self.device
        )

    def diagnosis(self) -> list[str]:
        return []  # nothing that the loop does not see: losses that are not finite

    def network_replaced(self) -> None:
        self.averages.restart(self.network)

    @property
    def networks(self) -> nn.Module:
        return self.network

    def begin_with(self, teacher: Teacher) -> None:
        """Take the weights of `teacher`; UserError where its network is another one."""
        assert teacher.network is not None
        try:
            self.network.load_state_dict(teacher.network.state_dict())
        except RuntimeError as error:
            raise UserError(
                "The network to begin with is not of the same size and kind as this run's: leave "
                "the options of the network out, and both are alike."
            ) from error
        self.network_replaced()

    def step(self) -> Metrics:
        self.network.train()
        rate = self.learning_rate(self.progress)
        set_learning_rate(self.gradient_step.optimizer, rate)
        found: list[Losses] = []
        with span("update"):
            norm = self.gradient_step.step_in_parts(self._parts(found))
        loss = torch.cat([each.loss for each in found])
        sigma = torch.cat([each.sigma for each in found])
        self.progress += len(loss)
        with span("average"):
            self.averages.update(self.progress, len(loss))
        return {
            "train/loss": loss.mean(),
            "train/gradient_norm": norm,
            "train/learning_rate": rate,
            **by_noise(loss, sigma),
        }

    def _parts(self, found: list[Losses]) -> Iterator[torch.Tensor]:
        """The loss of the next batch in parts that add up to it, each with a graph of its own."""
        generator = torch.Generator(self.device)
        generator.manual_seed(derive_seed(self.seed, "step", self.progress))
        with span("sample"):
            batch = self.epochs.sample()
            images = to_signal(batch.frames.to(self.device))
            label = self._shown_labels(batch.extra, len(images), generator)
            images, numbers = augment_images(images, self.config.augmentation, generator)
        draw = self.objective.draw(tuple(images.shape), generator)
        objective = self.objective.at(self.progress, self.steps)
        size = self.config.micro_batch or len(images)
        for begin in range(0, len(images), size):
            part = slice(begin, begin + size)
            augment = numbers[part] if self.config.augmentation.numbers else None
            with seeded(self.network, derive_seed(self.seed, "dropout", self.progress, begin)):
                losses = objective.judge(
                    self.compiled, images[part], label[part], augment, draw[part]
                )
            found.append(Losses(losses.loss.detach(), losses.sigma))
            yield losses.loss.sum() / len(images)

    def _shown_labels(
        self, columns: Mapping[str, torch.Tensor], count: int, generator: torch.Generator
    ) -> torch.Tensor:
        """Labels `[B]`, each kept from the network with the chance of `label_dropout`."""
        hidden = torch.full((count,), NO_LABEL, device=self.device)
        if not self.spec.classes:
            return hidden
        label = columns[LABEL].to(self.device)
        chance = torch.rand(count, generator=generator, device=self.device)
        return torch.where(chance < self.config.label_dropout, hidden, label)

    def state_dict(self) -> State:
        return {
            "network": self.network.state_dict(),
            **self.averages.state_dict(),
            "gradient_step": self.gradient_step.state_dict(),
            "epochs": self.epochs.state_dict(),
            "progress": self.progress,
            **self._teacher_state(),
        }

    def _teacher_state(self) -> State:
        """Its weights, where it is asked in every step: the run it is from may be gone by then."""
        if self.teacher is None or self.teacher.network is None or not self.config.asks_teacher:
            return {}
        return {"teacher": self.teacher.network.state_dict()}

    def load_state_dict(self, state: State) -> None:
        self.network.load_state_dict(state["network"])
        self.averages.load_state_dict(state, state["progress"])
        self.gradient_step.load_state_dict(state["gradient_step"])
        self.epochs.load_state_dict(state["epochs"])
        if self._teacher_state():
            assert self.teacher is not None and self.teacher.network is not None
            self.teacher.network.load_state_dict(state["teacher"])
        self.progress = state["progress"]


def by_noise(loss: torch.Tensor, sigma: torch.Tensor) -> dict[str, Share]:
    """The losses `[B]` shared out among the bands of noise that their sigmas `[B]` lie in."""
    edges = [*NOISE_BANDS.values(), float("inf")]
    shares = {}
    for name, (low, high) in zip(NOISE_BANDS, pairwise(edges), strict=True):
        inside = (sigma >= low) & (sigma < high)
        shares[name] = Share(torch.where(inside, loss, 0.0).sum(), inside.sum())
    return shares
