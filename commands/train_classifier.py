"""`playfield train classifier`: a new run that learns to tell the classes of a data set apart."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playfield.commands import arguments
from playfield.errors import UserError
from playfield.generative.classifier import ClassifierConfig
from playfield.generative.classifier_presets import DEFAULT, ClassifierTrainingConfig, preset
from playfield.generative.datasets.options import DataOptions
from playfield.generative.judges import CLASSIFIER
from playfield.training.places import runs_root
from playfield.training.transfer import Freeze, Parts

if TYPE_CHECKING:
    from playfield.generative.held_out import HeldOut
    from playfield.generative.images import ImageData
    from playfield.training.run import Run


@dataclass(frozen=True)
class Options:
    """Train a classifier in a new run: what painted images are judged by.

    Images that it does not learn from say how good it is: classification.json and confusion.png in
    the run's folder. Steps are images that were learned from. Ctrl-C saves what was learnt and
    ends; `playfield resume` goes on from there, and `playfield eval` measures again.
    """

    model: ClassifierConfig
    """The classifier's settings."""
    training: ClassifierTrainingConfig
    """How long to train; when to log, save and measure."""
    data: str = "digits"
    """Images to learn from, with labels, such as digits or folder:pictures: see `playfield list
    data`."""
    images: DataOptions = field(default_factory=DataOptions)
    """How images are brought in."""
    held_out: float | None = None
    """Part of every class that is not learned from but measured on; None: 0.2, if there is no
    --test-data."""
    test_data: str | None = None
    """Other images to measure on, of the same shape and classes, such as digits,split=test."""
    preset: str | None = None
    """Settings to start from, see `playfield list presets`; options beside it override them."""
    init_from: str | None = None
    """Run, by name or folder, of a classifier: begin with its newest weights as far as they fit,
    and with its network's settings."""
    init_parts: Parts = "all"
    """Which of its weights: those of the encoder, its convolutions, or all."""
    freeze: Freeze = "none"
    """What does not learn. Without init_from the encoder stays random, which is a baseline."""
    seed: int = 0
    """Seed of everything that is random, such as which images are held out."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    threads: int | None = None
    """Threads to compute with; None: as many as there are cores to use."""
    run: str | None = None
    """Name of the run; None: made from algorithm, data and time."""
    root: Path = field(default_factory=runs_root)
    """Folder that runs are kept in."""
    profile: bool = False
    """Print at the end where the time went, and write a trace of it to profile/trace.json in the
    run's folder, to be opened in https://ui.perfetto.dev."""
    dry_run: bool = False
    """Print the settings as they would be used, and exit."""


def run(args: Sequence[str]) -> int:
    """Train as the options say; the exit code."""
    from playfield.commands.origin import check_parts

    name = arguments.value_of("--preset", args)
    chosen = DEFAULT if name is None else preset(name)
    source = _source(args)
    config = chosen.config if source is None else _alike(chosen.config, source)
    default = Options(model=config, training=chosen.training, data=chosen.data)
    options = arguments.parse(Options, args, command=f"train {CLASSIFIER}", default=default)
    if options.seed < 0:
        raise UserError(f"--seed has to be 0 or more, not {options.seed}.")
    if options.held_out is not None and options.test_data is not None:
        raise UserError("--held-out and --test-data do not go together: choose one.")
    if options.held_out is not None and not 0 < options.held_out < 1:
        raise UserError(f"--held-out has to lie between 0 and 1, not {options.held_out}.")
    check_parts(options.init_from, options.init_parts)
    if options.dry_run:
        print(json.dumps(_resolved(options), indent=2))
        return 0
    return _train(options, source)


def _source(args: Sequence[str]) -> Run | None:
    from playfield.training.run import Run

    name = arguments.value_of("--init-from", args)
    root = Path(arguments.value_of("--root", args) or runs_root())
    return None if name is None else Run.open(name, root)


def _alike(config: ClassifierConfig, source: Run) -> ClassifierConfig:
    """`config` with the network of `source`."""
    from playfield.generative.saved_classifier import stored_config

    theirs = stored_config(source)
    return replace(config, width=theirs.width, features=theirs.features)


def _resolved(options: Options) -> dict[str, Any]:
    return {
        "algorithm": CLASSIFIER,
        "preset": options.preset,
        "data": options.data,
        "images": asdict(options.images),
        "held_out": options.held_out,
        "test_data": options.test_data,
        "init_from": options.init_from,
        "init_parts": options.init_parts,
        "freeze": options.freeze,
        "seed": options.seed,
        "device": options.device,
        "threads": options.threads,
        "run": options.run,
        "root": str(options.root),
        "training": asdict(options.training),
        "config": asdict(options.model),
    }


def _train(options: Options, source: Run | None) -> int:
    from playfield.commands.classifier_evaluation import conclude, during_training
    from playfield.commands.data_sets import open_data_set, report_damage
    from playfield.commands.ending import finish
    from playfield.commands.origin import begin, newest_weights
    from playfield.commands.stored_painter import describe
    from playfield.generative.classifier_trainer import ClassifierTrainer
    from playfield.generative.saved_classifier import stored_weights
    from playfield.training.devices import resolve_device, set_threads
    from playfield.training.loop import train
    from playfield.training.profile import profiling
    from playfield.training.run import Run, new_manifest

    device = resolve_device(options.device)
    set_threads(options.threads)
    weights = None if source is None else newest_weights(source, stored_weights)
    data = open_data_set(options.data, options.images)
    report_damage(data)
    description = describe(data)
    if description.std == 0:
        raise UserError(f"All pixels of {data.name} have one value: there is nothing to learn.")
    learned, test, held_out = _parted(data, options)
    training = options.training.over(len(learned), options.model.epochs)
    trainer = ClassifierTrainer(
        options.model, learned, seed=options.seed, device=device, steps=training.steps
    )
    origin = begin(trainer, weights, options.init_parts, options.freeze)
    new_run = Run.create(
        options.root,
        options.run,
        new_manifest(
            command=["playfield", *sys.argv[1:]],
            algorithm=CLASSIFIER,
            preset=options.preset,
            data=asdict(description),
            held_out=asdict(held_out),
            config=asdict(options.model),
            training=asdict(training),
            init=None if origin is None else asdict(origin),
            seed=options.seed,
            device=str(device),
        ),
    )
    with profiling(new_run.folder, options.profile):
        outcome = train(trainer, new_run, training, evaluate=during_training(trainer, test))
    conclude(new_run, trainer, test, outcome)
    return finish(new_run, outcome)


def _parted(data: ImageData, options: Options) -> tuple[ImageData, ImageData, HeldOut]:
    """The images to learn from, those to be measured on, and the note of which these are."""
    from playfield.commands import stored
    from playfield.commands.data_sets import open_data_set, report_damage
    from playfield.commands.stored_painter import describe
    from playfield.generative.held_out import PART, HeldOut, beside, divided, unlabelled

    if options.test_data is None:
        part = PART if options.held_out is None else options.held_out
        learned, test = divided(data, part, options.seed)
        held_out = HeldOut(part)
    else:
        other = open_data_set(options.test_data, options.images)
        report_damage(other)
        learned, test = beside(data, other)
        held_out = HeldOut(None, describe(other))
    if count := unlabelled(data):
        stored.report(f"{count:,} images of {data.name} have no label and are left out.")
    return learned, test, held_out
