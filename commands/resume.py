"""`playfield resume RUN`: go on from the newest intact checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from playfield.commands import arguments
from playfield.errors import UserError
from playfield.training.places import runs_root

if TYPE_CHECKING:
    from playfield.training.checkpoint import Checkpoint
    from playfield.training.loop import TrainingConfig
    from playfield.training.run import Run


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
    root: Path = field(default_factory=runs_root)
    """Folder that runs are kept in."""


def run(args: Sequence[str]) -> int:
    options = arguments.parse(Options, args, command="resume")

    from playfield.commands import stored
    from playfield.commands.agent_evaluation import during_training
    from playfield.commands.ending import finish
    from playfield.commands.saved_settings import from_stored
    from playfield.training.devices import resolve_device, set_threads, share_cores, usable_cores
    from playfield.training.loop import TrainingConfig, train
    from playfield.training.run import MANIFEST, Run
    from playfield.training.transfer import freeze

    old = Run.open(options.run, options.root)
    manifest = old.manifest
    config, origin = stored.stored_config(old), stored.stored_origin(old)
    training = from_stored(
        TrainingConfig, manifest["training"], f"{old.folder / MANIFEST}: training"
    )
    if options.steps is not None:
        training = replace(training, steps=options.steps)
    if options.minutes is not None:
        training = replace(training, minutes=options.minutes)
    device = resolve_device(options.device or manifest["device"])
    overlap = getattr(config, "overlap", False)
    threads, emulator_threads = share_cores(options.threads, overlap=overlap)
    if options.threads is None and "threads" in manifest:
        threads = min(manifest["threads"], usable_cores())
    set_threads(threads)

    with old.hold():
        pass  # told before the checkpoint is read, which can take a while; the loop holds it again
    checkpoint = stored.stored_checkpoint(old, None, stores=True)
    _refuse_if_spent(old, training, checkpoint)
    env = stored.stored_env(old, config.num_envs, threads=emulator_threads)
    try:
        algorithm = stored.stored_algorithm(old)
        trainer = algorithm.build_trainer(
            config, env, seed=manifest["seed"], device=device, steps=training.steps
        )
        if origin is not None:
            freeze(trainer.network, origin.freeze)
        evaluate = during_training(
            lambda num_envs: stored.stored_env(old, num_envs),
            episodes=training.evaluate_episodes,
            seed=manifest["seed"],
        )
        # The new budget is the run's own from here on: a further resume starts from it.
        old.update_manifest(training=asdict(training), device=str(device), threads=threads)
        outcome = train(trainer, old, training, evaluate=evaluate, resume_from=checkpoint)
    finally:
        env.close()
    return finish(old, outcome)


def _refuse_if_spent(run: Run, training: TrainingConfig, checkpoint: Checkpoint) -> None:
    """A finished run would end at once, evaluate and leave the user wondering."""
    if checkpoint.progress >= training.steps:
        raise UserError(
            f"Run {run.name!r} has finished: it is trained for {checkpoint.progress:,} of "
            f"{training.steps:,} steps; to go on, allow more, as in "
            f"`playfield resume {run.argument} --steps {2 * checkpoint.progress}`."
        )
    minutes = checkpoint.state.get("loop", {}).get("minutes", 0.0)
    if training.minutes is not None and minutes >= training.minutes:
        raise UserError(
            f"Run {run.name!r} has finished: it is trained for {minutes:.1f} of "
            f"{training.minutes:g} minutes; to go on, allow more, as in `playfield resume "
            f"{run.argument} --minutes {2 * training.minutes:g}`."
        )
