"""What a user can get wrong: one sentence, the right exit code, and nothing lost that was saved."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import EVERY, STEPS, TINY, CommandLine, catch_run, playfield

from playfield.training.checkpoint import list_checkpoints, newest_intact

__all__ = ["catch_run", "playfield"]  # fixtures


def edit_run(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change `run.json` as a user with an editor would."""
    path = folder / "run.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def checkpoints(folder: Path) -> list[Path]:
    return list_checkpoints(folder / "checkpoints")


def intact(folder: Path) -> int | None:
    """The progress of the newest checkpoint that verifies."""
    checkpoint = newest_intact(folder / "checkpoints", lambda _: None)
    return None if checkpoint is None else checkpoint.progress


# --- names and values that do not exist ---


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["trian"], "did you mean train?"),
        (["train"], "train dqn --env ALE/Pong-v5"),
        (["train", "dqm", "--env", "pong"], "did you mean dqn?"),
        (["train", "dqn"], "--env"),
        (["train", "dqn", "--env", "ALE/Pogn-v5"], "ALE/Pong-v5"),
        (["train", "dqn", "--env", "PongDeterministic-v4"], "PongNoFrameskip-v4"),
        (["train", "dqn", "--env", "CartPol-v1"], "CartPole-v1"),
        (["train", "dqn", "--preset", "pogn"], "did you mean pong?"),
        (["train", "dqn", "--env", "pong", "--protocol", "natur"], "nature"),
        (["train", "dqn", "--env", "pong", "--batchsize", "3"], "did you mean --batch-size"),
        (["train", "dqn", "--env", "pong", "--batch-size", "big"], "--batch-size"),
        (["train", "dqn", "--env", "pong", "--batch-size", "0"], "batch_size"),
        (["train", "dqn", "--env", "pong", "--gamma", "1.5"], "gamma"),
        (["train", "dqn", "--env", "pong", "--learning-rate", "-1"], "learning_rate"),
        (["train", "dqn", "--env", "pong", "--learning-rate", "fast"], "--learning-rate"),
        (["train", "dqn", "--env", "pong", "--optimizer", "adamx"], "'--optimizer'"),
        (["train", "dqn", "--env", "pong", "--schedule", "saw"], "'--schedule'"),
        (["train", "dqn", "--env", "pong", "--optimiser", "sgd"], "did you mean --optimizer"),
        (["train", "dqn", "--env", "pong", "--encoder", "resnet"], "'--encoder'"),
        (["train", "dqn", "--env", "pong", "--width", "0"], "width"),
        (["train", "dqn", "--env", "pong", "--steps", "0"], "steps"),
        (["train", "dqn", "--env", "pong", "--minutes", "-1"], "minutes"),
        (["train", "dqn", "--env", "pong", "--seed", "-1"], "--seed"),
        (["train", "dqn", "--env", "pong", "--device", "tpu"], "tpu"),
        (["train", "dqn", "--env", "pong", "--threads", "0"], "threads"),
        (["train", "dqn", "--env", "pong", "--run", "../elsewhere"], "../elsewhere"),
        (["resume", "missing"], "missing"),
        (["eval", "missing"], "missing"),
        (["watch", "missing", "--video", "film.gif"], "missing"),
    ],
)
def test_a_wrong_word_is_named_with_what_to_do(
    playfield: CommandLine, args: list[str], named: str
) -> None:
    assert named in playfield.refuses(*args)
    assert not playfield.root.exists()


