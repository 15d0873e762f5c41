"""The replay benchmark: memories with the same transitions, checks that can fail, honest tables."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from benchmark_scripts import FOLDER, quick, script

from playfield.buffers.store import FrameStore

PICTURES = np.random.default_rng(0).integers(0, 256, (50, 84, 84), np.uint8)
LENGTHS = [7, 1, 30, 12]


@pytest.fixture(scope="module")
def data() -> ModuleType:
    return script("replay_data")


@pytest.fixture(scope="module")
def check() -> ModuleType:
    return script("replay_check")


@pytest.fixture(scope="module")
def table() -> ModuleType:
    return script("replay_table")


# --- what memories are filled with ----------------------------------------------------------------


def test_episodes_are_the_same_at_every_call_and_one_continues_the_other(data: ModuleType) -> None:
    first, again = (list(data.episodes(PICTURES, LENGTHS)) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.padded, other.padded)
        np.testing.assert_array_equal(one.reward, other.reward)
    assert [len(episode) for episode in first] == LENGTHS
    # An episode of L transitions has L + 1 frames, and every frame says when it was.
    times = np.concatenate([data.times_of(episode.frames) for episode in first])
    assert times.tolist() == list(range(sum(LENGTHS) + len(LENGTHS)))


def test_stacks_are_filled_up_with_zeros_at_an_episodes_start(data: ModuleType) -> None:
    episode = list(data.episodes(PICTURES, LENGTHS))[2]
    for t in (0, 1, 3, 30):
        frames = [
            episode.frames[k] if k >= 0 else 0 * episode.frames[0] for k in range(t - 3, t + 1)
        ]
        np.testing.assert_array_equal(episode.stacks[t], frames)


def test_lengths_sum_to_the_transitions_wanted(data: ModuleType) -> None:
    lengths = data.episode_lengths(1_000, 17, seed=3)
    assert sum(lengths) == 1_000 and len(lengths) == 17 and min(lengths) >= 1


# --- checks ---------------------------------------------------------------------------------------


def naive_peer(n_step: int = 1, flaw: str | None = None) -> tuple[Any, FrameStore]:
    """A memory of plain lists, right but for its `flaw`, and our store with the same episodes."""
    script("replay_check")  # imports the others
    base = importlib.import_module("peers.base")
    data = importlib.import_module("replay_data")
    task = importlib.import_module("replay_task")

    class Naive(base.Peer):
        label = library = how = "naive"
        frames = 8
        generator = np.random.default_rng(1)

        def __init__(self, wanted: Any) -> None:
            super().__init__(wanted)
            self.rows: list[tuple[Any, ...]] = []

        def fill(self, episode: Any) -> None:
            count, n = len(episode), self.wanted.n_step
            for t in range(count):
                end = min(t + n, count)
                discounts = 0.99 ** np.arange(end - t)
                self.rows.append(
                    (
                        episode.stacks[t],
                        episode.stacks[end],
                        int(episode.action[t]),
                        float((episode.reward[t:end] * discounts).sum()),
                        end == count,
                    )
                )
            self.priority = np.ones(len(self.rows))

        def insert(self, ready: Any) -> None:
            raise NotImplementedError

        save = load = insert

        def stored(self) -> int:
            return len(self.rows)

        def sample(self, batch_size: int) -> Any:
            weights = self.priority**0.6
            if flaw == "uniform":
                weights = np.ones(len(weights))
            index = self.generator.choice(len(weights), batch_size, p=weights / weights.sum())
            names = ("obs", "next_obs", "action", "reward", "terminated")
            columns = zip(*(self.rows[k] for k in index), strict=True)
            drawn = {
                name: torch.from_numpy(np.array(column))
                for name, column in zip(names, columns, strict=True)
            }
            if flaw in drawn:
                drawn[flaw] = drawn[flaw].roll(1, 0)
            return base.Drawn(**drawn, index=index)

        def update(self, index: Any, priority: torch.Tensor) -> None:
            self.priority[index] = priority.numpy()

    peer = Naive(base.Wanted(sum(LENGTHS), n_step, True))
    store = FrameStore(sum(LENGTHS) + len(LENGTHS), 1, (1, 84, 84))
    for episode in data.episodes(PICTURES, LENGTHS):
        peer.fill(episode)
        task.fill(store, episode)
    return peer, store


@pytest.mark.parametrize("n_step", [1, 3])
def test_a_memory_that_is_right_passes(check: ModuleType, n_step: int) -> None:
    peer, store = naive_peer(n_step)
    check.check(peer, store, n_step)
    check.check_priorities(peer, np.random.default_rng(2))


@pytest.mark.parametrize("flaw", ["next_obs", "action", "reward", "terminated"])
def test_a_memory_that_mixes_up_a_column_is_found_out(check: ModuleType, flaw: str) -> None:
    peer, store = naive_peer(flaw=flaw)
    with pytest.raises(AssertionError, match=flaw):
        check.check(peer, store, 1)


def test_a_memory_that_takes_other_steps_is_found_out(check: ModuleType) -> None:
    peer, store = naive_peer(n_step=2)
    with pytest.raises(AssertionError, match="next_obs"):
        check.check(peer, store, 3)


def test_a_memory_that_ignores_priorities_is_found_out(check: ModuleType) -> None:
    peer, _ = naive_peer(flaw="uniform")
    with pytest.raises(AssertionError, match="naive draws"):
        check.check_priorities(peer, np.random.default_rng(2))


# --- measuring ------------------------------------------------------------------------------------


def test_a_result_keeps_quartiles_of_all_samples_and_a_bounded_number_of_them() -> None:
    pair = script("replay_pair")
    samples = [float(k) for k in range(1, 1002)]
    found = pair.summary({"a": samples, "b": [1.0, 3.0]})
    assert found["summary"]["a"] == {"median": 501.0, "q1": 251.0, "q3": 751.0, "count": 1001}
    assert len(found["samples"]["a"]) == pair.KEPT
    assert found["samples"]["a"][0] == 1.0 and found["samples"]["b"] == [1.0, 3.0]


def test_only_files_that_are_new_or_changed_count_as_written(tmp_path: Path) -> None:
    disk = script("replay_disk")
    (tmp_path / "pages").mkdir()
    for name, size in (("pages/a", 100), ("pages/b", 10), ("manifest", 1)):
        (tmp_path / name).write_bytes(bytes(size))
    before = disk.state(tmp_path)
    assert disk.written(tmp_path, {}) == 111
    (tmp_path / "pages/c").write_bytes(bytes(1000))
    (tmp_path / "new").write_bytes(bytes(2))
    (tmp_path / "new").replace(tmp_path / "manifest")
    assert disk.written(tmp_path, before) == 1002


def test_peers_that_are_not_there_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    replay = script("replay")
    with pytest.raises(SystemExit) as ended:
        replay.chosen_peers("sb3,nonsense")
    assert ended.value.code == 2
    assert "nonsense" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        replay.chosen_sizes("many", quick=False)
    assert replay.chosen_sizes(None, quick=False) == [50_000, 500_000]


# --- tables ---------------------------------------------------------------------------------------


def sampled(peer: str, theirs: float, ours: float, **what: Any) -> dict[str, Any]:
    place = {"size": 1000, "n_step": 1, "prioritized": False, "batch_size": 256, **what}
    medians = {"playfield": ours, peer: theirs, "memcpy": 50.0}
    summary = {name: {"median": median} for name, median in medians.items()}
    return {"operation": "sample", "peer": peer, **place, "summary": summary}


RECORD = {
    "sizes": [1000],
    "peers": {
        "SB3": {"library": "stable-baselines3", "version": "2.9", "how": "ReplayBuffer"},
        "SB3, lean": {"library": "stable-baselines3", "version": "2.9", "how": "lean"},
    },
    "measurements": [
        sampled("SB3", 900.0, 100.0),
        sampled("SB3, lean", 1200.0, 150.0),
        {"operation": "memory", "peer": "playfield", "size": 1000, "n_step": 1,
         "prioritized": True, "bytes_per_transition": 7100.4},
        {"operation": "second checkpoint", "peer": "playfield", "size": 1000,
         "first": {"bytes": 2e6, "seconds": 4.0}, "second": {"bytes": 1e5, "seconds": 1.0}},
    ],
    "skipped": 2 * [{"peer": "SB3", "size": 1000, "reason": "SB3 has no priorities"}],
}  # fmt: skip


def test_ratios_are_of_medians_that_took_turns_and_ours_the_median_of_all(
    table: ModuleType,
) -> None:
    result = table.Result(RECORD)
    what = {"operation": "sample", "size": 1000, "batch_size": 256}
    assert result.time("playfield", **what) == 125.0
    assert result.ratio("SB3", **what) == 9.0
    assert result.ratio("SB3, lean", **what) == 8.0
    assert result.fastest("stable-baselines3", **what) == ("SB3, lean", 8.0)
    assert result.fastest("cpprb", **what) is None


def test_the_tables_have_a_row_per_memory_and_no_empty_columns(table: ModuleType) -> None:
    text = table.markdown(RECORD)
    assert "| playfield | 125 |" in text
    assert "| SB3 | 900 (9.0×) |" in text
    assert "| SB3, lean | 1,200 (8.0×) |" in text
    assert "| memcpy | 50 |" in text
    assert "prioritised, n 1 |" not in text
    assert "| playfield | 7,100 |" in text
    assert "| 1,000 transitions, MB written | 2.00 | 0.10 | 5.0 % |" in text
    assert text.count("SB3 has no priorities") == 1


def test_a_page_gets_its_tables_between_the_markers_and_nowhere_else(table: ModuleType) -> None:
    page = f"# Title\n\n{table.BEGIN}\nold\n{table.END}\n\nrest\n"
    new = table.page_with(page, RECORD)
    assert new.startswith(f"# Title\n\n{table.BEGIN}\n\n**1,000")
    assert new.endswith(f"{table.END}\n\nrest\n") and "old" not in new
    assert table.page_with(new, RECORD) == new
    with pytest.raises(ValueError, match="no place"):
        table.page_with("# Title\n", RECORD)


@pytest.fixture(scope="module")
def committed() -> dict[str, Any]:
    record: dict[str, Any] = json.loads((FOLDER / "results" / "replay.json").read_text())
    return record


def test_the_store_page_has_the_committed_results_tables(
    table: ModuleType, committed: dict[str, Any]
) -> None:
    page = (FOLDER.parent / "docs" / "store.md").read_text()
    assert table.page_with(page, committed) == page, "run benchmarks/replay_table.py docs/store.md"


def test_the_readme_compares_with_each_librarys_faster_and_leaner_way(
    table: ModuleType, committed: dict[str, Any]
) -> None:
    readme = (FOLDER.parent / "README.md").read_text()
    result, place = table.Result(committed), {"size": 50_000, "n_step": 1, "prioritized": False}
    libraries = ("stable-baselines3", "cpprb", "torchrl", "tianshou")
    assert f"| | playfield | {' | '.join(libraries)} |" in readme
    for batch in (32, 256):
        what = {"operation": "sample", "batch_size": batch, **place}
        ratios = [f"{result.fastest(library, **what)[1]:.1f}×" for library in libraries]
        own = f"{result.time('playfield', **what):,.0f} µs"
        assert f"| batch of {batch} | {' | '.join([own, *ratios])} |" in readme
    held = {
        library: min(
            m["bytes_per_transition"]
            for m in result.found(operation="memory", **place)
            if committed["peers"].get(m["peer"], {"library": m["peer"]})["library"] == library
        )
        for library in ("playfield", *libraries)
    }
    assert f"| memory | {' | '.join(f'{h / 1e3:.1f} kB' for h in held.values())} |" in readme


def test_the_page_says_what_was_wanted_and_prints_what_was_missed_in_bold(
    committed: dict[str, Any],
) -> None:
    """Targets come size by size, then the checkpoints'; the page has a column for each size."""

    def number(cell: str) -> float:
        return float(cell.strip("≤≥* %").replace(",", "")) / (100 if "%" in cell else 1)

    page = (FOLDER / "README.md").read_text()
    section = page.partition("### What was wanted")[2].partition("\n## ")[0]
    rows = [row.strip("| ").split(" | ") for row in section.splitlines() if row.startswith("|")][2:]
    shares = [row for row in rows if "%" in row[1]]
    others = [row for row in rows if row not in shares]
    cells = [(row[1], row[size]) for some in (others, shares) for size in (2, 3) for row in some]
    for (wanted, measured), target in zip(cells, committed["targets"], strict=True):
        assert number(wanted) == target["wanted"] and ("≥" in wanted) is target["at_least"]
        assert number(measured) == pytest.approx(target["measured"], rel=0.015), target
        assert ("**" in measured) is not target["reached"], target


