"""Catch: a ball falls, a paddle at the bottom catches it or not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from playfield.envs.contract import EnvSpec
from playfield.envs.worlds.vector import Generators

ROWS, COLUMNS = 10, 5


class Catch:
    """E boards, frames uint8 `[E, 1, 10, 5]`: 255 at the ball and at the paddle, else 0.

    The ball starts in a random column of the top row and falls one row a step; the paddle starts in
    the middle of the bottom row and moves left, stays or moves right. After 9 steps the ball is at
    the bottom: reward 1 if it is on the paddle, otherwise -1. Every ball can be caught, so the
    optimal return is 1; a paddle that never moves gets 1/5 - 4/5 = -0.6 on average.

    Source: `catch` of bsuite (Osband et al. 2020, "Behaviour Suite for Reinforcement Learning").
    """

    time_limit = None
    optimal_return = 1.0

    def __init__(self, num_envs: int) -> None:
        self.spec = EnvSpec(
            id="playfield/Catch-v0",
            frame_shape=(1, ROWS, COLUMNS),
            frame_dtype="uint8",
            num_actions=3,
            action_meanings=("LEFT", "STAY", "RIGHT"),
            protocol={
                "name": "catch",
                "rows": ROWS,
                "columns": COLUMNS,
                "optimal_return": self.optimal_return,
            },
        )
        self._ball_row = np.zeros(num_envs, np.int64)
        self._ball_column = np.zeros(num_envs, np.int64)
        self._paddle = np.zeros(num_envs, np.int64)

    def start(self, rows: NDArray[np.bool_], rngs: Generators) -> None:
        self._ball_row[rows] = 0
        self._paddle[rows] = COLUMNS // 2
        for env in np.flatnonzero(rows).tolist():
            self._ball_column[env] = rngs[env].integers(COLUMNS)

    def advance(
        self, actions: NDArray[np.int64], rngs: Generators
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        self._paddle = np.clip(self._paddle + actions - 1, 0, COLUMNS - 1)
        self._ball_row = self._ball_row + 1
        landed = self._ball_row == ROWS - 1
        caught = self._ball_column == self._paddle
        return np.where(landed, np.where(caught, 1.0, -1.0), 0.0), landed

    def observe(self) -> NDArray[np.uint8]:
        boards = np.zeros((len(self._paddle), 1, ROWS, COLUMNS), np.uint8)
        envs = np.arange(len(self._paddle))
        boards[envs, 0, self._ball_row, self._ball_column] = 255
        boards[envs, 0, ROWS - 1, self._paddle] = 255
        return boards

    def picture(self) -> NDArray[np.uint8]:
        cells = np.zeros((ROWS, COLUMNS, 3), np.uint8)
        cells[ROWS - 1, self._paddle[0]] = (90, 160, 255)
        cells[self._ball_row[0], self._ball_column[0]] = (255, 200, 60)
        return cells
