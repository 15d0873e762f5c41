"""The classification accuracy score: can a classifier learn from what was painted?

A classifier learns from painted, labelled images alone and is tested on real ones (Ravuri and
Vinyals 2019, "Classification Accuracy Score for Conditional Generative Models"). It sees what
distances between distributions do not: classes that are painted, but not as various as they are.
Beside it stands one that learns from as many real images, which is what could be reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from playfield.errors import UserError
from playfield.generative.classifier import ClassifierConfig, accuracy
from playfield.generative.classifier_trainer import train_classifier
from playfield.generative.objective import NO_LABEL
from playfield.training.seeding import derive_seed


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images and what they show."""

    images: NDArray[np.uint8]  # [N, C, H, W]
    labels: NDArray[np.int64]  # [N], `NO_LABEL` for none

    def __len__(self) -> int:
        return len(self.images)

    def labelled(self) -> LabelledImages:
        """Those that have a label."""
        kept = self.labels != NO_LABEL
        return self if kept.all() else LabelledImages(self.images[kept], self.labels[kept])

    def some(self, count: int, seed: int) -> LabelledImages:
        """`count` of them, drawn without replacement, in their order."""
        if count == len(self):
            return self
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self))[:count])
        return LabelledImages(self.images[chosen], self.labels[chosen])


@dataclass(frozen=True)
class AccuracyScore:
    """What two classifiers of one kind reach on the same real images."""

    n: int  # images that each of them learned from
    painted: float  # accuracy of the one that learned from painted images: the score
    real: float  # and of the one that learned from real ones


def accuracy_score(
    painted: LabelledImages,
    real: LabelledImages,
    test: LabelledImages,
    classes: Sequence[str],
    config: ClassifierConfig,
    seed: int,
    device: torch.device | str = "cpu",
) -> AccuracyScore:
    """Train on `painted` and on as many of `real`, and test both on `test`.

    Where there are fewer real images than painted ones, as many painted ones are drawn. Images
    without a label are left out. Everything drawn follows from `seed`. Raises `UserError` where
    there are no classes to tell apart.
    """
    painted, real, test = painted.labelled(), real.labelled(), test.labelled()
    for kind, images in (("painted", painted), ("real", real)):
        if len(np.unique(images.labels)) < 2:
            raise UserError(
                f"The accuracy score needs {kind} images with labels of two classes or more, to "
                "learn from: leave it out, or take data that has them."
            )
    if not len(test):
        raise UserError("The accuracy score needs test images with labels: leave it out.")
    count = min(len(painted), len(real))

    def learned_from(images: LabelledImages) -> float:
        some = images.some(count, derive_seed(seed, "accuracy score"))
        network = train_classifier(some.images, some.labels, classes, config, seed, device)
        return accuracy(network, test.images, test.labels)

    return AccuracyScore(count, painted=learned_from(painted), real=learned_from(real))
