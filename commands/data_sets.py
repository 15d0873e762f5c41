"""Data sets as commands know them: with the kinds that need an emulator or a trained agent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from playfield.commands import atari_frames, stored
from playfield.errors import UserError
from playfield.generative.datasets.opening import KINDS, open_data, size_asked
from playfield.generative.datasets.options import DataOptions
from playfield.generative.datasets.spec import Kind
from playfield.generative.images import ImageData

if TYPE_CHECKING:
    from playfield.generative.saved_painter import DataDescription

_MORE = {"atari": atari_frames.KIND}

#: Every kind of data set that there is, by its name.
ALL_KINDS: Mapping[str, Kind] = {**KINDS, **_MORE}


def open_data_set(spec: str, options: DataOptions) -> ImageData:
    """The data set that `spec` names, fetched or collected first where that is needed.

    See `generative.datasets.opening.open_data`, which knows neither emulators nor agents.
    """
    return open_data(spec, options, _MORE)


def size_of(spec: str, options: DataOptions) -> tuple[int, int]:
    """Height and width of the images that `spec` names, which are opened only to learn that."""
    size = size_asked(spec, options, _MORE)
    if size is None:
        images = open_data_set(spec, options).spec
        size = images.height, images.width
    return size


def reopen(known: DataDescription, run_name: str) -> ImageData:
    """The images that `known`, from `run_name`'s run, describes, where they lay before.

    Raises `UserError` where they are not there any more, or not the same.
    """
    # Where there is no GPU any more, its images lie in memory.
    gone = known.placement.startswith("cuda") and not torch.cuda.is_available()
    options = DataOptions(placement="cpu" if gone else known.placement)
    data = open_data_set(known.name, options)
    report_damage(data)
    if data.fingerprint() != known.fingerprint:
        raise UserError(
            f"The images of {known.name} are not those of run {run_name!r} ({len(data):,} now, "
            f"{known.count:,} then): bring those back, or train anew."
        )
    return data


def report_damage(data: ImageData) -> None:
    """Tell how many files of `data` were left out, and the first of them."""
    if count := len(data.damaged):
        files = "file was" if count == 1 else "files were"
        stored.report(f"{count:,} damaged {files} left out of {data.name}: {data.damaged[0]}")
