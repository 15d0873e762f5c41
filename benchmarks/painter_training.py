"""Training speed: a diffusion model of 32x32 RGB images against diffusers' and
denoising-diffusion-pytorch's, in images per second.

All are U-Nets with levels of 32, 16 and 8 pixels and as many parameters, within a tenth: ours has
one size for each peer. Batches are of 32 images from memory. The peers are measured at their
defaults, which is float32, and under bfloat16 autocast; ours in float32 and as the presets compute,
in bfloat16 where the processor has it. Ours is the trainer's whole step, with the average of the
weights and the metrics; the peers' is the bare update (`painting_peers.py`).

Then each paints with as many calls of its network, by DDIM, and that is shown as well.

Each peer has a process of its own, one after the other in alternating rounds, and as many torch
threads. The clock starts some seconds after the first update.

    python benchmarks/painter_training.py
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from typing import Any, Literal, Protocol

from measure import (
    Summary,
    Target,
    conditions,
    destination,
    parser,
    report,
    show,
    stop,
    summarise,
    threads_of,
)
from training_speed import QUICK as QUICK_WINDOW
from training_speed import Stopwatch, Window, has_bfloat16

#: What all are told.
Settings = Mapping[str, int]
SETTINGS: Settings = {"size": 32, "channels": 3, "images": 1024, "batch_size": 32, "calls": 18}
QUICK: Settings = {**SETTINGS, "images": 16, "batch_size": 2, "calls": 2}
#: Ours has as many parameters as the peer it is held against, more or fewer by this part at most.
SIZE_SLACK = 0.1

Library = Literal["playfield", "diffusers", "denoising-diffusion-pytorch"]


@dataclass(frozen=True)
class Peer:
    """One way to train."""

    library: Library
    precision: Literal["float32", "bfloat16"] = "float32"
    base_channels: int = 32  # of ours; the peers' have 32 always

    @property
    def name(self) -> str:
        width = f" ({self.base_channels} channels)" if self.library == "playfield" else ""
        return f"{self.library}{width}, {self.precision}"


#: Channels by which ours is as large as each peer's.
AS_LARGE_AS: dict[Library, int] = {"diffusers": 36, "denoising-diffusion-pytorch": 32}
#: As the presets compute.
AUTO: Literal["float32", "bfloat16"] = "bfloat16" if has_bfloat16() else "float32"
PEERS = tuple(
    dict.fromkeys(
        peer
        for library, channels in AS_LARGE_AS.items()
        for peer in (
            Peer(library),
            Peer("playfield", base_channels=channels),
            Peer(library, "bfloat16"),
            Peer("playfield", AUTO, channels),
        )
    )
)


# --- one process ----------------------------------------------------------------------------------


class Painter(Protocol):
    """A model that learns, and paints."""

    @property
    def network(self) -> Any: ...

    def step(self) -> None: ...

    def sample(self, count: int, calls: int) -> Any: ...


class Playfield:
    """What `playfield train diffusion --preset small` does in each step, on such images."""

    def __init__(self, peer: Peer, images: Any, batch_size: int) -> None:
        import torch

        from playfield.generative.images import images_from_arrays
        from playfield.generative.presets import PRESETS

        preset = PRESETS["small"].config
        self.config = replace(
            preset,
            batch_size=batch_size,
            precision=peer.precision,
            net=replace(preset.net, base_channels=peer.base_channels),
        )
        data = images_from_arrays("noise", images)
        self.trainer = self.config.build_trainer(
            data, None, seed=0, device=torch.device("cpu"), steps=10**9
        )
        self.network = self.trainer.network

    def step(self) -> None:
        self.trainer.step()

    def sample(self, count: int, calls: int) -> Any:
        from playfield.generative.sampling import SamplerConfig, labels_in_turn, paint

        model = self.trainer.painting_model()
        config = SamplerConfig(sampler="ddim", steps=calls)
        return paint(model, config, range(count), labels_in_turn(model.spec, count))


def painter(peer: Peer, settings: Settings, threads: int) -> Painter:
    """The peer, ready to learn from noise; in this process, with so many threads."""
    import numpy as np
    import torch

    from playfield.training.devices import set_threads

    shape = (settings["images"], settings["channels"], settings["size"], settings["size"])
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    batch_size = settings["batch_size"]
    if peer.library == "playfield":
        set_threads(threads)
        return Playfield(peer, images, batch_size)
    torch.set_num_threads(threads)
    from painting_peers import DenoisingDiffusionPytorch, Diffusers

    kind = Diffusers if peer.library == "diffusers" else DenoisingDiffusionPytorch
    return kind(torch.from_numpy(images), batch_size, peer.precision)


def measured(learner: Painter, settings: Settings, window: Window) -> dict[str, float]:
    """Train, then paint, for a window each."""
    batch_size = settings["batch_size"]

    def paint() -> None:
        learner.sample(batch_size, settings["calls"])

    training = images_per_second(learner.step, batch_size, window)
    return {
        "parameters": sum(p.numel() for p in learner.network.parameters()),
        "images_per_second": training,
        "painted_per_second": images_per_second(paint, batch_size, window),
    }


def images_per_second(call: Callable[[], None], images: int, window: Window) -> float:
    """Call, which deals with so many images each time, until the window is over."""
    stopwatch, calls = Stopwatch(window), 0
    while not stopwatch.over(calls * images, calls):
        call()
        calls += 1
    assert stopwatch.result is not None
    return stopwatch.result["steps"] / stopwatch.result["seconds"]


# --- all of them ----------------------------------------------------------------------------------


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, help="how often each peer is measured; 3")
    arguments.add_argument("--seconds", type=float, help="on the clock, each time; 20")
    arguments.add_argument("--child", help="a job of this script's own, as JSON")
    options = arguments.parse_args()
    if options.child:
        job = json.loads(options.child)
        learner = painter(Peer(**job["peer"]), job["settings"], job["threads"])
        print(json.dumps(measured(learner, job["settings"], Window(**job["window"]))))
    else:
        need_peers()
        compare(options)


def need_peers() -> None:
    """Exit with code 2 and one sentence where a peer is not installed."""
    for library in AS_LARGE_AS:
        try:
            metadata.version(library)
        except metadata.PackageNotFoundError:
            stop(f'{library} is not installed: pip install "playfield[bench]".')


def in_a_process(peer: Peer, settings: Settings, window: Window, threads: int) -> dict[str, float]:
    """What `measured` finds in a process of the peer's own."""
    job = {
        "peer": asdict(peer),
        "settings": settings,
        "window": asdict(window),
        "threads": threads,
    }
    command = [sys.executable, __file__, "--child", json.dumps(job)]
    quiet = {**os.environ, "TQDM_DISABLE": "1"}  # progress bars
    done = subprocess.run(command, capture_output=True, text=True, env=quiet)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        stop(f"{peer.name} failed; its last words stand above.")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(options: argparse.Namespace) -> None:
    record = conditions(options)
    threads = threads_of(options)
    window = QUICK_WINDOW if options.quick else Window(warm_up=5.0, seconds=20.0)
    if options.seconds is not None:
        window = replace(window, seconds=options.seconds)
    settings = QUICK if options.quick else SETTINGS
    rounds = options.rounds or (1 if options.quick else 3)

    samples: dict[str, list[dict[str, float]]] = {peer.name: [] for peer in PEERS}
    for number in range(rounds):
        for peer in PEERS:
            found = in_a_process(peer, settings, window, threads)
            samples[peer.name].append(found)
            rates = f"{found['images_per_second']:.1f} images/s learned from"
            painted = f"{found['painted_per_second']:.1f} painted"
            print(f"round {number + 1}: {peer.name}: {rates}, {painted}", flush=True)

    parameters = {name: int(taken[0]["parameters"]) for name, taken in samples.items()}
    training = summaries(samples, "images_per_second")
    painting = summaries(samples, "painted_per_second")
    size = settings["size"]
    show(
        f"Diffusion of {size}x{size} RGB, batches of {settings['batch_size']}, {threads} threads",
        ("", "parameters", "images/s: median (quartiles)", f"painted/s, {settings['calls']} calls"),
        [
            (name, f"{parameters[name]:,}", str(summary), str(painting[name]))
            for name, summary in training.items()
        ],
    )
    pairs = [
        (ours, other)
        for library, channels in AS_LARGE_AS.items()
        for other in (Peer(library), Peer(library, "bfloat16"))
        for ours in dict.fromkeys(
            (Peer("playfield", AUTO, channels), Peer("playfield", "float32", channels))
        )
    ]
    times = {
        key: {
            f"{ours.name} / {other.name}": summarise(ratios(samples, ours, other, key))
            for ours, other in pairs
        }
        for key in ("images_per_second", "painted_per_second")
    }
    show(
        "Times the peer's speed",
        ("", "training", f"painting with {settings['calls']} calls"),
        [
            (name, str(summary), str(times["painted_per_second"][name]))
            for name, summary in times["images_per_second"].items()
        ],
    )
    refuse_unequal(parameters)
    record |= {
        "threads": threads,
        "rounds": rounds,
        "window": asdict(window),
        "settings": dict(settings),
        "peers": {peer.name: asdict(peer) for peer in PEERS},
        "bfloat16": has_bfloat16(),
        "parameters": parameters,
        "summary": {name: asdict(summary) for name, summary in training.items()},
        "painting": {name: asdict(summary) for name, summary in painting.items()},
        "times": {
            key: {name: asdict(summary) for name, summary in found.items()}
            for key, found in times.items()
        },
        "samples": samples,
    }
    report("painter_training", record, targets(times["images_per_second"]), destination(options))


