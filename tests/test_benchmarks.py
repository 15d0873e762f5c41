"""The benchmark scripts run, write what they promise, and name no folder of this machine."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from benchmark_scripts import FOLDER, quick, script

from playfield.atomic import write_atomically

needs_sb3 = pytest.mark.skipif(
    importlib.util.find_spec("stable_baselines3") is None,
    reason="the comparison is with stable-baselines3, which is not installed (extra `bench`)",
)
PLENTY = 10**6


@pytest.fixture(scope="module")
def measure() -> ModuleType:
    return script("measure")


@pytest.fixture(scope="module")
def learning_curve() -> ModuleType:
    return script("learning_curve")


# --- measuring ------------------------------------------------------------------------------------


def test_peers_take_turns_and_warm_up_is_not_kept(measure: ModuleType) -> None:
    calls: list[str] = []
    peers = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    samples = measure.alternate(peers, blocks=2, calls=3, warm_up=1)
    assert "".join(calls) == "aaabbb" * 3
    assert {name: len(taken) for name, taken in samples.items()} == {"a": 6, "b": 6}


def test_quartiles_of_known_samples(measure: ModuleType) -> None:
    assert measure.summarise([5.0, 1.0, 3.0, 2.0, 4.0]) == measure.Summary(3.0, 2.0, 4.0, 5)
    assert measure.summarise([7.0]) == measure.Summary(7.0, 7.0, 7.0, 1)
    with pytest.raises(ValueError, match="no samples"):
        measure.summarise([])


@pytest.mark.parametrize(
    ("wanted", "measured", "at_least", "reached"),
    [
        (8, 8.0, True, True),
        (8, 7.9, True, False),
        (0.3, 0.3, False, True),
        (0.3, 0.4, False, False),
    ],
)
def test_targets_bound_from_the_stated_side(
    measure: ModuleType, wanted: float, measured: float, at_least: bool, reached: bool
) -> None:
    assert measure.Target("x", wanted, measured, at_least).reached is reached


@pytest.mark.parametrize(
    "text", ["/srv/me/runs", "--root=/tmp/runs", "see /var/lib", "C:\\Users", "'/srv/x'"]
)
def test_results_with_a_path_of_the_machine_are_refused(
    measure: ModuleType, tmp_path: Path, text: str
) -> None:
    with pytest.raises(ValueError, match="path of this machine"):
        measure.write_json(tmp_path / "x.json", {"deep": [{"inside": text}]})
    assert list(tmp_path.iterdir()) == []


def test_names_that_only_look_like_paths_are_kept(measure: ModuleType, tmp_path: Path) -> None:
    record = {"env": "ALE/Pong-v5", "unit": "steps/s", "ratio": "1/4", "what": "SB3's time / this"}
    assert json.loads(measure.write_json(tmp_path / "x.json", record).read_text()) == record


def test_samples_stand_on_one_line_and_numbers_survive(measure: ModuleType, tmp_path: Path) -> None:
    record = {"samples": [1.23456789, 2e-05, -3.0, 4], "names": ["a", "b"], "empty": []}
    text = measure.write_json(tmp_path / "x.json", record).read_text()
    assert ' "samples": [1.23457, 2e-05, -3.0, 4],\n' in text
    assert json.loads(text) == {**record, "samples": [1.23457, 2e-05, -3.0, 4]}


# --- learning curves ------------------------------------------------------------------------------


def interval(progress: int) -> dict[str, Any]:
    return {"progress": progress, "train/loss": 0.1, "episode/return_mean": -20.5}


def test_thinning_drops_intervals_evenly_but_no_game_and_no_evaluation(
    learning_curve: ModuleType,
) -> None:
    lines = [interval(1000 * k) for k in range(1, 101)]
    lines += [{"progress": 7, "episode/return": -21.0}, {"progress": 9, "eval/return": 3.0}]
    whole = "".join(learning_curve.thinned(lines, PLENTY))
    assert [json.loads(text) for text in whole.splitlines()] == lines
    kept = [json.loads(t) for t in learning_curve.thinned(lines, len(whole) // 3)]
    assert lines[-2] in kept and lines[-1] in kept
    steps = [line["progress"] for line in kept if "train/loss" in line]
    assert steps[-1] == 100_000
    assert {b - a for a, b in pairwise(steps)} == {steps[1] - steps[0]}
    assert sum(len(json.dumps(line)) + 1 for line in kept) <= len(whole) // 3


def test_thinning_refuses_what_cannot_fit(learning_curve: ModuleType) -> None:
    with pytest.raises(ValueError, match="games alone"):
        learning_curve.thinned([{"progress": 1, "episode/return": 1.0}] * 10, 50)


def test_the_running_mean_takes_what_there_is_at_first(learning_curve: ModuleType) -> None:
    import numpy as np

    mean = learning_curve.running_mean(np.array([1.0, 3.0, 5.0, 7.0]), 2)
    assert mean.tolist() == [1.0, 2.0, 4.0, 6.0]


def test_folders_are_left_out_of_the_command(learning_curve: ModuleType) -> None:
    command = ["playfield", "train", "--root", "/x/y", "--seed", "1", "--root=/x/z", "--env", "a/b"]
    expected = ["playfield", "train", "--seed", "1", "--env", "a/b"]
    assert learning_curve.command_without_paths(command) == expected


@pytest.mark.slow
def test_a_run_becomes_numbers_curves_and_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib (extra `dev`)")
    run = tmp_path / "run"
    run.mkdir()
    manifest = {
        "format": 1, "created": "2026-01-01T00:00:00+00:00",
        "command": ["playfield", "train", "dqn", "--root", str(tmp_path)],
        "algorithm": "dqn", "preset": None, "env": "PongNoFrameskip-v4",
        "protocol": {"name": "nature", "frame_skip": 4}, "config": {}, "training": {}, "seed": 3,
        "device": "cpu", "versions": {}, "hardware": {}, "git": None,
    }  # fmt: skip
    write_atomically(run / "run.json", json.dumps(manifest).encode())
    lines = [{"progress": 900, "episode/return": -21.0}, interval(1000), interval(2000)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [sys.executable, str(FOLDER / "learning_curve.py"), str(run), "--title", "Pong"]
    done = subprocess.run(
        [*command, "-o", "pong", "--output", str(tmp_path / "out")],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out" / "pong.json").read_text())
    assert record["command"] == ["playfield", "train", "dqn"]
    assert record["evaluations"] == []
    curves = (tmp_path / "out" / "pong-metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in curves] == lines
    assert (tmp_path / "out" / "pong.png").read_bytes().startswith(b"\x89PNG")
    for path in (tmp_path / "out").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "learning_curve.py"), str(tmp_path / "no-such-run")]
    done = subprocess.run(
        [*command, "--title", "x", "-o", "x"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "no-such-run" in done.stderr and "Traceback" not in done.stderr


# --- whole scripts --------------------------------------------------------------------------------


@needs_sb3
@pytest.mark.slow
def test_training_peers_make_one_update_in_four_steps(tmp_path: Path) -> None:
    record = quick("dqn_training", tmp_path)
    assert len(record["peers"]) == 5
    for name, steps in record["steps_per_update"].items():
        assert steps == pytest.approx(4, rel=0.5), name
    assert [target["wanted"] for target in record["targets"]] == [3.0]


@pytest.mark.slow
def test_startup_measures_help_beside_what_it_must_not_import(tmp_path: Path) -> None:
    record = quick("startup", tmp_path)
    assert "playfield --help" in record["summary"]
    assert 'python -c "import torch"' in record["summary"]


def test_committed_results_are_whole_measurements_without_paths(measure: ModuleType) -> None:
    for path in sorted((FOLDER / "results").glob("*.json")):
        record = json.loads(path.read_text())
        assert not record.get("quick"), f"{path.name} was made with --quick"
        measure.refuse_paths(record, path.name)


def test_quick_runs_write_nothing_unless_told_where(measure: ModuleType) -> None:
    options = measure.parser("").parse_args(["--quick"])
    assert measure.destination(options) is None
    assert measure.destination(measure.parser("").parse_args([])) == FOLDER / "results"
    assert os.fspath(FOLDER / "results") == os.fspath(measure.RESULTS)
