"""All that is measured of painted images: distances by features, copies, classes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from playfield.cache import data_folder
from playfield.commands import stored
from playfield.commands.painted_images import PaintedImages, shares_classes, translated_labels
from playfield.errors import UserError
from playfield.evaluation.features import FeatureNetwork, extract
from playfield.evaluation.images import METRICS, ImageMetrics, image_metrics, images_needed
from playfield.evaluation.reference import reference_features
from playfield.generative.accuracy_score import AccuracyScore, LabelledImages, accuracy_score
from playfield.generative.classifier import ClassifierConfig, accuracy
from playfield.generative.neighbours import memorisation_ratio
from playfield.generative.objective import NO_LABEL
from playfield.generative.saved_classifier import stored_classifier
from playfield.generative.saved_painter import stored_description
from playfield.training.run import Run

if TYPE_CHECKING:
    import torch

    from playfield.generative.images import ImageData
    from playfield.nets.classifier import ConvClassifier

#: Real images that painted ones are compared with, and held-out ones: all, or so many of them.
MOST_REAL = 50_000
#: Of the classifiers of the accuracy score.
SCORE_SEED = 0


@dataclass(frozen=True, eq=False)
class Judge:
    """A trained classifier, which is asked whether images show what they should."""

    run: str
    checkpoint: str
    sha256: str  # of its weights
    network: ConvClassifier

    def description(self) -> dict[str, Any]:
        return {"run": self.run, "checkpoint": self.checkpoint, "sha256": self.sha256}


def open_judge(run: Run, real: ImageData, device: torch.device) -> Judge:
    """The classifier of `run`; `UserError` unless it tells the classes of `real` apart."""
    checkpoint = stored.stored_checkpoint(run, None, stores=False)
    network, sha256 = stored_classifier(run, checkpoint, device)
    known = stored_description(run)
    if not knows_classes(run, real):
        raise UserError(
            f"The classifier {run.name!r} learned {known.name}, images of {sizes(known.shape)} in "
            f"{len(known.classes)} classes, and {real.name} has images of "
            f"{sizes(real.spec.shape)} in {len(real.classes)}, or others: name one of its kind."
        )
    return Judge(run.name, checkpoint.path.name, sha256, network)


def knows_classes(run: Run, real: ImageData) -> bool:
    """Whether `run`, a classifier's, learned images of the shape and the classes of `real`."""
    known = stored_description(run)
    return known.shape == real.spec.shape and known.classes == real.classes


def check_images(kind: str, images: ImageData, real: ImageData) -> None:
    """Raise `UserError` where `images`, of this `kind`, and `real` are of different shapes."""
    if images.spec.shape != real.spec.shape:
        raise UserError(
            f"The {kind} images of {images.name} are of {sizes(images.spec.shape)} (channels, "
            f"height, width) and those of {real.name} of {sizes(real.spec.shape)}: bring both to "
            "one with --resize and --channels."
        )


def check_held_out(held_out: ImageData, real: ImageData) -> None:
    """Tell of test images that `real` holds too; raise `UserError` where most of them are such."""
    learned, tested = (
        [
            blake2b(image.tobytes(), digest_size=16).digest()
            for part in data.blocks()
            for image in part
        ]
        for data in (real, held_out)
    )
    known = set(learned)
    shared = sum(digest in known for digest in tested)
    if 2 * shared > len(tested):
        raise UserError(
            f"{shared:,} of the {len(tested):,} images of {held_out.name} are in {real.name} too, "
            "which painted ones are compared with: name others with --test-data, which the painter "
            "did not learn from."
        )
    if shared:
        stored.report(
            f"{shared:,} of the {len(tested):,} images of {held_out.name} are in {real.name} too."
        )


def check_numbers(count: int, real: ImageData, network: FeatureNetwork) -> None:
    """Raise `UserError` where there are too few images, before any is painted."""
    metric = max(METRICS, key=lambda metric: images_needed(metric, network.size))
    needed = images_needed(metric, network.size)
    for kind, found in (("painted", count), ("real", len(real))):
        if found < needed:
            raise UserError(
                f"{found:,} {kind} images are too few: with the {network.size:,} numbers that "
                f"{network.name} sees in each, {needed:,} are needed at least; take more images, "
                "or other --features."
            )


