"""What a painter shows of itself in training: numbers that compare, and nothing learned from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_trainer import SilentDisplay, manifest
from numpy.typing import NDArray

from playfield.commands import painter_evaluation
from playfield.commands.painter_evaluation import BEST, COUNT, during_training
from playfield.commands.stored_painter import new_trainer
from playfield.errors import UserError
from playfield.evaluation.feature_networks import random_features
from playfield.evaluation.images import images_needed
from playfield.generative.diffusion import DiffusionConfig
from playfield.generative.images import ImageData, images_from_arrays
from playfield.generative.networks import NetConfig
from playfield.generative.pixels import to_signal
from playfield.generative.training import LEAST_COMPARED, PaintingTrainingConfig
from playfield.training.loop import TrainingConfig, train
from playfield.training.metrics import METRICS
from playfield.training.optimizers import OptimizerConfig
from playfield.training.run import Run
from playfield.training.run_checkpoint import wanted_checkpoint

CPU = torch.device("cpu")
#: Images that are compared.
NUMBER = 512
CONFIG = DiffusionConfig(
    batch_size=64,
    net=NetConfig(base_channels=8, channel_mult=(1,), blocks=1),
    precision="float32",
    optimizer=OptimizerConfig(learning_rate=1e-3),
)
#: The numbers that stand for the quality of an evaluation.
FOUND = {f"paint/{name}" for name in painter_evaluation.FOUND}


def images(count: int, seed: int = 0, labels: NDArray[np.int64] | None = None) -> ImageData:
    """Blurred noise, 1x6x6, three classes: as often as `labels` say, or in the ratio 4 : 2 : 1."""
    rng = np.random.default_rng(seed)
    if labels is None:
        labels = np.array([0, 0, 0, 0, 1, 1, 2])[np.arange(count) % 7]
    values = rng.integers(0, 256, (count, 1, 2, 2)).repeat(3, 2).repeat(3, 3).astype(np.uint8)
    return images_from_arrays("test", values, labels, list("abc"))


def trainer_of(data: ImageData, config: DiffusionConfig = CONFIG) -> Any:
    return new_trainer(config, data, None, seed=7, device=CPU, steps=1000)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path, "painter", manifest())


class Stub:
    """Paints, in place of a sampler, the signals that a function of the labels gives."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, paints: Any) -> None:
        self.seeds: list[int] = []
        self.labels: list[int] = []
        self._paints = paints
        monkeypatch.setattr(painter_evaluation, "paint", self.paint)

    def paint(self, model: Any, config: Any, seeds: Any, label: torch.Tensor) -> torch.Tensor:
        self.seeds += seeds
        self.labels += label.tolist()
        signals: torch.Tensor = self._paints(list(seeds), label)
        return signals


def real_again(data: ImageData) -> Any:
    """Paints the data's own images, one after the other."""
    return lambda seeds, label: to_signal(torch.from_numpy(data.spread(NUMBER)[seeds]))


