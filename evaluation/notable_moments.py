"""Which moments of a game are worth a closer look, by what the agent expected and what it got."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Moments are at least so many steps apart, where the game is long enough: neighbours look alike.
APART = 8


@dataclass(frozen=True)
class NotableMoment:
    """A step of a game, and what is notable of it."""

    step: int
    why: str


def notable_moments(
    value: NDArray[np.float64], gain: NDArray[np.float64], count: int
) -> list[NotableMoment]:
    """At most `count` moments of a game, in its order.

    `value` `[T]` is what the agent expected at each step, `gain` `[T]` what its action there
    brought: the reward, or something negative for a lost life. In turn one each of: the highest
    value, the step at which it fell most, the one at which it rose most, the last step before a
    gain and before a loss (the largest first), and the lowest value; then the next of each, until
    there are `count` or no more that are `APART` steps from those before. Values that are not
    finite are left out.
    """
    if value.shape != gain.shape or value.ndim != 1:
        raise ValueError(f"value {list(value.shape)} and gain {list(gain.shape)} are not both [T]")
    change = np.diff(value, prepend=value[:1])
    queues = {
        "the highest value": _ranked(value, np.isfinite(value)),
        "the value falls most": _ranked(-change, change < 0),
        "the value rises most": _ranked(change, change > 0),
        "before a gain": _ranked(gain, gain > 0),
        "before a loss": _ranked(-gain, gain < 0),
        "the lowest value": _ranked(-value, np.isfinite(value)),
    }
    apart = max(1, min(APART, len(value) // (2 * count)))
    found: list[NotableMoment] = []
    while len(found) < count and any(queues.values()):
        for why, queue in queues.items():
            while queue and any(abs(queue[0] - other.step) < apart for other in found):
                queue.pop(0)
            if queue and len(found) < count:
                found.append(NotableMoment(queue.pop(0), why))
    return sorted(found, key=lambda moment: moment.step)


def _ranked(score: NDArray[np.float64], among: NDArray[np.bool_]) -> list[int]:
    """The steps `among` which to choose, the highest score first and the earliest of equal ones."""
    steps = np.flatnonzero(among & np.isfinite(score))
    best_first: list[int] = steps[np.argsort(-score[steps], kind="stable")].tolist()
    return best_first
