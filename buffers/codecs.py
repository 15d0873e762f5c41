"""How the bytes of a page are packed: zlib, raw, or one of two that are extras to install."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from playfield.errors import UserError

Buffer = bytes | memoryview
#: Level 1 of zlib and zstd: frames of a game shrink to a few hundredths at any level.
LEVEL = 1


@dataclass(frozen=True, slots=True)
class Codec:
    """A way to pack bytes, and back; both run without the GIL where there is work to do."""

    name: str
    number: int  # what a page's header calls it
    pack: Callable[[Sequence[Buffer]], list[Buffer]]
    #: `unpack(packed, size)` returns at most `size + 1` bytes, whatever `packed` claims to hold, or
    #: raises ValueError where that is more or not of this codec.
    unpack: Callable[[Buffer, int], Buffer]


def codec_named(name: str) -> Codec:
    """The codec of that name; raises UserError for one that is unknown or not installed."""
    for codec in CODECS:
        if codec.name == name:
            if name in _PACKAGES:
                _package(name)
            return codec
    known = ", ".join(codec.name for codec in CODECS)
    raise UserError(f"{name!r} is no codec of pages; choose one of {known}.")


def _zlib_pack(chunks: Sequence[Buffer]) -> list[Buffer]:
    packer = zlib.compressobj(LEVEL)
    return [*(packer.compress(chunk) for chunk in chunks), packer.flush()]


def _zlib_unpack(packed: Buffer, size: int) -> Buffer:
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(packed, size + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("the zlib stream is cut short, too long, or followed by more")
    return data


def _zstd_pack(chunks: Sequence[Buffer]) -> list[Buffer]:
    packer = _package("zstd").ZstdCompressor(level=LEVEL).compressobj()
    return [*(packer.compress(chunk) for chunk in chunks), packer.flush()]


def _zstd_unpack(packed: Buffer, size: int) -> Buffer:
    zstandard = _package("zstd")
    try:
        # As a stream: in one piece it would allocate what the frame's own header claims.
        with zstandard.ZstdDecompressor().stream_reader(packed) as reader:
            data: bytes = reader.read(size + 1)
            return data
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None


def _lz4_pack(chunks: Sequence[Buffer]) -> list[Buffer]:
    packer = _package("lz4").LZ4FrameCompressor()
    return [packer.begin(), *(packer.compress(chunk) for chunk in chunks), packer.flush()]


def _lz4_unpack(packed: Buffer, size: int) -> Buffer:
    try:
        data: bytes = _package("lz4").LZ4FrameDecompressor().decompress(packed, size + 1)
        return data
    except (RuntimeError, EOFError) as error:
        raise ValueError(str(error)) from None


CODECS = (
    Codec("raw", 0, list, lambda packed, size: packed),
    Codec("zlib", 1, _zlib_pack, _zlib_unpack),
    Codec("zstd", 2, _zstd_pack, _zstd_unpack),
    Codec("lz4", 3, _lz4_pack, _lz4_unpack),
)
_PACKAGES = {"zstd": ("zstandard", "zstandard"), "lz4": ("lz4.frame", "lz4")}


def _package(codec: str) -> Any:
    module, package = _PACKAGES[codec]
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UserError(
            f"The codec {codec!r} needs the package {package}, which is not installed: "
            f"`pip install {package}`, or `pip install playfield[compression]`."
        ) from None
