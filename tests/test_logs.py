"""The writer of curves: training never waits for it, and a crash or a resume leaves no mark."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_trainer import FakeTrainer, SilentDisplay, manifest
from PIL import Image
from tensorboard.plugins.hparams import api_pb2
from tensorboard_back_end import Pages

from playfield.agents.training import AgentTrainingConfig
from playfield.training import event_file, logs
from playfield.training.checkpoint import newest_intact
from playfield.training.event_file import PATTERN
from playfield.training.histograms import weights
from playfield.training.logs import MetricsLog, read_metrics
from playfield.training.loop import train
from playfield.training.media import Film, Histogram
from playfield.training.media_budget import HOUR, MediaBudget
from playfield.training.metrics import METRICS, Point, Recorder
from playfield.training.run import Run


def _fail(text: str) -> None:
    pytest.fail(text)


def _film(size: int = 100) -> Film:
    return Film(b"GIF89a" + bytes(size - 6), height=1, width=1)


# --- a disk that is slow --------------------------------------------------------------------------


class HangingDisk:
    """A folder whose `metrics.jsonl` can't be opened for writing until somebody reads it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metrics.jsonl"
        os.mkfifo(self.path)

    def go_on(self) -> list[int]:
        """Let it be written to the end; the progress of each line that arrived."""
        with open(self.path, "rb") as file:
            return [json.loads(line)["progress"] for line in file]


needs_fifo = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")


@needs_fifo
def test_whoever_writes_does_not_wait_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MOST_WAITING", 10)
    disk = HangingDisk(tmp_path)
    warnings: list[str] = []
    log = MetricsLog(tmp_path, warnings.append, resume_at=None)
    for step in range(30):
        log.write(step, {"x": 1.0})  # would never return if it waited: nobody reads yet
    assert len(warnings) == 1
    assert "too slow" in warnings[0]
    assert not log.flush(seconds=0.05)
    assert len(warnings) == 2
    read: list[list[int]] = []
    thread = threading.Thread(target=lambda: read.append(disk.go_on()))
    thread.start()
    assert log.flush(seconds=60)
    log.write(30, {"x": 1.0})
    log.close()
    thread.join(60)
    (arrived,) = read
    # One was being written, ten waited; the rest is lost, and what comes later is not.
    assert arrived[:-1] == list(range(len(arrived) - 1))
    assert 10 <= len(arrived) <= 12
    assert arrived[-1] == 30
    assert len(warnings) == 2


@needs_fifo
def test_the_end_of_a_run_does_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "FLUSH_SECONDS", 0.05)
    disk = HangingDisk(tmp_path)
    warnings: list[str] = []
    with MetricsLog(tmp_path, warnings.append, resume_at=None) as log:
        log.write(1, {"x": 1.0})
    assert warnings == ["The newest points of the curves are lost: their disk is too slow."]
    assert disk.go_on() == [1]  # the thread was still there, and ends now


@needs_fifo
def test_pictures_that_wait_take_no_more_memory_than_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MOST_BYTES_WAITING", 1_000)
    disk = HangingDisk(tmp_path)
    warnings: list[str] = []
    log = MetricsLog(tmp_path, warnings.append, resume_at=None)
    log.write(1, {"x": 1.0})
    log.write_film(1, {"a": _film(600)})
    assert not warnings
    log.write_film(2, {"a": _film(600)})
    assert len(warnings) == 1
    reader = threading.Thread(target=disk.go_on)
    reader.start()
    assert log.flush(60)
    log.write_film(3, {"a": _film(600)})  # there is room again
    log.close()
    reader.join(60)
    assert len(warnings) == 1
    assert Pages(tmp_path).steps("a") == [1, 3]


@needs_fifo
@pytest.mark.parametrize("bound", ["MOST_WAITING", "MOST_BYTES_WAITING"])
def test_pictures_that_wait_leave_room_for_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(logs, bound, {"MOST_WAITING": 40, "MOST_BYTES_WAITING": 4_000}[bound])
    disk = HangingDisk(tmp_path)
    warnings: list[str] = []
    log = MetricsLog(tmp_path, warnings.append, resume_at=None)
    for step in range(8):
        log.write(step, {"x": 1.0}, [Point(step, "episode/return", 1.0)])  # counted as 100 bytes
        for _ in range(10):
            log.write_film(step, {"a": _film(100)})
            log.write_histograms(step, {"h": np.zeros(12)})
    assert len(warnings) == 1
    assert "Pictures" in warnings[0]
    reader = threading.Thread(target=disk.go_on)
    reader.start()
    log.close()
    reader.join(60)
    pages = Pages(tmp_path)
    assert pages.steps("x") == list(range(8))
    assert pages.steps("a")[0] == 0


