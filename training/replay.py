"""A saved replay opened again: a store's own folder, a checkpoint of a run, or the run itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from playfield.buffers.manifest import MANIFEST as STORE_MANIFEST
from playfield.buffers.persistence import open_store
from playfield.buffers.store import FrameStore
from playfield.errors import DamagedFileError, UserError
from playfield.training.checkpoint import MANIFEST, STORES, list_checkpoints, pool

_CHECKPOINTS = "checkpoints"


def open_replay(
    path: Path | str,
    device: torch.device | str = "cpu",
    *,
    report: Callable[[str], None] = lambda sentence: None,
    folder: Path | None = None,
) -> FrameStore:
    """The frames at `path`, read-only: a folder that `FrameStore.save` wrote, or a run's replay.

    Of a run's folder it is the newest checkpoint whose replay is intact, and `report` is told of
    those passed over. `device` and `folder` as for a new store: "mmap" for one larger than memory.
    Raises UserError where there is no replay, and DamagedFileError, naming file and field, where it
    is not what was written.
    """
    path = Path(path)
    if (path / STORE_MANIFEST).is_file():
        return open_store(path, device=device, working_folder=folder, read_only=True)
    if (path / MANIFEST).is_file():
        return _of_checkpoint(path, device, folder)
    checkpoints = list_checkpoints(path / _CHECKPOINTS)
    for checkpoint in reversed(checkpoints):
        try:
            return _of_checkpoint(checkpoint, device, folder)
        except DamagedFileError as error:
            report(f"Passing over checkpoint {checkpoint.name}: {error}")
    raise UserError(
        f"{path} holds no {'intact ' if checkpoints else ''}replay: give a folder that a store was "
        f"saved in (with {STORE_MANIFEST}), a run's folder or one of its checkpoints."
    )


def _of_checkpoint(path: Path, device: torch.device | str, folder: Path | None) -> FrameStore:
    stores = sorted(path.glob(f"{STORES}/*/{STORE_MANIFEST}"))
    if len(stores) != 1:
        names = [store.parent.name for store in stores]
        raise DamagedFileError(f"{path} should hold one replay, and holds {names}.")
    place = stores[0].parent
    pages = pool(path.parent, place.name)
    return open_store(place, pages=pages, device=device, working_folder=folder, read_only=True)