@pytest.mark.parametrize("env", ["Pendulum-v1", "Blackjack-v1"])
def test_spaces_that_are_not_handled_are_refused(playfield: CommandLine, env: str) -> None:
    assert env in playfield.refuses("train", "dqn", *TINY, "--env", env)
    assert not playfield.root.exists()


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["eval", "catch", "--episodes", "0"], "--episodes"),
        (["eval", "catch", "--epsilon", "2"], "--epsilon"),
        (["eval", "catch", "--num-envs", "0"], "--num-envs"),
        (["eval", "catch", "--checkpoint", "77"], "there are 80, 120, best and last"),
        (["watch", "catch", "--video", "film.avi"], ".mp4, .gif or .png"),
        (["watch", "catch", "--video", "/nowhere/film.gif"], "/nowhere/film.gif"),
        (["watch", "catch", "--steps", "0"], "--steps"),
        (["watch", "catch"], "--video"),  # the output of tests is no terminal
        (["eval", "cacth"], "did you mean catch"),
        (["train", "dqn", *TINY, "--run", "catch"], "playfield resume catch"),
        (["resume", "catch", "--steps", "0"], "steps"),
    ],
)
def test_a_wrong_value_for_a_run_is_named_and_changes_nothing(
    playfield: CommandLine, catch_run: Path, args: list[str], named: str
) -> None:
    before = sorted((p, p.stat().st_mtime_ns) for p in catch_run.rglob("*"))
    assert named in playfield.refuses(*args)
    assert sorted((p, p.stat().st_mtime_ns) for p in catch_run.rglob("*")) == before


# --- places that cannot be written to ---


def test_a_file_where_runs_should_be_is_told(playfield: CommandLine) -> None:
    playfield.root.write_text("not a folder")
    assert str(playfield.root) in playfield.refuses("train", "dqn", *TINY, "--steps", "10")
    assert playfield.root.read_text() == "not a folder"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
def test_a_folder_without_permission_is_told(playfield: CommandLine) -> None:
    args = ("train", "dqn", *TINY, "--steps", "10", "--root", "/proc/self/runs")
    assert "/proc/self/runs" in playfield.refuses(*args)


def test_a_score_that_cannot_be_saved_is_still_printed(
    playfield: CommandLine, catch_run: Path
) -> None:
    (catch_run / ".evaluation.json.lock").mkdir()
    result = playfield("eval", "catch", "--episodes", "2", "--threads", "1")
    assert result.code == 2
    assert "raw score" in result.out
    assert "evaluation.json cannot be written" in result.err


def test_a_full_disk_costs_the_curves_and_not_the_training(
    playfield: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("playfield.training.logs.os.write", full)
    result = playfield("train", "dqn", *TINY, "--steps", "80", "--run", "full")
    assert result.code == 0
    assert "Can't write metrics.jsonl" in result.out
    assert result.out.count("Can't write metrics.jsonl") == 1
    assert intact(playfield.root / "full") == 80


def test_an_end_that_could_not_be_saved_is_a_failure(
    playfield: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from playfield.training import kept_checkpoints

    save = kept_checkpoints.save_checkpoint

    def nearly_full(folder: Path, progress: int, *rest: Any) -> Path:
        if progress > 40:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return save(folder, progress, *rest)

    monkeypatch.setattr(kept_checkpoints, "save_checkpoint", nearly_full)
    result = playfield(
        *("train", "dqn", *TINY, "--steps", "80", "--checkpoint-every", "40", "--run", "full")
    )
    assert result.code == 1
    assert "No space left" in result.out
    assert "could not be saved" in result.err and "playfield resume" in result.err
    assert intact(playfield.root / "full") == 40


# --- runs that are damaged ---


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda m: m.pop("seed"), "'seed' is missing"),
        (lambda m: m.update(seed="one"), "'seed' should be int"),
        (lambda m: m.update(format=99), "format 99"),
        (lambda m: m.update(algorithm="rainbow"), "'rainbow'"),
        (lambda m: m.update(env="ALE/Pogn-v5"), "ALE/Pong-v5"),
        (lambda m: m["config"].update(gama=0.9), "did you mean gamma?"),
        (lambda m: m["config"].update(n_step="three"), "n_step should be int, not 'three'"),
        (lambda m: m["config"].update(gamma=7.0), "gamma has to lie between"),
        (lambda m: m["config"].update(hidden=16), "does not fit"),
        (lambda m: m["config"].update(dueling=True), "does not fit"),
        (lambda m: m.update(env="CartPole-v1"), "does not fit"),
    ],
)
@pytest.mark.parametrize("command", ["eval", "watch"])
def test_a_run_that_was_tampered_with_is_named_with_the_field(
    playfield: CommandLine,
    catch_run: Path,
    command: str,
    change: Callable[[dict[str, Any]], object],
    named: str,
) -> None:
    edit_run(catch_run, change)
    extra = ["--video", str(catch_run.parent / "film.gif")] if command == "watch" else []
    assert named in playfield.refuses(command, "catch", *extra)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda m: m.update(algorithm="muzero"), "'muzero'"),
        (lambda m: m["config"].update(hidden=16), "fit"),
        (lambda m: m["training"].update(steps=None), "steps should be int"),
        (lambda m: m.pop("training"), "'training' is missing"),
        (lambda m: m["config"].update(buffer_size=800), "replay"),
    ],
)
def test_a_run_that_does_not_fit_is_not_resumed(
    playfield: CommandLine,
    catch_run: Path,
    change: Callable[[dict[str, Any]], object],
    named: str,
) -> None:
    edit_run(catch_run, change)
    before = [path.name for path in checkpoints(catch_run)]
    assert named in playfield.refuses("resume", "catch", "--steps", "200", "--threads", "1")
    assert [path.name for path in checkpoints(catch_run)] == before
    assert intact(catch_run) == STEPS


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\x00", b"[1, 2]", b"null"])
def test_a_run_json_that_is_no_json_is_told(
    playfield: CommandLine, catch_run: Path, content: bytes
) -> None:
    (catch_run / "run.json").write_bytes(content)
    assert "run.json is damaged" in playfield.refuses("resume", "catch")


