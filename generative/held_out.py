"""Images that a classifier is measured on and does not learn from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from playfield.errors import UserError
from playfield.generative.classifier import stratified_split
from playfield.generative.datasets.options import DataOptions
from playfield.generative.datasets.storing import store_images
from playfield.generative.images import ImageData
from playfield.generative.objective import NO_LABEL
from playfield.generative.saved_painter import DataDescription

#: The part of every class that is held out where nothing else is asked for.
PART = 0.2


@dataclass(frozen=True)
class HeldOut:
    """Which images a run is measured on, as `run.json` keeps it under `held_out`."""

    part: float | None = PART  # of every class of the run's own data; None: `data`
    data: DataDescription | None = None  # a data set of its own

    def __post_init__(self) -> None:
        if (self.part is None) == (self.data is None):
            raise UserError("held_out has to name a part or data of its own: one of them.")
        if self.part is not None and not 0 < self.part < 1:
            raise UserError(
                f"held_out has to be a part between 0 and 1, such as {PART}, not {self.part}."
            )


def divided(data: ImageData, part: float, seed: int) -> tuple[ImageData, ImageData]:
    """The images of `data` to learn from, and the `part` of every class that is held out.

    Images without a label are in neither. Raises `UserError` where nothing can be learned or
    nothing be held out.
    """
    kept = _labelled(data)
    learned, out = stratified_split(data.labels()[kept], part, seed)
    if not len(out):
        raise UserError(
            f"Nothing of {data.name} can be held out, for each of its classes has one image: name "
            "other images of these classes with --test-data."
        )
    return _chosen(data, kept[learned]), _chosen(data, kept[out])


def beside(data: ImageData, test: ImageData) -> tuple[ImageData, ImageData]:
    """`data` to learn from and `test` to be measured on, without the images that have no label.

    Raises `UserError` where they are of different shapes or classes, or the same images.
    """
    kept, tested = _labelled(data), np.flatnonzero(test.labels() != NO_LABEL)
    if test.spec.shape != data.spec.shape:
        raise UserError(
            f"{test.name} has images of {_sizes(test)} (channels, height, width) and {data.name} "
            f"of {_sizes(data)}: bring both to one with --resize and --channels."
        )
    if not test.classes or not len(tested):
        raise UserError(f"{test.name} cannot be measured on, for its images have no labels.")
    if test.classes != data.classes:
        one_has = sorted(set(test.classes) ^ set(data.classes))
        difference = f"only one of them has {one_has[0]!r}" if one_has else "their order differs"
        raise UserError(f"{test.name} and {data.name} need the same classes, and {difference}.")
    if test.fingerprint() == data.fingerprint():
        raise UserError(
            f"{test.name} holds the very images that are learned from: name others with "
            "--test-data, or leave it out and a part is held out."
        )
    return _chosen(data, kept), _chosen(test, tested)


def unlabelled(data: ImageData) -> int:
    """How many of its images have no label."""
    return int((data.labels() == NO_LABEL).sum())


def _labelled(data: ImageData) -> NDArray[np.int64]:
    """Places of the images that have a label; `UserError` where they make no task."""
    labels = data.labels()
    kept = np.flatnonzero(labels != NO_LABEL)
    if not data.classes or not len(kept):
        raise UserError(
            f"The images of {data.name} have no labels, and a classifier learns what they say: "
            "sort pictures into a folder for each class, or choose other data (`playfield list "
            "data`)."
        )
    first, *others = np.unique(labels[kept]).tolist()
    if not others:
        raise UserError(
            f"All labelled images of {data.name} are of the class {data.classes[first]!r}: a "
            "classifier needs two classes to tell apart."
        )
    return kept


def _chosen(data: ImageData, places: NDArray[np.int64]) -> ImageData:
    """The images at `places`, in a store of their own, placed as those of `data`."""
    if len(places) == len(data):
        return data
    options = DataOptions(placement=data.store.placement)
    wanted = np.zeros(len(data), np.bool_)
    wanted[places] = True
    labels = data.labels()[wanted]
    shape = data.spec.shape
    return store_images(
        data.name, _at(data, wanted), len(labels), shape, options, labels, data.classes
    )


def _at(data: ImageData, wanted: NDArray[np.bool_]) -> Iterator[NDArray[np.uint8]]:
    begin = 0
    for block in data.blocks():
        yield from block[wanted[begin : begin + len(block)]]
        begin += len(block)


def _sizes(data: ImageData) -> str:
    return "x".join(map(str, data.spec.shape))
