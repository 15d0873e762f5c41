"""Files that are there whole or not at all, also after a crash of the process or the machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_BESIDE = re.compile(r"\.(.+)\.\d+\.tmp")


def write_atomically(path: Path, data: bytes) -> None:
    """Put `data` at `path`, in the place of what was there: a reader sees the old or the new.

    Written beside, fsynced, renamed. Raises `OSError`, and then `path` is unchanged.
    """
    write_whole(path, [data])
    sync_folder(path.parent)


def write_whole(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """`write_atomically` for one of many files: `sync_folder` makes their names last, once."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait until nobody else is in this context for `path`, to read it and write it anew.

    The lock dies with the process. It is of a file beside `path`, which goes when it is given back:
    `path` itself is replaced, and the folder of a run is locked for as long as the run is trained.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    beside = path.with_name(f".{path.name}.lock")
    while True:
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError:
                pass  # a file system without locks (some network ones)
            try:
                if not os.path.samestat(os.fstat(descriptor), beside.stat()):
                    continue
            except FileNotFoundError:
                continue  # whoever held it has just removed it; the next one makes another
            try:
                yield
            finally:
                beside.unlink(missing_ok=True)
            return
        finally:
            os.close(descriptor)


def remove_unfinished(folder: Path, names: re.Pattern[str]) -> None:
    """Remove what killed writers left of files of these names; nobody may write them now."""
    for path in folder.iterdir():
        beside = _BESIDE.fullmatch(path.name)
        if beside and names.fullmatch(beside[1]):
            path.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make `folder` and its parents where they are missing, so that they survive a crash."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_tree(folder: Path) -> None:
    """Wait until every file and folder under `folder`, and itself, is on the disk."""
    for parent, _, files in os.walk(folder):
        for name in files:
            descriptor = os.open(Path(parent) / name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(parent))


def sync_folder(folder: Path) -> None:
    """Wait until the names in `folder` are on the disk: a rename alone survives no power cut."""
    if os.name == "nt":
        return  # Windows can't open a folder, and orders its metadata itself
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
