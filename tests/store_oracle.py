"""The store's contract once more, as slow and plain as it can be said: the oracle of its tests."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Moment:
    frame: np.ndarray
    reward: float
    terminated: bool
    truncated: bool
    life_lost: bool
    first: bool
    action: int | None = None


@dataclass
class OracleStore:
    """Every stream is the list of all moments that it ever saw, of which the last `slots` count."""

    streams: int
    slots: int
    history: list[list[Moment]] = field(default_factory=list)

    def __post_init__(self):
        self.history = [[] for _ in range(self.streams)]

    def stack(self, stream, time, size):
        """The frames up to `time`, oldest first, zero before the episode's start."""
        moments, frames = self.history[stream], []
        while len(frames) < size:
            frames.insert(0, moments[time].frame)
            if moments[time].first:
                break
            time -= 1
        missing = size - len(frames)
        return np.concatenate([np.zeros_like(frames[0])] * missing + frames)

    def transition(self, stream, time, stack, n, gamma, clip, life_loss):
        """What learning reads at `time`, or None where no transition begins."""
        moments = self.history[stream]
        oldest = max(0, len(moments) - self.slots)
        if not oldest <= time < len(moments) or moments[time].action is None:
            return None
        reach = time
        while time - reach < stack - 1 and not moments[reach].first:
            reach -= 1
        if reach < oldest:
            return None  # a frame of its stack has been overwritten
        total, discount = 0.0, 1.0
        for k in range(1, n + 1):
            if time + k >= len(moments):
                return None  # not complete yet
            after = moments[time + k]
            total += discount * (np.clip(after.reward, -clip, clip) if clip else after.reward)
            discount *= gamma
            terminal = after.terminated or (life_loss and after.life_lost)
            if terminal or after.truncated:
                break
        return (
            self.stack(stream, time, stack),
            moments[time].action,
            np.float32(total),
            np.float32(0.0 if terminal else discount),
            self.stack(stream, time + k, stack),
        )
