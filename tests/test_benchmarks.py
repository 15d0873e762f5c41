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

import numpy as np
import pytest
from benchmark_scripts import FOLDER, quick, script

from playfield.atomic import write_atomically

needs_sb3 = pytest.mark.skipif(
    importlib.util.find_spec("stable_baselines3") is None,
    reason="the comparison is with stable-baselines3, which is not installed (extra `bench`)",
)
needs_painters = pytest.mark.skipif(
    None in map(importlib.util.find_spec, ("diffusers", "denoising_diffusion_pytorch")),
    reason="the comparison is with libraries that are not installed (extra `bench`)",
)
PLENTY = 10**6


@pytest.fixture(scope="module")
def measure() -> ModuleType:
    return script("measure")


@pytest.fixture(scope="module")
def learning_curve() -> ModuleType:
    return script("learning_curve")


@pytest.fixture(scope="module")
def training_speed() -> ModuleType:
    return script("training_speed")


@pytest.fixture(scope="module")
def score_curves() -> ModuleType:
    return script("score_curves")


@pytest.fixture(scope="module")
def time_to_score() -> ModuleType:
    return script("time_to_score")


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


def test_games_that_are_too_many_are_thinned_evenly_and_leave_room_for_the_rest(
    learning_curve: ModuleType,
) -> None:
    lines = [{"progress": k, "episode/return": 1.0} for k in range(1_000, 2_000)]
    lines += [interval(1_000 * k) for k in range(1, 11)] + [{"progress": 5, "eval/return": 3.0}]
    size = sum(len(json.dumps(line)) + 1 for line in lines[:1_000]) // 2
    texts = learning_curve.thinned(lines, size)
    assert sum(map(len, texts)) <= size
    kept = [json.loads(text) for text in texts]
    games = [line["progress"] for line in kept if "episode/return" in line]
    assert games[-1] == 1_999 and {b - a for a, b in pairwise(games)} == {3}
    assert kept[-11:] == lines[-11:]


def test_thinning_refuses_what_cannot_fit(learning_curve: ModuleType) -> None:
    with pytest.raises(ValueError, match="evaluations alone"):
        learning_curve.thinned([{"progress": 1, "eval/return": 1.0}] * 10, 50)


def test_what_an_algorithm_does_not_log_is_replaced_by_what_it_does(
    learning_curve: ModuleType,
) -> None:
    thoughts = learning_curve.THOUGHTS
    assert learning_curve.drawn([interval(1), {"train/value": 1.0}], thoughts)[0] == "train/value"
    assert learning_curve.drawn([{"train/q": 1.0}], thoughts)[0] == "train/q"
    assert learning_curve.drawn([interval(1)], thoughts) is None


def test_the_running_mean_takes_what_there_is_at_first(learning_curve: ModuleType) -> None:
    mean = learning_curve.running_mean(np.array([1.0, 3.0, 5.0, 7.0]), 2)
    assert mean.tolist() == [1.0, 2.0, 4.0, 6.0]


