"""Checkpoints: committed whole or not at all, verified before anything of them is used.

    checkpoints/000000050000/
        manifest.json        format, progress, and size and SHA-256 of every other file
        state.json           the state's tree and scalars
        state.safetensors    its tensors and arrays
        stores/<name>/...    each frame store's manifest and tail (`buffers.persistence`)
    checkpoints/pages/<name>/
        ...                  the stores' pages, which never change: all checkpoints share them

A checkpoint under way is a hidden sibling; the rename to its number is what commits it. It writes
only the pages that no earlier one has, and `prune` removes those that no checkpoint needs.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from playfield.atomic import make_folder, sync_folder, sync_tree
from playfield.buffers.persistence import (
    load_store,
    remove_pages,
    save_store,
    saved_pages,
    verify_store,
)
from playfield.errors import DamagedFileError
from playfield.training.state_codec import decode_state, encode_state
from playfield.training.trainer import State

if TYPE_CHECKING:
    from playfield.buffers.store import FrameStore

FORMAT = 2
#: Checkpoints of format 1 kept their stores in another form; their weights are as ever.
ACTING_FORMATS = (1, FORMAT)
MANIFEST, TREE, TENSORS, STORES = "manifest.json", "state.json", "state.safetensors", "stores"
PAGES = "pages"
_MANIFEST_KEYS = {"format", "progress", "files"}
_COMMITTED = re.compile(r"\d{12,}")
_ASIDE = re.compile(r"\d{12,}\.aside-\d+")
_UNDER_WAY = ".saving-"


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: its state in memory, its stores still on the disk."""

    progress: int
    path: Path
    state: State
    store_names: tuple[str, ...]

    def load_stores(self, stores: Mapping[str, FrameStore]) -> None:
        """Fill `stores` with the saved ones.

        Raises `DamagedFileError` if the names differ or a store doesn't fit what was saved.
        """
        if set(stores) != set(self.store_names):
            saved, wanted = list(self.store_names), sorted(stores)
            raise DamagedFileError(
                f"{self.path} holds the frame stores {saved}, and the run needs {wanted}."
            )
        for name, store in stores.items():
            load_store(store, self.path / STORES / name, pages=pool(self.path.parent, name))


def pool(folder: Path, name: str) -> Path:
    """Where all checkpoints in `folder` keep the pages of the store `name`."""
    return folder / PAGES / name


def save_checkpoint(
    folder: Path, progress: int, state: State, stores: Mapping[str, FrameStore]
) -> Path:
    """Commit `state` and `stores` as `folder/<progress>`; returns that path.

    After the return it survives a crash of the machine. A checkpoint already there is replaced.
    Raises `OSError` (disk full, no permission), and then everything saved before is untouched, and
    `TypeError` for a state that can't be saved.
    """
    for name in stores:
        if not re.fullmatch(r"\w+", name):
            raise ValueError(f"a store's name must be a plain word, not {name!r}")
    make_folder(folder)
    _remove_unfinished(folder)
    final = folder / f"{progress:012d}"
    beside = folder / f"{_UNDER_WAY}{final.name}-{os.getpid()}"
    try:
        beside.mkdir()
        tree, tensors = encode_state(state)
        (beside / TREE).write_bytes(tree)
        (beside / TENSORS).write_bytes(tensors)
        for name, store in stores.items():
            save_store(store, beside / STORES / name, pages=pool(folder, name))
        files = {
            name: {"size": (beside / name).stat().st_size, "sha256": _sha256(beside / name)}
            for name in sorted(_files_under(beside))
        }
        manifest = {"format": FORMAT, "progress": progress, "files": files}
        (beside / MANIFEST).write_text(json.dumps(manifest, indent=1))
        sync_tree(beside)
        if final.exists():
            # Only a damaged one, passed over by a resume, is ever in the way.
            os.rename(final, folder / f"{_UNDER_WAY}{final.name}-replaced")
        os.rename(beside, final)
        sync_folder(folder)
    except BaseException:
        _remove_unfinished(folder)
        _remove_unneeded_pages(folder)
        raise
    _remove_unfinished(folder)
    return final


