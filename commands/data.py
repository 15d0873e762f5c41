"""`playfield data SPEC`: what a data set holds, in numbers and as a sheet of its images."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from playfield.commands import arguments
from playfield.errors import UserError
from playfield.generative.datasets.options import DataOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from playfield.generative.images import ImageData

COLOURS = {1: "grey", 2: "grey and alpha", 3: "rgb", 4: "rgba"}
#: Classes and damaged files that are named; of more, the others are counted.
MOST_NAMED = 20
#: Images on a sheet, and points in a scatter plot, where nobody says how many.
IMAGES_SHOWN, POINTS_SHOWN = 64, 10_000
#: Images that are looked at in one go.
CHUNK = 1024


@dataclass(frozen=True)
class Options:
    """Show what a data set holds: its numbers, what is wrong with it, and a sheet of its images."""

    data: tyro.conf.Positional[str]
    """The data set, such as digits or folder:PATH; `playfield list data` shows the kinds."""
    images: DataOptions = field(default_factory=DataOptions)
    """How its images are brought in."""
    out: Path | None = None
    """Write the sheet to FILE.png."""
    number: Annotated[int | None, tyro.conf.arg(aliases=["-n"])] = None
    """Images on the sheet, spread evenly over the data set; None: 64, or 10,000 where images are
    points of the plane, which make a scatter plot."""


@dataclass(frozen=True)
class Statistics:
    """What the pixels are like, channel by channel."""

    lowest: tuple[int, ...]
    highest: tuple[int, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    repeated: int  # images that are another one's exact copy; the first of its kind is none


def run(args: Sequence[str]) -> int:
    options = arguments.parse(Options, args, command="data")
    if options.number is not None and options.number < 1:
        raise UserError(f"--number has to be 1 or more, not {options.number}.")

    from playfield.commands.data_sets import open_data_set
    from playfield.evaluation.grids import check_png, write_png
    from playfield.evaluation.pictures import picture_of

    if options.out is not None:
        check_png(options.out)  # a data set can take minutes to open
    data = open_data_set(options.data, options.images)
    print("\n".join(lines(data, statistics(data))))
    number = options.number or (POINTS_SHOWN if _are_points(data) else IMAGES_SHOWN)
    if sys.stdout.isatty():
        print("\n".join(preview(data, number, *shutil.get_terminal_size())))
    if options.out is not None:
        chosen = spread(len(data), number)
        labels = data.labels()[chosen]
        captions = [data.classes[label] if label >= 0 else "" for label in labels.tolist()]
        picture = picture_of(data.images()[chosen], captions=captions if data.classes else None)
        write_png(options.out, picture)
        print(f"written to    {options.out}: {len(chosen)} of the images")
    return 0


def lines(data: ImageData, found: Statistics) -> list[str]:
    """The report."""
    spec, count = data.spec, len(data)
    colours = COLOURS.get(spec.channels, f"{spec.channels} channels")
    if _are_points(data):
        colours = "x and y of points in the plane"
    return [
        f"data          {data.name}",
        f"images        {count:,} of {spec.height}x{spec.width} pixels, {colours}; "
        f"{count * data.store.frame_bytes / 1e6:,.1f} MB",
        *_classes(data),
        f"values        {_each(found.lowest, 'd')} to {_each(found.highest, 'd')}, "
        f"mean {_each(found.mean, '.1f')}, standard deviation {_each(found.deviation, '.1f')}",
        f"repeated      {found.repeated:,} images are copies of another",
        *_damaged(data),
        f"fingerprint   {data.fingerprint()}",
    ]


def statistics(data: ImageData) -> Statistics:
    """Exact ones, from a count of every value."""
    import numpy as np

    counts = np.zeros((data.spec.channels, 256), np.int64)
    seen: set[bytes] = set()
    for chunk in _chunks(data):
        for channel, row in enumerate(counts):
            row += np.bincount(chunk[:, channel].reshape(-1), minlength=256)
        seen.update(hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in chunk)
    codes = np.arange(256)
    mean = counts @ codes / counts.sum(axis=1)
    variance = counts @ codes**2 / counts.sum(axis=1) - mean**2
    return Statistics(
        lowest=tuple(int(codes[row > 0].min()) for row in counts),
        highest=tuple(int(codes[row > 0].max()) for row in counts),
        mean=tuple(mean.tolist()),
        deviation=tuple(np.sqrt(np.maximum(variance, 0.0)).tolist()),
        repeated=len(data) - len(seen),
    )


def spread(count: int, number: int) -> NDArray[np.int64]:
    """At most `number` of `0 .. count - 1`, from the first to the last at even distances."""
    import numpy as np

    return np.linspace(0, count - 1, min(count, number)).round().astype(np.int64)


def preview(data: ImageData, number: int, columns: int, rows: int) -> list[str]:
    """A few of the images as lines for a terminal of this size."""
    from playfield.commands import preview as terminal

    across, down = terminal.room(data.spec.height, data.spec.width, columns, rows)
    chosen = spread(len(data), min(number, across * down))
    return terminal.preview(data.images()[chosen], columns, rows)


def _are_points(data: ImageData) -> bool:
    from playfield.evaluation.scatter import are_points

    return are_points(data.spec.shape)


def _classes(data: ImageData) -> list[str]:
    import numpy as np

    if not data.classes:
        return ["classes       none"]
    labels = data.labels()
    counts = np.bincount(labels[labels >= 0], minlength=len(data.classes)).tolist()
    named = [f"{name} ({n:,})" for name, n in zip(data.classes, counts, strict=True)]
    text = ", ".join(named[:MOST_NAMED])
    if len(named) > MOST_NAMED:
        text += f" and {len(named) - MOST_NAMED} more"
    if without := int((labels < 0).sum()):
        text += f"; {without:,} images without a label"
    return [f"classes       {len(named)}: {text}"]


def _damaged(data: ImageData) -> list[str]:
    if not data.damaged:
        return []
    count, rest = len(data.damaged), len(data.damaged) - MOST_NAMED
    return [
        f"damaged       {count:,} {'file was' if count == 1 else 'files were'} left out",
        *(f"  {file}" for file in data.damaged[:MOST_NAMED]),
        *([f"  … and {rest:,} more"] if rest > 0 else []),
    ]


def _each(values: Sequence[float], form: str) -> str:
    """One number per channel, or a single one where all of them are printed alike."""
    texts = [format(value, form) for value in values]
    return texts[0] if len(set(texts)) == 1 else " / ".join(texts)


def _chunks(data: ImageData) -> Iterator[NDArray[np.uint8]]:
    images = data.images()
    for begin in range(0, len(images), CHUNK):
        yield images[begin : begin + CHUNK]
