"""How good painted digits are: what a classifier sees in them, and how new they are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from playfield.evaluation.frechet import frechet_distance, gaussian_statistics
from playfield.generative.classifier import ClassifierConfig, accuracy, features
from playfield.generative.classifier_trainer import train_classifier
from playfield.generative.images import ImageData
from playfield.generative.model import PaintingModel
from playfield.generative.neighbours import memorisation_ratio
from playfield.generative.pixels import to_bytes
from playfield.generative.sampling import SamplerConfig, labels_in_turn, paint
from playfield.nets.classifier import ConvClassifier

#: Images that are painted at once.
BATCH = 250


@dataclass(frozen=True)
class Quality:
    """What was found of a set of samples."""

    agreement: float  # the part in which the classifier sees the class that was asked for
    frechet_train: float  # squared distance of the classifier's features to the training images'
    frechet_test: float  # and to those of the test images
    frechet_train_few: float  # to the training images, of only as many samples as test images
    memorisation_ratio: float  # of distances to the nearest training image, over the test images'


class Judge:
    """A classifier of the training images, and what it says of images that are painted.

    It never sees the test images, nor a sample, while it learns.
    """

    def __init__(
        self, train: ImageData, test: ImageData, config: ClassifierConfig, seed: int = 0
    ) -> None:
        self.train, self.test = train, test
        self.network: ConvClassifier = train_classifier(
            train.images(), train.labels(), train.classes, config, seed
        )
        self._train = self._statistics(train.images())
        self._test = self._statistics(test.images())

    def quality(self, samples: NDArray[np.uint8], labels: NDArray[np.int64]) -> Quality:
        """Of `samples` `[N, C, H, W]` that were asked to be of the classes `labels` `[N]`."""
        found = self._statistics(samples)
        few = self._statistics(samples[: len(self.test)])
        return Quality(
            agreement=accuracy(self.network, samples, labels),
            frechet_train=frechet_distance(*found, *self._train),
            frechet_test=frechet_distance(*found, *self._test),
            frechet_train_few=frechet_distance(*few, *self._train),
            memorisation_ratio=memorisation_ratio(samples, self.train.images(), self.test.images()),
        )

    def record(self) -> dict[str, Any]:
        """Whether the judge is worth listening to, and what it says of real images."""
        return {
            "train_images": len(self.train),
            "test_images": len(self.test),
            "test_accuracy": accuracy(self.network, self.test.images(), self.test.labels()),
            # To be compared with `frechet_train_few`: a Fréchet distance falls with the images.
            "frechet_test_to_train": frechet_distance(*self._test, *self._train),
        }

    def _statistics(
        self, images: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return gaussian_statistics(features(self.network, images).cpu().numpy())


def painted(
    model: PaintingModel, config: SamplerConfig, count: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64], float]:
    """Samples of the seeds 0, 1, …, their classes in turn, and how many were painted a second."""
    labels = labels_in_turn(model.spec, count)
    paint(model, config, range(1), labels[:1])  # memory and kernels are made ready once
    batches: Sequence[torch.Tensor] = torch.arange(count).split(BATCH)
    started = time.perf_counter()
    samples = [to_bytes(paint(model, config, seeds.tolist(), labels[seeds])) for seeds in batches]
    seconds = time.perf_counter() - started
    return torch.cat(samples).cpu().numpy(), labels.numpy(), count / seconds
