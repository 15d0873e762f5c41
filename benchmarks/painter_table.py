"""What the comparison of painters found, as tables in README.md and docs/painters.md.

    python benchmarks/painter_table.py            # write both pages from the committed results
    python benchmarks/painter_table.py --print    # only print what would be written

The tables stand between `<!-- painters begin -->` and `<!-- painters end -->`. They are made of
`results/painters-digits.json` and `results/painters-breakout.json` alone. Numbers of several
training seeds are their mean and, behind a ±, their standard deviation. What was measured with
another number of images, or by other features, is never averaged: it is refused.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from measure import RESULTS, stop

from playfield.errors import UserError
from playfield.evaluation.images import ImageMetrics

BEGIN, END = "<!-- painters begin -->", "<!-- painters end -->"
ROOT = Path(__file__).resolve().parent.parent
README, PAGE = ROOT / "README.md", ROOT / "docs" / "painters.md"
#: Results, in the order in which they are shown.
NAMES = ("digits", "breakout")
NOTHING = "–"
NOT_YET = (
    "The painters have not been compared yet: `benchmarks/painters.py` does it, and "
    "`benchmarks/painter_table.py` puts what it finds here."
)


# --- numbers --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Number:
    """A number over training seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    def text(self, form: str, scale: float = 1.0) -> str:
        """The mean, and the standard deviation where there is one."""
        parts = [self.mean]
        if len(self.values) > 1:
            parts.append(statistics.stdev(self.values))
        return " ± ".join(format(part * scale, form) for part in parts)


@dataclass(frozen=True)
class Line:
    """One way of one painter, over its seeds."""

    title: str
    usual: bool  # the way that is taken where none is asked for
    runs: Sequence[Mapping[str, Any]]  # one a seed
    rows: Sequence[Mapping[str, Any]]  # what was measured of each

    def metrics(self, features: str, few: bool = False) -> list[ImageMetrics]:
        """Of each seed, by these features; `UserError` where they were not measured alike."""
        found = [
            ImageMetrics.from_record((row["few"] if few else row["metrics"])[features])
            for row in self.rows
        ]
        for other in found[1:]:
            found[0].require_comparable(other)
        return found

    def metric(self, name: str, features: str, few: bool = False) -> Number | None:
        return _number(getattr(metrics, name) for metrics in self.metrics(features, few))

    def measured(self, name: str) -> Number | None:
        return _number(row[name] for row in self.rows)

    def of_run(self, name: str) -> Number | None:
        return _number(run[name] for run in self.runs)

    @property
    def nfe(self) -> int:
        return int(self.rows[0]["nfe"])

    @property
    def way(self) -> str:
        row = self.rows[0]
        return "one call" if row["sampler"] == "generator" else f"{row['sampler']} × {row['steps']}"


def _number(values: Iterator[float | None]) -> Number | None:
    found = tuple(values)
    known = tuple(value for value in found if value is not None)
    return Number(known) if found and len(known) == len(found) else None


