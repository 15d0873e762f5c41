"""Painters and classifiers that begin with the weights of another run."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import CommandLine, catch_run, playfield

from playfield.cli import main
from playfield.training.checkpoint import newest_intact

__all__ = ["catch_run", "playfield"]  # fixtures

BUDGET = (
    *("--log-every", "96", "--checkpoint-every", "96", "--evaluate-every", "0"),
    *("--threads", "1", "--device", "cpu", "--precision", "float32", "--batch-size", "32"),
    *("--schedule", "constant"),
)
PAINT = (*BUDGET, "--ema-half-life", "200", "--ema-ramp-up", "0", "--evaluate-images", "0")
#: A few updates of small networks, at rates at which the newest weights are not the averages.
DENOISER = (*PAINT, "--base-channels", "8", "--blocks", "1", "--heads", "1")
FAST = ("--learning-rate", "0.01", "--warmup-steps", "0", "--steps", "96")
GAN = (
    *PAINT,
    *("--generator-channels", "8", "--discriminator-channels", "8", "--group-channels", "8"),
    *("--latent", "8", "--class-features", "8"),
)
CLASSIFIER = (*BUDGET, "--width", "8", "--features", "12")
#: So slow that the weights at the end are still the first ones.
STILL = ("--learning-rate", "1e-30", "--warmup-steps", "0", "--weight-decay", "0", "--steps", "32")


def pictures(path: Path, *, channels: int = 1, size: int = 8, classes: int = 2) -> str:
    """The spec of 64 noisy pictures in a file, the brighter the higher their class."""
    generator = np.random.default_rng(0)
    labels = np.arange(64) % classes
    noise = generator.integers(0, 60, (64, size, size, channels))
    images = (noise + 40 * labels[:, None, None, None]).astype(np.uint8)
    np.savez(path, images=images, labels=labels)
    return f"npz:{path}"


#: The options of the runs that others begin with.
FIRST = {
    "diffusion": (*DENOISER, *FAST),
    "flow": (*DENOISER, *FAST, "--no-conditional"),
    "gan": (*GAN, *FAST, "--discriminator-steps", "2", "--drift", "0.001"),
    "classifier": (*CLASSIFIER, *FAST),
}


@functools.cache
def _trained(algorithm: str) -> Path:
    root = Path(_keep().name)
    options = (*FIRST[algorithm], "--run", algorithm, "--root", str(root))
    assert main(["train", algorithm, *options]) == 0
    return root / algorithm


@functools.cache
def _keep() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="playfield-tests-")  # removed when the tests end


def first(playfield: CommandLine, algorithm: str) -> None:
    """Have a trained run of digits, called "first"."""
    shutil.copytree(_trained(algorithm), playfield.root / "first")


def train(playfield: CommandLine, algorithm: str, name: str, *options: str) -> str:
    """What the training of the run `name` prints."""
    done = playfield("train", algorithm, *options, "--run", name)
    assert done.code == 0, done
    return done.out


def state(playfield: CommandLine, name: str) -> Any:
    """The trainer's in the newest checkpoint of a run."""
    folder = playfield.root / name / "checkpoints"
    checkpoint = newest_intact(folder, pytest.fail, stores=False)
    assert checkpoint is not None
    return checkpoint.state["trainer"]


def init(playfield: CommandLine, name: str) -> Any:
    return json.loads((playfield.root / name / "run.json").read_text())["init"]


def same(first: Any, second: Any, names: Any) -> bool:
    """Whether these weights, of which there are some, are equal but for what `STILL` changes."""
    return bool(names) and all(
        torch.allclose(first[name], second[name], rtol=0, atol=1e-20) for name in names
    )


# --- painters ---


@pytest.mark.parametrize(("theirs", "ours"), [("flow", "diffusion"), ("diffusion", "diffusion")])
def test_a_painter_begins_with_the_averages_of_another_and_its_network(
    theirs: str, ours: str, playfield: CommandLine
) -> None:
    first(playfield, theirs)
    said = train(playfield, ours, "second", *PAINT, *STILL, "--init-from", "first", "--seed", "5")
    source, begun = state(playfield, "first"), state(playfield, "second")
    taken = list(source["network"])
    assert (
        f"Begins with {len(taken)} tensors of run 'first' ({theirs} on digits, image 96; " in said
    )
    assert "averaged weights of what paints)." in said
    assert begun["network"].keys() == set(taken)
    assert same(source["ema"]["network"], begun["network"], taken)
    assert same(source["ema"]["network"], begun["ema"]["network"], taken)
    assert not same(source["network"], begun["network"], taken)
    assert init(playfield, "second") == {
        "run": "first",
        "progress": 96,
        "parts": "all",
        "freeze": "none",
        "taken": taken,
        "left_out": {},
    }