def check_score(source: Run | ImageData, real: ImageData, held_out: ImageData) -> None:
    """Raise `UserError` where the accuracy score can't be had, before any image is painted."""
    labelled = (
        shares_classes(source, real)
        if isinstance(source, Run)
        else _classes(translated_labels(source, real)) > 1
    )
    if not labelled:
        raise UserError(
            "The accuracy score needs painted images with labels of the data's classes, and these "
            "have none, or all the same: leave --accuracy-score out."
        )
    if held_out.classes != real.classes:
        raise UserError(
            f"{held_out.name} and {real.name} need the same classes for the accuracy score: leave "
            "--accuracy-score out, or name other --test-data."
        )
    for data, least in ((real, 2), (held_out, 1)):
        if _classes(data.labels()) < least:
            raise UserError(
                f"The accuracy score needs images with labels in {data.name}"
                f"{', of two classes or more' if least > 1 else ''}: leave --accuracy-score out, "
                "or name other data."
            )


def _classes(labels: NDArray[np.int64] | None) -> int:
    """How many there are among `labels` `[N]`."""
    return 0 if labels is None else len(np.unique(labels[labels != NO_LABEL]))


def measure(
    painted: PaintedImages,
    real: ImageData,
    held_out: ImageData | None,
    network: FeatureNetwork,
    judge: Judge | None,
    *,
    fingerprint: str,
    learned_from: bool,
) -> ImageMetrics:
    """Everything but the accuracy score.

    `fingerprint` is that of `real`. `learned_from` says whether the painter learned from them: only
    then do distances to them tell of copies.
    """
    images, labels = real.spread(MOST_REAL), real.spread_labels(MOST_REAL)
    ratio = None
    if held_out is not None and learned_from:
        ratio = memorisation_ratio(painted.images, images, held_out.spread(MOST_REAL))
    agreement = None
    if judge is not None and painted.labels is not None:
        asked = painted.labels != NO_LABEL
        if asked.any():
            agreement = accuracy(judge.network, painted.images[asked], painted.labels[asked])
    return image_metrics(
        reference_features(network, images, cache=data_folder(), warn=stored.report),
        extract(network, painted.images),
        data=fingerprint,
        real_labels=None if painted.labels is None else labels,
        painted_labels=painted.labels,
        memorisation_ratio=ratio,
        agreement=agreement,
    )


def score(
    painted: PaintedImages, real: ImageData, held_out: ImageData, device: torch.device
) -> tuple[AccuracyScore, dict[str, Any]]:
    """The accuracy score, and how its classifiers learned; `check_score` is called before."""
    assert painted.labels is not None  # as `check_score` saw to
    config = ClassifierConfig()
    found = accuracy_score(
        LabelledImages(painted.images, painted.labels),
        LabelledImages(real.spread(MOST_REAL), real.spread_labels(MOST_REAL)),
        LabelledImages(held_out.spread(MOST_REAL), held_out.spread_labels(MOST_REAL)),
        real.classes,
        config,
        SCORE_SEED,
        device,
    )
    return found, {"n": found.n, "seed": SCORE_SEED, "config": asdict(config)}


def described(data: ImageData, used: int = MOST_REAL) -> dict[str, Any]:
    """Which images, and how many of them, for the record: `used`, or all where there are fewer."""
    return {
        "data": data.name,
        "fingerprint": data.fingerprint(),
        "shape": list(data.spec.shape),
        "of": len(data),
        "n": min(used, len(data)),
        "classes": len(data.classes),
        "labelled": int(np.count_nonzero(data.labels() != NO_LABEL)),
    }


def sizes(shape: tuple[int, ...]) -> str:
    """A shape as people write it."""
    return "x".join(map(str, shape))
