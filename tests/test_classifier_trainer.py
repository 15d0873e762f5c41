"""The classifier's trainer, what it is measured on, and how its weights are told from others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_trainer import SilentDisplay, manifest
from killed_painters import Crash, assert_same_moments, go

from playfield.commands.classifier_evaluation import during_training, measured
from playfield.errors import UserError
from playfield.generative.classifier import ClassifierConfig, as_judge, predict
from playfield.generative.classifier_presets import PRESETS, ClassifierTrainingConfig
from playfield.generative.classifier_trainer import ClassifierTrainer, train_classifier
from playfield.generative.datasets.options import DataOptions
from playfield.generative.datasets.storing import store_images
from playfield.generative.held_out import HeldOut, beside, divided, unlabelled
from playfield.generative.images import ImageData, images_from_arrays
from playfield.generative.saved_classifier import weights_sha256
from playfield.nets.classifier import ConvClassifier
from playfield.training.loop import TrainingConfig, train
from playfield.training.optimizers import OptimizerConfig
from playfield.training.run import Run

CPU = torch.device("cpu")
NAMES = ("standing", "lying")
TINY = ClassifierConfig(
    epochs=4,
    batch_size=16,
    width=8,
    features=12,
    dropout=0.3,
    shift=1,
    flip=True,
    optimizer=OptimizerConfig("adamw", 0.005, schedule="cosine", weight_decay=0.1),
)


def bars(count: int, seed: int = 0) -> ImageData:
    """Noisy pictures of 6x6 pixels with a bar that stands (0) or lies (1)."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, count)
    images = generator.integers(0, 60, (count, 1, 6, 6)).astype(np.uint8)
    for image, label, place in zip(images, labels, generator.integers(1, 5, count), strict=True):
        image[(0, place) if label else (0, slice(None), place)] += 150
    return images_from_arrays("bars", images, labels, NAMES)


def trainer_of(
    data: ImageData, config: ClassifierConfig = TINY, steps: int = 400
) -> ClassifierTrainer:
    return ClassifierTrainer(config, data, seed=7, device=CPU, steps=steps)


def same(one: Any, other: Any) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- learning -------------------------------------------------------------------------------------


def test_what_can_be_learned_is_and_is_measured_on_other_pictures(tmp_path: Path) -> None:
    learned, test = divided(bars(300), 0.2, seed=1)
    trainer = trainer_of(learned, steps=1500)
    run = Run.create(tmp_path, "bars", {**manifest(), "algorithm": "classifier"})
    outcome = train(
        trainer,
        run,
        TrainingConfig(steps=1500, log_every=500, evaluate_every=500),
        evaluate=during_training(trainer, test),
        display=SilentDisplay(),
    )
    assert outcome.evaluation["classify/accuracy"] > 0.9
    with trainer.judging() as network:
        right = predict(network, test.images()).numpy() == test.labels()
    assert outcome.evaluation["classify/accuracy"] == pytest.approx(right.mean())


