"""Painted images to be measured: painted now by a run's model, or by anyone and kept in files."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from playfield.commands.data_sets import ALL_KINDS, open_data_set, report_damage
from playfield.commands.sample_task import Task, painted
from playfield.errors import UserError
from playfield.generative.datasets.options import DataOptions
from playfield.generative.datasets.spec import DataSpec
from playfield.generative.label_histogram import labels_like
from playfield.generative.objective import NO_LABEL
from playfield.generative.sampling import SamplerConfig, labels_in_turn
from playfield.generative.saved_painter import painter_of, stored_description, stored_spec
from playfield.training.progress_bar import progress_bar
from playfield.training.run import MANIFEST, Run

if TYPE_CHECKING:
    from playfield.generative.images import ImageData
    from playfield.generative.model import PaintingModel
    from playfield.training.checkpoint import Checkpoint


@dataclass(frozen=True, eq=False)
class PaintedImages:
    """Images that were painted, and where they are from."""

    images: NDArray[np.uint8]  # [N, C, H, W]
    labels: NDArray[np.int64] | None  # [N], classes of the real images; None: nothing says
    source: dict[str, Any]  # everything that tells how they came to be
    about: list[str]  # the same for people


def open_source(words: str, root: Path, options: DataOptions) -> Run | ImageData:
    """What a user calls painted: a run, a folder of pictures, an .npz, or a spec of any kind.

    Raises `UserError` where it is none of them, and for runs of anything that does not paint.
    """
    place = Path(words).expanduser()
    is_run = any((folder / MANIFEST).is_file() for folder in (root / words, place))
    if not is_run and (place.is_dir() or (place.is_file() and place.suffix == ".npz")):
        kind = "folder" if place.is_dir() else "npz"
        return _opened(str(DataSpec(kind, str(place.absolute()))), options)
    if not is_run and words.partition(":")[0].partition(",")[0] in ALL_KINDS:
        return _opened(words, options)
    run = Run.open(words, root)
    painter_of(run)
    return run


def painted_by(
    run: Run,
    checkpoint: Checkpoint,
    model: PaintingModel,
    weights: str,
    real: ImageData,
    *,
    config: SamplerConfig,
    count: int,
    first_seed: int,
    batch_size: int,
) -> PaintedImages:
    """`count` images that the model of `run` paints, labels as often as `real` has them.

    Where the model knows other classes than `real`, its own come in turn, and say nothing of what
    real images they should be like. Raises `UserError` for a sampler that does not fit.
    """
    label, how = _labels(model, real, count)
    seeds = list(range(first_seed, first_seed + count))
    task = Task(model, config, seeds, label)
    plan = task.plan
    with progress_bar(run.name, count, "images") as show:
        images = np.concatenate(list(painted(task, batch_size, show)))
    asked = {
        field.name: getattr(config, field.name)
        for field in fields(config)
        if getattr(config, field.name) != field.default
    }
    source = {
        "run": run.name,
        "algorithm": run.manifest["algorithm"],
        "learned_from": stored_description(run).fingerprint,
        "checkpoint": checkpoint.path.name,
        "progress": checkpoint.progress,
        "weights": weights,
        "sampler": plan.sampler,
        "steps": plan.steps,
        "network_calls": task.network_calls,
        "settings": asked,
        "first_seed": first_seed,
        "labels": how,
    }
    about = [
        f"run {run.name} ({source['algorithm']}), checkpoint of image {checkpoint.progress:,}, "
        f"{weights} weights",
        f"{count:,} images by {plan.sampler}, {plan.steps} steps, {task.network_calls} network "
        f"calls each (NFE)",
        *([", ".join(f"{name} {value}" for name, value in asked.items())] if asked else []),
        f"seeds from {first_seed}; labels {how}",
    ]
    return PaintedImages(images, label.numpy() if _shared(model, real) else None, source, about)


def painted_in(data: ImageData, real: ImageData, count: int) -> PaintedImages:
    """`count` of the images in `data`, evenly from all of them, with labels into `real`'s classes.

    Raises `UserError` where there are fewer.
    """
    if count > len(data):
        raise UserError(f"{data.name} holds {len(data):,} images, and --number asks for {count:,}.")
    chosen = np.linspace(0, len(data) - 1, count).round().astype(np.int64)
    fingerprint = data.fingerprint()
    source = {"data": data.name, "fingerprint": fingerprint, "of": len(data)}
    about = [
        f"{data.name}, fingerprint {fingerprint}",
        f"{count:,} of its {len(data):,} images" if count < len(data) else f"{count:,} images",
    ]
    labels = translated_labels(data, real)
    return PaintedImages(
        data.images()[chosen], None if labels is None else labels[chosen], source, about
    )


def translated_labels(data: ImageData, real: ImageData) -> NDArray[np.int64] | None:
    """The labels of `data` `[N]` as those of `real`: by name, or by number where that is all."""
    if not data.classes or not real.classes:
        return None
    if set(data.classes) <= set(real.classes):
        numbers = [real.classes.index(name) for name in data.classes]
    elif data.classes == tuple(map(str, range(len(data.classes)))) and len(data.classes) <= len(
        real.classes
    ):  # arrays have numbers, whatever the classes were called
        numbers = list(range(len(data.classes)))
    else:
        return None
    labels = data.labels()
    return np.where(labels == NO_LABEL, NO_LABEL, np.array(numbers)[labels])


def shares_classes(run: Run, real: ImageData) -> bool:
    """Whether `run` paints the classes of `real`, so that what it paints has their labels."""
    known = stored_spec(run)
    return len(real.classes) > 1 and known.classes == real.classes


def _opened(spec: str, options: DataOptions) -> ImageData:
    data = open_data_set(spec, options)
    report_damage(data)
    return data


def _shared(model: PaintingModel, real: ImageData) -> bool:
    """Whether a label means the same to both."""
    return bool(real.classes) and model.spec.classes == real.classes


def _labels(model: PaintingModel, real: ImageData, count: int) -> tuple[torch.Tensor, str]:
    if not model.conditional:
        return torch.full((count,), NO_LABEL), "none"
    if _shared(model, real):
        found = labels_like(real.labels(), count, unlabelled=model.unconditional)
        return torch.from_numpy(found), "as often as in the data"
    return labels_in_turn(model.spec, count), "in turn"