def test_layers_for_other_images_stay_random_and_are_listed(
    playfield: CommandLine, tmp_path: Path
) -> None:
    first(playfield, "diffusion")
    data = ("--data", pictures(tmp_path / "colours.npz", channels=3, size=12))
    options = (*PAINT, *STILL, *data)
    said = train(playfield, "diffusion", "second", *options, "--init-from", "first")
    train(playfield, "diffusion", "random", *DENOISER, *STILL, *data)
    kept = init(playfield, "second")
    # One channel became three and ten classes two; the images' size is nothing to convolutions.
    shapes = {reason for reason in kept["left_out"].values() if reason.startswith("[")}
    assert shapes == {
        "[8, 1, 3, 3] there, [8, 3, 3, 3] here",
        "[1, 8, 3, 3] there, [3, 8, 3, 3] here",
        "[1] there, [3] here",
        "[10, 8] there, [2, 8] here",
    }
    for name, reason in kept["left_out"].items():
        assert f"  {name}: {reason}\n" in said
    source, begun = state(playfield, "first"), state(playfield, "second")
    assert same(source["ema"]["network"], begun["network"], kept["taken"])
    ours = [name for name, reason in kept["left_out"].items() if reason != "missing here"]
    assert same(state(playfield, "random")["network"], begun["network"], ours)


def test_both_networks_of_a_gan_begin_with_those_of_another(playfield: CommandLine) -> None:
    first(playfield, "gan")
    train(playfield, "gan", "second", *PAINT, *STILL, "--init-from", "first", "--seed", "5")
    theirs, ours = (
        json.loads((playfield.root / name / "run.json").read_text())["config"]
        for name in ("first", "second")
    )
    # What goes with the networks comes with them.
    for name in ("net", "loss", "drift", "discriminator_steps"):
        assert ours[name] == theirs[name]
    assert init(playfield, "second")["left_out"] == {}
    source, begun = state(playfield, "first"), state(playfield, "second")
    learned = {
        player: [name for name in weights if name.endswith((".weight", ".bias"))]
        for player, weights in (
            ("generator", begun["network"]),
            ("discriminator", begun["discriminator"]),
        )
    }
    averaged = source["ema"]["network"]
    assert same(averaged, begun["network"], learned["generator"])
    assert same(averaged, begun["ema"]["network"], learned["generator"])
    assert not same(source["network"], begun["network"], learned["generator"])
    assert same(source["discriminator"], begun["discriminator"], learned["discriminator"])


def test_a_preset_that_is_asked_for_keeps_a_gan_s_settings(playfield: CommandLine) -> None:
    first(playfield, "gan")
    named = ("--preset", "sngan", "--init-from", "first")
    shown = json.loads(playfield("train", "gan", *named, "--dry-run").out)
    assert shown["config"]["net"]["net"] == "resnet" and shown["config"]["loss"] == "hinge"


@pytest.mark.parametrize(("theirs", "ours"), [("gan", "diffusion"), ("flow", "gan")])
def test_where_nothing_fits_there_is_a_sentence_and_no_run(
    theirs: str, ours: str, playfield: CommandLine
) -> None:
    first(playfield, theirs)
    said = playfield.refuses("train", ours, *PAINT, *FAST, "--init-from", "first", "--run", "never")
    assert "Nothing of the network of run 'first' fits: " in said
    assert not (playfield.root / "never").exists()


@pytest.mark.parametrize("algorithm", ["diffusion", "gan"])
def test_a_run_goes_on_without_the_one_that_it_began_with(
    algorithm: str, playfield: CommandLine
) -> None:
    first(playfield, algorithm)
    begun = (*PAINT, "--init-from", "first", *FAST[:-1])
    train(playfield, algorithm, "whole", *begun, "192")
    train(playfield, algorithm, "second", *begun, "96")
    (playfield.root / "first").rename(playfield.root / "elsewhere")
    assert playfield("resume", "second", "--steps", "192").code == 0
    whole, second = state(playfield, "whole"), state(playfield, "second")
    whole, second = whole["network"], second["network"]
    assert all(torch.equal(whole[name], second[name]) for name in whole)
    assert playfield("sample", "second", "-n", "1", "--device", "cpu").code == 0