class Result:
    """A result and what can be asked of it."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.record = record

    @cached_property
    def lines(self) -> list[Line]:
        """Painters in the record's order, each way by the calls that it takes.

        Raises `UserError` where two of them can't be compared with one another.
        """
        groups: dict[tuple[str, int], list[tuple[Any, Any]]] = {}
        for run in self.record["runs"].values():
            for row in run["rows"]:
                groups.setdefault((run["title"], row["nfe"]), []).append((run, row))
        found = [
            Line(title, all(row["usual"] for _, row in of), *zip(*of, strict=True))
            for (title, _), of in groups.items()
        ]
        for features in self.features:
            for line in found:
                found[0].metrics(features)[0].require_comparable(line.metrics(features)[0])
        return found

    @property
    def usual(self) -> list[Line]:
        return [line for line in self.lines if line.usual]

    @property
    def features(self) -> list[str]:
        """Their names; the first are the ones to go by."""
        return list(self.record["conditions"]["features"])

    @property
    def main(self) -> str:
        return self.features[0]

    @property
    def labelled(self) -> bool:
        return self.record["conditions"]["judge"] is not None

    @property
    def few(self) -> int | None:
        """How many test images there are, where these are fewer than painted ones."""
        tested, number = self.record["conditions"]["test"]["n"], self.number
        return tested if tested < number else None

    @property
    def number(self) -> int:
        return int(self.record["conditions"]["number"])

    @property
    def seeds(self) -> str:
        """How many training seeds the means are of."""
        counts = sorted({len(line.runs) for line in self.lines})
        words = " to ".join(dict.fromkeys(map(str, (counts[0], counts[-1]))))
        return f"{words} training seed{'' if counts == [1] else 's'}"


def read_results(folder: Path = RESULTS) -> dict[str, Result]:
    """The results that are there, by name."""
    paths = {name: folder / f"painters-{name}.json" for name in NAMES}
    return {
        name: Result(json.loads(path.read_text(encoding="utf-8")))
        for name, path in paths.items()
        if path.exists()
    }


# --- tables ---------------------------------------------------------------------------------------

Cell = Callable[[Line], str]


@dataclass(frozen=True)
class Table:
    """The first column names the painter."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def without(self, *heads: str) -> Table:
        """The same, fewer columns."""
        kept = [k for k, head in enumerate(self.columns) if head not in heads]
        return Table([self.columns[k] for k in kept], [[row[k] for k in kept] for row in self.rows])

    def markdown(self) -> str:
        rule = "|---" + "|--:" * (len(self.columns) - 1) + "|"
        lines = [_row(self.columns), rule, *map(_row, self.rows)]
        return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _metric(name: str, form: str, features: str, *, scale: float = 1.0, few: bool = False) -> Cell:
    def cell(line: Line) -> str:
        found = line.metric(name, features, few)
        return NOTHING if found is None else found.text(form, scale)

    return cell


def _measured(name: str, form: str, scale: float = 1.0) -> Cell:
    def cell(line: Line) -> str:
        found = line.measured(name)
        return NOTHING if found is None else found.text(form, scale)

    return cell


def _of_run(name: str, form: str) -> Cell:
    def cell(line: Line) -> str:
        found = line.of_run(name)
        return NOTHING if found is None else found.text(form)

    return cell


def _kernel_error(features: str) -> Cell:
    """The standard error of one seed's kernel distance: the seeds' in quadratic mean."""

    def cell(line: Line) -> str:
        found = line.metric("kernel_distance_error", features)
        if found is None:
            return NOTHING
        return format(1e3 * statistics.fmean(e**2 for e in found.values) ** 0.5, ".2g")

    return cell


def _rate(name: str, of: str) -> Cell:
    """Images a second: three digits, and no deviation, which is the machine's."""

    def cell(line: Line) -> str:
        found = line.measured(name) if of == "row" else line.of_run(name)
        return NOTHING if found is None else _three_digits(found.mean)

    return cell


def _three_digits(value: float) -> str:
    return f"{float(f'{value:.3g}'):,.10g}"


def _parameters(line: Line) -> str:
    counts = line.runs[0]["parameters"]
    text = f"{counts['paints'] / 1e6:.2f}M"
    if "discriminator" in counts:
        text += f" (+ {counts['discriminator'] / 1e6:.2f}M)"
    return text


def _nfe(line: Line) -> str:
    return str(line.nfe)


#: Of these, fewer painted images make other numbers of the same images.
DEPEND_ON_NUMBER = ("FD", "recall", "coverage")