def summaries(samples: Mapping[str, list[dict[str, float]]], key: str) -> dict[str, Summary]:
    return {name: summarise([each[key] for each in taken]) for name, taken in samples.items()}


def ratios(
    samples: Mapping[str, list[dict[str, float]]], ours: Peer, other: Peer, key: str
) -> list[float]:
    """Of what was measured in one round: a machine that slows down slows both."""
    both = zip(samples[ours.name], samples[other.name], strict=True)
    return [mine[key] / its[key] for mine, its in both]


def targets(times: Mapping[str, Summary]) -> list[Target]:
    """Half as fast again as the peers' defaults, and no slower than they are in bfloat16."""
    found = []
    for library, channels in AS_LARGE_AS.items():
        ours = Peer("playfield", AUTO, channels).name
        plain, cast = Peer(library).name, Peer(library, "bfloat16").name
        found += [
            Target(f"times {library}'s images/s", 1.5, times[f"{ours} / {plain}"].median),
            Target(f"times {library}'s in bfloat16", 1.0, times[f"{ours} / {cast}"].median),
        ]
    return found


def refuse_unequal(parameters: Mapping[str, int]) -> None:
    """Exit where a network of ours is not as large as the peer's."""
    for library, channels in AS_LARGE_AS.items():
        ours = parameters[Peer("playfield", base_channels=channels).name]
        if abs(ours / parameters[Peer(library).name] - 1) > SIZE_SLACK:
            stop(f"ours is not as large as {library}'s: no comparison.")


if __name__ == "__main__":
    main()
