"""Schedules: the numbers of Nature DQN's epsilon, and the ends of the line."""

import math

import pytest

from playfield.training.schedules import Constant, Cosine, Linear, Schedule, Steps, Warmup

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
    for schedule in (Linear, Cosine):
        with pytest.raises(ValueError, match=f"{schedule.__name__}: duration"):
            schedule(1.0, 0.1, duration)
    with pytest.raises(ValueError, match="Warmup: duration"):
        Warmup(Constant(1.0), duration)


@pytest.mark.parametrize("every", [0, -1, float("nan"), float("inf")])
def test_steps_that_never_come_or_always_are_refused(every: float) -> None:
    with pytest.raises(ValueError, match="every"):
        Steps(1.0, 0.5, every)


@pytest.mark.parametrize("progress", [-10, 0, 1, 30, 50, 77, 99, 100, 101, 1000])
def test_a_cosine_is_that_of_loshchilov_and_hutter(progress: float) -> None:
    """Equation 5: eta_min + (eta_max - eta_min) (1 + cos(pi T_cur / T)) / 2."""
    angle = math.pi * min(max(progress, 0), 100) / 100
    expected = 0.1 + (0.7 - 0.1) * (1 + math.cos(angle)) / 2
    assert Cosine(0.7, 0.1, 100)(progress) == pytest.approx(expected, abs=1e-15)


def test_a_cosine_ends_exactly() -> None:
    assert [Cosine(0.7, 0.1, 3)(p) for p in (3, 4)] == [0.1, 0.1]
    assert Cosine(0.7, 0.1, 0)(0) == 0.1


@pytest.mark.parametrize(
    ("progress", "times"), [(-1, 0), (0, 0), (999, 0), (1000, 1), (1999, 1), (5000, 5)]
)
def test_steps_multiply_once_for_each_that_is_done(progress: float, times: int) -> None:
    assert Steps(0.3, 0.1, 1000)(progress) == pytest.approx(0.3 * 10.0**-times)


@pytest.mark.parametrize(
    "schedule", [Constant(0.3), Linear(1.0, 0.0, 40), Cosine(1.0, 0.2, 40), Steps(1.0, 0.5, 7)]
)
def test_a_warm_up_rises_from_zero_to_the_schedule_that_goes_on_meanwhile(
    schedule: Schedule,
) -> None:
    warm = Warmup(schedule, 20)
    assert (warm(-1), warm(0)) == (0, 0)
    for progress in (1, 5, 10, 19):
        assert warm(progress) == pytest.approx(schedule(progress) * progress / 20)
    for progress in (20, 21, 40, 100):
        assert warm(progress) == schedule(progress)


def test_a_constant_is_constant() -> None:
    assert [Constant(0.3)(p) for p in (0, 10, 1e9)] == [0.3] * 3
