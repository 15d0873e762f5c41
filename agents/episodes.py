"""Scores of the games that training plays."""

from __future__ import annotations

import numpy as np

from playfield.envs.contract import VectorStep


class EpisodeLog:
    """Adds up raw reward and steps per environment and reports each game when it ends.

    A game ends at termination or truncation, never at a lost life.
    """

    def __init__(self, num_envs: int) -> None:
        self._return = np.zeros(num_envs, np.float64)
        self._length = np.zeros(num_envs, np.int64)

    def restart(self) -> None:
        """Forget the open games: their environments were reset from outside."""
        self._return[:] = 0
        self._length[:] = 0

    def add(self, step: VectorStep) -> dict[str, list[float]]:
        """Take in one step; the games that it ended, if any, as metrics."""
        self._return += step.reward
        self._length += ~step.first
        ended = step.terminated | step.truncated
        if not ended.any():
            return {}
        finished = {
            "episode/return": self._return[ended].tolist(),
            "episode/length": self._length[ended].astype(float).tolist(),
        }
        self._return[ended] = 0
        self._length[ended] = 0
        return finished