def test_the_data_itself_is_at_no_distance_and_covers_all(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = images(300)
    Stub(monkeypatch, real_again(data))
    found = during_training(trainer_of(data), data, run, number=NUMBER)()
    assert found.keys() >= FOUND
    assert found["paint/frechet_distance"] == pytest.approx(0, abs=1e-6)
    assert {found[f"paint/{name}"] for name in ("precision", "recall", "coverage")} == {1.0}
    assert found["paint/diversity"] == pytest.approx(1)


def test_a_painter_of_one_image_is_seen_and_not_the_end(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = images(300)
    Stub(monkeypatch, lambda seeds, label: torch.zeros(len(seeds), 1, 6, 6))
    found = during_training(trainer_of(data), data, run, number=NUMBER)()
    assert found["paint/diversity"] == 0
    assert found["paint/recall"] <= 1 / 300
    assert found["paint/frechet_distance"] > 1


def test_labels_are_asked_for_as_often_as_the_data_has_them(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = images(700)
    stub = Stub(monkeypatch, lambda seeds, label: torch.zeros(len(seeds), 1, 6, 6))
    during_training(trainer_of(data), data, run, number=NUMBER)()
    count = len(data.spread(NUMBER))
    assert count == NUMBER  # as many are painted
    assert np.bincount(stub.labels[:count]).tolist() == [293, 146, 73]  # 4 : 2 : 1
    assert stub.seeds == [*range(count), *range(COUNT)]  # the last ones by the newest weights


def test_a_painter_that_knows_no_classes_is_asked_for_none(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = images(300)
    stub = Stub(monkeypatch, real_again(data))
    evaluate = during_training(
        trainer_of(data, replace(CONFIG, conditional=False)), data, run, number=NUMBER
    )
    assert evaluate().keys() >= FOUND
    assert set(stub.labels) == {-1}


@pytest.mark.parametrize(
    ("count", "missing"),
    [
        (257, set()),
        (256, {"paint/frechet_distance"}),
        (6, {"paint/frechet_distance"}),
        (5, FOUND - {"paint/diversity"}),  # precision and coverage look at fifth neighbours
    ],
)
def test_what_few_images_cannot_tell_is_not_told(
    run: Run, monkeypatch: pytest.MonkeyPatch, count: int, missing: set[str]
) -> None:
    data = images(count, labels=np.arange(count) % 3)
    Stub(monkeypatch, lambda seeds, label: torch.rand(len(seeds), 1, 6, 6))
    found = during_training(trainer_of(data), data, run, number=NUMBER)()
    assert found.keys() & FOUND == FOUND - missing
    assert found.keys() >= {"samples/averaged", "paint/neighbour_distance"}


def test_data_of_one_image_in_copies_is_shown_without_numbers(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = images(2)
    data = images_from_arrays("copies", one.images()[:1].repeat(300, 0), None)
    Stub(monkeypatch, lambda seeds, label: torch.rand(len(seeds), 1, 6, 6))
    found = during_training(trainer_of(data), data, run, number=NUMBER)()
    assert not found.keys() & FOUND
    assert "samples/averaged" in found


def test_data_too_few_for_a_best_checkpoint_is_told_once_at_the_start(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    data = images(256)
    evaluate = during_training(trainer_of(data), data, run, number=NUMBER)
    (said,) = capsys.readouterr().err.splitlines()
    assert "no distance and no best checkpoint" in said
    assert "a distance needs 257 images, and test has 256" in said
    assert run.manifest["no_best"] in said
    evaluate()
    assert not capsys.readouterr().err
    more = images(257)  # as where a run goes on with other settings
    during_training(trainer_of(more), more, run, number=NUMBER)
    assert not capsys.readouterr().err
    assert run.manifest["no_best"] is None


def test_the_best_checkpoint_is_refused_with_the_true_reason(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    data = images(260)
    trainer = trainer_of(data)

    def reason(number: int, **training: int) -> str:
        run.update_manifest(training=training)
        during_training(trainer, data, run, number=number)
        with pytest.raises(UserError, match="has no best checkpoint") as raised:
            wanted_checkpoint(run, "best", pytest.fail, stores=False)
        return str(raised.value)

    train(trainer, run, TrainingConfig(steps=64), display=SilentDisplay())
    assert "a grid only (--evaluate-images 0); take the last" in reason(0, evaluate_every=10)
    assert "without --evaluate-every; take the last" in reason(NUMBER, evaluate_every=0)
    assert "none of those that it keeps was evaluated" in reason(NUMBER, evaluate_every=10)
    assert not capsys.readouterr().err  # all of it was asked for


@pytest.mark.parametrize("number", [-1, 1, 256])
def test_evaluations_that_could_find_no_distance_are_refused(number: int) -> None:
    with pytest.raises(UserError, match=r"evaluate_images must be 257 or more.* or 0"):
        PaintingTrainingConfig(steps=10, evaluate_images=number)


def test_evaluations_take_as_many_images_as_the_distance_needs_or_none() -> None:
    size = random_features(1).size
    assert images_needed("frechet_distance", size) == LEAST_COMPARED == 257
    for number in (0, LEAST_COMPARED, 512):
        assert PaintingTrainingConfig(steps=10, evaluate_images=number).evaluate_images == number


def test_every_number_is_a_metric_with_a_meaning() -> None:
    assert FOUND <= METRICS.keys()
    assert BEST.metric in FOUND and BEST.lowest


def test_two_evaluations_of_the_same_weights_are_the_same(run: Run) -> None:
    data = images(260)
    trainer = trainer_of(data)
    trainer.step()
    evaluate = during_training(trainer, data, run, number=NUMBER)
    first, second = evaluate(), evaluate()
    for name in FOUND:
        assert first[name] == second[name]
    np.testing.assert_array_equal(first["samples/averaged"], second["samples/averaged"])


def test_evaluating_changes_neither_the_trainer_nor_any_generator(run: Run) -> None:
    data = images(260)
    plain, watched = trainer_of(data), trainer_of(data)
    evaluate = during_training(watched, data, run, number=NUMBER)
    before = torch.get_rng_state()
    for _ in range(2):
        plain.step()
        watched.step()
        evaluate()
    assert torch.equal(before, torch.get_rng_state())
    ours, theirs = watched.state_dict(), plain.state_dict()
    for name, tensor in theirs["network"].items():
        assert torch.equal(ours["network"][name], tensor), name
    assert ours["epochs"] == theirs["epochs"]


def test_the_least_distance_is_the_run_s_best_checkpoint(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = images(300)
    trainer = trainer_of(data)
    real = real_again(data)
    # Real images while it has seen 128, and noise before and after.
    Stub(
        monkeypatch,
        lambda seeds, label: (
            real(seeds, label) if trainer.progress == 128 else torch.rand(len(seeds), 1, 6, 6)
        ),
    )
    config = TrainingConfig(
        steps=256, log_every=64, checkpoint_every=64, keep_checkpoints=1, evaluate_every=64
    )
    evaluate = during_training(trainer, data, run, number=NUMBER)
    outcome = train(trainer, run, config, evaluate=evaluate, best=BEST, display=SilentDisplay())
    assert outcome.best is not None
    assert (outcome.best.progress, outcome.best.metric) == (128, "paint/frechet_distance")
    assert [path.name for path in sorted(run.checkpoints_folder.glob("0*"))] == [
        "000000000128",
        "000000000256",
    ]
