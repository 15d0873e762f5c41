"""Data sets by their specs: the kinds that there are, and one function that opens any of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from playfield.generative.datasets.archive import open_zip
from playfield.generative.datasets.cifar import open_cifar
from playfield.generative.datasets.digits import open_digits
from playfield.generative.datasets.folder import open_folder
from playfield.generative.datasets.gaussians import open_gaussians
from playfield.generative.datasets.idx import open_idx
from playfield.generative.datasets.named import NAMED
from playfield.generative.datasets.npz import open_npz
from playfield.generative.datasets.options import DataOptions, settled
from playfield.generative.datasets.replay import open_replay_data
from playfield.generative.datasets.spec import Kind, parse
from playfield.generative.images import ImageData
from playfield.training.devices import resolve_device

KINDS: dict[str, Kind] = {
    "digits": Kind("1,797 handwritten digits, 8x8", open_digits, options=("split",)),
    "folder": Kind("the pictures in a folder, sub-folders as classes", open_folder, "FOLDER"),
    "zip": Kind("the pictures in a zip archive, folders as classes", open_zip, "FILE"),
    "idx": Kind("files of MNIST, Fashion-MNIST, EMNIST", open_idx, "FILE", options=("transpose",)),
    "cifar": Kind(
        "CIFAR-10 or CIFAR-100, an archive or a folder",
        open_cifar,
        "PATH",
        options=("labels", "split"),
    ),
    "npz": Kind(
        "numpy arrays of images and labels",
        open_npz,
        "FILE",
        options=("images", "labels", "layout"),
    ),
    "replay": Kind("the frames of a saved store or of a run's replay", open_replay_data, "FOLDER"),
    "gaussians": Kind(
        "points around 8 centres (a ring) or 25 (a grid)",
        open_gaussians,
        "MODES",
        is_file=False,
        options=("count", "seed", "std"),
    ),
    **NAMED,
}


def size_asked(
    spec: str, options: DataOptions, more: Mapping[str, Kind] | None = None
) -> tuple[int, int] | None:
    """Height and width that images of `spec` are brought to; None: as they are, so open them.

    Raises UserError as `open_data` does for what is wrong in the spec itself.
    """
    return settled(parse(spec, {**KINDS, **(more or {})}), options)[1].size


def open_data(
    spec: str,
    options: DataOptions = DataOptions(),  # noqa: B008
    more: Mapping[str, Kind] | None = None,
) -> ImageData:
    """The data set that `spec` names (`datasets.spec` says how), as `options` want it.

    Its `name` is the canonical spec, with the size and the colours that `options` ask for: it opens
    the same images again. `more` are kinds that only the caller knows, such as those that need an
    emulator. Raises UserError for what can't be opened, and DamagedFileError for files that are not
    what they should be.
    """
    kinds = {**KINDS, **(more or {})}
    parsed, options = settled(parse(spec, kinds), options)
    if options.placement.startswith("cuda"):
        options = replace(options, placement=str(resolve_device(options.placement)))
    return kinds[parsed.kind].open(parsed, options)
