"""A run in words and as settings: what it is, what made it, and how to go on with it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

#: What `run.json` holds of a run's conditions, and what the card calls it.
SECTIONS = {
    "protocol": "Protocol",
    "data": "Data",
    "held_out": "Held-out images",
    "init": "First weights",
    "config": "Settings",
    "training": "Training",
    "versions": "Versions",
    "hardware": "Hardware",
}


def card(manifest: Mapping[str, Any], argument: str) -> str:
    """What `run.json` says, as Markdown; `argument` names the run on the command line.

    The command and how to go on come first, then what was trained, and a table for each of
    `SECTIONS`.
    """
    lines = [
        *_code(shlex.join(manifest["command"])),
        "",
        "To go on after it was stopped, or with more `--steps`:",
        "",
        *_code(f"playfield resume {shlex.quote(argument)}"),
        "",
        *_table({name: value for name, value in _summary(manifest) if value is not None}),
    ]
    for field, title in SECTIONS.items():
        if manifest.get(field):
            lines += ["", f"### {title}", "", *_table(dict(flattened(manifest[field])))]
    return "\n".join(lines) + "\n"


def settings(manifest: Mapping[str, Any]) -> dict[str, bool | float | str]:
    """What tells one run from another, flat, for a table of runs.

    The algorithm's own settings have their plain names, as in "optimizer.learning_rate"; those of
    training and protocol have that in front. None is "none", and a list its JSON.
    """
    world = manifest.get("env") or manifest.get("data", {}).get("name")
    found: dict[str, Any] = {"algorithm": manifest["algorithm"], "on": world}
    found |= {name: manifest[name] for name in ("preset", "seed", "device")}
    found |= dict(flattened(manifest["config"]))
    found |= dict(flattened(manifest["training"], "training."))
    found |= dict(flattened(manifest.get("protocol", {}), "protocol."))
    return {name: _setting(value) for name, value in found.items()}


def _summary(manifest: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    git = manifest["git"]
    yield "algorithm", manifest["algorithm"]
    yield "preset", manifest["preset"]
    yield "environment", manifest.get("env")
    yield "seed", manifest["seed"]
    yield "device", manifest["device"]
    yield "threads", manifest.get("threads")
    yield "started", manifest["created"]
    if git is not None:
        yield "commit", f"{git.get('commit')}{' and changes on top' if git.get('dirty') else ''}"


def flattened(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings by dotted names, as in "optimizer.learning_rate", with `path` in front."""
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            yield from flattened(inner, f"{path}{name}.")
        else:
            yield path + name, inner


def _setting(value: Any) -> bool | float | str:
    if isinstance(value, bool | int | float | str):
        return value
    return "none" if value is None else json.dumps(value)


def _table(rows: Mapping[str, Any]) -> list[str]:
    lines = ["| | |", "|---|---|"]
    for name, value in rows.items():
        shown = value if isinstance(value, str) else json.dumps(value)
        lines.append(f"| {_cell(name)} | {_cell(shown)} |")
    return lines


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def _code(line: str) -> list[str]:
    return [f"    {part}" for part in line.splitlines()]  # no fence that the text could end
