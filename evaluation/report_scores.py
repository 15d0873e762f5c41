"""The evaluations of a report as tables: of agents, classifiers and models that paint."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from playfield.errors import UserError
from playfield.evaluation import classification, image_results
from playfield.evaluation.aggregates import Estimate, Improvement, OnGame, OverGames, aggregate
from playfield.evaluation.report_page import Section, Table
from playfield.evaluation.results import Evaluation, read_evaluations
from playfield.evaluation.run_groups import Group, PlayedRun, group_runs, settings_of, unlike_rules
from playfield.evaluation.statistics import (
    FEWEST_RUNS,
    Interval,
    iqm,
    mean,
    stratified_bootstrap,
)
from playfield.training.run import Run

T = TypeVar("T")
Tell = Callable[[str], None]
#: A run of an agent, and what `playfield eval` found of it, the newest last.
Played = tuple[Run, Sequence[Evaluation]]

#: Evaluations of one run that are shown, the newest.
SHOWN = 8
#: Games that an interval takes: fewer say nothing of where others would lie.
FEWEST_GAMES = 5


def evaluations_of(runs: Sequence[Run], left_out: Tell) -> list[Played]:
    """The evaluations of every run; what is damaged is told to `left_out`."""
    played: list[Played] = []
    for run in runs:
        path = run.folder / "evaluation.json"
        found = _read(read_evaluations, path, left_out) or []
        sound = [each for each in found if all(map(math.isfinite, each.scores))]
        if len(sound) < len(found):
            left_out(f"{path} has evaluations with scores that are not finite.")
        played.append((run, sound))
    return played


def _read(read: Callable[[Path], T], path: Path, left_out: Tell) -> T | None:
    """What `read` finds at `path`; None where there is nothing, or nothing whole."""
    try:
        return read(path) if path.exists() else None
    except UserError as error:
        left_out(str(error))
    except OSError as error:
        left_out(f"Can't read {path}: {error.strerror}.")
    return None


# --- agents, one by one ---


def score_table(played: Sequence[Played]) -> Table | None:
    """Every evaluation of agents that can be compared; None where there is none."""
    rows = []
    for run, evaluations in played:
        for each in evaluations[-SHOWN:]:
            scores = np.array(each.scores, np.float64)[:, None]  # [games, 1]
            interval = None
            if len(scores) >= FEWEST_GAMES:
                interval = stratified_bootstrap(scores, mean)
            rows.append(
                (
                    run.name,
                    f"{each.progress:,}",
                    f"{each.episodes:,}",
                    f"{100 * each.epsilon:g} %",
                    str(each.seed),
                    _score(each.mean),
                    _ends(interval),
                    _score(float(iqm(scores))),
                    _score(each.median),
                    _percent(each.human_normalised),
                )
            )
    if not rows:
        return None
    return Table(
        head=(
            *("run", "at step", "games", "random actions", "seed", "mean", "95 % interval"),
            *("IQM", "median", "human"),
        ),
        rows=rows,
        title="Whole games, raw score",
        note="Here a lost life ends no game. The interval is of the mean, by a bootstrap over the "
        "games of that one agent: it says where other games of it would lie, and nothing of agents "
        "from other seeds. IQM is the mean of the middle half. Human: 0 % is random play, 100 % a "
        "professional game tester.",
        right=frozenset(range(1, 10)),
    )


# --- agents, over seeds and games ---


def aggregate_sections(played: Sequence[Played]) -> list[Section]:
    """What runs come to together that played by one protocol, with as many random actions.

    Every run counts with its newest evaluation. Runs that nobody shares the rules with are left to
    the tables of their own.
    """
    alike: list[list[Played]] = []
    for run, evaluations in played:
        if not evaluations:
            continue
        for others in alike:
            first, theirs = others[0]
            same = theirs[-1].epsilon == evaluations[-1].epsilon
            same &= _protocol_name(first) == _protocol_name(run)
            # Held against all of them: one of another environment has no rules to share.
            if same and not unlike_rules([*(each for each, _ in others), run]):
                others.append((run, evaluations))
                break
        else:
            alike.append([(run, evaluations)])
    return [_aggregate_section(each) for each in alike if len(each) > 1]


def _aggregate_section(played: Sequence[Played]) -> Section:
    (groups, _) = group_runs([_played_run(run, evaluations) for run, evaluations in played])
    found = aggregate(groups)
    protocol = _protocol_name(played[0][0])
    tables = [_on_games(found.on_games)]
    if len(groups) > 1:
        tables.insert(0, _groups(groups))
    if found.over_games:
        tables.append(_over_games(found.over_games))
    if found.improvements:
        tables.append(_improvements(found.improvements))
    title = "Over seeds and games"
    return Section(
        title if protocol is None else f"{title} ({protocol})",
        text=[
            "Runs that differ by nothing but their seed and their game are one group, in which a "
            "run counts with the mean of its newest evaluation. Intervals hold 95 %, by a "
            f"bootstrap over the runs of each game, of which it takes {FEWEST_RUNS} or more.",
            *found.notes,
        ],
        tables=tables,
    )


def _protocol_name(run: Run) -> str | None:
    """The name of the rules that a run played by; None for rules without one."""
    name: str | None = run.manifest["protocol"].get("name")
    return name


def _played_run(run: Run, evaluations: Sequence[Evaluation]) -> PlayedRun:
    newest = evaluations[-1]
    return PlayedRun(
        name=run.name,
        algorithm=run.manifest["algorithm"],
        seed=run.manifest["seed"],
        settings=settings_of(run),
        # Those that differ by the seed of their games were one call of `playfield eval`.
        evaluations=tuple(
            each for each in evaluations if newest.same_conditions(replace(each, seed=newest.seed))
        ),
    )


def _groups(groups: Sequence[Group]) -> Table:
    rows = [
        (
            group.name,
            ", ".join(f"{name} {value}" for name, value in group.settings.items()) or "-",
            ", ".join(run.name for run in group.runs),
        )
        for group in groups
    ]
    return Table(("group", "settings in which groups differ", "runs"), rows, title="Groups")


def _on_games(found: Sequence[OnGame]) -> Table:
    rows = [
        (
            each.group,
            each.game,
            f"{each.runs}",
            f"{each.games:,}",
            *_estimated(each.mean, _score),
            *_estimated(each.iqm, _score),
            _percent(each.human_normalised),
        )
        for each in found
    ]
    return Table(
        ("group", "game", "runs", "games", "mean", "interval", "IQM", "interval", "human"),
        rows,
        title="Game by game, raw score",
        right=frozenset(range(2, 9)),
    )


def _over_games(found: Sequence[OverGames]) -> Table:
    names = ("mean", "median", "IQM", "optimality gap")
    rows = [
        (
            each.group,
            ", ".join(each.games),
            f"{each.runs}",
            *_estimated(each.mean, _percent),
            *_estimated(each.median, _percent),
            *_estimated(each.iqm, _percent),
            *_estimated(each.optimality_gap, _percent),
        )
        for each in found
    ]
    return Table(
        (
            "group",
            "games",
            "runs of each",
            *(part for name in names for part in (name, "interval")),
        ),
        rows,
        title="Over games, human-normalised",
        note="The optimality gap is how much is missing to a human on average; 0 % is best.",
        right=frozenset(range(2, 11)),
    )


def _improvements(found: Sequence[Improvement]) -> Table:
    rows = [
        (each.group, each.than, ", ".join(each.games), *_estimated(each.probability, _percent))
        for each in found
    ]
    return Table(
        ("group", "than", "games", "probability", "interval"),
        rows,
        title="How likely a run of one group beats one of the other",
        right=frozenset({3, 4}),
    )


def _estimated(found: Estimate, shown: Callable[[float], str]) -> tuple[str, str]:
    return shown(found.value), _ends(found.interval, shown)


def _ends(interval: Interval | None, shown: Callable[[float], str] | None = None) -> str:
    if interval is None:
        return "-"
    shown = shown or _score
    return f"{shown(interval.low)} to {shown(interval.high)}"


def _score(value: float) -> str:
    return f"{value:,.2f}"


# --- models of images ---


def image_tables(runs: Sequence[Run], left_out: Tell) -> list[Table]:
    """What was found of classifiers and of painters; damaged files are told to `left_out`."""
    tables = [_judged(runs, left_out), _painted(runs, left_out)]
    return [table for table in tables if table is not None]


def _judged(runs: Sequence[Run], left_out: Tell) -> Table | None:
    rows = []
    for run in runs:
        path = run.folder / classification.FILE
        judgement = _read(classification.read_judgement, path, left_out)
        if judgement is not None:
            found = judgement.classification
            shares = (found.accuracy, found.precision, found.recall, found.f1)
            cells = (f"{judgement.progress:,}", f"{found.n:,}", *map(_percent, shares))
            rows.append((run.name, *cells))
    if not rows:
        return None
    return Table(
        head=("run", "at image", "held-out images", "accuracy", "precision", "recall", "F1"),
        rows=rows,
        title="Held-out images",
        note="Precision, recall and F1 are means over the classes.",
        right=frozenset(range(1, 7)),
    )


def _painted(runs: Sequence[Run], left_out: Tell) -> Table | None:
    rows = []
    for run in runs:
        path = run.folder / image_results.FILE
        found = _read(image_results.read_image_evaluations, path, left_out) or []
        for each in found[-SHOWN:]:
            metrics = each.metrics
            kernel = _number(metrics.kernel_distance)
            if metrics.kernel_distance_error is not None:
                kernel += f" ± {metrics.kernel_distance_error:.2g}"
            rows.append(
                (
                    run.name,
                    _painting(each.painted),
                    f"{metrics.n:,} to {metrics.n_real:,}",
                    metrics.features,
                    _number(metrics.frechet_distance),
                    kernel,
                    *map(_number, (metrics.precision, metrics.recall)),
                    *map(_number, (metrics.density, metrics.coverage)),
                    *map(_number, (metrics.memorisation_ratio, metrics.accuracy_score)),
                )
            )
    if not rows:
        return None
    return Table(
        head=(
            *("run", "painted", "images", "features", "Fréchet distance", "kernel distance"),
            *("precision", "recall", "density", "coverage", "memorisation ratio"),
            "accuracy score",
        ),
        rows=rows,
        title="Painted images against real ones",
        note="Only numbers by the same features, from as many images, can be compared.",
        right=frozenset(range(4, 12)),
    )


def _painting(source: Mapping[str, Any]) -> str:
    """Which weights painted, and how; what an older playfield did not write is not told."""
    progress, steps = source.get("progress"), source.get("steps")
    parts = [
        f"image {progress:,}" if isinstance(progress, int) else None,
        source.get("weights"),
        source.get("sampler"),
        f"{steps} steps" if steps is not None else None,
    ]
    return ", ".join(str(part) for part in parts if part is not None) or "-"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if math.isfinite(value) else "infinite"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:,.1f} %"
