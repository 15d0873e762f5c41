"""Checkpoints: whole or not at all, verified, and the newest intact one always found."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from saved_store import Player, new_store

from playfield.buffers import pages, persistence
from playfield.buffers.persistence import load_store, saved_pages
from playfield.errors import DamagedFileError, UserError
from playfield.training import checkpoint as module
from playfield.training.checkpoint import (
    list_checkpoints,
    load_checkpoint,
    newest_intact,
    prune,
    save_checkpoint,
    set_aside_after,
)
from playfield.training.replay import open_replay


@pytest.fixture(autouse=True)
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "PAGE_RECORDS", 8)


def _player() -> Player:
    player = Player(new_store(streams=1, slots=30))
    player.play(20)
    return player


def _save(folder: Path, progress: int, player: Player | None = None) -> Path:
    state = {"weights": torch.full((4,), float(progress)), "epsilon": 0.25}
    store = (player or _player()).store
    return save_checkpoint(folder, progress, state, {"replay": store})


def _pages(folder: Path) -> list[Path]:
    return sorted((folder / "pages" / "replay").iterdir())


def _no_report(text: str) -> None:
    pytest.fail(text)


def test_a_checkpoint_comes_back_whole(tmp_path: Path) -> None:
    player = _player()
    path = _save(tmp_path, 50_000, player)
    assert path == tmp_path / "000000050000"
    checkpoint = load_checkpoint(path)
    assert checkpoint.progress == 50_000
    assert checkpoint.state["weights"].tolist() == [50_000.0] * 4
    assert checkpoint.state["epsilon"] == 0.25
    store = new_store(streams=1, slots=30)
    checkpoint.load_stores({"replay": store})
    player.assert_in(store)


def test_stores_of_other_names_are_refused(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(_save(tmp_path, 1))
    with pytest.raises(DamagedFileError, match=r"\['replay'\].*needs \['rollout'\]"):
        checkpoint.load_stores({"rollout": new_store()})


FILES = [
    "manifest.json",
    "state.json",
    "state.safetensors",
    "stores/replay/store.json",
    "stores/replay/tail-*.page",
    "../pages/replay/000-000000000008-*.page",
]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["truncated", "altered", "missing", "a link"])
def test_damage_to_any_file_is_found_and_the_file_named(
    tmp_path: Path, name: str, damage: str
) -> None:
    path = _save(tmp_path, 7)
    [file] = path.parent.glob(f"{path.name}/{name}" if name[0] != "." else name[3:])
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
    with pytest.raises(DamagedFileError, match=file.name):
        load_checkpoint(path)


def test_a_file_that_nobody_listed_is_refused(tmp_path: Path) -> None:
    path = _save(tmp_path, 7)
    (path / "stores" / "replay" / "page-1").write_text("planted")
    with pytest.raises(DamagedFileError, match="page-1 isn't listed"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"format": 3}, "format 3"),
        ({"format": True}, "no format version"),
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
    page = _pages(tmp_path)[0]
    page.write_bytes(page.read_bytes()[::-1])
    assert load_checkpoint(path, stores=False).progress == 7
    with pytest.raises(DamagedFileError, match="altered"):
        load_checkpoint(path)
    shutil.rmtree(tmp_path / "pages")
    assert load_checkpoint(path, stores=False).progress == 7
    with pytest.raises(DamagedFileError, match="missing"):
        load_checkpoint(path)


def test_the_agent_in_a_checkpoint_of_format_1_can_act_but_not_learn(tmp_path: Path) -> None:
    """Its stores lay in the checkpoint itself, in pages of another form."""
    path = _save(tmp_path, 7)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "format": 1}))
    assert load_checkpoint(path, stores=False).state["epsilon"] == 0.25
    with pytest.raises(DamagedFileError, match=r"format 1.*still be evaluated.*not .*trained"):
        load_checkpoint(path)


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


@pytest.fixture(params=["list_checkpoints", "_read_manifest", "_files_under", "_read_verified"])
def pruned_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Path:
    """The one checkpoint there is; whoever trains replaces it by a newer one while it is read.

    That is after the folder is listed, or before the step of reading that is named.
    """
    path, real = _save(tmp_path, 5), getattr(module, request.param)
    trained = []

    def train_on() -> None:
        if not trained:
            trained.append(True)
            prune(tmp_path, 1, intact=_save(tmp_path, 10))

    def meanwhile(*args: Any) -> Any:
        found = real(*args) if request.param == "list_checkpoints" else None
        train_on()
        return real(*args) if found is None else found

    monkeypatch.setattr(module, request.param, meanwhile)
    return path


def test_the_newest_one_is_found_though_training_prunes_meanwhile(pruned_meanwhile: Path) -> None:
    checkpoint = newest_intact(pruned_meanwhile.parent, _no_report)
    assert checkpoint is not None
    assert checkpoint.progress == 10


def test_one_that_is_pruned_while_it_is_read_is_said_to_be_gone(pruned_meanwhile: Path) -> None:
    module.list_checkpoints(pruned_meanwhile.parent)
    with pytest.raises(DamagedFileError, match="was removed while it was read"):
        load_checkpoint(pruned_meanwhile)


def test_there_is_no_newest_one_where_nothing_was_saved(tmp_path: Path) -> None:
    assert newest_intact(tmp_path, _no_report) is None
    assert newest_intact(tmp_path / "absent", _no_report) is None


@pytest.mark.parametrize("place", ["write_page", "encode_state", "sync_tree"])
def test_a_failed_save_leaves_nothing_behind_and_what_was_there_untouched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    player = _player()
    _save(tmp_path, 5, player)
    before = sorted(tmp_path.rglob("*"))
    player.play(20)

    def disk_full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(persistence if place == "write_page" else module, place, disk_full)
    for progress in (5, 9):
        with pytest.raises(OSError, match="No space left"):
            _save(tmp_path, progress, player)
    assert sorted(tmp_path.rglob("*")) == before
    assert load_checkpoint(tmp_path / "000000000005").progress == 5


def test_what_a_killed_process_left_is_no_checkpoint_and_is_cleared_away(tmp_path: Path) -> None:
    shutil.copytree(_save(tmp_path, 5), tmp_path / ".saving-000000000009-1")
    before = _pages(tmp_path)
    (tmp_path / "pages" / "replay" / f".{before[0].name}.123.tmp").write_text("half a page")
    assert [p.name for p in list_checkpoints(tmp_path)] == ["000000000005"]
    _save(tmp_path, 7)
    names = ["000000000005", "000000000007", "pages"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert _pages(tmp_path) == before


def test_a_checkpoint_in_the_way_is_replaced(tmp_path: Path) -> None:
    (_save(tmp_path, 5) / "state.json").write_text("damaged")
    _save(tmp_path, 5)
    assert load_checkpoint(tmp_path / "000000000005").progress == 5
    assert len(list(tmp_path.iterdir())) == 2  # with the pages


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
    assert len(list(tmp_path.iterdir())) == 3  # with the pages


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
        save_checkpoint(tmp_path, 1, {}, {name: new_store()})


# --- pages that checkpoints share ---


def test_a_second_checkpoint_writes_only_the_pages_that_are_new(tmp_path: Path) -> None:
    player = _player()
    _save(tmp_path, 20, player)
    first = {path: path.stat().st_ino for path in _pages(tmp_path)}
    player.play(5)
    _save(tmp_path, 25, player)
    second = {path: path.stat().st_ino for path in _pages(tmp_path)}
    assert first.items() <= second.items()
    assert {path.name[:16] for path in second.keys() - first.keys()} == {"000-000000000019"}


def test_every_kept_checkpoint_loads_exactly_and_pruned_pages_are_gone(tmp_path: Path) -> None:
    player = _player()
    for _ in range(8):
        player.play(9)
        _save(tmp_path, len(player.history[0]), player)
        prune(tmp_path, keep=2)
        listed = set()
        for path in list_checkpoints(tmp_path):
            store = new_store(streams=1, slots=30)
            load_checkpoint(path).load_stores({"replay": store})
            player.assert_in(store, until=int(path.name))
            listed |= saved_pages(path / "stores" / "replay")
        assert listed == {path.name for path in _pages(tmp_path)}


def test_a_branch_from_an_older_checkpoint_mixes_up_nothing(tmp_path: Path) -> None:
    """What set-aside checkpoints need stays too, and pages of the same times don't collide."""
    player = _player()
    first = _save(tmp_path, 20, player)
    player.play(15)
    _save(tmp_path, 35, player)
    branch = Player(new_store(streams=1, slots=30), seed=7)
    load_checkpoint(first).load_stores({"replay": branch.store})
    branch.history = [list(player.history[0][:20])]
    [aside] = set_aside_after(tmp_path, 20)
    branch.play(15)
    _save(tmp_path, 35, branch)
    prune(tmp_path, keep=1)
    store = new_store(streams=1, slots=30)
    load_checkpoint(tmp_path / "000000000035").load_stores({"replay": store})
    branch.assert_in(store)
    aside.rename(tmp_path / "000000000036")
    load_store(store, tmp_path / "000000000036/stores/replay", pages=tmp_path / "pages/replay")
    player.assert_in(store)


