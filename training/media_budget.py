"""How many pictures and films an hour may bring, so that a long run's files stay small."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

HOUR = 3600.0  # seconds
#: Pictures, films and histograms in any hour, however small they are.
MOST_PER_HOUR = 600


class MediaBudget:
    """Bytes and pieces that any 60 minutes may hold.

    `megabytes` (of 10⁶ bytes) of 0 allows nothing; `clock` gives seconds.
    """

    def __init__(
        self,
        megabytes: float,
        pieces: int = MOST_PER_HOUR,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bytes = int(megabytes * 1e6)
        self._pieces = pieces
        self._clock = clock
        self._spent: deque[tuple[float, int]] = deque()  # when, and how much
        self._held = 0  # the sum of it

    def spend(self, size: int) -> bool:
        """Whether a piece of `size` bytes is within the budget; if so it is counted."""
        if not self.allows(size):
            return False
        self._spent.append((self._clock(), size))
        self._held += size
        return True

    def allows(self, size: int) -> bool:
        """Whether there is room for a piece of `size` bytes now."""
        hour_ago = self._clock() - HOUR
        while self._spent and self._spent[0][0] <= hour_ago:
            self._held -= self._spent.popleft()[1]
        return len(self._spent) < self._pieces and self._held + size <= self._bytes
