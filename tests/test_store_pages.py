"""Pages: packed and unpacked exactly, nothing believed unchecked, and cut where they should be."""

from __future__ import annotations

import hashlib
import os
import struct
import sys
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playfield.buffers import codecs
from playfield.buffers.codecs import CODECS, codec_named
from playfield.buffers.pages import Page, read_page, records_per_page, verify_page, write_page
from playfield.buffers.persistence import MOST_PIECES, pieces
from playfield.errors import DamagedFileError, UserError

NAMES = ["raw", "zlib", "zstd", "lz4"]
#: As the format's description has it: magic, version, codec, stream, first, count, sizes.
HEADER = "<8sHHiqQQQ"
DATA = bytes(range(200)) * 5


def codec(name):
    for package in {"zstd": ["zstandard"], "lz4": ["lz4.frame"]}.get(name, []):
        pytest.importorskip(package)
    return name


def write(folder, name="zlib", data=DATA):
    return write_page(folder, 2, 4096, 10, [data[:300], memoryview(data)[300:]], codec(name))[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_page_comes_back_exactly(tmp_path, name):
    page = write(tmp_path, name)
    assert bytes(read_page(tmp_path, page, len(DATA))) == DATA
    verify_page(tmp_path, page)
    assert page.bytes == (tmp_path / page.name).stat().st_size
    assert (page.first, page.end) == (4096, 4106)


def test_a_page_is_laid_out_as_its_description_says(tmp_path):
    page = write(tmp_path)
    data = (tmp_path / page.name).read_bytes()
    magic, version, number, stream, first, count, size, packed = struct.unpack(HEADER, data[:48])
    assert (magic, version, number) == (b"PFPAGE\r\n", 1, 1)
    assert (stream, first, count, size, packed) == (2, 4096, 10, len(DATA), len(data) - 80)
    assert zlib.decompress(data[80:]) == DATA
    digest = hashlib.sha256(data[:48] + data[80:])
    assert data[48:80] == digest.digest()
    assert page.name == f"002-000000004096-{digest.hexdigest()[:16]}.page"


def test_a_raw_page_stays_on_the_disk(tmp_path):
    data = read_page(tmp_path, write(tmp_path, "raw"), len(DATA))
    assert isinstance(np.asarray(data).base, memoryview)
    assert isinstance(data.obj, np.memmap)


@pytest.mark.parametrize("name", NAMES)
def test_every_flipped_bit_is_found(tmp_path, name):
    page = write(tmp_path, name)
    path = tmp_path / page.name
    whole = path.read_bytes()
    for place in [*range(90), *range(90, len(whole), 7)]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(DamagedFileError, match=page.name):
            read_page(tmp_path, page, len(DATA))
        with pytest.raises(DamagedFileError, match=page.name):
            verify_page(tmp_path, page)


def forge(folder, page, data, **header):
    """A page file whose checksums are right and whose header says what it is told to."""
    values = {
        "magic": b"PFPAGE\r\n", "version": 1, "codec": 1, "stream": page.stream,
        "first": page.first, "count": page.count, "size": len(DATA), "packed": len(data),
    }  # fmt: skip
    head = struct.pack(HEADER, *{**values, **header}.values())
    digest = hashlib.sha256(head + data)
    forged = replace(page, bytes=80 + len(data), sha256=digest.hexdigest())
    (folder / forged.name).write_bytes(head + digest.digest() + data)
    return forged


@pytest.mark.parametrize(
    ("header", "named"),
    [
        ({"magic": b"\x89PNG\r\n\x1a\n"}, "no page of a store"),
        ({"version": 2}, "version 2"),
        ({"codec": 77}, "codec is 77"),
        ({"codec": 0}, "codec is raw, expected zlib"),
        ({"stream": 1}, "stream is 1, expected 2"),
        ({"stream": -(1 << 31)}, "stream"),
        ({"first": 0}, "first time is 0, expected 4096"),
        ({"first": -1}, "first time is -1"),
        ({"count": (1 << 64) - 1}, "count"),
        ({"size": 1 << 63}, "unpacked size"),
        ({"size": 0}, "unpacked size is 0"),
        ({"packed": 1 << 62}, "packed size"),
    ],
)
def test_a_header_that_says_something_else_is_refused_by_field(tmp_path, header, named):
    page = forge(tmp_path, write(tmp_path), zlib.compress(DATA), **header)
    with pytest.raises(DamagedFileError, match=rf"{page.name}.*{named}"):
        read_page(tmp_path, page, len(DATA))


@pytest.mark.parametrize("name", NAMES)
def test_a_page_that_unpacks_to_more_than_it_may_is_refused_without_unpacking_it(tmp_path, name):
    chosen = codec_named(codec(name))
    bomb = b"".join(chosen.pack([bytes(50_000_000 if name != "raw" else 5_000)]))
    page = replace(write(tmp_path), codec=name)
    page = forge(tmp_path, page, bomb, codec=chosen.number)
    with pytest.raises(DamagedFileError, match=page.name):
        read_page(tmp_path, page, len(DATA))
    tracemalloc.start()
    with pytest.raises(DamagedFileError):
        read_page(tmp_path, page, len(DATA))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize("name", ["zlib", "zstd", "lz4"])
@pytest.mark.parametrize("data", [b"", b"junk", bytes(50), b"\xff" * 500])
def test_what_was_never_packed_is_refused(tmp_path, name, data):
    page = replace(write(tmp_path), codec=codec(name))
    page = forge(tmp_path, page, data, codec=codec_named(name).number)
    with pytest.raises(DamagedFileError, match=page.name):
        read_page(tmp_path, page, len(DATA))


def test_a_packed_stream_that_ends_early_or_goes_on_is_refused(tmp_path):
    whole = zlib.compress(DATA)
    for data in (whole[:-1], whole + b"more"):
        page = forge(tmp_path, write(tmp_path), data)
        with pytest.raises(DamagedFileError, match="cut short"):
            read_page(tmp_path, page, len(DATA))


def test_an_enormous_hole_in_a_file_is_not_read(tmp_path):
    page = replace(write(tmp_path), bytes=1 << 40)
    path = tmp_path / page.name
    os.truncate(path, page.bytes)
    with open(path, "r+b") as file:
        fields = (b"PFPAGE\r\n", 1, 1, 2, 4096, 10, len(DATA), page.bytes - 80)
        file.write(struct.pack(HEADER, *fields))
    with pytest.raises(DamagedFileError, match="too much for 1000 bytes"):
        read_page(tmp_path, page, len(DATA))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have no names here")
def test_only_plain_files_are_pages(tmp_path):
    page = write(tmp_path)
    path = tmp_path / page.name
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DamagedFileError, match="is a link"):
        read_page(tmp_path, page, len(DATA))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DamagedFileError, match="no plain file"):  # and it does not wait for one
        read_page(tmp_path, page, len(DATA))
    path.unlink()
    path.mkdir()
    with pytest.raises(DamagedFileError, match=page.name):
        read_page(tmp_path, page, len(DATA))


