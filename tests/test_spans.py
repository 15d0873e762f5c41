"""Spans of time: whose time is whose, and that they cost nothing where nobody records."""

from __future__ import annotations

import ast
import itertools
import threading
from pathlib import Path
from typing import ClassVar

import pytest

import playfield
from playfield.training import spans
from playfield.training.spans import SPANS, Recorder, each, recording, span, spanned


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time stands still but where a test lets it pass."""
    clock = Clock()
    monkeypatch.setattr(spans.time, "perf_counter_ns", clock.read)
    return clock


class Clock:
    def __init__(self) -> None:
        self.now = 0

    def read(self) -> int:
        return self.now

    def pass_(self, ns: int) -> None:
        self.now += ns


def own_times(recorder: Recorder) -> dict[str, int]:
    (track,) = recorder.tracks
    return {name: total.own for name, total in track.totals.items()}


def test_time_inside_an_inner_span_is_not_the_outer_ones(clock):
    recorder = Recorder()
    with recording(recorder), span("step"):
        clock.pass_(1)
        with span("update"):
            clock.pass_(10)
            with span("sample"):
                clock.pass_(100)
            clock.pass_(20)
        clock.pass_(2)
    assert own_times(recorder) == {"step": 3, "update": 30, "sample": 100}


def test_a_span_that_recurs_inside_itself_counts_its_time_once(clock):
    recorder = Recorder()
    with recording(recorder), span("log"):
        clock.pass_(1)
        with span("log"):
            clock.pass_(10)
    assert own_times(recorder) == {"log": 11}
    assert recorder.tracks[0].totals["log"].count == 2


def test_an_error_ends_the_spans_that_it_leaves(clock):
    recorder = Recorder()
    with recording(recorder):
        with pytest.raises(ZeroDivisionError), span("step"), span("update"):
            clock.pass_(5)
            raise ZeroDivisionError
        with span("log"):
            clock.pass_(7)
    assert own_times(recorder) == {"step": 0, "update": 5, "log": 7}


def test_what_is_done_with_each_item_is_no_time_of_making_it(clock):
    def make():
        for item in range(3):
            clock.pass_(10)
            yield item
        clock.pass_(1)  # finding out that there is no more is work too

    recorder = Recorder()
    with recording(recorder), span("step"):
        for _ in each("sample", make()):
            clock.pass_(100)
    assert own_times(recorder) == {"step": 300, "sample": 31}


def test_each_hands_on_the_items_and_asks_for_none_too_many():
    source = iter(range(10))
    assert list(itertools.islice(each("sample", source), 3)) == [0, 1, 2]
    assert next(source) == 3
    assert list(each("sample", [])) == []


def test_threads_have_tracks_of_their_own(clock):
    recorder = Recorder()

    def collect() -> None:
        with span("act"):
            pass

    with recording(recorder), span("step"):
        thread = threading.Thread(target=collect, name="collector")
        thread.start()
        thread.join()
        clock.pass_(4)
    tracks = {track.thread: set(track.totals) for track in recorder.tracks}
    assert tracks == {"collector": {"act"}, threading.current_thread().name: {"step"}}


def test_a_paused_recorder_sums_nothing_up_but_keeps_the_spans_for_the_trace(clock):
    recorder = Recorder()
    with recording(recorder):
        recorder.paused = True
        with span("step"):
            clock.pass_(3)
        recorder.paused = False
        with span("step"):
            clock.pass_(5)
    (track,) = recorder.tracks
    assert track.totals["step"] == spans.Total(own=5, count=1)
    assert [(event.begin, event.end) for event in track.events] == [(0, 3), (3, 8)]


def test_what_happens_often_is_kept_for_the_trace_up_to_a_number_and_what_is_rare_always(
    clock, monkeypatch
):
    monkeypatch.setattr(spans, "KEPT", 3)
    recorder = Recorder()
    with recording(recorder):
        for _ in range(10):
            with span("act"):
                clock.pass_(1)
        with span("checkpoint"):
            clock.pass_(1)
    (track,) = recorder.tracks
    assert [event.name for event in track.events] == ["act"] * 3 + ["checkpoint"]
    assert track.totals["act"] == spans.Total(own=10, count=10)


def test_of_spans_that_are_inside_no_other_a_listener_is_told():
    class Listener:
        heard: ClassVar[list[str]] = []

        def began(self, name: str) -> None:
            self.heard.append(f"{name} began")

        def ended(self, name: str) -> None:
            self.heard.append(f"{name} ended")

    with recording(Recorder(Listener())):
        with span("step"), span("update"):
            pass
        with span("log"):
            pass
    assert Listener.heard == ["step began", "step ended", "log began", "log ended"]


def test_without_a_recorder_a_span_is_nothing_at_all():
    assert span("act") is span("update")  # one object for all: nothing is made, nothing is kept
    recorder = Recorder()
    with recording(recorder):
        pass
    with span("act"):
        pass
    assert recorder.tracks == []


def test_only_one_recorder_is_at_work():
    with recording(Recorder()):
        with pytest.raises(RuntimeError, match="another recorder"), recording(Recorder()):
            pass
    with recording(Recorder()):
        pass


def test_a_spanned_function_is_the_function_it_was(clock):
    @spanned("checkpoint")
    def save(at: int, *, twice: bool) -> int:
        """Save."""
        clock.pass_(2)
        return 2 * at if twice else at

    recorder = Recorder()
    with recording(recorder):
        assert save(4, twice=True) == 8
    assert (save.__name__, save.__doc__) == ("save", "Save.")
    assert own_times(recorder) == {"checkpoint": 2}


def test_every_span_in_the_package_has_a_meaning_and_every_meaning_a_span():
    used = set()
    root = Path(playfield.__file__).parent
    for path in root.glob("[a-z]*/*.py"):
        if path.parent.name in ("tests", "benchmarks", "build"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id in ("span", "spanned", "each") and node.args:
                    name = node.args[0]
                    if isinstance(name, ast.Constant):
                        used.add(name.value)
    assert used == set(SPANS)
