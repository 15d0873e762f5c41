"""Timing in alternating blocks, and results that say what they were measured on."""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table

from playfield.training.devices import usable_cores
from playfield.training.machine import git_commit, hardware, versions

FORMAT = 1
RESULTS = Path(__file__).resolve().parent / "results"
PEERS = (
    "stable-baselines3", "opencv-python-headless", "cpprb", "torchrl", "tensordict", "tianshou",
    "diffusers", "denoising-diffusion-pytorch", "torchgan", "torch-mimicry",
)  # fmt: skip
#: Options of command lines that name this machine's folders.
PATH_OPTIONS = ("--root",)
# A value that begins with a folder at the root, on its own or after "=", as in "--root=/srv/runs".
ABSOLUTE_PATH = re.compile(r"(^|[\s=:\"'(])(/[\w.+~-]+){2,}|[A-Za-z]:\\")


# --- timing ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Summary:
    """Median and quartiles of raw samples, in the samples' unit."""

    median: float
    q1: float
    q3: float
    count: int

    def __str__(self) -> str:
        return f"{self.median:,.4g}  ({self.q1:,.4g} - {self.q3:,.4g})"


def summarise(samples: Sequence[float]) -> Summary:
    """Median and quartiles; of one sample, that sample three times. Raises ValueError for none."""
    if not samples:
        raise ValueError("there are no samples to summarise")
    if len(samples) == 1:
        return Summary(samples[0], samples[0], samples[0], 1)
    q1, median, q3 = statistics.quantiles(samples, n=4, method="inclusive")
    return Summary(median, q1, q3, len(samples))


