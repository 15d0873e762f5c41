"""A confusion matrix to look at: as a table in the terminal, and as a picture."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rich.cells import cell_len, set_cell_size
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from playfield.evaluation.classification import Classification
from playfield.evaluation.grids import Picture

#: Cells that the name of a class may take at most, and lines of tables that list classes.
NAME, LINES = 16, 20
#: What stands where the names of rows and columns meet.
CORNER = "is ↓ seems →"
#: Pixels of a cell of the picture: as many as make it about so wide, within these.
WIDTH, SMALLEST, LARGEST = 640, 3, 36
#: Pixels around names.
GAP = 4
#: Colours of a cell for none of a class's images and for all of them; of writing; of the rest.
NONE, ALL = (247, 250, 255), (8, 48, 107)
DARK, BACKGROUND = (30, 30, 30), (255, 255, 255)


def scores_table(result: Classification) -> Table:
    """Precision, recall, F1 and support of the classes; of many, those of the lowest F1."""
    shown = result.classes
    title = None
    if len(shown) > LINES:
        known = [each for each in shown if each.f1 is not None]
        shown = tuple(sorted(known, key=lambda each: each.f1 or 0.0)[:LINES])
        title = f"the {len(shown)} of {len(result.classes)} classes with the lowest F1"
    table = Table(title=title, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("class")
    for name in ("precision", "recall", "F1", "images"):
        table.add_column(name, justify="right")
    for each in shown:
        numbers = [_percent(value) for value in (each.precision, each.recall, each.f1)]
        table.add_row(Text(_cut(each.name)), *numbers, f"{each.support:,}")
    means = [_percent(value) for value in (result.precision, result.recall, result.f1)]
    table.add_row("mean of classes", *means, f"{result.n:,}")
    return table


def confusion_table(result: Classification, columns: int = 80) -> RenderableType:
    """The matrix, rows what images are and columns what they were taken for, within `columns`.

    Where it is wider than that, the most frequent mistakes in its place.
    """
    names = [each.name for each in result.classes]
    widest = max(1, *(len(f"{count:,}") for row in result.confusion for count in row))
    plain = all(cell_len(name) <= max(widest, 3) for name in names)
    heads = names if plain else [str(number) for number in range(len(names))]
    rows = names if plain else [f"{number} {_cut(name)}" for number, name in enumerate(names)]
    each = max(widest, *map(cell_len, heads)) + 1
    if max(map(cell_len, [CORNER, *rows])) + len(names) * each > columns:
        return _mistakes_table(result)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(CORNER, no_wrap=True)
    for head in heads:
        table.add_column(Text(head), justify="right", no_wrap=True)
    for i, (row, counts) in enumerate(zip(rows, result.confusion, strict=True)):
        table.add_row(Text(row), *(_count(n, right=i == j) for j, n in enumerate(counts)))
    return table


def _mistakes_table(result: Classification) -> Table:
    found = result.mistakes()
    title = "the most frequent mistakes" if len(found) > LINES else "the mistakes"
    table = Table(title=title, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("images of", "taken for"):
        table.add_column(name)
    table.add_column("times", justify="right")
    for truth, taken, count in found[:LINES]:
        table.add_row(Text(_cut(truth)), Text(_cut(taken)), f"{count:,}")
    return table


def _count(count: int, *, right: bool) -> Text:
    if not count:
        return Text("·", "dim")
    return Text(f"{count:,}", "green" if right else "bold red")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def _cut(name: str) -> str:
    return name if cell_len(name) <= NAME else set_cell_size(name, NAME - 1).rstrip() + "…"


def confusion_picture(result: Classification) -> Picture:
    """The matrix as a picture `[H, W, 3]`: the darker a cell, the more of its row's images it has.

    Rows are what images are, columns what they were taken for; the cells are the squares of
    `cell_size` at its right and lower edge. Names stand at the left, and above, turned; where there
    is no room for all of them, every so many do.
    """
    matrix = result.matrix()
    names = [each.name for each in result.classes]
    cell, every = cell_size(len(names)), label_step(len(names))
    labels = [_label(_cut(name)) for name in names]
    margin = max(label.shape[1] for label in labels[::every]) + 2 * GAP
    head = _label("rows: what images are; columns: what they were taken for")
    side, top = len(names) * cell, margin + head.shape[0]
    width = max(margin + side, head.shape[1] + GAP)
    picture = np.full((top + side, width, 3), BACKGROUND, np.uint8)
    picture[: head.shape[0], GAP : GAP + head.shape[1]] = head
    left = picture.shape[1] - side
    picture[top:, left:] = shades(matrix).repeat(cell, axis=0).repeat(cell, axis=1)
    for index in range(0, len(names), every):
        label = labels[index]
        height, width, _ = label.shape
        place = index * cell + max(0, cell - height) // 2
        row = picture[top + place : top + place + height]
        row[:, left - GAP - width : left - GAP] = label[: len(row)]
        upright = np.rot90(label)  # [width, height, 3]
        column = picture[top - GAP - width : top - GAP, left + place : left + place + height]
        column[:] = upright[:, : column.shape[1]]
    _write_counts(picture[top:, left:], matrix, cell)
    return picture


def shades(matrix: NDArray[np.int64]) -> Picture:
    """The colours `[K, K, 3]` of the cells: by their part of their row, `NONE` for empty rows."""
    part = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    mixed = np.array(NONE) * (1 - part[..., None]) + np.array(ALL) * part[..., None]
    return mixed.round().astype(np.uint8)


def cell_size(classes: int) -> int:
    """Pixels by which a cell of the picture is wide and high."""
    return min(LARGEST, max(SMALLEST, WIDTH // classes))


def label_step(classes: int) -> int:
    """Of how many classes one is named beside the picture."""
    return math.ceil(_line_height() / cell_size(classes))


def _write_counts(cells: Picture, matrix: NDArray[np.int64], cell: int) -> None:
    """Numbers into `cells` `[K*cell, K*cell, 3]`, if the longest fits."""
    font = ImageFont.load_default()
    longest = max((str(count) for count in matrix.ravel().tolist()), key=len)
    if font.getlength(longest) > cell - 4 or _line_height() > cell:
        return
    image = Image.fromarray(cells)
    draw = ImageDraw.Draw(image)
    part = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    for row, column in np.argwhere(matrix > 0).tolist():
        text = str(matrix[row, column])
        place = (
            column * cell + (cell - font.getlength(text)) / 2,
            row * cell + (cell - _line_height()) / 2,
        )
        draw.text(place, text, NONE if part[row, column] > 0.5 else DARK, font)
    cells[:] = np.asarray(image)


def _label(text: str) -> Picture:
    """`text` as a strip `[h, w, 3]`."""
    font = ImageFont.load_default()
    size = (math.ceil(font.getlength(text)) + 1, _line_height())
    strip = Image.new("RGB", size, BACKGROUND)
    ImageDraw.Draw(strip).text((0, 0), text, DARK, font)
    return np.asarray(strip)


def _line_height() -> int:
    return math.ceil(ImageFont.load_default().getbbox("Ágjy")[3]) + 1
