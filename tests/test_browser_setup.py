"""What `make test-browser` says on a machine that has no browser and can't be given one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / ".ci" / "browser"
SKIPPED = 75  # EX_TEMPFAIL
CLOSING = "=================== 7 passed, 2 skipped in 3.21s ==================="

#: What make tells those it starts, which these tests may be.
FROM_MAKE = {"MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS"}


def said(programs: Path, code: int = SKIPPED, **environment: str) -> str:
    """What the script prints where there is nothing but `programs`; it has to exit with `code`."""
    for name in ("bash", "dirname"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    done = subprocess.run(
        [programs / "bash", SCRIPT],
        env={"PATH": str(programs), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done
    return done.stdout


def script(path: Path, text: str) -> None:
    path.write_text(f"#!{shutil.which('bash')}\n{text}\n")
    path.chmod(0o755)


def test_without_apt_it_is_skipped_and_said_why(tmp_path: Path) -> None:
    assert "SKIPPED: there is no Chromium, and no apt-get" in said(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gets as far as apt-get")
def test_where_apt_fails_it_is_skipped_and_said_why(tmp_path: Path) -> None:
    script(tmp_path / "apt-get", "exit 100")
    assert "SKIPPED: apt-get can't install chromium here" in said(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root needs no sudo")
def test_without_root_it_is_skipped_and_said_what_to_run(tmp_path: Path) -> None:
    script(tmp_path / "apt-get", "exit 0")
    assert "SKIPPED: there is no Chromium, and installing it takes root" in said(tmp_path)


def test_where_a_browser_is_required_to_have_none_is_a_failure(tmp_path: Path) -> None:
    assert "FAILED (REQUIRE_BROWSER=1): there is no" in said(tmp_path, 1, REQUIRE_BROWSER="1")


@pytest.mark.parametrize(("code", "passes"), [(0, True), (SKIPPED, True), (1, False), (5, False)])
def test_make_passes_where_it_was_skipped_and_where_it_passed(
    tmp_path: Path, code: int, passes: bool
) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".ci").mkdir()
    script(tmp_path / ".ci" / "browser", f'echo "with $*"; exit {code}')
    command = ["make", "--old-file=venv", "test-browser", "PYTEST_ARGS=-q -x"]
    mine = {name: value for name, value in os.environ.items() if name not in FROM_MAKE}
    done = subprocess.run(command, cwd=tmp_path, env=mine, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "with -q -x", done
    assert (done.returncode == 0) == passes


@pytest.mark.parametrize(
    ("code", "summary", "passes"),
    [
        (0, ["no check failed"], True),
        (SKIPPED, ["skipped: browser", "no check failed"], True),
        (1, ["failed: browser"], False),
    ],
)
def test_all_checks_together_name_the_browser_if_it_was_skipped(
    tmp_path: Path, code: int, summary: list[str], passes: bool
) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci")
    script(tmp_path / ".ci" / "browser", f"exit {code}")
    script(tmp_path / "make", f'if [[ $1 == test ]]; then echo "{CLOSING}"; fi')
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    done = subprocess.run(
        [tmp_path / ".ci" / "run"], env=environment, capture_output=True, text=True
    )
    assert (done.returncode == 0) == passes, done
    *rest, last = done.stdout.splitlines()
    assert last == CLOSING
    assert rest[rest.index(next(line for line in rest if "tests took" in line)) + 1 :] == summary
