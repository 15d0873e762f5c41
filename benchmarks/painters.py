"""Painters of every family, trained for the same minutes and measured alike.

    python benchmarks/painters.py                          # digits, three seeds
    python benchmarks/painters.py --seeds 0 --only r3gan flow
    python benchmarks/painters.py --data breakout --jobs 2 --threads 1
    python benchmarks/painter_table.py                     # the tables of README.md and docs

DCGAN, WGAN-GP, SN-GAN, R3GAN, diffusion, a flow and a consistency model learn the same images, each
by `playfield train` in a process of its own, from as many images as it sees in `--minutes` after
its start where nobody disturbs it; a run of 20 seconds before tells how many. A consistency model
shares its minutes with the diffusion model that it is tuned from. Nothing is evaluated or saved in
between, and the last weights count.

Each then paints as many images by the same seeds and labels, in all its ways (NFE: calls of the
network for an image), and everything is measured by the same networks: those of a classifier of
the training images, trained first, where these have labels, and fixed random ones.

Runs are kept in `--root`, and what is there is not trained again: a call that was interrupted goes
on where it was, and the work can be spread over several. Results are added run by run to
`results/painters-DATA.json`; what was measured under other conditions is refused. Examples of the
first seed are in `painters-DATA.png`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Target, conditions, destination, parser, report, show, stop, threads_of
from numpy.typing import NDArray
from painter_runs import DATA, PAINTERS, STARTING, ImageSet, Learnt, School
from painter_scores import Scores, examples
from painter_sheet import write_sheet
from painter_table import Result, scores_table

from playfield.errors import UserError
from playfield.generative.classifier import ClassifierConfig
from playfield.training.places import runs_root

#: Of R3GAN on digits: what has to be reached by every seed, and within how many minutes.
AGREEMENT, COVERAGE, WITHIN_MINUTES = 0.95, 0.85, 10.0
#: Of the classifier that says so.
KNOWN = 0.97
#: More than the features of the random network, of which the Fréchet distance needs as many.
QUICK_NUMBER = 300
QUICK_CLASSIFIER = ClassifierConfig(epochs=1, width=8, features=16)
#: Columns that the terminal has no room for.
TOO_WIDE = ("sampler × steps", "standard error", "density", "diversity", "memorisation")
#: What has to be the same in a result that is added to.
SAME = ("quick", "minutes", "threads", "options", "conditions")


def main() -> None:
    options = read_options()
    images, threads = DATA[options.data], threads_of(options)
    if options.threads is None:
        threads = max(1, threads // options.jobs)
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as temporary:
        if options.quick:
            # What it trains is of no use to anybody.
            images = replace(images, number=QUICK_NUMBER, seeds=images.seeds[:1])
        school = School(
            images,
            None if options.quick else options.minutes or images.minutes,
            threads,
            Path(temporary) if options.quick else (options.root or runs_root()).absolute(),
            options.jobs,
            tuple(options.more),
        )
        try:
            compare(school, options)
        except UserError as error:
            stop(str(error))


def compare(school: School, options: argparse.Namespace) -> None:
    """Train and measure, seed by seed; what was found is written after each run."""
    images, folder, name = school.images, destination(options), f"painters-{school.images.name}"
    start = conditions(options)
    scores = Scores(
        images.train,
        images.test,
        images.number,
        school.judge() if images.labelled else None,
        QUICK_CLASSIFIER if options.quick else ClassifierConfig(),
    )
    record = {
        **start,
        "title": images.title,
        "minutes": school.minutes,
        "threads": school.threads,
        "options": list(school.more),
        "conditions": scores.conditions(),
        "runs": {},
    }
    record["runs"] = earlier(folder, name, record)
    record["real"] = scores.of_test_images()
    painters = [PAINTERS[each] for each in PAINTERS if each in options.only]
    for seed in options.seeds or images.seeds:
        for learnt in school.learn(painters, seed):
            key = f"{learnt.painter.name}, seed {seed}"
            if not options.again and is_same_run(record["runs"].get(key), learnt):
                print(f"{key}: measured before.")
                continue
            print(f"{key}: painting", flush=True)
            run = {
                "painter": learnt.painter.name,
                "title": learnt.painter.title,
                "seed": seed,
                "measured": start["measured"],
                "versions": start["versions"],
                "hardware": start["hardware"],
                **learnt.record(),
                "rows": scores.of(learnt),
            }
            record["runs"] = in_order({**record["runs"], key: run})
            report(name, record, targets(record), folder)
    if not record["runs"]:
        return
    tell(record)
    if folder is not None:
        seed = (options.seeds or images.seeds)[0]
        rows = sheet_rows(images, scores, school, seed)
        write_sheet(folder / f"{name}.png", rows, images.scale)


def earlier(folder: Path | None, name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """The runs of the result that is added to; exits where it was measured otherwise."""
    path = folder / f"{name}.json" if folder is not None else None
    if path is None or not path.exists():
        return {}
    before = json.loads(path.read_text(encoding="utf-8"))
    now = json.loads(json.dumps({what: record[what] for what in SAME}))
    for what in SAME:
        if not alike(before.get(what), now[what]):
            stop(
                f"{path.name} holds measurements with other {what}: repeat them under those, or "
                "write elsewhere with --output."
            )
    runs: dict[str, Any] = before["runs"]
    return runs


def alike(one: object, other: object) -> bool:
    """Whether two values are the same, but for the digits that a result file leaves out."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= 1e-5 * max(abs(one), abs(other))
    return one == other


