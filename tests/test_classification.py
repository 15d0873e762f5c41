"""How well classes are told apart: the numbers, the file they are kept in, the tables, the picture.

Every expected number was worked out by hand from the matrices written here.
"""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.console import Console, RenderableType

from playfield.errors import DamagedFileError, UserError
from playfield.evaluation.classification import (
    Classification,
    Judgement,
    classify,
    read_judgement,
    write_judgement,
)
from playfield.evaluation.confusion import (
    ALL,
    BACKGROUND,
    NONE,
    cell_size,
    confusion_picture,
    confusion_table,
    label_step,
    scores_table,
    shades,
)

#: Ten cats, of which two seem dogs; six dogs, one seems a cat, one an eel; four eels, all known.
ANIMALS = ("cat", "dog", "eel")
MATRIX = ((8, 2, 0), (1, 4, 1), (0, 0, 4))


def classified(matrix: object, classes: tuple[str, ...]) -> Classification:
    counts: NDArray[np.int64] = np.array(matrix, np.int64)
    rows, columns = (index.ravel() for index in np.indices(counts.shape))
    times = counts.ravel()
    shuffled = np.random.default_rng(0).permutation(times.sum())
    return classify(np.repeat(rows, times)[shuffled], np.repeat(columns, times)[shuffled], classes)


