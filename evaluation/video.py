"""Films as files: MP4 through ffmpeg, GIF and animated PNG through Pillow."""

from __future__ import annotations

import io
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from playfield.errors import UserError

Picture = NDArray[np.uint8]  # [H, W, 3] RGB

#: Small worlds are a few pixels high; below this height a film is enlarged by a whole factor.
MIN_HEIGHT = 240


class _Encoder(Protocol):
    def add(self, picture: Picture) -> None: ...

    def finish(self) -> None: ...

    def abort(self) -> None: ...


class VideoWriter:
    """Writes pictures of one size into `path`, whose ending says how: .mp4, .gif or .png.

    Used as a context manager. The film appears under its name when it is complete; after an error
    nothing is left behind and a film that was there before is untouched. Raises `UserError` at
    once for another ending or a place that cannot be written to.
    """

    def __init__(self, path: Path, frames_per_second: float) -> None:
        encoder = _ENCODERS.get(path.suffix.lower())
        if encoder is None:
            raise UserError(
                f"{path} cannot be written: a video's name ends in .mp4, .gif or .png "
                f"(animated), not in {path.suffix or 'nothing'!r}."
            )
        self.path = path
        # ffmpeg and Pillow choose the format by the ending, so the ending stays.
        self._part = path.with_name(f".{path.stem}.part{path.suffix}")
        try:
            self._part.touch()
        except OSError as error:
            raise _unwritable(path, error) from error
        self._encoder: _Encoder = encoder(self._part, frames_per_second)

    def add(self, picture: Picture) -> None:
        """Append one picture `[H, W, 3]` uint8 RGB."""
        factor = -(-MIN_HEIGHT // picture.shape[0])
        if factor > 1:
            picture = picture.repeat(factor, axis=0).repeat(factor, axis=1)
        try:
            self._encoder.add(picture)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._encoder.finish()
                self._part.replace(self.path)
            else:
                self._encoder.abort()
        except OSError as failure:
            raise _unwritable(self.path, failure) from failure
        finally:
            self._part.unlink(missing_ok=True)


def gif(pictures: Iterable[Picture], frames_per_second: float) -> bytes:
    """`pictures` `[H, W, 3]` uint8 of one size, at least one, as an endless GIF in memory."""
    encoded = io.BytesIO()
    encoder = _Gif(encoded, frames_per_second)
    for picture in pictures:
        encoder.add(picture)
    encoder.finish()
    return encoded.getvalue()


class _Ffmpeg:
    """H.264 in 4:2:0, the one form that every browser and player opens."""

    def __init__(self, path: Path, frames_per_second: float) -> None:
        self._path = path
        self._frames_per_second = frames_per_second
        self._messages = tempfile.TemporaryFile()
        self._process: subprocess.Popen[bytes] | None = None

    def add(self, picture: Picture) -> None:
        # 4:2:0 has one colour sample for two by two pixels: odd sides get their last line twice.
        height, width = picture.shape[:2]
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._process is None:
            self._process = self._start(picture.shape[0], picture.shape[1])
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(picture.tobytes())
        except BrokenPipeError:
            self._process.wait()
            raise self._failure() from None

    def finish(self) -> None:
        if self._process is None:
            return
        # communicate() closes the pipe, which is the end of the film, and waits for the encoder.
        self._process.communicate()
        if self._process.returncode != 0:
            raise self._failure()
        self._messages.close()

    def abort(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._messages.close()

    def _start(self, height: int, width: int) -> subprocess.Popen[bytes]:
        import imageio_ffmpeg  # here, for a GIF needs no ffmpeg

        source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
        rate = ["-r", f"{self._frames_per_second:.6f}"]
        target = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "18", "-movflags", "+faststart"]
        # A session of its own: Ctrl-C is for us, who then end the film properly.
        return subprocess.Popen(
            [
                *(imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error"),
                *(*source, *rate, "-i", "-", *target, str(self._path)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._messages,
            start_new_session=True,
        )

    def _failure(self) -> OSError:
        self._messages.seek(0)
        lines = self._messages.read().decode(errors="replace").strip().splitlines()
        return OSError(f"ffmpeg: {lines[-1] if lines else 'no message'}")


class _Pillow:
    """Pictures gathered in memory, as Pillow wants them."""

    format: ClassVar[str] = "PNG"
    unit: ClassVar[int] = 1  # milliseconds

    def __init__(self, target: Path | BinaryIO, frames_per_second: float) -> None:
        self._target = target
        self._milliseconds = 1000 / frames_per_second
        self._pictures: list[Image.Image] = []

    def add(self, picture: Picture) -> None:
        self._pictures.append(Image.fromarray(picture))

    def finish(self) -> None:
        if not self._pictures:
            return
        first, *rest = self._pictures
        durations = self._durations(len(self._pictures))
        first.save(
            self._target,
            self.format,
            save_all=True,
            append_images=rest,
            duration=durations,
            loop=0,
        )

    def abort(self) -> None:
        self._pictures.clear()

    def _durations(self, count: int) -> list[int]:
        """Whole units per picture whose running sum never strays from the wanted rate."""
        ends = [round((i + 1) * self._milliseconds / self.unit) for i in range(count)]
        starts = [0, *ends[:-1]]
        return [(end - start) * self.unit for start, end in zip(starts, ends, strict=True)]


class _Gif(_Pillow):
    format = "GIF"
    unit = 10  # a GIF counts hundredths of a second

    def add(self, picture: Picture) -> None:
        # Atari shows at most 128 colours at once: an adaptive palette without dithering is exact.
        median_cut, plain = Image.Quantize.MEDIANCUT, Image.Dither.NONE
        self._pictures.append(Image.fromarray(picture).quantize(256, median_cut, dither=plain))


_ENCODERS: dict[str, type[_Ffmpeg] | type[_Pillow]] = {
    ".mp4": _Ffmpeg,
    ".gif": _Gif,
    ".png": _Pillow,
}


def _unwritable(path: Path, error: OSError) -> UserError:
    reason = error.strerror or str(error)
    return UserError(
        f"{path} cannot be written ({reason}); name a file in a folder that exists, "
        "that this user may write to and that has room."
    )
