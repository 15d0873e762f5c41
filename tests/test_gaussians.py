"""The worlds of points around 8 or 25 centres, and how their coverage is counted."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from playfield.errors import UserError
from playfield.generative.datasets.gaussians import (
    LEAST_STD,
    MOST_STD,
    STD,
    covered_modes,
    draw_points,
    modes,
)
from playfield.generative.datasets.opening import open_data
from playfield.generative.datasets.options import DataOptions
from playfield.generative.networks import SIZES, build_network

WORLDS = pytest.mark.parametrize("n", [8, 25])


def points_of(spec: str) -> np.ndarray:
    """Its points `[N, 2]` in signal coordinates."""
    return open_data(spec).images()[:, :, 0, 0] / 127.5 - 1


def test_the_ring_is_a_ring_and_the_grid_a_grid() -> None:
    ring = modes(8)
    assert np.hypot(*ring.T) == pytest.approx([0.75] * 8)
    assert ring[0].tolist() == [0.75, 0]
    assert ring[1] == pytest.approx([0.75 * math.sqrt(0.5)] * 2)
    assert ring[:4] == pytest.approx(-ring[4:])
    grid = modes(25)
    assert grid[0].tolist() == [-0.8, -0.8] and grid[1].tolist() == [-0.4, -0.8]
    assert sorted(map(tuple, grid.tolist())) == sorted(
        (x, y) for x in (-0.8, -0.4, 0, 0.4, 0.8) for y in (-0.8, -0.4, 0, 0.4, 0.8)
    )
    with pytest.raises(ValueError, match="n=9"):
        modes(9)


@WORLDS
def test_modes_stay_apart_and_inside_at_the_greatest_width(n: int) -> None:
    centres = modes(n)
    apart = np.linalg.norm(centres[:, None] - centres, axis=2)[~np.eye(n, dtype=bool)]
    assert apart.min() > 6 * MOST_STD  # no point is within three deviations of two
    assert abs(centres).max() + 3 * MOST_STD < 1


@WORLDS
def test_bytes_are_fine_beside_a_mode(n: int) -> None:
    """The error of rounding to 256 codes, and what it does to a mode's width."""
    exact, label = draw_points(n, 1000, STD, 5)
    images = open_data(f"gaussians:{n},count=1000,seed=5")
    error = images.images()[:, :, 0, 0] / 127.5 - 1 - exact
    assert abs(error).max() <= 0.5 / 127.5 + 1e-12
    assert error.std() == pytest.approx(1 / 127.5 / math.sqrt(12), rel=0.05)
    assert math.hypot(STD, error.std()) / STD < 1.004
    assert np.array_equal(images.labels(), label)


@WORLDS
def test_points_are_normal_around_the_mode_that_labels_them(n: int) -> None:
    points, label = draw_points(n, 20_000, 0.05, 1)
    z = (points - modes(n)[label]) / 0.05  # [N, 2]
    assert abs(z.mean(axis=0)).max() < 4 / math.sqrt(20_000)
    assert np.cov(z.T) == pytest.approx(np.eye(2), abs=0.05)
    square = np.square(z).sum(axis=1)
    for radius in (1.0, 2.0, 3.0):
        inside = 1 - math.exp(-(radius**2) / 2)
        assert np.mean(square < radius**2) == pytest.approx(inside, abs=0.015)


@WORLDS
def test_every_mode_has_as_many_points(n: int) -> None:
    data = open_data(f"gaussians:{n},count={10 * n + 3}")
    counts = np.bincount(data.labels(), minlength=n)
    assert counts.tolist() == [11] * 3 + [10] * (n - 3)
    assert data.classes == tuple(map(str, range(n)))
    assert data.spec.shape == (2, 1, 1)
    # In a random order, so that a part of the set is one of every mode too.
    assert len(np.unique(data.labels()[: 4 * n])) > n // 2


def test_a_spec_says_everything_about_its_points() -> None:
    one = open_data("gaussians:8,seed=1,count=50")
    assert one.name == "gaussians:8,count=50,seed=1"
    assert open_data(one.name).fingerprint() == one.fingerprint()
    assert open_data("gaussians:8,count=50").fingerprint() != one.fingerprint()
    assert len(open_data("gaussians:25,count=1")) == 1
    near, far = (points_of(f"gaussians:8,count=50,std={std}") for std in (0.01, 0.06))
    assert covered_modes(near, modes(8), 0.01 + 0.5 / 127.5).share > 0.9
    assert covered_modes(far, modes(8), 0.01).share < 0.3


@WORLDS
def test_the_data_cover_themselves(n: int) -> None:
    coverage = covered_modes(points_of(f"gaussians:{n},count=5000"), modes(n))
    assert coverage.modes == n
    assert coverage.share == pytest.approx(1 - math.exp(-4.5), abs=0.006)


def test_a_point_counts_within_three_deviations_for_the_nearest_mode_only() -> None:
    centres = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    inside, outside = 0.3 - 1e-9, 0.3 + 1e-9
    points = np.array([[inside, 0], [0, inside], [-outside, 0], [1 + outside, 0], [0.5, 0.5]])
    assert covered_modes(points, centres, 0.1) == (1, 2 / 5)
    assert covered_modes(points[2:], centres, 0.1) == (0, 0.0)
    # Modes so near that a point is within three deviations of both: it counts for one.
    assert covered_modes(np.array([[0.4, 0.0]]), centres, 0.3) == (1, 1.0)
    assert covered_modes(centres[[1, 1, 2]], centres, 0.1) == (2, 1.0)
    with pytest.raises(ValueError, match="points"):
        covered_modes(np.zeros((0, 2)), centres, 0.1)


@pytest.mark.parametrize(
    ("spec", "options", "said"),
    [
        ("gaussians:9", DataOptions(), "gaussians:8 .a ring. or gaussians:25"),
        ("gaussians", DataOptions(), "gaussians:MODES"),
        ("gaussians:8,count=0", DataOptions(), "count=0"),
        ("gaussians:8,seed=-1", DataOptions(), "seed=-1"),
        ("gaussians:8,std=wide", DataOptions(), f"std=wide .* from {LEAST_STD} to {MOST_STD}"),
        ("gaussians:8,std=0.5", DataOptions(), "std=0.5"),
        ("gaussians:8,std=nan", DataOptions(), "std=nan"),
        ("gaussians:8,size=4", DataOptions(), "size"),
        ("gaussians:8", DataOptions(resize=8), "size"),
        ("gaussians:8", DataOptions(channels="rgb"), "2 channels can't become rgb"),
        ("gaussians:8,modes=8", DataOptions(), "no option 'modes'"),
    ],
)
def test_worlds_that_are_not_there_are_refused(spec: str, options: DataOptions, said: str) -> None:
    with pytest.raises(UserError, match=said):
        open_data(spec, options)


def test_a_unet_for_points_has_one_level() -> None:
    spec = open_data("gaussians:8,count=8").spec
    with pytest.raises(UserError, match="1x1 can be halved 0 times"):
        build_network(SIZES["tiny"], spec, torch.float32)
    network = build_network(replace(SIZES["tiny"], channel_mult=(1,)), spec, torch.float32)
    said = network(torch.zeros(3, 2, 1, 1), torch.zeros(3), torch.tensor([0, 7, -1]))
    assert said.shape == (3, 2, 1, 1)
