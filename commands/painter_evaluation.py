"""What a model that paints shows of itself while it is trained."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from playfield.commands.stored import report
from playfield.errors import UserError
from playfield.evaluation.feature_networks import random_features
from playfield.evaluation.features import extract
from playfield.evaluation.grids import write_png
from playfield.evaluation.images import image_metrics, images_needed
from playfield.evaluation.pictures import picture_of
from playfield.generative.label_histogram import labels_like
from playfield.generative.neighbours import nearest
from playfield.generative.objective import NO_LABEL
from playfield.generative.pixels import to_bytes
from playfield.generative.sampling import SamplerConfig, paint
from playfield.training.kept_checkpoints import Best
from playfield.training.run_checkpoint import NO_BEST

if TYPE_CHECKING:
    from playfield.generative.images import ImageData
    from playfield.generative.painter import PainterTrainer
    from playfield.training.media import Picture
    from playfield.training.run import Run

Images = NDArray[np.uint8]  # [N, C, H, W]

#: Images in a grid.
COUNT = 64
#: Training images that a sample's nearest ones are looked for among: all, or so many of them.
MOST_NEIGHBOURS = 50_000
#: Samples shown with their nearest training images.
PAIRS = 16
#: What is asked of them, and what that finds.
METRICS = ("frechet_distance", "manifold", "diversity")
FOUND = ("frechet_distance", "precision", "recall", "coverage", "diversity")

#: What makes one checkpoint of a painter better than another.
BEST = Best("paint/frechet_distance", lowest=True)


def during_training(
    trainer: PainterTrainer, data: ImageData, run: Run, *, number: int
) -> Callable[[], Mapping[str, float | Picture]]:
    """What the training loop calls to see how its model paints.

    The same seeds and labels each time, so that two evaluations differ by the weights alone; none
    of it draws from what training draws from. The grid is kept as `samples/<progress>.png` too.
    At most `number` of the data's images, spread over all of it, are compared with as many painted
    ones. Where that gives no distance, and so no best checkpoint, `run.json` says why, and the
    user is told unless it was asked for.
    """
    images = data.spread(MOST_NEIGHBOURS)
    comparison = _Comparison(trainer, data, number)
    _tell_of_no_best(run, number, comparison)
    count = max(comparison.count, COUNT)
    labels = _labels(trainer, data, count)
    # What is learned from fits the memory, and an image is the same in batches of any size.
    at_once = trainer.at_once

    def painted(count: int, *, averaged: bool) -> Images:
        model = trainer.painting_model(averaged)
        batches = [range(count)[begin : begin + at_once] for begin in range(0, count, at_once)]
        signals = [paint(model, SamplerConfig(), seeds, labels[seeds]) for seeds in batches]
        return np.concatenate([to_bytes(signal).cpu().numpy() for signal in signals])

    def evaluate() -> Mapping[str, float | Picture]:
        started = time.monotonic()
        samples = painted(count, averaged=True)
        seconds = time.monotonic() - started
        shown = samples[:COUNT]
        distance, index = nearest(shown, images)
        pixels = float(np.prod(shown.shape[1:]))
        beside = np.stack([shown[:PAIRS], images[index[:PAIRS].cpu().numpy()]], axis=1)
        pictures = {
            "samples/averaged": picture_of(shown),
            "samples/nearest": picture_of(beside.reshape(-1, *shown.shape[1:]), 8),
            "samples/newest": picture_of(painted(COUNT, averaged=False)),
        }
        keep(pictures["samples/averaged"])
        return {
            **comparison.found_of(samples),
            "paint/neighbour_distance": 127.5 * float(distance.median()) / pixels**0.5,
            "paint/images_per_second": count / seconds,
            **pictures,
        }

    def keep(picture: Picture) -> None:
        folder = run.folder / "samples"
        try:
            folder.mkdir(exist_ok=True)
            write_png(folder / f"{trainer.progress:012d}.png", picture)
        except (OSError, UserError):
            pass  # a picture less; TensorBoard's file has it too

    return evaluate


def _tell_of_no_best(run: Run, number: int, comparison: _Comparison) -> None:
    reason = None
    if run.manifest["training"].get("evaluate_every") == 0:
        reason = "it was trained without --evaluate-every"
    elif number == 0:
        reason = "its evaluations painted a grid only (--evaluate-images 0)"
    elif lack := comparison.lack:
        reason = lack
        report(f"Evaluations will find no distance and no best checkpoint: {lack}.")
    if run.manifest.get(NO_BEST) != reason:
        run.update_manifest(**{NO_BEST: reason})


class _Comparison:
    """Painted images beside the data's own, by fixed random features.

    Nothing is compared where the data has too few images for it, or only one in many copies.
    """

    def __init__(self, trainer: PainterTrainer, data: ImageData, number: int) -> None:
        self._network = random_features(data.spec.channels, trainer.device)
        self._real = extract(self._network, data.spread(max(number, 1)))
        self._data = data.name
        size = self._network.size
        self._metrics = [
            metric
            for metric in METRICS
            if number >= len(self._real) >= images_needed(metric, size) and not self._real.alike
        ]

    @property
    def lack(self) -> str | None:
        """Why it finds no distance; None where it finds one."""
        if self._real.alike:
            return f"the images of {self._data} all look the same"
        if "frechet_distance" not in self._metrics:
            return (
                f"a distance needs {images_needed('frechet_distance', self._network.size)} images, "
                f"and {self._data} has {len(self._real)}"
            )
        return None

    @property
    def count(self) -> int:
        """Painted images that it needs."""
        return len(self._real) if self._metrics else 0

    def found_of(self, samples: Images) -> dict[str, float]:
        if not self._metrics:
            return {}
        metrics = image_metrics(
            self._real,
            extract(self._network, samples),
            data=self._data,
            metrics=self._metrics,
            allow_collapse=True,  # a painter may recover, and its curve should show it
        )
        values = {name: getattr(metrics, name) for name in FOUND}
        return {f"paint/{name}": value for name, value in values.items() if value is not None}


def _labels(trainer: PainterTrainer, data: ImageData, count: int) -> torch.Tensor:
    """Labels `[count]` int64 as often as the data has them; none for a painter without classes."""
    if not trainer.spec.classes:
        return torch.full((count,), NO_LABEL)
    unlabelled = trainer.painting_model().unconditional
    return torch.from_numpy(labels_like(data.labels(), count, unlabelled=unlabelled))
