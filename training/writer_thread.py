"""Work that nobody waits for: a bounded queue, and one thread that does what is in it, in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

Job = Callable[[], None]


class WriterThread:
    """Runs jobs one after the other, beside the thread that hands them in.

    At most `jobs` of them wait, and `held` bytes in what they hold. The thread is a daemon: one
    that hangs on a disk keeps no process alive. `failed` gets the exception of a job that raised
    one, in the writer's thread; the next job goes on.
    """

    def __init__(
        self, name: str, failed: Callable[[Exception], None], *, jobs: int, held: int
    ) -> None:
        self._failed = failed
        self._most_jobs, self._most_held = jobs, held
        self._waiting: deque[tuple[Job, int]] = deque()
        self._held = 0  # bytes in the jobs that wait
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def put(self, job: Job, size: int = 0, share: float = 1.0) -> bool:
        """Hand in a job that holds `size` bytes; False, at once, if there is no room for it.

        There is room up to `share` of the bounds: what is less than 1 leaves the rest to others.
        """
        with self._changed:
            crowded = len(self._waiting) >= share * self._most_jobs
            if crowded or self._held + size > share * self._most_held or self._closing:
                return False
            self._enqueue(job, size)
            return True

    def flush(self, seconds: float) -> bool:
        """Wait until all that was handed in is done, for so long; whether it is."""
        done = threading.Event()
        with self._changed:
            if self._closing:
                return not self._thread.is_alive()
            self._enqueue(done.set, 0)  # beyond the bound: it holds nothing
        return done.wait(seconds)

    def close(self, seconds: float, last: Job) -> bool:
        """Do what waits, then `last`, and end; whether that took no longer than so many seconds."""
        with self._changed:
            if not self._closing:
                self._closing = True
                self._enqueue(last, 0)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _enqueue(self, job: Job, size: int) -> None:
        self._waiting.append((job, size))
        self._held += size
        self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    if self._closing:
                        return
                    self._changed.wait()
                job, size = self._waiting.popleft()
            try:
                job()
            except Exception as error:
                self._failed(error)
            finally:
                del job  # what it holds is free before the next is waited for
                with self._changed:
                    self._held -= size
