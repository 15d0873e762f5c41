"""The curves of a run, read back from its `metrics.jsonl` quickly.

A run of ten million steps logs tens of megabytes, of which a curve is a few bytes per line. So the
bytes are searched for the name, and the numbers beside it are parsed all together; whatever does
not look as `MetricsLog` writes it is left to the JSON parser. Lines stand on their own: what a
crash or a bad disk damaged is left out, and said.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The name of the curve that holds the clock.
MINUTES = "time/minutes"
#: Bytes read at once of a file that is searched for a few values: they stay in a cache meanwhile.
READ = 2**16

_BEGINNING = b'{"progress": '
_DIGITS = 26  # bytes that hold any number, -2.2250738585072014e-308 too, and what ends it
_BLOCK = 2**18  # bytes that stay in a cache while they are looked at in several ways
_NEWLINE, _COMMA, _OPENED, _CLOSED = b"\n,{}"
_BEGINNING_CODES = np.frombuffer(_BEGINNING, np.uint8)
_NULL, _NAN = (np.frombuffer(word, np.uint8) for word in (b"null", b"nan\0"))


@dataclass(frozen=True)
class Curve:
    """The points of one metric, in the order of training."""

    progress: NDArray[np.int64]  # [N] ascending: environment steps, or images
    value: NDArray[np.float64]  # [N] NaN where what was measured was not finite
    minutes: NDArray[np.float64] | None  # [N] of training so far; None where no clock was logged


@dataclass(frozen=True)
class Curves:
    """What was asked of a file, one curve for each name; a metric never logged has no points."""

    curves: dict[str, Curve]
    damage: str | None  # one sentence on what was left out


def read_curve(path: Path, name: str) -> Curve:
    """The curve of `name` in the `metrics.jsonl` at `path`. Raises `OSError`."""
    return read_curves(path, [name]).curves[name]


def read_curves(path: Path, names: Sequence[str], *, clock: bool = True) -> Curves:
    """The curves of `names` in the `metrics.jsonl` at `path`, which may still be growing.

    Without `clock`, no curve gets its minutes, which saves a part of the time. Where the progress
    steps back, because a resume could not cut off what it gave up, the later points count. Raises
    `OSError` if the file can't be read.
    """
    text = path.read_bytes()
    wanted = list(dict.fromkeys([*names, MINUTES] if clock else names))
    try:
        points, damaged, lines = _search(text, wanted)
    except ValueError:  # a number that is none
        points, damaged, lines = _parse_all(text, wanted)
    found = {name: _in_order(*each) for name, each in points.items()}
    minutes = found[MINUTES] if clock else None
    curves = {name: Curve(*found[name], _minutes_at(found[name][0], minutes)) for name in names}
    return Curves(curves, _damage(path, text, damaged, lines))


def metric_names(path: Path) -> list[str]:
    """The names of what the `metrics.jsonl` at `path` holds at its end, sorted. Raises `OSError`.

    Reads the last megabyte, which holds many log intervals.
    """
    found: set[str] = set()
    for line in _end_of(path, 2**20).splitlines():
        found |= set(_parse(line) or ())
    return sorted(found - {"progress"})


def newest_value(path: Path, name: str) -> float | None:
    """The last finite value of `name` in the `metrics.jsonl` at `path`; None where there is none.

    Reads no more of the end than it has to. Raises `OSError` if the file can't be read.
    """
    key, size, whole = _key(name), READ, path.stat().st_size
    while True:
        text = _end_of(path, size)
        before = len(text)
        while (at := text.rfind(key, 0, before)) >= 0:
            value = _number(text, at + len(key))
            if value is not None:
                return value
            before = at
        if size >= whole:
            return None
        size *= 8


@dataclass(frozen=True)
class Values:
    """The finite values of one metric, oldest first."""

    values: list[float]
    damage: str | None  # one sentence on what was noticed in passing: seldom all that there is


def every_value(path: Path, name: str, *, growing: bool = False) -> Values:
    """All finite values of `name` in the `metrics.jsonl` at `path`.

    For what is logged seldom, in a table of many runs: the bytes of the whole file are searched a
    part at a time, without a look at its lines. So only half a line at the end (no damage of a file
    that is still `growing`) and bytes that are no letters of ours are noticed. They are read and
    not mapped, for a resume may cut the file meanwhile. Raises `OSError` if it can't be read.
    """
    key, text = _key(name), b""
    values: list[float | None] = []
    ours, end = True, b"\n"
    with path.open("rb") as file:
        while part := file.read(READ):
            ours = ours and part.isascii() and b"\0" not in part
            end = part[-1:]
            text += part
            searched = max(0, len(text) - _DIGITS)  # a number behind it may go on in the next part
            values += (_number(text, at) for at in _positions(text, key, searched))
            text = text[max(0, searched - len(key) + 1) :]
    values += (_number(text, at) for at in _positions(text, key))
    damage = None
    if not ours:
        damage = f"{path} is damaged, it holds bytes that are no text: what is whole counts."
    elif end != b"\n" and not growing:
        damage = f"{path} ends in half a line: what is whole before it counts."
    return Values([value for value in values if value is not None], damage)


def _number(text: bytes, start: int) -> float | None:
    """The number that begins at `start`; None for what is none, or not finite, or cut off."""
    # Without what ends it, a number may have lost its last digits.
    window = text[start : start + _DIGITS]
    ends = [at for mark in b",}" if (at := window.find(mark)) >= 0]
    try:
        value = float(window[: min(ends)]) if ends else float("nan")
    except ValueError:
        return None
    return value if np.isfinite(value) else None


# --- the search -----------------------------------------------------------------------------------

Points = tuple[NDArray[np.int64], NDArray[np.float64]]


def _search(text: bytes, names: Sequence[str]) -> tuple[dict[str, Points], list[int], int]:
    """Points by name, the numbers of damaged lines, and how many lines there are.

    Raises ValueError where a line that looks right has a number that is none.
    """
    codes = np.frombuffer(text, np.uint8)
    layout = _layout(codes)
    starts, ends = layout.starts, layout.ends
    usual = _look_usual(text, codes, layout)
    others, damaged = {}, []
    for line in np.flatnonzero(~usual):
        content = text[starts[line] : ends[line]]
        if row := _parse(content):
            others[int(line)] = row
        elif content:
            damaged.append(int(line))

    points = {}
    for name in names:
        at = np.array(_positions(text, _key(name)), np.intp)
        lines = np.searchsorted(starts, at, side="right") - 1
        at, lines = at[usual[lines]], lines[usual[lines]]
        progress = _whole(_numbers(codes, starts[lines] + len(_BEGINNING)))
        values = _numbers(codes, at)
        added = [(n, row, v) for n, row in others.items() if (v := _value(row, name)) is not None]
        if added:
            lines = np.append(lines, [number for number, _, _ in added])
            order = np.argsort(lines, kind="stable")
            progress = np.append(progress, [row["progress"] for _, row, _ in added])[order]
            values = np.append(values, [value for _, _, value in added])[order]
        points[name] = progress, values
    return points, damaged, len(starts)


@dataclass(frozen=True)
class _Layout:
    """Where the lines of a text are, and whether letters are in it that ours never hold."""

    starts: NDArray[np.intp]  # [L]
    ends: NDArray[np.intp]  # [L] before the newline
    braces: int  # how many are opened
    clean: bool  # no zeros and no letters of other languages, as a bad disk leaves them


def _layout(codes: NDArray[np.uint8]) -> _Layout:
    ends, braces, clean = [np.zeros(0, np.intp)], 0, True
    for at in range(0, len(codes), _BLOCK):
        block = codes[at : at + _BLOCK]
        ends.append(at + np.flatnonzero(block == _NEWLINE))
        braces += int(np.count_nonzero(block == _OPENED))
        clean &= bool(block.min() > 0) and bool(block.max() < 127)
    if len(codes) and codes[-1] != _NEWLINE:
        ends.append(np.array([len(codes)]))
    every = np.concatenate(ends)
    return _Layout(np.append(0, every[:-1] + 1)[: len(every)], every, braces, clean)


def _look_usual(text: bytes, codes: NDArray[np.uint8], layout: _Layout) -> NDArray[np.bool_]:
    """Which lines `[L]` begin and end as ours do; not those of the last few bytes."""
    starts, ends = layout.starts, layout.ends
    usual = (ends - starts > len(_BEGINNING)) & (ends + _DIGITS < len(codes))
    begin = _windows(codes, starts[usual], len(_BEGINNING)) == _BEGINNING_CODES
    usual[usual] = begin.all(axis=1) & (codes[ends[usual] - 1] == _CLOSED)
    odd: list[int] = []
    if not layout.clean:
        odd += np.flatnonzero((codes == 0) | (codes > 126)).tolist()
    rest = sum(text.count(b"{", starts[n], ends[n]) for n in np.flatnonzero(~usual))
    if layout.braces > np.count_nonzero(usual) + rest:  # half a line with another glued to it
        odd += [at for at in _positions(text, b"{") if text[at - 2 : at - 1] not in b"\n"]
    usual[np.searchsorted(starts, odd, side="right") - 1] = False
    return usual


def _numbers(codes: NDArray[np.uint8], at: NDArray[np.intp]) -> NDArray[np.float64]:
    """The numbers `[N]` that begin at `at` and end before a comma or brace; null is NaN.

    Raises ValueError for what is no number.
    """
    windows = _windows(codes, at, _DIGITS)
    ended = np.logical_or.accumulate((windows == _COMMA) | (windows == _CLOSED), axis=1)
    if not ended[:, -1].all():
        raise ValueError("a number does not end")
    windows[ended] = 0
    windows[(windows[:, :4] == _NULL).all(axis=1), :4] = _NAN
    return windows.view(f"S{_DIGITS}").ravel().astype(np.float64)


def _whole(numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    if not ((np.abs(numbers) < 2**53) & (np.floor(numbers) == numbers)).all():
        raise ValueError("a progress is no whole number")
    return numbers.astype(np.int64)


def _windows(codes: NDArray[np.uint8], at: NDArray[np.intp], size: int) -> NDArray[np.uint8]:
    """The `size` bytes from each of `at` on, `[N, size]`; none may reach beyond the end."""
    if not len(at):
        return np.zeros((0, size), np.uint8)
    return np.lib.stride_tricks.sliding_window_view(codes, size)[at]


def _positions(text: bytes, key: bytes, end: int | None = None) -> list[int]:
    """Where `key` ends in `text`, each time, up to `end`."""
    found = []
    at = text.find(key, 0, end)
    while at >= 0:
        at += len(key)
        found.append(at)
        at = text.find(key, at, end)
    return found


def _key(name: str) -> bytes:
    return f"{json.dumps(name)}: ".encode()


# --- line by line ---------------------------------------------------------------------------------


def _parse_all(text: bytes, names: Sequence[str]) -> tuple[dict[str, Points], list[int], int]:
    """As `_search`, whatever the lines look like."""
    found: dict[str, list[tuple[int, float]]] = {name: [] for name in names}
    damaged = []
    lines = text.split(b"\n")
    for number, line in enumerate(lines):
        row = _parse(line)
        if row is None:
            damaged += [number] if line else []
            continue
        for name in names:
            value = _value(row, name)
            if value is not None:
                found[name].append((row["progress"], value))
    points = {
        name: (np.array([p for p, _ in each], np.int64), np.array([v for _, v in each], np.float64))
        for name, each in found.items()
    }
    return points, damaged, len(lines) - (not lines[-1])


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    right = isinstance(row, dict) and type(row.get("progress")) is int
    return row if right and abs(row["progress"]) < 2**53 else None


def _value(row: Mapping[str, Any], name: str) -> float | None:
    """The value of `name`: NaN for null; None where there is none, or no number."""
    value = row.get(name, "")
    if value is None:
        return float("nan")
    try:
        return float(value) if type(value) in (int, float) else None
    except OverflowError:
        return None


# --- the points -----------------------------------------------------------------------------------


def _in_order(progress: NDArray[np.int64], value: NDArray[np.float64]) -> Points:
    if not len(progress):
        return progress, value
    kept = progress <= np.minimum.accumulate(progress[::-1])[::-1]
    return progress[kept], value[kept]


def _minutes_at(progress: NDArray[np.int64], clock: Points | None) -> NDArray[np.float64] | None:
    """The minutes at `progress`: games and evaluations have lines without a clock."""
    if clock is None or not len(clock[0]):
        return None
    return np.interp(progress, np.append(0, clock[0]), np.append(0.0, clock[1]))


def _damage(path: Path, text: bytes, damaged: Sequence[int], lines: int) -> str | None:
    if not damaged:
        return None
    last_alone = len(damaged) == 1 and damaged[0] == lines - 1
    if last_alone and not text.endswith(b"\n"):
        return f"{path} ends in half a line (cut off, or being written), which is left out."
    first = f"the first is line {damaged[0] + 1:,}"
    return f"{path} is damaged in {len(damaged):,} of {lines:,} lines, left out: {first}."


def _end_of(path: Path, size: int) -> bytes:
    """The last `size` bytes of a file, from the beginning of a line on."""
    with path.open("rb") as file:
        skipped = max(0, os.fstat(file.fileno()).st_size - size)
        file.seek(skipped)
        text = file.read()
    return text[text.find(b"\n") + 1 :] if skipped else text
