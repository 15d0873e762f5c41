"""The kernel distance: by hand, against plain loops, and its expectation over many draws."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from playfield.evaluation.kernel_distance import kernel_distance, subset_kernel_distance

Array = NDArray[np.float64]


def kernel(x: list[float], y: list[float]) -> float:
    return (sum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3


def plain(real: list[list[float]], painted: list[list[float]]) -> float:
    """The unbiased estimate as it is defined, pair by pair."""
    n, m = len(real), len(painted)
    within_real = sum(kernel(real[i], real[j]) for i in range(n) for j in range(n) if i != j)
    within_painted = sum(
        kernel(painted[i], painted[j]) for i in range(m) for j in range(m) if i != j
    )
    across = sum(kernel(x, y) for x in real for y in painted)
    return within_real / (n * (n - 1)) + within_painted / (m * (m - 1)) - 2 * across / (n * m)


def normal(seed: int, rows: int, width: int, mean: float = 0.0) -> Array:
    return np.random.default_rng(seed).normal(mean, size=(rows, width))


def test_two_points_each_by_hand() -> None:
    # (xy + 1)³: among 0 and 1 it is 1, among 1 and 2 it is 27, across 1, 1, 8 and 27.
    real, painted = np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])
    found = subset_kernel_distance(real, painted, seed=0, size=2)
    assert found == (1 + 27 - 2 * 37 / 4, 0.0)


def test_agrees_with_a_loop_over_all_pairs() -> None:
    real, painted = normal(0, 9, 4), normal(1, 14, 4, mean=0.5)
    expected = plain(real.tolist(), painted.tolist())
    assert kernel_distance(real, painted).value == pytest.approx(expected, rel=1e-12)


def test_the_standard_error_is_that_of_leaving_each_image_out() -> None:
    real, painted = normal(2, 7, 3).tolist(), normal(3, 11, 3, mean=0.5).tolist()
    variance = 0.0
    for rows, left_out in (
        (real, [plain(real[:i] + real[i + 1 :], painted) for i in range(len(real))]),
        (painted, [plain(real, painted[:i] + painted[i + 1 :]) for i in range(len(painted))]),
    ):
        n = len(rows)
        variance += (n - 1) / n * sum((x - np.mean(left_out)) ** 2 for x in left_out)
    found = kernel_distance(np.array(real), np.array(painted))
    assert found.standard_error == pytest.approx(np.sqrt(variance), rel=1e-10)


def test_equal_distributions_are_at_distance_0_on_average() -> None:
    rng = np.random.default_rng(4)
    found = [kernel_distance(*rng.normal(size=(2, 24, 5))) for _ in range(600)]
    values = np.array([estimate.value for estimate in found])
    assert abs(values.mean()) < 3 * values.std(ddof=1) / np.sqrt(len(values))
    assert 0.3 < (values < 0).mean() < 0.8
    # Efron and Stein: the jackknife's variance is on average no smaller than the true one.
    assert np.mean([estimate.standard_error**2 for estimate in found]) > 0.95 * values.var(ddof=1)


def test_shifted_normals_are_at_the_distance_that_their_moments_give() -> None:
    """E (xy + 1)³ = E x³ E y³ + 3 E x² E y² + 3 E x E y + 1; moments of N(1, 1): 1, 2, 4."""
    rng = np.random.default_rng(5)
    found = [
        kernel_distance(rng.normal(size=(100, 1)), rng.normal(1, size=(80, 1))) for _ in range(400)
    ]
    values = np.array([estimate.value for estimate in found])
    assert values.mean() == pytest.approx(
        4 + 32 - 2 * 7, abs=3 * values.std(ddof=1) / np.sqrt(len(values))
    )
    # The error that one draw states is the one that many draws show.
    stated = np.mean([estimate.standard_error**2 for estimate in found])
    assert stated == pytest.approx(values.var(ddof=1), rel=0.25)


def test_how_many_images_there_are_does_not_move_it() -> None:
    rng = np.random.default_rng(6)
    few, many = (
        [kernel_distance(rng.normal(size=(n, 2)), rng.normal(1, size=(n, 2))) for _ in range(300)]
        for n in (5, 50)
    )
    mean_few, mean_many = (np.mean([e.value for e in found]) for found in (few, many))
    error = np.std([e.value for e in few]) / np.sqrt(300)
    assert abs(mean_few - mean_many) < 3 * error


@pytest.mark.parametrize("block", [1, 7, 40])
def test_the_size_of_blocks_does_not_matter(block: int) -> None:
    real, painted = normal(7, 40, 6), normal(8, 33, 6, mean=0.2)
    whole = kernel_distance(real, painted)
    assert kernel_distance(real, painted, block=block) == pytest.approx(whole, rel=1e-11)


def test_features_of_32_bits_are_worked_out_in_64() -> None:
    real, painted = (normal(seed, 50, 8, mean=3.0).astype(np.float32) for seed in (9, 10))
    wide = kernel_distance(real.astype(np.float64), painted.astype(np.float64))
    assert kernel_distance(real, painted) == wide


def test_a_subset_of_all_images_gives_what_all_images_give() -> None:
    real, painted = normal(11, 30, 4), normal(12, 30, 4, mean=0.5)
    found = subset_kernel_distance(real, painted, seed=1, size=30, subsets=3)
    assert found.value == pytest.approx(kernel_distance(real, painted).value, rel=1e-12)
    assert found.standard_error == pytest.approx(0, abs=1e-12)


def test_subsets_scatter_around_what_all_images_give() -> None:
    real, painted = normal(13, 200, 4), normal(14, 150, 4, mean=0.5)
    found = subset_kernel_distance(real, painted, seed=0, size=20, subsets=1000)
    whole = kernel_distance(real, painted).value
    assert 0 < abs(found.value - whole) < 3 * found.standard_error


def test_the_seed_chooses_the_subsets() -> None:
    real, painted = normal(15, 60, 4), normal(16, 60, 4)
    first, again, other = (subset_kernel_distance(real, painted, s, 10, 5) for s in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize(
    ("real", "painted", "message"),
    [
        ((2, 3), (9, 3), "real: shape"),
        ((9, 3), (2, 3), "painted: shape"),
        ((9, 3), (9, 4), "painted: shape"),
        ((9,), (9,), "real: shape"),
    ],
)
def test_shapes_that_do_not_fit_are_named(
    real: tuple[int, ...], painted: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kernel_distance(np.zeros(real), np.zeros(painted))


@pytest.mark.parametrize(("size", "subsets"), [(1, 5), (5, 1), (10, 5)])
def test_subsets_that_cannot_be_drawn_are_refused(size: int, subsets: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        subset_kernel_distance(np.zeros((9, 2)), np.zeros((9, 2)), 0, size, subsets)
