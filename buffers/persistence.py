"""Saving and loading stores: pages that are written once, and a manifest that says which count.

    store.json                    layout, heads, and size and checksum of every page
    tail-<hash>.page              the newest record of every stream, which can still change
    pages/SSS-TTTTTTTTTTTT-<hash>.page    records of stream S from time T on

A record never changes once its stream has gone on, so a page never does. A save writes the pages
that the folder lacks, then the tail, and the manifest last. Only its rename commits anything.

Nobody may write to a store while it is saved, and only one process at a time may save in a folder.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from playfield.atomic import make_folder, remove_unfinished, sync_folder, write_atomically
from playfield.buffers import records
from playfield.buffers.codecs import codec_named
from playfield.buffers.manifest import COLUMN_DTYPES, MANIFEST, SavedStore, read_manifest
from playfield.buffers.pages import (
    NAME,
    TAIL_STREAM,
    Page,
    read_page,
    records_per_page,
    verify_page,
    write_page,
)
from playfield.buffers.store import Column, FrameStore, gather_threads
from playfield.errors import DamagedFileError, UserError

PAGES = "pages"
_OUR_NAMES = re.compile(f"{NAME.pattern}|{re.escape(MANIFEST)}")
#: Short pages of frequent saves are written again as one when their block has more than this.
MOST_PIECES = 16

Item = TypeVar("Item")
Result = TypeVar("Result")


def save_store(
    store: FrameStore, folder: Path, *, pages: Path | None = None, codec: str = "zlib"
) -> None:
    """Save `store` in `folder`, made where it is missing; see `FrameStore.save`.

    `pages` is a folder that several saves share, such as all checkpoints of a run, and then the
    caller removes what no save needs any more (`remove_pages`). Without it the pages are the
    folder's own. Whatever fails, the save that was there before is still whole.
    """
    codec_named(codec)  # refused before anything is written
    for name, column in store.columns.items():
        if np.dtype(column.dtype).name not in COLUMN_DTYPES:
            raise ValueError(f"column {name!r}: {column.dtype} can't be saved")
    pool = pages if pages is not None else folder / PAGES
    for place in (folder, pool):
        if os.path.lexists(place) and not place.is_dir():
            raise UserError(f"A store can't be saved in {place}: it is no folder.")
        make_folder(place)
        remove_unfinished(place, _OUR_NAMES)
    heads = store.head.copy()
    key = pool.resolve()
    known = [page for page in store.saved_pages.get(key, ()) if _has_size(pool / page.name, page)]
    kept, missing = _plan(store, known)
    created: list[Path] = []
    manifest = b""

    def write(place: Path, rows: list[slice], stream: int, first: int, count: int) -> Page:
        chunks = records.as_bytes(store, rows)
        page, is_new = write_page(place, stream, first, count, chunks, codec)
        if is_new:
            created.append(place / page.name)
        return page

    def write_missing(span: tuple[int, int, int]) -> Page:
        return write(pool, records.rows_of(store, *span), *span)

    try:
        written = _in_threads(write_missing, missing, store.threads)
        sync_folder(pool)
        tail = None
        if newest := records.newest_rows(store):
            tail = write(folder, newest, TAIL_STREAM, 0, len(newest))
        if not np.array_equal(heads, store.head) or not np.array_equal(heads, store.claimed):
            raise RuntimeError("the store was written to while it was being saved")
        ordered = sorted([*kept, *written], key=lambda page: (page.stream, page.first))
        saved = SavedStore(store.layout(), tuple(heads.tolist()), tuple(ordered), tail)
        manifest = saved.encode()
        write_atomically(folder / MANIFEST, manifest)
    except BaseException:
        if not _is_committed(folder / MANIFEST, manifest):
            # The previous save needs none of these, and a disk that is full needs the room.
            for path in created:
                path.unlink(missing_ok=True)
        raise
    store.saved_pages[key] = saved.pages
    remove_pages(folder, {tail.name} if tail else set())
    if pages is None:
        remove_pages(pool, {page.name for page in saved.pages})


def load_store(store: FrameStore, folder: Path, *, pages: Path | None = None) -> None:
    """Fill `store` with what `save_store` wrote; `pages` as there.

    Raises DamagedFileError, naming file and field, for whatever is missing, altered, truncated or
    made for another store, and UserError for a codec that is not installed; the store is empty
    then.
    """
    saved = read_manifest(folder)
    try:
        store.check_layout(saved.layout)
    except ValueError as error:
        raise DamagedFileError(f"{folder / MANIFEST} does not fit: layout.{error}.") from None
    _fill(store, saved, folder, pages)


def open_store(
    folder: Path,
    *,
    pages: Path | None = None,
    device: torch.device | str = "cpu",
    working_folder: Path | None = None,
    read_only: bool = False,
) -> FrameStore:
    """A new store with what `save_store` wrote; see `FrameStore.load`."""
    saved = read_manifest(folder)
    layout = saved.layout
    _check_room(folder / MANIFEST, saved, str(device), working_folder)
    columns = {
        name: Column(tuple(shape), dtype) for name, (shape, dtype) in layout["columns"].items()
    }
    try:
        store = FrameStore(
            layout["slots"] * layout["streams"],
            layout["streams"],
            tuple(layout["frame_shape"]),
            layout["frame_dtype"],
            columns,
            device,
            working_folder,
            layout["num_actions"],
        )
        store.check_layout(layout)
    except (MemoryError, torch.OutOfMemoryError):
        raise UserError(
            f"The store in {folder} does not fit in the memory of {device}; "
            "try the device 'mmap', which keeps frames on the disk."
        ) from None
    except ValueError as error:
        raise DamagedFileError(f"{folder / MANIFEST}: layout.{error}.") from None
    _fill(store, saved, folder, pages)
    store.read_only = read_only
    return store


def verify_store(folder: Path, *, pages: Path | None = None) -> None:
    """Compare every file of a saved store with its size and checksum, and load nothing.

    Raises DamagedFileError naming the first file that is not what was written.
    """
    saved = read_manifest(folder)
    pool = _pool(folder, pages)
    _in_threads(partial(verify_page, pool), saved.pages, gather_threads())
    if saved.tail is not None:
        verify_page(folder, saved.tail)


def saved_pages(folder: Path) -> set[str]:
    """The names of the pages that the save in `folder` needs; raises DamagedFileError."""
    return {page.name for page in read_manifest(folder).pages}


def remove_pages(folder: Path, needed: set[str]) -> None:
    """Remove the pages in `folder` whose names are not `needed`, and nothing else."""
    for path in folder.iterdir():
        if path.name not in needed and NAME.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _plan(
    store: FrameStore, known: Iterable[Page]
) -> tuple[list[Page], list[tuple[int, int, int]]]:
    """The known pages that stay, and (stream, first time, count) of those to write."""
    block = records_per_page(records.record_bytes(store))
    own: list[list[Page]] = [[] for _ in range(store.streams)]
    for page in known:
        own[page.stream].append(page)
    kept: list[Page] = []
    missing: list[tuple[int, int, int]] = []
    for stream, head in enumerate(store.head.tolist()):
        for piece in pieces(own[stream], max(0, head - store.slots), head - 1, block):
            if isinstance(piece, Page):
                kept.append(piece)
            else:
                missing.append((stream, piece.start, len(piece)))
    return kept, missing


def pieces(known: Iterable[Page], oldest: int, end: int, block: int) -> list[Page | range]:
    """The times `oldest .. end - 1` of one stream as known pages and ranges that lack one.

    Ranges are cut at multiples of `block`. The first page may reach back beyond `oldest`. Where a
    block would have more than `MOST_PIECES`, a single range takes their place.
    """
    found: list[Page | range] = []
    reached = oldest
    for page in sorted(known, key=lambda page: page.first):
        if oldest < page.end <= end:
            found += _cut(reached, page.first, block)
            found.append(page)
            reached = page.end
    found += _cut(reached, end, block)
    result: list[Page | range] = []
    for _, group in itertools.groupby(found, lambda piece: _first(piece) // block):
        of_block = list(group)
        if len(of_block) > MOST_PIECES:
            of_block = [range(max(oldest, _first(of_block[0])), _end(of_block[-1]))]
        result += of_block
    return result


def _cut(begin: int, end: int, block: int) -> list[range]:
    bounds = [begin, *range((begin // block + 1) * block, end, block), end]
    return [range(a, b) for a, b in itertools.pairwise(bounds) if a < b]


def _first(piece: Page | range) -> int:
    return piece.first if isinstance(piece, Page) else piece.start


def _end(piece: Page | range) -> int:
    return piece.end if isinstance(piece, Page) else piece.stop


def _fill(store: FrameStore, saved: SavedStore, folder: Path, pages: Path | None) -> None:
    """Read all that the manifest lists into a store of its layout; the heads come last."""
    pool = _pool(folder, pages)
    size = records.record_bytes(store)
    heads = np.array(saved.heads, np.int64)
    store.head[:] = store.claimed[:] = 0
    store.saved_pages.clear()
    for name, column in store.column_state().items():
        column.fill(-1 if name == "action" else 0)

    def load(page: Page) -> None:
        oldest = max(0, saved.heads[page.stream] - store.slots)
        skip = max(0, oldest - page.first)
        times = np.arange(page.first + skip, page.end)
        rows = records.rows_of(store, page.stream, page.first + skip, len(times))
        data = read_page(pool, page, page.count * size)
        records.fill(store, rows, data, page.count, skip, times, pool / page.name)

    most = records_per_page(size)
    for page in saved.pages:
        if page.count > most:
            raise DamagedFileError(
                f"{folder / MANIFEST}: the page {page.name} has {page.count} records of {size} "
                f"bytes, more than the {most} it may have."
            )
    _in_threads(load, saved.pages, store.threads)
    if saved.tail is not None:
        streams = np.flatnonzero(heads)
        rows = [records.rows_of(store, int(s), int(heads[s]) - 1, 1)[0] for s in streams]
        data = read_page(folder, saved.tail, len(rows) * size)
        path = folder / saved.tail.name
        records.fill(store, rows, data, len(rows), 0, heads[streams] - 1, path)
    store.head[:] = store.claimed[:] = heads
    store.saved_pages[pool.resolve()] = saved.pages


def _pool(folder: Path, pages: Path | None) -> Path:
    pool = pages if pages is not None else folder / PAGES
    if pool.is_symlink():
        raise DamagedFileError(f"{pool} is a link; a saved store holds plain files and folders.")
    return pool


def _check_room(place: Path, saved: SavedStore, device: str, working_folder: Path | None) -> None:
    """Refuse a store that cannot be held, before memory or a disk is filled with it.

    A manifest may claim any size. A legitimate one may have been made on a larger machine.
    """
    layout = saved.layout
    rows = layout["streams"] * layout["slots"]
    frames = rows * math.prod(layout["frame_shape"]) * np.dtype(layout["frame_dtype"]).itemsize
    extra = layout["columns"].values()
    columns = rows * (13 + sum(math.prod(s) * np.dtype(dtype).itemsize for s, dtype in extra))
    needed = {"memory": columns + (frames if device == "cpu" else 0)}
    room: dict[str, float] = {"memory": _memory()}
    if device == "mmap":
        disk = working_folder if working_folder is not None else Path(tempfile.gettempdir())
        needed[str(disk)], room[str(disk)] = frames, shutil.disk_usage(disk).free
    elif device.startswith("cuda"):
        needed[device], room[device] = frames, torch.cuda.mem_get_info(device)[1]
    for where, size in needed.items():
        if size > room[where]:
            raise UserError(
                f"{place} describes a store that needs {size / 1e9:,.1f} GB of {where}, which has "
                f"{room[where] / 1e9:,.1f} GB; "
                + ("choose another folder." if device == "mmap" else "try the device 'mmap'.")
            )


def _memory() -> float:
    """Bytes of this machine's memory."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return math.inf  # unknown here; the allocation itself will tell


def _is_committed(place: Path, manifest: bytes) -> bool:
    """Whether the rename has happened already: what failed, or was interrupted, came after it."""
    try:
        return place.read_bytes() == manifest
    except OSError:
        return False


def _has_size(path: Path, page: Page) -> bool:
    try:
        return path.stat().st_size == page.bytes
    except OSError:
        return False


def _in_threads(
    task: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> list[Result]:
    """`task` of every item; the first failure stops the rest."""
    pool = ThreadPoolExecutor(threads)
    try:
        return list(pool.map(task, items))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
