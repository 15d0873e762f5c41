"""A store's records, a frame with its columns, as plain bytes and back.

The bytes of some records are their frames, then column after column in the order of
`FrameStore.column_state`, each contiguous and little-endian.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from playfield._ext import windows
from playfield.buffers.codecs import Buffer
from playfield.buffers.store import FrameStore
from playfield.errors import DamagedFileError

_FLAGS = windows.TERMINATED | windows.TRUNCATED | windows.LIFE_LOST


def record_bytes(store: FrameStore) -> int:
    """Bytes of one record."""
    columns = _columns(store).values()
    return store.frame_bytes + sum(column[0].nbytes for column in columns)


def rows_of(store: FrameStore, stream: int, first: int, count: int) -> list[slice]:
    """Table rows of the times `first .. first + count - 1`: two slices where the ring wraps."""
    begin = first % store.slots
    until_wrap = min(count, store.slots - begin)
    base = stream * store.slots
    spans = [slice(base + begin, base + begin + until_wrap)]
    if count > until_wrap:
        spans.append(slice(base, base + count - until_wrap))
    return spans


def newest_rows(store: FrameStore) -> list[slice]:
    """Table rows of the newest record of every stream that has one."""
    return [
        rows_of(store, stream, int(head) - 1, 1)[0]
        for stream, head in enumerate(store.head)
        if head
    ]


def as_bytes(store: FrameStore, rows: list[slice]) -> list[Buffer]:
    """The records in these rows, as pieces to be joined: the store's own memory on the CPU."""
    frames = [store.frame_table[span].cpu().numpy() for span in rows]
    columns = [column[span] for column in _columns(store).values() for span in rows]
    return [array.reshape(-1).view(np.uint8).data for array in (*frames, *columns)]


def fill(
    store: FrameStore,
    rows: list[slice],
    data: Buffer,
    count: int,
    skip: int,
    times: NDArray[np.int64],
    path: Path,
) -> None:
    """Put records into these rows: those of `data` after the first `skip` of its `count`.

    `times` are those of the records taken. Raises DamagedFileError, naming `path` and the column,
    for values that no store holds: kernels trust them.
    """
    taken = slice(skip, skip + len(times))
    for name, dtype, shape, offset in _sections(store, count):
        section = np.frombuffer(data, dtype, count * _size(shape), offset)
        values = section.reshape(count, *shape)[taken]
        wrong = _impossible(store, name, values, times)
        if wrong is not None:
            raise DamagedFileError(
                f"{path}: {name} is {values[wrong]} at time {times[wrong]}, which can't be."
            )
        begin = 0
        for span in rows:
            part = values[begin : begin + span.stop - span.start]
            begin += len(part)
            if name != "frames":
                _columns(store)[name][span] = part
            elif store.device.type == "cpu":
                store.frame_table[span].numpy()[...] = part
            else:
                store.frame_table[span].copy_(torch.from_numpy(part.copy()))


def _sections(
    store: FrameStore, count: int
) -> Iterator[tuple[str, np.dtype[Any], tuple[int, ...], int]]:
    """Name, dtype, shape of one value, and offset of every section of `count` records."""
    yield "frames", np.dtype(np.uint8), (store.frame_bytes,), 0
    offset = count * store.frame_bytes
    for name, column in _columns(store).items():
        yield name, column.dtype, column.shape[1:], offset
        offset += count * column[0].nbytes


def _columns(store: FrameStore) -> dict[str, NDArray[Any]]:
    """The store's columns by name, each `[streams * slots, ...]`, a view."""
    return {
        name: column.reshape(-1, *column.shape[2:])
        for name, column in store.column_state().items()
        if name != "head"
    }


def _impossible(
    store: FrameStore, name: str, values: NDArray[Any], times: NDArray[np.int64]
) -> int | None:
    """Index of the first value that no store holds."""
    if name == "action":
        most = np.iinfo(np.int32).max if store.num_actions is None else store.num_actions - 1
        bad = (values < -1) | (values > most)
    elif name == "flags":
        bad = (values & ~np.uint8(_FLAGS)) != 0
    elif name == "step_in_episode":
        bad = (values < 0) | (values > times)
    else:
        return None
    return int(bad.argmax()) if bad.any() else None


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))
