"""`playfield compare RUN ...`: curves of runs in one chart, in the terminal and as a file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from playfield.commands import arguments
from playfield.commands.arguments import nearest
from playfield.commands.notes import report
from playfield.errors import UserError
from playfield.training.places import runs_root

if TYPE_CHECKING:
    from playfield.evaluation.charts import Series
    from playfield.evaluation.comparison import Line
    from playfield.evaluation.terminal_chart import Abilities
    from playfield.training.curves import Curve, Curves
    from playfield.training.run import Run

#: A chart that has to be told apart by letters has no more lines than these.
MOST_LINES = 24
#: Letters of a label that are left in however narrow a terminal.
SHORTEST = 8
#: Files that are read at once; each is held in memory, twice or so, while it is.
READERS = 2
#: Lines of text that a chart is high.
ROWS = 14


@dataclass(frozen=True)
class Options:
    """Draw curves of runs in one chart, in the terminal and, with --out, as PNG or SVG.

    Runs that differ by their seeds alone are one line: their mean, and of three runs or more its
    95 % interval by Student's t over the seeds. What tells the lines apart is listed. Runs on
    different games, data or protocols are refused, because their numbers mean different things, and
    so are Fréchet distances (precision, recall, coverage) from different numbers of images.
    """

    runs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names or folders of runs, or patterns such as 'dqn-*'."""
    metric: str | None = None
    """What to draw; None: the return, the Fréchet distance or the accuracy, as the runs are."""
    x: Literal["steps", "time"] = "steps"
    """Axis: steps (images, of models of images), or minutes of training."""
    smooth: int = 1
    """Points of a run that become one by a moving mean, before runs are averaged."""
    average: bool = False
    """Draw one line, the mean of all runs, although their settings differ."""
    force: bool = False
    """Draw what is refused otherwise; the output says so."""
    out: Path | None = None
    """PNG or SVG file to write the chart to."""
    root: Path = field(default_factory=runs_root)
    """Folder that runs are kept in."""


def run(args: Sequence[str]) -> int:
    options = arguments.parse(Options, args, command="compare")
    _check(options)

    from playfield.evaluation.comparison import lines, objections
    from playfield.evaluation.terminal_chart import abilities

    runs = _chosen(options)
    metric = options.metric or _default_metric(runs)
    forced = objections(runs, metric, average=options.average)
    if forced and not options.force:
        raise UserError(f"These runs don't compare: {forced[0]}. --force draws them all the same.")
    curves = _curves(runs, metric, options)
    shown = [each for each in runs if each.name in curves]
    drawn = lines(shown, average=options.average, metric=metric)
    if len(drawn) > MOST_LINES:
        raise UserError(f"{len(drawn)} lines are too many for a chart: name fewer runs.")
    series = [_series(line, curves, options) for line in drawn]
    print("\n".join(_shown(drawn, series, metric, forced, options, abilities(sys.stdout))))
    if options.out is not None:
        _write(options.out, drawn, series, metric, forced, options)
    return 0


def _check(options: Options) -> None:
    """Told before the work, not after it."""
    if not options.runs:
        raise UserError("compare wants runs: name one or more; `playfield runs` lists them.")
    if options.smooth < 1:
        raise UserError(f"--smooth has to be 1 or more, not {options.smooth}.")
    if options.out is not None and options.out.suffix.lower() not in (".png", ".svg"):
        raise UserError(f"--out {options.out}: the chart's file has to end in .png or .svg.")


def _chosen(options: Options) -> list[Run]:
    """The runs that were named, each once."""
    from playfield.training.run import Run, list_runs

    found: dict[Path, Run] = {}
    for name in options.runs:
        if not set(name) & set("*?["):
            one = Run.open(name, options.root)
            found[one.folder.resolve()] = one
            continue
        matching = [r for r in list_runs(options.root, report) if fnmatchcase(r.name, name)]
        if not matching:
            raise UserError(f"No run in {options.root} is called like {name!r}.")
        found |= {each.folder.resolve(): each for each in reversed(matching)}
    names = [each.name for each in found.values()]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"Two runs are called {twice!r}: rename one of their folders.")
    return list(found.values())


def _default_metric(runs: Sequence[Run]) -> str:
    from playfield.evaluation.comparison import default_metric

    metrics = {default_metric(each): each for each in runs}
    if len(metrics) > 1:
        kinds = ", ".join(f"{each.name!r} by {metric}" for metric, each in metrics.items())
        raise UserError(f"These runs are judged differently ({kinds}): choose a --metric.")
    return next(iter(metrics))


