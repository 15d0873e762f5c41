"""Statistics agree with rliable, the reference of Agarwal et al. 2021 (extra `bench`)."""

from __future__ import annotations

import importlib
from typing import Any

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

metrics = pytest.importorskip("rliable.metrics", reason="rliable is not installed (extra `bench`)")

#: Absolute, of point estimates: the same sums in another order.
TOLERANCE = 1e-6
RESAMPLES = 4000
#: Absolute, of the ends of an interval, as a share of its width. Both are percentiles of 4,000
#: random resamples: the 2.5 % point of a normal law has a standard error of
#: sqrt(0.025 * 0.975 / 4000) / 0.0584 = 0.042 standard deviations, a hundredth of the interval's
#: width of 3.92. Two of them differ by 1.5 hundredths, and here by six of those at most.
SPREAD = 0.09

PAIRS = {"mean": mean, "median": median, "iqm": iqm, "optimality_gap": optimality_gap}

#: The published five runs of 26 games, and matrices of other shapes: odd numbers of scores, which
#: leave no whole quarter, ties, one run, one game.
MATRICES = [
    pytest.param(normalised(SIMPLE), id="SimPLe"),
    pytest.param(normalised(DIAMOND), id="DIAMOND"),
    pytest.param(np.random.default_rng(0).lognormal(size=(3, 57)), id="3x57"),
    pytest.param(np.random.default_rng(1).normal(size=(7, 9)), id="7x9"),
    pytest.param(np.random.default_rng(2).integers(0, 3, (10, 4)) / 2, id="ties"),
    pytest.param(np.random.default_rng(3).normal(size=(1, 5)), id="one run"),
    pytest.param(np.random.default_rng(4).normal(size=(6, 1)), id="one game"),
]


@pytest.mark.parametrize("scores", MATRICES)
@pytest.mark.parametrize("name", PAIRS)
def test_point_estimates_agree(name: str, scores: Array) -> None:
    theirs = getattr(metrics, f"aggregate_{name}")(scores)
    assert float(PAIRS[name](scores)) == pytest.approx(float(theirs), abs=TOLERANCE)


@pytest.mark.parametrize("scores", MATRICES)
@pytest.mark.parametrize("runs", [1, 3, 8])
def test_probabilities_of_improvement_agree(scores: Array, runs: int) -> None:
    rng = np.random.default_rng(5)
    # Of the same values, so that there are ties, and of as many runs or more or less.
    others = rng.permuted(scores, axis=0)[rng.integers(len(scores), size=runs)]
    for a, b in ((scores, others), (others, scores)):
        theirs = metrics.probability_of_improvement(a, b)
        ours = float(probability_of_improvement(a, b))
        assert ours == pytest.approx(float(theirs), abs=TOLERANCE)


def test_the_improvement_between_published_agents_agrees() -> None:
    a, b = normalised(DIAMOND), normalised(SIMPLE)
    theirs = metrics.probability_of_improvement(a, b)
    assert float(probability_of_improvement(a, b)) == pytest.approx(float(theirs), abs=TOLERANCE)


# --- bootstraps: rliable's draws from numpy's global generator ---


@pytest.fixture
def library(request: pytest.FixtureRequest) -> Any:
    """rliable's other half, which needs arch; seeded anew for each test."""
    try:
        found = importlib.import_module("rliable.library")
    except ImportError:
        pytest.skip("arch is not installed (extra `bench`)")
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    request.addfinalizer(lambda: np.random.set_state(state))  # noqa: NPY002
    return found


def assert_alike(ours: Interval, theirs: Array) -> None:
    low, high = (float(end) for end in np.ravel(theirs))
    assert ours.low == pytest.approx(low, abs=SPREAD * (high - low))
    assert ours.high == pytest.approx(high, abs=SPREAD * (high - low))


@pytest.mark.parametrize("raw", [SIMPLE, DIAMOND], ids=["SimPLe", "DIAMOND"])
@pytest.mark.parametrize("statistic", [mean, iqm, optimality_gap])
def test_intervals_agree(library: Any, statistic: Statistic, raw: dict[str, list[float]]) -> None:
    scores = normalised(raw)
    points, intervals = library.get_interval_estimates(
        {"agent": scores}, lambda s: np.array([statistic(s)]), reps=RESAMPLES
    )
    assert points["agent"][0] == statistic(scores)
    assert_alike(stratified_bootstrap(scores, statistic, RESAMPLES), intervals["agent"])


def test_intervals_of_the_improvement_agree(library: Any) -> None:
    a, b = normalised(DIAMOND), normalised(SIMPLE)
    _, intervals = library.get_interval_estimates(
        # Theirs calls scipy for every game of every resample, which takes minutes.
        {"pair": [a, b]},
        lambda x, y: np.array([probability_of_improvement(x, y)]),
        reps=RESAMPLES,
    )
    assert_alike(improvement_interval(a, b, RESAMPLES), intervals["pair"])


def test_performance_profiles_agree(library: Any) -> None:
    scores, thresholds = normalised(DIAMOND), np.linspace(0, 8, 9)
    profiles, bands = library.create_performance_profile({"agent": scores}, thresholds, reps=1000)
    ours = performance_profile(scores, thresholds)
    np.testing.assert_allclose(ours, profiles["agent"], rtol=0, atol=TOLERANCE)
    # Shares of 130 scores: the ends of both bands are on that grid, a step or two apart at most.
    np.testing.assert_allclose(
        profile_band(scores, thresholds, RESAMPLES), bands["agent"], rtol=0, atol=2.01 / 130
    )