def test_arrays_are_learned_from_by_the_same_steps() -> None:
    data = bars(50)
    network = train_classifier(data.images(), data.labels(), NAMES, TINY, seed=7)
    trainer = trainer_of(data, steps=4 * 50)
    for _ in range(4 * -(-50 // 16)):  # in every epoch the last batch is short
        trainer.step()
    assert trainer.progress == 200
    assert same(dict(network.state_dict()), dict(trainer.network.state_dict()))


def test_a_step_reports_the_loss_and_accuracy_of_its_batch() -> None:
    trainer = trainer_of(bars(16), ClassifierConfig(batch_size=16, width=4, dropout=0.0))
    with torch.no_grad():
        trainer.network.output.weight.zero_()
        trainer.network.output.bias.copy_(torch.tensor([1.0, 0.0]))
    standing = float((bars(16).labels() == 0).mean())
    found = trainer.step()
    # log(1 + e^-1) where it is right, 1 more where it is not.
    expected = np.log1p(np.exp(-1)) + (1 - standing)
    assert float(found["train/loss"]) == pytest.approx(expected, rel=1e-5)  # type: ignore[arg-type]
    assert float(found["train/accuracy"]) == pytest.approx(standing)  # type: ignore[arg-type]


def test_measuring_leaves_training_as_it_was() -> None:
    data = bars(40)
    config = ClassifierConfig(**{**vars(TINY), "precision": "bfloat16"})
    watched, alone = trainer_of(data, config), trainer_of(data, config)
    for _ in range(5):
        during_training(watched, bars(9, seed=2))()
        watched.step()
        alone.step()
    assert watched.network.training and watched.network.dtype == torch.bfloat16
    assert same(dict(watched.network.state_dict()), dict(alone.network.state_dict()))


def test_it_judges_in_float32_whatever_it_learned_in() -> None:
    data = bars(40)
    trainer = trainer_of(data, ClassifierConfig(**{**vars(TINY), "precision": "bfloat16"}))
    trainer.step()
    exact = ConvClassifier(data.spec.shape, 2, width=8, features=12, dropout=0.3)
    exact.load_state_dict(trainer.network.state_dict())
    with trainer.judging() as network:
        assert measured(network, data) == measured(as_judge(exact), data)


def test_labels_and_shifts_that_mean_nothing_are_refused() -> None:
    data = images_from_arrays("few", bars(3).images(), np.array([0, 1, -1]), NAMES)
    with pytest.raises(ValueError, match=r"labels\[2\] is -1, expected 0\.\.1"):
        trainer_of(data)
    with pytest.raises(UserError, match="choose 5 or less"):
        trainer_of(bars(3), ClassifierConfig(shift=6))


@pytest.mark.slow
def test_the_default_preset_reads_97_of_100_unseen_digits() -> None:
    from playfield.commands.data_sets import open_data_set

    preset = PRESETS["digits-classifier"]
    learned, test = divided(open_data_set(preset.data, DataOptions()), 0.2, seed=0)
    training = preset.training.over(len(learned), preset.config.epochs)
    assert training.steps == 20 * len(learned)
    trainer = trainer_of(learned, preset.config, training.steps)
    while trainer.progress < training.steps:
        trainer.step()
    with trainer.judging() as network:
        result, _ = measured(network, test)
    assert result.accuracy >= 0.97 and result.f1 >= 0.97


@pytest.mark.gpu
def test_on_a_gpu_it_learns_the_same_to_its_precision() -> None:
    data = bars(64)
    config = ClassifierConfig(**{**vars(TINY), "dropout": 0.0})  # whose masks a device draws
    here = trainer_of(data, config)
    there = ClassifierTrainer(config, data, seed=7, device=torch.device("cuda"), steps=400)
    for _ in range(3):
        one, other = here.step()["train/loss"], there.step()["train/loss"]
        torch.testing.assert_close(other.cpu(), one, rtol=1e-2, atol=1e-3)  # type: ignore[union-attr]


def test_the_length_of_a_run_follows_from_its_data_unless_it_is_given() -> None:
    assert ClassifierTrainingConfig().over(1438, epochs=20).steps == 28_760
    assert ClassifierTrainingConfig(steps=500).over(1438, epochs=20).steps == 500
    assert ClassifierTrainingConfig(minutes=3).over(10, epochs=2).minutes == 3
    for wrong in ({"steps": -1}, {"log_every": 0}, {"minutes": 0.0}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            ClassifierTrainingConfig(**wrong)  # type: ignore[arg-type]


# --- going on -------------------------------------------------------------------------------------


def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    data = bars(50)
    straight = Run.create(tmp_path, "straight", {**manifest(), "algorithm": "classifier"})
    killed = Run.create(tmp_path, "killed", {**manifest(), "algorithm": "classifier"})
    never = go(straight, lambda: trainer_of(data), 400)
    for dies_at in (150, 300):
        with pytest.raises(Crash):
            go(killed, lambda: trainer_of(data), 400, dies_at)
    resumed = go(killed, lambda: trainer_of(data), 400)
    # Among the state is how many masks dropout has drawn.
    assert same(dict(resumed.network.state_dict()), dict(never.network.state_dict()))
    assert_same_moments(never.gradient_step.optimizer, resumed.gradient_step.optimizer)
    assert resumed.epochs.state_dict() == never.epochs.state_dict()
    assert resumed.progress == never.progress


# --- images that are held out ---------------------------------------------------------------------


def data_of(labels: list[int], classes: tuple[str, ...], placement: str = "cpu") -> ImageData:
    """Images of 2x3 pixels, each of a value that tells it from the others."""
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None].repeat(2, 2).repeat(3, 3)
    options = DataOptions(placement=placement)
    numbers = np.array(labels) if classes else None
    return store_images("made", images, len(labels), (1, 2, 3), options, numbers, classes)


def values(data: ImageData) -> list[int]:
    return data.images()[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("placement", ["cpu", "mmap"])
def test_learned_and_held_out_images_are_all_that_have_labels(placement: str) -> None:
    labels = [0, 1, -1, 0, 1, 1, 0, 1, -1, 0]
    data = data_of(labels, ("a", "b"), placement)
    learned, test = divided(data, 0.25, seed=0)
    assert unlabelled(data) == 2
    assert sorted(values(learned) + values(test)) == [0, 1, 3, 4, 5, 6, 7, 9]
    for part in (learned, test):
        assert part.labels().tolist() == [labels[value] for value in values(part)]
        assert part.classes == ("a", "b") and part.store.placement == placement
    assert sorted(test.labels().tolist()) == [0, 1]


def test_a_single_image_of_a_class_is_learned_from() -> None:
    learned, test = divided(data_of([0, 1, 1, 1, 1], ("a", "b")), 0.5, seed=0)
    assert learned.labels().tolist().count(0) == 1 and test.labels().tolist() == [1, 1]


@pytest.mark.parametrize(
    ("labels", "classes", "said"),
    [
        ([-1, -1], ("a", "b"), "have no labels"),
        ([0, 0], (), "have no labels"),
        ([1, 1, -1], ("a", "b"), "of the class 'b': a classifier needs two"),
        ([0, 1], ("a", "b"), "each of its classes has one image"),
    ],
)
def test_data_that_teaches_nothing_is_refused(
    labels: list[int], classes: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        divided(data_of(labels, classes), 0.2, seed=0)


def test_other_images_to_be_measured_on_have_to_be_alike() -> None:
    data = data_of([0, 1, -1], ("a", "b"))
    learned, test = beside(data, data_of([1, -1, -1, 0], ("a", "b")))
    assert (values(learned), values(test)) == ([0, 1], [0, 3])
    for other, said in [
        (bars(4), r"1x6x6 .* made of 1x2x3"),
        (data_of([0, 1], ()), "cannot be measured on"),
        (data_of([-1, -1], ("a", "b")), "cannot be measured on"),
        (data_of([0, 1], ("a", "c")), "only one of them has 'b'"),
        (data_of([0, 1], ("b", "a")), "their order differs"),
        (data_of([0, 1, -1], ("a", "b")), "the very images that are learned from"),
    ]:
        with pytest.raises(UserError, match=said):
            beside(data, other)


@pytest.mark.parametrize("part", [0.0, 1.0, -0.5, None])
def test_a_part_that_leaves_nothing_is_refused(part: float | None) -> None:
    with pytest.raises(UserError, match="held_out"):
        HeldOut(part)


# --- telling weights apart ------------------------------------------------------------------------


def test_a_hash_is_of_what_a_network_computes() -> None:
    network = ConvClassifier((1, 6, 6), 2, width=8, features=12, dropout=0.3)
    known = weights_sha256(network)
    moved = ConvClassifier((1, 6, 6), 2, width=8, features=12, dropout=0.3)
    moved.load_state_dict(network.state_dict())
    network(torch.zeros(1, 1, 6, 6))  # draws a mask of dropout
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert weights_sha256(network.eval()) == known == weights_sha256(moved)
    for name, parameter in moved.named_parameters():
        with torch.no_grad():
            first = parameter.view(-1)[:1]
            kept = first.clone()
            first.copy_(torch.nextafter(kept, kept + 1))
            assert weights_sha256(moved) != known, name
            first.copy_(kept)
    assert weights_sha256(moved) == known
