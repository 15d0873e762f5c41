"""Which painters are compared, on what images, and their runs: trained once, and found again."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import torch
from measure import command_without_paths, playfield_command, stolen_seconds, stop

from playfield.atomic import write_atomically
from playfield.commands import stored
from playfield.generative.gan import GANConfig
from playfield.generative.gan_networks import build_discriminator
from playfield.generative.sampling import SamplerConfig
from playfield.generative.saved_painter import stored_config, stored_spec
from playfield.training.logs import read_metrics
from playfield.training.run import MANIFEST, Run

#: Minutes that a process takes from its start until it learns.
STARTING = 0.1
#: Minutes of a run that tells how fast a painter learns.
PROBE = 0.3
#: Such a run is repeated, so often at most, while other machines on the host take more than this
#: part of a core away.
STOLEN, TRIES = 0.05, 5
#: More images than are ever seen between two checkpoints: time is for learning.
NEVER = 10**9
#: In the folder of a run that ended as it should: how, and how long its process took.
NOTE = "painters.json"
#: What is noted of each run besides the conditions it was trained under: images a second and
#: minutes of learning where nobody disturbs, the minutes of the process that follow from them, what
#: it took by the clock, which part of a core other machines on the host had meanwhile, and how many
#: runs were trained at once.
NOTED = (
    "images_per_second", "learned_minutes", "process_minutes", "wall_minutes", "stolen", "jobs"
)  # fmt: skip
KEPT = ("algorithm", "preset", "config", "training", "init", "seed", "device", "threads", "git")

DIFFUSION, CONSISTENCY, TEACHER = "diffusion", "consistency", "teacher"


@dataclass(frozen=True)
class ImageSet:
    """What is learned from and compared with, and how much of it."""

    name: str  # of the files of its result
    title: str
    train: str  # specs as for --data
    test: str  # images that no painter learns from
    labelled: bool  # so that a classifier can judge
    number: int  # painted images, and real ones, that are compared
    minutes: float  # for each painter
    seeds: tuple[int, ...]
    columns: int  # of the sheet of examples
    scale: int  # of a pixel there


DATA: Mapping[str, ImageSet] = {
    each.name: each
    for each in (
        ImageSet(
            "digits", "8×8 digits", "digits,split=train", "digits,split=test",
            labelled=True, number=1_498, minutes=5.0, seeds=(0, 1, 2), columns=20, scale=4,
        ),
        ImageSet(
            "breakout", "frames of Breakout at 32×32",
            "atari:Breakout,size=32", "atari:Breakout,size=32,seed=1",
            labelled=False, number=2_000, minutes=6.0, seeds=(0,), columns=12, scale=2,
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Painter:
    """One of those compared."""

    name: str
    title: str
    #: What `playfield train` is told, by the images.
    train: Mapping[str, tuple[str, ...]]
    #: Ways to paint. The last is what `playfield sample` takes, if it is told nothing.
    ways: tuple[SamplerConfig, ...] = (SamplerConfig(),)
    #: Options of the smallest network that there is, for --quick.
    tiny: tuple[str, ...] = ()
    taught: bool = False  # it begins with a diffusion model, and shares the minutes with it


def _gan(preset: str, title: str, channels: int = 16) -> Painter:
    words = ("gan", "--preset", preset)
    tiny = ("--generator-channels", str(channels), "--discriminator-channels", str(channels))
    return Painter(preset, title, dict.fromkeys(DATA, words), tiny=tiny)


_TINY_UNET = ("--base-channels", "8", "--channel-mult", "1", "--blocks", "1")

#: In the order of the tables. DPM-Solver++(2M) calls the network once a step, Heun's method 2N - 1
#: times in N steps, the midpoint rule twice a step.
PAINTERS: Mapping[str, Painter] = {
    painter.name: painter
    for painter in (
        _gan("dcgan", "DCGAN"),
        _gan("wgan-gp", "WGAN-GP"),
        _gan("sngan", "SN-GAN, hinge"),
        _gan("r3gan", "R3GAN"),
        Painter(
            DIFFUSION,
            "diffusion (EDM)",
            {"digits": ("diffusion",), "breakout": ("diffusion", "--preset", "small")},
            (
                SamplerConfig("dpmpp-2m", 2),
                SamplerConfig("dpmpp-2m", 9),
                SamplerConfig("dpmpp-2m", 18),
                SamplerConfig("heun", 18),
            ),
            tiny=_TINY_UNET,
        ),
        Painter(
            "flow",
            "flow",
            {"digits": ("flow",), "breakout": ("flow", "--preset", "small-flow")},
            tuple(SamplerConfig("flow-midpoint", steps) for steps in (1, 4, 16)),
            tiny=_TINY_UNET,
        ),
        Painter(
            CONSISTENCY,
            "consistency",
            {
                "digits": ("consistency",),
                # As its teacher learned.
                "breakout": ("consistency", "--batch-size", "64", "--ema-half-life", "50000"),
            },
            tuple(SamplerConfig("consistency", steps) for steps in (1, 2)),
            taught=True,  # and takes its teacher's network
        ),
    )
}


@dataclass(frozen=True)
class Learnt:
    """A painter's run that has ended."""

    painter: Painter
    run: Run
    teacher: Run | None

    def _sum(self, what: str) -> float:
        return sum(float(note(run)[what]) for run in self._runs)

    @property
    def minutes(self) -> float:
        """Of learning on a machine that nobody disturbs, the teacher's included."""
        return self._sum("learned_minutes")

    def record(self) -> dict[str, Any]:
        found = {**_record(self.run), "parameters": parameters(self.run)}
        found["minutes"] = self.minutes
        for what in ("process_minutes", "wall_minutes"):
            found[what] = self._sum(what)
        return found | {"teacher": None if self.teacher is None else _record(self.teacher)}

    @property
    def _runs(self) -> list[Run]:
        return [self.run] if self.teacher is None else [self.teacher, self.run]


