"""Any Gymnasium environment with discrete actions and vector or image observations."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from numpy.typing import ArrayLike, NDArray

from playfield.envs.contract import EnvSpec, VectorStep
from playfield.envs.exchange import Exchange, check_num_envs
from playfield.envs.names import is_ale
from playfield.envs.seeds import env_seeds
from playfield.errors import UserError

HANDLED = (
    "handled are Discrete actions, and observations that are a Box of floats [D] or of uint8 "
    "images [H, W], [H, W, C] or [C, H, W] with C = 1, 3 or 4"
)


class GymnasiumVector:
    """E copies of a registered environment: frames float32 `[E, D]` or uint8 `[E, C, H, W]`.

    They run one after another inside `recv`, or with `processes` each in a process of its own
    between `send` and `recv`, which pays off when a step takes longer than about 0.1 ms. A time
    limit arrives as `truncated`. Gymnasium knows no lives: `lives` is 0 and `life_lost` false.

    Raises `UserError` for spaces that are not handled, a package that the environment needs and is
    not installed, and Atari ids: those have a frame skip of their own (see `AtariVector`).
    """

    def __init__(
        self, env_id: str, num_envs: int, *, processes: bool = False, render: bool = False
    ) -> None:
        if processes and render:
            raise UserError(f"{env_id}: a picture needs the environments in this process.")
        check_num_envs(env_id, num_envs)
        self.num_envs = num_envs
        self._renders = render
        # Only environment 0 is ever shown.
        pictured = functools.partial(_make, env_id, render=render)
        plain = functools.partial(_make, env_id, render=False)
        makers: list[Callable[[], gymnasium.Env[Any, Any]]] = [pictured, *[plain] * (num_envs - 1)]
        self._envs: SyncVectorEnv | AsyncVectorEnv
        if processes:
            # Not forked: a fork of a process with torch's threads in it can deadlock.
            self._envs = AsyncVectorEnv(
                makers, copy=False, context="spawn", autoreset_mode=AutoresetMode.NEXT_STEP
            )
        else:
            self._envs = SyncVectorEnv(makers, copy=False, autoreset_mode=AutoresetMode.NEXT_STEP)
        try:
            self._convert, shape, dtype = _converter(env_id, self._envs.single_observation_space)
            self._first_action, num_actions = _actions(env_id, self._envs.single_action_space)
        except UserError:
            self._envs.close()
            raise
        registered = gymnasium.spec(env_id)
        self.spec = EnvSpec(
            id=env_id,
            frame_shape=shape,
            frame_dtype=dtype,
            num_actions=num_actions,
            action_meanings=tuple(str(self._first_action + a) for a in range(num_actions)),
            protocol={
                "name": "gymnasium",
                "gymnasium": gymnasium.__version__,
                "max_episode_steps": registered.max_episode_steps,
                "kwargs": {key: repr(value) for key, value in registered.kwargs.items()},
            },
        )
        self._exchange = Exchange(env_id, num_envs, num_actions)
        self._actions = np.zeros(num_envs, np.int64)
        self._over = np.zeros(num_envs, np.bool_)  # [E], the next row is a reset observation

    def reset(self, seed: int) -> VectorStep:
        """Start every episode anew; each environment draws from a seed of its own under `seed`."""
        self._discard_running()
        self._exchange.reset()
        obs, _ = self._envs.reset(seed=env_seeds(seed, self.num_envs).tolist())
        self._over = np.zeros(self.num_envs, np.bool_)
        nothing = np.zeros(self.num_envs, np.bool_)
        return self._step(obs, nothing, nothing, nothing, np.ones(self.num_envs, np.bool_))

    def send(self, actions: ArrayLike) -> None:
        """Start a step with `actions` `[E]`, counted from 0 whatever the space's start is."""
        self._actions = self._exchange.send(actions) + self._first_action
        if isinstance(self._envs, AsyncVectorEnv):
            self._envs.step_async(self._actions)

    def recv(self) -> VectorStep:
        """Finish the running step and hand it over."""
        self._exchange.recv()
        if isinstance(self._envs, AsyncVectorEnv):
            obs, reward, terminated, truncated, _ = self._envs.step_wait()
        else:
            obs, reward, terminated, truncated, _ = self._envs.step(self._actions)
        first = self._over
        self._over = terminated | truncated
        return self._step(obs, reward, terminated, truncated, first)

    def step(self, actions: ArrayLike) -> VectorStep:
        self.send(actions)
        return self.recv()

    def render(self) -> NDArray[np.uint8]:
        """Environment 0 as `[H, W, 3]`; `UserError` where it was made without `render`."""
        if not self._renders or not isinstance(self._envs, SyncVectorEnv):
            raise UserError(f"{self.spec.id} was made without pictures: make it with render=True.")
        try:
            picture = self._envs.envs[0].render()
        except gymnasium.error.DependencyNotInstalled as error:
            raise UserError(f"{self.spec.id} can't be shown: {error}.") from error
        return np.array(picture, np.uint8)

    def close(self) -> None:
        """Close the environments and end their processes. Closing twice is harmless."""
        self._discard_running()
        self._exchange.close()
        self._envs.close()

    def _discard_running(self) -> None:
        if self._exchange.running:
            self._exchange.recv()
            if isinstance(self._envs, AsyncVectorEnv):
                self._envs.step_wait()

    def _step(
        self,
        obs: NDArray[Any],
        reward: NDArray[Any],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        first: NDArray[np.bool_],
    ) -> VectorStep:
        return VectorStep(
            frames=self._convert(obs),
            reward=np.array(reward, np.float32),
            terminated=np.array(terminated, np.bool_),
            truncated=np.array(truncated, np.bool_),
            life_lost=np.zeros(self.num_envs, np.bool_),
            first=first,
            lives=np.zeros(self.num_envs, np.int64),
        )