def test_a_damaged_evaluation_is_told_before_any_game_is_played(
    playfield: CommandLine, catch_run: Path
) -> None:
    (catch_run / "evaluation.json").write_text("{")
    result = playfield("eval", "catch", "--episodes", "1000000")
    assert result.code == 2
    assert "evaluation.json is damaged" in result.err


# --- checkpoints that are damaged ---


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, alter, Path.unlink])
@pytest.mark.parametrize("name", ["manifest.json", "state.json", "state.safetensors", "store"])
def test_resume_falls_back_to_the_newest_intact_checkpoint_and_says_so(
    playfield: CommandLine, catch_run: Path, damage: Callable[[Path], None], name: str
) -> None:
    newest = checkpoints(catch_run)[-1]
    file = newest / name
    if name == "store":
        file = max((p for p in (newest / "stores").rglob("*") if p.is_file()), key=_size)
    damage(file)
    result = playfield("resume", "catch", "--threads", "1")
    assert result.code == 0, result
    assert f"Passing over checkpoint {newest.name}" in result.err
    assert f"Going on from step {STEPS - EVERY}." in result.out
    assert intact(catch_run) == STEPS


def test_eval_falls_back_as_well_and_names_the_checkpoint_that_played(
    playfield: CommandLine, catch_run: Path
) -> None:
    alter(checkpoints(catch_run)[-1] / "state.safetensors")
    result = playfield("eval", "catch", "--episodes", "2", "--threads", "1")
    assert result.code == 0
    assert "Passing over checkpoint 000000000120" in result.err
    assert "checkpoint of step 80" in result.out


def test_a_checkpoint_asked_for_by_name_is_not_replaced_by_another(
    playfield: CommandLine, catch_run: Path
) -> None:
    alter(checkpoints(catch_run)[-1] / "state.safetensors")
    sentence = playfield.refuses("eval", "catch", "--checkpoint", "120")
    assert "state.safetensors" in sentence


def test_a_run_without_an_intact_checkpoint_says_so(
    playfield: CommandLine, catch_run: Path
) -> None:
    for path in checkpoints(catch_run):
        truncate(path / "state.safetensors")
    assert "no intact checkpoint" in playfield.refuses("resume", "catch", "--steps", "200")
    for path in checkpoints(catch_run):
        shutil.rmtree(path)
    assert "no checkpoint" in playfield.refuses("eval", "catch")


