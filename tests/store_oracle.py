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

    def sequence(self, stream, time, stack, length, burn_in, stride, gamma, clip, life_loss):
        """What a recurrent learner reads from `time` on, or None where no window begins.

        The steps `(action, reward, discount)`, and the observations, of which there is one more.
        """
        moments = self.history[stream]
        oldest = max(0, len(moments) - self.slots)
        if not oldest <= time < len(moments):
            return None
        start = time
        while not moments[start].first:
            start -= 1
        if (time - start) % stride or max(start, time - stack + 1) < oldest:
            return None
        steps = []
        for t in range(time, time + burn_in + length):
            if t + 1 >= len(moments) or moments[t].action is None:
                return None
            after = moments[t + 1]
            reward = np.clip(after.reward, -clip, clip) if clip else after.reward
            terminal = after.terminated or (life_loss and after.life_lost)
            steps.append((moments[t].action, reward, 0.0 if terminal else gamma))
            if after.terminated or after.truncated:
                break
        if len(steps) <= burn_in:
            return None
        return steps, [self.stack(stream, time + k, stack) for k in range(len(steps) + 1)]

    def rollout(self, stream, length, stack, gamma, clip, life_loss):
        """The last `length` steps as `(time, observation, step, first)`, oldest first.

        A step is `(action, reward, discount, ends)`, and None on a final observation.
        """
        moments, rows = self.history[stream], []
        for time in range(len(moments) - 1 - length, len(moments) - 1):
            now, after, step = moments[time], moments[time + 1], None
            if not (now.terminated or now.truncated):
                reward = np.clip(after.reward, -clip, clip) if clip else after.reward
                terminal = after.terminated or (life_loss and after.life_lost)
                ends = terminal or after.truncated
                step = (now.action, reward, 0.0 if terminal else gamma, ends)
            rows.append((time, self.stack(stream, time, stack), step, now.first))
        return rows
