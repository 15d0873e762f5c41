"""A classifier from the command line: trained, stopped, measured, and what is refused."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import CommandLine, playfield
from PIL import Image
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from playfield.evaluation.classification import classify, read_judgement
from playfield.evaluation.features import extract
from playfield.generative.classifier import features, predict
from playfield.generative.classifier_presets import PRESETS
from playfield.training.checkpoint import list_checkpoints, newest_intact
from playfield.training.logs import read_metrics
from playfield.training.metrics import METRICS
from playfield.training.run import Run

__all__ = ["playfield"]  # a fixture

TINY = (
    *("--width", "8", "--features", "12", "--batch-size", "16", "--threads", "1"),
    *("--device", "cpu", "--log-every", "60", "--checkpoint-every", "100"),
    # A rate that fell to the end of the run would fall otherwise in a longer one.
    *("--learning-rate", "0.005", "--schedule", "constant"),
)


def bars(path: Path, count: int = 90, seed: int = 0, size: int = 6, **more: Any) -> str:
    """The spec of noisy pictures in a file, with a bar that stands (0) or lies (1)."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, count)
    images = generator.integers(0, 60, (count, size, size)).astype(np.uint8)
    for image, label, place in zip(images, labels, generator.integers(0, size, count), strict=True):
        image[place if label else (slice(None), place)] += 150
    np.savez(path, **{"images": images, "labels": labels, **more})
    return f"npz:{path}"


@pytest.fixture
def data(tmp_path: Path) -> str:
    return bars(tmp_path / "bars.npz")


def train(playfield: CommandLine, name: str, data: str, *more: str, steps: int = 320) -> Path:
    options = (*TINY, "--data", data, "--run", name, "--steps", str(steps), *more)
    done = playfield("train", "classifier", *options)
    assert (done.code, done.err) == (0, ""), done
    return playfield.root / name


def final_weights(folder: Path) -> dict[str, Any]:
    (file,) = list_checkpoints(folder / "checkpoints")[-1].glob("*.safetensors")
    return load_file(file)


def judge_of(folder: Path) -> tuple[Any, str]:
    from playfield.generative.saved_classifier import stored_classifier

    run = Run.open(str(folder), folder.parent)
    checkpoint = newest_intact(run.checkpoints_folder, pytest.fail)
    assert checkpoint is not None
    return stored_classifier(run, checkpoint, torch.device("cpu"))


def test_a_classifier_is_trained_listed_and_measured_again(
    playfield: CommandLine, data: str
) -> None:
    folder = train(playfield, "judge", data, "--seed", "3", "--held-out", "0.3")
    manifest = json.loads((folder / "run.json").read_text())
    assert (manifest["algorithm"], manifest["status"]) == ("classifier", "finished")
    assert manifest["held_out"] == {"part": 0.3, "data": None}
    assert (manifest["data"]["shape"], manifest["data"]["classes"]) == ([1, 6, 6], ["0", "1"])
    assert len(manifest["data"]["fingerprint"]) == 64

    logged = {name for point in read_metrics(folder / "metrics.jsonl") for name in point}
    assert logged - {"progress"} <= METRICS.keys()
    assert {"train/loss", "train/accuracy", "classify/accuracy", "classify/f1"} <= logged
    events = EventAccumulator(str(folder)).Reload()
    assert "classify/confusion" in events.Tags()["images"]
    with Image.open(folder / "confusion.png") as picture:
        assert picture.mode == "RGB"

    # What the file says is what the stored network says of images that it never saw.
    from playfield.commands.stored_classifier import stored_images

    found = read_judgement(folder / "classification.json")
    learned, test = stored_images(Run.open(str(folder), folder.parent))
    assert len(learned) + len(test) == 90 and len(test) == pytest.approx(27, abs=1)
    network, sha256 = judge_of(folder)
    expected = classify(test.labels(), predict(network, test.images()).numpy(), ("0", "1"))
    assert found.classification == expected
    assert (found.weights_sha256, found.fingerprint) == (sha256, test.fingerprint())
    assert (found.progress, found.held_out, found.seed) == (manifest["progress"], 0.3, 3)

    (row,) = [line for line in playfield("runs").out.splitlines() if line.startswith("judge")]
    assert "classifier" in row and f"{100 * expected.accuracy:.1f} %" in row
    (folder / "classification.json").unlink()
    again = playfield("eval", "judge", "--device", "cpu")
    assert again.code == 0, again
    assert f"accuracy    {100 * expected.accuracy:.2f} %" in again.out and sha256 in again.out
    assert read_judgement(folder / "classification.json").classification == expected
    first, last = (int(path.name) for path in list_checkpoints(folder / "checkpoints"))
    assert playfield("eval", "judge", "--device", "cpu", "--checkpoint", str(first)).code == 0
    assert read_judgement(folder / "classification.json").progress == first < last


