"""The classifier that judges what models paint."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from playfield.errors import UserError
from playfield.generative.classifier import (
    ClassifierConfig,
    accuracy,
    build_classifier,
    features,
    predict,
    stratified_split,
)
from playfield.generative.classifier_trainer import train_classifier
from playfield.generative.pixels import to_signal
from playfield.nets.classifier import ConvClassifier
from playfield.training.optimizers import OptimizerConfig

NAMES = tuple("0123456789")


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 handwritten digits of 8×8 pixels with 17 grey levels, as bytes."""
    data = pytest.importorskip("sklearn.datasets").load_digits()
    images = np.round(data.images * (255 / 16)).astype(np.uint8)[:, None]
    return images, data.target.astype(np.int64)


def bars(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noisy pictures with a bar that stands (0) or lies (1)."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, count)
    images = generator.integers(0, 60, (count, 1, 6, 6)).astype(np.uint8)
    for image, label, place in zip(images, labels, generator.integers(1, 5, count), strict=True):
        image[0, :, place] += np.uint8(150) * (1 - label).astype(np.uint8)
        image[0, place, :] += np.uint8(150) * label.astype(np.uint8)
    return images, labels.astype(np.int64)


QUICK = ClassifierConfig(
    epochs=5,
    batch_size=16,
    width=8,
    features=32,
    dropout=0.1,
    optimizer=OptimizerConfig(optimizer="adam", learning_rate=0.005, schedule="cosine"),
)


@pytest.mark.slow
def test_it_reads_97_of_100_unseen_digits():
    images, labels = digits()
    train, test = stratified_split(labels, 0.2, seed=0)
    network = train_classifier(images[train], labels[train], NAMES, ClassifierConfig(), seed=0)
    assert accuracy(network, images[test], labels[test]) >= 0.97


def test_it_learns_what_can_be_learned_and_sees_it_in_new_pictures():
    network = train_classifier(*bars(300), ("standing", "lying"), QUICK, seed=0)
    images, labels = bars(200, seed=1)
    assert accuracy(network, images, labels) > 0.95


def test_the_same_seed_gives_the_same_network_and_touches_nothing_global():
    before = torch.get_rng_state()
    first, second, other = (
        train_classifier(*bars(40), ("standing", "lying"), QUICK, seed=s).state_dict()
        for s in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["output.weight"], other["output.weight"])


def test_a_classifier_is_handed_over_set_to_judge():
    network = train_classifier(*bars(40), ("standing", "lying"), QUICK, seed=0)
    images, _ = bars(30, seed=1)
    assert not network.training
    assert torch.equal(predict(network, images), predict(network, images))


def test_bytes_and_signals_are_judged_alike_in_any_company():
    network = build_classifier(QUICK, (1, 6, 6), 2, seed=0).eval()
    images, _ = bars(600)  # more than one block
    signals = to_signal(torch.from_numpy(images))
    assert torch.equal(features(network, images), features(network, signals))
    with torch.no_grad():
        logits = network(signals)
        alone = torch.cat([network.features(signal[None]) for signal in signals[-3:]])
    assert torch.equal(predict(network, images), logits.argmax(1))
    torch.testing.assert_close(features(network, images)[-3:], alone)


def test_logits_are_a_linear_function_of_the_features():
    network = build_classifier(QUICK, (1, 6, 6), 2, seed=0).eval()
    images, _ = bars(5)
    seen = features(network, images)
    assert seen.shape == (5, 32) and seen.dtype == torch.float32 and (seen >= 0).all()
    with torch.no_grad():
        expected = seen @ network.output.weight.T + network.output.bias
        torch.testing.assert_close(network(to_signal(torch.from_numpy(images))), expected)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 33, 20), (1, 3, 70), (4, 1, 1)])
def test_pictures_of_any_shape_are_judged(shape):
    network = ConvClassifier(shape, 7, width=4, features=5)
    assert network(torch.zeros(2, *shape)).shape == (2, 7)


def test_bfloat16_agrees_with_float32_to_its_precision():
    torch.manual_seed(0)
    network = ConvClassifier((1, 8, 8), 10)
    images = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    exact = network(images)
    network.dtype = torch.bfloat16
    rough = network(images)
    assert rough.dtype == torch.float32 and not torch.equal(rough, exact)
    assert (rough - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_that_is_no_class_is_named(label):
    images, labels = bars(10)
    labels[3] = label
    with pytest.raises(ValueError, match=rf"labels\[3\] is {label}, expected 0\.\.1"):
        train_classifier(images, labels, ("standing", "lying"), QUICK, seed=0)


# --- splitting ------------------------------------------------------------------------------------


def test_a_split_holds_out_its_part_of_every_class():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, -1], [100, 50, 5, 20]))
    train, test = stratified_split(labels, 0.2, seed=3)
    assert sorted([*train, *test]) == list(range(175))
    assert (np.diff(train) > 0).all() and (np.diff(test) > 0).all()
    assert [int((labels[test] == label).sum()) for label in (0, 1, 2, -1)] == [20, 10, 1, 4]


def test_small_classes_are_in_both_parts_and_single_images_are_trained_on():
    labels = np.array([5, 5, 7])
    for seed in range(5):
        train, test = stratified_split(labels, 0.2, seed)
        assert sorted(labels[train]) == [5, 7] and sorted(labels[test]) == [5]
        train, test = stratified_split(labels, 0.9, seed)
        assert sorted(labels[train]) == [5, 7] and sorted(labels[test]) == [5]


def test_a_split_follows_from_its_seed():
    labels = np.repeat([0, 1], 50)
    first, second, other = (stratified_split(labels, 0.2, seed)[1] for seed in (0, 0, 1))
    assert (first == second).all() and (first != other).any()


@pytest.mark.parametrize("held_out", [0.0, 1.0, -0.5])
def test_a_split_into_nothing_is_refused(held_out):
    with pytest.raises(ValueError, match="held_out"):
        stratified_split(np.zeros(4, np.int64), held_out, 0)


@pytest.mark.parametrize(
    ("field", "value"), [("epochs", 0), ("batch_size", 0), ("dropout", 1.0), ("shift", -1)]
)
def test_settings_that_mean_nothing_are_named(field, value):
    with pytest.raises(UserError, match=field):
        ClassifierConfig(**{field: value})
