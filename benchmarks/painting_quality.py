"""How well digits are painted, by how many calls of the network, family by family.

    python benchmarks/painting_quality.py
    python benchmarks/painting_quality.py --runs my-diffusion my-flow

The same small network learns the 1,498 training digits as EDM, as a DDPM that predicts v and as a
flow, each in a process of its own that takes `--minutes` from its start to its end; then the EDM
run is consistency-tuned for as long again. What follows `--` goes to every `playfield train`. With
`--runs` nothing is trained, and these runs are measured.

From each, 1,000 digits are painted, 100 of each class, by 1, 2, 4, 8, 18 and 36 calls of the
network for an image (NFE). A classifier of the training digits says whether they show what was
asked for; its features give Fréchet distances; and the distances to the nearest training digits,
over those of the test digits, say whether they are new. The result is `painting_quality.json`, with
the picture `painting_quality.png` and the digits of the best EDM setting in `digits-samples.png`.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import (
    Target,
    command_without_paths,
    conditions,
    destination,
    parser,
    playfield_command,
    report,
    show,
    stop,
    threads_of,
)
from numpy.typing import NDArray
from quality_curves import draw
from sample_quality import Judge, painted

from playfield.errors import UserError
from playfield.evaluation.grids import Picture, grid, write_png
from playfield.generative.classifier import ClassifierConfig
from playfield.generative.datasets.opening import open_data
from playfield.generative.datasets.options import DataOptions
from playfield.generative.model import denoising
from playfield.generative.objective import Family
from playfield.generative.sampling import SamplerConfig, plan
from playfield.generative.saved_painter import load_painter
from playfield.training.places import runs_root
from playfield.training.run import Run

NAME = "painting_quality"
TRAIN, TEST = "digits,split=train", "digits,split=test"
SAMPLES = 1_000  # 100 of each class
CALLS = (1, 2, 4, 8, 18, 36)  # of the network for an image: NFE
EDM = "EDM"

#: What is trained, in this order: its name, and what tells `playfield train` of it.
TRAINED: Mapping[str, tuple[str, ...]] = {
    EDM: ("diffusion",),
    "DDPM-v": ("diffusion", "--preset", "digits-v"),
    "flow": ("flow",),
    "consistency": ("consistency",),  # and the EDM run that it begins with
}
#: How each family paints with so many calls. DPM-Solver++(2M) and Euler call the network once a
#: step, the midpoint rule twice. Of one step, DPM-Solver++ is Euler's.
SETTINGS: Mapping[Family, Mapping[int, SamplerConfig]] = {
    "edm": {calls: SamplerConfig("dpmpp-2m", calls) for calls in CALLS},
    "ddpm": {calls: SamplerConfig("dpmpp-2m", calls) for calls in CALLS},
    "flow": {
        1: SamplerConfig("flow-euler", 1),
        **{calls: SamplerConfig("flow-midpoint", calls // 2) for calls in CALLS if calls > 1},
    },
    "consistency": {calls: SamplerConfig("consistency", calls) for calls in (1, 2, 4)},
}
FAMILY_NAMES: Mapping[Family, str] = {
    "edm": EDM, "ddpm": "DDPM", "flow": "flow", "consistency": "consistency"
}  # fmt: skip
#: Minutes that a process takes to start, and to paint and save at its end.
AROUND = 0.3
WITHIN_MINUTES = 5.0
KEPT = ("algorithm", "preset", "data", "config", "training", "init", "seed", "device", "threads")

QUICK_OPTIONS = (
    "--steps", "256", "--batch-size", "64", "--base-channels", "8", "--channel-mult", "1",
    "--blocks", "1",
)  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """How much is painted and judged."""

    samples: int = SAMPLES
    calls: tuple[int, ...] = CALLS
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)


QUICK = Scale(20, (1, 2), ClassifierConfig(epochs=2, width=8, features=16))


@dataclass(frozen=True)
class Learnt:
    """A run to measure."""

    name: str  # of what was learnt, for the table
    run: Run
    process_minutes: float | None  # from the start of the process to its end; None: not seen

    def record(self) -> dict[str, Any]:
        manifest = self.run.manifest
        minutes = float(manifest["minutes"])
        return {
            "run": self.run.name,
            "command": command_without_paths(manifest["command"]),
            **{name: manifest[name] for name in KEPT if name in manifest},
            "images_seen": manifest["progress"],
            "minutes": minutes,
            "process_minutes": self.process_minutes,
            "images_per_second": manifest["progress"] / (60 * minutes),
        }


# --- learning -------------------------------------------------------------------------------------


def learn(options: argparse.Namespace, root: Path, threads: int) -> list[Learnt]:
    """Train one run of each kind, as a user would."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    found: dict[str, Learnt] = {}
    for name, chosen in TRAINED.items():
        run = f"quality-{name.lower()}-{stamp}"
        command = [playfield_command(), "train", *chosen, "--run", run, "--root", str(root)]
        command += ["--seed", str(options.seed), "--device", "cpu", "--threads", str(threads)]
        if chosen == TRAINED["consistency"]:
            command += ["--init-from", found[EDM].run.name]
        else:
            command += ["--data", TRAIN]
        if options.quick:
            # What it begins with brings its own network.
            command += QUICK_OPTIONS[:4] if "--init-from" in command else QUICK_OPTIONS
        else:
            command += ["--minutes", f"{options.minutes - AROUND:g}"]
        started = time.time()
        if subprocess.run([*command, *options.more]).returncode:
            stop(f"`playfield train {chosen[0]}` failed; its last words stand above.")
        minutes = (time.time() - started) / 60
        found[name] = Learnt(name, Run.open(run, root), minutes)
    return list(found.values())


