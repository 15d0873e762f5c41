"""What one process of the replay benchmark is told, and playfield's side of it."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers.base import GAMMA
from replay_data import SIZE, STACK, Episode, episode_lengths

from playfield.buffers.store import FrameStore
from playfield.buffers.transitions import TransitionSpec

OURS = "playfield"
FRAME = SIZE * SIZE  # bytes


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    batch_sizes: tuple[int, ...] = (32, 256, 512)
    n_steps: tuple[int, ...] = (1, 3)
    episode: int = 1_000  # mean length
    blocks: int = 10
    seconds: float = 1.0  # for one batch size and kind of draw, all takers together
    insertions: int = 600


QUICK = Effort(episode=60, blocks=2, seconds=0.01, insertions=20)


@dataclass(frozen=True)
class Task:
    """What one process measures."""

    label: str  # the peer's
    size: int  # transitions
    threads: int
    device: str
    quick: bool
    pictures: str  # file of Pong's frames
    scratch: str  # folder to save in

    @property
    def effort(self) -> Effort:
        return QUICK if self.quick else Effort()

    @property
    def lengths(self) -> list[int]:
        return episode_lengths(self.size, max(2, self.size // self.effort.episode), seed=0)


def spec(n_step: int) -> TransitionSpec:
    return TransitionSpec(stack=STACK, n_step=n_step, gamma=GAMMA)


def new_store(task: Task) -> FrameStore:
    """An empty store for the task's transitions: an episode's last frame needs room too."""
    lengths = task.lengths
    store = FrameStore(task.size + len(lengths), 1, (1, SIZE, SIZE), device=task.device)
    store.threads = min(store.threads, task.threads)
    return store


def fill(store: FrameStore, episode: Episode) -> None:
    for step, action in episode.arrivals():
        store.append(step)
        store.act(action)


def resident() -> int | None:
    """Bytes of memory that this process has in use; None where the system does not say."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what is free goes back to the system
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, AttributeError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def free_memory(device: str) -> int:
    """Bytes that can still be taken."""
    if device != "cpu":
        return int(torch.cuda.mem_get_info()[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 2**62  # nobody knows
    (line,) = (line for line in lines if line.startswith("MemAvailable"))
    return int(line.split()[1]) * 1024


def on_disk(folder: Path) -> int:
    """Bytes of all files in the folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def seconds_to_disk(save: Callable[[], object]) -> float:
    """Seconds until what `save` writes is on the disk, whether it waits for that itself or not."""

    def both() -> None:
        save()
        os.sync()

    os.sync()
    return seconds(both)


def work(measure: Callable[[Task], Any]) -> None:
    """What a process does: the task is its first argument, the file for the result its second."""
    task, output = Task(**json.loads(sys.argv[1])), Path(sys.argv[2])
    warnings.filterwarnings("ignore")  # the peers' advice to their users
    torch.set_num_threads(task.threads)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - peers draw from numpy's global generator
    output.write_text(json.dumps(measure(task)))