def test_a_stopped_run_goes_on_as_if_it_never_had_been(
    playfield: CommandLine, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from playfield.generative.classifier_trainer import ClassifierTrainer

    straight = train(playfield, "straight", data)
    step = ClassifierTrainer.step

    def interrupted(self: ClassifierTrainer) -> Any:
        if self.progress > 150:
            signal.raise_signal(signal.SIGINT)  # Ctrl-C
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(ClassifierTrainer, "step", interrupted)
        options = (*TINY, "--data", data, "--run", "stopped", "--steps", "320")
        done = playfield("train", "classifier", *options)
    assert done.code == 130 and "Resume with: playfield resume stopped" in done.out
    stopped = playfield.root / "stopped"
    assert not (stopped / "classification.json").exists()  # what is not finished is not judged
    resumed = playfield("resume", "stopped")
    assert resumed.code == 0, resumed
    mine, theirs = final_weights(stopped), final_weights(straight)
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        np.testing.assert_array_equal(tensor, theirs[name], err_msg=name)
    one, other = (read_judgement(each / "classification.json") for each in (stopped, straight))
    assert one.weights_sha256 == other.weights_sha256
    assert one.classification == other.classification

    longer = playfield("resume", "stopped", "--steps", "480")
    assert longer.code == 0, longer
    assert read_judgement(stopped / "classification.json").progress >= 480
    assert "has finished" in playfield.refuses("resume", "stopped")


def test_a_run_is_as_long_as_its_epochs_say(playfield: CommandLine, data: str) -> None:
    options = (*TINY, "--data", data, "--run", "short", "--epochs", "2")
    assert playfield("train", "classifier", *options).code == 0
    manifest = json.loads((playfield.root / "short" / "run.json").read_text())
    assert manifest["progress"] == manifest["training"]["steps"] == 2 * 72


def test_other_images_can_be_measured_on(playfield: CommandLine, data: str, tmp_path: Path) -> None:
    other = bars(tmp_path / "other.npz", count=30, seed=1)
    folder = train(playfield, "judge", data, "--test-data", other)
    found = read_judgement(folder / "classification.json")
    assert (found.classification.n, found.held_out, found.data) == (30, None, other)
    manifest = json.loads((folder / "run.json").read_text())
    assert manifest["held_out"]["data"]["fingerprint"] == found.fingerprint
    assert playfield("resume", "judge", "--steps", "400").code == 0
    bars(tmp_path / "other.npz", count=30, seed=2)
    assert f"The images of {other} are not those of run 'judge'" in playfield.refuses(
        "resume", "judge", "--steps", "500"
    )


def test_a_judge_is_the_same_wherever_it_is_kept(
    playfield: CommandLine, data: str, tmp_path: Path
) -> None:
    folder = train(playfield, "judge", data)
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert judge_of(folder)[1] == judge_of(tmp_path / "elsewhere")[1]
    assert playfield("resume", "judge", "--steps", "400").code == 0
    assert judge_of(folder)[1] != judge_of(tmp_path / "elsewhere")[1]


def test_images_are_compared_by_what_a_judge_sees_in_them(
    playfield: CommandLine, data: str
) -> None:
    from playfield.commands.stored_classifier import classifier_features

    folder = train(playfield, "judge", data)
    run = Run.open("judge", playfield.root)
    checkpoint = newest_intact(run.checkpoints_folder, pytest.fail)
    assert checkpoint is not None
    judge = classifier_features(run, checkpoint, torch.device("cpu"))
    network, sha256 = judge_of(folder)
    assert (judge.name, judge.sha256, judge.size) == ("classifier", sha256, 12)
    images = np.random.default_rng(0).integers(0, 256, (70, 1, 6, 6), np.uint8)
    found = extract(judge, images, 7).array
    np.testing.assert_array_equal(found, extract(judge, images, 70).array)
    np.testing.assert_allclose(found, features(network, images).numpy(), rtol=1e-5, atol=1e-6)
    from playfield.errors import UserError

    with pytest.raises(UserError, match=r"sees images of 1x6x6 .* these are 3x8x8"):
        judge(np.zeros((2, 3, 8, 8), np.uint8))


def test_what_a_classifier_does_not_do_is_said(playfield: CommandLine, data: str) -> None:
    train(playfield, "judge", data)
    said = playfield.refuses("watch", "judge", "--video", "film.gif")
    assert "is of a classifier" in said and "playfield eval judge" in said
    begun = ("train", "dqn", "--env", "playfield/Catch-v0", "--init-from", "judge")
    assert "is of a classifier" in playfield.refuses(*begun)
    assert "leave --episodes out" in playfield.refuses("eval", "judge", "--episodes", "3")
    assert "'judge'" in playfield.refuses("sample", "judge")
    assert "'judge'" in playfield.refuses("train", "diffusion", "--init-from", "judge")


def test_data_and_settings_that_teach_nothing_are_refused(
    playfield: CommandLine, data: str, tmp_path: Path
) -> None:
    def refused(*options: str) -> str:
        return playfield.refuses("train", "classifier", *TINY, "--run", "never", *options)

    np.savez(tmp_path / "bare.npz", images=np.arange(324).reshape(9, 6, 6).astype(np.uint8))
    assert "have no labels" in refused("--data", f"npz:{tmp_path / 'bare.npz'}")
    one = bars(tmp_path / "one.npz", labels=np.zeros(90, np.int64))
    assert "needs two classes" in refused("--data", one)
    black = bars(tmp_path / "black.npz", images=np.zeros((90, 6, 6), np.uint8))
    assert "have one value" in refused("--data", black)
    wide = bars(tmp_path / "wide.npz", size=9, seed=1)
    assert "1x9x9" in refused("--data", data, "--test-data", wide)
    assert "the very images" in refused("--data", data, "--test-data", data)
    for part in ("0", "1", "1.5", "-0.2"):
        assert "--held-out has to lie between 0 and 1" in refused(f"--held-out={part}")
    assert "do not go together" in refused("--held-out", "0.2", "--test-data", data)
    assert "did you mean digits-classifier" in refused("--preset", "digits-clasifier")
    assert "shift=6" in refused("--data", data, "--shift", "6")
    assert "--seed has to be 0 or more" in refused("--seed", "-1")
    assert not (playfield.root / "never").exists()


def test_help_and_lists_have_classifiers(playfield: CommandLine) -> None:
    helped = playfield("train", "--help").out
    assert "judges of images" in helped and "  classifier  " in helped
    assert "did you mean classifier?" in playfield.refuses("train", "clasifier")
    assert "classifier" in playfield("list", "algorithms").out
    listed = playfield("list", "presets").out
    page = (Path(__file__).parent.parent / "docs" / "classifier.md").read_text()
    for name in PRESETS:
        assert name in listed and f"| `{name}` |" in page
    shown = json.loads(playfield("train", "classifier", "--dry-run").out)
    assert (shown["algorithm"], shown["data"]) == ("classifier", "digits")