def test_folders_are_left_out_of_the_command(measure: ModuleType) -> None:
    command = ["playfield", "train", "--root", "/x/y", "--seed", "1", "--root=/x/z", "--env", "a/b"]
    expected = ["playfield", "train", "--seed", "1", "--env", "a/b"]
    assert measure.command_without_paths(command) == expected


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
    lines[-1]["train/value"] = 0.5
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [sys.executable, str(FOLDER / "learning_curve.py"), str(run), "--title", "Pong"]
    done = subprocess.run(
        [*command, "-o", "pong", "--output", str(tmp_path / "out"),
         "--published", "2e3", "-20", "somebody's, 8k frames"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out" / "pong.json").read_text())
    assert record["command"] == ["playfield", "train", "dqn"]
    assert record["evaluations"] == []
    assert record["published"] == [
        {"steps": 2000, "return_": -20, "label": "somebody's, 8k frames"}
    ]
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


# --- training speed -------------------------------------------------------------------------------


def test_the_clock_starts_after_the_warm_up_and_leaves_out_what_came_before(
    training_speed: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(training_speed.time, "perf_counter", lambda: now)
    watch = training_speed.Stopwatch(training_speed.Window(warm_up=5.0, seconds=10.0))
    counts = []
    # A rollout of 64 steps and its 4 updates every 3 seconds; the first finds nothing to learn.
    for rollout in range(1, 11):
        now = 3.0 * rollout
        counts.append(watch.over(64 * rollout, 4 * (rollout - 1)))
        if counts[-1]:
            break
    # Learning since 6 s, on the clock from 12 s on, and over at the first end beyond 22 s.
    assert now == 24.0 and counts[:-1] == [False] * 7
    assert watch.result == {"seconds": 12.0, "steps": 4 * 64, "updates": 4 * 4}


def test_both_sides_of_the_ppo_comparison_are_told_the_same() -> None:
    ppo_training = script("ppo_training")
    assert ppo_training.SETTINGS["steps_per_update"] == 64  # 8 * 128 steps, 4 epochs of 4 batches
    names = [peer.name for peer in ppo_training.PEERS]
    assert len(set(names)) == len(names) and ppo_training.OURS in ppo_training.PEERS
    assert not ppo_training.OURS.overlap and set(ppo_training.BASELINES) < set(ppo_training.PEERS)


# --- time to score --------------------------------------------------------------------------------


def games(score_curves: ModuleType, returns: list[float]) -> list[Any]:
    """One game a minute and per 100 steps."""
    return [score_curves.Game(60.0 * k, 100 * k, r) for k, r in enumerate(returns, start=1)]


def test_a_score_is_reached_by_the_mean_of_enough_games_the_first_time(
    score_curves: ModuleType,
) -> None:
    played = games(score_curves, [18.0, -6.0, 0.0, 9.0, 9.0, -9.0, 30.0])
    found = score_curves.reached(played, [0.0, 6.0, 18.0], window=3)
    # Means: 4 (of 18, -6, 0), 1, 6, 3, 10. The first game alone is no mean of three.
    assert found["0"] == {"minutes": 3.0, "seconds": 180.0, "steps": 300}
    assert found["6"] == {"minutes": 5.0, "seconds": 300.0, "steps": 500}
    assert found["18"] is None


def test_games_that_end_at_once_are_one_point(score_curves: ModuleType) -> None:
    steps = [(100, 2.0), (200, 6.0), (300, 8.0), (300, -4.0), (400, 4.0)]
    played = [score_curves.Game(step / 100, step, r) for step, r in steps]
    assert score_curves.curve(played, window=2)["return_mean"] == [4.0, 2.0, 0.0]
    # 7, the mean of 6 and 8, is not reached: -4 came in the same moment.
    assert score_curves.reached(played, [5.0], window=2) == {"5": None}


def test_curves_are_means_of_whole_windows_thinned_to_few_points(score_curves: ModuleType) -> None:
    short = score_curves.curve(games(score_curves, [1.0, 3.0, 5.0, 10.0]), window=3)
    assert short == {"minutes": [3.0, 4.0], "steps": [300, 400], "return_mean": [3.0, 6.0]}
    assert score_curves.curve(games(score_curves, [1.0, 3.0]), window=3)["steps"] == []
    long = score_curves.curve(games(score_curves, [1.0] * 5_000), window=20)
    assert 200 <= len(long["steps"]) <= 400
    assert long["steps"][-1] == 500_000


def test_targets_hold_the_slowest_and_the_weakest_seed(time_to_score: ModuleType) -> None:
    def run(library: str, minutes: float, mean: float) -> dict[str, Any]:
        group = {"playfield": "ppo-fast", "SB3": "SB3's PPO"}[library]
        return {
            "library": library,
            "group": group,
            "minutes": minutes,
            "evaluation": {"mean": mean},
        }

    runs = [run("playfield", 14.0, 17.5), run("playfield", 15.5, 20.0), run("SB3", 90.0, 0.0)]
    record = {
        "thresholds": [0.0, 18.0],
        "within_minutes": 15.0,
        "runs": dict(enumerate(runs)),
    }
    time, score = time_to_score.targets(record)
    assert (time.measured, time.wanted, time.reached) == (15.5, 15.0, False)
    assert (score.measured, score.wanted, score.reached) == (17.5, 18.0, False)


def test_runs_of_another_game_are_not_added(
    time_to_score: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = time_to_score.Task()
    assert time_to_score.earlier(tmp_path, "x", task, quick=False) == {}
    record = {
        "quick": False,
        "env": task.env,
        "thresholds": list(task.thresholds),
        "window_games": task.window,
        "runs": {"ppo-fast, seed 1": {}},
    }
    (tmp_path / "x.json").write_text(json.dumps(record))
    assert time_to_score.earlier(tmp_path, "x", task, quick=False) == record
    other = time_to_score.Task(env="ALE/Pong-v5")
    with pytest.raises(SystemExit):
        time_to_score.earlier(tmp_path, "x", other, quick=False)
    assert "choose another name" in capsys.readouterr().err


# --- whole scripts --------------------------------------------------------------------------------


@needs_sb3
@pytest.mark.slow
def test_training_peers_make_one_update_in_four_steps(tmp_path: Path) -> None:
    record = quick("dqn_training", tmp_path)
    assert len(record["peers"]) == 5
    for name, steps in record["steps_per_update"].items():
        assert steps == pytest.approx(4, rel=0.5), name
    assert [target["wanted"] for target in record["targets"]] == [3.0]


@needs_sb3
@pytest.mark.slow
def test_ppo_peers_make_the_same_updates_from_the_same_steps(tmp_path: Path) -> None:
    record = quick("ppo_training", tmp_path)
    assert record["baseline"].startswith("SB3")
    assert len(record["peers"]) in (4, 5)  # with and without bfloat16
    for name, steps in record["steps_per_update"].items():
        assert steps == pytest.approx(16, rel=0.1), name  # 2 * 32 steps, 2 epochs of 2 batches
    assert [target["wanted"] for target in record["targets"]] == [2.0]


@needs_painters
@pytest.mark.slow
def test_painters_are_compared_with_networks_as_large(tmp_path: Path) -> None:
    record = quick("painter_training", tmp_path)
    parameters = record["parameters"]
    for library, channels in (("diffusers", 36), ("denoising-diffusion-pytorch", 32)):
        ours = parameters[f"playfield ({channels} channels), float32"]
        assert ours == pytest.approx(parameters[f"{library}, float32"], rel=0.1)
    for rates in (*record["summary"].values(), *record["painting"].values()):
        assert rates["median"] > 0
    assert [target["wanted"] for target in record["targets"]] == [1.5, 1.0, 1.5, 1.0]


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with a quick learning run of ours, and its result."""
    folder = tmp_path_factory.mktemp("learnt")
    return folder, quick("time_to_score", folder, "--seeds", "3")


@pytest.mark.slow
def test_a_learning_run_is_timed_from_the_start_of_its_process(
    learnt: tuple[Path, dict[str, Any]],
) -> None:
    folder, record = learnt
    (run,) = record["runs"].values()
    assert run["seed"] == 3 and "--root" not in run["command"]
    assert run["steps"] >= 2_000 and len(run["evaluation"]["scores"]) == 2
    first = run["reached"]["0"]
    assert 0 < first["minutes"] < run["minutes"] and first["steps"] < run["steps"]
    minutes = run["curve"]["minutes"]
    assert minutes == sorted(minutes) and minutes[-1] < run["minutes"]
    assert (folder / "time_to_score.png").read_bytes().startswith(b"\x89PNG")


@needs_sb3
@pytest.mark.slow
def test_a_run_of_the_peer_is_added_to_ours(learnt: tuple[Path, dict[str, Any]]) -> None:
    folder, before = learnt
    record = quick("time_to_score", folder, "--peer", "sb3")
    added = record["runs"].pop("SB3's PPO, seed 1")
    assert record["runs"] == before["runs"]
    assert added["library"] == "SB3" and len(added["evaluation"]["scores"]) == 2
    assert added["games"] >= 3 and added["steps"] > 0
    assert record["targets"] == before["targets"]  # nothing is asked of the peer


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


@pytest.mark.slow
def test_inspection_measures_commands_beside_a_plain_reader(tmp_path: Path) -> None:
    record = quick("inspection", tmp_path)
    assert any(name.startswith("playfield runs") for name in record["summary"])
    assert any(name.startswith("playfield compare") for name in record["summary"])
    assert record["bytes"]["compare"] > 1e6
