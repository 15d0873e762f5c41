"""`playfield runs`: which runs are listed, in which order, and what of them fits a line."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from command_line import CommandLine, playfield
from made_runs import curve, make_run

from playfield.commands import runs
from playfield.training.run import Run

__all__ = ["playfield"]  # a fixture

RETURN = "episode/return_mean"


@pytest.fixture
def several(playfield: CommandLine) -> CommandLine:
    """Five runs of different kinds, each a day newer than the one before."""
    root = playfield.root
    best = {"best": {"progress": 10, "metric": "paint/frechet_distance", "value": 12.5}}
    make_run(root, "old-pong", curve(RETURN, {10: 3.0, 20: -5.0}), progress=20)
    make_run(
        root,
        "breakout",
        curve(RETURN, {10: 100.0}) + curve("eval/return", {10: 7.0}),
        env="ALE/Breakout-v5",
        algorithm="ppo",
        created="2026-01-02T00:00:00+00:00",
        progress=900,
    )
    make_run(
        root,
        "flow-digits",
        data={"name": "digits"},
        algorithm="flow",
        checkpoints=best,
        created="2026-01-03T00:00:00+00:00",
        progress=500,
    )
    make_run(
        root,
        "judge",
        curve("classify/accuracy", {1: 0.5, 2: 0.9, 3: 0.8}),
        data={"name": "digits"},
        algorithm="classifier",
        held_out={},
        created="2026-01-04T00:00:00+00:00",
        status="failed",
    )
    make_run(root, "new-pong", None, created="2026-01-05T00:00:00+00:00", status="stopped")
    return playfield


def names(several: CommandLine, *args: str) -> list[str]:
    result = several("runs", *args)
    assert result.code == 0
    return [line.split()[0] for line in result.out.splitlines()[1:]]


def test_the_newest_run_comes_first(several: CommandLine) -> None:
    assert names(several) == ["new-pong", "judge", "flow-digits", "breakout", "old-pong"]
    assert names(several, "--reverse")[0] == "old-pong"


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--name", "pong"], ["new-pong", "old-pong"]),
        (["--name", "*-pong"], ["new-pong", "old-pong"]),
        (["--name", "pong*"], []),
        (["--algorithm", "PPO"], ["breakout"]),
        (["--on", "digits"], ["judge", "flow-digits"]),
        (["--on", "ALE/*"], ["new-pong", "breakout", "old-pong"]),
        (["--state", "failed"], ["judge"]),
        (["--on", "pong", "--state", "finished"], ["old-pong"]),
        (["--limit", "2"], ["new-pong", "judge"]),
    ],
)
def test_filters_let_only_such_runs_through(
    several: CommandLine, args: list[str], expected: list[str]
) -> None:
    if expected:
        assert names(several, *args) == expected
    else:
        assert "None of the 5 runs" in several("runs", *args).out


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("name", ["breakout", "flow-digits", "judge", "new-pong", "old-pong"]),
        ("steps", ["breakout", "flow-digits", "old-pong", "new-pong", "judge"]),
        ("return", ["breakout", "old-pong", "new-pong", "judge", "flow-digits"]),
        ("state", ["judge", "flow-digits", "breakout", "old-pong", "new-pong"]),
        ("best", ["breakout", "judge", "flow-digits", "new-pong", "old-pong"]),
    ],
)
def test_a_column_sorts_and_the_unknown_comes_last(
    several: CommandLine, column: str, expected: list[str]
) -> None:
    assert names(several, "--sort", column) == expected


def test_what_is_unknown_comes_last_in_reverse_too(several: CommandLine) -> None:
    ordered = names(several, "--sort", "return", "--reverse")
    assert ordered == ["old-pong", "breakout", "new-pong", "judge", "flow-digits"]


def test_each_kind_of_run_is_scored_by_its_own_measure(several: CommandLine) -> None:
    shown = several("runs").out
    lines = {line.split()[0]: line.split() for line in shown.splitlines()[1:]}
    assert lines["flow-digits"][6:9] == ["-", "FD", "12.5"]  # no return, but a distance
    assert "90.0" in lines["judge"]  # per cent, of the best of three
    assert lines["old-pong"][6:8] == ["-5.0", "-"]  # the newest return, and no evaluation
    assert lines["breakout"][6:8] == ["100.0", "7.0"]


def test_a_pipe_gets_every_column_and_a_narrow_terminal_whole_names(
    several: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert several("runs").out.splitlines()[0].split()[-2:] == ["age", "state"]
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(runs.sys, "stdout", Terminal())
    assert runs.run([]) == 0
    lines = runs.sys.stdout.getvalue().splitlines()
    assert max(map(len, lines)) <= 60
    assert [line.split()[0] for line in lines[1:]][:2] == ["new-pong", "judge"]
    assert lines[0].split() == ["name", "algorithm", "steps", "return", "best", "eval", "state"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_table_keeps_names_and_states_at_any_width() -> None:
    row = ["x" * 50, "ppo", "Pong", "1", "1 %", "2.0", "3.0", "1h", "finished"]
    (_, line) = runs.table([row], 20)
    assert line.split() == ["x" * 50, "2.0", "finished"]


def test_a_run_still_being_written_is_listed_with_what_it_has(playfield: CommandLine) -> None:
    folder = make_run(playfield.root, "live", curve(RETURN, {10: 4.0}), status="running")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"progress": 20, "episode/return_mean": 9')
    with Run.open("live", playfield.root).hold():
        result = playfield("runs")
    (line,) = result.out.splitlines()[1:]
    assert line.split()[-1] == "running" and " 4.0 " in line
    assert result.err == ""  # half a line at its end is no damage


def test_what_a_crash_tore_is_told_once_for_each_file(playfield: CommandLine) -> None:
    for name in ("torn", "holed", "whole"):
        make_run(playfield.root, name, curve(RETURN, {10: 4.0}), status="running")
    with (playfield.root / "torn" / "metrics.jsonl").open("a") as file:
        file.write('{"progress": 20, "episode/return_mean": 9')
    with (playfield.root / "holed" / "metrics.jsonl").open("ab") as file:
        file.write(bytes(4096) + b"\n")
    (playfield.root / "whole" / "evaluation.json").write_text("[]")
    result = playfield("runs")
    assert result.out.count(" 4.0 ") == result.out.count("interrupted") == 3
    told = sorted(result.err.splitlines())
    assert len(told) == 3
    assert "holed/metrics.jsonl is damaged" in told[0]
    assert "torn/metrics.jsonl ends in half a line" in told[1]
    assert "whole/evaluation.json is damaged" in told[2]
    # Of runs that are not shown nothing is told.
    assert "torn" not in playfield("runs", "--name", "whole").err


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"{" * 2000, b"\xff\xfe{}\n"])
def test_a_run_with_a_damaged_file_of_curves_is_listed_without_a_score(
    playfield: CommandLine, content: bytes
) -> None:
    folder = make_run(playfield.root, "broken")
    (folder / "metrics.jsonl").write_bytes(content)
    (folder / "evaluation.json").write_bytes(content)
    result = playfield("runs")
    (line,) = result.out.splitlines()[1:]
    assert line.split()[5:8] == ["%", "-", "-"]
    assert ("metrics.jsonl" in result.err) == (content != b"")
    assert "evaluation.json is damaged" in result.err


def test_an_evaluation_by_hand_counts_as_one_of_training(playfield: CommandLine) -> None:
    folder = make_run(playfield.root, "played", curve("eval/return", {10: 1.0}))
    entry = {
        "env": "ALE/Pong-v5",
        "protocol": {},
        "checkpoint": "10",
        "progress": 10,
        "episodes": 2,
        "num_envs": 1,
        "seed": 0,
        "epsilon": 0.0,
        "scores": [4.0, 6.0],
        "steps": [1, 1],
        "truncated": 0,
        "finished_at": "2026-01-01T00:00:00+00:00",
    }
    text = json.dumps({"format": 1, "evaluations": [entry]})
    (folder / "evaluation.json").write_text(text)
    assert runs.described(Run.open("played", playfield.root)).best.shown == "5.0"


def test_the_best_evaluation_of_a_long_run_may_be_its_first(playfield: CommandLine) -> None:
    folder = make_run(playfield.root, "long", curve("eval/return", {10: 21.0}))
    with (folder / "metrics.jsonl").open("a") as file:
        games = '{"progress": 20, "episode/return": -21.0, "episode/length": 764.0}\n'
        file.write(games * 300_000)  # 20 MB
        file.write('{"progress": 30, "eval/return": 3.0}\n')
    assert runs.described(Run.open("long", playfield.root)).best.shown == "21.0"


def test_a_wrong_option_is_answered_in_one_sentence(playfield: CommandLine) -> None:
    assert "--limit" in playfield.refuses("runs", "--limit", "0")
    assert "--sort" in playfield.refuses("runs", "--sort", "colour")
    assert "--state" in playfield.refuses("runs", "--state", "tired")


def test_listing_runs_does_not_wait_for_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    make_run(tmp_path, "played", curve("eval/return", {10: 1.0}))
    make_run(tmp_path, "painted", data={"name": "digits"})
    program = (
        "import sys; from playfield.cli import main; "
        f"main(['runs', '--root', {str(tmp_path)!r}]); "
        f"main(['compare', 'played', '--metric', 'eval/return', '--root', {str(tmp_path)!r}]); "
        "assert not {'torch', 'gymnasium', 'matplotlib', 'tensorboard'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
