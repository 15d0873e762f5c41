"""Where the time of a training goes: a table of its spans, and a trace to look at them one by one.

The trace is Chrome's (`chrome://tracing`, https://ui.perfetto.dev): the spans of all threads, and a
few steps in which torch's own profiler shows every operation, those of a GPU among them.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity

from playfield.atomic import write_atomically
from playfield.training.spans import SPANS, Recorder, Track, recording

#: Torch's profiler begins after so many updates, the first of which are no picture of the rest, and
#: ends after so many steps or seconds, whichever come first, but not within a step.
UPDATES, STEPS, SECONDS = 5, 20, 1.0
#: Spans that are an update.
LEARNING = ("update", "discriminator", "generator")
#: Where a trace is put in a run's folder.
TRACE = Path("profile", "trace.json")


@dataclass(frozen=True)
class Row:
    """What part of the time went where."""

    name: str
    seconds: float
    count: int | None  # spans; None of what is none
    meaning: str


@dataclass(frozen=True)
class Profile:
    """Where the time went: all of it, of the thread that trains, and what others did meanwhile."""

    seconds: float
    rows: list[Row]  # the longest first, and what is in no span at the end; they add up
    meanwhile: dict[str, list[Row]]  # by thread

    def table(self) -> list[str]:
        """The lines of a table, of less than 80 columns."""
        titles = f"  {'':<13}{'seconds':>10}{'share':>8}{'times':>12}"
        lines = [f"where the {self.seconds:.1f} s of training went:", titles]
        lines += self._lines(self.rows)
        for thread, rows in self.meanwhile.items():
            lines.append(f"meanwhile, in the thread {thread}:")
            lines += self._lines(rows)
        return lines

    def _lines(self, rows: list[Row]) -> list[str]:
        lines = []
        for row in rows:
            share = row.seconds / self.seconds if self.seconds else 0.0
            count = "" if row.count is None else f"{row.count:,}"
            numbers = f"{row.seconds:>10.2f}{share:>8.1%}{count:>12}"
            lines.append(f"  {row.name:<13}{numbers}  {row.meaning}")
        return lines


@contextmanager
def profiling(
    folder: Path, wanted: bool = True, say: Callable[[str], None] = print
) -> Iterator[None]:
    """Profile what is done in the context, if that is `wanted`.

    Then the table is told to `say`, and the trace put into the run's `folder`; a run that fails has
    its profile too. Trouble with it is told and costs nothing else.
    """
    if not wanted:
        yield
        return
    profiler = Profiler(say)
    try:
        with recording(profiler.recorder):
            yield
    except Exception:
        profiler.finish(folder)
        raise
    profiler.finish(folder)


class Profiler:
    """Listens to the spans of the thread that it is made in, and has torch's profiler run once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.recorder = Recorder(self)
        self.track = self.recorder.track()
        self.operations = Operations()
        self._thread = threading.get_ident()
        self._steps = 0
        self._begun = time.perf_counter_ns()
        self._operations_time = 0  # ns

    def began(self, name: str) -> None:
        if threading.get_ident() != self._thread:
            return
        if self.operations.running:
            if name not in ("step", "log", "display"):
                # An evaluation, say, would have millions of operations.
                self._timed(self.operations.stop)
        elif name == "step" and not self.operations.done and self._updates() >= UPDATES:
            self._timed(self.operations.start)

    def ended(self, name: str) -> None:
        if self.operations.running and threading.get_ident() == self._thread and name == "step":
            self._steps += 1
            if self._steps >= STEPS or self.operations.seconds() >= SECONDS:
                self._timed(self.operations.stop)

    def _updates(self) -> int:
        totals = self.track.totals
        return sum(totals[name].count for name in LEARNING if name in totals)

    def _timed(self, act: Callable[[], None]) -> None:
        """Start or stop torch's profiler; all the time from one to the other is its own."""
        if not self.operations.running:
            self._opened = time.perf_counter_ns()
        try:
            act()
        except (RuntimeError, OSError, ValueError) as error:
            self.say(f"Torch's profiler does not work here ({error}): the trace has no operations.")
        self.recorder.paused = self.operations.running
        self._operations_time = time.perf_counter_ns() - self._opened

    def finish(self, folder: Path) -> None:
        """Say where the time went, and write the trace into the run's `folder`."""
        if self.operations.running:
            self._timed(self.operations.stop)
        seconds = (time.perf_counter_ns() - self._begun) / 1e9
        for line in self.profile(seconds).table():
            self.say(line)
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            self.say("these are the processor's times; what the GPU did is in the trace.")
        path = folder / TRACE
        try:
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, json.dumps(self.trace(), separators=(",", ":")).encode())
        except OSError as error:
            self.say(f"Can't write {path} ({error.strerror or error}).")
        else:
            self.say(f"one by one in {path}: open it in https://ui.perfetto.dev")

    def profile(self, seconds: float) -> Profile:
        """What is recorded by now, `seconds` after the beginning."""
        rows = _rows(self.track)
        if self._operations_time:
            meaning = "torch's profiler, a few steps"
            rows.append(Row("profiler", self._operations_time / 1e9, None, meaning))
        rows.sort(key=lambda row: row.seconds, reverse=True)
        rest = seconds - sum(row.seconds for row in rows)
        rows.append(Row("other", max(rest, 0.0), None, "everything else"))
        others = [track for track in list(self.recorder.tracks) if track is not self.track]
        meanwhile = {track.thread: _rows(track) for track in others}
        return Profile(seconds, rows, {name: rows for name, rows in meanwhile.items() if rows})

    def trace(self) -> dict[str, Any]:
        """Everything that is kept one by one, in Chrome's format; times are µs from the start."""
        events: list[dict[str, Any]] = [
            _named("process_name", 0, "playfield"),
            {**_named("process_sort_index", 0, ""), "args": {"sort_index": -1}},
        ]
        for track in list(self.recorder.tracks):
            thread = "training" if track is self.track else track.thread
            events.append(_named("thread_name", track.ident, thread))
            for name, begin, end in list(track.events):
                at, length = (begin - self._begun) / 1e3, (end - begin) / 1e3
                place = {"pid": "playfield", "tid": track.ident}
                events.append({"ph": "X", "name": name, "ts": at, "dur": length, **place})
        events += self.operations.events(self._begun)
        return {"displayTimeUnit": "ms", "traceEvents": events}