def load_checkpoint(path: Path, *, stores: bool = True) -> Checkpoint:
    """The checkpoint at `path`, every file of it compared with its size and hash.

    `stores=False` leaves the stores and their pages unread: enough to act with the weights. Raises
    `DamagedFileError` naming the file and the field, and also where the checkpoint is removed
    meanwhile, as training does that goes on.
    """
    try:
        return _load(path, stores)
    except (DamagedFileError, FileNotFoundError) as error:
        if path.exists() and isinstance(error, DamagedFileError):
            raise
        raise DamagedFileError(
            f"Checkpoint {path} was removed while it was read: its run is in training and keeps "
            "only the newest, so take another."
        ) from None


def _load(path: Path, stores: bool) -> Checkpoint:
    manifest = _read_manifest(path)
    if stores and manifest["format"] != FORMAT:
        raise DamagedFileError(
            f"{path / MANIFEST} has format {manifest['format']}, whose frame stores this playfield "
            f"no longer reads (it reads format {FORMAT}); the agent in it can still be evaluated "
            "and watched, but not trained further."
        )
    if path.name != f"{manifest['progress']:012d}":
        raise DamagedFileError(
            f"{path / MANIFEST}: progress {manifest['progress']} isn't the folder's own."
        )
    found = set(_files_under(path)) - {MANIFEST}
    listed = manifest["files"]
    for name in sorted(found - listed.keys()):
        raise DamagedFileError(f"{path / name} isn't listed in the checkpoint's manifest.")
    for name in (TREE, TENSORS):
        if name not in listed:
            raise DamagedFileError(f"{path / MANIFEST}: files lacks {name!r}.")
    for name, expected in listed.items():
        _check_size(path / name, expected["size"])
        if name not in (TREE, TENSORS) and stores and _sha256(path / name) != expected["sha256"]:
            raise _altered(path / name)
    # What is parsed are the very bytes that were hashed.
    tree, tensors = (_read_verified(path / n, listed[n]["sha256"]) for n in (TREE, TENSORS))
    try:
        state = decode_state(tree, tensors)
    except DamagedFileError as error:
        raise DamagedFileError(f"{path}: {error}") from None
    names = sorted({PurePosixPath(name).parts[1] for name in listed if name.startswith(STORES)})
    if stores:
        for name in names:
            verify_store(path / STORES / name, pages=pool(path.parent, name))
    return Checkpoint(manifest["progress"], path, state, tuple(names))


def newest_intact(
    folder: Path, report: Callable[[str], None], *, stores: bool = True
) -> Checkpoint | None:
    """The newest checkpoint in `folder` that verifies; tells `report` which ones it passed over.

    One that is removed meanwhile is no damage: whoever trains has written a newer one before.
    """
    refused: set[Path] = set()
    while True:
        left = [path for path in list_checkpoints(folder) if path not in refused]
        if not left:
            return None
        try:
            return load_checkpoint(left[-1], stores=stores)
        except DamagedFileError as error:
            if left[-1].exists():
                refused.add(left[-1])
                report(f"Passing over checkpoint {left[-1].name}: {error}")


def list_checkpoints(folder: Path) -> list[Path]:
    """The committed checkpoints in `folder`, intact or not, oldest first."""
    try:
        found = [p for p in folder.iterdir() if _COMMITTED.fullmatch(p.name) and p.is_dir()]
    except OSError:
        return []
    return sorted(found, key=lambda path: int(path.name))


def set_aside_after(folder: Path, progress: int) -> list[Path]:
    """Rename the checkpoints beyond `progress`, so that they don't count; returns the new paths.

    A run that goes on from an older checkpoint must not find the damaged or abandoned newer ones
    when it is next resumed or pruned. They are renamed, not removed: they may be all that is left
    of that work.
    """
    renamed = []
    for path in list_checkpoints(folder):
        if int(path.name) > progress:
            number = 1
            while (target := folder / f"{path.name}.aside-{number}").exists():
                number += 1
            renamed.append(path.rename(target))
    return renamed


def prune(folder: Path, keep: int, intact: Path | None = None, kept: Collection[int] = ()) -> None:
    """Remove all but the newest `keep` (at least 1) checkpoints, and never the newest intact one.

    `intact` is one known to be so, such as the one just written; without it the newest ones are
    verified until one holds. Those at the progresses in `kept` stay too. Pages that no checkpoint
    needs any more, one set aside included, go as well.
    """
    paths = list_checkpoints(folder)
    if intact is None:
        checkpoint = newest_intact(folder, lambda _: None)
        intact = checkpoint.path if checkpoint else None
    for path in paths[: max(0, len(paths) - max(keep, 1))]:
        if intact is not None and path != intact and int(path.name) not in kept:
            # Out of the way at once: half removed, it would only look damaged.
            hidden = folder / f"{_UNDER_WAY}{path.name}-pruned"
            os.rename(path, hidden)
            shutil.rmtree(hidden, ignore_errors=True)
    _remove_unneeded_pages(folder)


