"""What `make test-browser` says on a machine that has no browser and can't be given one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / ".ci" / "browser"


def said(programs: Path) -> str:
    """What the script prints where there is nothing but `programs`; it has to pass."""
    for name in ("bash", "dirname"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    done = subprocess.run(
        [programs / "bash", SCRIPT], env={"PATH": str(programs)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done
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
