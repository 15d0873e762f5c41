"""Diversity: by hand, in closed form, and where a painter has collapsed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from playfield.evaluation.diversity import class_diversity, diversity, mean_distance


def test_mean_distance_of_three_points_by_hand() -> None:
    assert mean_distance(np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 8.0]])) == pytest.approx(
        (5 + 8 + 5) / 3, rel=1e-14
    )


def test_mean_distance_of_normal_numbers_is_two_over_the_root_of_pi() -> None:
    rng = np.random.default_rng(0)
    found = [mean_distance(rng.normal(size=(10, 1))) for _ in range(2000)]
    assert np.mean(found) == pytest.approx(
        2 / math.sqrt(math.pi), abs=3 * np.std(found) / math.sqrt(2000)
    )


@pytest.mark.parametrize("block", [1, 77, 5000])
def test_the_size_of_blocks_does_not_matter(block: int) -> None:
    rows = np.random.default_rng(1).normal(5, size=(50, 6)).astype(np.float32)
    assert mean_distance(rows, block) == pytest.approx(mean_distance(rows), rel=1e-12)


def test_images_half_as_different_have_half_the_diversity() -> None:
    real = np.random.default_rng(2).normal(size=(60, 4))
    assert diversity(real, 0.5 * real + 7) == pytest.approx(0.5, rel=1e-12)


def test_one_image_over_and_over_has_none() -> None:
    rng = np.random.default_rng(3)
    real = rng.normal(100, size=(40, 8)).astype(np.float32)
    one = np.repeat(rng.normal(100, size=(1, 8)).astype(np.float32), 30, axis=0)
    assert diversity(real, one) == 0


def test_a_collapse_far_from_0_still_shows() -> None:
    rng = np.random.default_rng(4)
    real = rng.normal(1e4, size=(40, 8))
    found = diversity(real, rng.normal(1e4, 1e-4, size=(40, 8)))
    assert found == pytest.approx(1e-4, rel=0.2)


def test_real_images_that_are_all_alike_are_refused() -> None:
    with pytest.raises(ValueError, match="alike"):
        diversity(np.ones((5, 2)), np.eye(2))


@pytest.mark.parametrize("shape", [(1, 3), (0, 3), (4,)])
def test_fewer_than_two_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="rows: shape"):
        mean_distance(np.zeros(shape))


def test_one_picture_of_each_class_shows_within_classes_alone() -> None:
    rng = np.random.default_rng(5)
    labels = np.repeat(np.arange(4), 25)
    centres = 10 * np.eye(4)[labels]
    real = centres + rng.normal(size=(100, 4))
    assert diversity(real, centres) > 0.9
    assert class_diversity(real, labels, centres, labels) == dict.fromkeys(range(4), 0.0)


def test_classes_are_compared_with_their_own() -> None:
    real = np.array([[0.0], [2.0], [100.0], [101.0]])
    painted = np.array([[50.0], [51.0], [0.0], [3.0]])
    found = class_diversity(real, np.array([0, 0, 1, 1]), painted, np.array([0, 0, 1, 1]))
    assert found == {0: pytest.approx(0.5), 1: pytest.approx(3.0)}


def test_classes_without_pairs_and_images_without_label_are_left_out() -> None:
    rows = np.arange(7.0)[:, None] ** 2
    real = np.array([-1, -1, 0, 0, 1, 1, 2])
    painted = np.array([-1, -1, 0, 2, 2, 1, 1])
    assert class_diversity(rows, real, rows, painted).keys() == {1}
    # The real images of class 0 are all alike.
    assert class_diversity(np.ones((2, 1)), np.zeros(2, int), rows, np.zeros(7, int)) == {}


def test_labels_that_are_not_one_per_image_are_named() -> None:
    rows = np.zeros((3, 1))
    with pytest.raises(ValueError, match="painted_labels: shape"):
        class_diversity(rows, np.zeros(3, int), rows, np.zeros(4, int))