def _remove_unneeded_pages(folder: Path) -> None:
    """Remove the pages that no checkpoint lists; none while one can't be asked."""
    if not (folder / PAGES).is_dir():
        return
    needed: dict[str, set[str]] = {}
    for path in folder.iterdir():
        if _COMMITTED.fullmatch(path.name) or _ASIDE.fullmatch(path.name):
            for store in (path / STORES).glob("*"):
                try:
                    needed.setdefault(store.name, set()).update(saved_pages(store))
                except DamagedFileError:
                    if _COMMITTED.fullmatch(path.name):
                        return
    for place in (folder / PAGES).iterdir():
        if place.is_dir() and not place.is_symlink():
            remove_pages(place, needed.get(place.name, set()))


def _remove_unfinished(folder: Path) -> None:
    for path in folder.glob(f"{_UNDER_WAY}*"):
        shutil.rmtree(path, ignore_errors=True)


def _files_under(folder: Path) -> Iterator[str]:
    """Paths of the files in `folder`, relative and with slashes; hidden ones (`.nfs…`) left out."""
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise DamagedFileError(f"{path} is a link; a checkpoint holds plain files only.")
        if path.is_file() and not path.name.startswith("."):
            yield path.relative_to(folder).as_posix()


def _read_manifest(path: Path) -> dict[str, Any]:
    place = path / MANIFEST
    try:
        manifest = json.loads(place.read_bytes())
    except OSError as error:
        raise DamagedFileError(f"{place} can't be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise DamagedFileError(f"{place} is truncated or altered: it is no JSON.") from None
    if not isinstance(manifest, dict) or type(manifest.get("format")) is not int:
        raise DamagedFileError(f"{place} has no format version.")
    if manifest["format"] not in ACTING_FORMATS:
        raise DamagedFileError(
            f"{place} has format {manifest['format']}, and this playfield reads format {FORMAT}."
        )
    if manifest.keys() != _MANIFEST_KEYS:
        odd = sorted(manifest.keys() ^ _MANIFEST_KEYS)
        raise DamagedFileError(f"{place}: unknown or missing keys {odd}.")
    if type(manifest["progress"]) is not int or manifest["progress"] < 0:
        raise DamagedFileError(f"{place}: progress should be a number of steps.")
    if not isinstance(manifest["files"], dict):
        raise DamagedFileError(f"{place}: files should be an object.")
    for name, entry in manifest["files"].items():
        _check_file_name(name, place)
        if (
            not isinstance(entry, dict)
            or entry.keys() != {"size", "sha256"}
            or type(entry["size"]) is not int
            or not isinstance(entry["sha256"], str)
        ):
            raise DamagedFileError(f"{place}: the entry of {name!r} should be size and sha256.")
    return manifest


def _check_file_name(name: str, place: Path) -> None:
    pure = PurePosixPath(name)
    inside = not pure.is_absolute() and ".." not in pure.parts and "\\" not in name
    known = name in (TREE, TENSORS) or (len(pure.parts) >= 3 and pure.parts[0] == STORES)
    if not inside or not known or pure.as_posix() != name or ":" in name:
        raise DamagedFileError(f"{place}: {name!r} is no file of a checkpoint.")


def _check_size(path: Path, expected: int) -> None:
    try:
        size = path.stat().st_size
    except OSError:
        raise DamagedFileError(f"{path} is missing.") from None
    if size != expected:
        raise DamagedFileError(f"{path} has {size} bytes where {expected} were written.")


def _read_verified(path: Path, sha256: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DamagedFileError(f"{path} can't be read: {error.strerror}.") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise _altered(path)
    return data


def _sha256(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except PermissionError as error:
        raise DamagedFileError(f"{path} can't be read: {error.strerror}.") from None


def _altered(path: Path) -> DamagedFileError:
    return DamagedFileError(f"{path} was altered: its sha256 isn't the one in the manifest.")
