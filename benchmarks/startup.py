"""Start-up: how long a shell waits for `playfield --help`.

Beside it, in turn, a Python that does nothing (what can't be saved) and one that imports torch
(what `--help` must not do). Every sample is a fresh process; the first of each, which may have to
read from disk, is not kept.

    python benchmarks/startup.py
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from functools import partial

from measure import (
    Target,
    alternate,
    conditions,
    destination,
    parser,
    playfield_command,
    report,
    show,
    summarise,
)

WANTED_SECONDS = 0.3
HELP = "playfield --help"


def main() -> None:
    options = parser(__doc__).parse_args()
    record = conditions(options)
    commands = {
        HELP: [playfield_command(), "--help"],
        "python -c pass": [sys.executable, "-c", "pass"],
        'python -c "import torch"': [sys.executable, "-c", "import torch"],
    }
    quiet = partial(
        subprocess.run, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    count = 2 if options.quick else 20
    micros = alternate(
        {name: partial(quiet, argv) for name, argv in commands.items()}, blocks=count, calls=1
    )
    samples = {name: [sample / 1e6 for sample in taken] for name, taken in micros.items()}
    summaries = {name: summarise(taken) for name, taken in samples.items()}
    ratios = {name: s.median / summaries[HELP].median for name, s in summaries.items()}
    show(
        f"start-up, {count} processes each",
        ("", "s: median (quartiles)", "times --help"),
        [(name, str(s), f"{ratios[name]:.2f}") for name, s in summaries.items()],
    )
    record |= {
        "unit": "seconds",
        "summary": {name: asdict(summary) for name, summary in summaries.items()},
        "times_help": ratios,
        "samples": samples,
    }
    median = summaries[HELP].median
    target = Target(f"{HELP}, seconds", WANTED_SECONDS, median, at_least=False)
    report("startup", record, [target], destination(options))


if __name__ == "__main__":
    main()
