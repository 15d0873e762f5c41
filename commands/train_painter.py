"""`playfield train ALGORITHM` for models that paint: a new run on a data set."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from playfield.commands import arguments
from playfield.errors import UserError
from playfield.generative.datasets.options import DataOptions
from playfield.generative.painter_config import PainterConfig
from playfield.generative.registry import Painter
from playfield.generative.training import PaintingTrainingConfig
from playfield.training.places import runs_root

if TYPE_CHECKING:
    from playfield.generative.painting_preset import PaintingPreset
    from playfield.training.run import Run

C = TypeVar("C")


@dataclass(frozen=True)
class Options(Generic[C]):
    """Train a model that paints in a new run, until its budget of images or minutes is spent.

    Steps are images that were learned from. Ctrl-C saves what was learnt and ends; `playfield
    resume` goes on from there, and `playfield sample` paints.
    """

    model: C
    """The family's settings."""
    training: PaintingTrainingConfig
    """How long to train; when to log, save and paint samples."""
    data: str = "digits"
    """Images to learn from, such as digits, folder:pictures or atari:Breakout: see `playfield list
    data`."""
    images: DataOptions = field(default_factory=DataOptions)
    """How images are brought in."""
    preset: str | None = None
    """Settings to start from, see `playfield list presets`; options beside it override them."""
    init_from: str | None = None
    """Run, by name or folder, of a model that paints: begin with its averaged weights as far as
    they fit, and with its network's settings. Reflow and consistency tuning need one, whole."""
    seed: int = 0
    """Seed of everything that is random."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    threads: int | None = None
    """Threads to compute with; None: as many as there are cores to use. One is much faster where
    other programs keep the cores busy."""
    run: str | None = None
    """Name of the run; None: made from algorithm, data and time."""
    root: Path = field(default_factory=runs_root)
    """Folder that runs are kept in."""
    profile: bool = False
    """Print at the end where the time went, and write a trace of it to profile/trace.json in the
    run's folder, to be opened in https://ui.perfetto.dev."""
    dry_run: bool = False
    """Print the settings as they would be used, and exit."""


def run(chosen: Painter, args: Sequence[str]) -> int:
    """Train `chosen` as the options after its name say; the exit code."""
    preset_name = arguments.value_of("--preset", args)
    root = Path(arguments.value_of("--root", args) or runs_root())
    source = _source(chosen, arguments.value_of("--init-from", args), root, args)
    preset = _preset(chosen, preset_name)
    if preset.larger:
        preset = _sized(chosen, preset, args, source)
    options = _parse(chosen, args, _defaults(preset, source, args))
    if options.seed < 0:
        raise UserError(f"--seed has to be 0 or more, not {options.seed}.")
    if options.dry_run:
        print(json.dumps(_resolved(chosen, options), indent=2))
        return 0
    return _train(chosen, options, source)


def _parse(
    chosen: Painter, args: Sequence[str], defaults: Options[PainterConfig]
) -> Options[PainterConfig]:
    config_type: Any = chosen.load_config_type()
    return arguments.parse(
        Options[config_type], args, command=f"train {chosen.name}", default=defaults
    )


def _sized(
    chosen: Painter, preset: PaintingPreset, args: Sequence[str], source: Run | None
) -> PaintingPreset:
    """`preset` as it is for images as large as those that `args` name."""
    from playfield.commands.data_sets import size_of

    try:
        options = _parse(chosen, args, _defaults(preset, source, args))
        data, images = options.data, options.images
    except UserError:
        # What does not fit the nets for small images may fit those for large ones.
        data, images = arguments.value_of("--data", args) or preset.data, DataOptions()
    return preset.sized(*size_of(data, images))


def _preset(chosen: Painter, name: str | None) -> PaintingPreset:
    from playfield.generative.presets import default_preset, preset

    return default_preset(chosen.name) if name is None else preset(name, chosen.name)


