"""Stores on disk: exact there and back, and every damage named."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from store_oracle import OracleStore
from test_store import PICTURE, play

from playfield.buffers import persistence
from playfield.buffers.persistence import load_store, save_store
from playfield.buffers.store import FrameStore
from playfield.buffers.transitions import TransitionSpec
from playfield.buffers.uniform import Uniform
from playfield.errors import DamagedFileError


def new_store(streams=3, slots=40, **other):
    return FrameStore(streams * slots, streams, **{"frame_shape": PICTURE, **other})


@pytest.fixture
def store(monkeypatch):
    monkeypatch.setattr(persistence, "PAGE_FRAMES", 16)  # several pages, and a short last one
    store = new_store()
    play(store, OracleStore(3, 40), np.random.default_rng(0), 150, (1, 2, 9))
    return store


@pytest.fixture
def saved(store, tmp_path):
    save_store(store, tmp_path)
    return tmp_path


def test_a_saved_store_comes_back_exactly(store, saved):
    copy = new_store()
    load_store(copy, saved)
    spec = TransitionSpec(stack=4, n_step=3)
    ours, theirs = Uniform(store, spec, 1), Uniform(copy, spec, 1)
    for _ in range(20):
        a, b = ours.sample(32), theirs.sample(32)
        assert torch.equal(a.obs, b.obs) and torch.equal(a.next_obs, b.next_obs)
        assert torch.equal(a.reward, b.reward) and torch.equal(a.index, b.index)


def test_a_store_that_is_not_full_comes_back_exactly(tmp_path):
    store, copy = new_store(), new_store()
    play(store, OracleStore(3, 40), np.random.default_rng(0), 11, (4,))
    save_store(store, tmp_path)
    load_store(copy, tmp_path)
    assert torch.equal(store.frames, copy.frames)
    np.testing.assert_array_equal(store.action, copy.action)


@pytest.mark.parametrize("name", ["layout.json", "columns.safetensors", "frames-001-0001.zlib"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(DamagedFileError, match=f"{name} is missing"):
        load_store(new_store(), saved)


@pytest.mark.parametrize("name", ["layout.json", "columns.safetensors", "frames-001-0001.zlib"])
@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_a_truncated_file_is_named(saved, name, keep):
    data = (saved / name).read_bytes()
    (saved / name).write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(DamagedFileError, match=name):
        load_store(new_store(), saved)


def test_a_flipped_bit_in_a_page_is_found(saved):
    path = saved / "frames-002-0000.zlib"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedFileError, match=r"frames-002-0000.zlib is altered"):
        load_store(new_store(), saved)


def test_a_page_that_unpacks_to_more_than_it_may_is_refused(saved):
    import zlib

    bomb = zlib.compress(bytes(10_000_000))
    layout = json.loads((saved / "layout.json").read_text())
    layout["pages"]["frames-000-0000.zlib"] = {"bytes": len(bomb), "crc32": zlib.crc32(bomb)}
    (saved / "layout.json").write_text(json.dumps(layout))
    (saved / "frames-000-0000.zlib").write_bytes(bomb)
    with pytest.raises(DamagedFileError, match="does not hold"):
        load_store(new_store(), saved)


@pytest.mark.parametrize(
    ("other", "field"),
    [
        ({"frame_shape": (2, 3, 6)}, "frame_shape"),
        ({"streams": 2}, "streams"),
        ({"slots": 41}, "slots"),
    ],
)
def test_a_store_of_another_layout_is_refused_by_field(saved, other, field):
    with pytest.raises(DamagedFileError, match=f"layout.json does not fit this run: {field}"):
        load_store(new_store(**other), saved)
