"""Checkpoints: whole or not at all, verified, and the newest intact one always found."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from playfield.errors import DamagedFileError
from playfield.training import checkpoint as module
from playfield.training.checkpoint import (
    list_checkpoints,
    load_checkpoint,
    newest_intact,
    prune,
    save_checkpoint,
    set_aside_after,
)


class FakeStore:
    """A store that is a text."""

    def __init__(self, text: str = "") -> None:
        self.text = text


@pytest.fixture(autouse=True)
def fake_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    def save(store: Any, folder: Path) -> None:
        (folder / "page-0").write_text(store.text)

    def load(store: Any, folder: Path) -> None:
        store.text = (folder / "page-0").read_text()

    monkeypatch.setattr(module, "save_store", save)
    monkeypatch.setattr(module, "load_store", load)


def _save(folder: Path, progress: int, text: str = "frames") -> Path:
    state = {"weights": torch.full((4,), float(progress)), "epsilon": 0.25}
    stores: Any = {"replay": FakeStore(text)}
    return save_checkpoint(folder, progress, state, stores)


def _no_report(text: str) -> None:
    pytest.fail(text)


def test_a_checkpoint_comes_back_whole(tmp_path: Path) -> None:
    path = _save(tmp_path, 50_000, "the pages")
    assert path == tmp_path / "000000050000"
    checkpoint = load_checkpoint(path)
    assert checkpoint.progress == 50_000
    assert checkpoint.state["weights"].tolist() == [50_000.0] * 4
    assert checkpoint.state["epsilon"] == 0.25
    stores: Any = {"replay": FakeStore()}
    checkpoint.load_stores(stores)
    assert stores["replay"].text == "the pages"


def test_stores_of_other_names_are_refused(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(_save(tmp_path, 1))
    with pytest.raises(DamagedFileError, match=r"\['replay'\].*needs \['rollout'\]"):
        checkpoint.load_stores({"rollout": FakeStore()})  # type: ignore[dict-item]


FILES = ["manifest.json", "state.json", "state.safetensors", "stores/replay/page-0"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["truncated", "altered", "missing", "a link"])
def test_damage_to_any_file_is_found_and_the_file_named(
    tmp_path: Path, name: str, damage: str
) -> None:
    path = _save(tmp_path, 7)
    file = path / name
    data = file.read_bytes()
    if damage == "truncated":
        file.write_bytes(data[:-1])
    elif damage == "altered":
        middle = len(data) // 2
        file.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    else:
        file.unlink()
    if damage == "a link":
        file.symlink_to("/etc/hostname")
    with pytest.raises(DamagedFileError, match=name.rpartition("/")[2]):
        load_checkpoint(path)


def test_a_file_that_nobody_listed_is_refused(tmp_path: Path) -> None:
    path = _save(tmp_path, 7)
    (path / "stores" / "replay" / "page-1").write_text("planted")
    with pytest.raises(DamagedFileError, match="page-1 isn't listed"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"format": 2}, "format 2"),
        ({"format": None}, "no format version"),
        ({"hook": "x"}, r"unknown or missing keys \['hook'\]"),
        ({"progress": 8}, "progress 8"),
        ({"progress": -1}, "progress"),
        ({"files": []}, "files should be"),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused(
    tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    path = _save(tmp_path, 7)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, **change}))
    with pytest.raises(DamagedFileError, match=named):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../x",
        "stores/../../x",
        "stores\\replay\\x",
        "C:/x/y",
        "state.pkl",
        "stores/x",
    ],
)
def test_names_that_lead_out_of_the_checkpoint_are_refused(tmp_path: Path, name: str) -> None:
    path = _save(tmp_path, 7)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"][name] = {"size": 0, "sha256": ""}
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DamagedFileError, match="no file of a checkpoint"):
        load_checkpoint(path)


def test_acting_needs_no_store_pages(tmp_path: Path) -> None:
    path = _save(tmp_path, 7)
    page = path / "stores" / "replay" / "page-0"
    page.write_bytes(page.read_bytes()[::-1])
    assert load_checkpoint(path, stores=False).progress == 7
    with pytest.raises(DamagedFileError, match="altered"):
        load_checkpoint(path)
    page.write_bytes(b"")
    with pytest.raises(DamagedFileError, match="0 bytes where 6 were written"):
        load_checkpoint(path, stores=False)


def test_the_newest_intact_one_is_found_and_the_damaged_ones_told(tmp_path: Path) -> None:
    for progress in (5, 10, 100):
        _save(tmp_path, progress)
    (tmp_path / "000000000100" / "state.json").write_text("")
    (tmp_path / "000000000200").mkdir()
    told: list[str] = []
    checkpoint = newest_intact(tmp_path, told.append)
    assert checkpoint is not None
    assert checkpoint.progress == 10
    assert ["000000000200" in told[0], "000000000100" in told[1], len(told)] == [True, True, 2]


def test_there_is_no_newest_one_where_nothing_was_saved(tmp_path: Path) -> None:
    assert newest_intact(tmp_path, _no_report) is None
    assert newest_intact(tmp_path / "absent", _no_report) is None


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("I/O error: No space left on device"),
    ],
)
def test_a_failed_save_leaves_nothing_behind_and_what_was_there_untouched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    _save(tmp_path, 5)

    def disk_full(store: Any, folder: Path) -> None:
        (folder / "page-0").write_text("half")
        raise error

    monkeypatch.setattr(module, "save_store", disk_full)
    for progress in (5, 9):
        with pytest.raises(OSError, match="No space left"):
            _save(tmp_path, progress)
    assert [p.name for p in tmp_path.iterdir()] == ["000000000005"]
    assert load_checkpoint(tmp_path / "000000000005").progress == 5


def test_what_a_killed_process_left_is_no_checkpoint_and_is_cleared_away(tmp_path: Path) -> None:
    shutil.copytree(_save(tmp_path, 5), tmp_path / ".saving-000000000009-1")
    assert [p.name for p in list_checkpoints(tmp_path)] == ["000000000005"]
    _save(tmp_path, 7)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000000000005", "000000000007"]


def test_a_checkpoint_in_the_way_is_replaced(tmp_path: Path) -> None:
    (_save(tmp_path, 5) / "state.json").write_text("damaged")
    _save(tmp_path, 5, "new")
    assert load_checkpoint(tmp_path / "000000000005").progress == 5
    assert len(list(tmp_path.iterdir())) == 1


def test_everything_is_on_the_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    real_sync, real_rename, real_folder = module.sync_tree, os.rename, module.sync_folder
    monkeypatch.setattr(module, "sync_tree", lambda p: (order.append("files"), real_sync(p)))
    monkeypatch.setattr(os, "rename", lambda a, b: (order.append("rename"), real_rename(a, b)))
    monkeypatch.setattr(module, "sync_folder", lambda p: (order.append("name"), real_folder(p)))
    _save(tmp_path, 5)
    assert order == ["files", "rename", "name"]


def test_pruning_keeps_the_newest(tmp_path: Path) -> None:
    for progress in (1, 2, 3, 10):
        _save(tmp_path, progress)
    prune(tmp_path, keep=2)
    assert [int(p.name) for p in list_checkpoints(tmp_path)] == [3, 10]
    assert len(list(tmp_path.iterdir())) == 2


def test_pruning_never_removes_the_newest_intact_one(tmp_path: Path) -> None:
    for progress in (1, 2, 3, 10):
        _save(tmp_path, progress)
    for damaged in ("000000000003", "000000000010"):
        (tmp_path / damaged / "state.json").write_text("")
    prune(tmp_path, keep=1)
    assert [int(p.name) for p in list_checkpoints(tmp_path)] == [2, 10]
    (tmp_path / "000000000002" / "state.json").write_text("")
    prune(tmp_path, keep=1)
    assert len(list_checkpoints(tmp_path)) == 2  # none is intact: nothing is thrown away


def test_checkpoints_beyond_the_resumed_one_no_longer_count(tmp_path: Path) -> None:
    for progress in (1, 2, 3):
        _save(tmp_path, progress)
    assert [p.name for p in set_aside_after(tmp_path, 1)] == [
        "000000000002.aside-1",
        "000000000003.aside-1",
    ]
    assert [int(p.name) for p in list_checkpoints(tmp_path)] == [1]
    _save(tmp_path, 2)
    assert set_aside_after(tmp_path, 1)[0].name == "000000000002.aside-2"


@pytest.mark.parametrize("name", ["../x", "a/b", "", "."])
def test_a_store_s_name_is_a_plain_word(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="plain word"):
        save_checkpoint(tmp_path, 1, {}, {name: FakeStore()})  # type: ignore[dict-item]
