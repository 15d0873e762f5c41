"""Training speed: DCGANs of 32x32 RGB against torchgan's and mimicry's, in images per second.

Ours and torchgan's are the same two networks, strided and transposed 4x4 convolutions with 64, 128
and 256 channels: the preset `dcgan` at this size. What mimicry calls DCGAN is SNGAN's residual nets
without spectral norms; ours are those, and differ in one block of the discriminator, which halves
its map once more, and in how maps are doubled. All play for the non-saturating loss with the same
Adam, in batches of 64 from memory, an update of the generator for each of the discriminator. A
comparison of networks that differ in parameters or in work by more than a tenth is refused.

The peers are measured at their default, which is float32, and under bfloat16 autocast; ours in
float32 and as the presets compute, in bfloat16 where the processor has it. Ours is the trainer's
whole step, with the average of the weights and the metrics; the peers' are the bare updates
(`gan_peers.py`).

Each peer has a process of its own, one after the other in alternating rounds, and as many torch
threads. The clock starts some seconds after the first update. Where the machine is a guest
that others on its host disturbed, a measurement is repeated. mimicry is no part of the extra
`bench`, because it asks for tensorflow, which none of this uses: `pip install --no-deps
torch-mimicry` adds it to the comparison.

    python benchmarks/gan_training.py
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
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
    stolen_seconds,
    stop,
    summarise,
    threads_of,
)
from painter_training import AUTO, Settings, images_per_second, summaries
from training_speed import QUICK as QUICK_WINDOW
from training_speed import Window, has_bfloat16

#: What all are told.
SETTINGS: Settings = {"size": 32, "channels": 3, "images": 1024, "batch_size": 64}
QUICK: Settings = {**SETTINGS, "images": 16, "batch_size": 2}
#: Ours has the peer's parameters and multiply-adds, more or fewer by this part at most.
SLACK = 0.1
#: Images that a forward pass is counted on. With fewer our generator fills its first layer up, so
#: that an image does not depend on how many there are.
COUNTED = 16

#: A measurement is repeated, so often at most, while other machines on the host take more than this
#: part of a core away.
STOLEN, TRIES = 0.05, 5
#: Of what is measured, what says nothing about the networks.
NOT_SIZES = ("images_per_second", "stolen")

Library = Literal["playfield", "torchgan", "torch-mimicry"]
Net = Literal["dcgan", "resnet"]
#: What the peers' networks are.
NETS: dict[Library, Net] = {"torchgan": "dcgan", "torch-mimicry": "resnet"}


@dataclass(frozen=True)
class Peer:
    """One way to train."""

    library: Library
    net: Net
    precision: Literal["float32", "bfloat16"] = "float32"

    @property
    def name(self) -> str:
        net = f" ({self.net})" if self.library == "playfield" else ""
        return f"{self.library}{net}, {self.precision}"


def peers(libraries: Sequence[Library]) -> list[Peer]:
    """Those libraries, each beside ours with its networks."""
    return [
        peer
        for library in libraries
        for net in [NETS[library]]
        for peer in dict.fromkeys(
            (
                Peer(library, net),
                Peer("playfield", net),
                Peer(library, net, "bfloat16"),
                Peer("playfield", net, AUTO),
            )
        )
    ]


# --- one process ----------------------------------------------------------------------------------


class Game(Protocol):
    """A generator and a discriminator that learn from each other."""

    @property
    def generator(self) -> Any: ...

    @property
    def discriminator(self) -> Any: ...

    def step(self) -> None:
        """An update of each."""

    def paint(self, count: int) -> Any:
        """Images `[B, C, H, W]`, as the discriminator is shown them."""

    def judge(self, images: Any) -> Any:
        """Their logits `[B]`."""


class Playfield:
    """What `playfield train gan --preset dcgan` does in each step, on such images."""

    def __init__(self, peer: Peer, images: Any, batch_size: int) -> None:
        import torch

        from playfield.generative.gan_networks import GAN_SIZES
        from playfield.generative.images import images_from_arrays
        from playfield.generative.presets import PRESETS

        data = images_from_arrays("noise", images)
        config: Any = PRESETS["dcgan"].sized(data.spec.height, data.spec.width).config
        if peer.net == "resnet":
            # Miyato et al.'s, without spectral norms.
            config = replace(
                config, net=replace(GAN_SIZES["resnet-small"], discriminator_norm="none")
            )
        config = replace(config, batch_size=batch_size, precision=peer.precision)
        self.trainer = config.build_trainer(
            data, None, seed=0, device=torch.device("cpu"), steps=10**9
        )
        self.generator, self.discriminator = self.trainer.network, self.trainer.discriminator

    def step(self) -> None:
        self.trainer.step()

    def paint(self, count: int) -> Any:
        import torch

        return self.generator(torch.randn(count, self.generator.latent), no_labels(count))

    def judge(self, images: Any) -> Any:
        return self.discriminator(images, no_labels(len(images)))


def no_labels(count: int) -> Any:
    import torch

    from playfield.generative.objective import NO_LABEL

    return torch.full((count,), NO_LABEL)


def game(peer: Peer, settings: Settings, threads: int) -> Game:
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
    from gan_peers import Mimicry, TorchGAN

    kind = TorchGAN if peer.library == "torchgan" else Mimicry
    return kind(torch.from_numpy(images), batch_size, peer.precision)


def measured(players: Game, settings: Settings, window: Window) -> dict[str, float]:
    """What the two are, how fast they learn, and which part of a core was taken away meanwhile."""
    sizes = size(players, settings["batch_size"])
    started, stolen = time.monotonic(), stolen_seconds()
    rate = images_per_second(players.step, settings["batch_size"], window)
    stolen = (stolen_seconds() - stolen) / (time.monotonic() - started)
    return {**sizes, "images_per_second": rate, "stolen": stolen}


def size(players: Game, batch_size: int) -> dict[str, float]:
    """Parameters, and multiply-adds for an image: of a forward pass, and of a whole step.

    Those of convolutions and matrices, by torch's counter.
    """
    import torch

    with torch.no_grad():
        images = players.paint(COUNTED)
        painting = multiply_adds(lambda: players.paint(COUNTED)) / COUNTED
        judging = multiply_adds(lambda: players.judge(images)) / COUNTED
    return {
        "generator_parameters": count_parameters(players.generator),
        "generator_multiply_adds": painting,
        "discriminator_parameters": count_parameters(players.discriminator),
        "discriminator_multiply_adds": judging,
        "step_multiply_adds": multiply_adds(players.step) / batch_size,
    }


def count_parameters(network: Any) -> int:
    return sum(p.numel() for p in network.parameters())


def multiply_adds(call: Callable[[], object]) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 2


# --- all of them ----------------------------------------------------------------------------------


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, help="how often each peer is measured; 3")
    arguments.add_argument("--seconds", type=float, help="on the clock, each time; 20")
    arguments.add_argument(
        "--peers", help="of torchgan and torch-mimicry, with commas; all there are"
    )
    arguments.add_argument("--child", help="a job of this script's own, as JSON")
    options = arguments.parse_args()
    if options.child:
        job = json.loads(options.child)
        players = game(Peer(**job["peer"]), job["settings"], job["threads"])
        print(json.dumps(measured(players, job["settings"], Window(**job["window"]))))
    else:
        compare(options, installed(options.peers))


def installed(chosen: str | None) -> list[Library]:
    """The chosen peers; exits with code 2 and one sentence where one is not there."""
    names = set(chosen.split(",")) if chosen else set(NETS)
    for name in sorted(names - set(NETS)):
        stop(f"there is no peer {name}: choose from {', '.join(NETS)}.")
    found: list[Library] = []
    for library in [library for library in NETS if library in names]:
        try:
            metadata.version(library)
        except metadata.PackageNotFoundError:
            if library == "torchgan":
                stop('torchgan is not installed: pip install "playfield[bench]".')
            if chosen:
                stop(f"{library} is not installed: pip install --no-deps {library}.")
            print(f"{library} is not installed, and left out: pip install --no-deps {library}.")
        else:
            found.append(library)
    return found


def undisturbed(measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What `measure` finds when it has the cores to itself; after `TRIES`, the least disturbed."""
    found: list[dict[str, float]] = []
    while len(found) < TRIES:
        found.append(measure())
        if found[-1]["stolen"] <= STOLEN:
            return found[-1]
        print(f"other machines on the host took {found[-1]['stolen']:.0%} of a core: once more")
    return min(found, key=lambda each: each["stolen"])


