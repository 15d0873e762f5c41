"""`playfield sample RUN`: images painted by a trained model."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from playfield.commands import arguments
from playfield.errors import UserError
from playfield.generative.sampling import SamplerConfig
from playfield.training.places import runs_root

if TYPE_CHECKING:
    import torch

    from playfield.commands.sample_task import Task
    from playfield.generative.model import PaintingModel
    from playfield.training.checkpoint import Checkpoint
    from playfield.training.run import Run

#: Images where no number is asked for: of a sheet, and of those between two or around one.
NUMBER, FEW = 64, 16


@dataclass(frozen=True)
class Options:
    """Paint images with a run's model, as one picture, a folder of pictures, or arrays.

    An image follows from its seed, its class and the settings; how many are painted at once, and
    which others, does not change it.
    """

    run: tyro.conf.Positional[str]
    """Name or folder of the run."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """How to paint."""
    number: Annotated[int | None, tyro.conf.arg(aliases=["-n"])] = None
    """Images to paint; None: 64, or 16 with --interpolate or --inpaint."""
    seeds: str | None = None
    """Seeds, one for each image, such as 0-63 or 3,5,9-12; None: 0, 1, 2 and so on."""
    classes: str | None = None
    """Classes to paint in turn, by name or number, such as 0,1,2; all; or none, without a label.
    None: each seed has one of its own, so that the seeds 0, 1, 2 … show the classes in turn; with
    --inpaint no label, where the model can paint without."""
    out: str | None = None
    """Where to: FILE.png, one picture; FILE.npz, arrays that the data kind npz: reads; FOLDER/, a
    picture each; with --interpolate also FILE.gif or FILE.mp4. None: in the run's folder samples.
    """
    trajectory: Path | None = None
    """Write a film of the way from noise to image to FILE.mp4, FILE.gif or FILE.png (animated)."""
    interpolate: tuple[int, ...] = ()
    """Two seeds, such as 3 8: paint what lies between their images, both included."""
    inpaint: tuple[Path, ...] = ()
    """Two pictures, an image and a mask: paint what is white in the mask around the rest."""
    resamples: int | None = None
    """With --inpaint: how often each step is gone down; the more, the better it fits. None: 10."""
    autoguide: str | None = None
    """Guide by a worse model, RUN or RUN:CHECKPOINT: smaller, or an earlier checkpoint of the same
    run; --guidance then says how much."""
    weights: str = "averaged"
    """averaged, newest (those of the last update), or the width of an average (sigma_rel) such as
    0.1, made from the run's snapshots."""
    checkpoint: str | None = None
    """Which checkpoint, by its images or path, or best (by the distance measured while it was
    trained) or last; None: the newest intact one."""
    batch_size: int = 64
    """Images to paint at once."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    threads: int | None = None
    """Threads to compute with; None: as many as there are cores to use."""
    root: Path = field(default_factory=runs_root)
    """Folder that runs are kept in."""


def run(args: Sequence[str]) -> int:
    options = arguments.parse(Options, args, command="sample")
    _check(options)

    from playfield.commands import stored
    from playfield.commands.sample_outputs import columns_for, film_rate, open_output, write_film
    from playfield.commands.sample_task import Film, painted
    from playfield.evaluation.video import VideoWriter
    from playfield.generative.saved_painter import painter_of
    from playfield.training.devices import resolve_device, set_threads
    from playfield.training.progress_bar import progress_bar
    from playfield.training.run import Run
    from playfield.training.signals import raise_at_interrupt

    device = resolve_device(options.device)
    set_threads(options.threads)
    old = Run.open(options.run, options.root)
    painter_of(old)
    checkpoint = stored.stored_checkpoint(old, options.checkpoint, stores=False)
    task = _task(options, old, checkpoint, device)
    out = options.out if options.out is not None else _usual_place(old, checkpoint, task)
    film = None if options.trajectory is None else Film(task)
    count, labels = len(task.seeds), task.label.tolist()
    raise_at_interrupt()  # a film under way is taken away again
    with ExitStack() as stack:
        output = open_output(out, task.model.spec.channels, task.seeds, labels, stack)
        if options.trajectory is not None and film is not None:
            rate = film_rate(film.moments)
            writer = stack.enter_context(VideoWriter(options.trajectory, rate))
        started, first = time.monotonic(), None
        with progress_bar(old.name, count, "images") as show:
            for images in painted(task, options.batch_size, show, film):
                output.add(images)
                first = images if first is None else first
        seconds = time.monotonic() - started
        output.finish()
        if film is not None:
            write_film(writer, film, columns_for(labels), rate)
    if sys.stdout.isatty() and first is not None:
        from playfield.commands.preview import preview

        print("\n".join(preview(first, *shutil.get_terminal_size())))
    plan = task.plan
    places = out if options.trajectory is None else f"{out} and {options.trajectory}"
    steps = "1 step" if plan.steps == 1 else f"{plan.steps} steps"
    calls = "1 network call" if task.network_calls == 1 else f"{task.network_calls} network calls"
    print(
        f"{count:,} images by {task.way}, {steps}, {calls} each (NFE), "
        f"{count / max(seconds, 1e-9):,.1f} images/s, written to {places}"
    )
    return 0


def _task(options: Options, old: Run, checkpoint: Checkpoint, device: torch.device) -> Task:
    """What is to be painted, everything about it checked."""
    from playfield.commands.sample_requests import read_known
    from playfield.commands.sample_task import Task
    from playfield.generative.interpolation import noise_between
    from playfield.generative.model import denoising
    from playfield.generative.sampling import check_label
    from playfield.generative.saved_painter import stored_model

    model = stored_model(old, checkpoint, device, options.weights)
    seeds = _seeds(options)
    label = _labels(options, model, seeds)
    check_label(model, label, len(seeds))
    config, guided = options.sampler, options.autoguide is not None
    if options.autoguide is not None:
        model = _autoguided(options, model, checkpoint, device)
        config = replace(config, guidance=1.0)  # that much guidance is in the model now
    initial = known = standing = None
    if options.interpolate:
        first, last = options.interpolate
        initial = noise_between(first, last, len(seeds), model.noise_shape)
    if options.inpaint:
        image, mask = options.inpaint
        known, standing = read_known(image, mask, model.spec)
    if options.trajectory is not None:
        denoising(model, "--trajectory")
    resamples = 10 if options.resamples is None else options.resamples
    task = Task(model, config, seeds, label, initial, known, standing, resamples, guided)
    _ = task.plan  # what does not fit is told before anything is written
    return task


def _seeds(options: Options) -> list[int]:
    from playfield.commands.sample_requests import read_seeds

    if options.seeds is not None:
        seeds = read_seeds(options.seeds)
        if options.number is not None and options.number != len(seeds):
            raise UserError(
                f"--seeds {options.seeds} are {len(seeds)} images and --number says "
                f"{options.number}: leave one of them out."
            )
        return seeds
    alone = not (options.interpolate or options.inpaint)
    number = options.number or (NUMBER if alone else FEW)
    # Noise on the way is the same for all images between two.
    return [options.interpolate[0]] * number if options.interpolate else list(range(number))


def _labels(options: Options, model: PaintingModel, seeds: list[int]) -> torch.Tensor:
    import torch

    from playfield.commands.sample_requests import read_classes
    from playfield.generative.objective import NO_LABEL

    classes = len(model.spec.classes)
    if options.classes is not None:
        wanted = read_classes(options.classes, model.spec)
        if options.interpolate and len(wanted) != 1:
            raise UserError("--interpolate paints images of one class: give --classes one of them.")
        return torch.tensor([wanted[i % len(wanted)] for i in range(len(seeds))])
    if not classes or (options.inpaint and model.unconditional):
        return torch.full((len(seeds),), NO_LABEL)
    return torch.tensor([seed % classes for seed in seeds])


def _autoguided(
    options: Options, model: PaintingModel, own: Checkpoint, device: torch.device
) -> PaintingModel:
    """The model with the guidance of the one that `--autoguide` names."""
    from playfield.commands import stored
    from playfield.generative.guidance import autoguided
    from playfield.generative.model import denoising
    from playfield.generative.saved_painter import painter_of, stored_model
    from playfield.training.checkpoint import list_checkpoints
    from playfield.training.run import Run

    assert options.autoguide is not None
    model = denoising(model, "--autoguide")
    scale = options.sampler.guidance
    if scale == 1:
        raise UserError("--autoguide does nothing at --guidance 1: say how much, such as 2.")
    # A colon stands in no run's name, but a path may have one.
    match = re.fullmatch(r"(.+):([\d,_]+|best|last)", options.autoguide)
    name, wanted = match.groups() if match else (options.autoguide, None)
    other = Run.open(name, options.root)
    painter_of(other)
    checkpoint = stored.stored_checkpoint(other, wanted, stores=False)
    if checkpoint.path.resolve() == own.path.resolve():
        earlier = [f"{name}:{int(p.name)}" for p in list_checkpoints(other.checkpoints_folder)[:-1]]
        raise UserError(
            f"--autoguide {options.autoguide} is the model itself: take a smaller one, or an "
            f"earlier checkpoint ({', '.join(earlier) or 'of which this run keeps none'})."
        )
    reference = denoising(stored_model(other, checkpoint, device), "--autoguide")
    return autoguided(model, reference, scale)


def _usual_place(old: Run, checkpoint: Checkpoint, task: Task) -> str:
    """A picture in the run's own folder, called by what painted it."""
    folder = old.folder / "samples"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be made ({error.strerror}): say where to write with --out."
        ) from None
    way = task.way if task.initial is None else f"{task.way}-interpolation"
    return str(folder / f"{checkpoint.progress:012d}-{way}.png")


