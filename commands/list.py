"""`playfield list`: what there is to train, where, and with which settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import tyro

from playfield.commands import arguments
from playfield.commands.table import aligned


@dataclass(frozen=True)
class Options:
    """List the algorithms, the environments or the presets; all of them when none is named."""

    what: tyro.conf.Positional[Literal["all", "algorithms", "envs", "presets"]] = "all"
    """What to list."""


def run(args: Sequence[str]) -> int:
    options = arguments.parse(Options, args, command="list")
    sections = {"algorithms": _algorithms, "envs": _envs, "presets": _presets}
    wanted = list(sections) if options.what == "all" else [options.what]
    for number, name in enumerate(wanted):
        if len(wanted) > 1:
            print(f"{chr(10) if number else ''}{name}")
        for line in sections[name]():
            print(f"  {line}" if len(wanted) > 1 else line)
    return 0


def _algorithms() -> list[str]:
    from playfield.agents.registry import ALGORITHMS

    return aligned([(each.name, each.summary) for each in ALGORITHMS.values()])


def _envs() -> list[str]:
    from playfield import envs

    notes = {
        "worlds": "built in",
        "atari": "Atari",
        "gymnasium": "Gymnasium, as any registered environment with discrete actions",
    }
    rows = [
        (env_id, notes.get(kind, kind)) for kind, ids in envs.available().items() for env_id in ids
    ]
    return aligned(rows)


def _presets() -> list[str]:
    from playfield.agents.presets import PRESETS

    return aligned(
        [
            (each.name, each.algorithm, each.env or "any environment", each.summary)
            for each in PRESETS.values()
        ]
    )