def given(names: Sequence[str], root: Path) -> list[Learnt]:
    """Runs that are there already; of two of one family each is called by its run's name too."""
    found: dict[str, Learnt] = {}
    for name in names:
        run = Run.open(name, root)
        if "data" not in run.manifest:
            stop(f"run {run.name!r} is of an agent, which does not paint.")
        if "minutes" not in run.manifest:
            stop(f"run {run.name!r} has not ended yet: wait, or stop it with Ctrl-C.")
        family = denoising(
            load_painter(run.folder, device="cpu"), "A number of network calls"
        ).family
        kind = FAMILY_NAMES[family]
        if family == "ddpm":
            kind = f"DDPM-{run.manifest['config']['objective']['parametrisation']}"
        kind = f"{kind} ({run.name})" if kind in found else kind
        found[kind] = Learnt(kind, run, None)
    return list(found.values())


# --- measuring ------------------------------------------------------------------------------------


def measured(
    learnt: Learnt, judge: Judge, scale: Scale
) -> tuple[dict[str, Any], dict[int, NDArray[np.uint8]]]:
    """What a run paints by how many calls, as a record, and what it painted."""
    known = learnt.run.manifest["data"]["fingerprint"]
    if known != judge.train.fingerprint():
        stop(f"run {learnt.run.name!r} did not learn from {TRAIN}: it cannot be judged by that.")
    model = denoising(load_painter(learnt.run.folder, device="cpu"), "A number of network calls")
    if not model.conditional:
        stop(f"run {learnt.run.name!r} learned without labels: no class can be asked of it.")
    rows, pictures = [], {}
    for calls, config in SETTINGS[model.family].items():
        if calls not in scale.calls:
            continue
        planned = plan(model, config)
        samples, labels, speed = painted(model, config, scale.samples)
        row = {
            "nfe": planned.network_calls,
            "sampler": planned.sampler,
            "steps": planned.steps,
            **asdict(judge.quality(samples, labels)),
            "painted_per_second": speed,
        }
        print(
            f"{learnt.name}, NFE {row['nfe']}: agreement {row['agreement']:.1%}, "
            f"FD {row['frechet_train']:.2f}, ratio {row['memorisation_ratio']:.3f}",
            flush=True,
        )
        rows.append(row)
        pictures[row["nfe"]] = samples
    record = {**learnt.record(), "family": model.family}
    return {**record, "best_nfe": best(rows)["nfe"], "quality": rows}, pictures


