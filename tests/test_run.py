"""Run folders: never overwritten, found again by name, and honest about damage."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_trainer import manifest

from playfield.errors import DamagedFileError, UserError
from playfield.training.machine import git_commit, hardware, versions
from playfield.training.run import Run, list_runs, new_manifest


def test_a_run_is_opened_by_name_or_path_as_it_was_created(tmp_path: Path) -> None:
    created = Run.create(tmp_path / "runs", "first", manifest())
    assert created.checkpoints_folder.is_dir()
    for name in ("first", str(created.folder)):
        opened = Run.open(name, tmp_path / "runs")
        assert opened.name == "first"
        assert opened.manifest == manifest()
        assert opened.metrics_path.parent == created.folder


def test_a_run_without_a_name_is_named_by_what_and_when(tmp_path: Path) -> None:
    runs = [Run.create(tmp_path, None, manifest()) for _ in range(3)]
    assert len({run.name for run in runs}) == 3
    assert all(re.fullmatch(r"dqn-pong-\d{8}-\d{6}(-[23])?", run.name) for run in runs)


@pytest.mark.parametrize(
    ("env", "game"),
    [
        ("PongNoFrameskip-v4", "pong"),
        ("ALE/SpaceInvaders-v5", "space-invaders"),
        ("CartPole-v1", "cart-pole"),
        ("playfield/Catch", "catch"),
    ],
)
def test_the_game_in_the_name_is_short(tmp_path: Path, env: str, game: str) -> None:
    run = Run.create(tmp_path, None, {**manifest(), "env": env})
    assert run.name.startswith(f"dqn-{game}-2")


def test_an_existing_run_is_never_overwritten(tmp_path: Path) -> None:
    Run.create(tmp_path, "first", manifest())
    with pytest.raises(UserError, match="'first' exists already: resume it"):
        Run.create(tmp_path, "first", {**manifest(), "seed": 9})
    assert Run.open("first", tmp_path).manifest["seed"] == 0


@pytest.mark.parametrize("name", ["a/b", "..", ".", "", "/tmp/x", "a\\b", "-x", ".x", "a b", "a\n"])
def test_a_name_that_is_no_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="can't be a folder's"):
        Run.create(tmp_path, name, manifest())
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_a_user_s_matter(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        Run.create(tmp_path / "file", "x", manifest())
    with pytest.raises(UserError, match="Can't write the run"):
        Run.create(Path("/proc/playfield"), "x", manifest())


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_no_permission_is_a_user_s_matter(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="Permission denied"):
        Run.create(tmp_path, "x", manifest())


def test_a_run_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    for name in ("pong-fast", "breakout"):
        Run.create(tmp_path, name, manifest())
    with pytest.raises(UserError, match="did you mean pong-fast"):
        Run.open("pong-fats", tmp_path)
    for name in ("zzz", "", ".", ".."):
        with pytest.raises(UserError, match="see `playfield runs`"):
            Run.open(name, tmp_path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": "0"}, "'seed' should be int, not str"),
        ({"seed": True}, "'seed' should be int, not bool"),
        ({"config": None}, "'config' should be dict"),
        ({"algorithm": 3}, "'algorithm' should be str"),
        ({"git": "x"}, "'git' should be dict or null"),
        ({"progress": 1.5}, "'progress' should be int"),
    ],
)
def test_damage_to_the_manifest_names_the_field(
    tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    run = Run.create(tmp_path, "first", manifest())
    (run.folder / "run.json").write_text(json.dumps({**manifest(), **change}))
    with pytest.raises(DamagedFileError, match=named):
        Run.open("first", tmp_path)


def test_a_missing_field_a_truncated_file_and_a_newer_format_are_told_apart(
    tmp_path: Path,
) -> None:
    run = Run.create(tmp_path, "first", manifest())
    path = run.folder / "run.json"
    whole = path.read_text()
    path.write_text(json.dumps({k: v for k, v in manifest().items() if k != "protocol"}))
    with pytest.raises(DamagedFileError, match="'protocol' is missing"):
        Run.open("first", tmp_path)
    path.write_text(whole[:-9])
    with pytest.raises(DamagedFileError, match="it is no JSON"):
        Run.open("first", tmp_path)
    path.write_text(json.dumps({**manifest(), "format": 99}))
    with pytest.raises(UserError, match=r"format 99.*update playfield"):
        Run.open("first", tmp_path)


def test_updates_of_the_manifest_last_and_leave_no_litter(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "first", manifest())
    run.update_manifest(status="finished", progress=10, minutes=0.5)
    assert Run.open("first", tmp_path).manifest["progress"] == 10
    assert sorted(p.name for p in run.folder.iterdir()) == ["checkpoints", "run.json"]
    with pytest.raises(DamagedFileError, match="'progress'"):
        run.update_manifest(progress="ten")
    assert run.manifest["progress"] == 10


def test_a_run_that_was_made_holds_what_a_reader_of_it_gets(tmp_path: Path) -> None:
    made = Run.create(tmp_path, "first", {**manifest(), "config": {"shape": (1, 8, 8)}})
    assert made.manifest == Run.open("first", tmp_path).manifest
    made.update_manifest(training={"betas": (0.5, 0.99)})
    assert made.manifest == Run.open("first", tmp_path).manifest


def test_runs_are_listed_newest_first_without_the_damaged(tmp_path: Path) -> None:
    for name, day in (("old", 1), ("new", 2), ("broken", 3)):
        Run.create(tmp_path, name, {**manifest(), "created": f"2026-01-0{day}T00:00:00+00:00"})
    (tmp_path / "broken" / "run.json").write_text("{")
    (tmp_path / "README.md").write_text("not a run")
    told: list[str] = []
    assert [run.name for run in list_runs(tmp_path, told.append)] == ["new", "old"]
    assert len(told) == 1
    assert "broken" in told[0]
    assert list_runs(tmp_path / "absent", told.append) == []


HOLD = """
import sys
from pathlib import Path
from playfield.training.run import Run
with Run.open(sys.argv[1], Path("/")).hold():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_process_at_a_time_trains_a_run(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "first", manifest())
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert run.status == "running"
        with pytest.raises(UserError, match="another process"), run.hold():
            pass
        holder.kill()  # the lock dies with the process
    assert run.status == "interrupted"
    with run.hold():
        pass
    run.update_manifest(status="finished")
    assert run.status == "finished"


def test_a_new_manifest_says_what_it_was_made_with(tmp_path: Path) -> None:
    made = new_manifest(
        command=["playfield"],
        algorithm="dqn",
        preset="pong",
        env="ALE/Pong-v5",
        protocol={},
        config={},
        training={},
        seed=1,
        device="cpu",
    )
    Run.create(tmp_path, "first", made)
    assert made["versions"]["torch"] == versions()["torch"]
    assert made["hardware"]["cores"] == hardware()["cores"] >= 1


def test_the_commit_is_that_of_the_package_s_own_tree(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "file").write_text("1")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    clean = git_commit(tmp_path)
    assert clean is not None
    assert re.fullmatch(r"[0-9a-f]{40}", clean["commit"])
    assert clean["dirty"] is False
    (tmp_path / "file").write_text("2")
    changed = git_commit(tmp_path)
    assert changed is not None
    assert changed["dirty"] is True


def test_a_run_is_named_briefly_in_the_usual_place_and_by_its_folder_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAYFIELD_RUNS", str(tmp_path / "runs"))
    assert Run(tmp_path / "runs" / "first", {}).argument == "first"
    elsewhere = tmp_path / "elsewhere" / "first"
    assert Run(elsewhere, {}).argument == str(elsewhere)
