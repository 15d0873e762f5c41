"""The energy that processors took, as they count it themselves (RAPL), for `run.json` and reports.

Linux shows the counters under /sys/class/powercap, on many systems to root alone. They are the
machine's, all its programs together, and GPUs are not in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")
MICROJOULES_PER_WH = 3_600_000_000


@dataclass
class _Zone:
    """A counter that begins again at 0 after `range` microjoules."""

    counter: Path
    range: int
    last: int


class EnergyMeter:
    """Watt-hours of the processors and, where it is counted apart, their memory.

    Args:
        before: watt-hours up to now; None: nobody knows, and so the sum stays unknown.
        powercap: where the counters are; None: where Linux shows them.

    The counters begin again at 0 every quarter of an hour or so under full load: `read` more often.
    """

    def __init__(self, before: float | None = 0.0, powercap: Path | None = None) -> None:
        self._before = before
        self._used = 0  # microjoules
        self._zones: list[_Zone] | None = None
        if before is not None:
            try:
                self._zones = _zones(powercap or POWERCAP) or None
            except (OSError, ValueError):
                self._zones = None

    @classmethod
    def of_run(cls, manifest: Mapping[str, Any], *, going_on: bool) -> EnergyMeter:
        """For a run that begins, or goes on from what its `manifest` says; unknown on a GPU."""
        if manifest["device"] != "cpu":
            return cls(None)
        return cls(manifest.get("energy_wh") if going_on else 0.0)

    def read(self) -> float | None:
        """The sum up to now; None where it is unknown, from the first failure on."""
        if self._before is None or self._zones is None:
            return None
        try:
            for zone in self._zones:
                now = int(zone.counter.read_text())
                # Counting up to the range takes one more to begin again.
                self._used += (now - zone.last) % (zone.range + 1)
                zone.last = now
        except (OSError, ValueError):
            self._zones = None
            return None
        return self._before + self._used / MICROJOULES_PER_WH


def _zones(powercap: Path) -> list[_Zone]:
    """Packages, and memory, which is part of no package. "psys" would count the packages again."""
    found = []
    # Not intel-rapl-mmio: the same packages, another way.
    for folder in sorted(powercap.glob("intel-rapl:*")):
        kind, depth = (folder / "name").read_text().strip(), folder.name.count(":")
        if (depth == 1 and kind.startswith("package")) or (depth == 2 and kind == "dram"):
            counter = folder / "energy_uj"
            most = int((folder / "max_energy_range_uj").read_text())
            found.append(_Zone(counter, most, int(counter.read_text())))
    return found