def test_a_finished_run_says_how_to_go_on(playfield: CommandLine, catch_run: Path) -> None:
    sentence = playfield.refuses("resume", "catch")
    assert "has finished" in sentence and "--steps" in sentence


def test_a_run_under_way_is_not_resumed_a_second_time(
    playfield: CommandLine, catch_run: Path
) -> None:
    from playfield.training.run import Run

    with Run.open("catch", playfield.root).hold():
        sentence = playfield.refuses("resume", "catch", "--steps", "200")
    assert "another process" in sentence


# --- signals, in a process of its own ---


class Training:
    """`playfield train` in a process of its own, far from its end."""

    def __init__(self, root: Path, *extra: str) -> None:
        self.folder = root / "run"
        self.log = root.parent / "log"
        command = [sys.executable, "-m", "playfield.cli", "train", "dqn", *TINY, "--run", "run"]
        budget = ["--steps", "100000000", "--root", str(root), *extra]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([*command, *budget], stdout=log, stderr=log)

    def __enter__(self) -> Training:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def wait_for(self, what: Callable[[], object]) -> None:
        while not what():
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.01)

    def is_training(self) -> bool:
        return "steps/s" in self.log.read_text()

    def is_saved(self) -> bool:
        return bool(checkpoints(self.folder))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_saves_what_was_learnt_and_says_how_to_resume(
    root: Path, playfield: CommandLine, number: signal.Signals
) -> None:
    with Training(root) as training:
        training.wait_for(training.is_training)
        training.process.send_signal(number)
        assert training.process.wait() == 128 + number
    log = training.log.read_text()
    saved = re.search(r"Saved at step ([\d,]+)\. Resume with: playfield resume run", log)
    assert saved, log
    assert "Traceback" not in log
    progress = int(saved[1].replace(",", ""))
    assert intact(training.folder) == progress
    result = playfield("resume", "run", "--steps", str(progress + 10), "--threads", "1")
    assert result.code == 0, result
    assert f"Going on from step {progress:,}." in result.out


def test_two_signals_end_at_once_and_leave_what_was_saved(root: Path) -> None:
    with Training(root, "--checkpoint-every", "50") as training:
        training.wait_for(training.is_saved)
        saved = intact(training.folder)
        training.process.send_signal(signal.SIGINT)
        training.process.send_signal(signal.SIGINT)
        # The second may find the first already obeyed and Python on its way out.
        assert training.process.wait() in (130, -signal.SIGINT)
    progress = intact(training.folder)
    assert saved is not None and progress is not None and progress >= saved


def test_an_interrupt_before_training_begins_is_quiet(root: Path) -> None:
    with Training(root) as training:
        time.sleep(0.3)  # somewhere between the start of Python and the first step
        training.process.send_signal(signal.SIGINT)
        code = training.process.wait()
    assert code in (130, -signal.SIGINT)
    assert code != 130 or "Traceback" not in training.log.read_text()


def test_a_killed_run_goes_on_from_its_last_checkpoint(root: Path, playfield: CommandLine) -> None:
    with Training(root, "--checkpoint-every", "50") as training:
        training.wait_for(lambda: len(checkpoints(training.folder)) > 1)
        training.process.kill()
        training.process.wait()
    progress = intact(training.folder)
    assert progress is not None
    assert playfield("runs").out.splitlines()[1].split()[-1] == "interrupted"
    steps = str(progress + 10)
    result = playfield("resume", "run", "--steps", steps, "--threads", "1")
    assert result.code == 0, result
    assert f"Going on from step {progress:,}." in result.out
    assert intact(training.folder) == progress + 10
    # The curves neither overlap nor gap: what was written after the checkpoint is cut off.
    lines = (training.folder / "metrics.jsonl").read_text().splitlines()
    written = [json.loads(line)["progress"] for line in lines]
    assert written == sorted(written)
    assert written[-1] == progress + 10


def _size(path: Path) -> int:
    return path.stat().st_size
