"""Painting with GANs: seeds, classes, truncation, interpolation, and what they have no use for."""

from __future__ import annotations

import functools
import json
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from playfield.cli import main
from playfield.errors import UserError
from playfield.generative.model import GeneratorModel
from playfield.generative.noise import image_noise
from playfield.generative.objective import ImageSpec
from playfield.generative.pixels import to_bytes
from playfield.generative.sampling import SamplerConfig, paint, plan
from playfield.generative.saved_painter import load_painter
from playfield.generative.truncation import truncated


def linear(z: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """A "generator" that shows its noise, and its label in the last pixel."""
    images = z.clone()
    images[:, -1] = label
    return images.view(-1, 1, 2, 3)


MODEL = GeneratorModel(
    generator=linear, latent=6, spec=ImageSpec(1, 2, 3, ("a", "b", "c")), unconditional=False
)
LABEL = torch.tensor([0, 1, 2, 2])


# --- one call of the generator --------------------------------------------------------------------


def test_an_image_is_what_the_generator_makes_of_its_seeds_noise() -> None:
    found = paint(MODEL, SamplerConfig(), [4, 5, 6, 7], LABEL)
    noise = image_noise([4, 5, 6, 7], (6,)).float()
    assert torch.equal(found.flatten(1)[:, :-1], noise[:, :-1])
    assert torch.equal(found.flatten(1)[:, -1], LABEL.float())


def test_a_plan_is_one_call() -> None:
    planned = plan(MODEL, SamplerConfig())
    assert (planned.sampler, planned.steps, planned.network_calls) == ("generator", 1, 1)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"steps": 5}, "one step, not in 5"),
        ({"guidance": 2.0}, "guidance is a setting of models that take noise away"),
        ({"clip": True}, "clip is a setting of models that take noise away"),
        ({"sampler": "heun"}, "does not fit a GAN: use generator"),
        ({"eta": 0.5}, "eta is a setting of the sampler ddim"),
        ({"truncation": 0.0}, "truncation has to be more than 0"),
        ({"truncation": math.inf}, "truncation has to be more than 0"),
    ],
)
def test_what_a_gan_has_no_use_for_is_refused(settings: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        paint(MODEL, SamplerConfig(**settings), range(4), LABEL)


def test_classes_that_it_does_not_know_are_refused() -> None:
    with pytest.raises(UserError, match=r"Class 3 is unknown: the model has the classes 0\.\.2"):
        paint(MODEL, SamplerConfig(), [0], torch.tensor([3]))
    with pytest.raises(UserError, match="not learned to paint without a label"):
        paint(MODEL, SamplerConfig(), [0], torch.tensor([-1]))


# --- truncation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", [0.3, 1.0, 2.0])
def test_truncated_noise_follows_the_normal_distribution_cut_off_there(bound: float) -> None:
    z = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    found = truncated(z, bound)
    assert found.abs().max() <= bound
    # Of a normal variable cut off at ±b: 1 - 2 b phi(b) / (2 Phi(b) - 1).
    density = math.exp(-(bound**2) / 2) / math.sqrt(2 * math.pi)
    variance = 1 - 2 * bound * density / math.erf(bound / math.sqrt(2))
    assert float(found.var()) == pytest.approx(variance, rel=0.01)
    assert float(found.mean()) == pytest.approx(0, abs=0.01)


def test_truncation_keeps_the_order_of_numbers_and_ends_at_what_they_were() -> None:
    z = torch.linspace(-4, 4, 101, dtype=torch.float64)
    for bound in (0.1, 1.0, 3.0):
        assert (truncated(z, bound).diff() > 0).all()
    torch.testing.assert_close(truncated(z, 30.0), z, rtol=1e-6, atol=1e-6)
    assert float(truncated(torch.zeros(1), 0.5)) == 0


def test_truncation_is_a_setting_of_gans_alone() -> None:
    from exact_models import labels, painting

    with pytest.raises(UserError, match="truncation is a setting of the sampler generator"):
        paint(painting("edm"), SamplerConfig(truncation=0.5), [0], labels(1))
    found = paint(MODEL, SamplerConfig(truncation=0.5), range(4), LABEL)
    assert found.flatten(1)[:, :-1].abs().max() <= 0.5


# --- the command ----------------------------------------------------------------------------------


@functools.cache
def _keep() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="playfield-tests-")  # removed when the tests end


@functools.cache
def gan_run() -> Path:
    """A run of a few hundred digits, for reading only."""
    root = Path(_keep().name)
    small = (
        *("--generator-channels", "8", "--discriminator-channels", "8", "--group-channels", "8"),
        *("--latent", "8", "--class-features", "8", "--batch-size", "64"),
        *("--ema-half-life", "100", "--ema-ramp-up", "0", "--learning-rate", "0.005"),
    )
    budget = ("--steps", "384", "--log-every", "192", "--checkpoint-every", "192")
    args = ["train", "gan", "--data", "digits", *small, *budget, "--threads", "1"]
    assert main([*args, "--device", "cpu", "--run", "gan", "--root", str(root)]) == 0
    return root / "gan"


