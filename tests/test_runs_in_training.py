"""What reads a run while another process trains it: eval, watch, explain, report, runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import TINY, CommandLine, catch_run, playfield
from PIL import Image

from playfield.evaluation.results import read_evaluations
from playfield.training.checkpoint import list_checkpoints
from playfield.training.run import Run

__all__ = ["catch_run", "playfield"]  # fixtures

#: It writes curves, films and checkpoints as fast as it can, and keeps no more than it has to.
BUSY = (
    *(*TINY, "--steps", "10000000", "--checkpoint-every", "40", "--keep-checkpoints", "1"),
    *("--evaluate-episodes", "2", "--evaluate-every", "80"),
)


@pytest.fixture
def live(playfield: CommandLine, tmp_path: Path) -> Iterator[Run]:
    """The run "live", which a process of its own is training, with a checkpoint or more."""
    program = "import sys; from playfield.cli import main; sys.exit(main(sys.argv[1:]))"
    command = ["train", "dqn", *BUSY, "--run", "live", "--root", str(playfield.root)]
    with (tmp_path / "printed").open("w") as printed:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *command], stdout=printed, stderr=printed
        )
    try:
        folder = playfield.root / "live"
        while not list_checkpoints(folder / "checkpoints"):  # pytest's own limit ends this
            assert process.poll() is None, (tmp_path / "printed").read_text()
            time.sleep(0.1)
        yield Run.open("live", playfield.root)
        assert process.poll() is None, (tmp_path / "printed").read_text()
    finally:
        process.kill()
        process.wait()


def newest(run: Run) -> int:
    return int(list_checkpoints(run.checkpoints_folder)[-1].name)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # it shares the machine with what it watches
@pytest.mark.skipif(os.name != "posix", reason="locks are POSIX")
def test_a_run_in_training_is_played_watched_explained_and_reported(
    playfield: CommandLine, live: Run, tmp_path: Path
) -> None:
    page, film = tmp_path / "report.html", tmp_path / "film.gif"
    commands = {
        "eval": ("live", "--episodes", "2", "--threads", "1"),
        "watch": ("live", "--steps", "3", "--overlay", "saliency", "--video", str(film)),
        "explain": ("live", "--moments", "2"),
        "report": ("live", "-o", str(page), "--film", "1"),
        "runs": (),
    }
    for name, args in commands.items():
        before = newest(live)
        result = playfield(name, *args)
        assert result.code == 0, result
        assert result.err == "", result
        if name == "eval":
            (evaluation,) = read_evaluations(live.folder / "evaluation.json")
            assert before <= evaluation.progress <= newest(live)
    with Image.open(film) as pictures:
        assert pictures.n_frames == 4  # type: ignore[attr-defined]
    index = json.loads((live.folder / "explained" / "moments.json").read_text())
    assert len(index["moments"]) == 2
    assert "data:image/gif" in page.read_text()
    assert live.status == "running"


def test_a_run_that_another_holds_is_read_and_not_trained(
    playfield: CommandLine, catch_run: Path, tmp_path: Path
) -> None:
    with Run.open("catch", playfield.root).hold():
        assert "is being trained by another process" in playfield.refuses("resume", "catch")
        for name, *args in (
            ("eval", "catch", "--episodes", "1", "--threads", "1"),
            ("watch", "catch", "--steps", "1", "--video", str(tmp_path / "film.gif")),
            ("explain", "catch", "--moments", "1"),
            ("report", "catch", "-o", str(tmp_path / "report.html")),
        ):
            result = playfield(name, *args)
            assert result.code == 0, result
    with Run.open("catch", playfield.root).hold():
        pass  # and none of them has kept it


@pytest.mark.parametrize("command", ["eval", "watch", "explain"])
def test_the_only_checkpoint_may_be_replaced_while_it_is_opened(
    playfield: CommandLine,
    catch_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    from playfield.training import checkpoint

    older, newer = list_checkpoints(catch_run / "checkpoints")
    hidden = newer.rename(tmp_path / newer.name)
    listed = checkpoint.list_checkpoints

    def then_train(folder: Path) -> list[Path]:
        found = listed(folder)
        if hidden.exists():
            hidden.rename(newer)
            older.rename(tmp_path / "pruned")
        return found

    monkeypatch.setattr(checkpoint, "list_checkpoints", then_train)
    args = {"eval": ["--episodes", "1", "--threads", "1"], "explain": ["--moments", "1"]}
    film = ["--steps", "1", "--video", str(tmp_path / "film.gif")]
    result = playfield(command, "catch", *args.get(command, film))
    assert result.code == 0 and result.err == "", result
    assert "step 120" in result.out
