"""Gymnasium environments behind the contract, held against Gymnasium played directly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import ale_py
import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from playfield.envs import make
from playfield.envs.gymnasium_env import GymnasiumVector
from playfield.envs.seeds import env_seeds
from playfield.errors import UserError


class Counter(gymnasium.Env[Any, Any]):
    """Shows how many steps it has taken; reward is the raw action; terminates after three."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}

    def __init__(
        self, observation_space: Any, action_space: Any, render_mode: str | None = None
    ) -> None:
        self.render_mode = render_mode
        self.observation_space = observation_space
        self.action_space = action_space
        self._steps = 0

    def _obs(self) -> Any:
        obs = np.zeros(self.observation_space.shape, self.observation_space.dtype)
        obs[...] = self._steps
        obs[0, ...] += 100  # so that the first axis can be told from the others
        return obs

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._obs(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        return self._obs(), float(action), self._steps == 3, False, {}

    def render(self) -> Any:
        return np.full((4, 6, 3), self._steps, np.uint8)


@pytest.fixture
def counter() -> Iterator[Any]:
    """Registers a `Counter` with the spaces it is given, and forgets it afterwards."""

    def register(observation_space: Any, action_space: Any) -> str:
        gymnasium.register(
            "PlayfieldCounter-v0",
            lambda **options: Counter(observation_space, action_space, **options),
            disable_env_checker=True,
        )
        return "PlayfieldCounter-v0"

    yield register
    gymnasium.registry.pop("PlayfieldCounter-v0", None)


def images(*shape: int) -> Box:
    return Box(0, 255, shape, np.uint8)


VECTOR = Box(-1e3, 1e3, (5,), np.float64)


@pytest.mark.parametrize("processes", [False, True])
def test_cartpole_plays_as_it_does_without_us(processes: bool) -> None:
    env = make("CartPole-v1", 2, processes=processes)
    direct = [gymnasium.make("CartPole-v1") for _ in range(2)]
    try:
        step = env.reset(3)
        seeds = env_seeds(3, 2).tolist()
        expected = [e.reset(seed=s)[0] for e, s in zip(direct, seeds, strict=True)]
        over = [False, False]
        ended = 0
        for actions in np.random.default_rng(0).integers(2, size=(60, 2)):
            env.send(actions)
            step = env.recv()
            for row, single in enumerate(direct):
                if over[row]:  # the action is ignored; nothing of it counts
                    obs, reward, terminated, truncated = single.reset()[0], 0.0, False, False
                else:
                    obs, reward, terminated, truncated, _ = single.step(actions[row])
                assert step.first[row] == over[row]
                np.testing.assert_array_equal(step.frames[row], obs)
                assert (step.reward[row], step.terminated[row], step.truncated[row]) == (
                    np.float32(reward),
                    terminated,
                    truncated,
                )
                over[row] = terminated or truncated
                ended += over[row]
        assert ended >= 2
        assert expected[0].shape == env.spec.frame_shape == (4,)
        assert step.frames.dtype == step.reward.dtype == np.float32
        assert not step.lives.any() and not step.life_lost.any()
    finally:
        env.close()
        for single in direct:
            single.close()


def test_a_time_limit_is_truncated_and_not_terminated() -> None:
    env = make("MountainCar-v0", 1)  # cannot be solved by standing still; 200 steps
    env.reset(0)
    steps = [env.step([1]) for _ in range(200)]
    assert [bool(step.truncated[0]) for step in steps] == [False] * 199 + [True]
    assert not any(step.terminated[0] for step in steps)
    assert env.step([1]).first[0]
    assert env.spec.protocol["max_episode_steps"] == 200
    env.close()


def test_an_environment_plays_alike_alone_and_among_others() -> None:
    alone, many = make("CartPole-v1", 1), make("CartPole-v1", 3)
    np.testing.assert_array_equal(alone.reset(9).frames[0], many.reset(9).frames[0])
    for actions in np.random.default_rng(1).integers(2, size=(80, 3)):
        one, three = alone.step(actions[:1]), many.step(actions)
        np.testing.assert_array_equal(one.frames[0], three.frames[0])
        assert one.terminated[0] == three.terminated[0]
    alone.close()
    many.close()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_writes_to_a_step_that_was_handed_over(dtype: Any, counter: Any) -> None:
    env = make(counter(Box(-1e3, 1e3, (5,), dtype), Discrete(2)), 2)
    steps = [env.reset(0), *(env.step([0, 0]) for _ in range(3))]
    assert [step.frames[0, -1] for step in steps] == [0.0, 1.0, 2.0, 3.0]
    assert [bool(step.terminated[0]) for step in steps] == [False, False, False, True]
    assert [bool(step.first[0]) for step in steps] == [True, False, False, False]
    env.close()


def test_actions_are_counted_from_zero_whatever_the_space_starts_at(counter: Any) -> None:
    env = make(counter(VECTOR, Discrete(3, start=-1)), 3)
    env.reset(0)
    assert env.spec.num_actions == 3
    assert env.spec.action_meanings == ("-1", "0", "1")
    assert env.step([0, 1, 2]).reward.tolist() == [-1.0, 0.0, 1.0]
    with pytest.raises(ValueError, match="action 3 of environment 0"):
        env.step([3, 0, 0])
    with pytest.raises(ValueError, match="action -1 of environment 2"):
        env.step([0, 0, -1])
    env.close()


@pytest.mark.parametrize(
    ("shape", "frame_shape"),
    [
        ((6, 8, 3), (3, 6, 8)),
        ((6, 8, 1), (1, 6, 8)),
        ((3, 6, 8), (3, 6, 8)),
        ((6, 8), (1, 6, 8)),
        ((3, 8, 3), (3, 3, 8)),  # either way possible: channels last, as Gymnasium has them
    ],
)
def test_images_become_channels_first(
    shape: tuple[int, ...], frame_shape: tuple[int, ...], counter: Any
) -> None:
    env = make(counter(images(*shape), Discrete(2)), 2)
    env.reset(0)
    frames = env.step([0, 0]).frames
    assert env.spec.frame_shape == frame_shape and env.spec.frame_dtype == "uint8"
    assert frames.shape == (2, *frame_shape) and frames.dtype == np.uint8
    assert frames.flags.c_contiguous and frames.flags.owndata
    marked = frames[0] == 101  # the first row of a picture, or the first of its channels
    channels_last_or_none = len(shape) == 2 or shape[2] in (1, 3)
    expected = np.zeros(frame_shape, bool)
    expected[(slice(None), 0) if channels_last_or_none else 0] = True
    np.testing.assert_array_equal(marked, expected)
    env.close()


@pytest.mark.parametrize(
    ("observations", "actions", "says"),
    [
        (VECTOR, Box(-1, 1, (1,)), "action space Box"),
        (VECTOR, MultiDiscrete([2, 2]), "action space MultiDiscrete"),
        (Box(0, 1, (5,), np.int64), Discrete(2), "observation space Box"),
        (Box(0, 1, (6, 8, 3), np.float32), Discrete(2), "observation space Box"),
        (images(6, 8, 7), Discrete(2), "observation space Box"),
        (images(2, 2, 2, 3), Discrete(2), "observation space Box"),
    ],
)
def test_other_spaces_are_refused_with_what_is_handled(
    observations: Any, actions: Any, says: str, counter: Any
) -> None:
    with pytest.raises(UserError, match=rf"{says}.* is not handled; handled are Discrete"):
        make(counter(observations, actions), 1)


def test_discrete_observations_are_refused_with_what_is_handled() -> None:
    with pytest.raises(UserError, match=r"Discrete\(16\) is not handled; handled are"):
        make("FrozenLake-v1", 1)


def test_atari_is_refused_because_its_frames_would_be_skipped_twice() -> None:
    gymnasium.register_envs(ale_py)
    for env_id in ("ALE/Pong-v5", "PongNoFrameskip-v4", "Pong-v4"):
        with pytest.raises(UserError, match="skips frames itself"):
            GymnasiumVector(env_id, 1)


def test_an_id_that_is_not_registered_is_named() -> None:
    with pytest.raises(UserError, match="Nowhere-v0 can't be made"):
        GymnasiumVector("Nowhere-v0", 1)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: Any, **kwargs: Any) -> Any:
        raise gymnasium.error.DependencyNotInstalled("Box2D is not installed, run `pip …`")

    monkeypatch.setattr(gymnasium, "make", missing)
    with pytest.raises(UserError, match=r"LunarLander-v3 can't be made: Box2D is not installed"):
        make("LunarLander-v3", 1)


def test_pictures_have_to_be_asked_for() -> None:
    env = make("CartPole-v1", 1)
    with pytest.raises(UserError, match="render=True"):
        env.render()
    env.close()
    with pytest.raises(UserError, match="in this process"):
        make("CartPole-v1", 1, processes=True, render=True)


def test_a_picture_shows_environment_0(counter: Any) -> None:
    env = make(counter(VECTOR, Discrete(2)), 2, render=True)
    env.reset(0)
    env.step([0, 0])
    np.testing.assert_array_equal(env.render(), np.ones((4, 6, 3), np.uint8))
    env.close()


def test_reset_and_close_discard_a_step_that_is_still_running() -> None:
    for processes in (False, True):
        env = make("CartPole-v1", 1, processes=processes)
        start = env.reset(0).frames
        env.send([0])
        np.testing.assert_array_equal(env.reset(0).frames, start)
        env.send([0])
        env.close()
        env.close()
        with pytest.raises(RuntimeError, match="closed"):
            env.send([0])
