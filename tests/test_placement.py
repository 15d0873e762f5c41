"""Where frames live changes nothing about what is read; and what a mapped file promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from store_oracle import OracleStore
from test_store import PICTURE, filled_store, play

from playfield.buffers.augmentation import Augmentation
from playfield.buffers.epochs import FrameEpochs
from playfield.buffers.prioritized import Prioritized
from playfield.buffers.rollout import Rollout
from playfield.buffers.sequences import Sequences, SequenceSpec
from playfield.buffers.store import Column, FrameStore
from playfield.buffers.transitions import TransitionSpec
from playfield.buffers.uniform import Uniform

PLACEMENTS = ["cpu", "mmap", pytest.param("cuda", marks=pytest.mark.gpu)]
WITH_COLUMN = {"value": Column()}


def transitions(sampler: Uniform) -> Iterator[Any]:
    while True:
        yield sampler.sample(16)


def prioritized(store: FrameStore) -> Iterator[Any]:
    sampler, rng = Prioritized(store, TransitionSpec(3, 3), seed=7), np.random.default_rng(1)
    while True:
        batch = sampler.sample(16, beta=0.6)
        yield batch
        sampler.update(batch.index, rng.random(16).astype(np.float32))


def windows(store: FrameStore, **spec: Any) -> Iterator[Any]:
    sampler = Sequences(store, SequenceSpec(4, burn_in=2, stack=2, **spec), 7, ["value"])
    while True:
        yield sampler.sample(16)


def epochs(store: FrameStore) -> Iterator[Any]:
    sampler = FrameEpochs(store, 16, seed=7)
    while True:
        yield sampler.sample()


def rollouts(store: FrameStore) -> Iterator[Any]:
    rollout = Rollout(store, 12, TransitionSpec(stack=2), seed=7)
    while True:
        steps = rollout.read()
        yield from rollout.minibatches(steps, 2, 16, target=steps.reward)
        yield from rollout.sequences(steps, 2, 2)


#: Every sampler as an endless stream of batches.
SAMPLERS: dict[str, Callable[[FrameStore], Iterator[Any]]] = {
    "one step": lambda store: transitions(Uniform(store, TransitionSpec(4, 1), 7)),
    "three steps": lambda store: transitions(Uniform(store, TransitionSpec(2, 3), 7)),
    "augmented": lambda store: transitions(
        Uniform(store, TransitionSpec(4, 1), 7, Augmentation(shift=1, flip=True))
    ),
    "prioritized": prioritized,
    "sequences": windows,
    "recent sequences": lambda store: windows(store, recency_half_life=10.0),
    "epochs": epochs,
    "rollouts": rollouts,
}


def stores(placement: str, dtype: str) -> tuple[FrameStore, FrameStore]:
    """The same random play in memory and in another place; the rings have gone round."""
    pair = []
    for device in ("cpu", placement):
        store = FrameStore(120, 3, PICTURE, dtype, WITH_COLUMN, device=device)
        play(store, OracleStore(3, 40), np.random.default_rng(5), 130, [1, 2, 3, 17])
        store.extra["value"][:] = np.random.default_rng(6).normal(size=(3, 40))
        pair.append(store)
    return pair[0], pair[1]


def assert_same_bits(ours: Any, theirs: Any) -> None:
    for field in fields(ours):
        one, other = getattr(ours, field.name), getattr(theirs, field.name)
        one, other = (v if isinstance(v, dict) else {"": v} for v in (one, other))
        assert one.keys() == other.keys(), field.name
        for name, tensor in one.items():
            if not isinstance(tensor, torch.Tensor):
                assert tensor == other[name], field.name
                continue
            assert tensor.dtype == other[name].dtype, field.name
            # As bytes, so that -0.0 is not 0.0 and a NaN is itself.
            one_bytes, other_bytes = (
                np.ascontiguousarray(t.cpu().numpy()).tobytes() for t in (tensor, other[name])
            )
            assert one_bytes == other_bytes, f"{field.name} {name}"


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("kind", SAMPLERS)
def test_every_sampler_draws_the_same_bits_on_every_placement(kind, placement):
    host, placed = stores(placement, "uint8")
    ours, theirs = SAMPLERS[kind](host), SAMPLERS[kind](placed)
    for _ in range(12):
        assert_same_bits(next(ours), next(theirs))


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_float_frames_are_the_same_bits_on_every_placement(placement):
    host, placed = stores(placement, "float32")
    ours, theirs = (SAMPLERS["one step"](store) for store in (host, placed))
    for _ in range(5):
        assert_same_bits(next(ours), next(theirs))


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_acting_stacks_are_the_oracles_on_every_placement(placement):
    filled_store(device=placement)  # `play` compares each of them


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_state_moves_between_placements(placement):
    host, placed = stores("mmap", "uint8")
    copy = FrameStore(120, 3, PICTURE, columns=WITH_COLUMN, device=placement)
    copy.load_state_dict(placed.state_dict())
    back = FrameStore(120, 3, PICTURE, columns=WITH_COLUMN)
    back.load_state_dict(copy.state_dict())
    ours, theirs = SAMPLERS["one step"](host), SAMPLERS["one step"](back)
    assert_same_bits(next(ours), next(theirs))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["one step", "three steps", "augmented", "sequences", "epochs"])
def test_sampling_on_the_gpu_never_waits_for_it(kind):
    _, placed = stores("cuda", "uint8")
    batches = SAMPLERS[kind](placed)
    next(batches)  # the first one allocates
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            next(batches)
    finally:
        torch.cuda.set_sync_debug_mode("default")


# --- a mapped file --------------------------------------------------------------------------------

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and sets limits")


def in_a_process(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def mapping_of(store: FrameStore) -> str:
    """The line of /proc/self/maps that the store's frames lie in."""
    address = store.frame_table.data_ptr()
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(part, 16) for part in line.split()[0].split("-"))
        if begin <= address < end:
            return line
    raise AssertionError("not mapped at all")