def scores_table(result: Result, features: str) -> Table:
    """How all ways of all painters are seen by these features, and new real images above them."""
    cells: dict[str, Cell] = {
        "NFE": _nfe,
        "sampler × steps": lambda line: line.way,
        "FD": _metric("frechet_distance", ".2f", features),
        "KID · 10³": _metric("kernel_distance", ".2f", features, scale=1e3),
        "standard error": _kernel_error(features),
        "precision": _metric("precision", ".3f", features),
        "recall": _metric("recall", ".3f", features),
        "density": _metric("density", ".2f", features),
        "coverage": _metric("coverage", ".3f", features),
        "diversity": _metric("diversity", ".3f", features),
    }
    if features == result.main:
        if result.labelled:
            cells["agreement"] = _measured("agreement", ".1f", 100)
            cells["accuracy score"] = _measured("accuracy_score", ".1f", 100)
        cells["memorisation"] = _measured("memorisation_ratio", ".2f")
    real = _real(result)
    shown = {
        name: NOTHING
        if name in ("NFE", "sampler × steps")
        or (name in DEPEND_ON_NUMBER and result.few is not None)
        else cell(real)
        for name, cell in cells.items()
    }
    return _table(cells, result.lines, [["new real images", *shown.values()]])


def few_table(result: Result) -> Table:
    """What depends on the number of images, for as many painted ones as there are test images."""
    cells: dict[str, Cell] = {"NFE": _nfe}
    for features in result.features:
        cells[f"FD, {features}"] = _metric("frechet_distance", ".2f", features, few=True)
        for name in ("recall", "coverage"):
            cells[f"{name}, {features}"] = _metric(name, ".3f", features, few=True)
    real = _real(result)
    shown = [cell(real) for name, cell in cells.items() if name != "NFE"]
    return _table(cells, result.lines, [["new real images", NOTHING, *shown]])


def _real(result: Result) -> Line:
    """The test images, as if somebody had painted them."""
    row = {"nfe": 0, "few": result.record["real"]["metrics"], **result.record["real"]}
    return Line("new real images", True, [{}], [row])


def cost_table(result: Result) -> Table:
    """What painters took to learn, and take to paint."""
    cells: dict[str, Cell] = {
        "parameters (+ discriminator)": _parameters,
        "minutes of learning": _of_run("minutes", ".1f"),
        "of the whole process": _of_run("process_minutes", ".1f"),
        "images seen": lambda line: f"{line.of_run('images_seen').mean:,.0f}",  # type: ignore[union-attr]
        "a second": _rate("images_per_second", "run"),
        "NFE": _nfe,
        "painted a second": _rate("images_per_second", "row"),
    }
    return _table(cells, result.lines)


def short_table(results: Mapping[str, Result]) -> Table:
    """One row for each painter, in its usual way, on every data set that there is."""
    columns: list[tuple[str, dict[str, str]]] = []  # heads, and cells by painter
    for result in results.values():
        cells: dict[str, Cell] = {
            "FD": _metric("frechet_distance", ".2f", result.main),
            "recall": _metric("recall", ".2f", result.main),
            "coverage": _metric("coverage", ".2f", result.main),
        }
        if result.labelled:
            cells["agreement, %"] = _measured("agreement", ".1f", 100)
            cells["accuracy score, %"] = _measured("accuracy_score", ".1f", 100)
        cells["images/s"] = _rate("images_per_second", "row")
        for name, cell in cells.items():
            head = f"{result.record['title']}: {name}" if name == "FD" else name
            columns.append((head, {line.title: cell(line) for line in result.usual}))
    calls = {line.title: line.nfe for result in results.values() for line in result.usual}
    rows = [
        [painter, str(nfe), *(column.get(painter, NOTHING) for _, column in columns)]
        for painter, nfe in calls.items()
    ]
    return Table(["", "NFE", *(head for head, _ in columns)], rows)


def _table(
    cells: Mapping[str, Cell], lines: Sequence[Line], before: Sequence[Sequence[str]] = ()
) -> Table:
    rows = [[line.title, *(cell(line) for cell in cells.values())] for line in lines]
    return Table(["", *cells], [*before, *rows])


# --- pages ----------------------------------------------------------------------------------------


