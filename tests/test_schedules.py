"""Schedules: the numbers of Nature DQN's epsilon, and the ends of the line."""

import pytest

from playfield.training.schedules import Constant, Linear

EPSILON = Linear(1.0, 0.1, 1_000_000)  # Mnih et al. 2015, extended data table 1


@pytest.mark.parametrize(
    ("progress", "epsilon"),
    [(0, 1.0), (250_000, 0.775), (500_000, 0.55), (1_000_000, 0.1), (50_000_000, 0.1)],
)
def test_epsilon_of_nature_dqn_falls_on_a_line_and_then_stays(
    progress: int, epsilon: float
) -> None:
    assert EPSILON(progress) == pytest.approx(epsilon, abs=1e-12)


def test_the_end_is_reached_exactly() -> None:
    assert Linear(1.0, 0.1, 3)(3) == 0.1


def test_before_the_start_the_value_is_the_start() -> None:
    assert EPSILON(-5) == 1.0


def test_no_duration_means_the_end_from_the_start() -> None:
    assert Linear(1.0, 0.1, 0)(0) == 0.1


@pytest.mark.parametrize("duration", [-1, float("nan"), float("inf")])
def test_a_duration_that_never_ends_or_is_negative_is_refused(duration: float) -> None:
    with pytest.raises(ValueError, match="duration"):
        Linear(1.0, 0.1, duration)


def test_a_constant_is_constant() -> None:
    assert [Constant(0.3)(p) for p in (0, 10, 1e9)] == [0.3] * 3
