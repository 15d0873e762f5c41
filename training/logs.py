"""Where the curves are written: `metrics.jsonl` and TensorBoard's event file, never at any price.

Encoding and writing happen in a thread of their own, and training never waits for a disk. Trouble
with a file (disk full, no permission) costs the points of that moment and one warning. A record is
appended whole or not at all, so the files stay readable and go on when there is room.
"""

from __future__ import annotations

import io
import json
import math
import os
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from playfield.atomic import write_atomically
from playfield.training import event_file
from playfield.training.event_file import Setting
from playfield.training.histograms import buckets
from playfield.training.layouts import Category
from playfield.training.media import Film, Picture
from playfield.training.media_budget import MediaBudget
from playfield.training.metrics import METRICS, Point
from playfield.training.record_file import RecordFile
from playfield.training.writer_thread import Job, WriterThread

#: Pictures and films that any hour of a run may add to its event file, in MB (10⁶ bytes).
MEDIA_MB_PER_HOUR = 8.0
#: The same of histograms, which take about 0.7 kB each.
HISTOGRAM_MB_PER_HOUR = 0.5
#: Finished games of one log interval that TensorBoard's file gets, evenly spread over it;
#: `metrics.jsonl` has all of them. TensorBoard draws at most a thousand points of a curve.
MOST_GAMES = 20
#: How much may wait for a slow disk: calls, and bytes of what they hold.
MOST_WAITING, MOST_BYTES_WAITING = 1_000, 64_000_000
#: How much of that pictures, films and histograms may fill; the rest is kept for points.
MEDIA_SHARE = 0.75
#: Seconds that a checkpoint, and the end of a run, wait for the curves at most.
FLUSH_SECONDS = 10.0
#: The same where a second signal ends the program, which is to stop at once.
EXIT_SECONDS = 0.5


