"""Endless: reward 1 for ever, cut now and then by a time limit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from playfield.envs.contract import EnvSpec
from playfield.envs.worlds.vector import Generators

TIME_LIMIT = 10


class Endless:
    """E copies of a single state, frames float32 `[E, 1]` that are always 1; the action is ignored.

    Nothing ever terminates; every 10 steps the episode is truncated. The value of the state is
    1 / (1 - gamma) if the learner bootstraps where an episode is truncated. One that takes the cut
    for an end finds 1 / (1 - 0.9 gamma), because one step in ten seems to lead nowhere: at
    gamma = 0.9 that is 5.3 instead of 10. The return of every episode is 10, the optimal one too.

    Source: Pardo et al. 2018, "Time Limits in Reinforcement Learning".
    """

    time_limit = TIME_LIMIT
    optimal_return = float(TIME_LIMIT)

    def __init__(self, num_envs: int) -> None:
        self.spec = EnvSpec(
            id="playfield/Endless-v0",
            frame_shape=(1,),
            frame_dtype="float32",
            num_actions=2,
            action_meanings=("THIS", "THAT"),
            protocol={
                "name": "endless",
                "time_limit": TIME_LIMIT,
                "optimal_return": self.optimal_return,
            },
        )
        self._num_envs = num_envs
        self._steps = 0  # since the start, of copy 0; only the picture shows it

    def start(self, rows: NDArray[np.bool_], rngs: Generators) -> None:
        if rows[0]:
            self._steps = 0

    def advance(
        self, actions: NDArray[np.int64], rngs: Generators
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        self._steps += 1
        return np.ones(self._num_envs), np.zeros(self._num_envs, np.bool_)

    def observe(self) -> NDArray[np.float32]:
        return np.ones((self._num_envs, 1), np.float32)

    def picture(self) -> NDArray[np.uint8]:
        cells = np.full((1, TIME_LIMIT, 3), 40, np.uint8)
        cells[0, : self._steps] = (60, 140, 60)
        return cells


def endless_value(gamma: float) -> float:
    """The value of the one state at discount `gamma`: 1 / (1 - gamma)."""
    return 1.0 / (1.0 - gamma)
