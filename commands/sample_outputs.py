"""Where painted images go: one picture, a folder of pictures, numpy's arrays, a film."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from playfield.atomic import make_folder, write_atomically
from playfield.commands.sample_task import Film
from playfield.errors import UserError
from playfield.evaluation.grids import as_rgb, write_png
from playfield.evaluation.pictures import picture_of
from playfield.evaluation.scatter import are_points, scatter
from playfield.evaluation.video import Picture, VideoWriter
from playfield.generative.datasets.shaping import MODES, to_picture
from playfield.generative.objective import NO_LABEL

#: Pictures a second: of a film of images that turn into each other, and of one of few steps.
FRAMES_PER_SECOND = 12
#: About how long a film of painting takes before it stands still, in seconds.
FILM_SECONDS = 4.0
FILM_ENDINGS = (".gif", ".mp4")
#: Most classes that a grid has a column for, each.
MOST_COLUMNS = 20


class Output(Protocol):
    """Takes images batch by batch."""

    def add(self, images: NDArray[np.uint8]) -> None:
        """The next images `[B, C, H, W]`."""
        ...

    def finish(self) -> None:
        """All are there. Raises `UserError` where they cannot be written."""
        ...


def open_output(
    out: str, channels: int, seeds: Sequence[int], labels: Sequence[int], stack: ExitStack
) -> Output:
    """What writes images to `out`: FILE.png, FILE.npz, FILE.gif, FILE.mp4, or a folder.

    `seeds` and `labels` are the images', one each. A film is closed by `stack`. Raises `UserError`
    for another ending and for a place that cannot be written to.
    """
    path = Path(out)
    ending = "" if out.endswith(("/", "\\")) or path.is_dir() else path.suffix.lower()
    match ending:
        case ".png":
            check_writable(path)
            return _Grid(path, columns_for(labels))
        case ".npz":
            check_writable(path)
            return _Arrays(path, seeds, labels)
        case ".gif" | ".mp4":
            return _FilmOfImages(stack.enter_context(VideoWriter(path, FRAMES_PER_SECOND)))
        case "":
            return _Folder(path, channels, seeds, labels)
    raise UserError(
        f"{path} cannot be written: --out ends in .png (one picture), .npz (arrays) or / (a folder "
        f"of pictures), not in {path.suffix!r}."
    )


def columns_for(labels: Sequence[int]) -> int | None:
    """Columns of a grid: one for each class where they come in turn; None: about as many as rows"""
    period = len(set(labels))
    in_turn = all(label == labels[i % period] for i, label in enumerate(labels))
    return period if in_turn and 1 < period <= MOST_COLUMNS else None


def check_writable(path: Path) -> None:
    """`UserError` for a file that cannot be made: told before the work, not after it."""
    beside = path.with_name(f".{path.name}.part")
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        beside.touch()
        beside.unlink()
    except OSError as error:
        raise _unwritable(path, error) from None


class _Grid:
    def __init__(self, path: Path, columns: int | None) -> None:
        self._path, self._columns = path, columns
        self._images: list[NDArray[np.uint8]] = []

    def add(self, images: NDArray[np.uint8]) -> None:
        self._images.append(images)

    def finish(self) -> None:
        write_png(self._path, picture_of(np.concatenate(self._images), self._columns))


class _Arrays:
    """`images` uint8 `[N, H, W]` or `[N, H, W, C]`, `labels` and `seeds` int64 `[N]`.

    The data kind `npz:` reads them back. There are no labels where no image has one.
    """

    def __init__(self, path: Path, seeds: Sequence[int], labels: Sequence[int]) -> None:
        self._path = path
        self._columns: dict[str, Any] = {"seeds": np.array(seeds, np.int64)}
        if any(label != NO_LABEL for label in labels):
            self._columns["labels"] = np.array(labels, np.int64)
        self._images: list[NDArray[np.uint8]] = []

    def add(self, images: NDArray[np.uint8]) -> None:
        # Without a dimension for the only channel there is no doubt about which one it is.
        self._images.append(images[:, 0] if images.shape[1] == 1 else np.moveaxis(images, 1, -1))

    def finish(self) -> None:
        file = io.BytesIO()
        np.savez_compressed(file, images=np.concatenate(self._images), **self._columns)
        try:
            write_atomically(self._path, file.getvalue())
        except OSError as error:
            raise _unwritable(self._path, error) from None


class _Folder:
    """Pictures called by place, seed and class: `000012-seed12-class3.png`."""

    def __init__(
        self, path: Path, channels: int, seeds: Sequence[int], labels: Sequence[int]
    ) -> None:
        if channels not in MODES:
            raise UserError(
                f"Images of {channels} channels make no PNG each: write them to a FILE.npz, or as "
                "one picture to a FILE.png."
            )
        try:
            make_folder(path)
            if any(path.iterdir()):
                raise UserError(
                    f"The folder {path} is not empty, and images would be among others there: name "
                    "a new one."
                )
            check_writable(path / "0.png")
        except OSError as error:
            raise _unwritable(path, error) from None
        self._path, self._seeds, self._labels, self._count = path, seeds, labels, 0

    def add(self, images: NDArray[np.uint8]) -> None:
        for image in images:
            seed, label = self._seeds[self._count], self._labels[self._count]
            tail = "" if label == NO_LABEL else f"-class{label}"
            path = self._path / f"{self._count:06d}-seed{seed}{tail}.png"
            try:
                to_picture(image).save(path, "PNG")
            except OSError as error:
                raise _unwritable(path, error) from None
            self._count += 1

    def finish(self) -> None:
        pass


class _FilmOfImages:
    """One image after the other, as for those between two."""

    def __init__(self, writer: VideoWriter) -> None:
        self._writer = writer

    def add(self, images: NDArray[np.uint8]) -> None:
        points = are_points(images.shape[1:])
        for picture in map(scatter, images[:, None]) if points else as_rgb(images):
            self._writer.add(picture)

    def finish(self) -> None:
        pass


def film_rate(moments: int) -> int:
    """Pictures a second of a film of so many, which then stands still for about a second."""
    return min(30, max(4, math.ceil(moments / FILM_SECONDS)))


def write_film(writer: VideoWriter, film: Film, columns: int | None, rate: int) -> None:
    """Moment by moment: the noisy images on the left, what the model expects on the right."""
    picture: Picture | None = None
    for noisy, expected in film.pairs():
        sides = [picture_of(noisy, columns), picture_of(expected, columns)]
        picture = np.concatenate(sides, axis=1)
        writer.add(picture)
    for _ in range(rate if picture is not None else 0):
        assert picture is not None
        writer.add(picture)


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path} cannot be written ({error.strerror or error}); name a place in a folder that "
        "exists, that this user may write to and that has room."
    )
