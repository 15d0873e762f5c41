"""What the replay benchmark found, as tables: for the terminal, and in Markdown for docs/store.md.

python benchmarks/replay_table.py                    # print the committed result's
python benchmarks/replay_table.py docs/store.md      # put them between the page's markers
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import RESULTS, show, stop

BEGIN, END = "<!-- replay table -->", "<!-- end -->"
OURS = "playfield"
NOTHING = "–"
BATCH = 256  # of the large table
#: Ours and the bounds are measured beside every peer; these rows show the median of all.
BESIDE = (OURS, "bare gather", "memcpy")
DRAWS = tuple(
    (f"{'prioritised' if prioritized else 'uniform'}, n {n}", n, prioritized)
    for prioritized in (False, True)
    for n in (1, 3)
)


@dataclass(frozen=True)
class Table:
    """One table; the first column names the memory."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


class Result:
    """A result and what can be asked of it."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.record = record
        self.measurements: list[dict[str, Any]] = record["measurements"]
        self.sizes: list[int] = record["sizes"]
        self.labels = list(dict.fromkeys(m["peer"] for m in self.measurements))

    def found(self, **what: Any) -> Iterator[dict[str, Any]]:
        """The measurements with these values."""
        for m in self.measurements:
            if all(m.get(key) == value for key, value in what.items()):
                yield m

    def time(self, name: str, **what: Any) -> float | None:
        """Median microseconds of a peer, or of what was measured beside all peers."""
        medians = [
            m["summary"][name]["median"] for m in self.found(**what) if name in m.get("summary", {})
        ]
        return statistics.median(medians) if medians else None

    def ratio(self, name: str, **what: Any) -> float | None:
        """How many times as long as ours a peer takes; both as they took turns."""
        for m in self.found(peer=name, **what):
            return float(m["summary"][name]["median"] / m["summary"][OURS]["median"])
        return None

    def number(self, name: str, key: str, **what: Any) -> float | None:
        """A number that was measured of a memory on its own."""
        numbers = [m[key] for m in self.found(peer=name, **what) if key in m]
        return numbers[0] if numbers else None

    def fastest(self, library: str, **what: Any) -> tuple[str, float] | None:
        """The library's set-up that draws fastest and its `ratio`."""
        ratios = {
            label: ratio
            for label, peer in self.record["peers"].items()
            if peer["library"] == library and (ratio := self.ratio(label, **what)) is not None
        }
        return min(ratios.items(), key=lambda item: item[1]) if ratios else None


# --- tables ---------------------------------------------------------------------------------------


def tables(record: Mapping[str, Any]) -> list[Table]:
    """All tables of a result, columns and rows without numbers left out."""
    result = Result(record)
    made = [table for size in result.sizes for table in _of_size(result, size)]
    checkpoints = list(result.found(operation="second checkpoint"))
    if checkpoints:
        made.append(_checkpoints(checkpoints))
    return [table for table in made if table.rows]


def _of_size(result: Result, size: int) -> Iterator[Table]:
    drawing: dict[str, Callable[[str], str]] = {
        title: _times(result, operation="sample", size=size, batch_size=BATCH, n_step=n,
                      prioritized=prioritized)
        for title, n, prioritized in DRAWS
    }  # fmt: skip
    smaller = {
        f"{title}, {batch}": _times(result, operation="sample", size=size, batch_size=batch,
                                    n_step=n, prioritized=prioritized)
        for title, n, prioritized in DRAWS
        if n == 1
        for batch in (32, 512)
    }  # fmt: skip
    writing = {
        "add": _times(result, operation="add", size=size, n_step=1, prioritized=False),
        "add, prioritised": _times(result, operation="add", size=size, n_step=1, prioritized=True),
    } | {
        f"update {batch}": _times(
            result, operation="update", size=size, batch_size=batch, n_step=1, prioritized=True
        )
        for batch in (32, BATCH, 512)
    }
    what = {"operation": "memory", "size": size}
    keeping = {
        f"bytes, {kind}": _numbers(
            result, "bytes_per_transition", "{:,.0f}", 1, **what, n_step=1, prioritized=prioritized
        )
        for kind, prioritized in (("uniform", False), ("prioritised", True))
    }
    what = {"operation": "save and load", "size": size}
    keeping |= {
        "save, s": _numbers(result, "save_s", "{:,.2f}", 1, **what),
        "load, s": _numbers(result, "load_s", "{:,.2f}", 1, **what),
        "MB": _numbers(result, "bytes", "{:,.1f}", 1e-6, **what),
    }
    labels = [OURS, *(name for name in result.labels if name != OURS)]
    with_bounds = [*labels[:1], *BESIDE[1:], *(name for name in labels[1:] if name not in BESIDE)]
    stored = f"{size:,} transitions"
    times = "µs, and how many times as long as playfield"
    yield _table(f"{stored}: a batch of {BATCH}, {times}", drawing, with_bounds)
    yield _table(f"{stored}: smaller and larger batches, n 1, {times}", smaller, with_bounds)
    yield _table(f"{stored}: adding one and updating priorities, {times}", writing, labels)
    yield _table(
        f"{stored}: bytes of memory per transition, and the whole on disk", keeping, labels
    )


