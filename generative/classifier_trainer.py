"""How a classifier learns: one update on one batch of labelled images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from playfield.buffers.augmentation import Augmentation
from playfield.buffers.epochs import FrameEpochs
from playfield.buffers.store import FrameStore
from playfield.errors import UserError
from playfield.generative.classifier import ClassifierConfig, as_judge, build_classifier
from playfield.generative.images import LABEL, ImageData, images_from_arrays
from playfield.generative.pixels import to_signal
from playfield.nets.classifier import ConvClassifier
from playfield.training.devices import precision
from playfield.training.gradient_step import GradientStep
from playfield.training.optimizers import build_optimizer, learning_rate, set_learning_rate
from playfield.training.seeding import derive_seed
from playfield.training.spans import span
from playfield.training.trainer import Metrics, State


class ClassifierTrainer:
    """A trainer whose `step` lowers the cross-entropy of one batch.

    Images come from the data's store, each once per epoch. The masks of dropout follow from a seed
    and a count that the network's state holds, so the state of a run is its weights, the optimiser
    and a place in the data.

    Args:
        data: images, every one with a label.
        steps: images that it is going to learn from in all, where the learning rate falls that far.

    Raises ValueError for a label that is no class, and `UserError` for a shift of whole images.
    """

    unit: Literal["images"] = "images"
    frames_per_step = None

    def __init__(
        self,
        config: ClassifierConfig,
        data: ImageData,
        *,
        seed: int,
        device: torch.device,
        steps: int,
    ) -> None:
        self.config, self.device = config, device
        _check_labels(data.labels(), len(data.classes))
        smallest = min(data.spec.height, data.spec.width)
        if config.shift >= smallest:
            raise UserError(
                f"shift={config.shift} moves images of {data.spec.height}x{data.spec.width} out of "
                f"sight: choose {smallest - 1} or less."
            )
        self.epochs = FrameEpochs(
            data.store,
            min(config.batch_size, len(data)),
            derive_seed(seed, "order"),
            augmentation=Augmentation(shift=config.shift, flip=config.flip),
        )
        weights = derive_seed(seed, "weights")
        network = build_classifier(config, data.spec.shape, len(data.classes), weights)
        self.network: ConvClassifier = network.to(device)
        self.network.dtype = precision(device, config.precision) or torch.float32
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

    def network_replaced(self) -> None:
        pass  # nothing is made from it

    def step(self) -> Metrics:
        rate = self.learning_rate(self.progress)
        set_learning_rate(self.gradient_step.optimizer, rate)
        with span("sample"):
            batch = self.epochs.sample()
            images = to_signal(batch.frames.to(self.device))
            label = batch.extra[LABEL].to(self.device)
        with span("update"):
            logits = self.network(images)
            loss = F.cross_entropy(logits, label)
            norm = self.gradient_step.step(loss)
        self.progress += len(label)
        return {
            "train/loss": loss.detach(),
            "train/accuracy": (logits.detach().argmax(1) == label).float().mean(),
            "train/gradient_norm": norm,
            "train/learning_rate": rate,
        }

    @contextmanager
    def judging(self) -> Iterator[ConvClassifier]:
        """The network set to judge, while the context lasts."""
        dtype = self.network.dtype
        try:
            yield as_judge(self.network)
        finally:
            self.network.dtype = dtype
            self.network.train()

    def state_dict(self) -> State:
        return {
            "network": self.network.state_dict(),
            "gradient_step": self.gradient_step.state_dict(),
            "epochs": self.epochs.state_dict(),
            "progress": self.progress,
        }

    def load_state_dict(self, state: State) -> None:
        self.network.load_state_dict(state["network"])
        self.gradient_step.load_state_dict(state["gradient_step"])
        self.epochs.load_state_dict(state["epochs"])
        self.progress = state["progress"]


def train_classifier(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    config: ClassifierConfig,
    seed: int,
    device: torch.device | str = "cpu",
) -> ConvClassifier:
    """A classifier, set to judge, of `images` `[N, C, H, W]` uint8 with `labels` `[N]`.

    `classes` are the names of the labels 0, 1, …. Everything that is drawn follows from `seed`, and
    nothing global is touched: on a CPU the same arguments give the same network, bit for bit.
    Raises ValueError for a label that is no class.
    """
    data = images_from_arrays("training images", images, labels, classes, device=str(device))
    steps = config.epochs * len(images)
    trainer = ClassifierTrainer(config, data, seed=seed, device=torch.device(device), steps=steps)
    while trainer.progress < steps:
        trainer.step()
    return as_judge(trainer.network)


def _check_labels(labels: NDArray[np.int64], classes: int) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise ValueError(f"labels[{wrong[0]}] is {labels[wrong[0]]}, expected 0..{classes - 1}")
