"""How well a classifier tells classes apart: its confusion matrix, and the numbers made of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playfield.atomic import write_atomically
from playfield.errors import DamagedFileError, UserError
from playfield.training.saved_settings import from_stored

#: The file of a run that holds a `Judgement`, and its format.
FILE, FORMAT = "classification.json", 1


@dataclass(frozen=True)
class ClassScores:
    """What was found of one class; None in all three where none of its images were shown."""

    name: str
    support: int  # images of it that were shown
    precision: float | None  # the part of the images taken for it that are of it; 0: none was taken
    recall: float | None  # the part of its images that were taken for it
    f1: float | None  # the harmonic mean of the two; 0 where both are


@dataclass(frozen=True)
class Classification:
    """What a classifier took images for, and the numbers that follow."""

    n: int  # images
    accuracy: float  # the part that was taken for what it is
    precision: float  # the mean of the classes that were shown, each counting the same ("macro")
    recall: float  # likewise
    f1: float  # likewise
    classes: tuple[ClassScores, ...]
    confusion: tuple[tuple[int, ...], ...]  # [i][j]: images of class i that were taken for class j

    def matrix(self) -> NDArray[np.int64]:
        """The confusion matrix `[K, K]`: a row is what images are, a column what they seem."""
        return np.array(self.confusion, np.int64)

    def mistakes(self) -> list[tuple[str, str, int]]:
        """(what it is, what it was taken for, how often), the most frequent first."""
        matrix = self.matrix()
        np.fill_diagonal(matrix, 0)
        rows, columns = np.nonzero(matrix)
        order = np.argsort(-matrix[rows, columns], kind="stable")
        names = [each.name for each in self.classes]
        return [
            (names[row], names[column], int(matrix[row, column]))
            for row, column in zip(rows[order], columns[order], strict=True)
        ]


@dataclass(frozen=True)
class Judgement:
    """A `Classification` with everything that has to be known to repeat it."""

    run: str
    progress: int  # images that the classifier had learned from
    weights_sha256: str
    data: str  # the spec of the images that were shown
    held_out: float | None  # the part of every class of `data` that was shown; None: all of it
    seed: int  # that chose the part
    fingerprint: str  # SHA-256 of the images and labels that were shown
    finished_at: str  # ISO 8601, UTC
    classification: Classification


def classify(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: Sequence[str]
) -> Classification:
    """What follows from images of `labels` `[N]` that were taken for `predicted` `[N]`.

    Precision, recall and F1 are scikit-learn's, 0 where they would divide by 0. A class without
    images has none, and the means are over the others. Raises ValueError for no images, arrays of
    different length and labels that are no class.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support  # a second

    if len(labels) != len(predicted) or not len(labels):
        raise ValueError(f"labels, predicted: {len(labels)} and {len(predicted)} of them")
    numbers = np.arange(len(classes))
    for name, values in (("labels", labels), ("predicted", predicted)):
        if values.min() < 0 or values.max() >= len(classes):
            raise ValueError(f"{name} lie in {values.min()}..{values.max()}, not 0..{numbers[-1]}")
    scores = precision_recall_fscore_support(labels, predicted, labels=numbers, zero_division=0.0)
    support = scores[3]
    per_class = [
        ClassScores(name, int(count), *(float(x) if count else None for x in values))
        for name, count, *values in zip(classes, support, *scores[:3], strict=True)
    ]
    precision, recall, f1 = (float(np.mean(values[support > 0])) for values in scores[:3])
    matrix = confusion_matrix(labels, predicted, labels=numbers)
    return Classification(
        n=len(labels),
        accuracy=float(np.mean(labels == predicted)),
        precision=precision,
        recall=recall,
        f1=f1,
        classes=tuple(per_class),
        confusion=tuple(tuple(map(int, row)) for row in matrix),
    )


def write_judgement(path: Path, judgement: Judgement) -> None:
    """Write `judgement` in the place of what was at `path`; `UserError` where that can't be."""
    document = {"format": FORMAT, **asdict(judgement)}
    try:
        write_atomically(path, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}): make room, or give this user the right "
            "to write there, and measure again."
        ) from error


def read_judgement(path: Path) -> Judgement:
    """The judgement at `path`; `UserError` where there is none, `DamagedFileError` for another."""
    try:
        document: Any = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"Can't read {path}: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path} is damaged: it is no JSON ({error}).") from None
    if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
        raise DamagedFileError(f'{path} is damaged: "format" is not {FORMAT}.')
    return from_stored(Judgement, document, str(path), complete=True)