def _make(env_id: str, *, render: bool) -> gymnasium.Env[Any, Any]:
    # Not every environment takes a render mode, not even None.
    options: dict[str, Any] = {"render_mode": "rgb_array"} if render else {}
    try:
        if is_ale(gymnasium.spec(env_id).entry_point):
            raise UserError(
                f"{env_id} skips frames itself; playfield.envs.make({env_id!r}, …) does it once."
            )
        return gymnasium.make(env_id, **options)
    except (gymnasium.error.Error, ImportError) as error:
        raise UserError(f"Environment {env_id} can't be made: {error}.") from error


def _actions(env_id: str, space: gymnasium.Space[Any]) -> tuple[int, int]:
    """The first action of the space and the number of them."""
    if not isinstance(space, Discrete):
        raise UserError(f"{env_id}: the action space {space} is not handled; {HANDLED}.")
    return int(space.start), int(space.n)


def _converter(
    env_id: str, space: gymnasium.Space[Any]
) -> tuple[Callable[[NDArray[Any]], NDArray[Any]], tuple[int, ...], str]:
    """How observations `[E, …]` become frames of their own memory; one frame's shape and dtype."""
    if isinstance(space, Box):
        shape = space.shape
        if len(shape) == 1 and np.issubdtype(space.dtype, np.floating):
            return _as_float32, shape, "float32"
        if space.dtype == np.uint8 and len(shape) == 2:
            return _add_channel, (1, *shape), "uint8"
        if space.dtype == np.uint8 and len(shape) == 3:
            if shape[2] in (1, 3, 4):  # Gymnasium's own convention goes first
                return _channels_first, (shape[2], shape[0], shape[1]), "uint8"
            if shape[0] in (1, 3, 4):
                return np.array, shape, "uint8"
    raise UserError(f"{env_id}: the observation space {space} is not handled; {HANDLED}.")


def _as_float32(obs: NDArray[Any]) -> NDArray[Any]:
    return np.array(obs, np.float32)


def _add_channel(obs: NDArray[Any]) -> NDArray[Any]:
    return np.array(obs[:, None])


def _channels_first(obs: NDArray[Any]) -> NDArray[Any]:
    return np.array(np.moveaxis(obs, 3, 1), order="C")
