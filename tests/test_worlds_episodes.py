"""What holds for every built-in world: episodes, seeds, memory and pictures."""

from __future__ import annotations

from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest

from playfield.envs import VectorStep, make
from playfield.envs.worlds import WORLDS
from playfield.envs.worlds.chain import Chain
from playfield.envs.worlds.vector import VectorWorld

every_world = pytest.mark.parametrize("env_id", WORLDS)


def play(env_id: str, num_envs: int, steps: int, seed: int) -> list[VectorStep]:
    """Random actions; environment i gets the same ones in a vector of any size."""
    env = make(env_id, num_envs)
    draws = [np.random.default_rng([1, row]) for row in range(num_envs)]
    played = [env.reset(seed)]
    for _ in range(steps):
        played.append(env.step([draw.integers(env.spec.num_actions) for draw in draws]))
    return played


@every_world
def test_frames_are_as_the_spec_says(env_id: str) -> None:
    spec = make(env_id, 3).spec
    for step in play(env_id, 3, 30, seed=0):
        assert step.frames.shape == (3, *spec.frame_shape)
        assert step.frames.dtype == spec.frame_dtype
        assert step.reward.dtype == np.float32 and step.lives.dtype == np.int64
    assert len(spec.action_meanings) == spec.num_actions
    assert "optimal_return" in spec.protocol


@every_world
def test_an_episode_begins_after_each_end_and_its_first_row_counts_for_nothing(env_id: str) -> None:
    steps = play(env_id, 4, 150, seed=0)
    assert steps[0].first.all()
    for before, step in pairwise(steps):
        np.testing.assert_array_equal(step.first, before.terminated | before.truncated)
        assert not (step.first & (step.terminated | step.truncated)).any()
        assert not step.reward[step.first].any()
        assert not (step.terminated & step.truncated).any()
    assert sum(step.first.sum() for step in steps) > 4


@every_world
def test_an_environment_plays_alike_alone_and_among_others(env_id: str) -> None:
    for alone, many in zip(play(env_id, 1, 80, 5), play(env_id, 6, 80, 5), strict=True):
        for column in fields(VectorStep):
            np.testing.assert_array_equal(
                getattr(alone, column.name)[0], getattr(many, column.name)[0], column.name
            )


@every_world
def test_a_step_is_the_receivers_own(env_id: str) -> None:
    env = make(env_id, 2)
    steps = [env.reset(0)]
    copies = [[getattr(steps[0], column.name).copy() for column in fields(VectorStep)]]
    for _ in range(40):
        steps.append(env.step([0, 1]))
        copies.append([getattr(steps[-1], column.name).copy() for column in fields(VectorStep)])
    for step, copy in zip(steps, copies, strict=True):
        for column, kept in zip(fields(VectorStep), copy, strict=True):
            np.testing.assert_array_equal(getattr(step, column.name), kept)
    # And what the receiver does to it does not reach the world.
    undisturbed = play(env_id, 2, 20, 0)
    env = make(env_id, 2)
    draws = [np.random.default_rng([1, row]) for row in range(2)]
    step = env.reset(0)
    for expected in undisturbed[1:]:
        for column in fields(VectorStep):
            getattr(step, column.name)[:] = 1
        step = env.step([draw.integers(env.spec.num_actions) for draw in draws])
        np.testing.assert_array_equal(step.frames, expected.frames)
        np.testing.assert_array_equal(step.first, expected.first)


@every_world
def test_a_reset_in_the_middle_starts_over(env_id: str) -> None:
    env = make(env_id, 3)
    start = env.reset(8).frames
    env.step([0, 1, 0])
    env.send([0, 1, 0])
    again = env.reset(8)
    np.testing.assert_array_equal(again.frames, start)
    assert again.first.all()


def test_an_episode_that_ends_at_its_time_limit_is_terminated_only() -> None:
    class OneStep(Chain):
        time_limit = 1

    env = VectorWorld(OneStep, 20)
    second_last = env.reset(0).frames[:, 5] == 1.0
    assert second_last.any()
    step = env.step(np.ones(20, np.int64))
    np.testing.assert_array_equal(step.terminated, second_last)
    np.testing.assert_array_equal(step.truncated, ~second_last)


@every_world
def test_pictures_are_rgb_with_even_sides(env_id: str) -> None:
    env = make(env_id, 2)
    with pytest.raises(RuntimeError, match="before reset"):
        env.render()
    env.reset(0)
    colours: set[tuple[int, ...]] = set()
    for _ in range(25):
        env.step([1, 1])
        picture = env.render()
        assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
        assert picture.shape[0] % 2 == picture.shape[1] % 2 == 0
        colours |= {tuple(colour) for colour in picture.reshape(-1, 3).tolist()}
    assert len(colours) >= 2


@every_world
def test_wrong_actions_and_wrong_order_are_refused(env_id: str) -> None:
    env = make(env_id, 2)
    with pytest.raises(RuntimeError, match=r"reset\(\) comes first"):
        env.step([0, 0])
    env.reset(0)
    with pytest.raises(ValueError, match="of environment 1 is outside"):
        env.step([0, env.spec.num_actions])
    env.close()
    with pytest.raises(RuntimeError, match="closed"):
        env.step([0, 0])
