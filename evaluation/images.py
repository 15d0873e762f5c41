"""How painted images compare with real ones, as numbers, and the conditions they hold under.

Every number compares distributions of features, so none means anything without the network that the
features come from, how images were prepared for it and how many there were. `Features` carry this
along, `ImageMetrics` record it, and what was found under other conditions is not compared.
`docs/metrics.md` says what each number means and when not to trust it.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playfield.errors import UserError
from playfield.evaluation.diversity import class_diversity, diversity
from playfield.evaluation.frechet import frechet_distance, gaussian_statistics
from playfield.evaluation.kernel_distance import (
    SUBSET_SIZE,
    kernel_distance,
    subset_kernel_distance,
)
from playfield.evaluation.manifold import DENSITY_K, PRECISION_K, manifold

#: What `image_metrics` works out unless it is asked for less.
METRICS = ("frechet_distance", "kernel_distance", "manifold", "diversity")
#: Features that differ by no more than this part of their greatest number are alike: a network sees
#: a little more or less in one image, by rounding, in batches of another size.
ALIKE = 1e-5
#: Of the subsets of the kernel distance.
SUBSET_SEED = 0


@dataclass(frozen=True, eq=False)
class Features:
    """What a network saw in some images.

    Raises ValueError for what is no array `[N, D]`, and `UserError` for numbers not finite.
    """

    array: NDArray[np.floating]
    """`[N, D]`, one row an image."""
    name: str
    """The network, in a user's words: `random`, `classifier`, `inception`, `dinov2`."""
    sha256: str
    """Of the network's weights."""
    preprocessing: str
    """How images were prepared for it, in words."""

    def __post_init__(self) -> None:
        if self.array.ndim != 2 or not self.array.shape[1]:
            raise ValueError(f"array: shape {list(self.array.shape)}, expected [N, D]")
        if not np.isfinite(self.array).all():
            raise UserError(
                f"The {self.name} network gives features that are not finite numbers: its weights "
                "are no good, or do not belong to it; name another file."
            )

    def __len__(self) -> int:
        return len(self.array)

    @property
    def width(self) -> int:
        """D, the numbers for an image."""
        return self.array.shape[1]

    @property
    def alike(self) -> bool:
        """Whether all images look the same to the network."""
        first = self.array[:1]
        return bool(np.abs(self.array - first).max() <= ALIKE * np.abs(first).max())


