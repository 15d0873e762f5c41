"""The benchmark of painted digits: fair counts, a judge that can tell, targets that can fail."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from benchmark_scripts import quick, script
from exact_models import painting
from numpy.typing import NDArray
from painted_runs import painted_run

from playfield.generative.classifier import ClassifierConfig
from playfield.generative.images import ImageData, images_from_arrays
from playfield.generative.model import DenoisingModel
from playfield.generative.objective import Family
from playfield.generative.sampling import plan


@pytest.fixture(scope="module")
def painting_quality() -> ModuleType:
    return script("painting_quality")


@pytest.fixture(scope="module")
def sample_quality() -> ModuleType:
    return script("sample_quality")


def model(family: Family) -> DenoisingModel:
    return painting(family, shape=(1, 3, 2), classes=("a", "b", "c"))


def bars(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Noisy pictures with a bar that stands (0) or lies (1)."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = generator.integers(0, 90, (count, 1, 6, 6)).astype(np.uint8)
    for image, label, place in zip(images, labels, generator.integers(1, 5, count), strict=True):
        image[0, :, place] += np.uint8(150) * (1 - label).astype(np.uint8)
        image[0, place, :] += np.uint8(150) * label.astype(np.uint8)
    return images, labels


def data(count: int, seed: int) -> ImageData:
    return images_from_arrays("bars", *bars(count, seed), classes=("standing", "lying"))


@pytest.fixture(scope="module")
def judge(sample_quality: ModuleType) -> Any:
    config = ClassifierConfig(epochs=8, batch_size=32, width=8, features=16)
    return sample_quality.Judge(data(240, seed=1), data(40, seed=2), config)


# --- painting -------------------------------------------------------------------------------------


def test_every_family_calls_the_network_as_often_as_the_table_says(
    painting_quality: ModuleType,
) -> None:
    for family, settings in painting_quality.SETTINGS.items():
        calls = {wanted: plan(model(family), how).network_calls for wanted, how in settings.items()}
        assert calls == {wanted: wanted for wanted in calls}, family
    assert all(tuple(painting_quality.SETTINGS[f]) == (1, 2, 4, 8, 18, 36) for f in ("edm", "flow"))


def test_classes_are_painted_in_turn_and_batches_change_nothing(
    painting_quality: ModuleType, sample_quality: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = painting_quality.SETTINGS["edm"][4]
    whole, labels, speed = sample_quality.painted(model("edm"), config, 7)
    assert labels.tolist() == [0, 1, 2, 0, 1, 2, 0] and speed > 0
    assert whole.shape == (7, 1, 3, 2) and whole.dtype == np.uint8
    monkeypatch.setattr(sample_quality, "BATCH", 3)
    parts, _, _ = sample_quality.painted(model("edm"), config, 7)
    assert (whole == parts).all()


# --- judging --------------------------------------------------------------------------------------


def test_copies_of_the_training_images_are_at_no_distance_and_found_out(judge: Any) -> None:
    found = judge.quality(judge.train.images(), judge.train.labels())
    assert found.frechet_train == pytest.approx(0, abs=1e-6)
    assert found.memorisation_ratio == 0
    assert found.agreement > 0.95  # bars are easy


def test_test_images_are_as_new_as_test_images(judge: Any) -> None:
    found, known = judge.quality(judge.test.images(), judge.test.labels()), judge.record()
    assert found.memorisation_ratio == 1
    assert found.frechet_test == pytest.approx(0, abs=1e-6)
    assert found.frechet_train_few == known["frechet_test_to_train"] > 0
    assert found.agreement == known["test_accuracy"] > 0.9
    assert (known["train_images"], known["test_images"]) == (240, 40)


def test_images_of_other_classes_than_asked_do_not_agree(judge: Any) -> None:
    images, labels = bars(60, seed=3)
    asked, other = judge.quality(images, labels), judge.quality(images, 1 - labels)
    assert asked.agreement + other.agreement == pytest.approx(1) and asked.agreement > 0.9
    # One of two classes is half of the distribution.
    standing = judge.quality(images[labels == 0].repeat(2, 0), labels)
    assert standing.frechet_train > 10 * asked.frechet_train


# --- results --------------------------------------------------------------------------------------


def row(nfe: int, agreement: float, train: float, test: float, ratio: float) -> dict[str, Any]:
    return {
        "nfe": nfe, "sampler": "dpmpp-2m", "steps": nfe, "agreement": agreement,
        "frechet_train": train, "frechet_test": test, "frechet_train_few": 2 * train,
        "memorisation_ratio": ratio, "painted_per_second": 100.0,
    }  # fmt: skip


def record(**runs: Mapping[str, Any]) -> dict[str, Any]:
    judge = {"test_accuracy": 0.98, "test_images": 299, "frechet_test_to_train": 8.0}
    return {"judge": judge, "runs": runs, "samples": 20, "hardware": {"cores": 2, "cpu": "a CPU"}}


ROWS = [row(1, 0.2, 90, 80, 1.3), row(8, 0.98, 2, 6, 0.95), row(18, 0.99, 1, 7, 0.8)]


def test_copies_do_not_make_a_setting_the_best(painting_quality: ModuleType) -> None:
    assert painting_quality.best(ROWS)["nfe"] == 8  # 18 is closer to the training images


def test_targets_are_of_the_classifier_and_of_edm_at_its_best(painting_quality: ModuleType) -> None:
    edm = {"family": "edm", "quality": ROWS, "minutes": 4.9, "process_minutes": 5.2}
    flow = {"family": "flow", "quality": ROWS[:1], "minutes": 9.0, "process_minutes": 9.0}
    found = painting_quality.targets(record(EDM=edm, flow=flow))
    assert [target.measured for target in found] == [0.98, 0.98, 0.95, 5.2]
    assert [target.reached for target in found] == [True, True, True, False]
    # Of a run that was not seen to start, the clock of training is what there is.
    *_, minutes = painting_quality.targets(record(EDM=edm | {"process_minutes": None}))
    assert minutes.measured == 4.9 and minutes.reached


def test_every_run_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib (extra `dev`)")
    runs = {"EDM": {"quality": ROWS}, "consistency": {"quality": ROWS[:2]}}
    script("quality_curves").draw(tmp_path / "x.png", "Digits", record(**runs))
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_of_other_images_is_not_judged(
    painting_quality: ModuleType, judge: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = painted_run("diffusion")
    (learnt,) = painting_quality.given([str(folder)], folder.parent)
    assert learnt.name == "EDM" and learnt.record()["images_seen"] == 384
    with pytest.raises(SystemExit):
        painting_quality.measured(learnt, judge, painting_quality.QUICK)
    assert "did not learn from digits,split=train" in capsys.readouterr().err


def test_no_class_can_be_asked_of_a_run_without_labels(
    painting_quality: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = painted_run("unlabelled")
    (learnt,) = painting_quality.given([str(folder)], folder.parent)
    assert learnt.name == "DDPM-v"
    fingerprint = learnt.run.manifest["data"]["fingerprint"]
    other = SimpleNamespace(train=SimpleNamespace(fingerprint=lambda: fingerprint))
    with pytest.raises(SystemExit):
        painting_quality.measured(learnt, other, painting_quality.QUICK)
    assert "without labels" in capsys.readouterr().err


@pytest.mark.slow
def test_all_four_are_trained_measured_and_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib (extra `dev`)")
    result = quick("painting_quality", tmp_path)
    assert list(result["runs"]) == ["EDM", "DDPM-v", "flow", "consistency"]
    for name, run in result["runs"].items():
        assert [found["nfe"] for found in run["quality"]] == [1, 2], name
        assert run["images_seen"] >= 256 and "--root" not in run["command"]
        assert run["process_minutes"] > run["minutes"] > 0
        assert run["config"]["net"] == result["runs"]["EDM"]["config"]["net"]
    assert result["runs"]["consistency"]["init"]["run"] == result["runs"]["EDM"]["run"]
    assert [target["wanted"] for target in result["targets"]] == [0.97, 0.97, 0.9, 5.0]
    for picture in ("painting_quality.png", "digits-samples.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
