"""Scatter plots of points: where a point's dot is, and when there is one in place of a grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from playfield.commands.preview import preview
from playfield.commands.sample_outputs import write_film
from playfield.evaluation.grids import BACKGROUND, grid
from playfield.evaluation.pictures import picture_of
from playfield.evaluation.scatter import AXES, MOST, ONE, are_points, scatter


def points(*places: tuple[int, int]) -> NDArray[np.uint8]:
    return np.array(places, np.uint8).reshape(-1, 2, 1, 1)


def dots(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey `[256, 256]` of every byte's square, 0 where no dot is; checks that squares are flat."""
    assert picture.shape == (512, 512, 3) and picture.dtype == np.uint8
    assert np.array_equal(picture, np.repeat(picture[:, :, :1], 3, axis=2))
    squares = picture[:, :, 0].reshape(256, 2, 256, 2).transpose(0, 2, 1, 3).reshape(256, 256, 4)
    dotted = squares.min(axis=2) >= ONE
    assert np.array_equal(squares.min(axis=2)[dotted], squares.max(axis=2)[dotted])
    return np.where(dotted, squares[:, :, 0], 0)


def test_a_point_is_a_dot_to_the_right_by_x_and_up_by_y() -> None:
    shown = dots(scatter(points((200, 30))))
    rows, columns = np.nonzero(shown)
    assert sorted(set(columns.tolist())) == [199, 200, 201]
    assert sorted(set(rows.tolist())) == [255 - 31, 255 - 30, 255 - 29]
    assert len(rows) == 9 and np.all(shown[rows, columns] == ONE)


def test_dots_in_the_corners_are_cut_and_no_byte_is_left_out() -> None:
    shown = dots(scatter(points((0, 0), (255, 255), (0, 255), (255, 0))))
    assert (shown > 0).sum() == 4 * 4
    assert all(shown[row, column] for row in (0, -1) for column in (0, -1))


def test_axes_cross_between_the_two_middle_bytes() -> None:
    picture = scatter(points((10, 10)))[:, :, 0]
    row = picture[100]
    assert np.flatnonzero(row == AXES).tolist() == [255, 256]
    assert np.array_equal(picture.T[100], row)
    assert set(np.delete(row, [255, 256]).tolist()) == {BACKGROUND}


def test_a_dot_is_brighter_where_more_points_lie_and_one_is_still_seen() -> None:
    heap = [(50, 50)] * 1000 + [(100, 100)] * 30 + [(200, 200)]
    shown = dots(scatter(points(*heap)))
    most, some, one = shown[255 - 50, 50], shown[255 - 100, 100], shown[255 - 200, 200]
    assert (most, one) == (MOST, ONE)
    # In the logarithm 30 of 1000 are about the middle.
    assert some == pytest.approx((MOST + ONE) / 2, abs=5)


def test_only_pairs_of_numbers_are_points() -> None:
    assert are_points((2, 1, 1))
    for shape in ((1, 1, 1), (2, 2, 1), (3, 1, 1), (2,)):
        images = np.zeros((3, *shape), np.uint8)
        assert not are_points(shape)
        with pytest.raises(ValueError, match="points"):
            scatter(images)
    with pytest.raises(ValueError, match="float32"):
        scatter(points((1, 2)).astype(np.float32))  # type: ignore[arg-type]


def test_a_picture_is_a_scatter_plot_of_points_and_a_grid_of_anything_else() -> None:
    some = points((1, 2), (3, 4))
    assert np.array_equal(picture_of(some, 2, captions=["a", "b"]), scatter(some))
    images = np.random.default_rng(0).integers(256, size=(5, 2, 3, 4), dtype=np.uint8)
    assert np.array_equal(
        picture_of(images, 2, scale=3, gap=1, captions=list("abcde")),
        grid(images, 2, scale=3, gap=1, captions=list("abcde")),
    )
    assert np.array_equal(picture_of(images), grid(images))


def test_a_terminal_shows_points_scattered() -> None:
    lines = preview(points((0, 0), (255, 255)), 80, 30)
    assert len(lines) == 24
    corner = f"\x1b[38;2;{BACKGROUND};{BACKGROUND};{BACKGROUND}m"
    assert lines[0].startswith(corner)  # the top left is empty


class Film:
    """Two moments of a film: noisy points, and where the model expects them."""

    def pairs(self):
        yield points((0, 0)), points((1, 1))
        yield points((2, 2)), points((3, 3))


class Pictures:
    def __init__(self) -> None:
        self.seen: list[NDArray[np.uint8]] = []

    def add(self, picture: NDArray[np.uint8]) -> None:
        self.seen.append(picture)


def test_a_film_of_points_moves_them_over_the_plane() -> None:
    writer = Pictures()
    write_film(writer, Film(), None, 0)  # type: ignore[arg-type]
    expected = np.concatenate([scatter(points((0, 0))), scatter(points((1, 1)))], axis=1)
    assert len(writer.seen) == 2 and np.array_equal(writer.seen[0], expected)


def test_sampled_points_are_written_as_one_scatter_plot(tmp_path: Path) -> None:
    from contextlib import ExitStack

    from playfield.commands.sample_outputs import open_output

    some = points((10, 20), (30, 40))
    with ExitStack() as stack:
        output = open_output(str(tmp_path / "some.png"), 2, [0, 1], [-1, -1], stack)
        output.add(some[:1])
        output.add(some[1:])
        output.finish()
        film = open_output(str(tmp_path / "some.gif"), 2, [0, 1], [-1, -1], stack)
        film.add(some)
        film.finish()
    with Image.open(tmp_path / "some.png") as opened:
        assert np.array_equal(np.asarray(opened), scatter(some))
    with Image.open(tmp_path / "some.gif") as opened:
        assert opened.size == (512, 512)
        assert np.array_equal(np.asarray(opened.convert("RGB")), scatter(some[:1]))
