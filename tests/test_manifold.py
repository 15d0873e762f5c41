"""Precision, recall, density, coverage: a plain loop, sets whose answer is known, ties, copies."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from playfield.evaluation.distances import distance_blocks, neighbour_distances
from playfield.evaluation.manifold import Manifold, expected_coverage, manifold

Array = NDArray[np.float64]


def plain(real: Array, painted: Array, k_precision: int = 3, k_density: int = 5) -> Manifold:
    """The papers' definitions, pair by pair."""
    x, y = real.tolist(), painted.tolist()

    def square(a: list[float], b: list[float]) -> float:
        return math.fsum((p - q) ** 2 for p, q in zip(a, b, strict=True))

    def balls(points: list[list[float]], k: int) -> list[float]:
        return [
            sorted(square(p, q) for j, q in enumerate(points) if j != i)[k - 1]
            for i, p in enumerate(points)
        ]

    near_x, near_y, ball = balls(x, k_precision), balls(y, k_precision), balls(x, k_density)
    across = [[square(p, q) for q in y] for p in x]
    rows, columns = range(len(x)), range(len(y))
    return Manifold(
        precision=sum(any(across[i][j] <= near_x[i] for i in rows) for j in columns) / len(y),
        recall=sum(any(across[i][j] <= near_y[j] for j in columns) for i in rows) / len(x),
        density=sum(across[i][j] <= ball[i] for i in rows for j in columns) / (k_density * len(y)),
        coverage=sum(any(across[i][j] <= ball[i] for j in columns) for i in rows) / len(x),
    )


def normal(seed: int, rows: int, width: int, mean: float = 0.0) -> Array:
    return np.random.default_rng(seed).normal(mean, size=(rows, width))


def lattice(seed: int, rows: int) -> Array:
    """Points with many ties and copies, so far from 0 that products of them are rounded."""
    return np.random.default_rng(seed).integers(0, 3, size=(rows, 3)).astype(np.float64) + 2.0**27


@pytest.mark.parametrize(
    ("draw", "n", "m"), [(lambda s, n: normal(s, n, 4), 40, 25), (lattice, 30, 47)]
)
def test_agrees_with_a_loop_over_all_pairs(
    draw: Callable[[int, int], Array], n: int, m: int
) -> None:
    real, painted = draw(0, n), draw(1, m)
    assert manifold(real, painted) == plain(real, painted)


@pytest.mark.parametrize("block", [1, 90, 100_000])
def test_the_size_of_blocks_does_not_matter_to_the_bit(block: int) -> None:
    for real, painted in (
        (lattice(2, 60), lattice(3, 45)),
        (normal(4, 60, 7).astype(np.float32), normal(5, 45, 7).astype(np.float32)),
    ):
        assert manifold(real, painted, block=block) == manifold(real, painted)


def test_the_order_of_images_does_not_matter() -> None:
    real, painted = lattice(6, 50), lattice(7, 40)
    assert manifold(real[::-1], painted[::-1]) == manifold(real, painted)


def test_a_set_covers_itself() -> None:
    # Each point lies in its own ball, and on average in those of k others.
    points = normal(8, 80, 5)
    assert manifold(points, points) == Manifold(1.0, 1.0, pytest.approx(6 / 5), 1.0)


def test_sets_far_apart_share_nothing() -> None:
    assert manifold(normal(9, 30, 3), normal(10, 30, 3, mean=1e3)) == Manifold(0, 0, 0, 0)


def test_a_mode_left_out_costs_recall_and_coverage_and_no_precision() -> None:
    modes = np.repeat([[0.0, 0.0], [100.0, 0.0]], 200, axis=0)
    real = normal(11, 400, 2) + modes
    whole = manifold(real, normal(12, 400, 2) + modes)
    half = manifold(real, normal(12, 400, 2))
    assert half.precision > 0.95 * whole.precision > 0.9
    assert half.recall == pytest.approx(whole.recall / 2, abs=0.05)
    assert half.coverage == pytest.approx(whole.coverage / 2, abs=0.05)


