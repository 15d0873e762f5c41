"""Chain: a row of cells with a prize at either end, whose values are known exactly."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from playfield.envs.contract import EnvSpec
from playfield.envs.worlds.vector import Generators
from playfield.errors import UserError

CELLS = 7  # the two ends included
LEFT_PRIZE, RIGHT_PRIZE = 0.7, 1.0


class Chain:
    """E chains, frames float32 `[E, 7]`: one-hot, the cell that the walker is in.

    An episode starts in one of the five inner cells, uniformly; the actions go left (0) and right
    (1), and with the chance `slip` the other way. Entering the left end gives 0.7, the right end 1,
    and either ends the episode. After 100 steps it is truncated, which changes no value for a
    learner that bootstraps there. The optimal return (undiscounted) is 1: go right. With gamma =
    0.9 the nearer prize is the better one in the first inner cell, and only there.
    """

    time_limit = 100
    optimal_return = 1.0

    def __init__(self, num_envs: int, slip: float = 0.0) -> None:
        if not 0.0 <= slip < 1.0:
            raise UserError(f"playfield/Chain-v0: slip must be at least 0 and below 1, not {slip}.")
        self.spec = EnvSpec(
            id="playfield/Chain-v0",
            frame_shape=(CELLS,),
            frame_dtype="float32",
            num_actions=2,
            action_meanings=("LEFT", "RIGHT"),
            protocol={
                "name": "chain",
                "cells": CELLS,
                "prizes": [LEFT_PRIZE, RIGHT_PRIZE],
                "slip": slip,
                "time_limit": self.time_limit,
                "optimal_return": self.optimal_return,
            },
        )
        self._slip = slip
        self._cell = np.ones(num_envs, np.int64)

    def start(self, rows: NDArray[np.bool_], rngs: Generators) -> None:
        for env in np.flatnonzero(rows).tolist():
            self._cell[env] = rngs[env].integers(1, CELLS - 1)

    def advance(
        self, actions: NDArray[np.int64], rngs: Generators
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        if self._slip:
            actions = actions ^ (np.asarray([rng.random() for rng in rngs]) < self._slip)
        self._cell = np.clip(self._cell + 2 * actions - 1, 0, CELLS - 1)
        left, right = self._cell == 0, self._cell == CELLS - 1
        return LEFT_PRIZE * left + RIGHT_PRIZE * right, left | right

    def observe(self) -> NDArray[np.float32]:
        return np.eye(CELLS, dtype=np.float32)[self._cell]

    def picture(self) -> NDArray[np.uint8]:
        cells = np.full((1, CELLS, 3), 40, np.uint8)
        cells[0, 0] = cells[0, -1] = (60, 140, 60)
        cells[0, self._cell[0]] = 255
        return cells


def chain_model(slip: float = 0.0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The chain as a Markov decision process: p(s' | s, a) `[7, 2, 7]` and E[r | s, a] `[7, 2]`.

    The two ends are absorbing and give nothing any more.
    """
    transition = np.zeros((CELLS, 2, CELLS))
    transition[0, :, 0] = transition[-1, :, -1] = 1.0
    for cell in range(1, CELLS - 1):
        for action, (ahead, behind) in enumerate([(cell - 1, cell + 1), (cell + 1, cell - 1)]):
            transition[cell, action, ahead] = 1.0 - slip
            transition[cell, action, behind] += slip
    entering = np.zeros(CELLS)
    entering[0], entering[-1] = LEFT_PRIZE, RIGHT_PRIZE
    reward = transition @ entering
    reward[[0, -1]] = 0.0
    return transition, reward


@functools.cache
def chain_values(gamma: float, slip: float = 0.0) -> NDArray[np.float64]:
    """The optimal action values Q* `[7, 2]` at discount `gamma`, by value iteration to 1e-12.

    Rows are cells, columns left and right; the rows of the two ends are 0. Read-only.
    """
    transition, reward = chain_model(slip)
    q = np.zeros((CELLS, 2))
    while True:
        improved: NDArray[np.float64] = reward + gamma * transition @ q.max(axis=1)
        if np.abs(improved - q).max() < 1e-12:
            improved.setflags(write=False)
            return improved
        q = improved
