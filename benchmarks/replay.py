"""Replay: playfield's frame store against the replay memories of other libraries, in one run.

Every memory holds the same transitions of 84x84 pictures in stacks of four (Pong's, under a random
policy) and draws from them, uniformly and by priority, over one step and three, into torch tensors
on the CPU. Each peer, at each size, has a process of its own, with playfield's store beside it, and
the two take turns. Before it is timed, what each peer draws is held against our store. Beside them
run two bounds:

  bare gather   our kernel alone, rows already known: little but the memory copy
  memcpy        as many bytes from one place to another

Memory is what the process grows by. Saving counts until the bytes are on the disk.

    python benchmarks/replay.py [--peers sb3,cpprb] [--sizes 50000] [--device cuda]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Target, conditions, destination, parser, report, stop, threads_of
from peers import PEERS, SHORT, Peer
from peers.base import ALPHA, BETA, GAMMA
from replay_data import ENV, SIZE, STACK, pong
from replay_table import BATCH, OURS, Result, print_tables
from replay_task import Task

FOLDER = Path(__file__).resolve().parent
SIZES, QUICK_SIZES = (50_000, 500_000), (400,)
PICTURES, QUICK_PICTURES = 8_192, 512
#: How many times a library's speed, uniformly and one step, we want to be.
WANTED_RATIOS = {"stable-baselines3": 20.0, "cpprb": 3.0, "torchrl": 8.0, "tianshou": 15.0}
#: Microseconds for a batch of 256 of one step, indices drawn and all; by whether it is prioritised.
WANTED_TIMES = {False: 400.0, True: 600.0}
WANTED_BYTES = 7_200.0
#: Of the first checkpoint, when a twentieth of the store is new.
WANTED_SHARES = {"bytes": 0.08, "seconds": 0.15}


def arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument(
        "--peers", help=f"libraries to compare with, of {','.join(SHORT)}; all that are installed"
    )
    made.add_argument(
        "--sizes", help=f"transitions to store; {','.join(map(str, SIZES))}, fewer with --quick"
    )
    made.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu",
        help="where the memories live; the result for cuda is a file of its own",
    )  # fmt: skip
    return made.parse_args()


def chosen_peers(names: str | None) -> list[type[Peer]]:
    """The peers of the libraries named, which have to be there; of all libraries for None."""
    shorts = list(SHORT) if names is None else names.split(",")
    for short in shorts:
        if short not in SHORT:
            stop(f"there is no peer {short!r}: choose of {', '.join(SHORT)}.")
    chosen = [peer for peer in PEERS if peer.library in {SHORT[short] for short in shorts}]
    missing = sorted({peer.library for peer in chosen if peer.installed() is None})
    if missing and (names is not None or len(missing) == len(SHORT)):
        stop(f'{", ".join(missing)} not installed: pip install "playfield[bench]".')
    return chosen


def chosen_sizes(sizes: str | None, quick: bool) -> list[int]:
    if sizes is None:
        return list(QUICK_SIZES if quick else SIZES)
    try:
        chosen = [int(size) for size in sizes.split(",")]
    except ValueError:
        stop(f"--sizes takes numbers of transitions, not {sizes!r}.")
    if min(chosen) < 400:
        stop(f"{min(chosen)} transitions are too few: 400 or more.")
    return chosen


def run(script: str, task: Task, scratch: Path) -> dict[str, Any]:
    """What one process measured; where it was killed, that is why nothing was."""
    output = scratch / "result.json"
    output.unlink(missing_ok=True)
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(FOLDER / script), json.dumps(asdict(task)), str(output)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    print(f"{task.label}, {task.size:,}: {time.perf_counter() - start:.0f} s", flush=True)
    if done.returncode < 0:
        reason = f"its process was ended by signal {-done.returncode}: is there too little memory?"
        gap = {"peer": task.label, "size": task.size, "reason": reason}
        return {"measurements": [], "skipped": [gap]}
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        raise SystemExit(1)
    found: dict[str, Any] = json.loads(output.read_text())
    return found


def targets_of(result: Result) -> Iterator[Target]:
    """What was wanted of one step, at every size."""
    for size in result.sizes:
        of_size = {"operation": "sample", "size": size, "n_step": 1, "batch_size": BATCH}
        for prioritized, wanted in WANTED_TIMES.items():
            taken = result.time(OURS, **of_size, prioritized=prioritized)
            if taken is not None:
                kind = "prioritised" if prioritized else "uniform"
                what = f"µs for {BATCH} of {size:,}, {kind}"
                yield Target(what, wanted, taken, at_least=False)
        for library, wanted in WANTED_RATIOS.items():
            fastest = result.fastest(library, **of_size, prioritized=False)
            if fastest is not None:
                label, ratio = fastest
                yield Target(f"times {label}'s speed, {BATCH} of {size:,}", wanted, ratio)
        what = {"operation": "memory", "size": size, "n_step": 1, "prioritized": True}
        held = result.number(OURS, "bytes_per_transition", **what)
        if held is not None:
            what = f"bytes per transition, of {size:,}, priorities included"
            yield Target(what, WANTED_BYTES, held, at_least=False)
    for m in result.found(operation="second checkpoint"):
        for key, wanted in WANTED_SHARES.items():
            share = m["second"][key] / m["first"][key]
            what = f"second checkpoint of {m['size']:,}, {key} of the first's"
            yield Target(what, wanted, share, at_least=False)


def main() -> None:
    options = arguments()
    if options.device == "cuda" and not torch.cuda.is_available():
        stop("there is no CUDA device here: leave --device out.")
    peers = chosen_peers(options.peers)
    sizes = chosen_sizes(options.sizes, options.quick)
    record = conditions(options)
    threads = threads_of(options)
    measurements: list[dict[str, Any]] = []
    skipped: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="playfield-replay-") as folder:
        scratch = Path(folder)
        pictures = scratch / "pictures.npy"
        np.save(pictures, pong(QUICK_PICTURES if options.quick else PICTURES))
        for size in sizes:
            for peer in (None, *peers):
                label = OURS if peer is None else peer.label
                task = Task(
                    label, size, threads, options.device, options.quick, str(pictures), folder
                )
                if peer is None:
                    if options.device != "cpu":
                        continue  # what is saved is the same wherever it lay
                    found = run("replay_disk.py", task, scratch)
                elif peer.installed() is None:
                    found = _gap(label, f"{peer.library} is not installed")
                elif options.device not in peer.devices:
                    found = _gap(label, "it keeps what it holds in the CPU's memory")
                else:
                    found = run("replay_pair.py", task, scratch)
                measurements += found["measurements"]
                skipped += found["skipped"]
    record |= {
        "threads": threads,
        "device": options.device,
        "sizes": sizes,
        "pictures": f"{ENV}, random policy, {PICTURES:,} frames over and over",
        "transition": {"stack": STACK, "frame": [SIZE, SIZE], "gamma": GAMMA},
        "priorities": {"alpha": ALPHA, "beta": BETA},
        "peers": {
            peer.label: {"library": peer.library, "version": peer.installed(), "how": peer.how}
            for peer in peers
        },
        "measurements": measurements,
        "skipped": skipped,
    }
    print_tables(record)
    targets = [] if options.device != "cpu" else list(targets_of(Result(record)))
    name = "replay" if options.device == "cpu" else f"replay_{options.device}"
    report(name, record, targets, destination(options))


def _gap(label: str, reason: str) -> dict[str, Any]:
    return {"measurements": [], "skipped": [{"peer": label, "reason": reason}]}


if __name__ == "__main__":
    main()
