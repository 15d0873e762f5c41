"""One peer beside playfield's store, in a process of their own: `replay.py` starts these.

Both hold the same transitions and take turns, so that whatever else the machine does, or the other
libraries' memory would do to the allocator, hits both alike and stays out of the ratio.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import ABSOLUTE_PATH, alternate, summarise
from numpy.typing import NDArray
from peers import BY_LABEL
from peers.base import ALPHA, BETA, Peer, Wanted
from replay_check import check, check_priorities
from replay_data import STACK, episodes
from replay_task import (
    FRAME,
    OURS,
    Task,
    fill,
    free_memory,
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
from playfield.buffers.uniform import Uniform

BARE, COPY = "bare gather", "memcpy"
KEPT = 40  # samples of each that a result holds on to
GIB = 2**30
#: More than this is not saved: minutes for one number.
LARGEST_SAVE = 8 * GIB


# --- turns ----------------------------------------------------------------------------------------


def timed(takers: Mapping[str, Callable[[], object]], task: Task) -> dict[str, Any]:
    """Summary and samples, in microseconds, of calls that take turns for about `seconds`."""
    effort = task.effort
    if task.device != "cpu":
        takers = {name: _then(call, torch.cuda.synchronize) for name, call in takers.items()}
    # One call each to warm up, one to see how many fit.
    pilot = alternate(takers, blocks=1, calls=1)
    rounds = int(effort.seconds / sum(taken[0] / 1e6 for taken in pilot.values()))
    blocks = int(np.clip(rounds, 3, effort.blocks))
    calls = int(np.clip(rounds // blocks, 1, 40))
    return summary(alternate(takers, blocks=blocks, calls=calls))


def _then(call: Callable[[], object], wait: Callable[[], object]) -> Callable[[], object]:
    def both() -> None:
        call()
        wait()

    return both


def summary(samples: Mapping[str, list[float]]) -> dict[str, Any]:
    """Quartiles of all samples, and a bounded number of them, evenly chosen."""
    return {
        "unit": "microseconds",
        "summary": {name: asdict(summarise(taken)) for name, taken in samples.items()},
        "samples": {name: thinned(taken) for name, taken in samples.items()},
    }


def thinned(taken: list[float]) -> list[float]:
    if len(taken) <= KEPT:
        return taken
    return [taken[k * len(taken) // KEPT] for k in range(KEPT)]


# --- what takes turns -----------------------------------------------------------------------------


def bounds(store: FrameStore, n_step: int, batch_size: int) -> dict[str, Callable[[], object]]:
    """What no store that copies frames can beat: our kernel alone, and as many bytes in a row."""
    width = spec(n_step).frames_read
    rng = np.random.default_rng(2)
    oldest = rng.integers(0, store.capacity - 2 * STACK, (64, batch_size, 1))
    # Fresh rows for each call: the same ones would come from the cache.
    rows = cycle(list(oldest + np.arange(width)))
    out = np.zeros((batch_size * width, store.frame_bytes), np.uint8)
    target, table = torch.from_numpy(out.copy()), store.frame_table
    count = min(len(target), len(table))  # a quick store is smaller than a large batch
    begins = cycle(rng.integers(0, len(table) - count + 1, 64).tolist())

    def copy() -> None:
        begin = next(begins)
        target[:count].copy_(table[begin : begin + count])

    return {BARE: lambda: store.gather_into(next(rows), out), COPY: copy}


def drawing(peer: Peer, ours: Uniform | Prioritized, batch_size: int, task: Task) -> dict[str, Any]:
    """A batch of tensors, indices drawn and all."""
    takers: dict[str, Callable[[], object]] = {OURS: lambda: ours.sample(batch_size)}
    if isinstance(ours, Prioritized):
        takers = {OURS: lambda: ours.sample(batch_size, BETA)}
    takers[peer.label] = lambda: peer.sample(batch_size)
    if not isinstance(ours, Prioritized) and task.device == "cpu":
        takers |= bounds(ours.store, ours.spec.n_step, batch_size)
    return timed(takers, task)


def updating(peer: Peer, ours: Prioritized, batch_size: int, task: Task) -> dict[str, Any]:
    """New priorities of transitions drawn before, as a learner computes them: a torch tensor."""
    sets = 16
    index = cycle([_own(peer.sample(batch_size).index) for _ in range(sets)])
    ids = cycle([torch.from_numpy(ours.draw(batch_size)) for _ in range(sets)])
    errors = cycle(list(torch.rand(sets + 1, batch_size, device=task.device)))
    takers = {
        OURS: lambda: ours.update(next(ids), next(errors)),
        peer.label: lambda: peer.update(next(index), next(errors)),
    }
    return timed(takers, task)


def _own(index: Any) -> Any:
    return index.clone() if isinstance(index, torch.Tensor) else np.array(index)


def adding(
    peer: Peer, store: FrameStore, pictures: NDArray[np.uint8], task: Task
) -> dict[str, Any]:
    """One transition more, into memories that are full."""
    effort = task.effort
    (episode,) = episodes(pictures, [effort.insertions], start=int(store.head[0]))
    ready = iter([peer.ready(transition) for transition in episode.transitions()])
    arrivals = episode.arrivals()

    def ours() -> Iterator[None]:
        for step, action in arrivals:
            store.append(step)
            yield store.act(action)

    rest = ours()
    next(rest)  # the first frame is no transition yet
    takers: dict[str, Callable[[], object]] = {
        OURS: lambda: next(rest),
        peer.label: lambda: peer.insert(next(ready)),
    }
    samples = alternate(
        takers, blocks=effort.blocks, calls=effort.insertions // (effort.blocks + 1)
    )
    for _ in rest:  # to the end of the episode
        pass
    for transition in ready:
        peer.insert(transition)
    return summary(samples)


def saving(peer: Peer, store: FrameStore, n_step: int, task: Task) -> tuple[Peer, dict[str, Any]]:
    """Save until it is on the disk, forget, load; returns the memory that was loaded."""
    folder = Path(task.scratch) / "peer"
    folder.mkdir()
    save_s = seconds_to_disk(lambda: peer.save(folder))
    kind, wanted = type(peer), peer.wanted
    peer.__dict__.clear()  # its memory has to be free before as much is loaded
    gc.collect()
    copy = kind(wanted)
    load_s = seconds(lambda: copy.load(folder))
    check(copy, store, n_step)
    found = {"save_s": save_s, "load_s": load_s, "bytes": on_disk(folder)}
    shutil.rmtree(folder)
    return copy, found


# --- one peer -------------------------------------------------------------------------------------


class Pair:
    """One peer: all of its measurements, and why some are not there."""

    def __init__(self, task: Task) -> None:
        self.task, self.kind = task, BY_LABEL[task.label]
        self.rng = np.random.default_rng(5)
        self.measurements: list[dict[str, Any]] = []
        self.skipped: list[dict[str, Any]] = []
        self.pictures = np.load(task.pictures)

    def skip(self, reason: str, **what: Any) -> None:
        place = {"peer": self.task.label, "size": self.task.size, **what}
        self.skipped.append({**place, "reason": reason})

    def note(self, operation: str, found: Mapping[str, Any], **what: Any) -> None:
        place = {"operation": operation, "peer": self.task.label, "size": self.task.size, **what}
        self.measurements.append({**place, **found})

    def run(self) -> dict[str, Any]:
        task, kind = self.task, self.kind
        needed = task.size * FRAME * (kind.frames + 1) + 2 * GIB
        free = free_memory(task.device)
        if needed > free:
            size = task.size * FRAME * kind.frames / 1e9
            self.skip(
                f"{task.size:,} transitions of {FRAME * kind.frames:,} bytes are {size:.1f} GB: "
                f"too much beside ours where {free / 1e9:.1f} GB are free"
            )
        else:
            store = new_store(task)
            for episode in episodes(self.pictures, task.lengths):
                fill(store, episode)
            for n_step in task.effort.n_steps:
                for prioritized in (False, True):
                    lacks = kind.lacks(n_step, prioritized)
                    if lacks is None:
                        self.measure(store, n_step, prioritized)
                    else:
                        self.skip(lacks, n_step=n_step, prioritized=prioritized)
        return {"measurements": self.measurements, "skipped": self.skipped}

    def measure(self, store: FrameStore, n_step: int, prioritized: bool) -> None:
        task = self.task
        what: dict[str, Any] = {"n_step": n_step, "prioritized": prioritized}
        try:
            self._small(n_step, prioritized).sample(2)  # imports and compiles what it needs
        except (ImportError, RuntimeError) as error:
            what_it_says = ABSOLUTE_PATH.sub(" a file", str(error).partition("\n")[0])
            self.skip(f"cannot be made here: {what_it_says}", **what)
            return
        before = resident()
        peer = self.kind(Wanted(task.size, n_step, prioritized, task.device))
        for episode in episodes(self.pictures, task.lengths):
            peer.fill(episode)
        del episode
        after = resident()
        if before is not None and after is not None and task.device == "cpu":
            self.note("memory", {"bytes_per_transition": (after - before) / task.size}, **what)
        check(peer, store, n_step)
        ours: Uniform | Prioritized = Uniform(store, spec(n_step), seed=0)
        if prioritized:
            check_priorities(peer, self.rng)
            ids = Uniform(store, spec(n_step), seed=0).valid_ids()
            ours = Prioritized(store, spec(n_step), seed=0, alpha=ALPHA)
            ours.update(ids, self.rng.random(len(ids)) + 1e-3)
        for batch_size in task.effort.batch_sizes:
            place = {**what, "batch_size": batch_size}
            self.note("sample", drawing(peer, ours, batch_size, task), **place)
            if isinstance(ours, Prioritized):
                self.note("update", updating(peer, ours, batch_size, task), **place)
        if n_step == 1 and not prioritized and task.device == "cpu":
            obstacle = self._obstacle_to_saving()
            if obstacle is None:
                peer, found = saving(peer, store, n_step, task)
                self.note("save and load", found, **what)
            else:
                self.skip(obstacle, operation="save and load")
        self.note("add", adding(peer, store, self.pictures, task), **what)
        check(peer, store, n_step)

    def _obstacle_to_saving(self) -> str | None:
        """Why the memory is not saved here; None: nothing is in the way."""
        kept, unpacked = (
            self.task.size * FRAME * frames
            for frames in (self.kind.frames, self.kind.frames_to_save)
        )
        if kept > LARGEST_SAVE:
            return f"saving {kept / 1e9:.1f} GB is left out for time"
        if unpacked and unpacked + 3 * GIB > free_memory("cpu"):
            return f"saving unpacks {unpacked / 1e9:.1f} GB, too much beside what is there"
        return None

    def _small(self, n_step: int, prioritized: bool) -> Peer:
        peer = self.kind(Wanted(32, n_step, prioritized, self.task.device))
        for episode in episodes(self.pictures, [16, 16]):
            peer.fill(episode)
        return peer


if __name__ == "__main__":
    work(lambda task: Pair(task).run())