def _source(chosen: Painter, name: str | None, root: Path, args: Sequence[str]) -> Run | None:
    from playfield.generative.saved_painter import painter_of
    from playfield.training.run import Run

    if name is not None:
        source = Run.open(name, root)
        found = painter_of(source)
        if chosen.taught and found.no_teacher:
            raise UserError(f"Run {source.name!r} is {found.no_teacher}.")
        return source
    if chosen.taught and not arguments.wants_help(args):
        raise UserError(
            f"{chosen.name} wants a trained model to begin with, as in `playfield train "
            f"{chosen.name} --init-from RUN`; `playfield runs` lists what there is."
        )
    return None


def _defaults(
    preset: PaintingPreset, source: Run | None, args: Sequence[str]
) -> Options[PainterConfig]:
    config, data = preset.config, preset.data
    if source is not None:
        named = arguments.value_of("--preset", args) is not None
        config = _alike(config, source, named)
        data = source.manifest["data"]["name"]
    return Options(model=config, training=preset.training, data=data)


def _alike(config: PainterConfig, source: Run, named: bool) -> PainterConfig:
    """`config`, of a preset that is `named` or not, with the network of `source` if it can be."""
    from playfield.generative.denoiser_config import DenoiserConfig
    from playfield.generative.gan import GANConfig
    from playfield.generative.saved_painter import stored_config

    theirs = stored_config(source)
    if isinstance(config, DenoiserConfig) and isinstance(theirs, DenoiserConfig):
        return replace(
            config,
            net=theirs.net,
            conditional=theirs.conditional,
            # A teacher that always saw its labels can't be asked without.
            label_dropout=theirs.label_dropout,
            augmentation=theirs.augmentation,
        )
    # The networks of a GAN go with its loss and penalty: it is all of them, or a preset's.
    if isinstance(config, GANConfig) and isinstance(theirs, GANConfig) and not named:
        return theirs
    return config


def _resolved(chosen: Painter, options: Options[PainterConfig]) -> dict[str, Any]:
    return {
        "algorithm": chosen.name,
        "preset": options.preset,
        "data": options.data,
        "images": asdict(options.images),
        "init_from": options.init_from,
        "seed": options.seed,
        "device": options.device,
        "threads": options.threads,
        "run": options.run,
        "root": str(options.root),
        "training": asdict(options.training),
        "config": asdict(options.model),
    }


def _train(chosen: Painter, options: Options[PainterConfig], source: Run | None) -> int:
    from playfield.commands import stored_painter
    from playfield.commands.data_sets import open_data_set, report_damage
    from playfield.commands.ending import finish
    from playfield.commands.origin import begin, newest_weights
    from playfield.commands.painter_evaluation import BEST, during_training
    from playfield.generative.saved_painter import stored_weights
    from playfield.training.devices import resolve_device, set_threads
    from playfield.training.loop import train
    from playfield.training.profile import profiling
    from playfield.training.run import Run, new_manifest

    device = resolve_device(options.device)
    set_threads(options.threads)
    teacher, weights, init = None, None, None
    if source is not None and chosen.taught:
        teacher, taught = stored_painter.teacher_from(source, device)
        init = asdict(taught)
    elif source is not None:
        weights = newest_weights(source, stored_weights, "averaged weights of what paints")
    data = open_data_set(options.data, options.images)
    report_damage(data)
    trainer = stored_painter.new_trainer(
        options.model,
        data,
        teacher,
        seed=options.seed,
        device=device,
        steps=options.training.steps,
    )
    if origin := begin(trainer, weights, network=trainer.networks):
        init = asdict(origin)
    new_run = Run.create(
        options.root,
        options.run,
        new_manifest(
            command=["playfield", *sys.argv[1:]],
            algorithm=chosen.name,
            preset=options.preset,
            data=asdict(stored_painter.describe(data)),
            config=asdict(options.model),
            training=asdict(options.training),
            init=init,
            seed=options.seed,
            device=str(device),
        ),
    )
    stored_painter.keep_snapshots(trainer, new_run)
    evaluate = during_training(trainer, data, new_run, number=options.training.evaluate_images)
    with profiling(new_run.folder, options.profile):
        outcome = train(trainer, new_run, options.training, evaluate=evaluate, best=BEST)
    stored_painter.conclude(trainer, new_run)
    return finish(new_run, outcome)
