"""Playfield's store alone: memory, saving, loading, and what the second checkpoint costs.

`replay.py` starts this, in a process of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from peers.base import ALPHA
from replay_data import episodes
from replay_task import (
    OURS,
    Task,
    fill,
    new_store,
    on_disk,
    resident,
    seconds,
    seconds_to_disk,
    spec,
    work,
)

from playfield.buffers.prioritized import Prioritized
from playfield.buffers.store import FrameStore

NEW = 0.05  # of the store, between two checkpoints
#: Names in the result, and the store's name for the codec.
CODECS = {OURS: "zlib", f"{OURS}, raw pages": "raw"}


def measure(task: Task) -> dict[str, Any]:
    pictures = np.load(task.pictures)
    small = new_store(task)
    for episode in episodes(pictures, [8]):
        fill(small, episode)
    Prioritized(small, spec(1), seed=0).sample(2)  # whatever is made once is made now
    del small
    before = resident()
    store = new_store(task)
    for episode in episodes(pictures, task.lengths):
        fill(store, episode)
    del episode
    filled = resident()
    ours = Prioritized(store, spec(1), seed=0, alpha=ALPHA)
    ours.draw(256)
    drawn = resident()
    measurements = list(_memory(task, before, filled, drawn))
    del ours
    for name, codec in CODECS.items():
        place = {"operation": "save and load", "peer": name, "size": task.size}
        found = saving(store, codec, task)
        measurements.append({**place, "n_step": 1, "prioritized": False, **found})
    place = {"operation": "second checkpoint", "peer": OURS, "size": task.size}
    measurements.append({**place, **second_checkpoint(store, pictures, task)})
    return {"measurements": measurements, "skipped": []}


def _memory(task: Task, *resident: int | None) -> Iterator[dict[str, Any]]:
    before, filled, drawn = resident
    if before is None or filled is None or drawn is None:
        return
    for prioritized, after in ((False, filled), (True, drawn)):
        place = {"operation": "memory", "peer": OURS, "size": task.size}
        found = {"bytes_per_transition": (after - before) / task.size}
        for n_step in task.effort.n_steps:  # it is no property of what is stored
            yield {**place, "n_step": n_step, "prioritized": prioritized, **found}


def saving(store: FrameStore, codec: str, task: Task) -> dict[str, Any]:
    folder = Path(task.scratch) / codec
    save_s = seconds_to_disk(lambda: store.save(folder, codec=codec))
    loaded: list[FrameStore] = []
    load_s = seconds(lambda: loaded.append(FrameStore.load(folder)))
    assert np.array_equal(loaded[0].frames.numpy(), store.frames.numpy())
    found = {"save_s": save_s, "load_s": load_s, "bytes": on_disk(folder)}
    shutil.rmtree(folder)
    return found


def second_checkpoint(store: FrameStore, pictures: np.ndarray, task: Task) -> dict[str, Any]:
    """Save a full store, play on until a twentieth of it is new, save again in the same place."""
    folder = Path(task.scratch) / "checkpoints"
    first_s = seconds_to_disk(lambda: store.save(folder))
    first = written(folder, {})
    seen = state(folder)
    frames = int(NEW * store.capacity)
    for episode in episodes(pictures, [frames - 1], start=int(store.head[0])):
        fill(store, episode)
    second_s = seconds_to_disk(lambda: store.save(folder))
    second = written(folder, seen)
    loaded = FrameStore.load(folder)
    assert np.array_equal(loaded.frames.numpy(), store.frames.numpy())
    shutil.rmtree(folder)
    return {
        "new_frames": frames,
        "first": {"seconds": first_s, "bytes": first},
        "second": {"seconds": second_s, "bytes": second},
    }


def state(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """What tells whether a file is still the one that it was."""
    files = ((path, path.stat()) for path in folder.rglob("*") if path.is_file())
    return {path: (found.st_ino, found.st_mtime_ns, found.st_size) for path, found in files}


def written(folder: Path, before: dict[Path, tuple[int, int, int]]) -> int:
    """Bytes in files that were not there before as they are now."""
    return sum(now[2] for path, now in state(folder).items() if before.get(path) != now)


if __name__ == "__main__":
    work(measure)
