"""`playfield tensorboard [RUN ...]`: TensorBoard on the curves of runs."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import io
import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import tyro

from playfield.commands import arguments
from playfield.commands.notes import report
from playfield.errors import UserError
from playfield.training.places import runs_root
from playfield.training.signals import raise_at_interrupt

if TYPE_CHECKING:
    from playfield.training.event_file import Damage
    from playfield.training.run import Run

#: Where TensorBoard serves unless told otherwise.
USUAL_PORT = 6006
#: Bytes of event files that are looked at for damage before TensorBoard starts: a second at most.
LOOKED_AT = 100_000_000
#: Addresses that stand for every network this machine is in.
EVERYWHERE = ("0.0.0.0", "::")


@dataclass(frozen=True)
class Options:
    """Serve TensorBoard on all runs, or on those named, and print its address. Ctrl-C ends it."""

    runs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names or folders of runs; none: all."""
    port: int | None = None
    """Port of the web page; 0: any that is free; not given: the first free one from 6006 on."""
    host: str = "localhost"
    """Address to serve on; 0.0.0.0 lets other machines in."""
    root: Path = field(default_factory=runs_root)
    """Folder that runs are kept in."""


def run(args: Sequence[str]) -> int:
    options = arguments.parse(Options, args, command="tensorboard")
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError("TensorBoard is not installed here: pip install tensorboard.")
    if options.port is not None and not 0 <= options.port <= 65535:
        raise UserError(f"--port has to lie between 0 and 65535, and is {options.port}.")
    told = tensorboard_arguments(options)
    if options.port is not None:
        check_address(options.host, options.port)
    shown = ", ".join(options.runs) or str(options.root)
    print(f"Starting TensorBoard on {shown} ...", flush=True)
    for sentence in unseen(_chosen(options)):
        report(sentence)
    port = serve(told, options)
    raise_at_interrupt()
    if options.port is None and port != USUAL_PORT:
        print(f"Port {USUAL_PORT} is in use, so it is {port} this time.")
    for line in addresses(options.host, port, os.environ):
        print(line)
    print("Ctrl-C ends it.", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
    return 0


def tensorboard_arguments(options: Options) -> list[str]:
    """What TensorBoard is told. Raises `UserError` for a run that does not exist."""
    at = ["--host", options.host]
    if options.port is not None:
        at += ["--port", str(options.port)]
    if not options.runs:
        if not options.root.is_dir():
            raise UserError(
                f"There are no runs in {options.root}: start one with `playfield train`, or name "
                "another folder with --root."
            )
        return ["--logdir", str(options.root), *at]

    chosen = [each.folder.resolve() for each in _chosen(options)]
    # --logdir takes one folder; --logdir_spec takes several, separated by what can't be in a name.
    barred = [folder for folder in chosen if any(mark in str(folder) for mark in ",:")]
    if barred and len(chosen) > 1:
        raise UserError(
            f"TensorBoard can't compare runs whose path has a comma or colon: {barred[0]}."
        )
    if barred:
        return ["--logdir", str(barred[0]), *at]
    # For one run too: as the --logdir itself it would be called "." and its settings have no
    # metrics beside them.
    spec = ",".join(f"{name}:{folder}" for folder, name in told_apart(chosen).items())
    return ["--logdir_spec", spec, *at]


def _chosen(options: Options) -> list[Run]:
    """The runs that are named, each once, or all; `UserError` for one that does not exist."""
    from playfield.training.run import Run, list_runs

    if not options.runs:
        return list_runs(options.root, report)
    opened = [Run.open(name, options.root) for name in options.runs]
    return list({each.folder.resolve(): each for each in opened}.values())


def unseen(runs: Sequence[Run], most_bytes: int = LOOKED_AT) -> Iterator[str]:
    """One sentence for each of `runs` of which TensorBoard does not show all that was logged.

    TensorBoard itself says nothing of it. Files are looked at as long as there are no more than
    `most_bytes` of them, in the order of `runs`; one that would be too much is passed over.
    """
    from playfield.training.event_file import PATTERN, find_damage

    for each in runs:
        files = sorted(each.folder.glob(PATTERN))
        if not files:
            yield f"Run {each.name!r} has no event file (yet), so TensorBoard shows nothing of it."
        for path in files:
            try:
                size = path.stat().st_size
                if size > most_bytes:
                    continue
                most_bytes -= size
                damage = find_damage(path)
            except OSError as error:
                yield f"Run {each.name!r}: {path.name} can't be read ({error.strerror})."
                break
            if damage is None or (damage.torn and path == files[-1] and each.status == "running"):
                continue
            yield _told(each.name, path, damage)
            break


def _told(name: str, path: Path, damage: Damage) -> str:
    if damage.step is None:
        return f"Run {name!r}: {path.name} is empty or no event file: TensorBoard shows none of it."
    return (
        f"Run {name!r}: {path.name} is damaged after step {damage.step:,}: TensorBoard shows what "
        "is before it."
    )


def told_apart(folders: Sequence[Path]) -> dict[Path, str]:
    """The name of each absolute folder, behind as many of the folders it is in as tell it apart.

    TensorBoard merges the curves of runs that share a name.
    """
    names = {}
    for folder in folders:
        parts = folder.parts[1:]  # without the root: a name can't begin with a slash
        others = [other.parts[1:] for other in folders if other != folder]
        taken = 1
        while taken < len(parts) and any(each[-taken:] == parts[-taken:] for each in others):
            taken += 1
        names[folder] = "/".join(parts[-taken:])
    return names


def serve(told: Sequence[str], options: Options) -> int:
    """Start TensorBoard in a thread of this process, as `told`, and return its port.

    It ends with this process, and so does the process of its own that reads the files. Raises
    `UserError` where it can't listen at the address.
    """
    from tensorboard import program

    board = program.TensorBoard()
    try:
        # Its notes on how it loads files are nothing that a user could act on.
        with contextlib.redirect_stderr(io.StringIO()):
            board.configure(["tensorboard", *told])
            url = board.launch()
    except program.TensorBoardPortInUseError as error:
        raise _in_use(options.port) from error
    except program.TensorBoardServerException as error:
        raise UserError(f"{error.msg}: choose another --host or --port.") from error
    except OSError as error:
        raise _no_address(options.host, error) from error
    port = urlsplit(url).port
    assert port is not None  # TensorBoard always names it
    return port


def check_address(host: str, port: int) -> None:
    """Raise `UserError` if nothing can listen there; TensorBoard says so only seconds later."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET  # as TensorBoard chooses
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise _in_use(port) from error
        if error.errno == errno.EACCES:
            raise UserError(
                f"Port {port} is kept for root here: choose one from 1024 on."
            ) from error
        raise _no_address(host, error) from error


def _in_use(port: int | None) -> UserError:
    return UserError(
        f"Port {port} is in use here, perhaps by another TensorBoard: choose another with --port, "
        "or leave --port out for the first free one."
    )


def _no_address(host: str, error: OSError) -> UserError:
    return UserError(
        f"Can't serve on {host} ({error.strerror}): --host takes an address of this machine, "
        "localhost for this machine alone or 0.0.0.0 for all."
    )


def addresses(host: str, port: int, environment: Mapping[str, str]) -> list[str]:
    """Lines that say where a page served on `host` is found, from here and from elsewhere.

    Nothing is opened: the machine that trains is often one without a browser, and then the reader
    sits before another. `environment` tells of a login over SSH by `SSH_CONNECTION`, which holds
    the address and port of either side.
    """
    if host in EVERYWHERE:
        others = f"http://{_outer_address()}:{port}/"
        return [
            f"  on this machine:     http://localhost:{port}/",
            f"  from other machines: {others}",
        ]
    lines = [f"  http://{f'[{host}]' if ':' in host else host}:{port}/"]
    login = environment.get("SSH_CONNECTION", "").split()
    if len(login) == 4 and host in ("localhost", "127.0.0.1", "::1"):
        tunnel = f"ssh -N -L {port}:localhost:{port} {login[2]}"
        lines.append(f"  on the machine before you, after `{tunnel}` there: the same address")
    return lines


def _outer_address() -> str:
    """The address by which others in the network reach this machine, or else its name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as chosen:
        try:
            # Sends nothing: it asks which of our addresses a packet to a stranger would bear.
            # 192.0.2.1 is kept free for examples (RFC 5737).
            chosen.connect(("192.0.2.1", 9))
            return str(chosen.getsockname()[0])
        except OSError:
            return socket.gethostname()
