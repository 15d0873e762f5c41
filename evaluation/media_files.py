"""Pictures and films in files, looked at before a page embeds them."""

from __future__ import annotations

import base64
import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image, ImageSequence, UnidentifiedImageError

from playfield.errors import DamagedFileError, UserError

#: What browsers show, by the name that Pillow has for it.
MIME = {"PNG": "image/png", "GIF": "image/gif", "WEBP": "image/webp"}
FILM_ENDINGS = (".gif", ".png", ".webp", ".mp4")
#: Bytes of one file: a page is read whole, on phones too.
LARGEST = 16 * 2**20

_PNG_END = b"IEND\xaeB`\x82"
#: What Pillow raises for files that end early or hold something else.
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


@dataclass(frozen=True)
class Medium:
    """Something to look at, as a browser plays it."""

    kind: Literal["chart", "picture", "film"]
    mime: str
    data: bytes  # a whole file
    caption: str  # also for those who can't see it

    @property
    def address(self) -> str:
        """A data URI: the file itself in the place of where it lies."""
        return f"data:{self.mime};base64,{base64.b64encode(self.data).decode('ascii')}"

    @property
    def is_video(self) -> bool:
        """Whether it needs a player; an animated picture moves by itself."""
        return self.mime.startswith("video/")


def read_medium(path: Path, caption: str) -> Medium:
    """The picture or film at `path`: what it is decides, not its name.

    Every frame is decoded once, so that what a page shows is whole. Raises `DamagedFileError` for
    a file that ends early or is none of these, and `UserError` for one that is larger than
    `LARGEST` or can't be read.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise UserError(
                f"{path} has {size / 2**20:.0f} MiB, and a page takes files of up to "
                f"{LARGEST >> 20}: write a shorter or smaller one."
            )
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"Can't read {path}: {error.strerror}.") from None
    if data[4:8] == b"ftyp":
        try:
            kinds = [kind for kind, _ in mp4_boxes(data)]
        except ValueError as error:
            raise DamagedFileError(f"{path} is damaged: {error}.") from None
        if not {b"moov", b"mdat"} <= set(kinds):
            raise DamagedFileError(f"{path} is damaged: it is an MP4 without a film in it.")
        return Medium("film", "video/mp4", data, caption)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=tuple(MIME)) as image:
                frames = 0
                for frame in ImageSequence.Iterator(image):
                    frame.load()
                    frames += 1
                mime = MIME[str(image.format)]
                # Pillow is content with all pixels; browsers want the end of the film, too.
                if image.format == "PNG" and not data.endswith(_PNG_END):
                    raise ValueError("it ends early")
    except _UNREADABLE as error:
        said = str(error) if not isinstance(error, UnidentifiedImageError) else "no picture"
        raise DamagedFileError(f"{path} is damaged: {said or 'it ends early'}.") from None
    return Medium("film" if frames > 1 else "picture", mime, data, caption)


def mp4_boxes(data: bytes) -> Iterator[tuple[bytes, int]]:
    """(kind, size in bytes) of the outermost boxes of an MP4 (ISO/IEC 14496-12, section 4.2).

    Raises ValueError where the last one ends early.
    """
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise ValueError(f"it ends early, at byte {len(data)}")
        size, kind = struct.unpack_from(">I4s", data, at)
        if size == 1 and len(data) - at >= 16:
            (size,) = struct.unpack_from(">Q", data, at + 8)
        elif size == 0:  # as far as the file goes
            size = len(data) - at
        if size < 8 or at + size > len(data):
            raise ValueError(f"it ends early: the part at byte {at} should have {size} bytes")
        yield kind, size
        at += size


def newest_grids(folder: Path) -> list[Path]:
    """The grids of a run's folder `samples`, newest first: those of training before all others.

    Training names them by its progress alone.
    """
    found = _files(folder, (".png",))
    by_training = [path for path in found if re.fullmatch(r"\d+", path.stem)]
    by_training.sort(key=lambda path: int(path.stem), reverse=True)
    return by_training + [path for path in found if path not in by_training]


def newest_films(folder: Path) -> list[Path]:
    """The films of a run's folder `videos`, newest first."""
    return _files(folder, FILM_ENDINGS)


def _files(folder: Path, endings: Sequence[str]) -> list[Path]:
    """The files in `folder` with these endings, by their time; what is being written is hidden."""
    try:
        times = {
            path: path.stat().st_mtime_ns
            for path in folder.iterdir()
            if path.suffix.lower() in endings and not path.name.startswith(".") and path.is_file()
        }
    except OSError:
        return []
    return sorted(times, key=lambda path: (times[path], path.name), reverse=True)
