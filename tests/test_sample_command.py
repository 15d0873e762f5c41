"""`playfield sample`: what it paints, where it writes, and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import CommandLine, catch_run, playfield
from exact_models import Gaussian, Recorded
from numpy.typing import NDArray
from painted_runs import EVERY, STEPS, painted_run
from PIL import Image, ImageSequence

from playfield.commands.sample_outputs import columns_for
from playfield.commands.sample_requests import read_classes, read_known, read_seeds
from playfield.commands.sample_task import Task, painted
from playfield.errors import UserError
from playfield.generative.datasets.opening import open_data
from playfield.generative.model import DenoisingModel
from playfield.generative.noise import image_noise
from playfield.generative.objective import ImageSpec
from playfield.generative.pixels import to_bytes
from playfield.generative.sampling import SamplerConfig, paint
from playfield.generative.saved_painter import load_painter

__all__ = ["catch_run", "playfield"]  # fixtures

QUICK = ("--steps", "2", "--threads", "1", "--device", "cpu")
CELL = 66  # an image of 8 pixels is 64 wide in a grid, and the gap is 2
DIGITS = ImageSpec(1, 8, 8, tuple(str(digit) for digit in range(10)))


@pytest.fixture
def trained(playfield: CommandLine) -> Path:
    """The diffusion run, as a copy that the test may write in."""
    folder = playfield.root / "digits"
    shutil.copytree(painted_run("diffusion"), folder)
    return folder


class Sample:
    """Calls `playfield sample`, and reads what it wrote as arrays."""

    def __init__(self, playfield: CommandLine, folder: Path) -> None:
        self.playfield, self._folder, self._count = playfield, folder, 0

    def __call__(self, run: Path | str, *args: str) -> dict[str, NDArray[Any]]:
        self._count += 1
        out = self._folder / f"{self._count}.npz"
        result = self.playfield("sample", str(run), *QUICK, *args, "--out", str(out))
        assert result.code == 0, result
        with np.load(out) as file:
            return dict(file)


@pytest.fixture
def sample(playfield: CommandLine, tmp_path: Path) -> Sample:
    return Sample(playfield, tmp_path)


def tile(path: Path, row: int, column: int) -> NDArray[np.uint8]:
    """An image of 8x8 out of a grid."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("L"))
    top, left = 2 + row * CELL, 2 + column * CELL
    return pixels[top : top + 64 : 8, left : left + 64 : 8]


def alone(run: Path, seed: int, label: int, **settings: Any) -> NDArray[np.uint8]:
    """The image that the Python functions paint."""
    model = load_painter(run, device="cpu")
    image = paint(model, SamplerConfig(**settings), [seed], torch.tensor([label]))
    return to_bytes(image)[0, 0].numpy()


# --- what is painted ------------------------------------------------------------------------------


def test_without_options_64_images_show_the_classes_in_turn(
    playfield: CommandLine, trained: Path
) -> None:
    result = playfield("sample", "digits", *QUICK)
    assert result.code == 0, result
    picture = trained / "samples" / f"{STEPS:012d}-heun.png"
    # A column for each of ten classes, so seven rows.
    with Image.open(picture) as opened:
        assert opened.size == (10 * CELL + 2, 7 * CELL + 2)
    np.testing.assert_array_equal(tile(picture, 1, 7), alone(trained, 17, 7, steps=2))
    assert result.out.startswith("64 images by heun, 2 steps, 3 network calls each (NFE), ")
    assert result.out.endswith(f" images/s, written to {picture}\n")


def test_an_image_follows_from_its_seed_whatever_it_is_painted_with(sample: Sample) -> None:
    run = painted_run("diffusion")
    together = sample(run, "-n", "12", "--batch-size", "5", "--churn", "1")
    apart = sample(run, "--seeds", "9-10,4", "--batch-size", "1", "--churn", "1")
    assert apart["seeds"].tolist() == [9, 10, 4]
    assert apart["labels"].tolist() == [9, 0, 4]
    np.testing.assert_array_equal(apart["images"], together["images"][[9, 10, 4]])
    assert len(np.unique(together["images"], axis=0)) == 12


def test_classes_are_taken_in_turn_where_they_are_asked_for(sample: Sample) -> None:
    run = painted_run("diffusion")
    assert sample(run, "-n", "5", "--classes", "7,2")["labels"].tolist() == [7, 2, 7, 2, 7]
    everything = sample(run, "--seeds", "3,3,3", "--classes", "all")
    assert everything["labels"].tolist() == [0, 1, 2]
    assert len(np.unique(everything["images"], axis=0)) == 3
    assert "labels" not in sample(run, "-n", "2", "--classes", "none")
    assert "labels" not in sample(painted_run("unlabelled"), "-n", "2")