def _table(title: str, columns: Mapping[str, Callable[[str], str]], names: Sequence[str]) -> Table:
    rows = [(name, *(cell(name) for cell in columns.values())) for name in names]
    rows = [row for row in rows if set(row[1:]) != {NOTHING}]
    used = [k for k in range(len(columns) + 1) if k == 0 or any(row[k] != NOTHING for row in rows)]
    heads = ["", *columns]
    return Table(title, [heads[k] for k in used], [[row[k] for k in used] for row in rows])


def _times(result: Result, **what: Any) -> Callable[[str], str]:
    def cell(name: str) -> str:
        time = result.time(name, **what)
        ratio = result.ratio(name, **what)
        if time is None:
            return NOTHING
        return f"{time:,.0f}" + (f" ({ratio:,.1f}×)" if ratio is not None else "")

    return cell


def _numbers(
    result: Result, key: str, form: str, scale: float, **what: Any
) -> Callable[[str], str]:
    def cell(name: str) -> str:
        number = result.number(name, key, **what)
        return NOTHING if number is None else form.format(number * scale)

    return cell


def _checkpoints(found: Sequence[Mapping[str, Any]]) -> Table:
    rows = []
    for m in found:
        first, second = m["first"], m["second"]
        for name, key, form, scale in (
            ("MB written", "bytes", "{:,.2f}", 1e-6),
            ("seconds", "seconds", "{:,.2f}", 1.0),
        ):
            numbers = [form.format(one[key] * scale) for one in (first, second)]
            share = f"{100 * second[key] / first[key]:.1f} %"
            rows.append([f"{m['size']:,} transitions, {name}", *numbers, share])
    title = "playfield: the second checkpoint of a full store, 5 % of it new"
    return Table(title, ["", "first", "second", "second / first"], rows)


# --- output ---------------------------------------------------------------------------------------


def print_tables(record: Mapping[str, Any]) -> None:
    """All tables on the terminal, and below them why cells are empty."""
    for table in tables(record):
        show(table.title, table.columns, table.rows)
    for reason in reasons(record):
        print(f"{NOTHING} {reason}")


def reasons(record: Mapping[str, Any]) -> list[str]:
    """Why cells are empty, each once."""
    return list(dict.fromkeys(f"{gap['peer']}: {gap['reason']}." for gap in record["skipped"]))


def markdown(record: Mapping[str, Any]) -> str:
    """The tables, how each peer was set up, and why cells are empty."""
    parts = []
    for table in tables(record):
        lines = [f"**{table.title}**", "", _row(table.columns), _rule(len(table.columns))]
        parts.append("\n".join([*lines, *map(_row, table.rows)]))
    versions = [
        f"- {label}: {peer['library']} {peer['version']}, `{peer['how']}`"
        for label, peer in record["peers"].items()
    ]
    parts.append("\n".join(versions))
    if gaps := reasons(record):
        parts.append("\n".join([f"Empty cells ({NOTHING}):", "", *(f"- {gap}" for gap in gaps)]))
    return "\n\n".join(parts)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return "|---" + "|--:" * (columns - 1) + "|"


def page_with(page: str, record: Mapping[str, Any]) -> str:
    """`page` with the tables of `record` between its markers; ValueError if it has none."""
    begin, end = page.find(BEGIN), page.find(END)
    if not 0 <= begin < end:
        raise ValueError(f"the page has no place for the tables: {BEGIN} … {END}")
    return f"{page[: begin + len(BEGIN)]}\n\n{markdown(record)}\n\n{page[end:]}"


def main() -> None:
    record = json.loads((RESULTS / "replay.json").read_text(encoding="utf-8"))
    if len(sys.argv) == 1:
        print(markdown(record))
        return
    path = Path(sys.argv[1])
    try:
        page = page_with(path.read_text(encoding="utf-8"), record)
    except (OSError, ValueError) as error:
        stop(f"{error}.")
    path.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
