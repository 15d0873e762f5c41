"""`playfield tensorboard [RUN ...]`: TensorBoard on the curves of runs."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from playfield.commands import arguments
from playfield.errors import UserError
from playfield.training.places import runs_root
from playfield.training.signals import raise_at_interrupt


@dataclass(frozen=True)
class Options:
    """Start TensorBoard on all runs, or on those named, and print its address. Ctrl-C ends it."""

    runs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names or folders of runs; none: all."""
    port: int = 6006
    """Port of the web page; 0: any that is free."""
    host: str = "localhost"
    """Address to serve on; 0.0.0.0 lets other machines in."""
    root: Path = field(default_factory=runs_root)
    """Folder that runs are kept in."""


def run(args: Sequence[str]) -> int:
    options = arguments.parse(Options, args, command="tensorboard")
    command = [sys.executable, "-m", "tensorboard.main", *tensorboard_arguments(options)]
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError("TensorBoard is not installed here: pip install tensorboard.")
    # TensorBoard prints its address itself, once it really listens there.
    print(f"TensorBoard on {', '.join(options.runs) or options.root} (Ctrl-C ends it)", flush=True)
    raise_at_interrupt()
    process = subprocess.Popen(command)
    try:
        return process.wait()
    except KeyboardInterrupt:
        # The terminal's Ctrl-C went to TensorBoard as well; wait for it rather than outrun it.
        process.terminate()
        process.wait()
        return 0


def tensorboard_arguments(options: Options) -> list[str]:
    """What TensorBoard is told. Raises `UserError` for a run that does not exist."""
    serve = ["--host", options.host, "--port", str(options.port)]
    if not options.runs:
        if not options.root.is_dir():
            raise UserError(
                f"There are no runs in {options.root}: start one with `playfield train`, or name "
                "another folder with --root."
            )
        return ["--logdir", str(options.root), *serve]

    from playfield.training.run import Run

    chosen = [Run.open(name, options.root) for name in options.runs]
    if len(chosen) == 1:
        return ["--logdir", str(chosen[0].folder), *serve]
    # --logdir takes one folder; --logdir_spec takes several, separated by what can't be in a name.
    for each in chosen:
        if any(mark in str(each.folder) for mark in ",:"):
            raise UserError(
                f"TensorBoard can't compare runs whose path has a comma or colon: {each.folder}."
            )
    spec = ",".join(f"{each.name}:{each.folder}" for each in chosen)
    return ["--logdir_spec", spec, *serve]