def in_a_process(peer: Peer, settings: Settings, window: Window, threads: int) -> dict[str, float]:
    """What `measured` finds in a process of the peer's own."""
    job = {
        "peer": asdict(peer),
        "settings": settings,
        "window": asdict(window),
        "threads": threads,
    }
    command = [sys.executable, __file__, "--child", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        stop(f"{peer.name} failed; its last words stand above.")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(options: argparse.Namespace, libraries: Sequence[Library]) -> None:
    record = conditions(options)
    threads = threads_of(options)
    window = QUICK_WINDOW if options.quick else Window(warm_up=5.0, seconds=20.0)
    if options.seconds is not None:
        window = replace(window, seconds=options.seconds)
    settings = QUICK if options.quick else SETTINGS
    rounds = options.rounds or (1 if options.quick else 3)

    everyone = peers(libraries)
    samples: dict[str, list[dict[str, float]]] = {peer.name: [] for peer in everyone}
    for number in range(rounds):
        for peer in everyone:
            found = undisturbed(partial(in_a_process, peer, settings, window, threads))
            samples[peer.name].append(found)
            rate = found["images_per_second"]
            print(f"round {number + 1}: {peer.name}: {rate:.1f} images/s", flush=True)
        refuse_unequal({name: taken[0] for name, taken in samples.items()}, libraries)

    sizes = {
        name: {key: value for key, value in taken[0].items() if key not in NOT_SIZES}
        for name, taken in samples.items()
    }
    speed = summaries(samples, "images_per_second")
    times = {
        f"{ours.name} / {other.name}": summarise(ratios(samples, ours, other))
        for ours, other in pairs(libraries)
    }
    show_results(settings, threads, sizes, speed, times)
    record |= {
        "threads": threads,
        "rounds": rounds,
        "window": asdict(window),
        "settings": dict(settings),
        "peers": {peer.name: asdict(peer) for peer in everyone},
        "bfloat16": has_bfloat16(),
        "sizes": sizes,
        "summary": {name: asdict(summary) for name, summary in speed.items()},
        "times": {name: asdict(summary) for name, summary in times.items()},
        "samples": samples,
    }
    report("gan_training", record, targets(times, libraries), destination(options))


def pairs(libraries: Sequence[Library]) -> list[tuple[Peer, Peer]]:
    """Ours and the peer that it is held against: each of one's precisions against each other's."""
    return [
        (ours, other)
        for library in libraries
        for net in [NETS[library]]
        for other in (Peer(library, net), Peer(library, net, "bfloat16"))
        for ours in dict.fromkeys((Peer("playfield", net, AUTO), Peer("playfield", net)))
    ]


def ratios(samples: Mapping[str, list[dict[str, float]]], ours: Peer, other: Peer) -> list[float]:
    """Of what was measured in one round: a machine that slows down slows both."""
    both = zip(samples[ours.name], samples[other.name], strict=True)
    return [mine["images_per_second"] / its["images_per_second"] for mine, its in both]


def show_results(
    settings: Settings,
    threads: int,
    sizes: Mapping[str, Mapping[str, float]],
    speed: Mapping[str, Summary],
    times: Mapping[str, Summary],
) -> None:
    pixels = settings["size"]
    show(
        f"DCGANs of {pixels}x{pixels} RGB, batches of {settings['batch_size']}, {threads} threads",
        ("", "parameters", "G, D: M multiply-adds", "a step", "images/s: median (quartiles)"),
        [
            (
                name,
                f"{parameters(sizes[name]):,.0f}",
                " + ".join(
                    f"{sizes[name][f'{network}_multiply_adds'] / 1e6:.1f}"
                    for network in ("generator", "discriminator")
                ),
                f"{sizes[name]['step_multiply_adds'] / 1e6:.0f}",
                str(summary),
            )
            for name, summary in speed.items()
        ],
    )
    show(
        "Times the peer's images/s",
        ("", "median (quartiles)"),
        [(name, str(summary)) for name, summary in times.items()],
    )


def parameters(size: Mapping[str, float]) -> float:
    return size["generator_parameters"] + size["discriminator_parameters"]


def targets(times: Mapping[str, Summary], libraries: Sequence[Library]) -> list[Target]:
    """Faster in float32, and faster as the presets compute than the peers are in bfloat16."""
    found = []
    for library in libraries:
        net = NETS[library]
        plain = f"{Peer('playfield', net).name} / {Peer(library, net).name}"
        cast = f"{Peer('playfield', net, AUTO).name} / {Peer(library, net, 'bfloat16').name}"
        found += [
            Target(f"times {library}'s images/s, both in float32", 1.0, times[plain].median),
            Target(f"times {library}'s in bfloat16", 1.0, times[cast].median),
        ]
    return found


def refuse_unequal(sizes: Mapping[str, Mapping[str, float]], libraries: Sequence[Library]) -> None:
    """Exit where a network of ours is not as large as the peer's, or does not as much work."""
    for library in libraries:
        ours = sizes[Peer("playfield", NETS[library]).name]
        theirs = sizes[Peer(library, NETS[library]).name]
        for network in ("generator", "discriminator"):
            for what in ("parameters", "multiply-adds"):
                key = f"{network}_{what}".replace("-", "_")
                if abs(ours[key] / theirs[key] - 1) > SLACK:
                    stop(f"our {network}'s {what} are not {library}'s: no comparison.")


if __name__ == "__main__":
    main()
