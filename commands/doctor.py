"""`playfield doctor`: try everything that training needs, and say how fast it is or what to do."""

from __future__ import annotations

import platform
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from playfield.commands import arguments, machine_speed
from playfield.errors import UserError
from playfield.training.places import runs_root

GATHERS = 40  # batches copied to measure the bandwidth: some hundredths of a second
GAME, GAMES = "ALE/Pong-v5", 8
ENOUGH_DISK = 2 * 2**30  # bytes: checkpoints of a run with 100,000 frames of replay


@dataclass(frozen=True)
class Options:
    """Check this installation: packages, kernels, device, environments, a training step.

    Measures the machine on the way: memory, arithmetic, emulator, disk. Other programs that are at
    work meanwhile make it slower. The exit code is 1 if something is broken.
    """

    root: Path = field(default_factory=runs_root)
    """Folder that runs are kept in."""


@dataclass(frozen=True)
class Check:
    """One thing to try: `look` returns what it found, and raises if that is broken."""

    name: str
    look: Callable[[], str]
    advice: str  # what to do if it is broken


def run(args: Sequence[str]) -> int:
    options = arguments.parse(Options, args, command="doctor")
    broken = sum(not _passes(check) for check in checks(options.root))
    if broken:
        print(f"\n{broken} of these are broken; what to do stands beside them.")
        return 1
    print("\nEverything works: playfield train dqn --env ALE/Pong-v5")
    return 0


def checks(root: Path) -> list[Check]:
    """Everything there is to try, in the order in which one thing builds on another."""
    reinstall = "install again: pip install --force-reinstall playfield"
    return [
        Check("python", _python, "install Python 3.11 or newer and make the environment anew"),
        Check("packages", _packages, reinstall),
        Check(
            "kernels",
            _kernels,
            "compile them: pip install -e . in a checkout (needs a C compiler), or " + reinstall,
        ),
        Check("gather", _gather, "report this, with the processor's name: batches will be slow"),
        Check("device", _device, "pass --device cpu, or install the torch build for this GPU"),
        Check("threads", _threads, "set OMP_NUM_THREADS to the number of cores you may use"),
        Check("memory", _memory, "close other programs, or give this one more memory"),
        Check("multiply", _multiply, "pass --device cpu, or install the torch build for this GPU"),
        Check("world", _world, reinstall),
        Check("atari", _atari, "install again: pip install --force-reinstall 'ale-py>=0.12.1'"),
        Check("emulator", _emulator, reinstall),
        Check("training", _training, "report this, with the output of the command and --debug"),
        Check("video", _video, "pip install imageio-ffmpeg; .gif and .png need no ffmpeg"),
        Check(
            "runs",
            lambda: _runs_folder(root),
            "choose a folder to write to: --root FOLDER or PLAYFIELD_RUNS=FOLDER",
        ),
        Check("energy", _energy, "report this, with the output of the command and --debug"),
    ]


def _passes(check: Check) -> bool:
    try:
        found = check.look()
    except Exception as error:  # whatever it is, it is what the user has to hear about
        reason = " ".join(str(error).split()) or type(error).__name__
        print(f"BROKEN  {check.name:<9} {reason}\n        {'':<9} -> {check.advice}")
        return False
    print(f"ok      {check.name:<9} {found}")
    return True


def _python() -> str:
    return f"{platform.python_version()} at {sys.executable}"


def _packages() -> str:
    from importlib import metadata

    names = ("playfield", "torch", "numpy", "gymnasium", "ale-py", "tensorboard", "safetensors")
    found, missing = [], []
    for name in names:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        raise UserError(f"not installed: {', '.join(missing)}")
    return ", ".join(found)


def _kernels() -> str:
    import pkgutil
    from importlib import import_module

    import numpy as np

    from playfield import _ext
    from playfield._ext import gather, windows

    names = [module.name for module in pkgutil.iter_modules(_ext.__path__)]
    for name in names:
        import_module(f"playfield._ext.{name}")

    table = np.arange(12, dtype=np.uint8).reshape(4, 3)
    out = np.full((3, 3), 255, np.uint8)
    gather.gather_rows(table, np.asarray([2, -1, 0]), out, 1)
    if out.tolist() != [[6, 7, 8], [0, 0, 0], [0, 1, 2]]:
        raise UserError("the compiled gather gives wrong rows")
    rows = np.empty((1, 3), np.int64)
    here = np.asarray([0])  # the one stream, at time 1, in the second step of its episode
    windows.stack_rows(here, here + 1, np.asarray([[0, 1, 2, 3]], np.int32), rows)
    if rows.tolist() != [[-1, 0, 1]]:
        raise UserError("the compiled windows give wrong rows")
    return f"compiled: {', '.join(names)}"


