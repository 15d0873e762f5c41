"""The accuracy score: what a classifier learns from painted images, tried on real ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from playfield.errors import UserError
from playfield.generative.accuracy_score import LabelledImages, accuracy_score
from playfield.generative.classifier import ClassifierConfig

CONFIG = ClassifierConfig(epochs=3, width=4, features=8, dropout=0.0, batch_size=16)
CLASSES = ("left", "right")


def sides(count: int, seed: int) -> LabelledImages:
    """Images of 4x4, dark, but bright on the side that their label says."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = rng.integers(0, 60, (count, 1, 4, 4))
    for image, label in zip(images, labels, strict=True):
        image[:, :, 2 * label : 2 * label + 2] += 190
    return LabelledImages(images.astype(np.uint8), labels)


REAL, TEST = sides(120, 0), sides(60, 1)


def test_images_like_the_real_ones_teach_as_much() -> None:
    found = accuracy_score(sides(120, 2), REAL, TEST, CLASSES, CONFIG, 0)
    assert found.n == 120
    assert found.painted > 0.95 and found.real > 0.95


def test_images_of_the_wrong_classes_teach_what_is_wrong() -> None:
    painted = LabelledImages(REAL.images, 1 - REAL.labels)
    found = accuracy_score(painted, REAL, TEST, CLASSES, CONFIG, 0)
    assert found.painted < 0.05 and found.real > 0.95


def test_noise_teaches_nothing() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (120, 1, 4, 4), np.uint8)
    found = accuracy_score(LabelledImages(noise, REAL.labels), REAL, TEST, CLASSES, CONFIG, 0)
    assert found.painted < 0.9 < found.real


def test_both_classifiers_learn_from_as_many_images() -> None:
    assert accuracy_score(sides(40, 2), REAL, TEST, CLASSES, CONFIG, 0).n == 40
    assert accuracy_score(sides(400, 2), REAL, TEST, CLASSES, CONFIG, 0).n == 120


def test_the_real_images_themselves_have_the_score_of_the_real_ones() -> None:
    found = accuracy_score(REAL, REAL, TEST, CLASSES, CONFIG, 5)
    assert found.painted == found.real


def test_nothing_global_is_drawn_from() -> None:
    before = torch.get_rng_state()
    first = accuracy_score(sides(40, 2), REAL, TEST, CLASSES, CONFIG, 0)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(3)
    assert accuracy_score(sides(40, 2), REAL, TEST, CLASSES, CONFIG, 0) == first


def test_images_without_a_label_are_left_out() -> None:
    labels = REAL.labels.copy()
    labels[:20] = -1
    found = accuracy_score(LabelledImages(REAL.images, labels), REAL, TEST, CLASSES, CONFIG, 0)
    assert found.n == 100


@pytest.mark.parametrize("which", [0, 1])
def test_where_there_is_nothing_to_tell_apart_it_is_said(which: int) -> None:
    images = [sides(20, 2), REAL]
    images[which] = LabelledImages(images[which].images, np.zeros_like(images[which].labels))
    with pytest.raises(UserError, match=f"needs {('painted', 'real')[which]} images with labels"):
        accuracy_score(*images, TEST, CLASSES, CONFIG, 0)
    unlabelled = LabelledImages(TEST.images, np.full(len(TEST), -1))
    with pytest.raises(UserError, match="needs test images with labels"):
        accuracy_score(REAL, REAL, unlabelled, CLASSES, CONFIG, 0)
