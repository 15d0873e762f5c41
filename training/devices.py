"""Where a program computes: device, threads and precision, each set on purpose."""

from __future__ import annotations

import ctypes
import os
import platform
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from playfield.errors import UserError

# Names of options in glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def resolve_device(name: str) -> torch.device:
    """The device that `name` stands for: "auto", "cpu", "cuda", "cuda:1" or "mps".

    "auto" takes the first CUDA device, then Apple's GPU, then the CPU. Raises `UserError` for a
    name torch does not know and for a device that is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(
            f"Device {name!r} is unknown: use auto, cpu, cuda, cuda:1 or mps."
        ) from None
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = device.index or 0
        if index >= count:
            there = f"there are {count}" if count else "there is no CUDA device"
            raise UserError(f"Device {name!r} is not here: {there}. Use --device auto or cpu.")
        return torch.device("cuda", index)
    if device.type == "mps":
        if not torch.backends.mps.is_available():
            raise UserError("Device 'mps' is not here: it needs an Apple GPU. Use --device auto.")
        return device
    raise UserError(f"Device {name!r} is not supported: use auto, cpu, cuda, cuda:1 or mps.")


def usable_cores() -> int:
    """The cores this process may use: its affinity, bounded by the CPU quota of its cgroups.

    A container with a quota of two cores on a 64-core host sees 64 in `os.cpu_count()`; 64 threads
    on two cores are several times slower than two.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = _cgroup_quota(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    return max(1, cores if quota is None else min(cores, int(quota)))


def set_threads(threads: int | None) -> int:
    """Let torch use `threads` threads (all usable cores when None); returns the number set.

    Call it before the first tensor operation. It also has subnormal floats flushed to zero: the
    second moments of dead units decay into them and stay, and arithmetic on subnormals takes a
    microcode path that made a whole Adam step 20 times slower. Threads inherit the setting when
    they start, which is why it comes first. Raises `UserError` for a number below 1.
    """
    if threads is None:
        threads = usable_cores()
    if threads < 1:
        raise UserError(f"threads must be 1 or more, not {threads}.")
    torch.set_flush_denormal(True)  # False, and harmless, on processors without the mode
    torch.set_num_threads(threads)
    keep_freed_memory()
    return threads


def share_cores(threads: int | None, *, overlap: bool) -> tuple[int, int]:
    """Threads to learn with and threads to emulate with: as many as asked for, or all cores' worth.

    Where the two take turns each may have all usable cores. With `overlap` they run at once, and by
    default share them: on two cores, two threads each would spin while they wait for one another.
    """
    if threads is not None:
        return threads, threads
    cores = usable_cores()
    if not overlap:
        return cores, cores
    emulating = max(1, cores // 2)
    return max(1, cores - emulating), emulating


def keep_freed_memory() -> bool:
    """Have the C library keep large blocks for reuse; returns whether it could be told so.

    By default glibc maps each block of more than some hundred kilobytes afresh and unmaps it when
    it is freed, so every activation and gradient of every update faults its pages in again: about
    a tenth of a small network's training step. What is kept is bounded by the peak of what was in
    use at once.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    largest = 2**30
    return bool(libc.mallopt(M_MMAP_THRESHOLD, largest) & libc.mallopt(M_TRIM_THRESHOLD, largest))


def precision(device: torch.device, choice: str) -> torch.dtype | None:
    """The autocast type for "auto", "float32" or "bfloat16"; None means no autocast.

    "auto" takes bfloat16 where the hardware multiplies it natively: CUDA from Ampere on, x86 with
    AVX512-BF16 or AMX, Arm with the bf16 extension. An emulated bfloat16 would be slower than
    float32. Raises `UserError` for another choice.
    """
    if choice == "float32":
        return None
    if choice == "bfloat16":
        return torch.bfloat16
    if choice != "auto":
        raise UserError(f"precision {choice!r} is unknown: use auto, float32 or bfloat16.")
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        native = device.type == "cpu" and _cpu_multiplies_bfloat16()
    return torch.bfloat16 if native else None


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """A context for forward and loss in `dtype`; make it once, enter it as often as you like.

    It must not be entered while it is already entered. Backward, targets, log-probabilities and the
    optimiser stay outside.
    """
    if dtype is None:
        return nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def _cpu_multiplies_bfloat16() -> bool:
    # torch.cpu.get_capabilities() is public but new; the probes it replaced are private. oneDNN's
    # own probe is of no use: it says yes wherever it can emulate.
    if hasattr(torch.cpu, "get_capabilities"):
        has = torch.cpu.get_capabilities()
        if platform.machine().lower() in ("arm64", "aarch64"):
            return bool(has.get("bf16", False))
        return bool(has.get("avx512_bf16", False) or has.get("amx_bf16", False))
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


def _cgroup_quota(membership: Path, root: Path) -> float | None:
    """The smallest CPU quota, in cores, of the cgroups (v1 or v2) that this process is in."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None  # not Linux
    quotas = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # A limit anywhere above binds too; in a container the path may lie outside what is mounted.
        own = Path(path.lstrip("/"))
        for group in (own, *own.parents):
            base = root / group if not controllers else root / "cpu" / group
            quotas += [q for q in (_quota_v2(base), _quota_v1(base)) if q is not None]
    return min(quotas, default=None)


def _quota_v2(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _quota_v1(group: Path) -> float | None:
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text())
        period = int((group / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else None
    except (OSError, ValueError):
        return None