def test_a_picture_beyond_the_bound_is_too_large_and_not_the_disk_too_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MOST_BYTES_WAITING", 1_000)
    warnings: list[str] = []
    with MetricsLog(tmp_path, warnings.append, resume_at=None) as log:
        for step in range(3):
            log.write_film(step, {"eval/game": _film(1_001)})
            log.write(step, {"x": 1.0})
    assert len(warnings) == 1
    assert "eval/game" in warnings[0]
    assert "too large" in warnings[0]
    assert Pages(tmp_path).steps("x") == [0, 1, 2]


def test_warnings_come_in_the_thread_of_whoever_writes(tmp_path: Path) -> None:
    # A display belongs to one thread.
    threads: list[threading.Thread] = []

    def warn(text: str) -> None:
        threads.append(threading.current_thread())

    with MetricsLog(tmp_path / "gone", warn, resume_at=None) as log:
        log.write(1, {"x": 1.0})
    assert threads == [threading.current_thread()] * 2


def test_what_cannot_be_encoded_costs_itself_and_one_warning(tmp_path: Path) -> None:
    warnings: list[str] = []
    wrong: Any = {"x": "no number"}
    with MetricsLog(tmp_path, warnings.append, resume_at=None) as log:
        log.write(1, {"x": 1.0})
        log.write(2, wrong)
        log.write(3, wrong)
        log.write(4, {"x": 4.0})
    assert len(warnings) == 1
    assert Pages(tmp_path).steps("x") == [1, 4]


def test_what_was_handed_in_may_change_afterwards(tmp_path: Path) -> None:
    values, picture, numbers = {"x": 1.0}, np.zeros((2, 2, 3), np.uint8), np.zeros(5)
    with MetricsLog(tmp_path, _fail, resume_at=None) as log:
        log.write(1, values)
        log.write_pictures(1, {"p": picture})
        log.write_histograms(1, {"h": numbers})
        values["x"], picture[:], numbers[:] = 2.0, 255, 9.0
    pages = Pages(tmp_path)
    assert pages.series("x") == [(1, 1.0)]
    ((_, (_, _, png)),) = pages.series("p")
    assert not np.asarray(Image.open(io.BytesIO(png))).any()
    ((_, buckets),) = pages.series("h")
    np.testing.assert_array_equal(buckets, [[-0.5, 0.5, 5]])


# --- how much -------------------------------------------------------------------------------------


def test_any_hour_has_its_budget() -> None:
    now = [0.0]
    budget = MediaBudget(1.0, pieces=3, clock=lambda: now[0])
    assert budget.spend(600_000)
    assert not budget.spend(400_001)
    assert budget.spend(400_000)
    assert not budget.spend(1)
    now[0] = HOUR - 1
    assert not budget.spend(1)
    now[0] = HOUR
    assert budget.spend(1) and budget.spend(1) and budget.spend(1)
    assert not budget.allows(1)  # three pieces


def test_no_megabytes_are_no_pictures() -> None:
    assert not MediaBudget(0.0).allows(1)


def test_pictures_beyond_the_budget_are_dropped_and_that_said_once(tmp_path: Path) -> None:
    warnings: list[str] = []
    with MetricsLog(tmp_path, warnings.append, resume_at=None, budget=MediaBudget(0.001)) as log:
        for step in range(5):
            log.write_film(step, {"eval/game": _film(400)})
            log.write(step, {"x": 1.0})
    pages = Pages(tmp_path)
    assert pages.steps("eval/game") == [0, 1]
    assert pages.steps("x") == [0, 1, 2, 3, 4]
    assert len(warnings) == 1
    assert "media_mb_per_hour" in warnings[0]


