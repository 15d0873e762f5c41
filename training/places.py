"""Where runs are kept."""

from __future__ import annotations

import os
from pathlib import Path

RUNS_VARIABLE = "PLAYFIELD_RUNS"


def runs_root() -> Path:
    """The folder that `PLAYFIELD_RUNS` names, or `runs` in the current folder."""
    return Path(os.environ.get(RUNS_VARIABLE) or "runs")
