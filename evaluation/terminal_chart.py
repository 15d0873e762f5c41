"""Charts as text: lines of braille dots, or of plain letters where a terminal knows no others.

Eight dots fill a cell, two across and four down. Where several lines share a chart, each bears its
letter now and then, so that they can be told apart without colours: in a pipe, a log, a file.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from playfield.evaluation.charts import Series, compact, value_range

#: The terminal's own cyan, yellow, green, magenta, blue and red, for they suit its background.
COLOURS = (36, 33, 32, 35, 34, 31)
RESET = "\x1b[0m"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#: Cells from one letter of a line to its next.
BETWEEN = 12

#: What a dot of a cell adds to the code of the empty braille letter, by its row and column.
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
_BRAILLE = 0x2800


@dataclass(frozen=True)
class Abilities:
    """What a stream can show."""

    columns: int = 80
    colour: bool = False
    unicode: bool = True


def abilities(stream: TextIO) -> Abilities:
    """Of `stream`: colour on a terminal alone, unless NO_COLOR is set; 80 columns in a pipe."""
    term = os.environ.get("TERM", "")
    colour = stream.isatty() and term not in ("", "dumb") and not os.environ.get("NO_COLOR")
    try:
        "⣿┤└─…".encode(getattr(stream, "encoding", None) or "ascii")
        unicode = True
    except (UnicodeEncodeError, LookupError):
        unicode = False
    return Abilities(max(shutil.get_terminal_size((80, 24)).columns, 1), colour, unicode)


def letter(number: int, shown: Abilities) -> str:
    """What marks line `number` in a chart, in its colour."""
    return _coloured(LETTERS[number % len(LETTERS)], number, shown)


def line_plot(
    series: Sequence[Series], shown: Abilities, *, rows: int = 14, x_label: str = ""
) -> list[str]:
    """`series` as at most `rows` + 2 lines of `shown.columns` cells, axes included.

    Bounds are dotted. Line n is marked by `letter(n)` where there are several.
    """
    low, high = value_range(series)
    x_low, x_high = _x_range(series)
    marks = _ticks(low, high, max(2, rows // 4))
    labels = {_row(value, low, high, rows): compact(value) for value in marks}
    gutter = max(map(len, labels.values()), default=0)
    width = max(shown.columns - gutter - 3, 8)
    cells = _Cells(rows, width, shown)
    for number, each in enumerate(series):
        area = (x_low, x_high, low, high)
        for bound in (each.low, each.high):
            if bound is not None:
                cells.add(number, each.x, bound, area, dotted=True)
        cells.add(number, each.x, each.mean, area)
    if len(series) > 1:
        cells.mark()
    tick, edge = ("┤", "│") if shown.unicode else ("+", "|")
    lines = [
        f"{labels.get(row, ''):>{gutter}} {tick if row in labels else edge}{cells.line(row)}"
        for row in range(rows)
    ]
    return [
        line.rstrip() for line in [*lines, *_foot(x_low, x_high, gutter, width, x_label, shown)]
    ]


class _Cells:
    """The room between the axes: which dots are set, and which line set a cell last."""

    def __init__(self, rows: int, columns: int, shown: Abilities) -> None:
        self._shown = shown
        self._down, self._across = (4, 2) if shown.unicode else (1, 1)
        self._dots = np.zeros((rows * self._down, columns * self._across), np.bool_)
        self._owner = np.full((rows, columns), -1)
        self._bound = np.zeros((rows, columns), np.bool_)  # has dots of bounds alone
        self._letters: dict[tuple[int, int], int] = {}

    def add(
        self,
        number: int,
        x: NDArray[np.floating[Any]],
        y: NDArray[np.floating[Any]],
        area: tuple[float, float, float, float],
        dotted: bool = False,
    ) -> None:
        """Draw the points `(x, y)` and the lines between neighbours; not finite ones are gaps."""
        height, width = self._dots.shape
        x_low, x_high, y_low, y_high = area
        across = (np.asarray(x, np.float64) - x_low) / (x_high - x_low) * (width - 1)
        with np.errstate(invalid="ignore"):
            down = (y_high - np.asarray(y, np.float64)) / (y_high - y_low) * (height - 1)
        finite = np.isfinite(down)
        for piece in np.split(np.arange(len(down)), np.flatnonzero(np.diff(finite)) + 1):
            if len(piece) and finite[piece[0]]:
                self._piece(number, across[piece], down[piece], dotted)

    def _piece(
        self, number: int, across: NDArray[np.float64], down: NDArray[np.float64], dotted: bool
    ) -> None:
        """Draw a line through points without gaps, in units of dots."""
        columns = np.arange(math.ceil(across[0]), math.floor(across[-1]) + 1)
        at = np.interp(columns, across, down)
        for column, here, following in zip(columns, at, np.append(at[1:], at[-1:]), strict=True):
            if not dotted:
                # Half of a steep rise belongs to either column.
                half = here + (following - here) / 2
                self._set(number, column, here, half, dotted)
                if column < columns[-1]:
                    self._set(number, column + 1, half, following, dotted)
            elif column % 2 == 0:
                self._set(number, column, here, here, dotted)
        if not dotted:
            for column, row in zip(np.rint(across).astype(int), down, strict=True):
                self._set(number, column, row, row, dotted)

    def _set(self, number: int, column: int, start: float, end: float, dotted: bool) -> None:
        first, last = sorted((round(float(start)), round(float(end))))
        first, last = max(first, 0), min(last, len(self._dots) - 1)
        if first > last:
            return  # beyond the edge, where bounds may lie
        self._dots[first : last + 1, column] = True
        cells = slice(first // self._down, last // self._down + 1), column // self._across
        if dotted:
            free = self._owner[cells] < 0
            self._bound[cells] |= free
            self._owner[cells] = np.where(free, number, self._owner[cells])
        else:
            self._owner[cells], self._bound[cells] = number, False

    def mark(self) -> None:
        """Put letters on the lines, those of different lines in different columns."""
        for number in range(int(self._owner.max()) + 1):
            mine = (self._owner == number) & ~self._bound
            columns = np.flatnonzero(mine.any(axis=0))
            turn = columns[columns % BETWEEN == (3 * number) % BETWEEN]
            for column in turn if len(turn) else columns[:1]:
                rows = np.flatnonzero(mine[:, column])
                self._letters[int(rows[len(rows) // 2]), int(column)] = number

    def line(self, row: int) -> str:
        """The cells of `row`; a colour is written only where it changes."""
        columns = range(self._owner.shape[1])
        runs = groupby(columns, key=lambda column: int(self._owner[row, column]))
        return "".join(
            _coloured("".join(self._cell(row, column) for column in run), number, self._shown)
            for number, run in runs
        )

    def _cell(self, row: int, column: int) -> str:
        number = int(self._owner[row, column])
        if number < 0:
            return " "
        if (row, column) in self._letters:
            return LETTERS[number % len(LETTERS)]
        if not self._shown.unicode:
            several = self._owner.max() > 0
            mark = LETTERS[number % len(LETTERS)].lower() if several else "*"
            return "." if self._bound[row, column] else mark
        dots = self._dots[row * 4 : row * 4 + 4, column * 2 : column * 2 + 2]
        return chr(_BRAILLE + int(_DOTS[dots].sum()))


def _foot(
    x_low: float, x_high: float, gutter: int, width: int, x_label: str, shown: Abilities
) -> list[str]:
    """The axis below, and what its ends are, with its name between them where there is room."""
    corner, rule = ("└", "─") if shown.unicode else ("+", "-")
    ends = compact(x_low), compact(x_high)
    room = width + 1 - len(ends[0]) - len(ends[1])
    between = (x_label if len(x_label) + 2 <= room else "").center(max(room, 1))
    margin = " " * (gutter + 1)
    return [margin + corner + rule * width, margin + ends[0] + between + ends[1]]


def _coloured(text: str, number: int, shown: Abilities) -> str:
    """`text` in the colour of line `number`; a negative one is no line's."""
    if not shown.colour or number < 0:
        return text
    return f"\x1b[{COLOURS[number % len(COLOURS)]}m{text}{RESET}"


def _x_range(series: Sequence[Series]) -> tuple[float, float]:
    places = [each.x[np.isfinite(each.mean)] for each in series]
    known = np.concatenate(places) if places else np.zeros(0)
    if not len(known):
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers from `low` to `high`, about `count`: 1, 2 or 5 times a power of 10 apart."""
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    return [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _row(value: float, low: float, high: float, rows: int) -> int:
    """The row of cells that holds `value`, as dots are placed."""
    return min(rows - 1, int((high - value) / (high - low) * (rows * 4 - 1) / 4))
