"""What a result was made with: processor, versions and commit, for `run.json` and reports."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "playfield",
    "torch",
    "numpy",
    "gymnasium",
    "ale-py",
    "tensorboard",
    "safetensors",
)


def hardware() -> dict[str, Any]:
    """The processor, the cores this process may use, the memory in GiB and the GPUs' names."""
    import torch  # here, because who only reads runs should not wait seconds for it

    from playfield.training.devices import usable_cores

    return {
        "cpu": _cpu_name(),
        "cores": usable_cores(),
        "memory_gib": _memory_gib(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def versions() -> dict[str, str]:
    """Versions of Python, the platform and the packages a result depends on, where installed."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit(folder: Path | None = None) -> dict[str, Any] | None:
    """`{"commit", "dirty"}` of the working tree that holds this package; None outside of one."""
    folder = folder or Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return None  # installed; an unrelated repository further up would be the wrong answer
    try:
        commit = _git(folder, "rev-parse", "HEAD").strip()
        return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    # Without optional locks, `status` leaves the index alone while others work in the tree.
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    return result.stdout


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None