def best(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The setting whose digits are closest to the test digits.

    Not to the training digits: copies of those would win.
    """
    return min(rows, key=lambda row: row["frechet_test"])


def targets(record: Mapping[str, Any]) -> list[Target]:
    """What the judge has to know, and what EDM has to reach at its best setting."""
    found = [
        Target("accuracy of the classifier on test digits", 0.97, record["judge"]["test_accuracy"])
    ]
    for name, run in record["runs"].items():
        if run["family"] != "edm":
            continue
        row = best(run["quality"])
        at = f"{name}, {row['sampler']}, NFE {row['nfe']}"
        minutes = run["minutes"] if run["process_minutes"] is None else run["process_minutes"]
        found += [
            Target(f"{at}: samples that show the class asked for", 0.97, row["agreement"]),
            Target(f"{at}: memorisation ratio", 0.9, row["memorisation_ratio"]),
            Target(f"{name}: minutes of training", WITHIN_MINUTES, minutes, at_least=False),
        ]
    return found


def tell(record: Mapping[str, Any]) -> None:
    rows = [
        (
            name, f"{row['sampler']} × {row['steps']}", row["nfe"], f"{row['agreement']:.1%}",
            f"{row['frechet_train']:.2f}", f"{row['frechet_test']:.2f}",
            f"{row['memorisation_ratio']:.3f}", f"{row['painted_per_second']:,.0f}",
        )
        for name, run in record["runs"].items()
        for row in run["quality"]
    ]  # fmt: skip
    columns = ("", "sampler", "NFE", "agreement", "FD train", "FD test", "ratio", "images/s")
    show(f"{record['samples']:,} samples of each", columns, rows)
    judge = record["judge"]
    print(
        f"The classifier knows {judge['test_accuracy']:.1%} of the {judge['test_images']} test "
        f"digits; their FD to the training digits is {judge['frechet_test_to_train']:.2f}."
    )
    for name, run in record["runs"].items():
        few = best(run["quality"])["frechet_train_few"]
        print(f"That of as few samples of {name} at its best is {few:.2f}.")


# --- all of them ----------------------------------------------------------------------------------


def main() -> None:
    options = read_options()
    folder, threads = destination(options), threads_of(options)
    torch.set_num_threads(threads)
    start = conditions(options)
    with tempfile.TemporaryDirectory() as temporary:
        # What --quick trains is of no use to anybody.
        root = Path(temporary) if options.quick and not options.runs else options.root
        root = root or runs_root()
        try:
            runs = given(options.runs, root) if options.runs else learn(options, root, threads)
            record, grids = evaluate(start, runs, threads)
        except UserError as error:
            stop(str(error))
    tell(record)
    report(NAME, record, targets(record), folder)
    if folder is not None:
        draw(folder / f"{NAME}.png", "Digits, painted", record)
        if EDM in grids:
            write_png(folder / "digits-samples.png", grids[EDM])


def evaluate(
    start: Mapping[str, Any], runs: Sequence[Learnt], threads: int
) -> tuple[dict[str, Any], dict[str, Picture]]:
    """What was found of the runs, and a grid of each at its best, one class in each column."""
    scale = QUICK if start["quick"] else Scale()
    train, test = (open_data(spec, DataOptions()) for spec in (TRAIN, TEST))
    judge = Judge(train, test, scale.classifier)
    found: dict[str, Any] = {}
    grids: dict[str, Picture] = {}
    for learnt in runs:
        found[learnt.name], painted_by = measured(learnt, judge, scale)
        samples = painted_by[best(found[learnt.name]["quality"])["nfe"]]
        grids[learnt.name] = grid(samples[:100], len(train.classes), scale=5)
    record = {
        **start,
        "samples": scale.samples,
        "threads": threads,
        "judge": {**judge.record(), "config": asdict(scale.classifier)},
        "runs": found,
    }
    return record, grids


def read_options() -> argparse.Namespace:
    arguments = parser(__doc__)
    arguments.add_argument("--minutes", type=float, default=5.0, help="of each process; 5")
    arguments.add_argument(
        "--runs", nargs="+", metavar="RUN", default=[], help="measure these, and train none"
    )
    arguments.add_argument("--seed", type=int, default=0, help="of all training; 0")
    arguments.add_argument("--root", type=Path, metavar="FOLDER", help="for our runs; runs/")
    arguments.add_argument(
        "more", nargs="*", metavar="-- OPTION", help="for `playfield train`, after a --"
    )
    options = arguments.parse_args()
    if not options.minutes > AROUND:
        stop(f"--minutes has to be more than {AROUND:g}, which starting and ending take.")
    return options


if __name__ == "__main__":
    main()
