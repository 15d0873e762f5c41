"""The known answers of the built-in worlds, each worked out another way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from playfield.envs import VectorStep, make
from playfield.envs.worlds.chain import Chain, chain_model, chain_values
from playfield.envs.worlds.endless import endless_value
from playfield.envs.worlds.vector import VectorWorld
from playfield.errors import UserError

Policy = Callable[[VectorStep], NDArray[np.int64]]


def returns(
    env_id: str, policy: Policy, num_envs: int = 50, steps: int = 200
) -> NDArray[np.float64]:
    """The return of every episode that `policy` finishes."""
    env = make(env_id, num_envs)
    step = env.reset(0)
    finished, running = [], np.zeros(num_envs)
    for _ in range(steps):
        step = env.step(policy(step))
        running = np.where(step.first, 0.0, running) + step.reward
        finished += running[step.terminated | step.truncated].tolist()
    return np.array(finished)


def follow_the_ball(step: VectorStep) -> NDArray[np.int64]:
    board = step.frames[:, 0] > 0  # [E, 10, 5]
    paddle = board[:, -1].argmax(axis=1)
    ball = board[:, :-1].any(axis=1).argmax(axis=1)
    return np.where(board[:, :-1].any(axis=(1, 2)), np.sign(ball - paddle) + 1, 1)


def test_every_ball_of_catch_can_be_caught() -> None:
    assert set(returns("playfield/Catch-v0", follow_the_ball)) == {1.0}


def test_a_paddle_that_never_moves_catches_one_ball_in_five() -> None:
    scores = returns("playfield/Catch-v0", lambda step: np.ones(len(step.first), np.int64), 100)
    assert set(scores) == {-1.0, 1.0}
    # Mean -0.6, standard deviation 0.8: five standard errors.
    assert abs(scores.mean() + 0.6) < 5 * 0.8 / np.sqrt(len(scores))


def test_a_ball_of_catch_falls_nine_rows_and_pays_at_the_bottom() -> None:
    env = make("playfield/Catch-v0", 1)
    board = env.reset(0).frames[0, 0]
    column = int(board[0].argmax())
    assert board[9].tolist() == [0, 0, 255, 0, 0]
    for row in range(1, 10):
        step = env.step([0])
        assert step.frames[0, 0, row, column] == 255
        assert bool(step.terminated[0]) == (row == 9)
        assert (step.reward[0] != 0) == (row == 9)
    assert step.frames[0, 0, 9, 0] == 255  # it stops at the wall


class Remembering:
    """Reads the cue off the first frame and keeps it."""

    def __init__(self) -> None:
        self._cue = np.zeros(50, np.int64)

    def __call__(self, step: VectorStep) -> NDArray[np.int64]:
        self._cue = np.where(step.first, step.frames[:, 0, 2, 0] == 255, self._cue)
        return self._cue


def test_with_memory_the_corridor_is_solved() -> None:
    assert set(returns("playfield/Corridor-v0", Remembering())) == {1.0}


def test_after_the_first_frame_the_corridor_shows_nothing_of_the_cue() -> None:
    env = make("playfield/Corridor-v0", 8)
    first = env.reset(0).frames
    cues = first[:, 0, 2, 0] == 255
    assert 0 < cues.sum() < 8
    np.testing.assert_array_equal(first[:, 0, 0, 0] == 255, ~cues)
    for step in (env.step(np.zeros(8, np.int64)) for _ in range(9)):
        assert not step.terminated.any() and not step.reward.any()
        np.testing.assert_array_equal(step.frames, np.broadcast_to(step.frames[:1], (8, 1, 3, 10)))
    choice = env.step(np.zeros(8, np.int64))
    assert choice.terminated.all()
    np.testing.assert_array_equal(choice.reward, np.where(cues, -1.0, 1.0))


def test_without_memory_either_door_gives_nothing_on_average() -> None:
    scores = returns("playfield/Corridor-v0", lambda step: np.zeros(len(step.first), np.int64))
    assert abs(scores.mean()) < 5 / np.sqrt(len(scores))


def test_chain_values_are_discounted_prizes() -> None:
    gamma = 0.9
    # Without slips the best is to walk straight to one end: over d cells, gamma**(d - 1) * prize.
    left = [0.7 * gamma ** (cell - 1) for cell in range(1, 6)]
    right = [gamma ** (5 - cell) for cell in range(1, 6)]
    best = np.concatenate([[0.0], np.maximum(left, right), [0.0]])
    expected = np.zeros((7, 2))
    for cell in range(1, 6):
        expected[cell, 0] = 0.7 if cell == 1 else gamma * best[cell - 1]
        expected[cell, 1] = 1.0 if cell == 5 else gamma * best[cell + 1]
    np.testing.assert_allclose(chain_values(gamma), expected, atol=1e-10)
    assert chain_values(gamma)[1:6].argmax(axis=1).tolist() == [0, 1, 1, 1, 1]


@pytest.mark.parametrize("slip", [0.0, 0.2])
def test_chain_values_solve_the_linear_equations_of_their_greedy_policy(slip: float) -> None:
    gamma = 0.9
    transition, reward = chain_model(slip)
    np.testing.assert_allclose(transition.sum(axis=2), 1.0)
    q = chain_values(gamma, slip)
    cells, greedy = np.arange(7), q.argmax(axis=1)
    v = np.linalg.solve(np.eye(7) - gamma * transition[cells, greedy], reward[cells, greedy])
    np.testing.assert_allclose(q, reward + gamma * transition @ v, atol=1e-9)
    np.testing.assert_allclose(v, q.max(axis=1), atol=1e-9)


@pytest.mark.parametrize("slip", [0.0, 0.2])
def test_the_chain_moves_as_its_model_says(slip: float) -> None:
    transition, reward = chain_model(slip)
    num_envs = 20
    env = VectorWorld(lambda count: Chain(count, slip), num_envs)
    rng = np.random.default_rng(0)
    step = env.reset(0)
    seen, paid = np.zeros((7, 2, 7)), np.zeros((7, 2))
    for _ in range(500):
        cell = step.frames.argmax(axis=1)
        actions = rng.integers(2, size=num_envs)
        step = env.step(actions)
        counted = ~step.first
        after = step.frames.argmax(axis=1)
        np.add.at(seen, (cell[counted], actions[counted], after[counted]), 1)
        np.add.at(paid, (cell[counted], actions[counted]), step.reward[counted])
    visits = seen.sum(axis=2)
    assert not visits[[0, 6]].any()  # no action is taken at an end
    assert visits[1:6].min() > 300
    error = np.abs(seen[1:6] / visits[1:6, :, None] - transition[1:6])
    assert error.max() <= 5 * np.sqrt(slip * (1 - slip) / visits[1:6].min())
    paid_error = np.abs(paid[1:6] / visits[1:6] - reward[1:6])
    assert paid_error.max() <= 1e-6 + 5 * np.sqrt(slip * (1 - slip) / visits[1:6].min())


def test_going_right_gives_the_chains_optimal_return() -> None:
    scores = returns("playfield/Chain-v0", lambda step: np.ones(len(step.first), np.int64))
    assert set(scores) == {1.0}


def test_a_walker_that_turns_back_for_ever_is_truncated_and_not_terminated() -> None:
    env = make("playfield/Chain-v0", 20)
    step = env.reset(0)
    # To and fro between the cells 3 and 4: from the left of them go right, otherwise left.
    for _ in range(100):
        assert not step.truncated.any()
        step = env.step((step.frames.argmax(axis=1) <= 3).astype(np.int64))
    assert step.truncated.all() and not step.terminated.any()


@pytest.mark.parametrize("slip", [-0.1, 1.0])
def test_a_slip_that_is_no_chance_is_refused(slip: float) -> None:
    with pytest.raises(UserError, match="slip must be"):
        Chain(1, slip)


def test_the_endless_world_pays_one_a_step_and_is_only_ever_truncated() -> None:
    env = make("playfield/Endless-v0", 2)
    env.reset(0)
    for _ in range(3):
        steps = [env.step([0, 1]) for _ in range(10)]
        assert all((step.reward == 1.0).all() and (step.frames == 1.0).all() for step in steps)
        assert [bool(step.truncated.all()) for step in steps] == [False] * 9 + [True]
        assert not any(step.terminated.any() for step in steps)
        assert env.step([0, 1]).first.all()


@pytest.mark.parametrize(("bootstrap", "expected"), [(True, 10.0), (False, 1 / (1 - 0.9 * 0.9))])
def test_the_endless_value_needs_bootstrapping_at_truncation(
    bootstrap: bool, expected: float
) -> None:
    gamma = 0.9
    env = make("playfield/Endless-v0", 1)
    env.reset(0)
    transitions = [step for step in (env.step([0]) for _ in range(110)) if not step.first[0]]
    value = 0.0
    for _ in range(300):  # expected updates over all stored transitions
        targets = [
            float(step.reward[0]) + gamma * value * (bootstrap or not step.truncated[0])
            for step in transitions
        ]
        value = float(np.mean(targets))
    assert value == pytest.approx(expected, rel=1e-6)
    assert endless_value(gamma) == pytest.approx(10.0)
