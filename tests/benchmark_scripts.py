"""Benchmark scripts as modules, and as what they are: programs."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


def script(name: str) -> ModuleType:
    """A benchmark script as a module; scripts import each other by their bare names."""
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(FOLDER))


def quick(name: str, output: Path, *arguments: str, result: str | None = None) -> dict[str, Any]:
    """The result of `NAME.py --quick`, with what every result has."""
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--quick", "--output", str(output)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads((output / f"{result or name}.json").read_text())
    assert record["quick"] is True
    assert {"torch", "numpy", "playfield"} <= set(record["versions"])
    assert {"cpu", "cores"} <= set(record["hardware"])
    for target in record["targets"]:
        assert {"what", "wanted", "measured", "at_least", "reached"} == set(target)
    return record