@pytest.mark.parametrize(
    ("run", "sampler"), [("diffusion", "heun"), ("flow", "flow-midpoint"), ("unlabelled", "ddim")]
)
def test_each_family_has_a_sampler_that_suits_it(
    playfield: CommandLine, tmp_path: Path, run: str, sampler: str
) -> None:
    out = str(tmp_path / "grid.png")
    result = playfield("sample", str(painted_run(run)), *QUICK, "-n", "2", "--out", out)
    assert f"2 images by {sampler}, 2 steps" in result.out


def test_without_a_number_of_steps_a_short_schedule_is_gone_down_whole(
    playfield: CommandLine, tmp_path: Path
) -> None:
    paths = save(tmp_path, np.zeros((8, 8), np.uint8), np.full((8, 8), 255, np.uint8))
    args = ("--device", "cpu", "--threads", "1", "-n", "1", "--out", str(tmp_path / "grid.png"))
    run = str(painted_run("unlabelled"))  # of 20 steps
    assert "ddim, 20 steps, 20 network calls" in playfield("sample", run, *args).out
    around = playfield("sample", run, *args, "--inpaint", *paths, "--resamples", "2")
    assert "inpaint, 20 steps, 39 network calls" in around.out


def test_an_earlier_checkpoint_paints_other_images(sample: Sample) -> None:
    run = painted_run("diffusion")
    early = sample(run, "-n", "2", "--checkpoint", str(EVERY))
    assert (early["images"] != sample(run, "-n", "2")["images"]).any()


def test_interpolation_begins_and_ends_with_the_images_of_two_seeds(
    sample: Sample, playfield: CommandLine, tmp_path: Path
) -> None:
    run = painted_run("diffusion")
    between = sample(run, "--interpolate", "3", "8", "-n", "5", "--batch-size", "2")
    assert between["labels"].tolist() == [3] * 5
    np.testing.assert_array_equal(between["images"][0], alone(run, 3, 3, steps=2))
    np.testing.assert_array_equal(between["images"][-1], alone(run, 8, 3, steps=2))
    film = tmp_path / "between.gif"
    args = ("--interpolate", "3", "8", "--classes", "5", "-n", "4", "--out", str(film))
    assert playfield("sample", str(run), *QUICK, *args).code == 0
    with Image.open(film) as opened:
        assert opened.n_frames == 4


