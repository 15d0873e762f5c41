"""Statistics over runs and games: closed forms, naive sums, published numbers."""

from __future__ import annotations

import itertools
import statistics as stdlib

import numpy as np
import pytest
from atari_100k_scores import DIAMOND, SIMPLE, normalised
from numpy.typing import NDArray

from playfield.evaluation.statistics import (
    Interval,
    Statistic,
    improvement_interval,
    iqm,
    mean,
    median,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    profile_band,
    stratified_bootstrap,
)

Array = NDArray[np.float64]


def ladder(runs: int, games: int) -> Array:
    """1, 2, 3, ... in an order that no statistic may depend on."""
    values = np.arange(1.0, runs * games + 1)
    return np.random.default_rng(0).permutation(values).reshape(runs, games)


# --- point estimates ---


def test_statistics_of_a_small_matrix_by_hand() -> None:
    scores = np.array([[0.0, 1.0, 4.0], [2.0, 1.0, 10.0]])  # means of the games: 1, 1, 7
    assert mean(scores) == 3.0
    assert median(scores) == 1.0
    # Sorted 0 1 1 2 4 10; a quarter of six is one and a half, so one goes at each end.
    assert iqm(scores) == (1 + 1 + 2 + 4) / 4
    # Capped at 1 they are 0 1 1 1 1 1, and 5/6 on average.
    assert optimality_gap(scores) == pytest.approx(1 / 6)
    assert optimality_gap(scores, target=2.0) == pytest.approx(2 - (0 + 1 + 1 + 2 + 2 + 2) / 6)


def test_the_interquartile_mean_of_a_ladder_is_its_middle() -> None:
    assert iqm(ladder(8, 5)) == (1 + 40) / 2


def test_outliers_move_the_mean_and_not_the_interquartile_mean() -> None:
    scores = ladder(4, 4)
    wild = np.where(scores == 16, 1e9, np.where(scores == 1, -1e6, scores))
    assert iqm(wild) == iqm(scores) == 8.5
    assert mean(wild) > 1e6


def test_the_median_is_over_games_and_not_over_runs() -> None:
    # Of all nine scores the median is 0; the means of the games are 0, 3 and 30.
    scores = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 9.0, 90.0]])
    assert median(scores) == 3.0


def test_the_optimality_gap_does_not_reward_more_than_the_target() -> None:
    assert optimality_gap(np.array([[0.5, 1.0], [0.5, 1.0]])) == 0.25
    assert optimality_gap(np.array([[0.5, 50.0], [0.5, 50.0]])) == 0.25


@pytest.mark.parametrize("statistic", [mean, median, iqm, optimality_gap])
def test_a_stack_of_matrices_gives_the_value_of_each(statistic: Statistic) -> None:
    stack = np.random.default_rng(1).normal(size=(4, 5, 7))
    assert statistic(stack).tolist() == [float(statistic(each)) for each in stack]


#: Micheli et al. 2023 (arXiv:2209.00588, table 1) for SimPLe, Alonso et al. 2024 (arXiv:2405.12399,
#: table 1 and figure 3) for DIAMOND: mean, median, interquartile mean, optimality gap.
PUBLISHED = [
    pytest.param(SIMPLE, (0.332, 0.134, 0.130, 0.729), id="SimPLe"),
    pytest.param(DIAMOND, (1.459, 0.373, 0.641, 0.480), id="DIAMOND"),
]


@pytest.mark.parametrize(("raw", "expected"), PUBLISHED)
def test_published_scores_give_the_published_statistics(
    raw: dict[str, list[float]], expected: tuple[float, ...]
) -> None:
    scores = normalised(raw)
    assert scores.shape == (5, 26)
    found = [float(s(scores)) for s in (mean, median, iqm, optimality_gap)]
    assert found == pytest.approx(expected, abs=0.0005)


# --- profiles and improvement ---


def test_a_profile_is_the_share_above_each_threshold() -> None:
    scores = np.array([[0.0, 1.0], [0.5, 2.0]])
    profile = performance_profile(scores, np.array([-1.0, 0.0, 0.5, 1.0, 2.0]))
    assert profile.tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_the_area_under_a_profile_of_positive_scores_is_their_mean() -> None:
    # The integral of the survival function of a variable that is never negative.
    scores = np.random.default_rng(2).uniform(0, 3, (6, 4))
    thresholds = np.linspace(0, 3, 30_001)
    area = np.trapezoid(performance_profile(scores, thresholds), thresholds)
    assert area == pytest.approx(float(mean(scores)), abs=1e-3)


def test_improvement_counts_wins_and_half_of_ties() -> None:
    a, b = np.array([[1.0], [2.0]]), np.array([[1.0], [0.0], [3.0]])
    # 1 against 1, 0, 3: tie, win, loss. 2 against them: win, win, loss. Three and a half of six.
    assert probability_of_improvement(a, b) == pytest.approx(3.5 / 6)


def test_improvement_is_a_mean_over_games_however_large_the_scores() -> None:
    a = np.array([[1e9, 0.0], [1e9, 0.0]])
    b = np.array([[0.0, 1.0], [0.0, 1.0]])
    assert probability_of_improvement(a, b) == 0.5


