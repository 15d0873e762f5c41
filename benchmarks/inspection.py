"""Inspection: how long `playfield runs` and `playfield compare` keep a shell waiting.

`playfield runs` over 200 runs of three million steps each, and `playfield compare` of ten runs
with a hundred thousand points each, in which every point is a line with all that DQN logs. Beside
`compare`, in turn, a Python that parses the same files line by line, as a plain reader would.
Every sample is a fresh process; the first of each, which may have to read from disk, is not kept.

    python benchmarks/inspection.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
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

from playfield.training.run import MANIFEST, new_manifest

WANTED_RUNS, WANTED_COMPARE = 1.0, 3.0  # seconds
STEPS_PER_POINT = 1000
METRIC = "episode/return_mean"
#: What DQN logs with every point besides, and how many digits it has.
LOGGED = (
    "episode/length_mean", "train/loss", "train/td_error", "train/q", "train/gradient_norm",
    "train/learning_rate", "train/epsilon", "train/updates", "replay/fill",
    "speed/steps_per_second", "speed/frames_per_second", "speed/updates_per_second",
    "health/skipped_updates",
)  # fmt: skip
PLAIN_READER = f"""
import json, sys
for path in sys.argv[1:]:
    with open(path) as file:
        rows = [json.loads(line) for line in file]
    points = [(row["progress"], row[{METRIC!r}]) for row in rows if {METRIC!r} in row]
"""


def main() -> None:
    options = parser(__doc__).parse_args()
    record = conditions(options)
    runs, points = (20, 300) if options.quick else (200, 3000)
    compared, long = (2, 2000) if options.quick else (10, 100_000)
    with tempfile.TemporaryDirectory() as folder:
        many, few = Path(folder) / "many", Path(folder) / "few"
        sizes = {
            "runs": make_runs(many, runs, points),
            "compare": make_runs(few, compared, long),
        }
        files = sorted(map(str, few.glob("*/metrics.jsonl")))
        shell = playfield_command()
        commands = {
            f"playfield runs, {runs} runs": [shell, "runs", "--root", str(many)],
            f"playfield compare, {compared} runs of {long:,} points": [
                *(shell, "compare", "run-*", "--root", str(few)),
                *("--out", str(Path(folder) / "chart.png")),
            ],
            "the same points by json.loads": [sys.executable, "-c", PLAIN_READER, *files],
            "python -c pass": [sys.executable, "-c", "pass"],
        }
        quiet = partial(
            subprocess.run, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        micros = alternate(
            {name: partial(quiet, argv) for name, argv in commands.items()},
            blocks=1 if options.quick else 7,
            calls=1,
        )
    samples = {name: [sample / 1e6 for sample in taken] for name, taken in micros.items()}
    summaries = {name: summarise(taken) for name, taken in samples.items()}
    listing, comparing, plain, _ = summaries
    show(
        f"inspection: {sizes['runs'] / 1e6:,.0f} MB of curves listed, "
        f"{sizes['compare'] / 1e6:,.0f} MB compared",
        ("", "s: median (quartiles)"),
        [(name, str(summary)) for name, summary in summaries.items()],
    )
    ratio = summaries[plain].median / summaries[comparing].median
    print(f"compare, chart included, is {ratio:.1f} times as fast as reading line by line.")
    record |= {
        "unit": "seconds",
        "bytes": sizes,
        "summary": {name: asdict(summary) for name, summary in summaries.items()},
        "times_as_fast_as_json": ratio,
        "samples": samples,
    }
    targets = [
        Target(f"{listing}, seconds", WANTED_RUNS, summaries[listing].median, at_least=False),
        Target(f"{comparing}, seconds", WANTED_COMPARE, summaries[comparing].median, False),
    ]
    report("inspection", record, targets, destination(options))


def make_runs(root: Path, count: int, points: int) -> int:
    """Write `count` runs of so many points; the bytes of their curves.

    They are of two settings, so that compare has groups to average.
    """
    manifest = new_manifest(
        command=["playfield", "train", "dqn"],
        algorithm="dqn",
        preset=None,
        env="playfield/Catch-v0",
        protocol={},
        config={},
        training={"steps": points * STEPS_PER_POINT},
        seed=0,
        device="cpu",
    )
    rng = np.random.default_rng(0)
    size = 0
    for number in range(count):
        folder = root / f"run-{number}"
        folder.mkdir(parents=True)
        own = {
            "config": {"optimizer": {"learning_rate": 10.0 ** -(3 + number % 2)}},
            "seed": number,
            "status": "finished",
            "progress": points * STEPS_PER_POINT,
        }
        (folder / MANIFEST).write_text(json.dumps({**manifest, **own}))
        values = rng.normal(size=(points, len(LOGGED) + 1)).tolist()
        with (folder / "metrics.jsonl").open("w") as file:
            for point, (value, *others) in enumerate(values, start=1):
                line = {"progress": point * STEPS_PER_POINT, METRIC: value}
                line |= dict(zip(LOGGED, others, strict=True))
                line["time/minutes"] = point / 60
                file.write(json.dumps(line) + "\n")
                if point % 250 == 0:
                    evaluated = {"progress": point * STEPS_PER_POINT, "eval/return": value}
                    file.write(json.dumps(evaluated) + "\n")
            size += file.tell()
    return size


if __name__ == "__main__":
    main()