def readme_part(results: Mapping[str, Result], folder: Path = RESULTS) -> str:
    """What stands in README.md."""
    if not results:
        return NOT_YET
    said = []
    for result in results.values():
        features = "a classifier" if result.labelled else "fixed random convolutions"
        said.append(
            f"{result.record['title']}: {result.record['minutes']:g} minutes of learning each, "
            f"{result.seeds}, {result.number:,} painted images, seen by {features}"
        )
    about = (
        f"Every painter at its usual number of network calls (NFE). {'; '.join(said)}. FD is 0 at "
        "best and the parts 1; ± is the deviation over seeds. [All the numbers](docs/painters.md), "
        "with the command that measures them, and what new real images reach:"
    )
    pictures = _pictures(results, folder, "benchmarks/results")
    return "\n\n".join([about, short_table(results).markdown(), *pictures])


def page_part(results: Mapping[str, Result], folder: Path = RESULTS) -> str:
    """What stands in docs/painters.md."""
    if not results:
        return NOT_YET
    parts = []
    for name, result in results.items():
        title = result.record["title"]
        parts += [f"## {title[0].upper()}{title[1:]}", _conditions(result)]
        for features in result.features:
            parts += [f"**By {features} features**", scores_table(result, features).markdown()]
        if result.few is not None:
            parts += [
                f"**By {result.few} painted images, as many as there are new real ones**",
                few_table(result).markdown(),
            ]
        parts += ["**Cost**", cost_table(result).markdown()]
        parts += _pictures({name: result}, folder, "../benchmarks/results")
        parts += [*_diagnoses(result)]
    return "\n\n".join(parts)


def _conditions(result: Result) -> str:
    record, conditions = result.record, result.record["conditions"]
    threads = record["threads"]
    sentences = [
        f"Each learned from `{conditions['train']['data']}` for {record['minutes']:g} minutes on "
        f"{threads} thread{'s' if threads > 1 else ''} of {record['hardware']['cpu']}; "
        f"{result.seeds}.",
        f"{result.number:,} painted images are compared with {conditions['train']['n']:,} of the "
        f"{conditions['train']['of']:,} they learned from. New real images are "
        f"{conditions['test']['n']:,} of `{conditions['test']['data']}`. As many and as good "
        f"images as painted ones would reach a coverage of {conditions['best_coverage']:.3f}.",
    ]
    if not result.labelled:
        sentences.append(
            "These images have no labels: there is no class to agree with, no accuracy score, and "
            "no classifier to see by."
        )
    if result.few is not None:
        sentences.append(
            f"{', '.join(DEPEND_ON_NUMBER)} depend on how many images there are, so those of the "
            f"{result.few} new real ones stand in a table of their own."
        )
    return " ".join(sentences)


def _pictures(results: Mapping[str, Result], folder: Path, place: str) -> list[str]:
    return [
        f"![What was painted: {result.record['title']}]({place}/painters-{name}.png)"
        for name, result in results.items()
        if (folder / f"painters-{name}.png").exists()
    ]


def _diagnoses(result: Result) -> list[str]:
    """What training itself found to be wrong."""
    said = [
        f"- {run['title']}, seed {run['seed']}: {sentence}"
        for run in result.record["runs"].values()
        for sentence in run["diagnosis"]
    ]
    return ["\n".join(["What training said of itself at its end:", "", *said])] if said else []


def page_with(page: str, part: str) -> str:
    """`page` with `part` between its marks; ValueError if it has none."""
    begin, end = page.find(BEGIN), page.find(END)
    if not 0 <= begin < end:
        raise ValueError(f"the page has no place for the tables: {BEGIN} … {END}")
    return f"{page[: begin + len(BEGIN)]}\n{part}\n{page[end:]}"


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--print", action="store_true", help="write nothing")
    options = arguments.parse_args()
    try:
        results = read_results()
        parts = {README: readme_part(results), PAGE: page_part(results)}
        for path, part in parts.items():
            if options.print:
                print(part, end="\n\n")
            else:
                page = page_with(path.read_text(encoding="utf-8"), part)
                path.write_text(page, encoding="utf-8")
                print(f"Wrote {path.name}.")
    except (OSError, ValueError, UserError) as error:
        stop(f"{error}")


if __name__ == "__main__":
    main()
