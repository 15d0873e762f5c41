"""A run that paints brought back for training: its data, its trainer, its teacher."""

from __future__ import annotations

from dataclasses import replace

import torch

from playfield.commands import stored
from playfield.commands.data_sets import reopen
from playfield.errors import UserError
from playfield.generative.denoiser_config import DenoiserConfig
from playfield.generative.images import ImageData
from playfield.generative.painter import PainterTrainer
from playfield.generative.painter_config import PainterConfig
from playfield.generative.saved_painter import (
    SNAPSHOTS,
    DataDescription,
    Origin,
    stored_config,
    stored_description,
    stored_network,
    stored_spec,
    stored_teacher,
)
from playfield.generative.teacher import Teacher
from playfield.training.run import Run


def describe(data: ImageData) -> DataDescription:
    """The description of `data`."""
    return DataDescription(
        name=data.name,
        fingerprint=data.fingerprint(),
        count=len(data),
        shape=data.spec.shape,
        classes=data.classes,
        std=data.std(),
        placement=data.store.placement,
    )


def stored_data(run: Run) -> ImageData:
    """The images that `run` learns from, opened again, where they lay before.

    Raises `UserError` where they are not there any more, or not the same.
    """
    return reopen(stored_description(run), run.name)


def new_trainer(
    config: PainterConfig,
    data: ImageData,
    teacher: Teacher | None,
    *,
    seed: int,
    device: torch.device,
    steps: int,
) -> PainterTrainer:
    """A fresh trainer, which begins with the teacher's weights where there is one.

    Raises `UserError` for images that hold nothing, and for a teacher that does not fit.
    """
    if data.std() == 0:
        raise UserError(f"All pixels of {data.name} have one value: there is nothing to learn.")
    trainer = config.build_trainer(data, teacher, seed=seed, device=device, steps=steps)
    if teacher is not None:
        trainer.begin_with(teacher)
    return trainer


def stored_trainer(
    run: Run, data: ImageData, device: torch.device, *, steps: int
) -> PainterTrainer:
    """The trainer of `run`, for its checkpoint to be loaded into."""
    config = stored_config(run)
    teacher = stored_teacher(run)
    if teacher is not None:
        # Its weights are in the checkpoint, where they are needed.
        network = config.build_network(teacher.spec, seed=0, device=device).eval()
        teacher = replace(teacher, network=network.requires_grad_(False))
    seed = run.manifest["seed"]
    return config.build_trainer(data, teacher, seed=seed, device=device, steps=steps)


def keep_snapshots(trainer: PainterTrainer, run: Run) -> None:
    """Have `trainer` store its averages beside the checkpoints of `run`, where it has any."""
    trainer.averages.keep_snapshots(run.folder / SNAPSHOTS, stored.report)


def conclude(trainer: PainterTrainer, run: Run) -> None:
    """What is kept of `trainer` beside its checkpoint, now that training has ended."""
    trainer.averages.save_snapshot()
    diagnosis = trainer.diagnosis()
    run.manifest["diagnosis"] = diagnosis  # for whoever tells of the run now, written or not
    try:
        with run.hold():
            run.update_manifest(diagnosis=diagnosis)
    except UserError:
        pass  # another process trains it already, and `run.json` is that one's
    except OSError as error:
        stored.report(f"Can't write {run.folder / 'run.json'} ({error.strerror or error}).")


def teacher_from(run: Run, device: torch.device) -> tuple[Teacher, Origin]:
    """The newest averaged network of `run`, which teaches, and the note of where it is from."""
    checkpoint = stored.stored_checkpoint(run, None, stores=False)
    config, std = stored_config(run), stored_description(run).std
    assert isinstance(config, DenoiserConfig)  # no other family teaches
    network = stored_network(run, checkpoint, device)
    teacher = Teacher(config.build_objective(std, None), network, stored_spec(run))
    name = run.manifest["algorithm"]
    return teacher, Origin(run.name, checkpoint.progress, name, run.manifest["config"], std)
