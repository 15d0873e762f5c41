"""A page: up to 4,096 consecutive records of one stream in a file, written once.

    bytes 0-47    magic, version, codec, stream, first time, records, bytes unpacked, bytes packed
    bytes 48-79   SHA-256 of bytes 0-47 and of what follows byte 80
    bytes 80-     the records, packed: first their frames, then one column after the other

All numbers are little-endian. A page is named after its content, so two branches of one run can
keep theirs in one folder: a file of that name is that page, or it is damaged. The tail, the newest
record of every stream, has the same format.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from playfield.atomic import write_whole
from playfield.buffers.codecs import CODECS, Buffer, codec_named
from playfield.errors import DamagedFileError

#: Records of one page at most, and the multiples of time at which pages are cut.
PAGE_RECORDS = 4096
#: A page of large frames holds fewer records, so that packing one needs little memory.
PAGE_BYTES = 1 << 26
#: The stream that the tail's header names.
TAIL_STREAM = -1

MAGIC = b"PFPAGE\r\n"  # the line end shows a transfer that took the file for text
VERSION = 1
_HEADER = struct.Struct("<8sHHiqQQQ")
_DIGEST_BYTES = 32
HEADER_BYTES = _HEADER.size + _DIGEST_BYTES
NAME = re.compile(r"(\d{3,}-\d{12,}|tail)-[0-9a-f]{16}\.page")


@dataclass(frozen=True, slots=True)
class Page:
    """What a manifest says of one page; the name of its file follows from it."""

    stream: int
    first: int  # time of its first record
    count: int
    codec: str
    bytes: int  # of the whole file
    sha256: str  # as in the file's header, 64 hexadecimal digits

    @property
    def end(self) -> int:
        """The time after its last record."""
        return self.first + self.count

    @property
    def name(self) -> str:
        place = "tail" if self.stream == TAIL_STREAM else f"{self.stream:03d}-{self.first:012d}"
        return f"{place}-{self.sha256[:16]}.page"


def records_per_page(record_bytes: int) -> int:
    """How many records of that size a page holds at most: a power of two."""
    most = max(1, min(PAGE_RECORDS, PAGE_BYTES // record_bytes))
    return 1 << (most.bit_length() - 1)


def write_page(
    folder: Path, stream: int, first: int, count: int, chunks: Sequence[Buffer], codec: str
) -> tuple[Page, bool]:
    """Pack `chunks` into a page in `folder` and wait until it is on the disk; its name is not yet.

    Returns the page and whether its file is new, rather than written again. Raises OSError.
    """
    chosen = codec_named(codec)
    packed = chosen.pack(chunks)
    size = sum(len(chunk) for chunk in chunks)
    packed_size = sum(len(chunk) for chunk in packed)
    header = _HEADER.pack(MAGIC, VERSION, chosen.number, stream, first, count, size, packed_size)
    digest = hashlib.sha256(header)
    for chunk in packed:
        digest.update(chunk)
    page = Page(stream, first, count, codec, HEADER_BYTES + packed_size, digest.hexdigest())
    path = folder / page.name
    new = not path.exists()
    write_whole(path, [header, digest.digest(), *packed])
    return page, new


def verify_page(folder: Path, page: Page) -> None:
    """Compare the page's file with its size and checksum; raises DamagedFileError naming it."""
    path = folder / page.name
    with _open(path, page) as file:
        header = file.read(_HEADER.size)
        recorded = file.read(_DIGEST_BYTES)
        digest = hashlib.sha256(header)
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    _check_digest(path, page, recorded, digest.digest())


def read_page(folder: Path, page: Page, size: int) -> Buffer:
    """The `size` bytes of records that the page should hold; those of a raw page stay on the disk.

    Raises DamagedFileError naming file and field for a page that is missing, altered, truncated or
    another one, and UserError where its codec is not installed.
    """
    path = folder / page.name
    with _open(path, page) as file:
        header = file.read(_HEADER.size)
        recorded = file.read(_DIGEST_BYTES)
        _check_header(path, page, header, size)
        if page.codec == "raw":
            packed = np.memmap(file, np.uint8, "r", HEADER_BYTES, size).data
        else:
            packed = memoryview(file.read())
    digest = hashlib.sha256(header)
    digest.update(packed)
    _check_digest(path, page, recorded, digest.digest())
    try:
        data = codec_named(page.codec).unpack(packed, size)
    except ValueError as error:
        raise DamagedFileError(f"{path} does not unpack: {error}.") from None
    if len(data) != size:
        raise DamagedFileError(f"{path} does not hold the {size} bytes that it should.")
    return data


@contextmanager
def _open(path: Path, page: Page) -> Iterator[BinaryIO]:
    """`path` for reading, if it is a plain file of the page's size."""
    # A link could lead anywhere, and a pipe would never answer.
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(path, os.O_RDONLY | flags), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise DamagedFileError(f"{path} is no plain file.")
            if found.st_size != page.bytes:
                raise DamagedFileError(f"{path} has {found.st_size} bytes, expected {page.bytes}.")
            yield file
    except FileNotFoundError:
        raise DamagedFileError(f"{path} is missing.") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise DamagedFileError(f"{path} is a link; a saved store holds plain files.") from None
        raise DamagedFileError(f"{path} can't be read: {error.strerror}.") from None


def _check_header(path: Path, page: Page, header: bytes, size: int) -> None:
    """Refuse a header that is not the expected one, before anything is allocated for it."""
    if len(header) != _HEADER.size:
        raise DamagedFileError(f"{path} is too short for a page's header.")
    magic, version, number, stream, first, count, unpacked, packed = _HEADER.unpack(header)
    if magic != MAGIC:
        raise DamagedFileError(f"{path} is no page of a store.")
    if version != VERSION:
        raise DamagedFileError(
            f"{path} has version {version}, and this playfield reads version {VERSION}."
        )
    codecs = {codec.number: codec.name for codec in CODECS}
    found = {
        "codec": (codecs.get(number, number), page.codec),
        "stream": (stream, page.stream),
        "first time": (first, page.first),
        "count": (count, page.count),
        "unpacked size": (unpacked, size),
        "packed size": (packed, page.bytes - HEADER_BYTES),
    }
    for field, (ours, expected) in found.items():
        if ours != expected:
            raise DamagedFileError(f"{path}: {field} is {ours}, expected {expected}.")
    if page.codec == "raw" and packed != size:
        raise DamagedFileError(f"{path}: packed size is {packed}, expected {size}.")
    # What can't be packed grows by far less than this in any codec.
    if packed > size + size // 64 + 4096:
        raise DamagedFileError(f"{path}: packed size is {packed}, too much for {size} bytes.")


def _check_digest(path: Path, page: Page, recorded: bytes, actual: bytes) -> None:
    if actual.hex() != page.sha256 or recorded != actual:
        raise DamagedFileError(f"{path} is altered: its SHA-256 is not the recorded one.")
