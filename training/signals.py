"""SIGINT and SIGTERM: the first asks for a stop between two steps, the second stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any


@contextmanager
def ending_at_interrupt() -> Iterator[None]:
    """A context in which SIGINT ends the process at once, as it ends a program in C.

    Python's own handler raises KeyboardInterrupt wherever the program happens to be. Inside an
    import that is too early: torch's initialisation aborts on it, and importlib swallows it.
    A process that ignores SIGINT, such as one under nohup, goes on ignoring it.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def raise_at_interrupt() -> None:
    """From here on SIGINT raises KeyboardInterrupt again: the program is ready to catch it."""
    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Interrupted(Exception):
    """A first signal, inside a part of the program that it may cut short."""


class StopSignals:
    """A context in which a first SIGINT or SIGTERM only sets `received`.

    The second raises `SystemExit(128 + its number)` on the spot, as does the default of a shell's
    program; files are safe there because they are written beside and renamed. After it the handlers
    from before are back, so that a third can end even a stuck exit. Python delivers signals to the
    main thread only: in any other this does nothing.
    """

    HANDLED = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received: int | None = None
        self._interruptible = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in self.HANDLED:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A part, such as an evaluation, that the first signal cuts short with `Interrupted`."""
        self._interruptible = True
        try:
            if self.received is not None:
                raise Interrupted
            yield
        finally:
            self._interruptible = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            self._restore()
            raise SystemExit(128 + number)
        self.received = number
        if self._interruptible:
            self._interruptible = False
            raise Interrupted

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)
