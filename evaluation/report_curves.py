"""The curves of a report: one chart for each metric, with all runs that can be compared in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from playfield.evaluation.charts import Series, line_chart
from playfield.evaluation.comparison import COUNTED, OWN, Line, images_compared, lines
from playfield.evaluation.media_files import Medium
from playfield.evaluation.seed_curves import mean_of_runs
from playfield.evaluation.statistics import FEWEST_RUNS
from playfield.training.curves import Curve, read_curves
from playfield.training.metrics import METRICS
from playfield.training.run import Run

#: What a reader asks for first, in this order; all other curves are folded away.
FIRST = (
    "episode/return_mean",
    "eval/return",
    "paint/frechet_distance",
    "classify/accuracy",
    "train/loss",
    "train/generator_loss",
    "train/discriminator_loss",
    "speed/steps_per_second",
    "speed/images_per_second",
)
#: Single games, whose means have curves; bounds of a band; the clock, which is a straight line.
LEFT_OUT = frozenset({"episode/return", "episode/length", "time/minutes"})
#: The curves that say how much another one spreads, below and above, and what lies between them.
SPREAD = {"episode/return_mean": ("episode/return_low", "episode/return_high")}
BETWEEN = "the band of a single run holds the middle 80 % of these games"
#: Inches of a chart: its text can be read where a phone shows it a little smaller.
SIZE = (4.8, 3.2)


@dataclass(frozen=True)
class CurveCharts:
    """The curves of comparable runs."""

    first: Sequence[Medium]  # to be shown at once
    others: Sequence[Medium]
    notes: Sequence[str]  # what one has to know to read them


def curve_charts(runs: Sequence[Run], unit: str, left_out: Callable[[str], None]) -> CurveCharts:
    """Charts of all metrics that any of `runs` logged.

    `runs` are comparable, and `unit` is what their progress counts. Damage in their files is told
    to `left_out`, and what is whole is drawn.
    """
    curves = {run.folder: _curves(run, left_out) for run in runs}
    drawn = seed_lines(runs)
    counted = {name: seed_lines(runs, name) for name in COUNTED}
    bounds = {name for pair in SPREAD.values() for name in pair}
    first: list[Medium] = []
    others: list[Medium] = []
    for name in [*FIRST, *(name for name in METRICS if name not in FIRST)]:
        if name in LEFT_OUT | bounds:
            continue
        for title, panel in _panels(name, _logged(counted.get(name, drawn), name, curves)):
            series = [_series(line, name, curves) for line in panel]
            encoded = line_chart(
                series,
                title=title,
                x_label=unit,
                y_label=METRICS[name].unit,
                size=SIZE,
            )
            caption = f"{title}: {METRICS[name].meaning}"
            pairs = zip(panel, series, strict=True)
            if any(len(line.runs) == 1 and each.low is not None for line, each in pairs):
                caption += f"; {BETWEEN}"
            chart = Medium("chart", "image/svg+xml", encoded, caption)
            (first if name in FIRST else others).append(chart)
    every = [line for each in (drawn, *counted.values()) for line in each]
    noted = {(line.label, *(run.folder for run in line.runs)): line for line in every}
    empty = [run for run in runs if not curves[run.folder]]
    return CurveCharts(first, others, list(_notes(list(noted.values()), empty)))


def seed_lines(runs: Sequence[Run], metric: str = "") -> list[Line]:
    """`runs` as lines of `metric`: those that nothing but the seed tells apart are one.

    Runs that share a seed too are never averaged: they may be copies of one.
    """
    found = []
    for line in lines(runs, average=False, metric=metric):
        if len({run.manifest["seed"] for run in line.runs}) == len(line.runs) > 1:
            found.append(replace(line, label=f"{line.label}, {len(line.runs)} seeds"))
        else:
            found += [replace(line, label=run.name, runs=(run,)) for run in line.runs]
    return found


def _notes(drawn: Sequence[Line], empty: Sequence[Run]) -> Iterator[str]:
    if empty:
        yield f"No curves yet of {', '.join(run.name for run in empty)}: nothing has been logged."
    for line in drawn:
        if len(line.runs) > 1:
            names = ", ".join(run.name for run in line.runs)
            band = ", with its 95 % interval by Student's t"
            yield (
                f"{line.label}: the mean of {names}{band if len(line.runs) >= FEWEST_RUNS else ''}."
            )


def _curves(run: Run, left_out: Callable[[str], None]) -> Mapping[str, Curve]:
    """The curves of `run` that have points, by name."""
    try:
        found = read_curves(run.metrics_path, list(METRICS), clock=False)
    except FileNotFoundError:
        return {}
    except OSError as error:
        left_out(f"Can't read {run.metrics_path}: {error.strerror}.")
        return {}
    if found.damage is not None:
        left_out(found.damage)
    return {name: curve for name, curve in found.curves.items() if len(curve.progress)}


def _logged(
    drawn: Sequence[Line], name: str, curves: Mapping[Path, Mapping[str, Curve]]
) -> list[Line]:
    """The lines of a metric; a mean is of all its runs, or else they are drawn one by one."""
    found = []
    for line in drawn:
        having = [run for run in line.runs if name in curves[run.folder]]
        if len(having) == len(line.runs):
            found.append(line)
        else:
            found += [replace(line, label=run.name, runs=(run,)) for run in having]
    return found


def _panels(name: str, drawn: Sequence[Line]) -> Iterator[tuple[str, Sequence[Line]]]:
    """Title and lines of each chart of one metric: one for each kind of it."""
    by_kind: dict[str, list[Line]] = {}
    for line in drawn:
        by_kind.setdefault(_kind(name, line.runs[0]), []).append(line)
    for kind, group in by_kind.items():
        yield (f"{name} ({kind})" if len(by_kind) > 1 else name), group


def _kind(name: str, run: Run) -> str:
    """What makes a metric something else in other runs: the algorithm, or how many images."""
    if name.startswith(OWN):
        return str(run.manifest["algorithm"])
    return f"{images_compared(run):,} images" if name in COUNTED else ""


def _series(line: Line, name: str, curves: Mapping[Path, Mapping[str, Curve]]) -> Series:
    """The line with its band: over its runs, or of one run where its spread was logged."""
    drawn = mean_of_runs(
        line.label,
        [(each.progress, each.value) for each in (curves[run.folder][name] for run in line.runs)],
    )
    if len(line.runs) > 1:
        # Of two runs, Student's t makes a band in which no line could be seen.
        return drawn if len(line.runs) >= FEWEST_RUNS else replace(drawn, low=None, high=None)
    if name not in SPREAD:
        return drawn
    of_run = curves[line.runs[0].folder]
    ends = [
        mean_of_runs(line.label, [(of_run[bound].progress, of_run[bound].value)])
        for bound in SPREAD[name]
        if bound in of_run
    ]
    if len(ends) < 2 or not all(np.array_equal(end.x, drawn.x) for end in ends):
        return drawn  # logged by an older playfield in part
    return replace(drawn, low=ends[0].mean, high=ends[1].mean)