def test_a_run_from_when_all_painters_kept_a_teacher_goes_on(playfield: CommandLine) -> None:
    first(playfield, "diffusion")
    file = playfield.root / "first" / "run.json"
    manifest = json.loads(file.read_text())
    teacher = {"run": "gone", "progress": 9, "algorithm": "flow", "config": {}, "std": 0.7}
    file.write_text(json.dumps(manifest | {"init": teacher}))
    assert playfield("resume", "first", "--steps", "192").code == 0


def test_a_tuned_model_may_be_begun_with_where_it_need_not_teach(playfield: CommandLine) -> None:
    first(playfield, "diffusion")
    train(playfield, "consistency", "tuned", *PAINT, *FAST, "--init-from", "first")
    said = train(playfield, "diffusion", "second", *PAINT, *STILL, "--init-from", "tuned")
    assert "tensors of run 'tuned' (consistency on digits, image 96; " in said
    assert init(playfield, "second")["left_out"] == {}


# --- classifiers ---


def test_a_classifier_of_other_classes_takes_all_but_the_last_layer(
    playfield: CommandLine, tmp_path: Path
) -> None:
    first(playfield, "classifier")
    data = ("--data", pictures(tmp_path / "two.npz"))
    options = (*BUDGET, *STILL, *data, "--seed", "5")
    said = train(playfield, "classifier", "second", *options, "--init-from", "first")
    assert "of run 'first' (classifier on digits, image 96); left out are 2:" in said
    kept = init(playfield, "second")
    assert kept["left_out"] == {
        "output.weight": "[10, 12] there, [2, 12] here",
        "output.bias": "[10] there, [2] here",
    }
    theirs, ours = state(playfield, "first")["network"], state(playfield, "second")["network"]
    assert {name.partition(".")[0] for name in kept["taken"]} == {"stages", "hidden"}
    assert same(theirs, ours, kept["taken"])


def test_a_classifier_s_frozen_convolutions_stay_over_a_resume(
    playfield: CommandLine, tmp_path: Path
) -> None:
    first(playfield, "classifier")
    data = ("--data", pictures(tmp_path / "two.npz"))
    parts = ("--init-from", "first", "--init-parts", "encoder", "--freeze", "encoder")
    said = train(playfield, "classifier", "second", *BUDGET, *FAST, *data, *parts)
    assert said.count("The encoder is frozen.\n") == 1
    kept, early = init(playfield, "second"), state(playfield, "second")["network"]
    assert (kept["parts"], kept["freeze"], kept["left_out"]) == ("encoder", "encoder", {})
    assert {name.partition(".")[0] for name in kept["taken"]} == {"stages"}
    assert playfield("resume", "second", "--steps", "192").code == 0
    theirs, late = state(playfield, "first")["network"], state(playfield, "second")["network"]
    assert all(torch.equal(theirs[name], late[name]) for name in kept["taken"])
    for layer in ("hidden.weight", "output.weight"):
        assert not torch.equal(early[layer], late[layer])


# --- what a user can get wrong ---


def test_a_run_of_another_kind_is_told_and_no_run_begins(
    playfield: CommandLine, catch_run: Path
) -> None:
    for name, algorithm in (("paints", "diffusion"), ("judges", "classifier")):
        shutil.copytree(_trained(algorithm), playfield.root / name)
    for command, source, sentence in (
        ("diffusion", "catch", "is of an agent (dqn on playfield/Catch-v0)"),
        ("gan", "judges", "is of a classifier (on digits)"),
        ("classifier", "paints", "is no classifier's (diffusion on digits)"),
        ("classifier", "catch", "is no classifier's (dqn on playfield/Catch-v0)"),
        ("flow", "paint", "did you mean paints?"),
        ("classifier", "judge", "did you mean judges?"),
    ):
        said = playfield.refuses("train", command, "--init-from", source, "--run", "never")
        assert sentence in said
    assert not (playfield.root / "never").exists()


@pytest.mark.parametrize("algorithm", ["diffusion", "gan"])
@pytest.mark.parametrize("option", ["--init-parts", "--freeze"])
def test_painters_have_no_encoder_to_choose(
    algorithm: str, option: str, playfield: CommandLine
) -> None:
    assert f"{option} is not an option" in playfield.refuses("train", algorithm, option, "encoder")


def test_parts_of_no_classifier_are_refused(playfield: CommandLine) -> None:
    said = playfield.refuses("train", "classifier", "--init-parts", "encoder")
    assert "--init-parts wants the run that they are of" in said
