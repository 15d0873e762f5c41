"""`playfield evaluate-images`: its numbers, their conditions, the record, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import CommandLine, catch_run, playfield
from painted_runs import EVERY, STEPS, painted_run
from picture_files import png
from sklearn.datasets import load_digits

from playfield.commands import image_measurement
from playfield.generative.classifier import ClassifierConfig

__all__ = ["catch_run", "playfield"]  # fixtures

TRAIN, TEST = "digits,split=train", "digits,split=test"
QUICK = ("--threads", "1", "--device", "cpu")


@pytest.fixture(scope="module")
def module_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def cache(module_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of these tests' own."""
    monkeypatch.setenv("PLAYFIELD_DATA", str(module_cache))
    return module_cache


@pytest.fixture
def painter(playfield: CommandLine) -> Path:
    """A run of a flow on digits named `flow`, as a copy that the test may write to."""
    folder = playfield.root / "flow"
    shutil.copytree(painted_run("flow"), folder)
    return folder


def evaluate(playfield: CommandLine, *args: str) -> str:
    done = playfield("evaluate-images", *args, *QUICK)
    assert done.code == 0, done
    return done.out


def records(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["evaluations"]
    return found


def refuses(playfield: CommandLine, *args: str) -> str:
    return playfield.refuses("evaluate-images", *args, *QUICK)


def arrays(path: Path, images: np.ndarray[Any, Any], **others: Any) -> str:
    np.savez(path, images=images, **others)
    return str(path)


@pytest.fixture
def few(tmp_path: Path) -> tuple[str, str]:
    """Specs of 300 digits, and of 260 others."""
    bunch = load_digits()
    digits = (255 * bunch.images / 16).astype(np.uint8)
    parts = {"learned": slice(300), "others": slice(300, 560)}
    first, second = (
        f"npz:{arrays(tmp_path / f'{name}.npz', digits[part], labels=bunch.target[part])}"
        for name, part in parts.items()
    )
    return first, second


# --- runs -----------------------------------------------------------------------------------------


def test_a_run_is_measured_under_conditions_that_are_told_and_kept(
    playfield: CommandLine, painter: Path, cache: Path
) -> None:
    said = evaluate(playfield, "flow", "-n", "300", "--steps", "2")
    results = painter / "image_evaluation.json"
    (record,) = records(results)
    found, source = record["metrics"], record["painted"]
    assert (found["n"], found["n_real"], found["features"]) == (300, 1797, "random")
    assert (source["run"], source["progress"]) == ("flow", STEPS)
    assert (source["sampler"], source["steps"], source["network_calls"]) == ("flow-midpoint", 2, 4)
    assert source["labels"] == "as often as in the data"
    manifest = json.loads((painter / "run.json").read_text())
    assert found["data"] == record["real"]["fingerprint"] == manifest["data"]["fingerprint"]
    # It has hardly learned, so it is told from digits by everything.
    assert found["frechet_distance"] > 1 and found["coverage"] < 0.9
    assert found["memorisation_ratio"] is None and found["agreement"] is None
    for condition in (
        "run flow", f"checkpoint of image {STEPS}", "averaged weights", "300 images",
        "flow-midpoint, 2 steps, 4 network calls", "seeds from 0", "1,797 images of 1x8x8",
        found["features_sha256"], found["preprocessing"], found["data"],
        "needs --test-data", "needs --classifier", str(results),
    ):  # fmt: skip
        assert condition in said, condition
    assert list((cache / "features").iterdir())  # of the real images, for the next time

    # The same again takes its place; another number of images, or others, stand beside it.
    evaluate(playfield, "flow", "-n", "300", "--steps", "2")
    assert [each["metrics"] for each in records(results)] == [found]
    evaluate(playfield, "flow", "-n", "280", "--steps", "2")
    evaluate(playfield, "flow", "-n", "300", "--steps", "2", "--first-seed", "300")
    assert [each["metrics"]["n"] for each in records(results)] == [300, 280, 300]
    distances = {each["metrics"]["frechet_distance"] for each in records(results)}
    assert len(distances) == 3


def test_results_do_not_depend_on_how_many_are_painted_at_once(
    playfield: CommandLine, painter: Path, tmp_path: Path, few: tuple[str, str]
) -> None:
    files = [tmp_path / "64.json", tmp_path / "7.json"]
    for path in files:
        how = ("--batch-size", path.stem, "--out", str(path), "--steps", "1", "--data", few[0])
        evaluate(playfield, "flow", "-n", "260", *how)
    first, second = (records(path)[0]["metrics"] for path in files)
    assert first == second
    assert not (painter / "image_evaluation.json").exists()


def test_the_best_checkpoint_is_measured_and_sampled_by_its_name(
    playfield: CommandLine, painter: Path, tmp_path: Path, few: tuple[str, str]
) -> None:
    assert "has no best checkpoint" in refuses(playfield, "flow", "--checkpoint", "best")
    manifest = json.loads((painter / "run.json").read_text())
    best = {"progress": EVERY, "metric": "paint/frechet_distance", "value": 3.25}
    manifest["checkpoints"]["best"] = best
    (painter / "run.json").write_text(json.dumps(manifest))
    how = ("-n", "260", "--steps", "1", "--data", few[0])
    assert f"checkpoint of image {EVERY}" in evaluate(
        playfield, "flow", "--checkpoint", "best", *how
    )
    assert f"checkpoint of image {STEPS}" in evaluate(
        playfield, "flow", "--checkpoint", "last", *how
    )
    painted = []
    for name in ("best", str(EVERY), "last"):
        out = tmp_path / f"{name}.npz"
        done = playfield(
            "sample", "flow", "-n", "2", "--checkpoint", name, "--out", str(out), *QUICK
        )
        assert done.code == 0, done
        painted.append(np.load(out)["images"])
    assert (painted[0] == painted[1]).all() and (painted[0] != painted[2]).any()
    (row,) = [line for line in playfield("runs").out.splitlines() if line.startswith("flow")]
    assert "FD 3.25" in row


# --- images in files ------------------------------------------------------------------------------


def test_the_training_images_themselves_are_perfect_but_copies(
    playfield: CommandLine, tmp_path: Path, few: tuple[str, str]
) -> None:
    learned, others = few
    out = ("--out", str(tmp_path / "found.json"))
    said = evaluate(playfield, learned, "--data", learned, "--test-data", others, *out)
    (record,) = records(tmp_path / "found.json")
    found = record["metrics"]
    assert found["frechet_distance"] == pytest.approx(0, abs=1e-5)
    assert found["precision"] == found["recall"] == found["coverage"] == 1
    assert found["diversity"] == pytest.approx(1)
    assert found["memorisation_ratio"] == 0
    assert record["held_out"]["n"] == 260
    assert "near 0, copies" in said


def test_what_sample_wrote_is_measured_with_its_labels(
    playfield: CommandLine, painter: Path, tmp_path: Path
) -> None:
    out = str(tmp_path / "painted.npz")
    few = ("-n", "260", "--steps", "1")
    assert playfield("sample", "flow", *few, "--out", out, *QUICK).code == 0
    results = tmp_path / "found.json"
    evaluate(playfield, out, "--data", "digits", "--out", str(results))
    (record,) = records(results)
    assert record["metrics"]["n"] == 260
    assert set(record["metrics"]["class_diversity"]) == set("0123456789")
    # Without --out the numbers are printed, and nothing is written beside the arrays.
    said = evaluate(playfield, out, "--data", "digits", "-n", "257")
    assert "257 of its 260 images" in said and "written to" not in said
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_a_folder_of_pictures_is_measured(playfield: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "a, folder=x"  # such as a spec would have to write with double commas
    digits = (255 * load_digits().images[:260] / 16).astype(np.uint8)
    for number, (image, label) in enumerate(zip(digits, load_digits().target, strict=False)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        (folder / str(label) / f"{number}.png").write_bytes(png(image[None]))
    said = evaluate(playfield, str(folder), "--data", "digits")
    assert "260 images" in said
    assert "least within a class" in said  # the folders are the digits' classes


def test_a_classifier_says_how_many_images_show_their_label(
    playfield: CommandLine, tmp_path: Path, few: tuple[str, str]
) -> None:
    learned, others = few
    budget = ("--steps", "1500", "--width", "8", "--features", "32")
    data = ("--data", learned, "--test-data", others)
    done = playfield("train", "classifier", "--run", "judge", *budget, *data, *QUICK)
    assert done.code == 0, done
    judged = json.loads((playfield.root / "judge" / "classification.json").read_text())
    results = tmp_path / "found.json"
    by = ("--features", "classifier:judge", "--out", str(results))
    said = evaluate(playfield, others, "--data", learned, *by)
    (record,) = records(results)
    # Test images in the place of painted ones: what agrees is what is classified rightly.
    assert record["metrics"]["agreement"] == judged["classification"]["accuracy"]
    assert record["metrics"]["width"] == 32
    assert record["metrics"]["features_sha256"] == judged["weights_sha256"]
    assert record["classifier"]["run"] == "judge"
    assert judged["weights_sha256"] in said
    # It can judge what is compared by other features too.
    evaluate(playfield, others, "--data", learned, "--classifier", "judge", "--out", str(results))
    assert [each["metrics"]["features"] for each in records(results)] == ["classifier", "random"]
    assert {each["metrics"]["agreement"] for each in records(results)} == {
        record["metrics"]["agreement"]
    }
    assert "name one of its kind" in refuses(
        playfield, others, "--data", learned, "--resize", "9", "--classifier", "judge"
    )
    # Its features alone need no classes; what they are called only matters to what it is asked.
    bare = arrays(tmp_path / "bare.npz", (255 * load_digits().images[:300] / 16).astype(np.uint8))
    results.unlink()
    evaluate(playfield, others, "--data", f"npz:{bare}", *by)
    (record,) = records(results)
    assert record["metrics"]["features"] == "classifier"
    assert record["metrics"]["agreement"] is None and record["classifier"] is None
    assert "name one of its kind" in refuses(
        playfield, others, "--data", f"npz:{bare}", "--classifier", "judge"
    )


def test_the_accuracy_score_stands_beside_that_of_real_images(
    playfield: CommandLine, tmp_path: Path, few: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    learned, others = few
    small = ClassifierConfig(epochs=20, width=8, features=16, dropout=0.0)
    monkeypatch.setattr(image_measurement, "ClassifierConfig", lambda: small)
    results = tmp_path / "found.json"
    # Real images under each other's labels: from these nothing of the classes can be learned.
    bunch = load_digits()
    mixed = np.random.default_rng(0).permutation(bunch.target[:300])
    digits = (255 * bunch.images[:300] / 16).astype(np.uint8)
    painted = arrays(tmp_path / "mixed.npz", digits, labels=mixed)
    test = ("--test-data", others, "--accuracy-score", "--out", str(results))
    evaluate(playfield, painted, "--data", learned, *test)
    (record,) = records(results)
    found = record["metrics"]
    assert found["accuracy_score"] < 0.25
    assert found["accuracy_score_real"] > 0.4
    assert record["accuracy_score"]["n"] == 300
    assert record["accuracy_score"]["config"]["epochs"] == 20


# --- what is refused ------------------------------------------------------------------------------


def test_too_few_images_say_how_many_are_needed(playfield: CommandLine, painter: Path) -> None:
    said = refuses(playfield, "flow", "-n", "100")
    assert "100 painted images are too few" in said and "257 are needed" in said
    assert "299 images, and --number asks for 300" in refuses(
        playfield, TEST, "--data", TRAIN, "-n", "300"
    )


def test_too_few_real_images_too(playfield: CommandLine, painter: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (100, 8, 8), np.uint8)
    few = f"npz:{arrays(tmp_path / 'few.npz', noise)}"
    assert "100 real images are too few" in refuses(playfield, "flow", "--data", few, "-n", "300")


def test_images_that_are_all_alike_are_told(playfield: CommandLine, tmp_path: Path) -> None:
    same = arrays(tmp_path / "same.npz", np.full((300, 8, 8), 77, np.uint8))
    assert "300 painted images all look the same" in refuses(playfield, same, "--data", "digits")
    assert "real images all look the same" in refuses(
        playfield, "digits", "--data", f"npz:{same}", "-n", "300"
    )


def test_images_of_other_sizes_or_channels_are_told(
    playfield: CommandLine, painter: Path, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 9, 8), np.uint8)
    other = arrays(tmp_path / "other.npz", noise)
    colour = arrays(tmp_path / "colour.npz", noise[:, :8, :, None].repeat(3, 3))
    assert "are of 1x9x8" in refuses(playfield, other, "--data", "digits")
    assert "are of 3x8x8" in refuses(playfield, colour, "--data", "digits")
    assert "Run 'flow' paints images of 1x8x8" in refuses(
        playfield, "flow", "--data", f"npz:{other}"
    )
    assert "The test images of" in refuses(
        playfield, "flow", "--data", "digits", "--test-data", f"npz:{colour}"
    )


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["digits"], "name those to compare with, as in --data digits"),
        (["flow", "--features", "vgg"], "--features has to be random"),
        (["flow", "--features", "inception:absent.pth"], "absent.pth"),
        (["flow", "--features", "classifier:absent"], "There is no run 'absent'"),
        (["flow", "--classifier", "flow"], "is no classifier's"),
        (["flow", "--accuracy-score"], "name them with --test-data"),
        (
            ["flow", "--test-data", "digits"],
            "1,797 of the 1,797 images of digits are in digits too",
        ),
        (["flow", "--test-data", TEST], "299 of the 299 images"),
        (["flow", "--sampler", "heun", "--churn", "-1"], "churn has to be"),
        (["flow", "--sampler", "consistency"], "does not fit"),
        (["flow", "-n", "0"], "--number has to be 1 or more"),
        (["flow", "--batch-size", "0"], "--batch-size has to be 1 or more"),
        (["flow", "--first-seed", "-1"], "--first-seed has to be 0 or more"),
        (["flow", "--checkpoint", "7"], "no checkpoint '7'"),
        (["absent"], "There is no run 'absent'"),
        (["catch"], "which plays and does not paint"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_sentence(
    playfield: CommandLine, painter: Path, catch_run: Path, args: list[str], said: str
) -> None:
    assert said in refuses(playfield, *args)
    assert not (painter / "image_evaluation.json").exists()


def test_a_damaged_file_of_results_is_told_before_anything_is_painted(
    playfield: CommandLine, painter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from playfield.commands import painted_images

    monkeypatch.setattr(painted_images, "painted", pytest.fail)
    (painter / "image_evaluation.json").write_text("{")
    assert "image_evaluation.json is damaged" in refuses(playfield, "flow")


def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test where images are painted, or looked at to be measured."""
    from playfield.commands import painted_images

    monkeypatch.setattr(painted_images, "painted", pytest.fail)
    monkeypatch.setattr(image_measurement, "measure", pytest.fail)


def test_an_accuracy_score_without_labels_is_refused_before_the_work(
    playfield: CommandLine, painter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_work(monkeypatch)
    noise = np.random.default_rng(0).integers(0, 256, (300, 8, 8), np.uint8)
    bare = arrays(tmp_path / "bare.npz", noise)
    half = np.arange(300) % 2
    two = f"npz:{arrays(tmp_path / 'two.npz', noise, labels=half)}"
    test = ("--test-data", TEST, "--accuracy-score")
    assert "needs painted images with labels" in refuses(playfield, bare, "--data", TRAIN, *test)
    # A run that knows other classes than the real images have.
    said = refuses(playfield, "flow", "--data", two, *test)
    assert "needs painted images with labels" in said
    test = ("--test-data", two, "--accuracy-score")
    assert "need the same classes" in refuses(playfield, "flow", "--data", TRAIN, *test)


def test_a_folder_that_is_missing_is_told_before_the_work(
    playfield: CommandLine, painter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_work(monkeypatch)
    out = tmp_path / "absent" / "found.json"
    assert "in a folder that does not exist" in refuses(playfield, "flow", "--out", str(out))
