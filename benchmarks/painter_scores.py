"""What is measured of painters: how they paint, seen by every network alike, and how fast."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from painter_runs import Learnt

from playfield.commands import stored
from playfield.commands.data_sets import open_data_set
from playfield.commands.image_measurement import SCORE_SEED, Judge, described, open_judge
from playfield.commands.painted_images import painted_by
from playfield.commands.stored_classifier import classifier_features
from playfield.evaluation.feature_networks import random_features
from playfield.evaluation.features import FeatureNetwork, extract
from playfield.evaluation.images import Features, image_metrics
from playfield.evaluation.manifold import expected_coverage
from playfield.generative.accuracy_score import LabelledImages
from playfield.generative.classifier import ClassifierConfig, accuracy
from playfield.generative.classifier_trainer import train_classifier
from playfield.generative.datasets.options import DataOptions
from playfield.generative.model import PaintingModel
from playfield.generative.neighbours import memorisation_ratio
from playfield.generative.pixels import to_bytes
from playfield.generative.sampling import SamplerConfig, labels_in_turn, paint, plan
from playfield.generative.saved_painter import AVERAGED, stored_model
from playfield.training.run import Run
from playfield.training.seeding import derive_seed

#: Images that are painted at once.
BATCH = 128
CPU = torch.device("cpu")

Images = NDArray[np.uint8]  # [N, C, H, W]
Labels = NDArray[np.int64]  # [N]


class Scores:
    """Real images, the networks that see them, and what these say of others.

    Args:
        train, test: specs of the images that painters learned from, and of others like them.
        number: images that are compared: painted ones, and at most so many real ones.
        judge: the run of a classifier of the training images; None: they have no labels.
        classifier: settings of the classifiers of the accuracy score.
    """

    def __init__(
        self, train: str, test: str, number: int, judge: Run | None, classifier: ClassifierConfig
    ) -> None:
        self.train, self.test = (open_data_set(spec, DataOptions()) for spec in (train, test))
        self.number, self.classifier = number, classifier
        self.judge: Judge | None = None
        #: By name; the first is the one to go by.
        self.networks: dict[str, FeatureNetwork] = {}
        if judge is not None:
            self.judge = open_judge(judge, self.train, CPU)
            checkpoint = stored.stored_checkpoint(judge, None, stores=False)
            self.networks["classifier"] = classifier_features(judge, checkpoint, CPU)
        self.networks["random"] = random_features(self.train.spec.channels)
        self.fingerprint = self.train.fingerprint()
        self.real_images = self.train.spread(number)
        self.real: Mapping[str, Features] = {
            name: extract(network, self.real_images) for name, network in self.networks.items()
        }
        self.test_images = self.test.spread(number)
        self.test_labels = self.test.spread_labels(number)

    @property
    def few(self) -> int:
        """As many painted images as there are test images to stand beside them."""
        return len(self.test_images)

    def conditions(self) -> dict[str, Any]:
        """What has to be the same for two results to be one table."""
        real = LabelledImages(self.real_images, self.train.spread_labels(self.number))
        return {
            "train": described(self.train, len(real)),
            "test": described(self.test, self.few),
            "number": self.number,
            "features": {
                name: {"sha256": network.sha256, "width": network.size}
                for name, network in self.networks.items()
            },
            "judge": None if self.judge is None else self.judge.sha256,
            "best_coverage": expected_coverage(len(real), self.number),
        }

    def of_test_images(self) -> dict[str, Any]:
        """What new real images reach: the floor of distances, and the ceiling of the rest."""
        found = self._seen(self.test_images, self.test_labels)
        if self.judge is not None:
            real = LabelledImages(self.real_images, self.train.spread_labels(self.number))
            found["accuracy_score"] = self._learned_from(real)
        return found

    def of(self, learnt: Learnt) -> list[dict[str, Any]]:
        """What a painter paints, each of its ways."""
        checkpoint = stored.stored_checkpoint(learnt.run, None, stores=False)
        model = stored_model(learnt.run, checkpoint, CPU)
        rows = []
        for way in learnt.painter.ways:
            _make_ready(model, way)
            started = time.perf_counter()
            painted = painted_by(
                learnt.run, checkpoint, model, AVERAGED, self.train,
                config=way, count=self.number, first_seed=0, batch_size=BATCH,
            )  # fmt: skip
            seconds = time.perf_counter() - started
            row = {
                "nfe": painted.source["network_calls"],
                "sampler": painted.source["sampler"],
                "steps": painted.source["steps"],
                "usual": way is learnt.painter.ways[-1],
                "images_per_second": self.number / seconds,
                **self._seen(painted.images, painted.labels),
            }
            if self.judge is not None and painted.labels is not None:
                row["accuracy_score"] = self._learned_from(
                    LabelledImages(painted.images, painted.labels)
                )
            if self.few < self.number:
                # Evenly, so that no class is more frequent among them.
                chosen = np.linspace(0, self.number - 1, self.few).round().astype(np.int64)
                row["few"] = self._metrics(painted.images[chosen])
            rows.append(row)
        return rows

    def real_examples(self, count: int) -> Images:
        """`count` of the test images, the classes in turn where there are any."""
        if not self.test.classes:
            return self.test.spread(count)[:count]
        wanted = labels_in_turn(self.test.spec, count).tolist()
        labels = self.test.labels()
        # The first of each class, then the second: as often as it was wanted before.
        places = [np.flatnonzero(labels == c)[wanted[:k].count(c)] for k, c in enumerate(wanted)]
        return self.test.images()[places]

    def _seen(self, images: Images, labels: Labels | None) -> dict[str, Any]:
        agreement = None
        if self.judge is not None and labels is not None:
            agreement = accuracy(self.judge.network, images, labels)
        ratio = memorisation_ratio(images, self.train.images(), self.test_images)
        return {
            "agreement": agreement,
            "accuracy_score": None,
            "memorisation_ratio": ratio if np.isfinite(ratio) else None,
            "metrics": self._metrics(images),
        }

    def _metrics(self, images: Images) -> dict[str, Any]:
        """By the features' names: `ImageMetrics` as they are recorded."""
        return {
            name: image_metrics(
                self.real[name],
                extract(network, images),
                data=self.fingerprint,
                allow_collapse=True,  # a painter that paints one image belongs in the table
            ).record()
            for name, network in self.networks.items()
        }

    def _learned_from(self, images: LabelledImages) -> float:
        """The accuracy score as `accuracy_score` has it; that of real images is needed once."""
        count = min(len(images), len(self.real_images))
        some = images.some(count, derive_seed(SCORE_SEED, "accuracy score"))
        network = train_classifier(
            some.images, some.labels, self.train.classes, self.classifier, SCORE_SEED
        )
        return accuracy(network, self.test_images, self.test_labels)


def examples(learnt: Learnt, way: SamplerConfig, count: int) -> tuple[Images, int]:
    """`count` images of the seeds 0, 1, …, the classes in turn; and the calls for each (NFE)."""
    checkpoint = stored.stored_checkpoint(learnt.run, None, stores=False)
    model = stored_model(learnt.run, checkpoint, CPU)
    painted = paint(model, way, range(count), labels_in_turn(model.spec, count))
    return to_bytes(painted).numpy(), plan(model, way).network_calls


def _make_ready(model: PaintingModel, way: SamplerConfig) -> None:
    """Paint one image: memory and kernels are made ready once, off the clock."""
    paint(model, way, range(1), labels_in_turn(model.spec, 1))
