"""What image metrics record, what they refuse, and closed forms from features to numbers."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from playfield.errors import UserError
from playfield.evaluation.images import (
    METRICS,
    Features,
    ImageMetrics,
    image_metrics,
    images_needed,
)

NUMBERS = ("frechet_distance", "kernel_distance", "precision", "diversity")


def features(array: NDArray[Any], **change: str) -> Features:
    given = {"name": "random", "sha256": "ab12", "preprocessing": "to 32×32, grey to 3"}
    return Features(array, **(given | change))


def normal(seed: int, rows: int = 60, width: int = 5) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(rows, width))


def white(rows: int, width: int) -> NDArray[np.float64]:
    """Rows of mean 0 and covariance I, exactly."""
    centred = normal(0, rows, width)
    centred -= centred.mean(axis=0)
    return np.linalg.qr(centred)[0] * math.sqrt(rows - 1)


def result(**change: Any) -> ImageMetrics:
    found = image_metrics(features(normal(1)), features(normal(2)), data="fingerprint")
    return replace(found, **change)


# --- numbers --------------------------------------------------------------------------------------


def test_the_frechet_distance_of_scaled_and_shifted_images_in_closed_form() -> None:
    real, shift = white(50, 4), np.array([1.0, -2.0, 0.5, 0.0])
    found = image_metrics(features(real), features(3 * real + shift), data="x")
    assert found.frechet_distance == pytest.approx(shift @ shift + 4 * (1 - 3) ** 2, rel=1e-12)
    assert found.diversity == pytest.approx(3, rel=1e-12)


def test_real_images_painted_anew_are_perfect_and_no_different() -> None:
    real = normal(3)
    found = image_metrics(features(real), features(real[::-1].copy()), data="x")
    assert found.frechet_distance == pytest.approx(0, abs=1e-12)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    assert found.diversity == pytest.approx(1, rel=1e-12)
    assert found.kernel_distance is not None and found.kernel_distance < 0  # the diagonal is out


def test_only_what_is_asked_for_is_worked_out() -> None:
    for asked, number in zip(METRICS, NUMBERS, strict=True):
        found = image_metrics(features(normal(1)), features(normal(2)), data="x", metrics=[asked])
        assert [getattr(found, name) is not None for name in NUMBERS] == [
            name == number for name in NUMBERS
        ]
    with pytest.raises(ValueError, match="beauty"):
        image_metrics(features(normal(1)), features(normal(2)), data="x", metrics=["beauty"])


def test_the_same_features_give_the_same_result() -> None:
    assert result() == result()


def test_with_labels_diversity_is_told_for_each_class() -> None:
    labels = np.arange(60) % 3
    real = normal(1)
    painted = np.where(labels[:, None] == 1, 0.0, real)
    found = image_metrics(
        features(real),
        features(painted),
        data="x",
        real_labels=labels,
        painted_labels=labels,
    )
    assert found.class_diversity == {0: pytest.approx(1), 1: 0.0, 2: pytest.approx(1)}


def test_a_result_says_what_it_was_found_with() -> None:
    found = image_metrics(
        features(normal(1, rows=70)), features(normal(2)), data="fingerprint", agreement=0.5
    )
    assert (found.n, found.n_real, found.width) == (60, 70, 5)
    assert (found.features, found.features_sha256) == ("random", "ab12")
    assert (found.preprocessing, found.data) == ("to 32×32, grey to 3", "fingerprint")
    assert (found.precision_k, found.density_k, found.kernel_subset_size) == (3, 5, 30)
    assert (found.agreement, found.accuracy_score) == (0.5, None)


# --- too few, too alike ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "needed"),
    [("frechet_distance", 6), ("kernel_distance", 4), ("manifold", 6), ("diversity", 2)],
)
@pytest.mark.parametrize("kind", ["painted", "real"])
def test_too_few_images_are_refused_and_how_many_are_needed_is_said(
    metric: str, needed: int, kind: str
) -> None:
    assert images_needed(metric, width=5) == needed

    def measure(count: int) -> ImageMetrics:
        few, enough = features(normal(1, rows=count)), features(normal(2))
        real, painted = (few, enough) if kind == "real" else (enough, few)
        return image_metrics(real, painted, data="x", metrics=[metric])

    measure(needed)
    with pytest.raises(
        UserError, match=f"needs? {needed} {kind} images at least, and there are {needed - 1}"
    ):
        measure(needed - 1)


def test_no_images_at_all_are_too_few() -> None:
    with pytest.raises(UserError, match="there are 0"):
        image_metrics(features(normal(1)), features(normal(2)[:0]), data="x")


def test_real_images_that_are_all_alike_are_refused() -> None:
    with pytest.raises(UserError, match="60 real images all look the same"):
        image_metrics(features(np.ones((60, 5))), features(normal(1)), data="x")


def test_a_collapsed_painter_is_named_or_watched() -> None:
    rounding = 1 + 1e-7 * normal(1)
    with pytest.raises(UserError, match=r"60 painted images all look the same .* collapsed"):
        image_metrics(features(normal(1)), features(rounding), data="x")
    found = image_metrics(features(normal(1)), features(rounding), data="x", allow_collapse=True)
    assert found.diversity == pytest.approx(0, abs=1e-6)
    assert found.recall == found.coverage == 0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_features_that_are_not_finite_blame_the_weights(value: float) -> None:
    with pytest.raises(UserError, match=r"random network .* not finite numbers"):
        features(np.array([[1.0, value]]))


@pytest.mark.parametrize("shape", [(4,), (4, 0), (2, 3, 4)])
def test_what_is_no_array_of_features_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="array: shape"):
        features(np.zeros(shape))


# --- conditions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "inception"}, "features are called random and .* inception"),
        ({"sha256": "cd34"}, "weights with hash ab12 and .* cd34"),
        ({"preprocessing": "none"}, "prepared for by to 32×32, grey to 3 and .* none"),
    ],
)
def test_features_of_another_network_are_refused(change: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        image_metrics(features(normal(1)), features(normal(2), **change), data="x")


def test_features_of_another_width_are_refused() -> None:
    with pytest.raises(UserError, match=r"width 5 and .* 6"):
        image_metrics(features(normal(1)), features(normal(2, width=6)), data="x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 50}, "the number of painted images being 60 in one and 50 in the other"),
        ({"n_real": 50}, "the number of real images being 60 in one and 50 in the other"),
        ({"data": "other"}, "the data's fingerprint"),
        ({"features": "inception"}, "the features being random in one and inception"),
        ({"features_sha256": "cd"}, "hash of the features' weights"),
        ({"preprocessing": "none"}, "the preprocessing"),
        ({"width": 6}, "the width"),
        ({"precision_k": 5}, "neighbour of precision"),
        ({"density_k": 3}, "neighbour of density"),
    ],
)
def test_results_found_under_other_conditions_are_not_compared(
    change: dict[str, Any], message: str
) -> None:
    ours = result()
    ours.require_comparable(replace(ours, frechet_distance=1.0))
    for a, b in ((ours, replace(ours, **change)), (replace(ours, **change), ours)):
        with pytest.raises(UserError, match="can't be compared"):
            a.require_comparable(b)
    with pytest.raises(UserError, match=message):
        ours.require_comparable(replace(ours, **change))


# --- records --------------------------------------------------------------------------------------


def test_a_record_is_read_back_from_json_as_it_was() -> None:
    found = result(
        memorisation_ratio=math.inf, class_diversity={0: 0.5, 7: 1.0}, accuracy_score=1.0
    )
    text = json.dumps(found.record() | {"seconds": 3}, allow_nan=False)
    assert ImageMetrics.from_record(json.loads(text)) == found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": None}, '"n" is not a whole number'),
        ({"n": True}, '"n" is not a whole number'),
        ({"features": 3}, '"features" is not text'),
        ({"precision": "high"}, '"precision" is not a number'),
        ({"recall": True}, '"recall" is not a number'),
        ({"class_diversity": {"a": 1.0}}, '"class_diversity" is not'),
        ({"class_diversity": 1.0}, '"class_diversity" is not'),
        ({"kernel_subset_size": 1.5}, '"kernel_subset_size" is not'),
    ],
)
def test_a_damaged_record_names_its_field(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageMetrics.from_record(result().record() | change)


def test_a_record_without_its_conditions_is_refused() -> None:
    record = result().record()
    del record["preprocessing"]
    with pytest.raises(ValueError, match='"preprocessing" is not text'):
        ImageMetrics.from_record(record)
    with pytest.raises(ValueError, match="not an object"):
        ImageMetrics.from_record([record])
