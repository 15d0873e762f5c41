"""How painted images compare with real ones, as numbers, and the conditions they hold under.

Every number compares distributions of features, so none means anything without the network that the
features come from, how images were prepared for it and how many there were. `Features` carry this
along, `ImageMetrics` record it, and what was found under other conditions is not compared.
`docs/metrics.md` says what each number means and when not to trust it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playfield.errors import UserError

#: What `image_metrics` works out unless it is asked for less.
METRICS = ("frechet_distance", "kernel_distance", "manifold", "diversity")


@dataclass(frozen=True, eq=False)
class Features:
    """What a network saw in some images.

    Raises ValueError for what is no array `[N, D]`, and `UserError` for numbers that are not finite.
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
        raise NotImplementedError

    def record(self) -> dict[str, Any]:
        """The fields for a JSON file; infinity, which JSON has not, as "inf"."""
        raise NotImplementedError

    @classmethod
    def from_record(cls, record: object) -> ImageMetrics:
        """The inverse of `record`; raises ValueError naming the field that is not as it should."""
        raise NotImplementedError


def images_needed(metric: str, width: int) -> int:
    """How many images, painted and real each, `metric` of `METRICS` needs at least."""
    raise NotImplementedError


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
    seed: int = 0,
) -> ImageMetrics:
    """Compare what was painted with what is real, by the features of both.

    `data` is the real images' fingerprint; the last four numbers are worked out elsewhere and only
    recorded. With both kinds of labels `[N]` (-1 is none) diversity is told for each class as well.
    Everything follows from the arguments; `seed` chooses the kernel distance's subsets. Raises
    `UserError` for too few images, for features of another network or preprocessing, and for images
    that are all alike; of painted ones, only unless `allow_collapse`.
    """
    raise NotImplementedError