def _curves(runs: Sequence[Run], metric: str, options: Options) -> dict[str, Curve]:
    """The curve of each run that has points of `metric`, by its name; the others are told."""
    from concurrent.futures import ThreadPoolExecutor

    from playfield.training.curves import read_curves

    def read(run: Run) -> Curves | None:
        try:
            return read_curves(run.metrics_path, [metric], clock=options.x == "time")
        except FileNotFoundError:
            return None  # nothing is logged yet
        except OSError as error:
            raise UserError(f"Can't read {run.metrics_path}: {error.strerror}.") from None

    curves = {}
    # Most of it is numpy's and the disk's work, during which other threads get on.
    with ThreadPoolExecutor(READERS) as pool:
        read_ones = list(pool.map(read, runs))
    for each, found in zip(runs, read_ones, strict=True):
        if found is not None and found.damage is not None:
            report(found.damage)
        curve = None if found is None else found.curves[metric]
        if curve is None or not len(curve.progress):
            report(f"Run {each.name!r} has no points of {metric} and is left out.")
        elif options.x == "time" and curve.minutes is None:
            report(f"Run {each.name!r} has no times of its points and is left out.")
        else:
            curves[each.name] = curve
    if not curves:
        raise UserError(f"No run has points of {metric}{_instead(runs, metric)}.")
    return curves


def _instead(runs: Sequence[Run], metric: str) -> str:
    """What the runs have logged in its place."""
    from playfield.training.curves import metric_names

    names: set[str] = set()
    for each in runs:
        try:
            names |= set(metric_names(each.metrics_path))
        except OSError:
            continue
    if not names:
        return ": nothing is logged there yet"
    return nearest(metric, names) or f"; there are {', '.join(sorted(names))}"


def _series(line: Line, curves: dict[str, Curve], options: Options) -> Series:
    import numpy as np

    from playfield.evaluation.seed_curves import mean_of_runs

    points = []
    for each in line.runs:
        curve = curves[each.name]
        x = curve.minutes if options.x == "time" else curve.progress
        assert x is not None  # without a clock it was left out
        points.append((np.maximum.accumulate(x), curve.value))
    return mean_of_runs(line.label, points, options.smooth)


# --- what is printed ------------------------------------------------------------------------------


def _shown(
    drawn: Sequence[Line],
    series: Sequence[Series],
    metric: str,
    forced: Sequence[str],
    options: Options,
    shown: Abilities,
) -> list[str]:
    from playfield.commands.table import aligned
    from playfield.evaluation.terminal_chart import LETTERS, letter, line_plot

    worlds = dict.fromkeys(run.world for line in drawn for run in line.runs)
    heading = f"{metric} on {', '.join(worlds)}{_meaning(metric)}"
    rows: list[tuple[str, ...]] = [("", "line", "runs", "at", "mean", "95 % interval")]
    rows += [_row(n, line, each) for n, (line, each) in enumerate(zip(drawn, series, strict=True))]
    # Letters get their colours when the columns stand: a table counts escape codes as width.
    excess = max(map(len, aligned(rows))) - shown.columns
    longest = max(max(len(row[1]) for row in rows) - max(excess, 0), SHORTEST)
    rows = [(row[0], _cut(row[1], longest), *row[2:]) for row in rows]
    head, *table = aligned(rows, right=(2, 3, 4, 5))
    table = [letter(n, shown) + text.removeprefix(LETTERS[n]) for n, text in enumerate(table)]
    text = _wrapped(heading, shown)
    for clause in forced:
        text += _wrapped(f"Forced: {clause}.", shown, indent=2)
    text += ["", *line_plot(series, shown, rows=ROWS, x_label=_x_label(drawn, options))]
    text += ["", head, *table, "", *_members(drawn, shown)]
    if different := _listed(drawn, shown):
        text += ["", "The lines differ in", *different]
    if notes := _notes(drawn, series, options):
        text += ["", *(line for note in notes for line in _wrapped(note, shown))]
    if not shown.unicode:
        text = [line.encode("ascii", "replace").decode() for line in text]
    return text


def _row(number: int, line: Line, series: Series) -> tuple[str, ...]:
    from playfield.evaluation.charts import compact
    from playfield.evaluation.terminal_chart import LETTERS

    mark, runs = LETTERS[number], str(len(line.runs))
    if not len(series.x):
        return mark, line.label, runs, "-", "-", "-"
    interval = "-"
    if series.low is not None and series.high is not None:
        interval = f"{compact(series.low[-1])} to {compact(series.high[-1])}"
    return mark, line.label, runs, compact(series.x[-1]), compact(series.mean[-1]), interval