def test_no_page_is_removed_while_a_checkpoint_cannot_say_what_it_needs(tmp_path: Path) -> None:
    player = _player()
    first = _save(tmp_path, 20, player)
    player.play(40)
    second = _save(tmp_path, 60, player)
    before = _pages(tmp_path)
    manifest = first / "stores" / "replay" / "store.json"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:-9])
    prune(tmp_path, keep=2, intact=second)
    assert _pages(tmp_path) == before
    manifest.write_bytes(whole)
    assert load_checkpoint(first).progress == 20


# --- the replay of a run as a data set ---


def test_a_replay_opens_by_the_path_of_its_store_its_checkpoint_or_its_run(tmp_path: Path) -> None:
    player = _player()
    player.store.save(tmp_path / "store")
    checkpoint = _save(tmp_path / "run" / "checkpoints", 20, player)
    for path in (tmp_path / "store", checkpoint, tmp_path / "run"):
        for device in ("cpu", "mmap"):
            replay = open_replay(path, device)
            player.assert_in(replay)
            assert replay.read_only and replay.placement == device


def test_a_run_s_replay_is_its_newest_intact_one(tmp_path: Path) -> None:
    player = _player()
    folder = tmp_path / "checkpoints"
    _save(folder, 20, player)
    player.play(10)
    newest = _save(folder, 30, player)
    [tail] = (newest / "stores" / "replay").glob("tail-*")
    tail.unlink()
    told: list[str] = []
    player.assert_in(open_replay(tmp_path, report=told.append), until=20)
    assert len(told) == 1 and "checkpoint 000000000030" in told[0] and tail.name in told[0]
    shutil.rmtree(folder / "pages")
    with pytest.raises(UserError, match="no intact replay"):
        open_replay(tmp_path)


def test_a_path_without_a_replay_is_refused_with_what_to_give(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match=r"holds no replay: give a folder .*store\.json"):
            open_replay(path)
    empty = save_checkpoint(tmp_path, 1, {}, {})
    with pytest.raises(DamagedFileError, match="should hold one replay"):
        open_replay(empty)