def test_improvement_agrees_with_counting_pairs() -> None:
    rng = np.random.default_rng(3)
    a = rng.integers(0, 4, (5, 6)).astype(float)
    b = rng.integers(0, 4, (3, 6)).astype(float)
    games = []
    for game in range(6):
        pairs = itertools.product(a[:, game], b[:, game])
        games.append(stdlib.fmean((x > y) + 0.5 * (x == y) for x, y in pairs))
    assert probability_of_improvement(a, b) == pytest.approx(stdlib.fmean(games))
    back = probability_of_improvement(b, a)
    assert probability_of_improvement(a, b) + back == pytest.approx(1.0)


# --- intervals ---


def test_two_runs_of_one_game_have_an_interval_that_can_be_counted() -> None:
    # Two draws from 0 and 1: the mean is 0, 1/2 or 1 with chances 1/4, 1/2, 1/4.
    interval = stratified_bootstrap(np.array([[0.0], [1.0]]), mean)
    assert interval == Interval(0.0, 1.0)


def test_the_interval_of_a_mean_is_that_of_the_normal_law() -> None:
    # 400 runs: the resampled mean is normal, with the (biased) standard deviation over their root.
    scores = np.random.default_rng(4).exponential(size=(400, 1))
    interval = stratified_bootstrap(scores, mean)
    half = 1.96 * scores.std() / 20
    assert interval.low == pytest.approx(scores.mean() - half, abs=0.05 * half)
    assert interval.high == pytest.approx(scores.mean() + half, abs=0.05 * half)


def test_runs_are_drawn_within_their_game() -> None:
    # Games differ and runs do not: whoever draws games as well finds an interval here.
    scores = np.tile(np.array([0.0, 1.0, 100.0]), (4, 1))
    assert stratified_bootstrap(scores, mean) == Interval(mean(scores), mean(scores))


def test_each_game_draws_runs_of_its_own() -> None:
    # Both games have a good run and a bad one. Were whole rows drawn, the mean would be 0 in a
    # quarter of all resamples; drawn apart it is that in a sixteenth.
    scores = np.array([[0.0, 0.0], [1.0, 1.0]])
    drawn: list[Array] = []

    def remember(resampled: Array) -> Array:
        drawn.append(mean(resampled))
        return drawn[-1]

    stratified_bootstrap(scores, remember)
    values = np.concatenate(drawn)
    assert (values == 0).mean() == pytest.approx(1 / 16, abs=0.01)
    assert (values == 0.5).mean() == pytest.approx(6 / 16, abs=0.02)


def test_intervals_depend_on_the_seed_alone() -> None:
    scores = normalised(SIMPLE)
    first = stratified_bootstrap(scores, iqm, 2000, seed=1)
    assert first == stratified_bootstrap(scores, iqm, 2000, seed=1)
    assert first != stratified_bootstrap(scores, iqm, 2000, seed=2)


def test_memory_bounds_do_not_change_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = normalised(SIMPLE)
    whole = stratified_bootstrap(scores, mean, 2000)
    monkeypatch.setattr("playfield.evaluation.statistics._CHUNK", 130 * 64)
    # The generator fills one array after another from the same stream.
    assert stratified_bootstrap(scores, mean, 2000) == whole


def test_an_interval_of_95_percent_holds_the_truth_about_as_often() -> None:
    # Of 300 experiments with 30 normal runs, 279 to 291 intervals would be usual (95 %, less the
    # two points that resampling 30 runs costs); 93 % ± four standard deviations is 87 to 99 %.
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(300):
        interval = stratified_bootstrap(rng.normal(size=(30, 1)), mean, 500, seed=0)
        hits += interval.low <= 0 <= interval.high
    assert 0.87 < hits / 300 < 0.99


def test_the_interval_of_a_certain_improvement_is_a_point() -> None:
    a, b = 10 + ladder(3, 2), ladder(4, 2) / 10
    assert improvement_interval(a, b) == Interval(1.0, 1.0)


def test_the_interval_of_no_improvement_holds_a_half() -> None:
    rng = np.random.default_rng(6)
    interval = improvement_interval(rng.normal(size=(10, 8)), rng.normal(size=(10, 8)))
    assert 0.3 < interval.low < 0.5 < interval.high < 0.7


def test_a_profile_lies_in_its_band_and_the_band_is_certain_where_all_agree() -> None:
    scores = normalised(DIAMOND)
    thresholds = np.array([-1.0, 0.0, 0.5, 1.0, 100.0])
    low, high = profile_band(scores, thresholds, 2000)
    profile = performance_profile(scores, thresholds)
    assert ((low <= profile) & (profile <= high)).all()
    assert (low[0], high[0], low[-1], high[-1]) == (1.0, 1.0, 0.0, 0.0)
    assert low[2] < high[2]


@pytest.mark.parametrize(
    ("scores", "named"),
    [
        (np.ones((1, 3)), "two runs"),
        (np.ones(3), r"\[runs, games\]"),
        (np.ones((3, 0)), r"\[runs, games\]"),
        (np.array([[1.0], [np.nan]]), "finite"),
    ],
)
def test_what_has_no_interval_is_refused(scores: Array, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        stratified_bootstrap(scores, mean)


def test_groups_of_other_games_are_not_compared() -> None:
    with pytest.raises(ValueError, match="3 games and b 2"):
        improvement_interval(np.ones((2, 3)), np.ones((2, 2)))
