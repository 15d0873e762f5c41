"""Real signals to real processes: what was learnt is saved, or at least nothing saved is lost."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from fake_trainer import FakeTrainer, SilentDisplay, manifest
from training_process import train_until_signalled

from playfield.training.checkpoint import list_checkpoints, newest_intact
from playfield.training.loop import TrainingConfig, train
from playfield.training.run import Run
from playfield.training.signals import Interrupted, StopSignals
from playfield.training.writer_thread import Job, WriterThread

PATIENCE = 120.0  # seconds until a silent process has failed
Start = Callable[[str], tuple[BaseProcess, Connection]]

if os.name == "nt":
    pytest.skip("Windows has no such signals", allow_module_level=True)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    # A fork server imports torch once for all of these processes. It doesn't know pytest's path, so
    # what these tests share can't be among its imports.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["playfield.training.loop"])
    started: list[BaseProcess] = []

    def start_one(mode: str) -> tuple[BaseProcess, Connection]:
        ours, theirs = context.Pipe()
        process = context.Process(target=train_until_signalled, args=(tmp_path, mode, theirs))
        process.start()
        theirs.close()
        started.append(process)
        return process, ours

    yield start_one
    for process in started:
        process.kill()
        process.join()


def _receive(connection: Connection) -> Any:
    assert connection.poll(PATIENCE), "the process is silent"
    return connection.recv()


def _send_signal(process: BaseProcess, number: int) -> None:
    assert process.pid is not None
    os.kill(process.pid, number)


def _newest(root: Path) -> int:
    told: list[str] = []
    checkpoint = newest_intact(Run.open("fake", root).checkpoints_folder, told.append)
    assert checkpoint is not None
    assert told == []
    return checkpoint.progress


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_saves_and_says_how_to_resume(
    tmp_path: Path, start: Start, number: int
) -> None:
    process, connection = start("free")
    assert _receive(connection) == "stepping"
    _send_signal(process, number)
    reason, received, progress, notes = _receive(connection)
    process.join(PATIENCE)
    assert (process.exitcode, reason, received) == (0, "signal", number)
    assert f"Saved at step {progress:,}. Resume with: playfield resume {tmp_path / 'fake'}" in notes
    assert _newest(tmp_path) == progress
    assert Run.open("fake", tmp_path).status == "stopped"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_stops_at_once_and_loses_nothing_saved(
    tmp_path: Path, start: Start, number: int
) -> None:
    process, connection = start("stuck")
    assert [_receive(connection), _receive(connection)] == ["stepping", "stuck"]
    _send_signal(process, number)
    process.join(0.3)
    assert process.is_alive()  # the first one waits for the end of the step
    _send_signal(process, number)
    process.join(PATIENCE)
    assert process.exitcode == 128 + number
    assert _newest(tmp_path) == 25
    assert Run.open("fake", tmp_path).status == "interrupted"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_second_signal_does_not_wait_for_a_hung_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(progress: int) -> None:
        if progress == 5:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    waits: list[float] = []
    close = WriterThread.close

    def note(thread: WriterThread, seconds: float, last: Job) -> bool:
        waits.append(seconds)
        return close(thread, min(seconds, 0.05), last)

    monkeypatch.setattr(WriterThread, "close", note)
    run = Run.create(tmp_path, "fake", manifest())
    curves = run.folder / "metrics.jsonl"
    os.mkfifo(curves)  # opening it for writing hangs until somebody reads
    config = TrainingConfig(steps=50, log_every=1)
    with pytest.raises(SystemExit) as stopped:
        train(FakeTrainer(on_step=stop), run, config, display=SilentDisplay())
    assert stopped.value.code == 128 + signal.SIGINT
    assert len(waits) == 1
    assert waits[0] <= 1.0
    curves.read_bytes()  # let the thread end


def test_a_signal_cuts_an_evaluation_short_after_the_save(tmp_path: Path, start: Start) -> None:
    process, connection = start("evaluate")
    assert [_receive(connection), _receive(connection)] == ["stepping", "evaluating"]
    _send_signal(process, signal.SIGINT)
    reason, _, progress, notes = _receive(connection)
    process.join(PATIENCE)
    assert (process.exitcode, reason, progress) == (0, "steps", 50)
    assert "The evaluation was cut short." in notes
    assert _newest(tmp_path) == 50


def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path: Path, start: Start) -> None:
    process, connection = start("free")
    assert _receive(connection) == "stepping"
    while not list_checkpoints(tmp_path / "fake" / "checkpoints"):
        assert process.is_alive()
    process.kill()
    process.join(PATIENCE)
    assert Run.open("fake", tmp_path).status == "interrupted"
    saved = _newest(tmp_path)
    process, connection = start("free")
    assert _receive(connection) == "stepping"
    _send_signal(process, signal.SIGTERM)
    _, _, progress, notes = _receive(connection)
    assert f"Going on from step {saved:,}." in notes
    assert _newest(tmp_path) == progress > saved
    assert len(list_checkpoints(tmp_path / "fake" / "checkpoints")) <= 2


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in StopSignals.HANDLED]
    with StopSignals():
        assert [signal.getsignal(number) for number in StopSignals.HANDLED] != before
    assert [signal.getsignal(number) for number in StopSignals.HANDLED] == before


def test_a_signal_that_came_before_lets_no_interruptible_part_begin() -> None:
    with StopSignals() as signals:
        signal.raise_signal(signal.SIGTERM)
        assert signals.received == signal.SIGTERM
        with pytest.raises(Interrupted), signals.interruptible():
            pytest.fail("begun")


def test_training_in_another_thread_works_without_signals(tmp_path: Path) -> None:
    results: list[Any] = []

    def work() -> None:
        run = Run.create(tmp_path, "fake", manifest())
        config = TrainingConfig(steps=20)
        results.append(train(FakeTrainer(), run, config, display=SilentDisplay()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results[0].progress == 20


def test_an_interrupt_ends_the_process_by_the_signal_until_it_can_be_caught() -> None:
    program = """
import signal, sys
from playfield.training.signals import ending_at_interrupt, raise_at_interrupt
before = signal.getsignal(signal.SIGINT)
with ending_at_interrupt():
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    raise_at_interrupt()
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        print("caught", flush=True)
assert signal.getsignal(signal.SIGINT) is before
signal.signal(signal.SIGINT, signal.SIG_IGN)
with ending_at_interrupt():
    raise_at_interrupt()
    signal.raise_signal(signal.SIGINT)
print("ignored", flush=True)
signal.signal(signal.SIGINT, signal.default_int_handler)
with ending_at_interrupt():
    signal.raise_signal(signal.SIGINT)
print("never")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "caught\nignored\n"), done.stderr
