"""Runs that nobody trained: a folder with the `run.json` and `metrics.jsonl` that a test wants."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

RULES = {
    "name": "machado2018",
    "repeat_action_probability": 0.25,
    "noop_max": 0,
    "fire_reset": False,
    "life_loss_terminal": False,
    "full_action_space": False,
    "frame_skip": 4,
    "max_frames": 108_000,
    "frame_size": 84,
    "grey": True,
    "max_pool": True,
    "game": "pong",
    "ale_py": "0.12.1",
}


def make_run(
    root: Path,
    name: str,
    points: Iterable[Mapping[str, Any]] | None = (),
    *,
    created: str = "2026-01-01T00:00:00+00:00",
    algorithm: str = "dqn",
    env: str = "ALE/Pong-v5",
    protocol: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    seed: int = 0,
    steps: int = 1000,
    **fields: Any,
) -> Path:
    """The folder of a new run with `points` as the lines of its curves; None: no such file."""
    folder = root / name
    folder.mkdir(parents=True)
    world = {"env": env, "protocol": {**RULES, **(protocol or {})}}
    manifest = {
        "format": 1,
        "created": created,
        "command": ["playfield", "train", algorithm],
        "algorithm": algorithm,
        "preset": None,
        **(world if data is None else {"data": data}),
        "config": config or {},
        "training": {"steps": steps},
        "init": None,
        "seed": seed,
        "device": "cpu",
        "threads": 1,
        "versions": {"playfield": "0.1.0"},
        "hardware": {},
        "git": None,
        "status": "finished",
        "progress": 0,
        **fields,
    }
    (folder / "run.json").write_text(json.dumps(manifest))
    if points is not None:
        lines = "".join(json.dumps(point) + "\n" for point in points)
        (folder / "metrics.jsonl").write_text(lines)
    return folder


def curve(name: str, values: Mapping[int, float | None]) -> list[dict[str, Any]]:
    """Lines of one metric, `{progress: value}`, with a clock of one minute every ten steps."""
    return [{"progress": at, name: v, "time/minutes": at / 10} for at, v in values.items()]