class MetricsLog:
    """The curves of one run, in both files.

    A line of `metrics.jsonl` is `{"progress": steps, name: value, ...}`, one line per log interval
    and one per finished game; a value that is not finite is null there. `resume_at` cuts off what
    lies beyond that progress, in the file and in TensorBoard, so that a resumed run's curves
    neither overlap nor gap. Pictures, films and histograms go to TensorBoard alone, as far as
    `budget` allows (that of `MEDIA_MB_PER_HOUR` unless given).

    What is written is in the files after `flush` or `close`. `warn` gets at most one sentence per
    file and kind of trouble, in a call of whoever writes: never from the thread.
    """

    def __init__(
        self,
        folder: Path,
        warn: Callable[[str], None],
        resume_at: int | None,
        budget: MediaBudget | None = None,
    ) -> None:
        self._warn = warn
        self._said: set[str] = set()
        self._unsaid: deque[str] = deque()  # by the thread, for the next call
        self._budget = budget if budget is not None else MediaBudget(MEDIA_MB_PER_HOUR)
        self._histogram_budget = MediaBudget(HISTOGRAM_MB_PER_HOUR)
        self._failed = False
        self._described: set[str] = set()  # tags whose description is in the file; of the thread
        now = time.time()
        header = [event_file.version(now)]
        if resume_at is not None:
            self._cut(folder, resume_at)
            header += event_file.restart(resume_at, now)
        self._jsonl = RecordFile(folder / "metrics.jsonl", self._unsaid.append)
        path = folder / _event_file_name()
        self._events = RecordFile(path, self._unsaid.append, event_file.encode(header))
        self._thread = WriterThread(
            "curves", self._tell_failure, jobs=MOST_WAITING, held=MOST_BYTES_WAITING
        )

    def _cut(self, folder: Path, progress: int) -> None:
        cuts: list[tuple[Path, Callable[[Path, int], int]]] = [
            (folder / "metrics.jsonl", cut_metrics)
        ]
        cuts += [(path, event_file.cut_events) for path in sorted(folder.glob(event_file.PATTERN))]
        for path, cut in cuts:
            try:
                damaged = cut(path, progress)
            except Exception as error:  # whatever is in the file, the run goes on
                reason = (isinstance(error, OSError) and error.strerror) or repr(error)
                self._warn(f"Can't cut {path.name} back to step {progress} ({reason}).")
            else:
                if damaged:
                    self._warn(f"Left out {damaged:,} damaged bytes of {path.name}.")

    def write(
        self, progress: int, values: Mapping[str, float], finished: Sequence[Point] = ()
    ) -> None:
        """Add a point at `progress` for each of `values`, after the `finished` ones before it."""
        now, values, finished = time.time(), dict(values), list(finished)
        self._put(lambda: self._write(now, progress, values, finished), 100 * len(finished))

    def write_pictures(self, progress: int, pictures: Mapping[str, Picture]) -> None:
        """Add `pictures`, `[H, W, 3]` uint8, under their names at `progress`."""
        now = time.time()
        for tag, picture in pictures.items():
            self._put_picture(now, progress, tag, picture.copy())

    def write_film(self, progress: int, films: Mapping[str, Film]) -> None:
        """Add animated pictures under their names at `progress`."""
        now = time.time()
        for tag, film in films.items():
            self._put_film(now, progress, tag, film)

    def write_histograms(self, progress: int, histograms: Mapping[str, NDArray[Any]]) -> None:
        """Add the distribution of each array `[N]` under its name at `progress`."""
        now = time.time()
        for tag, values in histograms.items():
            self._put_histogram(now, progress, tag, values.copy())

    def write_text(self, progress: int, tag: str, markdown: str) -> None:
        """Add a text at `progress`."""
        now = time.time()
        self._put_events(lambda: event_file.text(progress, now, tag, markdown))

    def write_settings(self, settings: Mapping[str, Setting], layout: Sequence[Category]) -> None:
        """Say, once per session, what the run is and which curves belong together."""
        now, settings = time.time(), dict(settings)
        self._put_events(lambda: event_file.hyperparameters(now, settings))
        self._put_events(lambda: event_file.custom_scalars(now, layout))

    def write_end(self, progress: int, status: str) -> None:
        """Say how the run ended: "finished" or "failed". One that was "stopped" may go on."""
        now = time.time()
        if status in event_file.STATUS:
            self._put_events(lambda: event_file.session_end(progress, now, status))

    def flush(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Wait until what was written is on the disk, for so long at most; whether it is."""
        self._put(self._sync)
        done = self._thread.flush(seconds)
        if not done:
            self._say(f"The curves are more than {seconds:g} s behind: their disk is too slow.")
        self._pass_on()
        return done

    def close(self) -> None:
        """Write what waits, for `FLUSH_SECONDS` at most, and close the files.

        While `SystemExit` or `KeyboardInterrupt` is on its way, for `EXIT_SECONDS` at most.
        """
        leaving = isinstance(sys.exception(), SystemExit | KeyboardInterrupt)
        if not self._thread.close(EXIT_SECONDS if leaving else FLUSH_SECONDS, last=self._close):
            self._say("The newest points of the curves are lost: their disk is too slow.")
        self._pass_on()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- handed to the thread ---------------------------------------------------------------------

    def _put_picture(self, now: float, progress: int, tag: str, picture: Picture) -> None:
        height, width, _ = picture.shape
        self._put_medium(
            tag,
            lambda: self._add_film(now, progress, tag, Film(_png(picture), height, width)),
            picture.nbytes,
        )

    def _put_film(self, now: float, progress: int, tag: str, film: Film) -> None:
        self._put_medium(tag, lambda: self._add_film(now, progress, tag, film), len(film.encoded))

    def _put_histogram(self, now: float, progress: int, tag: str, values: NDArray[Any]) -> None:
        self._put_medium(
            tag, lambda: self._add_histogram(now, progress, tag, values), values.nbytes
        )

    def _put_medium(self, tag: str, job: Job, size: int) -> None:
        most = MEDIA_SHARE * MOST_BYTES_WAITING
        if size > most:  # however quick the disk
            self._say(
                f"{tag} is left out: it is too large for the curves (over {most / 1e6:g} MB)."
            )
        elif not self._thread.put(job, size, share=MEDIA_SHARE):
            self._say(
                "Pictures of the curves are left out: their disk is too slow for them; training "
                "goes on."
            )
        self._pass_on()

    def _put_events(self, event: Callable[[], Any]) -> None:
        self._put(lambda: self._events.append(event_file.encode([event()])))

    def _put(self, job: Job, size: int = 0) -> None:
        if not self._thread.put(job, size):
            self._say(
                "Points of the curves are lost: their disk is too slow for them; training goes on."
            )
        self._pass_on()

    # --- in the thread ----------------------------------------------------------------------------

    def _write(
        self, now: float, progress: int, values: Mapping[str, float], finished: Sequence[Point]
    ) -> None:
        games = _rows(finished)
        rows = [*games, (progress, values)]
        self._jsonl.append(b"".join(_line(at, row) for at, row in rows if row))
        rows = [*_spread(games, MOST_GAMES), (progress, values)]
        self._events.append(
            event_file.encode(
                [
                    event_file.scalars(at, now, row, self._descriptions(row))
                    for at, row in rows
                    if row
                ]
            )
        )

    def _descriptions(self, row: Mapping[str, float]) -> dict[str, str]:
        """Of the curves that begin with this row: TensorBoard shows what came first."""
        new = [name for name in row if name in METRICS and name not in self._described]
        self._described.update(new)
        return {name: f"{METRICS[name].meaning} ({METRICS[name].unit})" for name in new}

    def _add_film(self, now: float, progress: int, tag: str, film: Film) -> None:
        if self._budget.spend(len(film.encoded)):
            self._events.append(event_file.encode([event_file.picture(progress, now, tag, film)]))
        else:
            self._unsaid.append(
                "TensorBoard's file gets no more pictures for now: this hour's share of them is "
                "used up (media_mb_per_hour)."
            )

    def _add_histogram(self, now: float, progress: int, tag: str, values: NDArray[Any]) -> None:
        found = buckets(values)
        if self._histogram_budget.spend(found.nbytes):
            self._events.append(
                event_file.encode([event_file.histogram(progress, now, tag, found)])
            )

    def _sync(self) -> None:
        self._jsonl.sync()
        self._events.sync()

    def _close(self) -> None:
        self._jsonl.close()
        self._events.close()

    def _tell_failure(self, error: Exception) -> None:
        if not self._failed:
            self._failed = True
            self._unsaid.append(f"Points of the curves are lost ({error!r}); training goes on.")

    # --- what is said -----------------------------------------------------------------------------

    def _pass_on(self) -> None:
        while self._unsaid:
            self._say(self._unsaid.popleft())

    def _say(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self._warn(sentence)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`, in order; a damaged line (cut by a crash) is left out.

    Raises `OSError` if the file can't be read.
    """
    lines = []
    for text in path.read_bytes().splitlines():
        line = _parse(text)
        if line is not None:
            lines.append(line)
    return lines


def cut_metrics(path: Path, progress: int) -> int:
    """Remove the lines of `path` beyond `progress`, and damaged ones. Raises `OSError`.

    Returns how many bytes the damaged ones had.
    """
    if not path.exists():
        return 0
    texts = path.read_bytes().splitlines()
    lines = [_parse(text) for text in texts]
    pairs = list(zip(texts, lines, strict=True))
    kept = [t for t, line in pairs if line is not None and line["progress"] <= progress]
    if len(kept) < len(texts):
        write_atomically(path, b"".join(text + b"\n" for text in kept))
    return sum(len(text) for text, line in pairs if line is None)


def _rows(finished: Sequence[Point]) -> list[tuple[int, Mapping[str, float]]]:
    """One row per game: the k-th return of a step belongs to the k-th length of that step."""
    rows: dict[tuple[int, int], dict[str, float]] = {}
    seen: Counter[tuple[int, str]] = Counter()
    for point in finished:
        k = seen[point.progress, point.name]
        seen[point.progress, point.name] += 1
        rows.setdefault((point.progress, k), {})[point.name] = point.value
    return [(progress, row) for (progress, _), row in rows.items()]


def _spread(rows: list[Any], most: int) -> list[Any]:
    """At most so many of `rows`, evenly spread, the last one included."""
    if len(rows) <= most:
        return rows
    return [rows[(k + 1) * len(rows) // most - 1] for k in range(most)]


def _line(progress: int, row: Mapping[str, float]) -> bytes:
    finite = {name: v if math.isfinite(v) else None for name, v in row.items()}
    return (json.dumps({"progress": progress, **finite}, allow_nan=False) + "\n").encode()


def _parse(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) and isinstance(line.get("progress"), int) else None


def _png(picture: Picture) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, "png")
    return encoded.getvalue()


def _event_file_name() -> str:
    # TensorBoard takes the files of a folder in the order of their names, so a resumed run's has to
    # sort after the one before: seconds alone could tie.
    return f"events.out.tfevents.{time.time_ns() / 1e9:.6f}.{socket.gethostname()}.{os.getpid()}"
