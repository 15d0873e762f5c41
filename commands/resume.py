"""`playfield resume RUN`: go on from the newest intact checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import tyro

from playfield.commands import arguments
from playfield.errors import UserError
from playfield.training.places import runs_root

if TYPE_CHECKING:
    from playfield.training.checkpoint import Checkpoint
    from playfield.training.loop import Outcome, TrainingConfig
    from playfield.training.run import Run

    T = TypeVar("T", bound=TrainingConfig)


@dataclass(frozen=True)
class Options:
    """Go on with a run from its newest intact checkpoint, with the settings it was started with."""

    run: tyro.conf.Positional[str]
    """Name or folder of the run."""
    steps: int | None = None
    """Steps in all, those already trained included; None: as before. A learning rate that falls up
    to the end of the run then falls up to the new end, and goes on from where that puts it."""
    minutes: float | None = None
    """Minutes in all, those already trained included; None: as before."""
    device: str | None = None
    """auto, cpu, cuda, cuda:1 or mps; None: as before."""
    threads: int | None = None
    """Threads to compute with; None: as before, or as many as there are cores to use if that is
    less. A run is continued bit for bit with as many as before only."""
    profile: bool = False
    """Print at the end where the time went, and write a trace of it to profile/trace.json in the
    run's folder, in the place of one that is there."""
    root: Path = field(default_factory=runs_root)
    """Folder that runs are kept in."""


def run(args: Sequence[str]) -> int:
    options = arguments.parse(Options, args, command="resume")

    from playfield.commands.ending import finish
    from playfield.generative.judges import JUDGES
    from playfield.generative.registry import PAINTERS
    from playfield.training.run import Run

    old = Run.open(options.run, options.root)
    with old.hold():
        pass  # told before the checkpoint is read, which can take a while; the loop holds it again
    name = old.manifest["algorithm"]
    go_on = _paint_on if name in PAINTERS else _judge_on if name in JUDGES else _play_on
    return finish(old, go_on(old, options))


def _play_on(old: Run, options: Options) -> Outcome:
    from playfield.agents.training import AgentTrainingConfig
    from playfield.commands import stored
    from playfield.commands.agent_evaluation import during_training
    from playfield.training.devices import resolve_device, share_cores
    from playfield.training.loop import train
    from playfield.training.profile import profiling
    from playfield.training.transfer import freeze

    config, origin = stored.stored_config(old), stored.stored_origin(old)
    training = _training(old, AgentTrainingConfig, options)
    device = resolve_device(options.device or old.manifest["device"])
    overlap = getattr(config, "overlap", False)
    threads, emulator_threads = share_cores(options.threads, overlap=overlap)
    threads = _set_threads(old, threads, options)
    checkpoint = stored.stored_checkpoint(old, None, stores=True)
    _refuse_if_spent(old, training, checkpoint, "steps")
    env = stored.stored_env(old, config.num_envs, threads=emulator_threads)
    try:
        algorithm = stored.stored_algorithm(old)
        trainer = algorithm.build_trainer(
            config, env, seed=old.manifest["seed"], device=device, steps=training.steps
        )
        if origin is not None:
            freeze(trainer.network, origin.freeze)
        evaluate = during_training(
            trainer.policy,
            lambda num_envs: stored.stored_env(old, num_envs),
            episodes=training.evaluate_episodes,
            seed=old.manifest["seed"],
            pictured=lambda: stored.stored_env(old, 1, render=True),
            folder=old.folder,
            media_mb_per_hour=training.media_mb_per_hour,
        )
        # The new budget is the run's own from here on: a further resume starts from it.
        old.update_manifest(training=asdict(training), device=str(device), threads=threads)
        with profiling(old.folder, options.profile):
            return train(trainer, old, training, evaluate=evaluate, resume_from=checkpoint)
    finally:
        env.close()