def test_training_keeps_what_resume_needs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    manifest = json.loads((gan_run() / "run.json").read_text())
    assert manifest["algorithm"] == "gan" and manifest["config"]["loss"] == "relativistic"
    assert manifest["diagnosis"] == []
    model = load_painter(gan_run(), device="cpu")
    assert isinstance(model, GeneratorModel) and model.noise_shape == (8,)


def test_sample_paints_seeds_and_classes_the_same_in_any_batch(tmp_path: Path) -> None:
    name = str(gan_run())
    for out, more in (("a.npz", ()), ("b.npz", ("--batch-size", "5"))):
        args = ["--seeds", "3,5,9-14", "--classes", "2,7", "--out", str(tmp_path / out), *more]
        assert main(["sample", name, "--device", "cpu", *args]) == 0
    one, other = (np.load(tmp_path / out) for out in ("a.npz", "b.npz"))
    assert one["images"].shape[0] == 8 and sorted(one.files) == sorted(other.files)
    assert all(np.array_equal(one[key], other[key]) for key in one.files)


def test_sample_interpolates_between_latents_as_a_film(tmp_path: Path) -> None:
    out = tmp_path / "film.gif"
    args = ["--interpolate", "3", "8", "-n", "6", "--classes", "5", "--out", str(out)]
    assert main(["sample", str(gan_run()), "--device", "cpu", *args]) == 0
    with Image.open(out) as film:
        assert film.n_frames == 6


def test_sample_truncates_as_paint_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {}
    for bound in (None, 0.5):
        out = tmp_path / f"{bound}.npz"
        args = ["-n", "20", "--classes", "3", "--out", str(out)]
        args += [] if bound is None else ["--truncation", str(bound)]
        assert main(["sample", str(gan_run()), "--device", "cpu", *args]) == 0
        assert "20 images by generator, 1 step, 1 network call each" in capsys.readouterr().out
        found[bound] = np.load(out)["images"]
        model = load_painter(gan_run(), device="cpu")
        signals = paint(model, SamplerConfig(truncation=bound), range(20), torch.full((20,), 3))
        assert np.array_equal(found[bound], to_bytes(signals)[:, 0].numpy())
    assert not np.array_equal(found[None], found[0.5])


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--steps", "5"), "A GAN paints in one step"),
        (("--trajectory", "way.gif"), "--trajectory needs a model that takes noise away"),
        (("--guidance", "2"), "guidance is a setting of models that take noise away"),
        (("--autoguide", "other", "--guidance", "2"), "--autoguide needs a model that takes noise"),
        (("--classes", "10"), "There is no class '10'"),
        (("--classes", "none"), "not learned to paint without a label"),
        (("--seeds", "4294967296"), "a seed has to lie in 0"),
        (("--truncation", "-1"), "truncation has to be more than 0"),
    ],
)
def test_a_wrong_wish_is_one_sentence(
    args: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(["sample", str(gan_run()), "--device", "cpu", *args]) == 2
    assert sentence in capsys.readouterr().err


def test_a_gan_is_no_teacher(capsys: pytest.CaptureFixture) -> None:
    name = str(gan_run())
    assert main(["train", "consistency", "--init-from", name, "--dry-run"]) == 2
    assert "is a GAN, whose generator takes no noise away" in capsys.readouterr().err


def test_a_preset_is_sized_by_the_data(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rng = np.random.default_rng(0)
    for size in (8, 32):
        folder = tmp_path / str(size)
        folder.mkdir()
        for index in range(3):
            pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.png")
    found = {}
    for size in (8, 32):
        args = ["train", "gan", "--preset", "sngan", "--data", f"folder:{tmp_path / str(size)}"]
        assert main([*args, "--batch-size", "7", "--dry-run"]) == 0
        found[size] = json.loads(capsys.readouterr().out)
    assert found[8]["training"]["steps"] > found[32]["training"]["steps"]
    assert found[8]["config"]["net"] != found[32]["config"]["net"]
    assert found[8]["config"]["batch_size"] == found[32]["config"]["batch_size"] == 7
    norms = {each["config"]["net"]["discriminator_norm"] for each in found.values()}
    assert norms == {"spectral"}


def test_options_are_judged_beside_the_settings_for_images_of_that_size(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    Image.fromarray(np.arange(128 * 128, dtype=np.uint16).astype(np.uint8).reshape(128, 128)).save(
        folder / "0.png"
    )
    # 96 divides the channels inside the nets for 128 pixels, and not those inside the tiny ones.
    args = ["train", "gan", "--data", f"folder:{folder},size=128", "--group-channels", "96"]
    assert main([*args, "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["net"]["group_channels"] == 96
    assert main(["train", "gan", "--group-channels", "96", "--dry-run"]) == 2
    assert "group_channels=96 does not divide" in capsys.readouterr().err
