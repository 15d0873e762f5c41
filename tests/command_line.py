"""What the tests of the command line share: a way to call it, and one small trained run."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from playfield.cli import main

#: Settings that train DQN on Catch in about a second, with updates and several checkpoints.
TINY = (
    *("--env", "playfield/Catch-v0", "--num-envs", "2", "--hidden", "8", "--buffer-size", "400"),
    *("--learning-starts", "40", "--batch-size", "8", "--update-every", "8", "--threads", "1"),
    *("--evaluate-episodes", "0", "--log-every", "20", "--device", "cpu"),
)
STEPS, EVERY = 120, 40  # of the run that `catch_run` copies: checkpoints at 80 and 120


@dataclass(frozen=True)
class Result:
    """What a command line came to."""

    code: int
    out: str
    err: str


class CommandLine:
    """Calls `playfield` in this process, with `root` for its runs."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self._capsys = capsys

    def __call__(self, *args: str) -> Result:
        self._capsys.readouterr()
        code = main(args)
        out, err = self._capsys.readouterr()
        return Result(code, out, err)

    def refuses(self, *args: str) -> str:
        """The sentence with which the command line refuses `args`: one line, code 2."""
        result = self(*args)
        assert result.code == 2, result
        lines = [line for line in result.err.splitlines() if line]
        assert lines and lines[-1].startswith("playfield: "), result
        assert "Traceback" not in result.err
        return lines[-1]


@pytest.fixture
def playfield(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    """The command line, keeping its runs in a folder of this test's own."""
    root = tmp_path / "runs"
    monkeypatch.setenv("PLAYFIELD_RUNS", str(root))
    return CommandLine(root, capsys)


@pytest.fixture
def catch_run(playfield: CommandLine) -> Iterator[Path]:
    """A trained run named `catch`, as a copy that the test may damage."""
    folder = playfield.root / "catch"
    shutil.copytree(_trained(), folder)
    yield folder


@functools.cache
def _trained() -> Path:
    keep = tempfile.TemporaryDirectory(prefix="playfield-tests-")
    _kept.append(keep)
    root = Path(keep.name)
    steps = ("--steps", str(STEPS), "--checkpoint-every", str(EVERY))
    assert main(["train", "dqn", *TINY, *steps, "--run", "catch", "--root", str(root)]) == 0
    return root / "catch"


_kept: list[tempfile.TemporaryDirectory[str]] = []  # removed when the tests end
