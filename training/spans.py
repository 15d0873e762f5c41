"""Named spans of time, of which a profile is made; where nobody records, they cost next to nothing.

    with span("sample"):
        batch = replay.sample()

Times are those of the thread that runs the span. What a GPU is asked to do goes on after the span
has ended, and shows in the one that waits for it.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import NamedTuple, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

#: Every span there is, and what its time went to: its own, without that of spans inside it.
SPANS: dict[str, str] = {
    "begin": "getting ready",
    "act": "choosing actions",
    "environments": "waiting for the environments",
    "store": "keeping what was seen",
    "wait": "waiting for a rollout",
    "sample": "bringing batches together",
    "targets": "returns and advantages",
    "update": "losses, gradients, optimiser",
    "discriminator": "the discriminator's updates",
    "generator": "the generator's updates",
    "average": "averages of the weights",
    "step": "the rest of training steps",
    "log": "summing up, writing the curves",
    "display": "showing how it goes",
    "checkpoint": "saving",
    "evaluate": "evaluating",
}
#: Spans of one name and thread that are kept one by one, for the trace: 0.1 kB each.
KEPT = 10_000


class Event(NamedTuple):
    """One span as it was."""

    name: str
    begin: int  # ns, of `time.perf_counter_ns`
    end: int  # ns


@dataclass
class Total:
    """All spans of one name in one thread."""

    own: int = 0  # ns, without those of the spans inside
    count: int = 0


class Listener(Protocol):
    """Is told of the spans that are inside no other, in the thread that they are of."""

    def began(self, name: str) -> None:
        """Called before the span's time begins."""
        ...

    def ended(self, name: str) -> None: ...


class Track:
    """What one thread did. Only that thread adds to it."""

    def __init__(self, recorder: Recorder, thread: str, ident: int) -> None:
        self.thread, self.ident = thread, ident
        self.totals: dict[str, Total] = {}
        self.events: list[Event] = []  # in the order of their ends
        self._recorder = recorder
        self._inside: list[int] = []  # per open span: ns of those that ended inside

    def enter(self, name: str) -> None:
        if not self._inside and self._recorder.listener is not None:
            self._recorder.listener.began(name)
        self._inside.append(0)

    def exit(self, name: str, begin: int, end: int) -> None:
        inside, length = self._inside.pop(), end - begin
        if self._inside:
            self._inside[-1] += length
        total = self.totals.setdefault(name, Total())
        if not self._recorder.paused:
            total.own += length - inside
            total.count += 1
        if self._recorder.paused or total.count <= KEPT:
            self.events.append(Event(name, begin, end))
        if not self._inside and self._recorder.listener is not None:
            self._recorder.listener.ended(name)


class Recorder:
    """Sums up spans by thread and name, and keeps the first `KEPT` of each one by one.

    While `paused` they are kept one by one but not summed up: for when something slows them down.
    """

    def __init__(self, listener: Listener | None = None) -> None:
        self.listener = listener
        self.paused = False
        self.tracks: list[Track] = []
        self._here = threading.local()

    def track(self) -> Track:
        """That of the thread that asks."""
        found: Track | None = getattr(self._here, "track", None)
        if found is None:
            thread = threading.current_thread()
            found = self._here.track = Track(self, thread.name, threading.get_native_id())
            self.tracks.append(found)
        return found


class _Span:
    """A span that is recorded."""

    __slots__ = ("_begin", "_name", "_track")

    def __init__(self, track: Track, name: str) -> None:
        self._track, self._name = track, name

    def __enter__(self) -> None:
        self._track.enter(self._name)
        self._begin = time.perf_counter_ns()

    def __exit__(self, *_: object) -> None:
        self._track.exit(self._name, self._begin, time.perf_counter_ns())


class _NoSpan:
    """One that is not."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


_NO_SPAN = _NoSpan()
# The process's own, because spans stand where no argument reaches; only `recording` sets it.
_recorder: Recorder | None = None


def span(name: str) -> AbstractContextManager[None]:
    """A context whose time counts as `name`'s, one of `SPANS`, if anybody records."""
    return _NO_SPAN if _recorder is None else _Span(_recorder.track(), name)


def spanned(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: every call is a span."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **keywords: P.kwargs) -> R:
            with span(name):
                return function(*args, **keywords)

        return call

    return decorate


def each(name: str, items: Iterable[T]) -> Iterator[T]:
    """`items`, where the making of each is a span, and what is done with it is not."""
    rest = iter(items)
    while True:
        with span(name):
            try:
                item = next(rest)
            except StopIteration:
                return
        yield item


@contextmanager
def recording(recorder: Recorder) -> Iterator[None]:
    """Have all spans of the process recorded by `recorder`, while the context lasts.

    Raises RuntimeError where another one records already.
    """
    global _recorder
    if _recorder is not None:
        raise RuntimeError("recording: another recorder is at work in this process")
    _recorder = recorder
    try:
        yield
    finally:
        _recorder = None