def _record(run: Run) -> dict[str, Any]:
    manifest, noted = run.manifest, note(run)
    return {
        "run": run.name,
        "created": manifest["created"],
        "command": command_without_paths(manifest["command"]),
        **{name: manifest[name] for name in KEPT if name in manifest},
        "images_seen": manifest["progress"],
        **{what: noted[what] for what in NOTED},
        "diagnosis": list(manifest.get("diagnosis", ())),
    }


def note(run: Run) -> dict[str, Any]:
    """What was noted when its process ended."""
    found: dict[str, Any] = json.loads((run.folder / NOTE).read_bytes())
    return found


def learned_minutes(run: Run) -> float:
    """By the wall clock, from the first image on, without the evaluation at the end."""
    times = [line["time/minutes"] for line in read_metrics(run.metrics_path) if _TIME in line]
    return float(times[-1])


_TIME = "time/minutes"


def parameters(run: Run) -> dict[str, int]:
    """Of the network that paints, and of the one that it learned against, if there is one."""
    config, spec = stored_config(run), stored_spec(run)
    found = {"paints": _count(config.build_network(spec, seed=0, device=torch.device("cpu")))}
    if isinstance(config, GANConfig):
        found["discriminator"] = _count(build_discriminator(config.net, spec, torch.float32))
    return found