def test_targets_are_of_the_fastest_way_to_set_a_library_up() -> None:
    targets = list(script("replay").targets_of(script("replay_table").Result(RECORD)))
    by_wanted = {target.wanted: target for target in targets}
    assert by_wanted[400.0].measured == 125.0 and by_wanted[400.0].reached
    assert by_wanted[20.0].measured == 8.0 and not by_wanted[20.0].reached
    assert by_wanted[7_200.0].measured == 7100.4 and by_wanted[7_200.0].reached
    assert by_wanted[0.08].measured == 0.05 and by_wanted[0.08].reached
    assert by_wanted[0.15].measured == 0.25 and not by_wanted[0.15].reached


# --- whole runs -----------------------------------------------------------------------------------

LIBRARIES = {
    "sb3": "stable_baselines3", "cpprb": "cpprb", "torchrl": "torchrl", "tianshou": "tianshou"
}  # fmt: skip


def library(short: str) -> Any:
    there = importlib.util.find_spec(LIBRARIES[short]) is not None
    reason = f"the comparison is with {LIBRARIES[short]}, which is not installed (extra `bench`)"
    return pytest.param(short, marks=pytest.mark.skipif(not there, reason=reason))


@pytest.mark.slow
@pytest.mark.parametrize("short", [library(short) for short in LIBRARIES])
def test_every_peer_is_checked_and_measured_or_says_why_not(tmp_path: Path, short: str) -> None:
    record = quick("replay", tmp_path, "--peers", short)
    result = script("replay_table").Result(record)
    assert record["peers"]
    for label in record["peers"]:
        gaps = [
            (gap.get("n_step"), gap.get("prioritized"))
            for gap in record["skipped"]
            if gap["peer"] == label
        ]
        for n_step in (1, 3):
            for prioritized in (False, True):
                what = {"peer": label, "n_step": n_step, "prioritized": prioritized}
                if (n_step, prioritized) in gaps:
                    continue
                drawn = {m["batch_size"] for m in result.found(operation="sample", **what)}
                assert drawn == {32, 256, 512}
                updated = list(result.found(operation="update", **what))
                assert len(updated) == 3 * prioritized
                assert len(list(result.found(operation="add", **what))) == 1
                # Between a frame and eight of them; little memories need much beside.
                (held,) = result.found(operation="memory", **what)
                assert 7_000 < held["bytes_per_transition"] < 70_000
        (kept,) = result.found(operation="save and load", peer=label)
        assert kept["bytes"] > 0
    assert any(m["operation"] == "second checkpoint" for m in record["measurements"])


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("short", [library("torchrl")])
def test_memories_on_the_gpu_are_compared_with_torchrls(tmp_path: Path, short: str) -> None:
    chosen = ("--peers", short, "--device", "cuda")
    record = quick("replay", tmp_path, *chosen, result="replay_cuda")
    result = script("replay_table").Result(record)
    assert list(result.found(operation="sample", peer="torchrl", n_step=1, prioritized=False))
