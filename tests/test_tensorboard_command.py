"""`playfield tensorboard`: where it serves, what it says of it, and how it ends."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from command_line import CommandLine, catch_run, playfield
from made_runs import make_run

from playfield.commands.tensorboard import Options, addresses, tensorboard_arguments, unseen
from playfield.training import event_file
from playfield.training.run import Run, list_runs

__all__ = ["catch_run", "playfield"]  # fixtures


@contextmanager
def serving(*args: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`playfield tensorboard` in a process of its own, and what it printed once it served."""
    program = "import sys; from playfield.cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "tensorboard", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SSH_CONNECTION": ""},
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        printed = ""
        while "Ctrl-C ends it." not in printed:
            line = process.stdout.readline()
            assert line, f"it ended: {printed}{process.stderr.read()}"
            printed += line
        yield process, printed
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


@contextmanager
def taken(port: int = 0) -> Iterator[int]:
    """A port that somebody listens at: this one, or else any."""
    with socket.create_server(("localhost", port)) as listener:
        yield listener.getsockname()[1]


def address_in(printed: str) -> str:
    (found,) = re.findall(r"http://localhost:\d+/", printed)
    return str(found)


def answer(address: str) -> str:
    with urlopen(address, timeout=60) as reply:
        return str(reply.read().decode())


def children(pid: int) -> list[int]:
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listing.read_text().split()] if listing.exists() else []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, -15)])
def test_it_serves_where_it_says_until_it_is_told_to_end(
    catch_run: Path, number: int, code: int
) -> None:
    with serving("--port", "0") as (process, printed):
        address = address_in(printed)
        while "catch" not in answer(address + "data/runs"):  # pytest's own limit ends this
            time.sleep(0.2)
        readers = children(process.pid)
        process.send_signal(number)
        assert process.wait() == code
        assert process.stderr is not None and process.stderr.read() == ""
        with pytest.raises(URLError):
            answer(address)
        while any(Path(f"/proc/{reader}").exists() for reader in readers):
            time.sleep(0.1)


def test_without_a_port_it_takes_the_next_free_one_and_says_so(catch_run: Path) -> None:
    with ExitStack() as held:
        with suppress(OSError):  # held by somebody else already: as good
            held.enter_context(taken(6006))
        _, printed = held.enter_context(serving("catch"))
        address = address_in(printed)
        assert ":6006/" not in address
        assert "Port 6006 is in use" in printed
        assert "TensorBoard" in answer(address)


def test_a_port_that_is_in_use_is_named_with_what_to_do(
    playfield: CommandLine, catch_run: Path
) -> None:
    with taken() as port:
        said = playfield.refuses("tensorboard", "--port", str(port))
    assert f"Port {port} is in use here" in said and "leave --port out" in said


def test_a_port_that_is_none_is_refused(playfield: CommandLine, catch_run: Path) -> None:
    for port in ("-1", "65536"):
        said = playfield.refuses("tensorboard", f"--port={port}")
        assert "between 0 and 65535" in said and port in said


def test_an_address_of_another_machine_is_refused(playfield: CommandLine, catch_run: Path) -> None:
    # 192.0.2.0/24 is kept for examples (RFC 5737), so it is nobody's.
    said = playfield.refuses("tensorboard", "--host", "192.0.2.1", "--port", "0")
    assert "Can't serve on 192.0.2.1" in said and "0.0.0.0 for all" in said


