"""What a page says of runs: curves, evaluations, pictures, settings, and how to go on with them.

Pieces that are missing are not spoken of, except where there are none; damaged ones are named at
the top of the page and left out. Runs are shown in one chart only where they learn from the same
thing under the same rules, for their numbers mean different things elsewhere.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from playfield.errors import UserError
from playfield.evaluation.comparison import NO_RULES, objections
from playfield.evaluation.media_files import Medium, newest_films, newest_grids, read_medium
from playfield.evaluation.report_curves import curve_charts
from playfield.evaluation.report_page import Page, Section, Table
from playfield.evaluation.report_scores import (
    aggregate_sections,
    evaluations_of,
    image_tables,
    score_table,
)
from playfield.training.run import Run
from playfield.training.run_card import flattened

#: Files tried for an intact picture or film before a run is shown without one.
TRIES = 3
#: Rows of a table that need not be folded away.
FEW = 15


def report(runs: Sequence[Run], made: str, damage: Sequence[str] = ()) -> Page:
    """The page about `runs`, of which there is at least one; `damage` is what was left out before.

    `made` says when and by what.
    """
    left_out = list(damage)
    played = evaluations_of([run for run in runs if "data" not in run.manifest], left_out.append)
    sections = [_overview(runs), *aggregate_sections(played)]
    for title, group in _comparable(runs):
        games = score_table([each for each in played if each[0] in group])
        sections.append(_results(title, group, games, left_out.append))
    sections += [_portrait(run, left_out.append) for run in runs]
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs"
    return Page(title=f"playfield: {title}", made=made, damage=left_out, sections=sections)


def _comparable(runs: Sequence[Run]) -> list[tuple[str, list[Run]]]:
    """Runs whose numbers mean the same, with what they learn from and by which rules."""
    groups: list[list[Run]] = []
    for run in runs:
        for group in groups:
            if not objections([group[0], run], "", average=False):
                group.append(run)
                break
        else:
            groups.append([run])
    titles = [_world(group[0]) for group in groups]
    return [
        (f"{title}, rules {titles[:at].count(title) + 1}" if titles.count(title) > 1 else title, g)
        for at, (title, g) in enumerate(zip(titles, groups, strict=True))
    ]


def _world(run: Run) -> str:
    protocol = run.manifest.get("protocol", {}).get("name")
    return f"{run.world} ({protocol})" if isinstance(protocol, str) else run.world


# --- all runs ---


def _overview(runs: Sequence[Run]) -> Section:
    head = ("run", "algorithm", "on", "progress", "of", "minutes", "seed", "state")
    rows = []
    for run in runs:
        manifest = run.manifest
        progress, steps = manifest.get("progress", 0), manifest["training"].get("steps")
        rows.append(
            (
                run.name,
                manifest["algorithm"],
                _world(run),
                f"{progress:,} {run_unit(run)}",
                f"{steps:,}" if isinstance(steps, int) else "-",
                f"{manifest['minutes']:,.1f}" if "minutes" in manifest else "-",
                str(manifest["seed"]),
                run.status,
            )
        )
    table = Table(head, rows, right=frozenset({3, 4, 5, 6}))
    if len(runs) == 1:
        return Section("Runs", tables=[table])
    differences = _differences(runs)
    if len(differences.rows) > FEW:
        title = f"What differs between them: {len(differences.rows)} settings"
        return Section("Runs", tables=[table], folded=[Section(title, tables=[differences])])
    return Section("Runs", tables=[table, replace(differences, title="What differs between them")])


def run_unit(run: Run) -> str:
    """What its progress counts."""
    return "images" if "data" in run.manifest else "environment steps"


def _differences(runs: Sequence[Run]) -> Table:
    """Settings, software and machine, where not all of `runs` have the same.

    What only other algorithms have is no difference of that setting.
    """
    columns = [dict(_settings(run)) for run in runs]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = []
    for name in names:
        cells = [_shown(column[name]) if name in column else "-" for column in columns]
        known = {cell for cell, column in zip(cells, columns, strict=True) if name in column}
        of_kind: dict[str, set[str]] = {}
        for run, cell in zip(runs, cells, strict=True):
            of_kind.setdefault(run.manifest["algorithm"], set()).add(cell)
        if len(known) > 1 or any(len(each) > 1 for each in of_kind.values()):
            rows.append((name, *cells))
    note = "" if rows else "Nothing: settings, seed, software and machine are the same."
    return Table(("setting", *(run.name for run in runs)), rows, note=note)


def _settings(run: Run) -> Iterator[tuple[str, Any]]:
    """Everything in `run.json` that was there before the run began, by dotted names."""
    for field in (
        *("algorithm", "preset", "env", "protocol", "data", "held_out", "config", "training"),
        *("init", "seed", "device", "threads", "versions", "hardware", "git"),
    ):
        value = run.manifest.get(field)
        if isinstance(value, Mapping):
            # The settings of the algorithm are known by the names of its options.
            yield from flattened(value, "" if field == "config" else f"{field}.")
        elif field in run.manifest:
            yield field, value


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else f"{value}"


# --- runs that can be compared ---


def _results(
    title: str, runs: Sequence[Run], games: Table | None, left_out: Callable[[str], None]
) -> Section:
    curves = curve_charts(runs, run_unit(runs[0]), left_out)
    tables = [*([] if games is None else [games]), *image_tables(runs, left_out)]
    text = [*_rules(runs[0]), *curves.notes]
    if not tables:
        text.append("Nothing has been evaluated after training yet.")
    folded = []
    if curves.others:
        folded.append(Section(f"{len(curves.others)} more curves", media=curves.others))
    return Section(title, text=text, media=curves.first, tables=tables, folded=folded)


def _rules(run: Run) -> Iterator[str]:
    """The rules of its games, every one that changes a score."""
    protocol = run.manifest.get("protocol", {})
    rules = [
        f"{name} {_shown(rule)}"
        for name, rule in flattened(protocol)
        if name != "name" and name not in NO_RULES
    ]
    if rules:
        yield f"Protocol {protocol.get('name', 'of its own')}: {', '.join(rules)}."


# --- one run ---


def _portrait(run: Run, left_out: Callable[[str], None]) -> Section:
    manifest = run.manifest
    media = [
        _newest(newest_films(run.folder / "videos"), run, left_out),
        _newest(newest_grids(run.folder / "samples"), run, left_out),
        _newest([path for path in [run.folder / "confusion.png"] if path.exists()], run, left_out),
    ]
    commands = [
        ("Made by", shlex.join(map(str, manifest["command"]))),
        ("Goes on with", f"playfield resume {shlex.quote(run.argument)}"),
    ]
    return Section(
        run.name,
        text=_remarks(manifest),
        commands=commands,
        media=[medium for medium in media if medium is not None],
        folded=[Section("Settings, software and machine", tables=[_card(run)])],
    )


def _remarks(manifest: Mapping[str, Any]) -> list[str]:
    """What training found worth a sentence, and the energy it took where that was measured."""
    diagnosis = manifest.get("diagnosis")
    said = list(map(str, diagnosis)) if isinstance(diagnosis, list) else []
    energy = manifest.get("energy_wh")
    if isinstance(energy, int | float) and not isinstance(energy, bool) and math.isfinite(energy):
        said.append(f"Training took {energy:,.1f} Wh, as its processors counted it.")
    return said


def _card(run: Run) -> Table:
    rows = [(name, _shown(value)) for name, value in _settings(run)]
    return Table(("setting", "value"), [("created", run.manifest["created"]), *rows])


def _newest(paths: Sequence[Path], run: Run, left_out: Callable[[str], None]) -> Medium | None:
    """The first of `paths` that is whole; those before it are told."""
    for path in paths[:TRIES]:
        try:
            return read_medium(path, _caption(path, run))
        except UserError as error:
            left_out(str(error))
    return None


def _caption(path: Path, run: Run) -> str:
    where = f"{run.name}, {path.relative_to(run.folder)}"
    stem = path.stem.partition("-")[0]
    if not stem.isdigit():
        return where
    return f"{where}: at {int(stem):,} {run_unit(run)}"
