"""Corridor: a cue at the start tells which door at the end is right, if one remembers it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from playfield.envs.contract import EnvSpec
from playfield.envs.worlds.vector import Generators

LENGTH = 10
MIDDLE = 1  # of the three rows; the doors are above and below it


class Corridor:
    """E corridors, frames uint8 `[E, 1, 3, 10]`: walker 255, doors 128, and 255 at the cue.

    The walker crosses from left to right, a cell a step, whatever the action. The cue, above or
    below the start with equal chances, shows in the first frame only. At the end the action picks
    the upper door (0) or the lower one (1): reward 1 if the cue was on that side, otherwise -1; an
    episode has 10 steps. Every frame between the first and the choice is the same for both cues, so
    an agent that sees its last 9 frames or fewer gets 0 on average whatever it does; the optimal
    return, with memory, is 1.

    After the T-maze of Bakker 2001, "Reinforcement Learning with Long Short-Term Memory".
    """

    time_limit = None
    optimal_return = 1.0

    def __init__(self, num_envs: int) -> None:
        self.spec = EnvSpec(
            id="playfield/Corridor-v0",
            frame_shape=(1, 3, LENGTH),
            frame_dtype="uint8",
            num_actions=2,
            action_meanings=("UPPER", "LOWER"),
            protocol={
                "name": "corridor",
                "length": LENGTH,
                "optimal_return": self.optimal_return,
                "optimal_return_without_memory": 0.0,
            },
        )
        self._cue = np.zeros(num_envs, np.int64)  # 0 above, 1 below
        self._column = np.zeros(num_envs, np.int64)
        self._row = np.full(num_envs, MIDDLE)

    def start(self, rows: NDArray[np.bool_], rngs: Generators) -> None:
        self._column[rows] = 0
        self._row[rows] = MIDDLE
        for env in np.flatnonzero(rows).tolist():
            self._cue[env] = rngs[env].integers(2)

    def advance(
        self, actions: NDArray[np.int64], rngs: Generators
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        choosing = self._column == LENGTH - 1
        self._row = np.where(choosing, 2 * actions, MIDDLE)
        self._column = np.minimum(self._column + 1, LENGTH - 1)
        right = actions == self._cue
        return np.where(choosing, np.where(right, 1.0, -1.0), 0.0), choosing

    def observe(self) -> NDArray[np.uint8]:
        frames = np.zeros((len(self._cue), 1, 3, LENGTH), np.uint8)
        frames[:, 0, 0, -1] = frames[:, 0, 2, -1] = 128
        envs = np.arange(len(self._cue))
        frames[envs, 0, self._row, self._column] = 255
        at_start = np.flatnonzero(self._column == 0)
        frames[at_start, 0, 2 * self._cue[at_start], 0] = 255
        return frames

    def picture(self) -> NDArray[np.uint8]:
        return np.repeat(self.observe()[0, 0, :, :, None], 3, axis=2)