@dataclass(frozen=True, kw_only=True)
class ImageMetrics:
    """What painted images were found to be, with everything that has to be known to compare it.

    A number that was not worked out is None.
    """

    n: int
    """Painted images."""
    n_real: int
    """Real images they were compared with."""
    features: str
    """The network's name."""
    features_sha256: str
    """Of its weights."""
    width: int
    """Its numbers for an image."""
    preprocessing: str
    """How images were prepared for it."""
    data: str
    """Fingerprint of the real images."""
    precision_k: int = PRECISION_K
    """The neighbour that the balls of precision and recall reach to."""
    density_k: int = DENSITY_K
    """The same for density and coverage."""

    frechet_distance: float | None = None
    """0 or more; the FID where the features are Inception's."""
    kernel_distance: float | None = None
    """Unbiased, from all images, so that it may be below 0."""
    kernel_distance_error: float | None = None
    """Its standard error over draws of images."""
    kernel_subsets_mean: float | None = None
    """The same from random subsets, as it is published for the KID."""
    kernel_subsets_error: float | None = None
    """The standard error of that mean over draws of subsets, which share images."""
    kernel_subset_size: int | None = None
    """Images of each kind in a subset."""
    precision: float | None = None
    recall: float | None = None
    density: float | None = None
    coverage: float | None = None
    diversity: float | None = None
    """Mean distance between two painted images over that between two real ones."""
    class_diversity: dict[int, float] | None = None
    """The same within each class, by label."""
    memorisation_ratio: float | None = None
    """Distance of painted images to their nearest training images, over that of held-out ones."""
    agreement: float | None = None
    """The part of painted images that a classifier takes for what their label says."""
    accuracy_score: float | None = None
    """Accuracy on real images of a classifier trained on painted ones (CAS)."""
    accuracy_score_real: float | None = None
    """The same for a classifier trained on as many real images."""

    def require_comparable(self, other: ImageMetrics) -> None:
        """Raises `UserError`, naming the first condition in which `other` differs."""
        for name, words in CONDITIONS.items():
            ours, theirs = getattr(self, name), getattr(other, name)
            if ours != theirs:
                raise UserError(
                    f"These results can't be compared, {words} being {ours} in one and {theirs} in "
                    "the other: evaluate both under the same conditions."
                )

    def record(self) -> dict[str, Any]:
        """The fields for a JSON file; infinity, which JSON has not, as "inf"."""
        return {
            name: {str(label): number for label, number in value.items()}
            if isinstance(value, dict)
            else ("inf" if value == math.inf else value)
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_record(cls, record: object) -> ImageMetrics:
        """The inverse of `record`, which may hold more besides.

        Raises ValueError naming the field that is missing or not of its kind.
        """
        if not isinstance(record, dict):
            raise ValueError("it is not an object")
        given = {field.name: record[field.name] for field in fields(cls) if field.name in record}
        for name, kind in CONDITION_KINDS.items():
            if not isinstance(given.get(name), kind) or isinstance(given[name], bool):
                raise ValueError(f'"{name}" is not {"text" if kind is str else "a whole number"}')
        for name in given.keys() - CONDITION_KINDS.keys():
            given[name] = _number(name, given[name])
        return cls(**given)


#: What has to be the same in two results for their numbers to be compared, in a user's words.
CONDITIONS = {
    "data": "the data's fingerprint",
    "n": "the number of painted images",
    "n_real": "the number of real images",
    "features": "the features",
    "features_sha256": "the hash of the features' weights",
    "width": "the width of the features",
    "preprocessing": "the preprocessing",
    "precision_k": "the neighbour of precision and recall",
    "density_k": "the neighbour of density and coverage",
}
CONDITION_KINDS: dict[str, type] = {
    name: str if name in ("data", "features", "features_sha256", "preprocessing") else int
    for name in CONDITIONS
}


def images_needed(metric: str, width: int) -> int:
    """How many images, painted and real each, `metric` of `METRICS` needs at least.

    `width` is that of the features: the normal distributions of the Fréchet distance fill their
    space only if there are more images than numbers for each.
    """
    needed = {
        "frechet_distance": width + 1,
        "kernel_distance": 4,  # two in a subset, which takes half of them
        "manifold": max(PRECISION_K, DENSITY_K) + 1,
        "diversity": 2,
    }
    return needed[metric]


def image_metrics(
    real: Features,
    painted: Features,
    *,
    data: str,
    metrics: Collection[str] = METRICS,
    real_labels: NDArray[np.int64] | None = None,
    painted_labels: NDArray[np.int64] | None = None,
    memorisation_ratio: float | None = None,
    agreement: float | None = None,
    accuracy_score: float | None = None,
    accuracy_score_real: float | None = None,
    allow_collapse: bool = False,
) -> ImageMetrics:
    """Compare what was painted with what is real, by the features of both.

    `data` is the real images' fingerprint; the four numbers are worked out elsewhere and only
    recorded. With labels `[N]` of both (-1 is none) diversity is told for each class as well. The
    same arguments give the same result. Raises `UserError` for too few images, for features of
    another network or preprocessing, and for images that are all alike; of painted ones, only
    unless `allow_collapse`, which is for watching a painter that may yet recover.
    """
    if unknown := set(metrics) - set(METRICS):
        raise ValueError(f"metrics={sorted(unknown)}: expected some of {METRICS}")
    _require_same_network(real, painted)
    for metric in METRICS:
        if metric in metrics:
            _require_enough(metric, real, painted)
    if real.alike:
        raise UserError(
            f"The {len(real)} real images all look the same to the {real.name} features, so there "
            "is nothing to compare with: evaluate on data whose images differ."
        )
    if painted.alike and not allow_collapse:
        raise UserError(
            f"The {len(painted)} painted images all look the same to the {painted.name} features: "
            "the painter has collapsed, or the images are constant; evaluate another checkpoint or "
            "folder."
        )
    found: dict[str, Any] = {}
    if "frechet_distance" in metrics:
        found["frechet_distance"] = frechet_distance(
            *gaussian_statistics(real.array), *gaussian_statistics(painted.array)
        )
    if "kernel_distance" in metrics:
        found |= _kernel_distances(real, painted)
    if "manifold" in metrics:
        found |= asdict(manifold(real.array, painted.array))
    if "diversity" in metrics:
        found["diversity"] = diversity(real.array, painted.array)
        if real_labels is not None and painted_labels is not None:
            found["class_diversity"] = class_diversity(
                real.array, real_labels, painted.array, painted_labels
            )
    return ImageMetrics(
        n=len(painted),
        n_real=len(real),
        features=real.name,
        features_sha256=real.sha256,
        width=real.width,
        preprocessing=real.preprocessing,
        data=data,
        memorisation_ratio=memorisation_ratio,
        agreement=agreement,
        accuracy_score=accuracy_score,
        accuracy_score_real=accuracy_score_real,
        **found,
    )


def _kernel_distances(real: Features, painted: Features) -> dict[str, Any]:
    value, error = kernel_distance(real.array, painted.array)
    size = min(SUBSET_SIZE, len(real) // 2, len(painted) // 2)
    mean, mean_error = subset_kernel_distance(real.array, painted.array, SUBSET_SEED, size)
    return {
        "kernel_distance": value,
        "kernel_distance_error": error,
        "kernel_subsets_mean": mean,
        "kernel_subsets_error": mean_error,
        "kernel_subset_size": size,
    }


def _require_same_network(real: Features, painted: Features) -> None:
    for name in ("name", "sha256", "preprocessing", "width"):
        ours, theirs = getattr(real, name), getattr(painted, name)
        if ours != theirs:
            words = {
                "name": "are called",
                "sha256": "come from weights with hash",
                "preprocessing": "were prepared for by",
                "width": "have width",
            }[name]
            raise UserError(
                f"The real images' features {words} {ours} and the painted images' {theirs}: "
                "let the same network see both."
            )


def _require_enough(metric: str, real: Features, painted: Features) -> None:
    needed = images_needed(metric, real.width)
    called = {
        "frechet_distance": f"The Fréchet distance of {real.width} {real.name} features",
        "kernel_distance": "The kernel distance",
        "manifold": "Precision, recall, density and coverage",
        "diversity": "Diversity",
    }[metric]
    for kind, features in (("painted", painted), ("real", real)):
        if len(features) < needed:
            verb = "need" if metric == "manifold" else "needs"
            raise UserError(
                f"{called} {verb} {needed} {kind} images at least, and there are {len(features)}: "
                "take more of them"
                + (", or features of less width." if metric == "frechet_distance" else ".")
            )


def _number(name: str, value: object) -> object:
    """A number that was found, read back; None where there is none."""
    if value is None:
        return None
    if name == "class_diversity":
        try:
            return {int(label): float(number) for label, number in value.items()}  # type: ignore[attr-defined]
        except (AttributeError, TypeError, ValueError):
            raise ValueError('"class_diversity" is not a number for each label') from None
    if name == "kernel_subset_size":
        if type(value) is not int:
            raise ValueError('"kernel_subset_size" is not a whole number')
        return value
    if value == "inf":
        return math.inf
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f'"{name}" is not a number')
    return float(value)