@on_linux
def test_mapped_frames_are_backed_by_a_file_and_memory_is_not(tmp_path):
    mapped = FrameStore(3000, 3, PICTURE, device="mmap", folder=tmp_path)
    # Shared: what is written goes to the file, so the system can take the memory back at any time.
    assert re.search(rf" rw-s .* {re.escape(str(tmp_path))}/.*\(deleted\)$", mapping_of(mapped))
    assert re.search(r" rw-p .* 0 *(\[.*\])?$", mapping_of(FrameStore(3000, 3, PICTURE)))


@on_linux
def test_the_file_goes_with_the_store(tmp_path):
    store = FrameStore(300_000, 1, (32,), device="mmap", folder=tmp_path)
    assert not list(tmp_path.iterdir())  # it has no name, so nothing is left even by a kill
    assert str(tmp_path) in Path("/proc/self/maps").read_text()
    held = store.gather(np.zeros((1, 1), np.int64))
    del store
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    assert held.shape == (1, 32)


@on_linux
def test_a_disk_without_room_for_all_of_it_is_an_error_at_once(tmp_path):
    """A later one would be a signal at some write, which kills the process."""
    outcome = in_a_process(
        """
import resource, signal, sys
from pathlib import Path

from playfield.buffers.store import FrameStore

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
folder = Path(sys.argv[1])
FrameStore(100, 1, (1, 84, 84), device="mmap", folder=folder)
try:
    FrameStore(200, 1, (1, 84, 84), device="mmap", folder=folder)
except OSError as error:
    print("refused:", error)
""",
        tmp_path,
    )
    assert "no room for 1,411,200 bytes of frames (File too large)" in outcome.stdout
    assert str(tmp_path) in outcome.stdout
    assert not list(tmp_path.iterdir())


@on_linux
def test_the_whole_file_is_reserved_before_anything_is_written(tmp_path, monkeypatch):
    reserved = []
    reserve = os.posix_fallocate

    def noted(file, offset, size):
        reserve(file, offset, size)
        reserved.append(512 * os.fstat(file).st_blocks)

    monkeypatch.setattr(os, "posix_fallocate", noted)
    store = FrameStore(200, 1, (1, 84, 84), device="mmap", folder=tmp_path)
    assert reserved[0] >= store.capacity * store.frame_bytes


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        FrameStore(100, 1, PICTURE, device="mmap", folder=tmp_path / "nowhere")
