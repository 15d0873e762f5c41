"""A store on disk: columns in one safetensors file, frames in compressed pages.

A page holds up to 4096 frames of one stream as zlib level 1. Frames of a game differ little from
each other and are mostly flat, so pages shrink to a few hundredths, and compressing costs less time
than writing the raw bytes to most disks would.

    layout.json           what the store looks like, and the size and CRC-32 of every page
    columns.safetensors   heads, actions, rewards, flags, steps
    frames-SSS-NNNN.zlib  the N-th page of stream S, in ring order
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from playfield.buffers.store import FrameStore
from playfield.errors import DamagedFileError

PAGE_FRAMES = 4096
LEVEL = 1


def save_store(store: FrameStore, folder: Path) -> None:
    """Write `store` into `folder`, which exists; committing it is the caller's task."""
    save_file(
        {name: np.ascontiguousarray(a) for name, a in store.column_state().items()},
        folder / "columns.safetensors",
    )
    pages = {}
    for name, rows in _pages(store):
        frames = store.frame_table[rows[0] : rows[-1] + 1].cpu().numpy()
        packed = zlib.compress(frames.data, LEVEL)
        (folder / name).write_bytes(packed)
        pages[name] = {"bytes": len(packed), "crc32": zlib.crc32(packed)}
    (folder / "layout.json").write_text(json.dumps({"layout": store.layout(), "pages": pages}))


def load_store(store: FrameStore, folder: Path) -> None:
    """Fill `store` with what `save_store` wrote.

    Raises DamagedFileError, naming file and field, for whatever is missing, altered, truncated or
    made for another store; the store's contents are undefined then.
    """
    layout_path = folder / "layout.json"
    try:
        saved = json.loads(layout_path.read_text())
        pages, layout = saved["pages"], saved["layout"]
        store.check_layout(layout)
    except FileNotFoundError:
        raise DamagedFileError(f"{layout_path} is missing.") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFileError(f"{layout_path} does not fit this run: {error}.") from None
    columns_path = folder / "columns.safetensors"
    try:
        store.load_column_state(load_file(columns_path))
    except FileNotFoundError:
        raise DamagedFileError(f"{columns_path} is missing.") from None
    except (SafetensorError, ValueError) as error:
        raise DamagedFileError(f"{columns_path} is damaged: {error}.") from None
    for name, rows in _pages(store):
        frames = _read_page(folder / name, pages.get(name), len(rows) * store.frame_bytes)
        page = torch.from_numpy(frames.reshape(len(rows), store.frame_bytes))
        store.frame_table[rows[0] : rows[-1] + 1].copy_(page)


def _pages(store: FrameStore) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """File name and table rows (consecutive) of every page."""
    for stream, head in enumerate(store.head):
        stored = min(int(head), store.slots)
        for number, begin in enumerate(range(0, stored, PAGE_FRAMES)):
            rows = stream * store.slots + np.arange(begin, min(begin + PAGE_FRAMES, stored))
            yield f"frames-{stream:03d}-{number:04d}.zlib", rows


def _read_page(path: Path, entry: object, size: int) -> NDArray[np.uint8]:
    if not isinstance(entry, dict) or {"bytes", "crc32"} - entry.keys():
        raise DamagedFileError(f"{path.parent / 'layout.json'} has no valid entry for {path.name}.")
    try:
        packed = path.read_bytes()
    except FileNotFoundError:
        raise DamagedFileError(f"{path} is missing.") from None
    if len(packed) != entry["bytes"]:
        raise DamagedFileError(f"{path} has {len(packed)} bytes, expected {entry['bytes']}.")
    if zlib.crc32(packed) != entry["crc32"]:
        raise DamagedFileError(f"{path} is altered: its CRC-32 is not the recorded one.")
    # Never unpack more than the page may hold, whatever the file claims.
    unpacker = zlib.decompressobj()
    try:
        frames = unpacker.decompress(packed, size + 1)
    except zlib.error as error:
        raise DamagedFileError(f"{path} does not decompress: {error}.") from None
    if len(frames) != size:
        raise DamagedFileError(f"{path} does not hold {size} bytes of frames.")
    return np.frombuffer(bytearray(frames), np.uint8)
