"""Stores on disk: exact there and back, only what is new written, whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from saved_store import Player, new_store, rewrite_manifest

from playfield.buffers import pages as pages_module
from playfield.buffers import persistence
from playfield.buffers.persistence import (
    load_store,
    remove_pages,
    save_store,
    saved_pages,
    verify_store,
)
from playfield.buffers.store import Column, FrameStore
from playfield.buffers.transitions import TransitionSpec
from playfield.buffers.uniform import Uniform
from playfield.errors import DamagedFileError, UserError


@pytest.fixture(autouse=True)
def short_pages(monkeypatch):
    monkeypatch.setattr(pages_module, "PAGE_RECORDS", 16)


@pytest.fixture
def player():
    player = Player(new_store())
    player.play(150)
    return player


@pytest.fixture
def saved(player, tmp_path):
    player.store.save(tmp_path / "saved")
    return tmp_path / "saved"


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def page_files(folder: Path) -> list[Path]:
    return sorted((folder / "pages").iterdir())


# --- exact there and back ---


@pytest.mark.parametrize("steps", [0, 1, 2, 11, 39, 40, 41, 150])
@pytest.mark.parametrize("device", ["cpu", "mmap"])
def test_a_saved_store_comes_back_exactly(tmp_path, steps, device):
    player = Player(new_store(device=device))
    player.play(steps)
    player.store.save(tmp_path / "saved")
    for other in ("cpu", "mmap"):
        copy = FrameStore.load(tmp_path / "saved", other, folder=tmp_path)
        assert copy.placement == other
        player.assert_in(copy)


@pytest.mark.parametrize("codec", ["raw", "zlib", "zstd", "lz4"])
def test_every_codec_brings_the_same_back(tmp_path, player, codec):
    for package in {"zstd": ["zstandard"], "lz4": ["lz4.frame"]}.get(codec, []):
        pytest.importorskip(package)
    player.store.save(tmp_path, codec)
    player.assert_in(FrameStore.load(tmp_path))


@pytest.mark.gpu
def test_a_store_in_gpu_memory_comes_back_exactly(tmp_path):
    player = Player(new_store(device="cuda"))
    player.play(150)
    player.store.save(tmp_path)
    for device in ("cpu", "cuda"):
        player.assert_in(FrameStore.load(tmp_path, device))


def test_vectors_of_floats_come_back_exactly(tmp_path):
    player = Player(new_store(frame_shape=(3,), frame_dtype="float32"))
    player.play(60)
    player.store.save(tmp_path)
    player.assert_in(FrameStore.load(tmp_path))


def test_the_next_thousand_draws_are_the_same(player, saved):
    spec = TransitionSpec(stack=4, n_step=3)
    ours = Uniform(player.store, spec, 1)
    ours.sample(32)
    theirs = Uniform(FrameStore.load(saved), spec, 2)
    theirs.load_state_dict(ours.state_dict())
    for _ in range(32):
        a, b = ours.sample(32), theirs.sample(32)
        for name in ("obs", "action", "reward", "discount", "next_obs", "index"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name


def test_a_loaded_store_goes_on_in_the_middle_of_its_episodes(player, saved):
    player.store = FrameStore.load(saved)
    player.play(25)  # refused if it continued an episode that the copy does not know
    player.assert_in(player.store)
    for stack, history in zip(player.store.latest(4).numpy(), player.history, strict=True):
        seen = min(history[-1]["step_in_episode"] + 1, 4)
        frames = [record["frame"][0] for record in history[-seen:]]
        np.testing.assert_array_equal(stack[4 - seen :], frames)
        assert not stack[: 4 - seen].any()


def test_a_read_only_store_is_a_data_set(player, saved):
    data = FrameStore.load(saved, read_only=True)
    player.assert_in(data)
    assert len(Uniform(data, TransitionSpec(), 0).sample(8).obs) == 8
    with pytest.raises(ValueError, match="read-only"):
        data.end_episodes()


def test_the_newest_record_may_still_change_after_a_save(player, saved):
    pages = page_files(saved)
    player.end_episodes()
    player.store.save(saved)
    player.assert_in(FrameStore.load(saved))
    assert page_files(saved) == pages


def test_actions_beyond_the_action_space_are_refused():
    player = Player(new_store(num_actions=4))
    with pytest.raises(ValueError, match="expected 0 to 3"):
        player.play(50)


# --- only what is new ---


@settings(max_examples=15)
@given(saves=st.lists(st.integers(0, 30), min_size=1, max_size=8), seed=st.integers(0, 999))
def test_any_row_of_saves_loads_exactly_and_pages_never_change(tmp_path_factory, saves, seed):
    folder = tmp_path_factory.mktemp("saves")
    player = Player(new_store(), seed)
    seen: dict[str, bytes] = {}
    for number, steps in enumerate(saves):
        player.play(steps)
        player.store.save(folder)
        player.assert_in(FrameStore.load(folder))
        verify_store(folder)
        found = files(folder)
        assert all(
            seen[name] == found[name] for name in seen.keys() & found.keys() - {"store.json"}
        )
        assert {f"pages/{name}" for name in saved_pages(folder)} == {
            name for name in found if name.startswith("pages/")
        }
        seen = found
        if number % 3 == 2:  # what a resume does
            player.store = FrameStore.load(folder)


@pytest.mark.parametrize("codec", ["raw", "zlib"])
def test_a_save_after_five_percent_new_data_writes_less_than_eight_percent(
    tmp_path, monkeypatch, codec
):
    monkeypatch.setattr(pages_module, "PAGE_RECORDS", 128)
    player = Player(new_store(streams=8, slots=400, frame_shape=(1, 16, 16)))
    player.play(410)
    player.store.save(tmp_path, codec)
    first = files(tmp_path)
    player.play(20)
    player.store.save(tmp_path, codec)
    new = sum(len(data) for name, data in files(tmp_path).items() if first.get(name) != data)
    assert new <= 0.08 * sum(len(data) for data in first.values())


def test_short_pages_become_one_before_there_are_many(tmp_path):
    player = Player(new_store(streams=1, slots=40))
    for _ in range(60):
        player.play(1)
        player.store.save(tmp_path)
        per_block: dict[int, int] = {}
        for path in page_files(tmp_path):
            block = int(path.name.split("-")[1]) // 16
            per_block[block] = per_block.get(block, 0) + 1
        assert max(per_block.values(), default=0) <= persistence.MOST_PIECES
    player.assert_in(FrameStore.load(tmp_path))


def test_overwritten_pages_go_and_partly_overwritten_ones_stay(tmp_path):
    player = Player(new_store(streams=1, slots=40))
    player.play(41)
    player.store.save(tmp_path)
    assert [path.name[:16] for path in page_files(tmp_path)] == [
        "000-000000000001", "000-000000000016", "000-000000000032",
    ]  # fmt: skip
    player.play(20)  # to time 61: what is stored begins at 21
    player.store.save(tmp_path)
    assert [path.name[:16] for path in page_files(tmp_path)] == [
        "000-000000000016", "000-000000000032", "000-000000000040", "000-000000000048",
    ]  # fmt: skip
    player.assert_in(FrameStore.load(tmp_path))


def test_a_page_that_has_vanished_is_written_again(player, saved):
    for spoil in (Path.unlink, lambda path: path.write_bytes(b"short")):
        spoil(page_files(saved)[2])
        player.store.save(saved)
        player.assert_in(FrameStore.load(saved))


def test_branches_of_one_history_share_their_pages_and_keep_their_own(player, tmp_path):
    pool = tmp_path / "pool"
    save_store(player.store, tmp_path / "common", pages=pool)
    common = set(pool.iterdir())
    branches = {}
    for name in ("a", "b"):
        store = new_store()
        load_store(store, tmp_path / "common", pages=pool)
        branch = Player(store, seed=ord(name))
        branch.history = [list(history) for history in player.history]
        branch.play(20)
        save_store(store, tmp_path / name, pages=pool)
        branches[name] = branch
    assert common < set(pool.iterdir())
    for name, branch in branches.items():
        found = new_store()
        load_store(found, tmp_path / name, pages=pool)
        branch.assert_in(found)
    remove_pages(pool, saved_pages(tmp_path / "a"))
    verify_store(tmp_path / "a", pages=pool)
    with pytest.raises(DamagedFileError, match="missing"):
        verify_store(tmp_path / "b", pages=pool)


def test_another_store_saved_in_the_same_folder_takes_its_place(saved):
    other = Player(new_store(streams=2, slots=30), seed=5)
    other.play(70)
    other.store.save(saved)
    other.assert_in(FrameStore.load(saved))
    assert {path.name for path in page_files(saved)} == saved_pages(saved)


def test_contents_taken_from_elsewhere_are_written_anew(player, saved):
    other = Player(new_store(), seed=9)
    other.play(150)
    player.store.load_state_dict(other.store.state_dict())
    player.store.save(saved)
    other.assert_in(FrameStore.load(saved))


def test_a_save_touches_nothing_but_its_own_files(player, saved):
    mine = [saved / "notes.txt", saved / ".notes.1.tmp", saved / "pages" / "photo.page"]
    for path in mine:
        path.write_text("mine")
    player.play(100)
    player.store.save(saved)
    assert [path.read_text() for path in mine] == ["mine"] * 3


# --- whole or not at all ---


def test_what_is_written_to_during_a_save_is_not_committed(player, saved, monkeypatch):
    before = files(saved)
    write = persistence.write_page

    def meanwhile(*arguments):
        if arguments[1] == pages_module.TAIL_STREAM:
            player.play(1)
        return write(*arguments)

    monkeypatch.setattr(persistence, "write_page", meanwhile)
    player.play(30)
    with pytest.raises(RuntimeError, match="while it was being saved"):
        player.store.save(saved)
    assert files(saved) == before


def test_a_full_disk_leaves_the_save_before_whole(player, saved):
    """Real ones: the system refuses every file larger than a limit, here each in turn."""
    resource = pytest.importorskip("resource")
    before = files(saved)
    at_saved = len(player.history[0])
    player.play(31)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    refused = 0
    for limit in (0, 50, 200, 400, 700, 1000, 1500, 2000, 3000, 20_000):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            player.store.save(saved)
        except OSError:
            refused += 1
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert files(saved) == before
            player.assert_in(FrameStore.load(saved), until=at_saved)
        else:
            break
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 4 <= refused < 10
    player.assert_in(FrameStore.load(saved))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes don't fork here")
def test_a_process_killed_in_a_save_leaves_the_one_before_or_the_new(tmp_path):
    script = Path(__file__).with_name("saving_process.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "saved"), "15", "1"],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    trials = [line.split() for line in done.stdout.splitlines()]
    assert len(trials) == 15
    assert all(clean == "True" for _, clean in trials)
    steps = [int(found) for found, _ in trials]
    assert steps == sorted(steps) and all(found % 7 == 0 for found in steps)
    assert len(set(steps)) > 5  # kills hit saves all along, not only the loading before them


@pytest.mark.parametrize("when", ["before the rename", "after the rename"])
def test_an_interruption_around_the_commit_loses_nothing(player, saved, monkeypatch, when):
    at_saved = len(player.history[0])
    player.play(31)
    write = persistence.write_atomically

    def interrupted(path, data):
        if when == "after the rename":
            write(path, data)
        raise KeyboardInterrupt

    monkeypatch.setattr(persistence, "write_atomically", interrupted)
    with pytest.raises(KeyboardInterrupt):
        player.store.save(saved)
    player.assert_in(
        FrameStore.load(saved), until=at_saved if when == "before the rename" else None
    )


def test_pages_and_their_names_are_on_the_disk_before_the_manifest(player, tmp_path, monkeypatch):
    order = []
    for name in ("sync_folder", "write_atomically"):
        real = getattr(persistence, name)
        monkeypatch.setattr(
            persistence, name, lambda path, *rest, n=name, f=real: (order.append(n), f(path, *rest))
        )
    player.store.save(tmp_path)
    assert order == ["sync_folder", "write_atomically"]


def test_a_store_is_not_saved_over_a_file(player, tmp_path):
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(UserError, match=r"notes: it is no folder"):
        player.store.save(tmp_path / "notes")
    assert (tmp_path / "notes").read_text() == "mine"


# --- damage, and what is not ours ---


def every_file(folder: Path) -> list[Path]:
    return [folder / "store.json", *folder.glob("tail-*"), *page_files(folder)]


@pytest.mark.parametrize("which", [0, 1, 2, -1])
@pytest.mark.parametrize("keep", [None, 0, 0.5, 0.99])
def test_a_missing_or_truncated_file_is_named(saved, which, keep):
    path = every_file(saved)[which]
    data = path.read_bytes()
    path.unlink()
    if keep is not None:
        path.write_bytes(data[: int(len(data) * keep)])
    store = new_store()
    with pytest.raises(DamagedFileError, match=path.name):
        load_store(store, saved)
    assert len(store) == 0
    with pytest.raises(DamagedFileError, match=path.name):
        verify_store(saved)


def test_a_page_in_the_place_of_another_is_refused(saved):
    ours = page_files(saved)
    for foreign in (ours[1], ours[-1]):  # of another time, of another stream
        data = ours[0].read_bytes()
        ours[0].write_bytes(foreign.read_bytes())
        with pytest.raises(DamagedFileError, match=ours[0].name):
            FrameStore.load(saved)
        ours[0].write_bytes(data)


def test_a_page_of_another_store_is_refused_though_the_manifest_lists_it(saved, tmp_path):
    other = Player(new_store(frame_shape=(1, 3, 6)))
    other.play(150)
    other.store.save(tmp_path / "other")
    foreign = page_files(tmp_path / "other")[0]
    (saved / "pages" / foreign.name).write_bytes(foreign.read_bytes())
    entry = persistence.read_manifest(tmp_path / "other").pages[0]

    def list_it(content):
        content["pages"][0].update(bytes=entry.bytes, sha256=entry.sha256)

    rewrite_manifest(saved, list_it)
    with pytest.raises(DamagedFileError, match=rf"{foreign.name}: unpacked size is"):
        FrameStore.load(saved)


@pytest.mark.parametrize(
    ("other", "field"),
    [
        ({"frame_shape": (1, 5, 3)}, "frame_shape"),
        ({"frame_dtype": "float32"}, "frame_dtype"),
        ({"streams": 2}, "streams"),
        ({"slots": 41}, "slots"),
        ({"columns": {}}, "columns"),
        ({"columns": {"log_prob": Column(dtype="int64"), "state": Column((2,))}}, "columns"),
        ({"num_actions": 6}, "num_actions: 5, expected 6"),
        ({"num_actions": None}, "num_actions"),
    ],
)
def test_a_store_of_another_layout_is_refused_by_field(saved, other, field):
    with pytest.raises(DamagedFileError, match=rf"store.json does not fit: layout.{field}"):
        load_store(new_store(**other), saved)


HUGE = 1 << 63
NESTED: list = []
for _ in range(50):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        (["format"], 1, "format is 1"),
        (["format"], None, "format is None"),
        (["hook"], "x", "unknown or missing keys: 'hook'"),
        (["layout"], [], "layout should be an object"),
        (["layout", "streams"], 0, "layout.streams is 0"),
        (["layout", "streams"], HUGE, "layout.streams"),
        (["layout", "streams"], 2, "heads should be 2"),
        (["layout", "streams"], 3.0, "layout.streams"),
        (["layout", "slots"], -1, "layout.slots is -1"),
        (["layout", "slots"], True, "layout.slots is True"),
        (["layout", "slots"], HUGE, "layout.slots"),
        (["layout", "slots"], 41, "pages: those of stream 0"),
        (["layout", "slots"], 24, "pages: those of stream 0"),
        (["layout", "frame_shape"], [1, -3, -5], "layout.frame_shape"),
        (["layout", "frame_shape"], [], "layout.frame_shape"),
        (["layout", "frame_shape"], [1 << 16, 1 << 16], "layout.frame_shape"),
        (["layout", "frame_shape"], [1, 3, float("nan")], "layout.frame_shape"),
        (["layout", "frame_shape"], NESTED, "layout.frame_shape"),
        (["layout", "frame_shape"], [1, 3, 4], "unpacked size"),
        (["layout", "frame_dtype"], "object", "layout.frame_dtype"),
        (["layout", "frame_dtype"], ["uint8"], "layout.frame_dtype"),
        (["layout", "columns", "log_prob"], [[], "O"], "log_prob"),
        (["layout", "columns", "log_prob"], [[], ["float32"]], "log_prob"),
        (["layout", "columns", "log_prob"], [[0], "float32"], "log_prob"),
        (["layout", "columns", "log_prob"], [[1 << 31], "float32"], "GB of memory|records of"),
        (["layout", "columns", "log_prob"], "float32", "log_prob"),
        (["layout", "num_actions"], 0, "layout.num_actions"),
        (["layout", "num_actions"], 2, "action is"),
        (["heads"], [150, 150], "heads should be 3"),
        (["heads", 0], -1, "heads is -1"),
        (["heads", 0], HUGE, "heads"),
        (["heads", 0], float("inf"), "heads"),
        (["heads", 0], 151, "pages: those of stream 0 end"),
        (["heads", 0], 149, "pages: those of stream 0"),
        (["tail"], None, "tail should be an object"),
        (["tail", "count"], 2, "tail does not hold"),
        (["tail", "stream"], 0, "tail does not hold"),
        (["pages"], {}, "pages should be a list"),
        (["pages"], [], "pages: those of stream 0"),
        (["pages", 0], 7, r"pages\[0\] should be an object"),
        (["pages", 0, "name"], "../../x", r"pages\[0\] has unknown"),
        (["pages", 0, "stream"], 3, r"pages\[0\].stream is 3"),
        (["pages", 0, "stream"], -1, "lists a tail"),
        (["pages", 0, "stream"], 1, "pages: those of stream 0"),
        (["pages", 0, "first"], -16, r"pages\[0\].first"),
        (["pages", 0, "first"], HUGE, r"pages\[0\].first"),
        (["pages", 0, "count"], 0, r"pages\[0\].count"),
        (["pages", 0, "count"], HUGE, r"pages\[0\].count"),
        (["pages", 0, "count"], 17, "overlap"),
        (["pages", 0, "codec"], "pickle", r"pages\[0\].codec is 'pickle'"),
        (["pages", 0, "codec"], {}, r"pages\[0\].codec"),
        (["pages", 0, "codec"], "raw", "codec is zlib, expected raw"),
        (["pages", 0, "bytes"], 79, r"pages\[0\].bytes"),
        (["pages", 0, "bytes"], 1 << 40, "bytes, expected 1099511627776"),
        (["pages", 0, "sha256"], "../" * 10, r"pages\[0\].sha256"),
        (["pages", 0, "sha256"], "/" * 64, r"pages\[0\].sha256"),
        (["pages", 0, "sha256"], "0" * 64, "missing"),
    ],
)
def test_a_manifest_that_says_what_cannot_be_is_refused_by_field(saved, place, value, named):
    def change(content):
        for key in place[:-1]:
            content = content[key]
        content[place[-1]] = value

    rewrite_manifest(saved, change)
    with pytest.raises(UserError, match=named) as error:
        FrameStore.load(saved)
    assert str(saved) in str(error.value)


def test_an_empty_store_of_absurd_size_is_refused_before_anything_is_allocated(tmp_path):
    new_store().save(tmp_path)
    rewrite_manifest(tmp_path, lambda content: content["layout"].update(slots=1 << 37))
    for device in ("cpu", "mmap"):
        with pytest.raises(UserError, match=r"store.json describes a store that needs .* GB of"):
            FrameStore.load(tmp_path, device)


@pytest.mark.parametrize(
    "text",
    [b"", b"null", b"[]", b"\xff\xfe", b'{"format": 2', b"[" * 100_000, b"1" * 10_000, b'"x"'],
)
def test_a_manifest_that_is_none_is_refused(saved, text):
    (saved / "store.json").write_bytes(text)
    with pytest.raises(DamagedFileError, match=r"store\.json"):
        FrameStore.load(saved)


def test_an_edited_manifest_is_altered(saved):
    path = saved / "store.json"
    path.write_text(path.read_text().replace('"num_actions": 5', '"num_actions": 6'))
    with pytest.raises(DamagedFileError, match=r"store.json: it is altered"):
        FrameStore.load(saved)


@pytest.mark.parametrize("name", ["store.json", "pages"])
def test_links_are_not_followed(saved, name):
    (saved / name).rename(saved / "elsewhere")
    (saved / name).symlink_to(saved / "elsewhere")
    with pytest.raises(DamagedFileError, match="link"):
        FrameStore.load(saved)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("action", -2),
        ("action", 5),
        ("flags", 8),
        ("step_in_episode", -1),
        ("step_in_episode", 200),
    ],
)
def test_columns_that_no_store_holds_are_refused_by_name(player, tmp_path, column, value):
    """Kernels trust them: a step of -1 would lead out of the ring."""
    getattr(player.store, column)[1, 3] = value
    player.store.save(tmp_path)
    with pytest.raises(DamagedFileError, match=rf"\.page: {column} is"):
        FrameStore.load(tmp_path)


def test_a_store_larger_than_the_memory_is_refused_with_what_to_do(saved, monkeypatch):
    monkeypatch.setattr(persistence, "_memory", lambda: 100.0)
    with pytest.raises(UserError, match=r"GB of memory.*try the device 'mmap'"):
        FrameStore.load(saved)