def test_noise_beside_good_images_costs_precision_and_density_and_no_coverage() -> None:
    real, painted = normal(13, 400, 2), normal(14, 400, 2)
    noisy = np.concatenate([painted, normal(15, 400, 2, mean=100.0)])
    whole, half = manifold(real, painted), manifold(real, noisy)
    assert half.precision == pytest.approx(whole.precision / 2)
    assert half.density == pytest.approx(whole.density / 2)
    assert half.coverage == whole.coverage


def test_a_crowd_where_real_images_are_densest_has_a_density_above_1() -> None:
    # Six on a circle: the fifth neighbour is opposite, so every ball holds the centre.
    angle = np.arange(6) * np.pi / 3
    real = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    found = manifold(real, np.zeros((8, 2)))
    assert (found.density, found.coverage) == (6 / 5, 1)


def test_a_painted_outlier_makes_recall_perfect_and_moves_no_coverage() -> None:
    """Coverage has balls around real images alone (Naeem et al. 2020, section 3)."""
    real = normal(16, 100, 2)
    outlier = np.concatenate([normal(17, 99, 2, mean=50.0), [[0.0, 0.0]]])
    found = manifold(real, outlier)
    # The painted outlier's ball reaches to the far crowd and so holds every real image.
    assert found.recall == 1
    assert found.coverage < 0.1


def test_copies_have_balls_that_hold_copies_alone() -> None:
    real = np.repeat([[0.0], [5.0]], 6, axis=0)
    assert manifold(real, np.repeat([[0.0]], 6, axis=0)) == Manifold(1.0, 0.5, 6 / 5, 0.5)
    assert manifold(real, np.full((6, 1), 1e-9)) == Manifold(0, 0, 0, 0)


@pytest.mark.parametrize(("n", "m", "k"), [(30, 30, 5), (20, 60, 3)])
def test_new_images_of_the_same_kind_are_covered_as_expected(n: int, m: int, k: int) -> None:
    rng = np.random.default_rng(18)
    found = [
        manifold(rng.normal(size=(n, 3)), rng.normal(size=(m, 3)), density_k=k) for _ in range(300)
    ]
    coverage = np.array([each.coverage for each in found])
    error = coverage.std(ddof=1) / np.sqrt(len(coverage))
    assert coverage.mean() == pytest.approx(expected_coverage(n, m, k), abs=3 * error)
    # Of a ball's n - 1 neighbours and a painted image, that one is k-th or nearer k times out of n.
    density = np.array([each.density for each in found])
    error = density.std(ddof=1) / np.sqrt(len(density))
    assert density.mean() == pytest.approx(1, abs=3 * error)


def test_expected_coverage_by_hand() -> None:
    # Of two real images and a painted one, the painted one is as likely the nearest.
    assert expected_coverage(2, 1, k=1) == 1 / 2
    assert expected_coverage(10**6, 10**6) == pytest.approx(1 - 2**-5, abs=1e-5)


@pytest.mark.parametrize(
    ("real", "painted", "message"),
    [((5, 2), (9, 2), "ks="), ((9, 2), (3, 2), "ks="), ((9, 2), (9, 3), "painted: shape")],
)
def test_sets_that_do_not_fit_are_refused(
    real: tuple[int, int], painted: tuple[int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        manifold(np.zeros(real), np.zeros(painted))


# --- distances ------------------------------------------------------------------------------------


def test_products_are_as_near_to_distances_as_their_bound_says() -> None:
    a, b = normal(19, 20, 30, mean=100.0), normal(20, 31, 30, mean=100.0)
    exact = np.square(a[:, None] - b).sum(axis=2)
    for part in distance_blocks(a, b, block=100):
        rows = slice(part.begin, part.begin + len(part.square))
        assert (np.abs(part.square - exact[rows]) <= part.error).all()
        assert (part.error < 1e-6).all()


def test_a_copy_is_the_nearest_other_row() -> None:
    rows = np.array([[1.0], [1.0], [4.0]]) + 2.0**27
    first, second = neighbour_distances(rows, (1, 2))
    assert (first.tolist(), second.tolist()) == ([0.0, 0.0, 9.0], [9.0, 9.0, 9.0])