def _check(options: Options) -> None:
    from playfield.commands.sample_requests import MOST_IMAGES

    if len(options.interpolate) not in (0, 2):
        given = " ".join(map(str, options.interpolate))
        raise UserError(f"--interpolate wants two seeds, such as 3 8, not {given}.")
    if len(options.inpaint) not in (0, 2):
        given = " ".join(map(str, options.inpaint))
        raise UserError(f"--inpaint wants two files, an image and a mask, not {given}.")
    least = 2 if options.interpolate else 1
    if options.number is not None and not least <= options.number <= MOST_IMAGES:
        raise UserError(
            f"--number has to lie between {least} and {MOST_IMAGES:,}, not {options.number}."
        )
    if options.batch_size < 1:
        raise UserError(f"--batch-size has to be 1 or more, not {options.batch_size}.")
    if options.interpolate and options.inpaint:
        raise UserError("--interpolate and --inpaint do not go together: choose one.")
    if options.interpolate and options.seeds is not None:
        raise UserError("--interpolate has its two seeds: leave --seeds out.")
    if options.resamples is not None:
        if not options.inpaint:
            raise UserError("--resamples is of --inpaint: leave it out.")
        if options.resamples < 1:
            raise UserError(f"--resamples has to be 1 or more, not {options.resamples}.")
    if options.out is None:
        return
    if options.trajectory is not None and Path(options.out) == options.trajectory:
        raise UserError(f"--out and --trajectory are both {options.out}: name two files.")
    if not options.interpolate and Path(options.out).suffix.lower() in (".gif", ".mp4"):
        raise UserError(
            f"{options.out} cannot be written: --out is a film with --interpolate only; "
            "--trajectory films how images are painted."
        )
