"""`store.json`: what a saved store consists of; whoever reads it believes nothing unchecked."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from playfield.buffers.codecs import CODECS
from playfield.buffers.pages import HEADER_BYTES, PAGE_RECORDS, TAIL_STREAM, Page
from playfield.buffers.store import FRAME_DTYPES
from playfield.errors import DamagedFileError

FORMAT = 2
MANIFEST = "store.json"
#: A store of a thousand million frames has a manifest of some 50 MB.
MOST_BYTES = 1 << 28
#: More records than memory or disks hold: sizes up to here multiply without surprises.
MOST_RECORDS = 1 << 40
MOST_RECORD_BYTES = 1 << 31


@dataclass(frozen=True)
class SavedStore:
    """The manifest: the store's layout, the time of each stream's next frame, and the pages."""

    layout: Mapping[str, Any]
    heads: tuple[int, ...]
    pages: tuple[Page, ...]
    tail: Page | None  # None for a store without frames

    def encode(self) -> bytes:
        """As `store.json`, with a checksum over everything in it."""
        content: dict[str, Any] = {
            "format": FORMAT,
            "layout": dict(self.layout),
            "heads": list(self.heads),
            "tail": asdict(self.tail) if self.tail else None,
            "pages": [asdict(page) for page in self.pages],
        }
        return json.dumps({"sha256": _digest(content), **content}, indent=1).encode()


def read_manifest(folder: Path) -> SavedStore:
    """The manifest in `folder`, every value of it of the right kind and size.

    Raises DamagedFileError naming the file and the field.
    """
    return _Reader(folder / MANIFEST).read()


class _Reader:
    """Checks what one manifest says, and names the file in every complaint."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def wrong(self, what: str) -> DamagedFileError:
        return DamagedFileError(f"{self.place}: {what}.")

    def read(self) -> SavedStore:
        content = self.parse()
        if content.get("format") != FORMAT:
            raise self.wrong(
                f"format is {_shown(content.get('format'))}, and this playfield reads {FORMAT}"
            )
        self.keys(content, {"format", "layout", "heads", "tail", "pages", "sha256"}, "the manifest")
        if content.pop("sha256") != _digest(content):
            raise self.wrong("it is altered: its SHA-256 is not the recorded one")
        layout = self.layout(content["layout"])
        heads = self.heads(content["heads"], layout)
        pages = self.pages(content["pages"], heads, layout)
        stored = sum(head > 0 for head in heads)
        tail = None
        if stored:
            tail = self.page(content["tail"], "tail", layout)
            if (tail.stream, tail.first, tail.count) != (TAIL_STREAM, 0, stored):
                raise self.wrong("tail does not hold the newest frame of every stream")
        elif content["tail"] is not None:
            raise self.wrong("tail should be null: no stream has a frame")
        return SavedStore(layout, heads, pages, tail)

    def parse(self) -> dict[str, Any]:
        place = self.place
        try:
            if not os.path.lexists(place):
                raise DamagedFileError(f"{place} is missing.")
            if place.is_symlink() or not place.is_file():
                raise self.wrong("it is a link or a folder, and should be a plain file")
            if place.stat().st_size > MOST_BYTES:
                raise self.wrong(f"it is larger than the {MOST_BYTES} bytes it may have")
            content = json.loads(place.read_bytes())
        except OSError as error:
            raise DamagedFileError(f"{place} can't be read: {error.strerror}.") from None
        except (ValueError, RecursionError):
            raise self.wrong("it is truncated or altered, for it is no JSON") from None
        if not isinstance(content, dict):
            raise self.wrong("it should hold an object")
        return content

    def layout(self, value: Any) -> dict[str, Any]:
        known = {"format", "streams", "slots", "frame_shape", "frame_dtype", "columns"}
        self.keys(value, known | {"num_actions"}, "layout")
        self.number(value["format"], "layout.format", 1, 1 << 16)
        streams = self.number(value["streams"], "layout.streams", 1, MOST_RECORDS // 2)
        self.number(value["slots"], "layout.slots", 2, MOST_RECORDS // streams)
        if value["num_actions"] is not None:
            self.number(value["num_actions"], "layout.num_actions", 1, 1 << 31)
        if value["frame_dtype"] not in FRAME_DTYPES:
            raise self.wrong(f"layout.frame_dtype is {_shown(value['frame_dtype'])}")
        self.shape(value["frame_shape"], "layout.frame_shape", least=1)
        if not isinstance(value["columns"], dict):
            raise self.wrong("layout.columns should be an object")
        for name, column in value["columns"].items():
            field = f"layout.columns[{_shown(name)}]"
            if not isinstance(column, list) or len(column) != 2:
                raise self.wrong(f"{field} should be a shape and a dtype")
            self.shape(column[0], field, least=0)
            if not isinstance(column[1], str) or column[1] not in COLUMN_DTYPES:
                raise self.wrong(f"{field} has the dtype {_shown(column[1])}")
        return value

    def shape(self, value: Any, field: str, least: int) -> None:
        if not isinstance(value, list) or not least <= len(value) <= 8:
            raise self.wrong(f"{field} should be a shape")
        for size in value:
            self.number(size, field, 1, MOST_RECORD_BYTES)
        if math.prod(value) > MOST_RECORD_BYTES:
            raise self.wrong(f"{field} is {value}, which is too large")

    def heads(self, value: Any, layout: Mapping[str, Any]) -> tuple[int, ...]:
        streams = layout["streams"]
        if not isinstance(value, list) or len(value) != streams:
            raise self.wrong(f"heads should be {streams} times")
        most = (1 << 62) // streams  # beyond it, ids would not fit in int64
        return tuple(self.number(head, "heads", 0, most) for head in value)

    def pages(
        self, value: Any, heads: tuple[int, ...], layout: Mapping[str, Any]
    ) -> tuple[Page, ...]:
        """The pages, which hold all that is stored but the newest frames, and nothing twice."""
        if not isinstance(value, list):
            raise self.wrong("pages should be a list")
        pages = [self.page(page, f"pages[{i}]", layout) for i, page in enumerate(value)]
        by_stream: list[list[Page]] = [[] for _ in heads]
        for page in pages:
            if page.stream == TAIL_STREAM:
                raise self.wrong("pages lists a tail")
            by_stream[page.stream].append(page)
        for stream, head in enumerate(heads):
            oldest, last = max(0, head - layout["slots"]), max(0, head - 1)
            reached = oldest
            for page in sorted(by_stream[stream], key=lambda page: page.first):
                follows = page.first == reached or (page.first < reached == oldest < page.end)
                if not follows:
                    raise self.wrong(
                        f"pages: those of stream {stream} overlap or leave out time {reached}"
                    )
                reached = page.end
            if reached != last:
                raise self.wrong(f"pages: those of stream {stream} end at {reached}, not at {last}")
        return tuple(pages)

    def page(self, value: Any, field: str, layout: Mapping[str, Any]) -> Page:
        self.keys(value, {"stream", "first", "count", "codec", "bytes", "sha256"}, field)
        self.number(value["stream"], f"{field}.stream", TAIL_STREAM, layout["streams"] - 1)
        self.number(value["first"], f"{field}.first", 0, 1 << 62)
        most = layout["streams"] if value["stream"] == TAIL_STREAM else PAGE_RECORDS
        self.number(value["count"], f"{field}.count", 1, most)
        self.number(value["bytes"], f"{field}.bytes", HEADER_BYTES, 1 << 62)
        if value["codec"] not in [codec.name for codec in CODECS]:
            raise self.wrong(f"{field}.codec is {_shown(value['codec'])}, which is unknown")
        digest = value["sha256"]
        if not isinstance(digest, str) or len(digest) != 64 or set(digest) - set(_HEX):
            raise self.wrong(f"{field}.sha256 should be 64 hexadecimal digits")
        return Page(**value)

    def number(self, value: Any, field: str, least: int, most: int) -> int:
        if type(value) is not int or not least <= value <= most:
            raise self.wrong(f"{field} is {_shown(value)}, expected {least} to {most}")
        return value

    def keys(self, value: Any, expected: set[str], field: str) -> None:
        if not isinstance(value, dict):
            raise self.wrong(f"{field} should be an object")
        if value.keys() != expected:
            odd = ", ".join(_shown(key) for key in sorted(value.keys() ^ expected))
            raise self.wrong(f"{field} has unknown or missing keys: {odd}")


_HEX = "0123456789abcdef"
#: Plain numbers only: a dtype's name could also stand for Python objects.
COLUMN_DTYPES = frozenset(np.dtype(kind).name for kind in "?bhilBHILefd")


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _shown(value: Any) -> str:
    return repr(value)[:60]