def test_inpainting_keeps_what_is_black_in_the_mask(sample: Sample, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    known = rng.integers(0, 256, (8, 8), np.uint8)
    mask = np.zeros((8, 8), np.uint8)
    mask[2:5, 3:] = 255
    paths = save(tmp_path, known, mask)
    images = sample(painted_run("flow"), "--inpaint", *paths, "-n", "3", "--resamples", "2")
    assert "labels" not in images
    np.testing.assert_array_equal(images["images"][:, mask == 0], np.stack([known[mask == 0]] * 3))
    assert (np.ptp(images["images"][:, mask > 0].astype(int), axis=0) > 0).any()


def save(folder: Path, image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> tuple[str, str]:
    for name, pixels in (("image", image), ("mask", mask)):
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return str(folder / "image.png"), str(folder / "mask.png")


def test_a_mask_s_white_is_what_is_painted(tmp_path: Path) -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[0, 0], mask[0, 1] = 128, 127
    paths = save(tmp_path, np.full((8, 8), 255, np.uint8), mask)
    known, standing = read_known(Path(paths[0]), Path(paths[1]), DIGITS)
    assert known.shape == (1, 8, 8) and (known == 1).all()
    assert (~standing).nonzero().tolist() == [[0, 0]]


def test_all_of_autoguidance_s_weight_on_the_guide_is_the_guide(sample: Sample) -> None:
    # guide + 0 * (model - guide)
    run = painted_run("diffusion")
    guided = sample(run, "-n", "2", "--autoguide", f"{run}:{EVERY}", "--guidance", "0")
    guide = sample(run, "-n", "2", "--checkpoint", str(EVERY))
    np.testing.assert_array_equal(guided["images"], guide["images"])
    further = sample(run, "-n", "2", "--autoguide", f"{run}:{EVERY}", "--guidance", "3")
    assert (further["images"] != sample(run, "-n", "2")["images"]).any()


def test_the_newest_weights_and_averages_of_any_width_paint_too(sample: Sample) -> None:
    run = painted_run("diffusion")
    ways = [sample(run, "-n", "3", "--weights", way) for way in ("averaged", "newest", "0.2")]
    assert len(np.unique(np.stack([way["images"] for way in ways]), axis=0)) == 3


# --- network calls --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "around"),
    [
        (SamplerConfig("heun", 4), False),
        (SamplerConfig("ddim", 5), False),
        (SamplerConfig("heun", 3, guidance=2.0), False),
        (SamplerConfig("euler", 3, guidance=0.0), False),
        (SamplerConfig(steps=4), True),
        (SamplerConfig(steps=4, guidance=1.5), True),
    ],
)
def test_network_calls_are_those_that_are_made(config: SamplerConfig, around: bool) -> None:
    asked = Recorded(Gaussian().denoiser)
    model = DenoisingModel(
        family="edm",
        spec=ImageSpec(1, 2, 2, ("a", "b")),
        denoiser=asked,
        sigma_min=0.002,
        sigma_max=80.0,
    )
    known, standing = torch.zeros(1, 2, 2), torch.tensor([[True, False], [False, False]])
    place = {"known": known, "standing": standing, "resamples": 3} if around else {}
    task = Task(model, config, [5, 6, 7], torch.tensor([0, 1, 0]), **place)
    done: list[int] = []
    images = np.concatenate(list(painted(task, 2, done.append)))
    assert images.shape == (3, 1, 2, 2) and images.dtype == np.uint8
    assert sum(asked.batches) == 3 * task.network_calls
    assert done[0] == 0 and done[-1] == 3 and done == sorted(done)


# --- where it is written --------------------------------------------------------------------------


def test_arrays_are_read_back_as_a_data_set(
    sample: Sample, tmp_path: Path, playfield: CommandLine
) -> None:
    made = sample(painted_run("diffusion"), "-n", "12")
    data = open_data(f"npz:{tmp_path / '1.npz'}")
    np.testing.assert_array_equal(data.images()[:, 0], made["images"])
    assert data.labels().tolist() == [*range(10), 0, 1]
    assert data.spec == DIGITS


def test_a_folder_holds_a_picture_of_each_image(
    sample: Sample, playfield: CommandLine, tmp_path: Path
) -> None:
    run, out = painted_run("diffusion"), tmp_path / "new" / "pictures"
    args = ("sample", str(run), *QUICK, "--seeds", "12,3", "--batch-size", "1", "--out", f"{out}/")
    assert playfield(*args).code == 0
    names = sorted(path.name for path in out.iterdir())
    assert names == ["000000-seed12-class2.png", "000001-seed3-class3.png"]
    made = sample(run, "--seeds", "12,3")["images"]
    for name, image in zip(names, made, strict=True):
        with Image.open(out / name) as picture:
            np.testing.assert_array_equal(np.asarray(picture), image)
    assert "is not empty" in playfield.refuses(*args)


def test_a_film_leads_from_noise_to_the_images(playfield: CommandLine, tmp_path: Path) -> None:
    film, grid = tmp_path / "film.png", tmp_path / "grid.png"
    args = ("-n", "4", "--classes", "1", "--steps", "4", "--batch-size", "3", "--threads", "1")
    files = ("--trajectory", str(film), "--out", str(grid))
    assert playfield("sample", str(painted_run("diffusion")), *args, *files).code == 0
    with Image.open(film) as opened:
        pictures = [np.asarray(frame.convert("L")) for frame in ImageSequence.Iterator(opened)]
    with Image.open(grid) as opened:
        end = np.asarray(opened.convert("L"))
    # The noise of seed 3, at EDM's first level of 80 and scaled to unit variance there.
    noise = image_noise([3], (1, 8, 8)) * 80 / (1 + 80**2) ** 0.5
    shown = enlarged(pictures[0], end)[CELL + 2 : -2 : 8, CELL + 2 : 2 * CELL : 8]
    np.testing.assert_array_equal(shown, to_bytes(noise)[0, 0].numpy())
    last = enlarged(pictures[-1], end)
    np.testing.assert_array_equal(last, np.concatenate([end, end], axis=1))
    assert len(pictures) >= 4  # of pictures that are alike Pillow keeps one


def enlarged(picture: NDArray[np.uint8], grid: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A film's picture at the size of the grids: films of few pixels are made larger."""
    return picture[:: len(picture) // len(grid), :: len(picture) // len(grid)]


def test_a_terminal_shows_some_of_the_images(
    playfield: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    args = ("sample", str(painted_run("flow")), *QUICK, "--out", str(tmp_path / "grid.png"))
    assert "▀" not in playfield(*args).out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert "▀" in playfield(*args).out


@pytest.mark.parametrize(
    ("labels", "columns"),
    [
        ([0, 1, 2, 0, 1], 3),
        ([4, 2, 4, 2], 2),
        ([0, 1, 2, 0, 2], None),
        ([5] * 9, None),
        ([-1] * 9, None),
        (list(range(40)), None),
    ],
)
def test_a_grid_has_a_column_for_each_class_that_comes_in_turn(
    labels: list[int], columns: int | None
) -> None:
    assert columns_for(labels) == columns


# --- what a user can get wrong --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0-3", [0, 1, 2, 3]), ("3,5,9-12", [3, 5, 9, 10, 11, 12]), ("7", [7]), ("4, 4", [4, 4])],
)
def test_a_list_of_seeds_counts_both_ends_of_a_range(text: str, seeds: list[int]) -> None:
    assert read_seeds(text) == seeds


@pytest.mark.parametrize(
    "text", ["", "a", "1,,2", "5-3", "-1", "1-", "1.5", "4294967296", "0-4000000000", "0-999999,7"]
)
def test_what_is_no_list_of_seeds_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--seeds"):
        read_seeds(text)


def test_a_class_is_meant_by_its_name_before_its_number() -> None:
    spec = ImageSpec(1, 8, 8, ("1", "0", "a, b", "all cats"))
    assert read_classes("1,0,2", spec) == [0, 1, 2]
    assert read_classes("a, b", spec) == [2]
    assert read_classes("all", spec) == [0, 1, 2, 3]
    assert read_classes("none,1", spec) == [-1, 0]
    with pytest.raises(UserError, match=r"did you mean all cats\?"):
        read_classes("all cat", spec)


@pytest.mark.parametrize(
    ("run", "args", "said"),
    [
        ("diffusion", ("--seeds", "one"), "--seeds has to be a list"),
        ("diffusion", ("--seeds", "1-3", "-n", "4"), "3 images and --number says 4"),
        ("diffusion", ("-n", "0"), "--number has to lie between 1"),
        ("diffusion", ("--batch-size", "0"), "--batch-size"),
        ("diffusion", ("--classes", "10"), "There is no class '10'"),
        ("diffusion", ("--classes", "3,thre"), "There is no class 'thre'"),
        ("diffusion", ("--sampler", "flow-heun"), "does not fit a model of the edm family"),
        ("diffusion", ("--sampler", "huen"), "--sampler"),
        ("flow", ("--sampler", "consistency"), "does not fit a model of the flow family"),
        ("flow", ("--churn", "3"), "churn is a setting of the sampler heun or euler"),
        ("flow", ("--weights", "0.1"), "no snapshots"),
        ("diffusion", ("--weights", "old"), "weights have to be averaged, newest"),
        ("diffusion", ("--weights", "0.9"), "sigma_rel"),
        ("diffusion", ("--steps", "0"), "steps has to be 1 or more"),
        ("diffusion", ("--checkpoint", "5"), "has no checkpoint '5'"),
        ("unlabelled", ("--guidance", "2"), "needs a model that was trained with labels"),
        ("unlabelled", ("--classes", "1"), "--classes needs a model that was trained with labels"),
        ("unlabelled", ("--sampler", "ddim", "--steps", "21"), "steps has to be 20 or less"),
        ("diffusion", ("--out", "grid.jpg"), "--out ends in .png"),
        ("diffusion", ("--out", "missing/grid.png"), "cannot be written"),
        ("diffusion", ("--out", "missing/images.npz"), "cannot be written"),
        ("diffusion", ("--out", "file/in/"), "cannot be written"),
        ("diffusion", ("--out", "film.gif"), "--out is a film with --interpolate only"),
        ("diffusion", ("--trajectory", "film.avi"), "a video's name ends in .mp4"),
        ("diffusion", ("--trajectory", "missing/film.gif"), "cannot be written"),
        ("diffusion", ("--trajectory", "a.png", "--out", "a.png"), "name two files"),
        ("diffusion", ("--interpolate", "1"), "two seeds, such as 3 8, not 1"),
        ("diffusion", ("--interpolate", "1", "2", "3"), "two seeds, such as 3 8, not 1 2 3"),
        ("diffusion", ("--interpolate", "1", "x"), "--interpolate"),
        ("diffusion", ("--interpolate", "1", "2", "-n", "1"), "--number has to lie between 2"),
        ("diffusion", ("--interpolate", "1", "2", "--seeds", "4"), "leave --seeds out"),
        ("diffusion", ("--interpolate", "1", "2", "--classes", "1,2"), "images of one class"),
        ("diffusion", ("--interpolate", "1", "5000000000"), "A seed has to lie in"),
        ("diffusion", ("--resamples", "3"), "--resamples is of --inpaint"),
        ("diffusion", ("--autoguide", "nobody", "--guidance", "2"), "There is no run 'nobody'"),
    ],
)
def test_what_a_user_can_get_wrong_is_one_sentence_before_anything_is_painted(
    playfield: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    run: str,
    args: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("playfield.commands.sample_task.paint", no_painting)
    (tmp_path / "file").touch()
    shutil.copytree(painted_run(run), tmp_path / "run")
    before = sorted(tmp_path.iterdir())
    assert said in playfield.refuses("sample", "run", "--device", "cpu", "--threads", "1", *args)
    assert sorted(tmp_path.iterdir()) == before


def no_painting(*args: Any, **more: Any) -> torch.Tensor:
    raise AssertionError("painted before it was refused")


def test_autoguidance_wants_a_worse_model_of_the_same_images(playfield: CommandLine) -> None:
    run, flow, unlabelled = map(painted_run, ("diffusion", "flow", "unlabelled"))

    def refused(guide: str, guidance: str = "2") -> str:
        return playfield.refuses(
            "sample", str(run), *QUICK, "--autoguide", guide, "--guidance", guidance
        )

    assert "does nothing at --guidance 1" in refused(f"{run}:{EVERY}", "1")
    assert f"an earlier checkpoint ({run}:{EVERY})" in refused(str(run))
    assert "is the model itself" in refused(f"{run}:{STEPS}")
    assert "of the flow family" in refused(str(flow))
    assert "of the ddpm family" in refused(str(unlabelled))


def test_a_mask_and_an_image_that_do_not_fit_are_refused(
    playfield: CommandLine, tmp_path: Path
) -> None:
    run = str(painted_run("diffusion"))
    black, white = np.zeros((8, 8), np.uint8), np.full((8, 8), 255, np.uint8)

    def refused(image: NDArray[np.uint8], mask: NDArray[np.uint8], *args: str) -> str:
        return playfield.refuses(
            "sample", run, *QUICK, "--inpaint", *save(tmp_path, image, mask), *args
        )

    assert "8x9 pixels of 1 channel; the model paints 8x8" in refused(
        np.ones((9, 8), np.uint8), white
    )
    assert "8x8 pixels of 3 channels" in refused(np.zeros((8, 8, 3), np.uint8), white)
    assert "mask.png has 4x8 pixels" in refused(black, white[:, :4])
    assert "no white pixel" in refused(black, black)
    assert "does not paint around what is known" in refused(black, white, "--sampler", "heun")
    assert "eta is a setting of the sampler ddim" in refused(black, white, "--eta", "1")
    assert "choose one" in refused(black, white, "--interpolate", "1", "2")
    assert "--resamples has to be 1" in refused(black, white, "--resamples", "0")
    (tmp_path / "noise.png").write_bytes(b"no picture")
    image = str(tmp_path / "image.png")
    args = ("sample", run, *QUICK, "--inpaint", image)
    assert "is no image" in playfield.refuses(*args, str(tmp_path / "noise.png"))
    assert "missing.png can't be read" in playfield.refuses(*args, str(tmp_path / "missing.png"))
    assert "an image and a mask, not" in playfield.refuses(*args)


def test_a_run_without_a_model_that_paints_is_refused(
    playfield: CommandLine, catch_run: Path, trained: Path
) -> None:
    assert "plays and does not paint" in playfield.refuses("sample", "catch")
    assert "did you mean digits?" in playfield.refuses("sample", "digit")
    shutil.rmtree(trained / "checkpoints")
    assert "has no checkpoint" in playfield.refuses("sample", "digits")


def test_a_damaged_checkpoint_is_passed_over_and_told(
    playfield: CommandLine, trained: Path
) -> None:
    newest = trained / "checkpoints" / f"{STEPS:012d}" / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    result = playfield("sample", "digits", *QUICK, "-n", "1")
    assert result.code == 0 and f"Passing over checkpoint {STEPS:012d}" in result.err
    assert f"{EVERY:012d}-heun.png" in result.out