def _paint_on(old: Run, options: Options) -> Outcome:
    from playfield.commands import stored, stored_painter
    from playfield.commands.painter_evaluation import BEST, during_training
    from playfield.generative.training import PaintingTrainingConfig
    from playfield.training.devices import resolve_device, usable_cores
    from playfield.training.loop import train
    from playfield.training.profile import profiling

    training = _training(old, PaintingTrainingConfig, options)
    device = resolve_device(options.device or old.manifest["device"])
    threads = options.threads if options.threads is not None else usable_cores()
    threads = _set_threads(old, threads, options)
    checkpoint = stored.stored_checkpoint(old, None, stores=False)
    _refuse_if_spent(old, training, checkpoint, "images")
    data = stored_painter.stored_data(old)
    trainer = stored_painter.stored_trainer(old, data, device, steps=training.steps)
    old.update_manifest(training=asdict(training), device=str(device), threads=threads)
    stored_painter.keep_snapshots(trainer, old)
    evaluate = during_training(trainer, data, old, number=training.evaluate_images)
    with profiling(old.folder, options.profile):
        outcome = train(
            trainer, old, training, evaluate=evaluate, best=BEST, resume_from=checkpoint
        )
    stored_painter.conclude(trainer, old)
    return outcome


def _judge_on(old: Run, options: Options) -> Outcome:
    from playfield.commands import stored, stored_classifier
    from playfield.commands.classifier_evaluation import conclude, during_training
    from playfield.training.devices import resolve_device, usable_cores
    from playfield.training.loop import TrainingConfig, train
    from playfield.training.profile import profiling
    from playfield.training.transfer import freeze

    training = _training(old, TrainingConfig, options)
    device = resolve_device(options.device or old.manifest["device"])
    threads = options.threads if options.threads is not None else usable_cores()
    threads = _set_threads(old, threads, options)
    checkpoint = stored.stored_checkpoint(old, None, stores=False)
    _refuse_if_spent(old, training, checkpoint, "images")
    learned, test = stored_classifier.stored_images(old)
    trainer = stored_classifier.stored_trainer(old, learned, device, steps=training.steps)
    if origin := stored.stored_origin(old):
        freeze(trainer.network, origin.freeze)
    old.update_manifest(training=asdict(training), device=str(device), threads=threads)
    evaluate = during_training(trainer, test)
    with profiling(old.folder, options.profile):
        outcome = train(trainer, old, training, evaluate=evaluate, resume_from=checkpoint)
    conclude(old, trainer, test, outcome)
    return outcome


def _training(old: Run, kind: type[T], options: Options) -> T:
    """The run's budget, with what the options change in it."""
    from playfield.training.run import MANIFEST
    from playfield.training.saved_settings import from_stored

    training = from_stored(kind, old.manifest["training"], f"{old.folder / MANIFEST}: training")
    if options.steps is not None:
        training = replace(training, steps=options.steps)
    if options.minutes is not None:
        training = replace(training, minutes=options.minutes)
    return training


def _set_threads(old: Run, threads: int, options: Options) -> int:
    from playfield.training.devices import set_threads, usable_cores

    if options.threads is None and "threads" in old.manifest:
        threads = min(old.manifest["threads"], usable_cores())
    return set_threads(threads)


def _refuse_if_spent(run: Run, training: TrainingConfig, checkpoint: Checkpoint, unit: str) -> None:
    """A finished run would end at once, evaluate and leave the user wondering."""
    if checkpoint.progress >= training.steps:
        raise UserError(
            f"Run {run.name!r} has finished: it is trained for {checkpoint.progress:,} of "
            f"{training.steps:,} {unit}; to go on, allow more, as in "
            f"`playfield resume {run.argument} --steps {2 * checkpoint.progress}`."
        )
    minutes = checkpoint.state.get("loop", {}).get("minutes", 0.0)
    if training.minutes is not None and minutes >= training.minutes:
        raise UserError(
            f"Run {run.name!r} has finished: it is trained for {minutes:.1f} of "
            f"{training.minutes:g} minutes; to go on, allow more, as in `playfield resume "
            f"{run.argument} --minutes {2 * training.minutes:g}`."
        )