def test_tensorboard_gets_some_of_very_many_games_and_the_other_file_all(tmp_path: Path) -> None:
    games = [Point(k, "episode/return", float(k)) for k in range(1, 1001)]
    with MetricsLog(tmp_path, _fail, resume_at=None) as log:
        log.write(1000, {"train/loss": 1.0}, games)
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["progress"] for line in lines] == [*range(1, 1001), 1000]
    steps = Pages(tmp_path).steps("episode/return")
    assert steps == list(range(50, 1001, 50))


#: Names that a run of an agent logs at every interval, and more.
OF_AGENTS = [
    name
    for name in METRICS
    if name.partition("/")[0] in ("episode", "train", "replay", "speed", "health", "time")
]


@pytest.mark.parametrize("games", [1, 100], ids=["Pong", "games of ten steps"])
def test_the_event_file_of_ten_million_steps_stays_under_fifty_megabytes(
    tmp_path: Path, games: int
) -> None:
    config = AgentTrainingConfig(steps=10_000_000)
    intervals = config.steps // config.log_every
    sample = 20  # intervals that stand for all, at the end, where numbers are longest
    network = torch.nn.Sequential(*(torch.nn.Linear(64, 64) for _ in range(8)))
    rng = np.random.default_rng(0)

    def size() -> int:
        return sum(path.stat().st_size for path in tmp_path.glob(PATTERN))

    with MetricsLog(tmp_path, _fail, resume_at=None) as log:
        log.write(0, dict.fromkeys(OF_AGENTS, 0.0))  # with the descriptions
        log.flush()
        before = size()
        for k in range(sample):
            end = config.steps - (sample - 1 - k) * config.log_every
            steps = range(end - config.log_every, end, config.log_every // games)
            finished = [
                Point(step, name, value)
                for step in steps
                for name, value in (("episode/return", -21.0), ("episode/length", 1000.0))
            ]
            log.write(end, dict(zip(OF_AGENTS, rng.normal(size=99), strict=False)), finished)
        log.flush()
        of_intervals = (size() - before) * intervals / sample
        before = size()
        log.write_histograms(config.steps, weights(network))
        log.flush()
        of_weights = (size() - before) * (config.steps // config.checkpoint_every + 1)
    film = 1_000_000  # bytes, of the one evaluation at the end
    assert config.evaluate_every == 0
    total = before / sample + of_intervals + of_weights + film
    assert 1_000_000 < total < 50_000_000


# --- a crash and a resume -------------------------------------------------------------------------

WRITE_FOR_EVER = """
import sys
from itertools import count
from pathlib import Path
import numpy as np
from playfield.training.logs import MetricsLog
with MetricsLog(Path(sys.argv[1]), print, resume_at=None) as log:
    for step in count(1):
        log.write(step, {"x": float(step)})
        log.write_histograms(step, {"h": np.arange(3.0)})
        if step % 50 == 0:
            log.flush()
            print(step, flush=True)
"""


def test_a_killed_run_s_curves_go_on_where_its_resume_begins(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE_FOR_EVER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process, process.stdout as said:
        flushed = [int(said.readline()) for _ in range(3)]
        process.send_signal(signal.SIGKILL)
    assert flushed == [50, 100, 150]
    (events,) = tmp_path.glob(PATTERN)
    assert Pages(tmp_path).steps("x")[:150] == list(range(1, 151))  # flushed is on the disk
    os.truncate(events, events.stat().st_size - 7)  # as a machine that loses its power leaves it
    curves = tmp_path / "metrics.jsonl"
    os.truncate(curves, curves.stat().st_size - 7)
    warnings: list[str] = []
    with MetricsLog(tmp_path, warnings.append, resume_at=100) as log:
        for step in range(101, 121):
            log.write(step, {"x": -float(step)})
            log.write_histograms(step, {"h": np.arange(3.0)})
    expected = [(step, float(step if step <= 100 else -step)) for step in range(1, 121)]
    assert [(line["progress"], line["x"]) for line in read_metrics(curves)] == expected
    pages = Pages(tmp_path)
    assert pages.series("x") == expected
    assert pages.steps("h") == list(range(1, 121))
    assert sorted("jsonl" in text for text in warnings) == [False, True]
    assert all("damaged bytes" in text for text in warnings)


def test_a_flipped_bit_costs_a_resume_one_warning(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, _fail, resume_at=None) as log:
        for step in range(1, 6):
            log.write(step, {"x": float(step)})
    (events,) = tmp_path.glob(PATTERN)
    content = bytearray(events.read_bytes())
    content[-10] ^= 0x80  # in the message of the last point
    events.write_bytes(content)
    warnings: list[str] = []
    with MetricsLog(tmp_path, warnings.append, resume_at=5) as log:
        log.write(6, {"x": 6.0})
    assert len(warnings) == 1
    assert "damaged bytes" in warnings[0]
    assert Pages(tmp_path).steps("x") == [1, 2, 3, 4, 6]


def test_curves_that_cannot_be_cut_cost_a_resume_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, progress: int) -> int:
        raise ValueError("no such thing")

    with MetricsLog(tmp_path, _fail, resume_at=None) as log:
        log.write(1, {"x": 1.0})
    monkeypatch.setattr(event_file, "cut_events", fail)
    warnings: list[str] = []
    with MetricsLog(tmp_path, warnings.append, resume_at=1) as log:
        log.write(2, {"x": 2.0})
    assert len(warnings) == 1
    assert "no such thing" in warnings[0]


def _train(run: Run, steps: int, resumed: bool = False) -> None:
    trainer = FakeTrainer()
    gif = io.BytesIO()
    Image.new("RGB", (2, 2)).save(gif, "gif")

    def evaluate() -> dict[str, Any]:
        return {
            "eval/return": float(trainer.progress),
            "eval/game": Film(gif.getvalue(), height=2, width=2),
            "eval/actions": Histogram(np.array([0.0, 1.0, 1.0])),
            "samples/grid": np.zeros((2, 2, 3), np.uint8),
        }

    config = AgentTrainingConfig(
        steps=steps, log_every=20, checkpoint_every=50, evaluate_every=40, keep_checkpoints=9
    )
    resume_from = newest_intact(run.checkpoints_folder, _fail) if resumed else None
    train(
        trainer,
        run,
        config,
        evaluate=evaluate,
        resume_from=resume_from,
        display=SilentDisplay(),
    )


def test_a_resumed_run_shows_everything_once(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "fake", manifest())
    _train(run, 60)
    run.update_manifest(config={"gamma": 0.5}, status="running")
    # As if it had been killed after 60, where no checkpoint is.
    last = run.checkpoints_folder / "000000000060"
    last.rename(run.folder / "lost")
    open_before = Pages(run.folder)
    assert open_before.steps("eval/game") == [40, 60]
    _train(run, 100, resumed=True)
    for pages in (open_before.reload(), Pages(run.folder)):
        for tag in ("train/loss", "episode/return_mean", "episode/return_low"):
            assert pages.steps(tag) == [20, 40, 50, 60, 80, 100], tag
        for tag in ("eval/return", "eval/game", "eval/actions", "samples/grid"):
            assert pages.steps(tag) == [40, 80, 100], tag
        assert pages.steps("weights/own") == [40, 50, 80, 100]
        assert pages.steps("run/card") == [0, 50]
        assert pages.layout()["category"]
    columns, rows = Pages(tmp_path).hyperparameters()
    group, session = rows["fake"]
    assert len(rows) == 1
    assert {"algorithm", "seed", "gamma"} <= columns
    assert group.hparams["gamma"].number_value == 0.5
    assert session.status == api_pb2.STATUS_SUCCESS
    newest = {value.name.tag: value.value for value in session.metric_values}
    assert newest["eval/return"] == 100.0


def test_the_return_has_its_spread_over_the_last_games() -> None:
    recorder = Recorder()
    returns = np.random.default_rng(0).permutation(101).astype(float)  # one drops out of the window
    recorder.add(1, {"episode/return": returns, "episode/length": [5.0]})
    window = np.sort(returns[1:])
    # Linear interpolation between the order statistics around rank 0.1 * 99 and 0.9 * 99.
    assert recorder.spread() == pytest.approx(
        {
            "episode/return_low": window[9] + 0.9 * (window[10] - window[9]),
            "episode/return_high": window[89] + 0.1 * (window[90] - window[89]),
        }
    )
    assert Recorder().spread() == {}