def alternate(
    peers: Mapping[str, Callable[[], object]], *, blocks: int, calls: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Microseconds of `blocks * calls` calls of each peer, in turn `calls` at a time.

    The peers take turns so that whatever else the machine does hits all of them alike; `warm_up`
    blocks of each come first and are not kept.
    """
    samples: dict[str, list[float]] = {name: [] for name in peers}
    clock = time.perf_counter_ns
    for block in range(-warm_up, blocks):
        for name, call in peers.items():
            taken = []
            for _ in range(calls):
                start = clock()
                call()
                taken.append((clock() - start) / 1e3)
            if block >= 0:
                samples[name] += taken
    return samples


# --- results --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """One number that has to be reached, and the one that was measured."""

    what: str
    wanted: float
    measured: float
    at_least: bool = True  # else at most

    @property
    def reached(self) -> bool:
        return self.measured >= self.wanted if self.at_least else self.measured <= self.wanted

    def record(self) -> dict[str, Any]:
        return {**asdict(self), "reached": self.reached}

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        verdict = "reached" if self.reached else "MISSED"
        return f"{verdict}: {self.what}: {self.measured:,.4g} (wanted {sign} {self.wanted:,.4g})"


def conditions(options: argparse.Namespace) -> dict[str, Any]:
    """When and on what a result was measured; the load tells whether the machine was quiet."""
    found = versions()
    for package in PEERS:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "format": FORMAT,
        "quick": options.quick,
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": found,
        "hardware": hardware(),
        "git": git_commit(),
        "load_average_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every measurement has."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--quick", action="store_true", help="tiny sizes, in seconds: shows that it runs, no more"
    )
    made.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="where the result goes; benchmarks/results, or nowhere with --quick",
    )
    made.add_argument(
        "--threads",
        type=int,
        help="torch threads of every peer; all usable cores, or 1 with --quick",
    )
    return made


def threads_of(options: argparse.Namespace) -> int:
    """Threads for every peer alike; says so where the machine is too busy to measure on.

    Threads that wait for each other take turns with whatever else runs, and a copy on two of them
    can take a hundred times as long there, so quick runs, which never measure, do without.
    """
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if not options.quick and busy > 0.5:
        print(f"The load is {busy:.1f}: wait until nothing else runs, or this says little.")
    return int(options.threads or (1 if options.quick else usable_cores()))


def stolen_seconds() -> float:
    """Seconds, of all cores together, in which other machines on the same host had ours so far.

    Linux counts them where it is a guest; 0 elsewhere.
    """
    try:
        with open("/proc/stat", encoding="ascii") as file:
            return int(file.readline().split()[8]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return 0.0


def destination(options: argparse.Namespace) -> Path | None:
    """The folder that the result goes to; None: it is only printed."""
    if options.output is not None:
        return Path(options.output)
    return None if options.quick else RESULTS


def playfield_command() -> str:
    """The `playfield` command of this Python; exits with code 2 where it is not installed."""
    command = Path(sysconfig.get_path("scripts")) / "playfield"
    if not command.exists():
        stop("the playfield command is not installed beside this Python: run `make venv`.")
    return str(command)


def need_stable_baselines3() -> None:
    """Exit with code 2 and one sentence where the peer is not installed."""
    try:
        metadata.version("stable-baselines3")
    except metadata.PackageNotFoundError:
        stop(
            "stable-baselines3 is not installed, and the comparison is with it: "
            'pip install "playfield[bench]".'
        )


def stop(sentence: str) -> NoReturn:
    """Exit with code 2 and one sentence that says what to do."""
    print(f"{Path(sys.argv[0]).name}: {sentence}", file=sys.stderr)
    raise SystemExit(2)


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; columns but the first are numbers."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(str, row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)  # a pipe has no width, and 80 would cut the numbers off
    console.print(table)


def report(
    name: str, record: Mapping[str, Any], targets: Sequence[Target], folder: Path | None
) -> None:
    """Print how the targets fared and write `NAME.json`, if there is a folder to write it to."""
    if record["quick"]:
        print("The sizes of --quick are too small to say anything of these:")
    for target in targets:
        print(target)
    if folder is not None:
        full = {**record, "targets": [target.record() for target in targets]}
        print(f"Wrote {write_json(folder / f'{name}.json', full).name}.")


def write_json(path: Path, record: Mapping[str, Any]) -> Path:
    """Write `record`, floats to six digits, lists of numbers on one line each.

    The file appears whole or not at all. Raises ValueError for a value that holds an absolute path:
    results are published, and where somebody keeps their files is nobody else's business.
    """
    tidy = rounded(record)
    refuse_paths(tidy, path.name)
    text = json.dumps(tidy, indent=1, allow_nan=False, ensure_ascii=False)
    # json puts every number on a line of its own: a thousand samples would be a thousand lines.
    text = re.sub(
        r"\[\s*((?:-?[\d.eE+-]+|null)(?:,\s*(?:-?[\d.eE+-]+|null))*)\s*\]",
        lambda match: "[" + re.sub(r",\s+", ", ", match[1]) + "]",
        text,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        file.write(text + "\n")
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)
    return path


def rounded(value: Any, digits: int = 6) -> Any:
    """`value` with its floats to so many significant digits, containers included."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, Mapping):
        return {key: rounded(inner, digits) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner, digits) for inner in value]
    return value


def command_without_paths(command: Sequence[str]) -> list[str]:
    """A command line as others would type it: without the options that name our folders."""
    kept: list[str] = []
    skip = False
    for argument in command:
        if skip:
            skip = False
        elif argument in PATH_OPTIONS:
            skip = True
        elif not argument.startswith(tuple(f"{option}=" for option in PATH_OPTIONS)):
            kept.append(argument)
    return kept


def refuse_paths(value: Any, where: str) -> None:
    """Raise ValueError, naming the place, for a string in `value` that holds an absolute path."""
    if isinstance(value, str):
        if ABSOLUTE_PATH.search(value):
            raise ValueError(f"{where} holds a path of this machine: {value!r}")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            refuse_paths(inner, f"{where}: {key}")
    elif isinstance(value, list | tuple):
        for inner in value:
            refuse_paths(inner, where)