def is_same_run(known: Mapping[str, Any] | None, learnt: Learnt) -> bool:
    """Whether what is `known` was measured of this very run."""
    manifest = learnt.run.manifest
    return known is not None and (known["run"], known["created"], known["images_seen"]) == (
        learnt.run.name, manifest["created"], manifest["progress"]
    )  # fmt: skip


def in_order(runs: Mapping[str, Any]) -> dict[str, Any]:
    """Painters as in the tables, each by its seeds."""
    places = list(PAINTERS)
    keys = sorted(runs, key=lambda key: (places.index(runs[key]["painter"]), runs[key]["seed"]))
    return {key: runs[key] for key in keys}


def targets(record: Mapping[str, Any]) -> list[Target]:
    """What the classifier has to know, and R3GAN to reach with every seed."""
    if record["conditions"]["judge"] is None:
        return []
    found = [Target("the classifier's accuracy on test images", KNOWN, record["real"]["agreement"])]
    runs = [run for run in record["runs"].values() if run["painter"] == "r3gan"]
    if runs:
        rows = [row for run in runs for row in run["rows"]]
        seeds = f"R3GAN, {len(runs)} seed{'s' if len(runs) > 1 else ''}"
        (features, *_) = record["conditions"]["features"]
        coverage = min(row["metrics"][features]["coverage"] for row in rows)
        minutes = max(run["process_minutes"] for run in runs)
        found += [
            Target(f"{seeds}: least agreement", AGREEMENT, min(row["agreement"] for row in rows)),
            Target(f"{seeds}: least coverage, by {features} features", COVERAGE, coverage),
            Target(f"{seeds}: minutes of the slowest", WITHIN_MINUTES, minutes, at_least=False),
        ]
    return found


def tell(record: Mapping[str, Any]) -> None:
    result = Result(record)
    for features in result.features:
        table = scores_table(result, features).without(*TOO_WIDE)
        show(f"{record['title']}, by {features} features", table.columns, table.rows)


def sheet_rows(
    images: ImageSet, scores: Scores, school: School, seed: int
) -> list[tuple[str, NDArray[np.uint8]]]:
    """Real images, and examples by all painters that learned with this seed, each of its ways."""
    rows = [("real", scores.real_examples(images.columns))]
    for painter in PAINTERS.values():
        learnt = school.learnt(painter, seed)
        if learnt is None:
            continue
        for way in painter.ways:
            painted, calls = examples(learnt, way, images.columns)
            rows.append((f"{painter.title}, {calls}", painted))
    return rows


def read_options() -> argparse.Namespace:
    arguments = parser(__doc__)
    arguments.add_argument("--data", choices=DATA, default="digits", help="digits")
    arguments.add_argument(
        "--minutes", type=float, help="of learning, from each process's start; 5, or 6"
    )
    arguments.add_argument(
        "--seeds", type=int, nargs="+", help="of training, one run each; 0 1 2, or 0"
    )
    arguments.add_argument(
        "--only", nargs="+", choices=PAINTERS, default=list(PAINTERS), metavar="PAINTER",
        help=f"of {', '.join(PAINTERS)}",
    )  # fmt: skip
    arguments.add_argument("--jobs", type=int, default=1, help="painters that learn at once; 1")
    arguments.add_argument("--again", action="store_true", help="measure anew what has been")
    arguments.add_argument("--root", type=Path, metavar="FOLDER", help="for our runs; runs/")
    arguments.add_argument(
        "more", nargs="*", metavar="-- OPTION", help="for every `playfield train`, after a --"
    )
    options = arguments.parse_args()
    if options.minutes is not None and not options.minutes > 4 * STARTING:
        stop(f"--minutes has to be more than {4 * STARTING:g}, of which starting takes a part.")
    if options.jobs < 1:
        stop(f"--jobs has to be 1 or more, not {options.jobs}.")
    return options


if __name__ == "__main__":
    main()