class Operations:
    """Torch's profiler, run once."""

    def __init__(self) -> None:
        self.running = self.done = False
        self._trace: dict[str, Any] = {}

    def start(self) -> None:
        """Raises RuntimeError where it can't run, such as under another one."""
        self.done = True
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        self._profiler = torch.profiler.profile(activities=activities)
        with _quiet():
            self._profiler.start()
        self.running = True
        # Its clock is the calendar's. Two clocks part in hours, but not in these seconds.
        self._calendar, self._clock = time.time_ns(), time.perf_counter_ns()

    def seconds(self) -> float:
        """For how long it has been running."""
        return (time.perf_counter_ns() - self._clock) / 1e9

    def stop(self) -> None:
        """Raises RuntimeError, OSError or ValueError where nothing comes of it."""
        self.running = False
        with _quiet():
            self._profiler.stop()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "operations.json")
            self._profiler.export_chrome_trace(str(path))
            self._trace = json.loads(path.read_bytes())
        del self._profiler

    def events(self, begin: int) -> list[dict[str, Any]]:
        """Chrome's events, with times in µs after `begin`, ns of `time.perf_counter_ns`."""
        base: int = self._trace.get("baseTimeNanoseconds", 0)
        shift = (base - self._calendar + self._clock - begin) / 1e3 if self._trace else 0.0
        return [
            {**event, "ts": event["ts"] + shift} if "ts" in event else event
            for event in self._trace.get("traceEvents", ())
        ]


def _rows(track: Track) -> list[Row]:
    """The spans of one thread, the longest first."""
    rows = [
        Row(name, total.own / 1e9, total.count, SPANS.get(name, ""))
        for name, total in list(track.totals.items())
        if total.count
    ]
    return sorted(rows, key=lambda row: row.seconds, reverse=True)


def _named(what: str, thread: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": "playfield", "tid": thread, "args": {"name": name}}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the terminal what libraries write past Python: Kineto tells that it begins."""
    before = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)
