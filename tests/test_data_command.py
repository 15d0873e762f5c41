"""`playfield data`: the numbers it prints, its sheet, and what it says of damage."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from command_line import CommandLine, playfield
from numpy.typing import NDArray
from PIL import Image

from playfield.commands.data import Statistics, lines, preview, spread, statistics
from playfield.evaluation.scatter import scatter
from playfield.generative.datasets.opening import open_data
from playfield.generative.images import images_from_arrays

__all__ = ["playfield"]  # a fixture


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Seven pictures of two classes, 12 wide and 8 high; two are alike."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    for name, count in {"cats": 4, "dogs": 3}.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            save(
                folder / name / f"{number}.png", rng.integers(256, size=(8, 12, 3), dtype=np.uint8)
            )
    save(folder / "cats" / "copy.png", np.asarray(Image.open(folder / "cats" / "0.png")))
    return folder


def save(path: Path, pixels: NDArray[np.uint8]) -> None:
    Image.fromarray(pixels).save(path)


def test_the_summary_counts_what_is_there(playfield: CommandLine, pictures: Path) -> None:
    result = playfield("data", f"folder:{pictures}")
    assert result.code == 0, result
    assert f"data          folder:{pictures}" in result.out
    assert "8 of 8x12 pixels, rgb" in result.out
    assert "2: cats (5), dogs (3)" in result.out
    assert "1 images are copies of another" in result.out
    assert "damaged" not in result.out
    assert "▀" not in result.out  # no pictures in a pipe


def test_statistics_are_those_of_the_pixels() -> None:
    images = np.random.default_rng(1).integers(7, 250, size=(2500, 3, 4, 5), dtype=np.uint8)
    images[17] = images[3]
    images[2400] = images[3]
    found = statistics(images_from_arrays("some", images))
    assert found.repeated == 2
    assert found.lowest == tuple(images.min((0, 2, 3)))
    assert found.highest == tuple(images.max((0, 2, 3)))
    np.testing.assert_allclose(found.mean, images.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(found.deviation, images.std((0, 2, 3)), rtol=1e-9)


def test_channels_that_differ_are_each_told_and_equal_ones_once() -> None:
    images = np.zeros((2, 3, 4, 4), np.uint8)
    images[:, 0] = 10
    data = images_from_arrays("some", images)
    report = "\n".join(lines(data, statistics(data)))
    assert "10 / 0 / 0 to 10 / 0 / 0, mean 10.0 / 0.0 / 0.0, standard deviation 0.0" in report


def test_images_without_a_label_and_classes_without_an_image_are_told() -> None:
    images = np.zeros((4, 1, 2, 2), np.uint8)
    data = images_from_arrays("some", images, np.array([1, -1, 1, 2]), ("a", "b", "c"))
    report = "\n".join(lines(data, statistics(data)))
    assert "3: a (0), b (2), c (1); 1 images without a label" in report


def test_of_many_classes_the_first_twenty_are_named() -> None:
    images = np.zeros((30, 1, 2, 2), np.uint8)
    names = tuple(f"class{number}" for number in range(30))
    data = images_from_arrays("some", images, np.arange(30), names)
    report = "\n".join(lines(data, Statistics((0,), (0,), (0.0,), (0.0,), 0)))
    assert "class19 (1) and 10 more" in report and "class20" not in report


def test_two_data_sets_have_one_fingerprint_only_if_they_are_alike(
    playfield: CommandLine, pictures: Path
) -> None:
    def fingerprint(*args: str) -> str:
        return playfield("data", f"folder:{pictures}", *args).out.split()[-1]

    first = fingerprint()
    assert len(first) == 64 and fingerprint() == first
    assert fingerprint("--resize", "8") != first
    (pictures / "dogs" / "0.png").rename(pictures / "cats" / "dog.png")
    assert fingerprint() != first


def test_damaged_files_are_named_and_counted_and_strict_stops_at_the_first(
    playfield: CommandLine, pictures: Path
) -> None:
    (pictures / "cats" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (pictures / "dogs" / "empty.png").touch()
    result = playfield("data", f"folder:{pictures}")
    assert result.code == 0, result
    assert "2 files were left out" in result.out
    assert "broken.png" in result.out and "empty.png" in result.out
    assert "broken.png" in playfield.refuses("data", f"folder:{pictures}", "--strict")


def test_the_sheet_shows_images_spread_over_the_data_set(
    playfield: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    sheet = tmp_path / "sheet.png"
    result = playfield("data", f"folder:{pictures}", "--out", str(sheet), "-n", "4")
    assert result.code == 0 and f"{sheet}: 4 of the images" in result.out
    with Image.open(sheet) as opened:
        shown = np.asarray(opened)
    # Images are 8 pixels high, so each pixel becomes 8 by 8; the gap is 2.
    first = np.asarray(Image.open(pictures / "cats" / "0.png"))
    np.testing.assert_array_equal(shown[2:66:8, 2:98:8], first)
    assert shown.shape[1] == 2 * (96 + 2) + 2
    assert shown.shape[0] > 2 * (64 + 2) + 2  # the names of the classes


def test_a_sheet_has_no_more_images_than_there_are(
    playfield: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    result = playfield("data", f"folder:{pictures}", "--out", str(tmp_path / "s.png"))
    assert "8 of the images" in result.out


@pytest.mark.parametrize(
    ("count", "number", "expected"),
    [(10, 4, [0, 3, 6, 9]), (3, 64, [0, 1, 2]), (100, 1, [0]), (1, 1, [0])],
)
def test_images_are_chosen_at_even_distances(count: int, number: int, expected: list[int]) -> None:
    assert spread(count, number).tolist() == expected


@pytest.mark.parametrize("side", [8, 28, 64, 200])
@pytest.mark.parametrize("size", [(80, 24), (200, 60), (20, 5)])
def test_the_preview_fits_the_terminal(side: int, size: tuple[int, int]) -> None:
    images = np.full((40, 1, side, side), 9, np.uint8)
    shown = preview(images_from_arrays("some", images), 40, *size)
    assert 1 <= len(shown) <= size[1]
    assert all(line.count("▀") <= size[0] for line in shown)


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are POSIX")
def test_a_terminal_shows_a_few_of_the_images(
    playfield: CommandLine, monkeypatch: pytest.MonkeyPatch, pictures: Path
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert "▀" in playfield("data", f"folder:{pictures}").out


def test_the_sheet_of_points_is_a_scatter_plot_of_all_of_them(
    playfield: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sheet = tmp_path / "sheet.png"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    result = playfield("data", "gaussians:25,count=500", "--out", str(sheet))
    assert result.code == 0 and "x and y of points in the plane" in result.out
    assert "▀" in result.out and "500 of the images" in result.out
    with Image.open(sheet) as opened:
        shown = np.asarray(opened)
    codes = open_data("gaussians:25,count=500").images()
    assert np.array_equal(shown, scatter(codes))


def test_the_kinds_of_data_are_listed_with_a_line_each(playfield: CommandLine) -> None:
    shown = playfield("list", "data").out.splitlines()
    kinds = "digits atari replay folder zip idx cifar npz mnist gaussians"
    for kind in kinds.split():
        assert any(line.startswith(kind) for line in shown), kind
    everything = playfield("list").out
    assert "\ndata\n" in everything and "fashion-mnist" in everything


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "data"),
        (("nothing",), "'nothing'"),
        (("folder:missing",), "missing"),
        (("digits", "--number", "0"), "--number"),
        (("digits", "--out", "sheet.jpg"), ".png"),
        (("digits", "--resize", "0"), "resize"),
        (("digits", "--resize", "many"), "--resize"),
        (("digits", "--channels", "cmyk"), "--channels"),
        (("digits", "--placement", "tape"), "tape"),
        (("digits", "--strickt"), "--strict"),
        (("folder:.,size=none",), "size=none"),
    ],
)
def test_what_a_user_can_get_wrong_is_one_sentence(
    playfield: CommandLine, tmp_path: Path, args: tuple[str, ...], said: str
) -> None:
    assert said in playfield.refuses("data", *args)


def test_an_unwritable_sheet_is_told(
    playfield: CommandLine, tmp_path: Path, pictures: Path
) -> None:
    out = str(tmp_path / "missing" / "sheet.png")
    assert "cannot be written" in playfield.refuses("data", f"folder:{pictures}", "--out", out)