def _count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# --- training -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class School:
    """Where painters learn: each in a process of its own, once.

    A run that has ended is left as it is; one that was interrupted is set aside and trained anew.
    """

    images: ImageSet
    minutes: float | None  # for each, from the start of its process; None: --quick
    threads: int
    root: Path
    jobs: int = 1
    more: tuple[str, ...] = ()  # further options for every painter

    def judge(self) -> Run:
        """The classifier of the training images."""
        words = ["classifier", "--data", self.images.train, "--test-data", self.images.test]
        tiny = ["--epochs", "2", "--width", "8", "--features", "16"]
        return self._once("judge", [*words, "--seed", "0", *(tiny if self.minutes is None else [])])

    def learn(self, painters: Sequence[Painter], seed: int) -> list[Learnt]:
        """Train those of `painters` that have not learnt with this seed, `jobs` at a time."""
        new = [painter for painter in painters if self.learnt(painter, seed) is None]
        if self.minutes is not None:
            # Of one that is taught it has to be known how fast the teacher learns; how fast it
            # learns itself is found out when there is one.
            first = dict.fromkeys(DIFFUSION if p.taught else p.name for p in new)
            self._all([partial(self._probe, PAINTERS[name]) for name in first])
        self._all([partial(self._learn, painter, seed) for painter in new])
        return [found for painter in painters if (found := self.learnt(painter, seed)) is not None]

    def learnt(self, painter: Painter, seed: int) -> Learnt | None:
        """What `painter` has learnt with this seed; None: nothing yet, or not all of it."""
        parts = [painter.name, TEACHER] if painter.taught else [painter.name]
        runs = [self._ended(_seeded(part, seed)) for part in parts]
        if runs[0] is None or None in runs:
            return None
        return Learnt(painter, runs[0], runs[1] if painter.taught else None)

    def _learn(self, painter: Painter, seed: int) -> None:
        part = 0.5 if painter.taught else 1.0
        begin: Run | None = None
        if painter.taught:
            begin = self._train(PAINTERS[DIFFUSION], TEACHER, seed, part)
            if self.minutes is not None:
                self._probe(painter, begin)
        self._train(painter, painter.name, seed, part, begin)

    def _train(
        self, painter: Painter, name: str, seed: int, part: float, begin: Run | None = None
    ) -> Run:
        """The run of `painter` called `name`, in this part of the minutes."""
        words = [*self._words(painter, begin), "--seed", str(seed)]
        if self.minutes is None:
            return self._once(_seeded(name, seed), [*words, *painter.tiny, *QUICK_OPTIONS])
        rate = self._rate(painter)
        steps = max(1, round(rate * 60 * (part * self.minutes - STARTING)))
        budget = ["--steps", str(steps), *_UNDISTURBED]
        return self._once(_seeded(name, seed), [*words, *budget], rate)

    def _probe(self, painter: Painter, begin: Run | None = None) -> Run:
        """A short run, which tells how many images a second `painter` learns from.

        It is repeated while others on the host disturb it; then the least disturbed one counts.
        """
        name = f"speed-{painter.name}"
        if (known := self._ended(name)) is not None:
            return known
        words = [*self._words(painter, begin), "--minutes", f"{PROBE:g}", *_UNDISTURBED]
        tried: list[Run] = []
        while not tried or (len(tried) < TRIES and note(tried[-1])["stolen"] > STOLEN):
            tried.append(self._once(f"{name}-{len(tried) + 1}", [*words, "--steps", str(NEVER)]))
        best = min(tried, key=lambda run: float(note(run)["stolen"]))
        folder = best.folder.with_name(self._full(name))
        best.folder.rename(folder)
        for other in tried:
            if other is not best:
                shutil.rmtree(other.folder)
        return Run.open(folder.name, self.root)

    def _rate(self, painter: Painter) -> float:
        run = self._ended(f"speed-{painter.name}")
        assert run is not None  # it was trained before
        return float(note(run)["images_per_second"])

    def _words(self, painter: Painter, begin: Run | None) -> list[str]:
        source = ["--init-from", begin.name] if begin else ["--data", self.images.train]
        return [*painter.train[self.images.name], *source, *self.more]

    def _once(self, name: str, words: Sequence[str], rate: float | None = None) -> Run:
        """The run of that name, trained now unless it has been.

        `rate`: images a second that such a painter learns from where nobody disturbs it; None: as
        many as this run does.
        """
        if (run := self._ended(name)) is not None:
            return run
        name = self._full(name)
        self._set_aside(name)
        command = [playfield_command(), "train", *words, "--run", name, "--root", str(self.root)]
        command += ["--device", "cpu", "--threads", str(self.threads)]
        print(f"{name}: {' '.join(words)}", flush=True)
        started, stolen = time.monotonic(), stolen_seconds()
        # What several say at once nobody can read.
        done = subprocess.run(command, capture_output=self.jobs > 1, text=True)
        seconds = time.monotonic() - started
        if done.returncode:
            said = f"\n{done.stderr.strip()}" if self.jobs > 1 else " Its last words stand above."
            stop(f"`playfield train {words[0]}` of {name} failed.{said}")
        run = Run.open(name, self.root)
        images, learned = run.manifest["progress"], learned_minutes(run)
        rate = images / (60 * learned) if rate is None else rate
        minutes = images / (60 * rate)
        kept = {
            "images_per_second": rate,
            "learned_minutes": minutes,
            # What is not learning takes as long as it does.
            "process_minutes": minutes + max(seconds / 60 - learned, 0.0),
            "wall_minutes": seconds / 60,
            "stolen": (stolen_seconds() - stolen) / seconds,
            "jobs": self.jobs,
        }
        write_atomically(self.root / name / NOTE, json.dumps(self._conditions() | kept).encode())
        print(f"{name}: {seconds / 60:.1f} minutes", flush=True)
        return run

    def _ended(self, name: str) -> Run | None:
        """The run of that name, if it ended under the conditions that are asked for now."""
        name = self._full(name)
        if not (self.root / name / NOTE).is_file():
            return None
        run = Run.open(name, self.root)
        for what, asked in self._conditions().items():
            if (found := note(run).get(what)) != asked:
                stop(
                    f"run {name!r} was trained with {what} {found}, and {asked} is asked for: "
                    "choose another --root, or the same as then."
                )
        return run

    def _set_aside(self, name: str) -> None:
        """Make room for a run of that name where one was interrupted."""
        folder = self.root / name
        if (folder / MANIFEST).is_file():
            with Run.open(name, self.root).hold():  # nobody is training it
                aside = time.strftime(f"{name}-interrupted-%Y%m%d-%H%M%S")
                folder.rename(self.root / aside)
            stored.report(f"{name} was interrupted: it is kept as {aside}, and trained anew.")

    def _conditions(self) -> dict[str, Any]:
        return {
            "data": self.images.train,
            "minutes": self.minutes,
            "threads": self.threads,
            "options": " ".join(self.more),
        }

    def _full(self, name: str) -> str:
        return f"painters-{self.images.name}-{name}"

    def _all(self, tasks: Iterable[Callable[[], object]]) -> None:
        """Run `tasks`, `jobs` at a time; once one fails, or Ctrl-C is pressed, no other begins."""
        over = Event()

        def run(task: Callable[[], object]) -> None:
            try:
                if not over.is_set():
                    task()
            except BaseException:
                over.set()
                raise

        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                for future in as_completed([pool.submit(run, task) for task in tasks]):
                    future.result()
            except BaseException:
                over.set()
                raise


#: Neither evaluated nor saved before the end.
_UNDISTURBED = ("--evaluate-every", "0", "--checkpoint-every", str(NEVER))
QUICK_OPTIONS = ("--steps", "128", "--batch-size", "32", *_UNDISTURBED)


def _seeded(name: str, seed: int) -> str:
    return f"{name}-seed{seed}"
