"""The order of `reset`, `send` and `recv`, and the actions that may be sent."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from playfield.errors import UserError


class Exchange:
    """Whose turn it is between a learner and its environments.

    Every vector environment owns one and tells it of each call, so that a call out of order is a
    `RuntimeError` that says what was due, instead of a deadlock in an emulator's thread pool.
    """

    def __init__(self, env_id: str, num_envs: int, num_actions: int) -> None:
        self._env_id = env_id
        self._num_envs = num_envs
        self._num_actions = num_actions
        self._state: Literal["new", "ready", "running", "closed"] = "new"

    @property
    def started(self) -> bool:
        """Whether there has been a reset, and no close since."""
        return self._state in ("ready", "running")

    @property
    def running(self) -> bool:
        """Whether actions have been sent whose step has not been received."""
        return self._state == "running"

    def reset(self) -> None:
        """Note a reset, which may come at any time; a running step is the caller's to discard."""
        if self._state == "closed":
            raise RuntimeError(f"{self._env_id}: reset() after close()")
        self._state = "ready"

    def send(self, actions: ArrayLike) -> NDArray[np.int64]:
        """Check `actions` and note that they are sent; returns them as int64 `[E]`.

        Raises `RuntimeError` out of order, `TypeError` for actions that are not integers and
        `ValueError` for a wrong shape or the first action outside `0 <= action < num_actions`. All
        of it comes before anything is sent: an action out of range would kill the worker thread
        that runs it, and the emulators would wait for its result for ever.
        """
        if self._state != "ready":
            due = {
                "new": "reset() comes first",
                "running": "the step before it has not been received: recv() comes first",
                "closed": "the environments are closed",
            }[self._state]
            raise RuntimeError(f"{self._env_id}: send() out of order; {due}")
        checked = self._checked(actions)
        self._state = "running"
        return checked

    def recv(self) -> None:
        """Note that the running step is received. Raises `RuntimeError` when none is running."""
        if self._state != "running":
            raise RuntimeError(f"{self._env_id}: recv() without a send() before it")
        self._state = "ready"

    def close(self) -> None:
        self._state = "closed"

    def _checked(self, actions: ArrayLike) -> NDArray[np.int64]:
        given = np.asarray(actions)
        if not np.issubdtype(given.dtype, np.integer):
            raise TypeError(f"{self._env_id}: actions must be integers, not {given.dtype}")
        if given.shape != (self._num_envs,):
            raise ValueError(
                f"{self._env_id}: actions must have the shape ({self._num_envs},), "
                f"one for each environment, not {given.shape}"
            )
        wrong = np.flatnonzero((given < 0) | (given >= self._num_actions))
        if wrong.size:
            raise ValueError(
                f"{self._env_id}: action {given[wrong[0]]} of environment {wrong[0]} is outside "
                f"0 <= action < {self._num_actions}"
            )
        # A copy: the emulators read it after `send` has returned to its caller.
        return given.astype(np.int64)


def check_num_envs(name: str, num_envs: int) -> None:
    """`UserError` unless `num_envs` is 1 or more; comes before anything is made for them."""
    if num_envs < 1:
        raise UserError(f"{name}: the number of environments must be 1 or more, not {num_envs}.")
