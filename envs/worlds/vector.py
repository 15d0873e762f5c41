"""What the small worlds share: the `VectorEnv` contract around a world's bare dynamics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from playfield.envs.contract import EnvSpec, VectorStep
from playfield.envs.exchange import Exchange, check_num_envs
from playfield.envs.seeds import env_seeds

#: One generator for each environment, so that its draws do not depend on the others.
Generators = Sequence[np.random.Generator]


class Dynamics(Protocol):
    """The rules of a world in E copies, without episodes' bookkeeping."""

    spec: EnvSpec

    @property
    def time_limit(self) -> int | None:
        """Steps after which an episode is truncated."""
        ...

    def start(self, rows: NDArray[np.bool_], rngs: Generators) -> None:
        """Begin an episode in the copies of `rows` `[E]`."""
        ...

    def advance(
        self, actions: NDArray[np.int64], rngs: Generators
    ) -> tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]:
        """One step of every copy: reward `[E]` and terminated `[E]`.

        Copies whose episode is over are stepped too; what becomes of them counts for nothing.
        """
        ...

    def observe(self) -> NDArray[Any]:
        """The frames `[E, …]` of this moment, in memory of their own."""
        ...

    def picture(self) -> NDArray[np.uint8]:
        """Copy 0 as `[H, W, 3]`, one pixel for each cell."""
        ...


class VectorWorld:
    """A small world as a vector environment: `NEXT_STEP` episodes, time limit, seeds, pictures.

    Deterministic from `reset(seed)`; environment i plays alike in a vector of any size.
    """

    def __init__(self, world: Callable[[int], Dynamics], num_envs: int) -> None:
        check_num_envs("a built-in world", num_envs)
        self._world = world(num_envs)
        self.spec = self._world.spec
        self.num_envs = num_envs
        self._exchange = Exchange(self.spec.id, num_envs, self.spec.num_actions)
        self._rngs: Generators = ()
        self._actions = np.zeros(num_envs, np.int64)
        self._age = np.zeros(num_envs, np.int64)  # [E], steps in the running episode
        self._over = np.zeros(num_envs, np.bool_)  # [E], the next row is a reset observation

    def reset(self, seed: int) -> VectorStep:
        """Start every episode anew; each environment draws from a seed of its own under `seed`."""
        self._exchange.reset()
        self._rngs = [np.random.default_rng(s) for s in env_seeds(seed, self.num_envs)]
        return self._begin(np.ones(self.num_envs, np.bool_))

    def send(self, actions: ArrayLike) -> None:
        """Keep `actions` `[E]` for `recv`; see `VectorEnv` for what is refused."""
        self._actions = self._exchange.send(actions)

    def recv(self) -> VectorStep:
        """Take the step and hand it over."""
        self._exchange.recv()
        reward, terminated = self._world.advance(self._actions, self._rngs)
        return self._begin(self._over, reward, terminated)

    def step(self, actions: ArrayLike) -> VectorStep:
        self.send(actions)
        return self.recv()

    def render(self) -> NDArray[np.uint8]:
        """Environment 0 enlarged to about 160 pixels, `[H, W, 3]`, both sides even (for video)."""
        if not self._exchange.started:
            raise RuntimeError(f"{self.spec.id}: render() before reset()")
        cells = self._world.picture()
        scale = max(2, 160 // max(cells.shape[:2]) // 2 * 2)
        return cells.repeat(scale, axis=0).repeat(scale, axis=1)

    def close(self) -> None:
        self._exchange.close()

    def _begin(
        self,
        first: NDArray[np.bool_],
        reward: NDArray[Any] | None = None,
        terminated: NDArray[np.bool_] | None = None,
    ) -> VectorStep:
        """Start episodes in the rows of `first` and put the step together around them."""
        if first.any():
            self._world.start(first, self._rngs)
        self._age = np.where(first, 0, self._age + 1)
        nothing = np.zeros(self.num_envs, np.bool_)
        terminated = nothing.copy() if terminated is None else terminated & ~first
        limit = self._world.time_limit
        truncated = nothing.copy() if limit is None else (self._age >= limit) & ~terminated & ~first
        self._over = terminated | truncated
        return VectorStep(
            frames=self._world.observe(),
            reward=np.where(first, 0.0, 0.0 if reward is None else reward).astype(np.float32),
            terminated=terminated,
            truncated=truncated,
            life_lost=nothing,
            first=first.copy(),
            lives=np.zeros(self.num_envs, np.int64),
        )