def text_of(table: RenderableType, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_scores_follow_from_the_matrix() -> None:
    found = classified(MATRIX, ANIMALS)
    assert found.n == 20
    assert found.accuracy == pytest.approx(16 / 20)
    cat, dog, eel = found.classes
    assert (cat.name, cat.support) == ("cat", 10)
    assert (cat.precision, cat.recall) == (pytest.approx(8 / 9), pytest.approx(8 / 10))
    assert cat.f1 == pytest.approx(2 * 8 / (9 + 10))
    assert (dog.precision, dog.recall) == (pytest.approx(4 / 6), pytest.approx(4 / 6))
    assert (eel.precision, eel.recall) == (pytest.approx(4 / 5), pytest.approx(1.0))
    assert found.precision == pytest.approx((8 / 9 + 4 / 6 + 4 / 5) / 3)
    assert found.recall == pytest.approx((8 / 10 + 4 / 6 + 1) / 3)
    assert found.f1 == pytest.approx((16 / 19 + 2 / 3 + 8 / 9) / 3)


def test_a_row_of_the_matrix_is_what_images_are() -> None:
    found = classify(np.array([0, 0, 2]), np.array([0, 1, 2]), ANIMALS)
    assert found.confusion == ((1, 1, 0), (0, 0, 0), (0, 0, 1))
    assert found.mistakes() == [("cat", "dog", 1)]
    assert classified(MATRIX, ANIMALS).mistakes() == [
        ("cat", "dog", 2),
        ("dog", "cat", 1),
        ("dog", "eel", 1),
    ]


def test_a_class_that_was_not_shown_has_no_scores_and_no_part_in_the_means() -> None:
    found = classified(((3, 1, 0), (0, 0, 0), (0, 1, 3)), ANIMALS)
    dog = found.classes[1]
    assert (dog.support, dog.precision, dog.recall, dog.f1) == (0, None, None, None)
    assert found.precision == pytest.approx(1.0)  # of cats and eels, what seemed one was one
    assert found.recall == pytest.approx(3 / 4)


def test_a_class_that_nothing_was_taken_for_scores_0() -> None:
    dog = classified(((3, 0, 0), (2, 0, 0), (0, 0, 4)), ANIMALS).classes[1]
    assert (dog.support, dog.precision, dog.recall, dog.f1) == (2, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("labels", "predicted", "named"),
    [([], [], "0 and 0"), ([0, 1], [0], "2 and 1"), ([0, -1], [0, 1], r"-1\.\.0"), ([0], [3], "3")],
)
def test_what_is_no_classification_is_refused(
    labels: list[int], predicted: list[int], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        classify(np.array(labels, np.int64), np.array(predicted, np.int64), ANIMALS)


# --- the file -------------------------------------------------------------------------------------


def judgement() -> Judgement:
    return Judgement(
        run="judge",
        progress=1200,
        weights_sha256="ab" * 32,
        data="digits",
        held_out=0.2,
        seed=3,
        fingerprint="cd" * 32,
        finished_at="2026-01-31T14:25:01+00:00",
        classification=classified(((3, 1, 0), (0, 0, 0), (0, 1, 3)), ANIMALS),
    )


def test_a_judgement_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "classification.json"
    for each in (judgement(), replace(judgement(), held_out=None)):
        write_judgement(path, each)
        assert read_judgement(path) == each
    document = json.loads(path.read_text())
    assert document["classification"]["confusion"] == [[3, 1, 0], [0, 0, 0], [0, 1, 3]]
    assert document["classification"]["classes"][1]["f1"] is None


def test_a_damaged_judgement_is_named(tmp_path: Path) -> None:
    path = tmp_path / "classification.json"
    write_judgement(path, judgement())
    whole = path.read_text()
    for text, named in [
        (whole[:100], "no JSON"),
        ("[]", "format"),
        (whole.replace('"format": 1', '"format": 7'), "format"),
        (whole.replace('"progress": 1200', '"progress": "many"'), "progress should be int"),
        (whole.replace('"accuracy"', '"acuracy"'), "acuracy"),
        (whole.replace('"seed": 3,', ""), "lacks the field 'seed'"),
    ]:
        path.write_text(text)
        with pytest.raises(DamagedFileError, match=named):
            read_judgement(path)
    with pytest.raises(UserError, match="Can't read"):
        read_judgement(tmp_path / "none.json")
    with pytest.raises(UserError, match="cannot be written"):
        write_judgement(tmp_path / "no folder" / "classification.json", judgement())


# --- tables ---------------------------------------------------------------------------------------


def test_the_matrix_is_a_table_whose_rows_are_what_images_are() -> None:
    lines = [
        line.split()
        for line in text_of(confusion_table(classified(MATRIX, ANIMALS), 80)).splitlines()
    ]
    assert lines == [
        ["is", "↓", "seems", "→", "cat", "dog", "eel"],
        ["cat", "8", "2", "·"],
        ["dog", "1", "4", "1"],
        ["eel", "·", "·", "4"],
    ]


def test_classes_with_long_names_are_columns_by_their_number() -> None:
    names = ("aeroplane", "[red]bird[/red]", "a name that is far too long for a table")
    lines = text_of(confusion_table(classified(MATRIX, names), 80)).splitlines()
    assert lines[0].split()[-3:] == ["0", "1", "2"]
    assert lines[1].split() == ["0", "aeroplane", "8", "2", "·"]
    assert lines[2].startswith("1 [red]bird[/red]")  # a name is no markup
    assert "…" in lines[3]


@pytest.mark.parametrize("count", [2, 10, 26, 100, 1000])
@pytest.mark.parametrize("images", [1, 12_345])
def test_no_table_is_wider_than_the_terminal(count: int, images: int) -> None:
    names = tuple(f"class {number}" for number in range(count))
    matrix = np.eye(count, dtype=np.int64) * images
    matrix[0, -1] = images
    found = classified(matrix // (1 if count < 50 else images), names)
    for table in (confusion_table(found, 80), scores_table(found)):
        lines = text_of(table, width=200).splitlines()
        assert lines and max(map(cell_len, lines)) <= 80
        assert len(lines) <= 30


def test_of_many_classes_the_mistakes_are_listed_the_most_frequent_first() -> None:
    names = tuple(f"class {number}" for number in range(60))
    matrix = np.eye(60, dtype=np.int64) * 9
    matrix[7, 3], matrix[5, 40] = 2, 6
    lines = text_of(confusion_table(classified(matrix, names), 80)).splitlines()
    assert [line.split() for line in lines[2:]] == [
        ["class", "5", "class", "40", "6"],
        ["class", "7", "class", "3", "2"],
    ]
    worst = text_of(scores_table(classified(matrix, names))).splitlines()
    assert worst[0].strip() == "the 20 of 60 classes with the lowest F1"
    assert worst[2].split()[:2] == ["class", "5"]


# --- the picture ----------------------------------------------------------------------------------


def cells(picture: NDArray[np.uint8], classes: int) -> NDArray[np.uint8]:
    """The corners `[K, K, 3]` of the cells, where no number is written."""
    size = cell_size(classes)
    return picture[-classes * size :: size, -classes * size :: size]


def test_a_cell_is_as_dark_as_its_part_of_the_row() -> None:
    picture = confusion_picture(classified(((8, 0, 0), (3, 3, 0), (1, 0, 3)), ANIMALS))
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    found = cells(picture, 3)
    half = [round((a + b) / 2) for a, b in zip(NONE, ALL, strict=True)]
    assert found[0].tolist() == [list(ALL), list(NONE), list(NONE)]
    assert np.abs(found[1].astype(int) - [half, half, NONE]).max() <= 1
    assert (found[2, 2] < found[2, 0]).all() and (found[2, 0] < found[2, 1]).all()


def test_a_class_without_images_is_an_empty_row() -> None:
    assert (shades(np.array([[0, 0], [1, 1]]))[0] == NONE).all()


def test_names_stand_at_the_left_and_above() -> None:
    picture = confusion_picture(classified(MATRIX, ANIMALS))
    side = 3 * cell_size(3)
    left, above = picture[-side:, :-side], picture[-side - 8 : -side, -side:]
    for place, across in ((left, 1), (above, 0)):
        inked = (place != BACKGROUND).any(axis=2).any(axis=across)
        assert all(part.any() for part in np.split(inked, 3))


@pytest.mark.parametrize("count", [2, 17, 64, 300])
def test_pictures_of_any_number_of_classes_are_of_a_size_to_look_at(count: int) -> None:
    names = tuple(f"number {index}" for index in range(count))
    picture = confusion_picture(classified(np.eye(count, dtype=np.int64), names))
    assert max(picture.shape) < 1200
    diagonal = cells(picture, count)[range(count), range(count)]
    assert (diagonal == ALL).all()
    # Names never overlap: they are as far apart as they are high.
    assert label_step(count) * cell_size(count) >= 11