def _members(drawn: Sequence[Line], shown: Abilities) -> list[str]:
    from playfield.evaluation.terminal_chart import LETTERS

    text = []
    for number, line in enumerate(drawn):
        names = [
            f"{each.name} (seed {each.manifest['seed']}"
            f"{', still running' if each.status == 'running' else ''})"
            for each in line.runs
        ]
        text += _wrapped(f"{LETTERS[number]}  {', '.join(names)}", shown, indent=3)
    return text


def _listed(drawn: Sequence[Line], shown: Abilities) -> list[str]:
    """Each setting that differs, with its value in every line that has it."""
    from playfield.evaluation.comparison import differences, show
    from playfield.evaluation.terminal_chart import LETTERS

    text = []
    for name, values in differences(drawn).items():
        of_lines = [
            f"{LETTERS[number]} {show(value)}"
            for number, (line, value) in enumerate(zip(drawn, values, strict=True))
            if name in line.settings
        ]
        text += _wrapped(f"  {name}: {', '.join(of_lines)}", shown, indent=4)
    if len({line.settings["algorithm"] for line in drawn}) > 1:
        text.append("  and in what only some of the algorithms have")
    return text


def _notes(drawn: Sequence[Line], series: Sequence[Series], options: Options) -> list[str]:
    """What has to be known to read the chart."""
    from playfield.evaluation.terminal_chart import LETTERS

    notes = []
    if any(len(line.runs) > 1 for line in drawn):
        notes.append("A line is the mean over its runs, as far as all of them go.")
    if any(each.low is not None for each in series):
        notes.append("Dotted is its 95 % interval by Student's t over the runs.")
    if options.smooth > 1:
        notes.append(f"Each run is smoothed: a moving mean of {options.smooth} points.")
    if options.average:
        notes.append("All runs are averaged, whatever their settings, as --average asks.")
    for number, (line, each) in enumerate(zip(drawn, series, strict=True)):
        if not len(each.x):
            notes.append(f"{LETTERS[number]} has no line: there is no part that all its runs have.")
        seeds = [member.manifest["seed"] for member in line.runs]
        if len(set(seeds)) < len(seeds):
            notes.append(
                f"{LETTERS[number]} has runs of the same seed: they may be copies of one another, "
                "and its interval too narrow."
            )
    return notes


def _meaning(metric: str) -> str:
    from playfield.training.metric_names import METRICS

    return f": {METRICS[metric].meaning}" if metric in METRICS else ""


def _unit(metric: str) -> str:
    from playfield.training.metric_names import METRICS

    return METRICS[metric].unit if metric in METRICS else ""


def _x_label(drawn: Sequence[Line], options: Options) -> str:
    if options.x == "time":
        return "minutes of training"
    paints = all("data" in each.manifest for line in drawn for each in line.runs)
    return "images" if paints else "environment steps"


def _wrapped(text: str, shown: Abilities, indent: int = 0) -> list[str]:
    import textwrap

    return textwrap.wrap(
        text,
        max(shown.columns, 20),
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
        break_long_words=False,  # a name is to be copied
    )


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _write(
    out: Path,
    drawn: Sequence[Line],
    series: Sequence[Series],
    metric: str,
    forced: Sequence[str],
    options: Options,
) -> None:
    from playfield.atomic import write_atomically
    from playfield.evaluation.charts import line_chart

    labelled = [
        replace(each, label=f"{each.label} ({len(line.runs)} runs)" if many else each.label)
        for line, each in zip(drawn, series, strict=True)
        for many in [len(line.runs) > 1]
    ]
    worlds = dict.fromkeys(run.world for line in drawn for run in line.runs)
    title = f"{metric} on {', '.join(worlds)}"
    if any(each.low is not None for each in series):
        title += "\nmeans over runs, 95 % intervals by Student's t"
    title += "".join(f"\nforced: {clause}" for clause in forced)
    encoded = line_chart(
        labelled,
        title=title,
        x_label=_x_label(drawn, options),
        y_label=_unit(metric),
        format="png" if out.suffix.lower() == ".png" else "svg",
    )
    try:
        write_atomically(out, encoded)
    except OSError as error:
        raise UserError(
            f"Can't write {out} ({error.strerror}): name another place with --out."
        ) from None
    print(f"Written to {out}")
