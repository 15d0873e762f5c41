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
    """List the algorithms, environments, presets or kinds of data; all of them if none is named."""

    what: tyro.conf.Positional[Literal["all", "algorithms", "envs", "presets", "data"]] = "all"
    """What to list."""


def run(args: Sequence[str]) -> int:
    options = arguments.parse(Options, args, command="list")
    sections = {"algorithms": _algorithms, "envs": _envs, "presets": _presets, "data": _data}
    wanted = list(sections) if options.what == "all" else [options.what]
    for number, name in enumerate(wanted):
        if len(wanted) > 1:
            print(f"{chr(10) if number else ''}{name}")
        for line in sections[name]():
            print(f"  {line}" if len(wanted) > 1 else line)
    return 0


def _algorithms() -> list[str]:
    from playfield.agents.registry import ALGORITHMS
    from playfield.generative.judges import JUDGES
    from playfield.generative.registry import PAINTERS

    agents = [(each.name, each.summary) for each in ALGORITHMS.values()]
    painters = [(each.name, each.summary) for each in PAINTERS.values()]
    return aligned([*agents, *painters, *JUDGES.items()])


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
    from playfield.generative.classifier_presets import PRESETS as CLASSIFIER_PRESETS
    from playfield.generative.presets import PRESETS as PAINTING_PRESETS

    agents = [
        (each.name, each.algorithm, each.env or "any environment", each.summary)
        for each in PRESETS.values()
    ]
    painters = [
        (each.name, each.algorithm, each.data, each.summary) for each in PAINTING_PRESETS.values()
    ]
    judges = [
        (each.name, each.algorithm, each.data, each.summary) for each in CLASSIFIER_PRESETS.values()
    ]
    return aligned([*agents, *painters, *judges])


def _data() -> list[str]:
    from playfield.commands.data_sets import ALL_KINDS

    rows = [
        (
            f"{name}:{kind.path}" if kind.path else name,
            kind.about,
            " ".join(f",{option}=" for option in kind.options),
        )
        for name, kind in ALL_KINDS.items()
    ]
    return aligned([*rows, ("", "any of them, scaled or in other colours", ",size= ,channels=")])
