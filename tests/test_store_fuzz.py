"""Bytes flipped, cut out, put in and moved in every file of a saved store."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from saved_store import Player, new_store

from playfield.buffers import pages as pages_module
from playfield.buffers.persistence import verify_store
from playfield.buffers.store import FrameStore
from playfield.errors import UserError

CASES = 400


def damaged(data: bytes, rng: random.Random) -> bytes:
    """`data` with one random change."""
    place = rng.randrange(len(data) + 1)
    length = rng.choice([1, 2, 8, 100])
    noise = rng.randbytes(length)
    change = rng.randrange(7)
    if change == 0 and place < len(data):
        return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
    if change == 1:
        return data[:place]
    if change == 2:
        return data[:place] + data[place + length :]
    if change == 3:
        return data[:place] + noise + data[place:]
    if change == 4:
        return data[:place] + noise + data[place + length :]
    if change == 5:
        return data[:place] + bytes(length) + data[place + length :]
    digits = [i for i, byte in enumerate(data) if chr(byte).isdigit()]
    place = rng.choice(digits) if digits else 0
    return data[:place] + rng.choice([b"9" * 30, b"-", b".", b"1e9", b"0"]) + data[place + 1 :]


@pytest.mark.parametrize("codec", ["raw", "zlib"])
def test_damage_anywhere_gives_the_exact_data_or_an_error(tmp_path, monkeypatch, codec):
    monkeypatch.setattr(pages_module, "PAGE_RECORDS", 8)
    player = Player(new_store(streams=2, slots=12))
    player.play(30)
    player.store.save(tmp_path / "saved", codec)
    files = sorted(path for path in (tmp_path / "saved").rglob("*") if path.is_file())
    rng, refused = random.Random(codec), 0
    for _ in range(CASES // 2):
        path = rng.choice([*files, tmp_path / "saved" / "store.json"])
        whole = path.read_bytes()
        path.write_bytes(damaged(whole, rng))
        try:
            found = FrameStore.load(tmp_path / "saved")
        except UserError as error:
            assert str(tmp_path) in str(error)
            refused += 1
        else:
            player.assert_in(found)
            verify_store(tmp_path / "saved")
        path.write_bytes(whole)
    assert refused > 0.8 * CASES // 2
    player.assert_in(FrameStore.load(tmp_path / "saved"))


def test_files_that_change_places_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(pages_module, "PAGE_RECORDS", 8)
    player = Player(new_store(streams=2, slots=12))
    player.play(30)
    player.store.save(tmp_path / "saved")
    files = sorted(path for path in (tmp_path / "saved").rglob("*") if path.is_file())
    rng = random.Random(0)
    for _ in range(40):
        copy = tmp_path / "copy"
        shutil.copytree(tmp_path / "saved", copy)
        a, b = (copy / path.relative_to(tmp_path / "saved") for path in rng.sample(files, 2))
        swap(a, b)
        with pytest.raises(UserError, match="copy"):
            FrameStore.load(copy)
        shutil.rmtree(copy)


def swap(a: Path, b: Path) -> None:
    data = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(data)