def _gather() -> str:
    """How fast frames at random places become a batch: what bounds sampling from a replay."""
    import numpy as np

    from playfield._ext.gather import gather_rows
    from playfield.buffers.store import gather_threads

    width, windows, frames_each = 84 * 84, 256, 5  # a batch of 256 one-step Atari transitions
    table = np.ones((20_000, width), np.uint8)
    out = np.empty((windows * frames_each, width), np.uint8)
    first = np.random.default_rng(0).integers(0, len(table) - frames_each, (GATHERS, windows, 1))
    batches = (first + np.arange(frames_each)).reshape(GATHERS, -1)

    def bandwidth(threads: int) -> float:
        times = []
        for rows in batches:
            started = time.perf_counter()
            gather_rows(table, rows, out, threads)
            times.append(time.perf_counter() - started)
        return out.nbytes / statistics.median(times) / 1e9

    threads = gather_threads()
    found = f"{threads} kernel thread{'s' if threads > 1 else ''}: {bandwidth(threads):.1f} GB/s"
    return found + (f" (one alone: {bandwidth(1):.1f} GB/s)" if threads > 1 else "")


def _device() -> str:
    import torch

    from playfield.training.devices import precision, resolve_device

    device = resolve_device("auto")
    if float((torch.ones(8, 8, device=device) @ torch.ones(8, 8, device=device)).sum()) != 512:
        raise UserError(f"{device} multiplies matrices wrongly")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    kind = "bfloat16" if precision(device, "auto") is not None else "float32"
    return f"{name}, computes in {kind}"


def _threads() -> str:
    from playfield.training.devices import set_threads, usable_cores

    return f"{set_threads(None)} of torch on {usable_cores()} usable cores"


def _memory() -> str:
    import torch

    found = machine_speed.memory_bandwidth(torch.device("cpu"))
    return f"copies at {found / 1e9:.1f} GB/s, read and written together"


def _multiply() -> str:
    """What convolutions come down to, in both kinds of numbers that training computes in."""
    import torch

    from playfield.training.devices import resolve_device

    found = []
    for name in dict.fromkeys(["cpu", str(resolve_device("auto"))]):
        speeds = [
            machine_speed.matmul_speed(torch.device(name), dtype) / 1e9
            for dtype in (torch.float32, torch.bfloat16)
        ]
        found.append(f"{name} {speeds[0]:,.0f} GFLOP/s in float32, {speeds[1]:,.0f} in bfloat16")
    return "; ".join(found)


def _emulator() -> str:
    found = machine_speed.emulator_speed(GAME, GAMES)
    return f"{found:,.0f} steps/s of {GAMES} games of {GAME}"


def _energy() -> str:
    from playfield.training.energy import EnergyMeter

    if EnergyMeter().read() is None:
        return "the processors' counters can't be read: runs won't tell what they took"
    return "runs tell what the processors took, all programs together"


def _world() -> str:
    return _step("playfield/Catch-v0")


def _atari() -> str:
    return _step(GAME)


def _step(env_id: str) -> str:
    import numpy as np

    from playfield import envs

    env = envs.make(env_id, 2)
    try:
        env.reset(0)
        step = env.step(np.zeros(2, np.int64))
    finally:
        env.close()
    if step.frames.shape != (2, *env.spec.frame_shape):
        raise UserError(f"{env_id} hands over frames of shape {step.frames.shape}")
    return f"a step of {env_id}: frames {'x'.join(map(str, env.spec.frame_shape))}"


def _training() -> str:
    import math
    from dataclasses import replace

    from playfield import envs
    from playfield.agents.presets import PRESETS
    from playfield.agents.registry import algorithm
    from playfield.training.devices import resolve_device

    preset = PRESETS["catch"]
    config = replace(preset.config, learning_starts=64, buffer_size=1000)  # type: ignore[type-var]
    device = resolve_device("auto")
    env = envs.make(preset.env or "playfield/Catch-v0", config.num_envs)
    try:
        trainer = algorithm(preset.algorithm).build_trainer(
            config, env, seed=0, device=device, steps=preset.steps
        )
        trainer.begin_segment(0)
        loss: float | None = None
        while loss is None and trainer.progress < 1000:
            value = trainer.step().get("train/loss")
            loss = None if value is None else float(value)  # type: ignore[arg-type]
    finally:
        env.close()
    if loss is None or not math.isfinite(loss):
        raise UserError(f"an update of {preset.algorithm} gives the loss {loss}")
    return f"an update of {preset.algorithm} on {device}: loss {loss:.3g}"


def _video() -> str:
    import imageio_ffmpeg

    return f"ffmpeg {imageio_ffmpeg.get_ffmpeg_version()}"


def _runs_folder(root: Path) -> str:
    existing = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    try:
        speed = machine_speed.disk_speed(existing)
    except OSError as error:
        raise UserError(f"{existing} can't be written to ({error.strerror})") from error
    free = shutil.disk_usage(existing).free
    if free < ENOUGH_DISK:
        raise UserError(f"only {free / 2**30:.1f} GiB are free in {existing}")
    return f"{root} can be written to, at {speed / 1e6:,.0f} MB/s; {free / 2**30:.0f} GiB free"