def test_without_tensorboard_it_says_what_to_install(
    playfield: CommandLine, catch_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install tensorboard" in playfield.refuses("tensorboard")


def shown(root: Path, *names: str) -> dict[Path, str]:
    """The name of each folder in TensorBoard, as its own reader of the option takes it."""
    from tensorboard.backend.event_processing.data_ingester import _parse_event_files_spec

    option, spec, *_ = tensorboard_arguments(Options(runs=names, root=root))
    assert option == "--logdir_spec"
    return {Path(folder): name for folder, name in _parse_event_files_spec(spec).items()}


def test_runs_of_one_name_are_told_apart_by_the_folders_they_are_in(tmp_path: Path) -> None:
    paths = ["x/a", "y/a", "x/same/b", "y/same/b", "c"]
    folders = [make_run(tmp_path, path).resolve() for path in paths]
    # Only as much is said as it takes, and a run named twice is one.
    assert shown(tmp_path, *paths, "x/a") == dict(zip(folders, paths, strict=True))
    assert shown(tmp_path, "x/a", "c") == {folders[0]: "a", folders[4]: "c"}


@pytest.mark.parametrize("mark", [",", ":"])
def test_runs_of_a_name_that_tensorboard_would_split_are_refused_together(
    playfield: CommandLine, mark: str
) -> None:
    for path in (f"x{mark}/a", "y/a"):
        make_run(playfield.root, path)
    said = playfield.refuses("tensorboard", f"x{mark}/a", "y/a")
    assert "comma or colon" in said and f"x{mark}/a" in said


def test_the_address_is_that_of_the_host_it_serves_on() -> None:
    assert addresses("localhost", 6006, {}) == ["  http://localhost:6006/"]
    assert addresses("::1", 81, {}) == ["  http://[::1]:81/"]


def test_served_to_all_it_names_an_address_that_others_can_use() -> None:
    here, elsewhere = addresses("0.0.0.0", 6006, {})
    assert here.endswith("on this machine:     http://localhost:6006/")
    (host,) = re.findall(r"from other machines: http://(.+):6006/$", elsewhere)
    assert host not in ("0.0.0.0", "localhost", "")


def test_over_ssh_where_there_is_no_browser_it_says_how_to_reach_the_page() -> None:
    login = {"SSH_CONNECTION": "198.51.100.7 51034 203.0.113.5 22"}
    _, hint = addresses("localhost", 6007, login)
    assert "ssh -N -L 6007:localhost:6007 203.0.113.5" in hint
    # An address that others reach needs no tunnel.
    assert not any("ssh" in line for line in addresses("0.0.0.0", 6007, login))


# --- what TensorBoard does not show ---


def told_of(root: Path) -> list[str]:
    return list(unseen(sorted(list_runs(root, pytest.fail), key=lambda run: run.name)))


def write_events(folder: Path, steps: range, cut: int = 0, number: int = 1) -> None:
    events = [event_file.scalars(step, 0.0, {"train/loss": 1.0}) for step in steps]
    content = event_file.encode([event_file.version(0.0), *events])
    path = folder / f"events.out.tfevents.{number}.a"
    path.write_bytes(content[: len(content) - cut])


def test_a_run_whose_curves_are_torn_empty_or_missing_is_told(tmp_path: Path) -> None:
    for name in ("1-whole", "2-torn", "3-empty", "4-none", "5-first"):
        make_run(tmp_path, name)
    write_events(tmp_path / "1-whole", range(10))
    write_events(tmp_path / "2-torn", range(1_001), cut=3)
    (tmp_path / "3-empty" / "events.out.tfevents.1.a").touch()
    write_events(tmp_path / "5-first", range(6), cut=9)
    write_events(tmp_path / "5-first", range(6, 9), number=2)
    torn, empty, none, first = told_of(tmp_path)
    assert "Run '2-torn'" in torn and "damaged after step 999: TensorBoard shows what" in torn
    assert "Run '3-empty'" in empty and "is empty" in empty
    assert "Run '4-none' has no event file" in none
    assert "Run '5-first'" in first and "after step 4:" in first


def test_a_record_that_is_being_written_is_no_damage(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "live", status="running")
    write_events(folder, range(10), cut=3)
    with Run.open("live", tmp_path).hold():
        assert told_of(tmp_path) == []
        path = folder / "events.out.tfevents.1.a"
        path.write_bytes(path.read_bytes() + bytes(100))  # nothing writes zeros
        assert "after step 8" in told_of(tmp_path)[0]
    write_events(folder, range(10), cut=3)
    assert "after step 8" in told_of(tmp_path)[0]  # its process has died


def test_more_than_a_second_can_read_is_not_looked_at(tmp_path: Path) -> None:
    for name in ("1-small", "2-large"):
        write_events(make_run(tmp_path, name), range(3 if name == "1-small" else 90), cut=3)
    runs = sorted(list_runs(tmp_path, pytest.fail), key=lambda run: run.name)
    (told,) = unseen(runs, most_bytes=1000)
    assert "1-small" in told


def test_what_is_not_shown_is_told_before_the_page_is_served(catch_run: Path) -> None:
    (path,) = catch_run.glob("events.out.tfevents.*")
    path.write_bytes(path.read_bytes()[:-5])
    with serving("catch", "--port", "0") as (process, printed):
        assert "TensorBoard" in answer(address_in(printed))
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
        assert process.stderr is not None
        (line,) = process.stderr.read().splitlines()
    assert line.startswith("playfield: Run 'catch': events.out.tfevents.")
    assert "is damaged after step 1" in line
