"""What evaluations of painted images found, in a file: each with its conditions, none compared."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from playfield.atomic import alone, write_atomically
from playfield.errors import DamagedFileError, UserError
from playfield.evaluation.images import CONDITIONS, ImageMetrics

#: The file of a run that holds them, and its format.
FILE, FORMAT = "image_evaluation.json", 1


@dataclass(frozen=True, kw_only=True)
class ImageEvaluation:
    """`ImageMetrics`, and everything besides that has to be known to repeat them."""

    painted: dict[str, Any]  # where the images are from: a run, its checkpoint and how it painted
    real: dict[str, Any]  # the images they were compared with
    held_out: dict[str, Any] | None  # real ones that the painter did not learn from
    classifier: dict[str, Any] | None  # what said whether they show what they should
    accuracy_score: dict[str, Any] | None  # how the classifiers of the accuracy score learned
    metrics: ImageMetrics
    finished_at: str  # ISO 8601, UTC

    def same_conditions(self, other: ImageEvaluation) -> bool:
        """Whether `other` is this evaluation repeated: the same images, as many, seen alike."""
        return all(
            getattr(self, name) == getattr(other, name) for name in (*OBJECTS, *OPTIONAL)
        ) and all(
            getattr(self.metrics, name) == getattr(other.metrics, name) for name in CONDITIONS
        )

    def require_comparable(self, other: ImageEvaluation) -> None:
        """Raises `UserError`, naming the first condition in which `other` differs.

        Numbers that only one of them has are compared with nothing, and their conditions not asked.
        """
        self.metrics.require_comparable(other.metrics)
        for number, (called, conditions) in FURTHER_CONDITIONS.items():
            if None in (getattr(self.metrics, number), getattr(other.metrics, number)):
                continue
            for field, name, words in conditions:
                ours, theirs = ((getattr(each, field) or {}).get(name) for each in (self, other))
                if ours != theirs:
                    raise UserError(
                        f"These results can't be compared in their {called}, {words} being {ours} "
                        f"in one and {theirs} in the other: evaluate both under the same "
                        "conditions."
                    )


#: Fields that are objects, and those that may be null.
OBJECTS, OPTIONAL = ("painted", "real"), ("held_out", "classifier", "accuracy_score")

_HELD_OUT = (
    ("held_out", "fingerprint", "the held-out images' fingerprint"),
    ("held_out", "n", "the number of held-out images"),
)
#: What has to be the same besides, for the numbers that look at more than features: what users call
#: a number; and fields here, what they hold, and its words.
FURTHER_CONDITIONS = {
    "memorisation_ratio": ("memorisation ratio", _HELD_OUT),
    "agreement": ("agreement", (("classifier", "sha256", "the hash of the classifier's weights"),)),
    "accuracy_score": (
        "accuracy score",
        (
            *_HELD_OUT,
            ("accuracy_score", "n", "the number of images that its classifiers learned from"),
            ("accuracy_score", "seed", "the seed of its classifiers"),
            ("accuracy_score", "config", "the settings of its classifiers"),
        ),
    ),
}


def read_image_evaluations(path: Path) -> list[ImageEvaluation]:
    """The evaluations in `path`, oldest first; none where there is no file.

    Raises `DamagedFileError` naming the file and what is wrong with it.
    """
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"Can't read {path}: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"it is no JSON ({error})") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise _damaged(path, f'"format" is not {FORMAT}')
    entries = document.get("evaluations")
    if not isinstance(entries, list):
        raise _damaged(path, '"evaluations" is not a list')
    return [_evaluation(path, number, entry) for number, entry in enumerate(entries)]


def add_image_evaluation(path: Path, evaluation: ImageEvaluation) -> None:
    """Write `evaluation` after those already in `path`; a repetition takes the old one's place.

    The file is replaced at once, and of two who add to it neither loses the other's. Raises
    `UserError` where that can't be, and `DamagedFileError` for a file that holds something else.
    """
    try:
        with alone(path):
            kept = [
                old for old in read_image_evaluations(path) if not old.same_conditions(evaluation)
            ]
            entries = [_entry(each) for each in [*kept, evaluation]]
            document = {"format": FORMAT, "evaluations": entries}
            text = json.dumps(document, indent=1, allow_nan=False) + "\n"
            write_atomically(path, text.encode())
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); the result above is not saved: make "
            "room or give this user the right to write there, and evaluate again."
        ) from error


def _entry(evaluation: ImageEvaluation) -> dict[str, Any]:
    return asdict(evaluation) | {"metrics": evaluation.metrics.record()}


def _evaluation(path: Path, number: int, entry: object) -> ImageEvaluation:
    where = f"evaluation {number}"
    if not isinstance(entry, dict):
        raise _damaged(path, f"{where} is not an object")
    conditions: dict[str, Any] = {name: entry.get(name) for name in (*OBJECTS, *OPTIONAL)}
    for name, value in conditions.items():
        if not isinstance(value, dict) and (name in OBJECTS or value is not None):
            raise _damaged(path, f'"{name}" of {where} is not an object')
    if not isinstance(entry.get("finished_at"), str):
        raise _damaged(path, f'"finished_at" of {where} is not a str')
    try:
        metrics = ImageMetrics.from_record(entry.get("metrics"))
    except ValueError as error:
        raise _damaged(path, f'"metrics" of {where}: {error}') from None
    return ImageEvaluation(**conditions, metrics=metrics, finished_at=entry["finished_at"])


def _damaged(path: Path, what: str) -> DamagedFileError:
    return DamagedFileError(f"{path} is damaged: {what}; move it away to start a new one.")