@pytest.mark.parametrize(("name", "package"), [("zstd", "zstandard"), ("lz4", "lz4")])
def test_a_codec_that_is_not_installed_is_named_with_its_package(
    tmp_path, monkeypatch, name, package
):
    page = write(tmp_path, name)
    monkeypatch.setitem(sys.modules, codecs._PACKAGES[name][0], None)
    with pytest.raises(UserError, match=rf"'{name}' needs .*pip install {package}"):
        read_page(tmp_path, page, len(DATA))
    with pytest.raises(UserError, match="pip install"):
        write_page(tmp_path, 0, 0, 1, [DATA], name)


def test_an_unknown_codec_is_refused_with_those_there_are():
    with pytest.raises(UserError, match=r"'gzip' is no codec.*raw, zlib, zstd, lz4"):
        codec_named("gzip")
    assert [codec.number for codec in CODECS] == [0, 1, 2, 3]  # what files say; never change them


@pytest.mark.parametrize(
    ("record", "expected"), [(7069, 4096), (1, 4096), (200_000, 256), (1 << 30, 1)]
)
def test_a_page_holds_4096_records_or_64_megabytes(record, expected):
    assert records_per_page(record) == expected


@settings(max_examples=200)
@given(
    saves=st.lists(st.integers(0, 40), min_size=1, max_size=60),
    slots=st.integers(2, 100),
    block=st.sampled_from([1, 4, 16]),
    lost=st.sets(st.integers(0, 60), max_size=5),
)
def test_pages_hold_every_time_once_and_never_fall_into_many_pieces(saves, slots, block, lost):
    known, head = [], 0
    for number, steps in enumerate(saves):
        head += steps
        oldest = max(0, head - slots)
        known = [page for i, page in enumerate(known) if number not in lost or i % 2]
        found = [
            piece if isinstance(piece, Page) else Page(0, piece.start, len(piece), "raw", 1, "")
            for piece in pieces(known, oldest, head - 1, block)
        ]
        times = [time for page in found for time in range(page.first, page.end)]
        assert times == sorted(set(times))
        assert [time for time in times if time >= oldest] == list(range(oldest, head - 1))
        assert all(page.end > oldest for page in found)
        per_block = [page.first // block for page in found]
        assert per_block == [(page.end - 1) // block for page in found]
        assert all(per_block.count(number) <= MOST_PIECES for number in per_block)
        known = found
