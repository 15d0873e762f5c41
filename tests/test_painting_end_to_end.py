"""Models that paint, from the command line: training, resuming, teaching, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import CommandLine, catch_run, playfield
from picture_files import pixels, png
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from playfield.training.checkpoint import list_checkpoints
from playfield.training.logs import read_metrics
from playfield.training.metrics import METRICS

__all__ = ["catch_run", "playfield"]  # fixtures

#: A few updates of a net of some thousand weights.
FEW = (
    *("--base-channels", "8", "--blocks", "1", "--heads", "1", "--batch-size", "32"),
    *("--log-every", "96", "--checkpoint-every", "160", "--evaluate-every", "0"),
    *("--threads", "1", "--device", "cpu", "--precision", "float32"),
    # A rate that fell to the end of the run would fall otherwise in a longer one.
    *("--schedule", "constant"),
)


def train(playfield: CommandLine, algorithm: str, name: str, *more: str, steps: int = 320) -> Path:
    done = playfield("train", algorithm, *FEW, "--run", name, "--steps", str(steps), *more)
    assert done.code == 0, done
    return playfield.root / name


def final_weights(run: Path) -> dict[str, Any]:
    tensors: dict[str, Any] = {}
    for file in sorted(list_checkpoints(run / "checkpoints")[-1].glob("*.safetensors")):
        tensors |= load_file(file)
    assert tensors
    return tensors


def test_with_no_argument_it_is_digits_that_are_learned(playfield: CommandLine) -> None:
    shown = playfield("train", "diffusion", "--dry-run")
    settings = json.loads(shown.out)
    assert (settings["data"], settings["algorithm"]) == ("digits", "diffusion")


def test_a_diffusion_model_is_trained_resumed_and_listed(playfield: CommandLine) -> None:
    folder = train(playfield, "diffusion", "paints", "--seed", "3")
    manifest = json.loads((folder / "run.json").read_text())
    assert "env" not in manifest and "protocol" not in manifest
    data = manifest["data"]
    assert (data["name"], data["count"], data["shape"]) == ("digits", 1797, [1, 8, 8])
    assert data["classes"] == [str(digit) for digit in range(10)]
    assert (manifest["status"], manifest["progress"], manifest["seed"]) == ("finished", 320, 3)

    points = read_metrics(folder / "metrics.jsonl")
    logged = {name for point in points for name in point} - {"progress"}
    assert logged <= METRICS.keys()
    assert {"train/loss", "train/learning_rate", "speed/images_per_second"} <= logged
    assert {"loss_by_noise/from_0.1", "paint/neighbour_distance"} <= logged
    events = EventAccumulator(str(folder)).Reload()
    assert {"samples/averaged", "samples/newest", "samples/nearest"} <= set(events.Tags()["images"])
    assert [path.name for path in (folder / "samples").iterdir()] == ["000000000320.png"]

    resumed = playfield("resume", "paints", "--steps", "480")
    assert resumed.code == 0, resumed
    straight = train(playfield, "diffusion", "straight", "--seed", "3", steps=480)
    mine, theirs = final_weights(folder), final_weights(straight)
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        np.testing.assert_array_equal(tensor, theirs[name], err_msg=name)

    (row,) = [line for line in playfield("runs").out.splitlines() if line.startswith("paints")]
    assert "diffusion" in row and "digits" in row and "480" in row
    assert "has finished: it is trained for 480 of 480 images" in playfield.refuses(
        "resume", "paints"
    )


def test_a_trained_model_is_tuned_and_a_flow_straightened(playfield: CommandLine) -> None:
    train(playfield, "diffusion", "base")
    tuned = train(playfield, "consistency", "tuned", "--init-from", "base")
    manifest = json.loads((tuned / "run.json").read_text())
    assert (manifest["init"]["run"], manifest["init"]["algorithm"]) == ("base", "diffusion")
    assert playfield("resume", "tuned", "--steps", "400").code == 0

    train(playfield, "flow", "flow")
    train(playfield, "reflow", "straight", "--init-from", "flow", "--pair-steps", "1")
    # The flow that it learns from is in its checkpoint.
    (playfield.root / "flow").rename(playfield.root / "elsewhere")
    assert playfield("resume", "straight", "--steps", "400").code == 0

    assert "straightens a flow" in playfield.refuses("train", "reflow", *FEW, "--init-from", "base")
    assert "consistency model, which is at its end" in playfield.refuses(
        "train", "consistency", *FEW, "--init-from", "tuned"
    )
    assert "wants a trained model to begin with" in playfield.refuses("train", "consistency")
    assert "not of the same size and kind" in playfield.refuses(
        "train", "consistency", *FEW, "--init-from", "base", "--base-channels", "16"
    )


def test_images_of_a_folder_that_have_changed_are_not_learned_from_further(
    playfield: CommandLine, tmp_path: Path
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (64, 8, 8), np.uint8)
    np.savez(tmp_path / "images.npz", images=images)
    data = ("--data", f"npz:{tmp_path / 'images.npz'}")
    train(playfield, "diffusion", "mine", *data)
    images[3, 4, 5] ^= 1
    np.savez(tmp_path / "images.npz", images=images)
    said = playfield.refuses("resume", "mine", "--steps", "640")
    assert "are not those of run 'mine'" in said


@pytest.mark.parametrize("count", [1, 3])
def test_few_pictures_are_learned_from_and_damaged_ones_told(
    playfield: CommandLine, tmp_path: Path, count: int
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.png").write_bytes(png(pixels(number, 7, 9, 4)))
    (folder / "bad.png").write_bytes(b"no picture")
    data = ("--data", f"folder:{folder}")
    done = playfield("train", "diffusion", *FEW, "--run", "few", "--steps", "8", *data)
    assert done.code == 0, done
    assert "1 damaged file was left out of" in done.err and "bad.png" in done.err
    # A batch is of as many images as there are.
    assert json.loads((playfield.root / "few" / "run.json").read_text())["progress"] in (8, 9)
    out = str(tmp_path / "painted.npz")
    painted = playfield("sample", "few", "-n", "2", "--steps", "2", "--device", "cpu", "--out", out)
    assert painted.code == 0, painted
    with np.load(out) as arrays:
        assert arrays["images"].shape == (2, 7, 9, 4)


def test_images_on_the_disk_stay_there_when_a_run_goes_on(
    playfield: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from playfield.commands import data_sets

    folder = train(playfield, "diffusion", "mapped", "--placement", "mmap", steps=64)
    assert json.loads((folder / "run.json").read_text())["data"]["placement"] == "mmap"
    placed = []
    open_data_set = data_sets.open_data_set

    def watched(*args: Any) -> Any:
        placed.append(open_data_set(*args))
        return placed[-1]

    monkeypatch.setattr(data_sets, "open_data_set", watched)
    assert playfield("resume", "mapped", "--steps", "96").code == 0
    assert [data.store.placement for data in placed] == ["mmap"]
    # A run from before this was kept learns from memory, as it did.
    manifest = json.loads((folder / "run.json").read_text())
    del manifest["data"]["placement"]
    (folder / "run.json").write_text(json.dumps(manifest))
    assert playfield("resume", "mapped", "--steps", "128").code == 0
    assert placed[-1].store.placement == "cpu"


def test_agents_play_and_painters_paint(playfield: CommandLine, catch_run: Path) -> None:
    train(playfield, "diffusion", "paints", steps=32)
    for command in ("eval", "watch"):
        arguments = ("--video", "film.gif") if command == "watch" else ()
        said = playfield.refuses(command, "paints", *arguments)
        assert "is of a model that paints" in said and "playfield sample" in said
    said = playfield.refuses("train", "consistency", "--init-from", "catch")
    assert "is of an agent (dqn on playfield/Catch-v0)" in said
    said = playfield.refuses("train", "dqn", "--env", "playfield/Catch-v0", "--init-from", "paints")
    assert "is of a model that paints" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--data", "digitz"), "digits"),
        (("--data", "folder:nowhere"), "nowhere"),
        (("--data", "digits,split=none"), "split=none is unknown"),
        (("--preset", "digits-flow"), "belongs to flow"),
        (("--preset", "digit"), "did you mean digits"),
        (("--channel-mult", "1", "1", "1", "1", "1"), "can be halved 3 times"),
        (("--parametrisation", "eps", "--zero-terminal-snr"), "eps"),
        (("--min-snr", "5"), "min_snr"),
        (("--shift", "8"), "shift=8 moves images of 8x8 out of sight: choose 7 or less"),
        (("--micro-batch", "4000"), "micro_batch has to lie between 1 and the batch size"),
        (("--seed", "-1"), "--seed has to be 0 or more"),
        (("--env", "ALE/Pong-v5"), "--env is not an option"),
        (("--evaluate-episodes", "3"), "--evaluate-episodes is not an option"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(
    arguments: tuple[str, ...], said: str, playfield: CommandLine
) -> None:
    assert said in playfield.refuses("train", "diffusion", *arguments)
    assert not playfield.root.exists() or not list(playfield.root.iterdir())


def test_training_draws_nothing_from_torch_s_own_generator(playfield: CommandLine) -> None:
    before = torch.get_rng_state()
    train(playfield, "diffusion", "quiet", "--augment", "0.5", "--dropout", "0.1", steps=64)
    assert torch.equal(torch.get_rng_state(), before)
