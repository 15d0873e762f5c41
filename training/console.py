"""What a person sees of a run: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

#: What is worth a place in the display: its name, label and format.
SHOWN = (
    ("episode/return_mean", "return of the last games", "{:.1f}"),
    ("eval/return", "evaluation", "{:.1f}"),
    ("train/loss", "loss", "{:.4g}"),
    ("train/epsilon", "epsilon", "{:.2f}"),
    ("paint/neighbour_distance", "distance to the data", "{:.1f}"),
    ("classify/accuracy", "accuracy on held-out images", "{:.2%}"),
    ("checkpoint/progress", "saved at", "{:,.0f}"),
    ("health/skipped_updates", "skipped updates", "{:.0f}"),
)
#: Seconds between two pictures of the live display, and between two plain lines.
LIVE_EVERY, PLAIN_EVERY = 0.5, 10.0


class Display(Protocol):
    """Shows how a run goes. Between `__enter__` and `__exit__`, from one thread."""

    every: float  # seconds between two updates that are worth making

    def __enter__(self) -> Display: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def update(
        self, progress: int, fraction: float, rate: float, metrics: Mapping[str, float]
    ) -> None:
        """Show the steps so far, the part of the budget that is spent (0 to 1), the steps per
        second (0 while unknown) and the newest value of each metric."""
        ...

    def note(self, text: str) -> None:
        """Say something once, such as that a checkpoint was written."""
        ...


def open_display(
    title: str, steps: int, unit: str = "steps", stream: TextIO | None = None
) -> Display:
    """A live display if `stream` (stdout unless given) is a terminal, else plain lines.

    `steps` is the length of the run in `unit`s.
    """
    stream = stream if stream is not None else sys.stdout
    console = Console(file=stream)
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveDisplay(title, Budget(steps, unit), console)
    return PlainDisplay(title, Budget(steps, unit), stream)


@dataclass(frozen=True)
class Budget:
    """How long a run is."""

    total: int
    unit: str = "steps"

    def numbers(self, progress: int, rate: float) -> list[str]:
        """How far it is, and how fast it goes, if that is known."""
        speed = [f"{rate:,.0f} {self.unit}/s"] if rate > 0 else []
        return [f"{progress:,} of {self.total:,} {self.unit}", *speed]


class LiveDisplay:
    """Progress bar, time left, speed and the newest metrics, redrawn in place."""

    every = LIVE_EVERY

    def __init__(self, title: str, budget: Budget, console: Console) -> None:
        self._budget = budget
        self._clock = _Clock()
        self._progress = Progress(
            TextColumn(f"[bold]{escape(title)}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[left]}"),
            console=console,
            expand=True,
        )
        self._task = self._progress.add_task("", total=1.0, left="")
        self._numbers = Text(overflow="fold")
        # Redrawn by update() alone: a refresh thread would compete for the GIL with the training.
        self._live = Live(Group(self._progress, self._numbers), console=console, auto_refresh=False)

    def __enter__(self) -> LiveDisplay:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def update(
        self, progress: int, fraction: float, rate: float, metrics: Mapping[str, float]
    ) -> None:
        left = self._clock.left(fraction)
        self._progress.update(self._task, completed=fraction, left=left and f"{left} left")
        numbers = [*self._budget.numbers(progress, rate), *_metrics(metrics)]
        self._numbers.plain = "  ".join(numbers)
        self._live.refresh()

    def note(self, text: str) -> None:
        self._live.console.print(Text(text))


class PlainDisplay:
    """One line per update, without control codes: for logs and pipes.

    A stream that can't be written to any more (a closed pipe, a full disk) silences it.
    """

    every = PLAIN_EVERY

    def __init__(self, title: str, budget: Budget, stream: TextIO) -> None:
        self._title = title
        self._budget = budget
        self._stream: TextIO | None = stream
        self._clock = _Clock()

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def update(
        self, progress: int, fraction: float, rate: float, metrics: Mapping[str, float]
    ) -> None:
        left = self._clock.left(fraction)
        parts = [*self._budget.numbers(progress, rate), *_metrics(metrics)]
        if left:
            parts.append(f"{left} left")
        self.note("  ".join(parts))

    def note(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            print(f"{self._title}: {text}", file=self._stream, flush=True)
        except (OSError, ValueError):  # ValueError: the stream was closed
            self._stream = None


class _Clock:
    """Estimates the time left from the part of the budget spent since it was first asked."""

    def __init__(self) -> None:
        self._start: tuple[float, float] | None = None

    def left(self, fraction: float) -> str:
        now = time.monotonic()
        if self._start is None:
            self._start = (now, fraction)
        begun, first = self._start
        if not first < fraction < 1.0 or now - begun < 1.0:
            return ""
        return duration((now - begun) * (1.0 - fraction) / (fraction - first))


def duration(seconds: float) -> str:
    """A time for people: "45s", "12m30s", "3h05m", "2d04h"."""
    whole = max(0, round(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if days:
        return f"{days}d{hours % 24:02d}h"
    if hours:
        return f"{hours}h{minutes % 60:02d}m"
    return f"{minutes}m{whole % 60:02d}s" if minutes else f"{whole}s"


def _metrics(metrics: Mapping[str, float]) -> list[str]:
    shown = [(label, form, metrics[name]) for name, label, form in SHOWN if name in metrics]
    # Nothing skipped is nothing to say.
    return [
        f"{label} {form.format(value)}"
        for label, form, value in shown
        if value or label != "skipped updates"
    ]
