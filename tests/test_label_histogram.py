"""Labels to paint come as often as the data has them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from playfield.generative.label_histogram import labels_like


def test_each_class_comes_as_often_as_in_the_data() -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    found = labels_like(labels, 50)
    assert np.bincount(found).tolist() == [30, 15, 5]
    assert found.dtype == np.int64


def test_as_many_as_the_data_has_are_the_data_s_own() -> None:
    labels = np.random.default_rng(0).integers(0, 7, 1797)
    assert sorted(labels_like(labels, 1797)) == sorted(labels)


@pytest.mark.parametrize("count", [1, 7, 64, 450, 512, 10_000])
def test_no_count_is_off_by_a_whole_image(count: int) -> None:
    sizes = [3, 977, 1, 250, 400, 13]
    found = np.bincount(labels_like(np.repeat(np.arange(6), sizes), count), minlength=6)
    assert found.sum() == count
    for size, got in zip(sizes, found, strict=True):
        assert abs(Fraction(size * count, sum(sizes)) - int(got)) < 1


def test_of_equal_remainders_the_least_label_gains() -> None:
    assert sorted(labels_like(np.array([2, 1, 0]), 4)) == [0, 0, 1, 2]


def test_a_beginning_shows_the_classes_in_turn() -> None:
    labels = np.repeat([0, 1, 2], 10)
    assert labels_like(labels, 30)[:7].tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_images_without_a_label_are_painted_without_one_or_left_out() -> None:
    labels = np.array([-1, -1, 0, 1])
    assert sorted(labels_like(labels, 8)) == [-1, -1, -1, -1, 0, 0, 1, 1]
    assert sorted(labels_like(labels, 8, unlabelled=False)) == [0] * 4 + [1] * 4
    with pytest.raises(ValueError, match="none of them"):
        labels_like(np.array([-1]), 8, unlabelled=False)
