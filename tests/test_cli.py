"""The command line itself: help, dispatch, exit codes, options made of dataclasses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from command_line import STEPS, CommandLine, catch_run, playfield

from playfield import cli
from playfield.commands import arguments
from playfield.commands.arguments import nearest, value_of
from playfield.commands.runs import described
from playfield.commands.table import aligned
from playfield.commands.tensorboard import Options as TensorBoardOptions
from playfield.commands.tensorboard import tensorboard_arguments
from playfield.errors import UserError
from playfield.training.run import Run

__all__ = ["catch_run", "playfield"]  # fixtures


def test_help_imports_neither_torch_nor_gymnasium_nor_the_option_parser() -> None:
    code = (
        "import sys; from playfield.cli import main; main(['--help']); main([]); "
        "print(*sorted({'torch', 'gymnasium', 'numpy', 'tyro', 'rich', 'ale_py'} & "
        "set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""
    assert "playfield COMMAND" in done.stdout


def test_every_command_has_its_line_in_the_help_and_a_file(playfield: CommandLine) -> None:
    shown = playfield("--help").out
    for name in cli.COMMANDS:
        assert f"  {name} " in shown
        assert (Path(cli.__file__).parent / "commands" / f"{name.replace('-', '_')}.py").is_file()


@pytest.mark.parametrize("command", [*cli.COMMANDS, "train dqn"])
def test_every_command_explains_itself(playfield: CommandLine, command: str) -> None:
    result = playfield(*command.split(), "--help")
    assert result.code == 0
    assert "usage: playfield " + command.split()[0] in result.out
    assert result.err == ""


@dataclass(frozen=True)
class Wordy:
    """Options that say much."""

    first: int = 1
    """One line, then
    another: `quoted`, then
    0.05 and
    `more` of it."""
    second: int = 2
    """A paragraph.

    And its
    neighbour."""


def test_the_lines_of_a_docstring_flow_together_in_the_help(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        arguments.parse(Wordy, ["--help"], command="wordy")
    shown = [" ".join(line.strip(" │").split()) for line in capsys.readouterr().out.splitlines()]
    assert (
        "--first INT One line, then another: `quoted`, then 0.05 and `more` of it. (default: 1)"
        in shown
    )
    paragraph = shown.index("--second INT A paragraph.")
    assert shown[paragraph + 1 : paragraph + 3] == ["", "And its neighbour. (default: 2)"]


def test_the_config_docstrings_are_the_help(playfield: CommandLine) -> None:
    shown = " ".join(playfield("train", "dqn", "--help").out.split())
    assert "Rewards summed before bootstrapping." in shown
    assert "--n-step INT" in shown


def test_settings_that_algorithms_share_have_parts_of_the_help_to_themselves(
    playfield: CommandLine,
) -> None:
    shown = playfield("train", "dqn", "--help").out
    _, *named = re.split(r"([\w.]+) options ", shown)
    parts = dict(zip(named[::2], named[1::2], strict=True))
    for option in ("--optimizer", "--learning-rate", "--schedule", "--max-grad-norm"):
        assert f" {option} " in parts["agent.optimizer"]
    for option in ("--encoder", "--width", "--norm", "--dropout"):
        assert f" {option} " in parts["agent.encoder"]


def test_a_preset_supplies_the_defaults_that_the_help_shows(playfield: CommandLine) -> None:
    shown = " ".join(playfield("train", "dqn", "--preset", "catch", "--help").out.split())
    assert "(default: playfield/Catch-v0)" in shown


def test_version_is_the_package_s(playfield: CommandLine) -> None:
    from importlib import metadata

    assert playfield("--version").out == f"playfield {metadata.version('playfield')}\n"


def test_a_users_mistake_has_a_traceback_with_debug_only(playfield: CommandLine) -> None:
    playfield.refuses("eval", "missing")
    with pytest.raises(UserError):
        cli.main(["eval", "missing", "--debug"])


def test_an_interrupt_is_quiet(playfield: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(args: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_dispatch", interrupt)
    result = playfield("list")
    assert (result.code, result.out, result.err) == (130, "", "")


def test_a_closed_pipe_is_quiet() -> None:
    command = [sys.executable, "-m", "playfield.cli", "list", "envs"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == cli.EXIT_BROKEN_PIPE


# --- options ---


@dataclass(frozen=True)
class Inner:
    learning_rate: float = 0.5
    """How far."""
    double: bool = False
    """Twice."""


@dataclass(frozen=True)
class Outer:
    """Something to configure."""

    inner: Inner = Inner()
    """Inside."""
    steps: int = 3
    """How long."""


def test_options_of_nested_dataclasses_are_flat() -> None:
    read = arguments.parse(Outer, ["--learning-rate", "2", "--steps", "7"], command="x")
    assert read == Outer(Inner(learning_rate=2.0), steps=7)


def test_a_default_is_kept_where_no_option_overrides_it() -> None:
    default = Outer(Inner(learning_rate=9.0, double=True))
    assert arguments.parse(Outer, ["--no-double"], command="x", default=default) == Outer(
        Inner(learning_rate=9.0)
    )


def test_an_unknown_option_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"--learning-rat .*did you mean --learning-rate\?"):
        arguments.parse(Outer, ["--learning-rat=3"], command="x")


def test_an_unknown_option_far_from_all_others_is_answered_without_a_guess() -> None:
    with pytest.raises(UserError, match=r"--zzz is not an option; `playfield x --help`"):
        arguments.parse(Outer, ["--zzz", "3"], command="x")


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--steps", "many"], "--steps"),
        (["--steps", "1.5"], "--steps"),
        (["--steps"], "--steps"),
        (["more"], "'more' is one argument too many"),
    ],
)
def test_a_wrong_value_is_named_in_one_sentence(args: list[str], named: str) -> None:
    with pytest.raises(UserError) as caught:
        arguments.parse(Outer, args, command="x")
    sentence = str(caught.value)
    assert named in sentence
    assert "\n" not in sentence and "│" not in sentence
    assert sentence.endswith("`playfield x --help` lists the options.")


def test_the_last_value_of_an_option_counts() -> None:
    args = ["--preset", "a", "--other", "--preset=b"]
    assert value_of("--preset", args) == "b"
    assert value_of("--missing", args) is None


def test_nothing_is_suggested_where_nothing_is_near() -> None:
    assert nearest("pogn", ["pong"]) == " (did you mean pong?)"
    assert nearest("xyz", ["pong"]) == ""


# --- train ---


def test_a_dry_run_prints_the_settings_and_trains_nothing(playfield: CommandLine) -> None:
    result = playfield(
        *("train", "dqn", "--preset", "pong", "--learning-rate", "1e-3", "--steps", "5"),
        *("--seed", "4", "--dry-run"),
    )
    settings = json.loads(result.out)
    assert result.code == 0
    assert settings["env"] == "PongNoFrameskip-v4"
    assert settings["protocol"] == "nature"
    assert settings["config"]["optimizer"]["learning_rate"] == 1e-3
    assert settings["config"]["n_step"] == 3  # the preset's
    assert (settings["training"]["steps"], settings["seed"]) == (5, 4)
    assert not playfield.root.exists()


def test_an_option_beside_a_preset_overrides_it_in_any_order(playfield: CommandLine) -> None:
    before = playfield("train", "dqn", "--n-step", "7", "--preset", "pong", "--dry-run")
    after = playfield("train", "dqn", "--preset", "pong", "--n-step", "7", "--dry-run")
    assert json.loads(before.out) == json.loads(after.out)
    assert json.loads(after.out)["config"]["n_step"] == 7


# --- runs and list ---


def test_runs_shows_how_far_each_run_is_and_what_it_scores(
    playfield: CommandLine, catch_run: Path
) -> None:
    header, line = playfield("runs").out.splitlines()
    assert header.split() == "name algorithm on steps done return best eval age state".split()
    assert line.split()[:5] == ["catch", "dqn", "playfield/Catch-v0", f"{STEPS}", "100"]
    assert line.split()[-1] == "finished"


def test_runs_says_what_to_do_when_there_are_none(playfield: CommandLine) -> None:
    result = playfield("runs")
    assert result.code == 0
    assert "playfield train" in result.out


def test_a_damaged_run_is_told_and_the_others_are_listed(
    playfield: CommandLine, catch_run: Path
) -> None:
    broken = playfield.root / "broken"
    broken.mkdir()
    (broken / "run.json").write_text("{")
    result = playfield("runs")
    assert result.code == 0
    assert "catch" in result.out and "broken" not in result.out
    assert "broken" in result.err and "damaged" in result.err


def test_a_killed_run_is_interrupted_and_a_held_one_is_running(catch_run: Path) -> None:
    run = Run.open(str(catch_run), catch_run.parent)
    run.update_manifest(status="running")
    assert described(run).state == "interrupted"
    with run.hold():
        assert described(Run.open(str(catch_run), catch_run.parent)).state == "running"


def test_the_row_takes_the_last_return_and_the_best_evaluation(catch_run: Path) -> None:
    run = Run.open(str(catch_run), catch_run.parent)
    created = datetime(2026, 1, 1, tzinfo=UTC)
    run.update_manifest(created=created.isoformat(), progress=30)
    lines = [
        {"progress": 10, "episode/return_mean": 1.0, "eval/return": 8.0},
        {"progress": 20, "episode/return_mean": 2.5, "eval/return": None},
        {"progress": 30, "train/loss": 1.0, "eval/return": -3.0},
    ]
    run.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    cells = described(run).cells(created + timedelta(hours=3, minutes=5))
    assert cells == (
        *("catch", "dqn", "playfield/Catch-v0", "30", "25 %"),
        *("2.5", "8.0", "3h05m", "finished"),
    )


def test_list_shows_algorithms_environments_and_presets(playfield: CommandLine) -> None:
    everything = playfield("list").out
    assert "dqn" in playfield("list", "algorithms").out
    assert "ALE/Pong-v5" in playfield("list", "envs").out
    assert "PongNoFrameskip-v4" in playfield("list", "presets").out
    for part in ("algorithms", "envs", "presets", "dqn", "ALE/Pong-v5"):
        assert part in everything
    assert "'agents'" in playfield.refuses("list", "agents")


def test_columns_are_aligned_and_numbers_end_together() -> None:
    assert aligned([("a", "1", "x"), ("bcd", "100", "y")], right=(1,)) == [
        "a      1  x",
        "bcd  100  y",
    ]
    assert aligned([]) == []


# --- tensorboard ---


def test_tensorboard_shows_the_whole_folder_or_the_named_runs(
    playfield: CommandLine, catch_run: Path
) -> None:
    root = playfield.root
    whole = tensorboard_arguments(TensorBoardOptions(root=root, port=1234))
    assert whole == ["--logdir", str(root), "--host", "localhost", "--port", "1234"]
    one = tensorboard_arguments(TensorBoardOptions(root=root, runs=("catch",)))
    assert one[:2] == ["--logdir_spec", f"catch:{catch_run}"]
    twice = tensorboard_arguments(TensorBoardOptions(root=root, runs=("catch", "catch")))
    assert twice == one


def test_tensorboard_names_a_run_that_is_missing(playfield: CommandLine, catch_run: Path) -> None:
    assert "did you mean catch" in playfield.refuses("tensorboard", "cath")


def test_tensorboard_without_runs_says_so(playfield: CommandLine) -> None:
    assert "There are no runs" in playfield.refuses("tensorboard")


# --- doctor ---


def test_doctor_finds_this_installation_healthy(playfield: CommandLine) -> None:
    result = playfield("doctor")
    assert result.code == 0, result.out
    assert "BROKEN" not in result.out
    for name in ("kernels", "device", "threads", "atari", "training", "video"):
        assert f"ok      {name}" in result.out


def test_doctor_says_what_to_do_about_what_is_broken(
    playfield: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from playfield.commands import doctor

    healthy = doctor.Check("fine", lambda: "all well", "nothing")
    broken = doctor.Check("ill", lambda: str(1 // 0), "divide by something else")
    monkeypatch.setattr(doctor, "checks", lambda root: [healthy, broken])
    result = playfield("doctor")
    assert result.code == 1
    assert "ok      fine      all well" in result.out
    assert "BROKEN  ill       integer division" in result.out
    assert "-> divide by something else" in result.out


def test_doctor_sees_a_folder_that_cannot_be_written_to(
    playfield: CommandLine, tmp_path: Path
) -> None:
    from playfield.commands.doctor import checks

    (tmp_path / "file").touch()
    (check,) = [check for check in checks(tmp_path / "file") if check.name == "runs"]
    with pytest.raises(UserError, match="can't be written to"):
        check.look()
