"""Metrics: means over the interval, games as points of their own, curves that survive trouble."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from playfield.training.logs import MetricsLog, cut_metrics, read_metrics
from playfield.training.metrics import GROUPS, METRICS, WINDOW, Point, Recorder


def _curve(folder: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder)).Reload()
    return [(e.step, e.value) for e in events.Scalars(name)]


def _fail(text: str) -> None:
    pytest.fail(text)


def test_scalars_are_averaged_over_the_reports_of_the_interval() -> None:
    recorder = Recorder()
    recorder.add(1, {"loss": torch.tensor(1.0), "epsilon": 0.5, "count": 2})
    recorder.add(2, {"epsilon": 0.3})
    recorder.add(3, {"loss": torch.tensor(4.0, dtype=torch.bfloat16), "epsilon": 0.1})
    finished, means = recorder.take()
    assert finished == []
    assert means == pytest.approx({"loss": 2.5, "epsilon": 0.3, "count": 2.0})
    assert recorder.take() == ([], {})


def test_a_tensor_may_be_overwritten_after_it_was_reported() -> None:
    # A captured graph reports every loss in the same memory.
    recorder, loss = Recorder(), torch.zeros(())
    for value in (1.0, 2.0, 6.0):
        loss.fill_(value)
        recorder.add(1, {"loss": loss})
    assert recorder.take()[1] == {"loss": 3.0}
    assert loss.item() == 6.0


def test_recording_keeps_no_graph() -> None:
    recorder = Recorder()
    weight = torch.ones((), requires_grad=True)
    recorder.add(1, {"loss": weight * 2})
    assert recorder._sums["loss"].requires_grad is False  # type: ignore[union-attr]


def test_each_game_is_a_point_and_the_mean_moves_over_the_last_hundred() -> None:
    recorder = Recorder()
    for game in range(250):
        recorder.add(10 * game, {"episode/return": [float(game)]})
    finished, means = recorder.take()
    assert finished == [Point(10 * g, "episode/return", float(g)) for g in range(250)]
    assert means == {"episode/return_mean": np.mean(range(250 - WINDOW, 250))}
    recorder.add(2600, {"episode/return": np.array([1000.0, 2000.0])})
    assert recorder.take()[1]["episode/return_mean"] == np.mean([*range(152, 250), 1000, 2000])


def test_the_moving_window_is_restored() -> None:
    recorder, other = Recorder(), Recorder()
    recorder.add(1, {"episode/return": [1.0, 2.0]})
    recorder.take()
    other.load_state_dict(recorder.state_dict())
    other.add(2, {"episode/return": [6.0]})
    assert other.take()[1] == {"episode/return_mean": 3.0}


def test_both_files_hold_the_same_curves_by_environment_steps(tmp_path: Path) -> None:
    games = [
        Point(30, "episode/return", 21.0),
        Point(30, "episode/return", -3.0),
        Point(30, "episode/length", 5.0),
        Point(30, "episode/length", 6.0),
        Point(70, "episode/return", 1.0),
    ]
    with MetricsLog(tmp_path, _fail, resume_at=None) as log:
        log.write(100, {"train/loss": 0.5}, games)
        log.write(200, {"train/loss": math.nan})
    assert read_metrics(tmp_path / "metrics.jsonl") == [
        {"progress": 30, "episode/return": 21.0, "episode/length": 5.0},
        {"progress": 30, "episode/return": -3.0, "episode/length": 6.0},
        {"progress": 70, "episode/return": 1.0},
        {"progress": 100, "train/loss": 0.5},
        {"progress": 200, "train/loss": None},
    ]
    assert _curve(tmp_path, "episode/return") == [(30, 21.0), (30, -3.0), (70, 1.0)]
    losses = _curve(tmp_path, "train/loss")
    assert losses[0] == (100, 0.5)
    assert losses[1][0] == 200
    assert math.isnan(losses[1][1])


def test_a_resumed_run_s_curves_neither_overlap_nor_gap(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, _fail, resume_at=None) as log:
        for step in (100, 200, 300, 400):
            log.write(step, {"train/loss": 1.0})
    with MetricsLog(tmp_path, _fail, resume_at=200) as log:
        for step in (300, 400, 500):
            log.write(step, {"train/loss": 2.0})
    expected = [(100, 1.0), (200, 1.0), (300, 2.0), (400, 2.0), (500, 2.0)]
    assert _curve(tmp_path, "train/loss") == expected
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [(line["progress"], line["train/loss"]) for line in lines] == expected


def test_a_line_cut_by_a_crash_is_left_out_and_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"progress": 1, "x": 1.0}\n[1]\n{"progress": 2, "x"')
    assert read_metrics(path) == [{"progress": 1, "x": 1.0}]
    cut_metrics(path, 5)
    assert path.read_text() == '{"progress": 1, "x": 1.0}\n'


FILL = """
import json, resource, sys
from pathlib import Path
from playfield.training.logs import MetricsLog
warnings = []
folder = Path(sys.argv[1])
with MetricsLog(folder, warnings.append, resume_at=None) as log:
    log.write(0, {"x": 0.0})
    log.flush()
    size = (folder / "metrics.jsonl").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 * size + 7, resource.RLIM_INFINITY))
    for step in range(1, 50):
        log.write(step, {"x": float(step)})
    log.flush()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    log.write(50, {"x": 50.0})
print(json.dumps(warnings))
"""


def test_a_file_that_cannot_grow_costs_points_and_one_warning_and_then_goes_on(
    tmp_path: Path,
) -> None:
    # A real limit on the file's size cuts the write in mid-record, as a full disk does.
    result = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path)], capture_output=True, text=True, check=True
    )
    warnings = json.loads(result.stdout)
    assert len(warnings) == 2
    assert "metrics.jsonl" in warnings[0] + warnings[1]
    assert "events.out" in warnings[0] + warnings[1]
    assert all("points are lost" in text for text in warnings)
    text = (tmp_path / "metrics.jsonl").read_text()
    steps = [json.loads(line)["progress"] for line in text.splitlines()]
    assert steps[0] == 0
    assert steps[-1] == 50
    assert steps[:-1] == list(range(len(steps) - 1))
    assert 5 < len(steps) < 50
    curve = [step for step, _ in _curve(tmp_path, "x")]
    assert curve[-1] == 50
    assert curve[:-1] == list(range(len(curve) - 1))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_from_the_start_only_warns(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    warnings: list[str] = []
    with MetricsLog(tmp_path, warnings.append, resume_at=None) as log:
        for step in range(5):
            log.write(step, {"x": 1.0})
    assert len(warnings) == 1
    assert "No space left on device" in warnings[0]
    assert len(_curve(tmp_path, "x")) == 5


def test_a_folder_that_is_gone_only_warns(tmp_path: Path) -> None:
    warnings: list[str] = []
    with MetricsLog(tmp_path / "gone", warnings.append, resume_at=3) as log:
        log.write(1, {"x": 1.0})
        log.write(2, {"x": 1.0})
    assert len(warnings) == 2


def test_every_metric_is_documented_with_its_unit() -> None:
    for name, metric in METRICS.items():
        assert name.count("/") == 1
        assert name.partition("/")[0] in GROUPS
        assert metric.meaning
        assert metric.unit
