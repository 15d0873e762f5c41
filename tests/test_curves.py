"""Curves read back from `metrics.jsonl`: the points that a plain JSON reader finds."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from playfield.training import curves
from playfield.training.curves import (
    every_value,
    metric_names,
    newest_value,
    read_curve,
    read_curves,
)

#: As a run logs: games, an interval, an evaluation, with values that are no plain decimals.
ROWS = [
    {"progress": 3, "episode/return": -21.0, "episode/length": 80.0},
    {"progress": 3, "episode/return": 1.5, "episode/length": 3.0},
    {"progress": 10, "train/loss": 0.25, "episode/return_mean": -9.75, "time/minutes": 1.0},
    {"progress": 10, "eval/return": 2.2250738585072014e-308},
    {"progress": 20, "train/loss": None, "episode/return_mean": 1e-05, "time/minutes": 3.0},
    {"progress": 30, "train/loss": -1.7976931348623157e308, "time/minutes": 4.0},
    {"progress": 2_000_000_000_000, "train/loss": 7, "time/minutes": 5.0},
    {"progress": 2_000_000_000_001, "train/loss": 8.0, "time/minutes": 6.0},
]
LINES = [json.dumps(row) for row in ROWS]
NAMES = ["episode/return", "train/loss", "eval/return", "episode/return_mean"]


def naive(lines: list[str], name: str) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in lines]
    return [
        (row["progress"], math.nan if row[name] is None else row[name])
        for row in rows
        if name in row
    ]


def written(folder: Path, lines: list[str], end: str = "\n") -> Path:
    path = folder / "metrics.jsonl"
    path.write_text("\n".join(lines) + end)
    return path


def check(path: Path, intact: list[str]) -> str | None:
    """That the curves are those of the `intact` lines; what was said of the damage."""
    found = read_curves(path, NAMES)
    for name in NAMES:
        expected = naive(intact, name)
        curve = found.curves[name]
        assert curve.progress.tolist() == [progress for progress, _ in expected], name
        np.testing.assert_array_equal(curve.value, [value for _, value in expected], name)
        assert (curve.progress.dtype, curve.value.dtype) == (np.int64, np.float64)
    return found.damage


def test_a_curve_holds_every_point_with_all_its_digits(tmp_path: Path) -> None:
    assert check(written(tmp_path, LINES), LINES) is None


def test_the_order_of_lines_written_by_other_hands_is_kept(tmp_path: Path) -> None:
    compact = json.dumps({"progress": 20, "train/loss": 5.0}, separators=(",", ":"))
    turned = json.dumps({"train/loss": 6.0, "progress": 20})
    lines = [*LINES[:5], compact, turned, *LINES[5:]]
    assert check(written(tmp_path, lines), lines) is None


def test_a_file_that_grows_is_read_up_to_its_last_whole_line(tmp_path: Path) -> None:
    for length in range(1, len(LINES[4])):
        path = written(tmp_path, [*LINES[:4], LINES[4][:length]], end="")
        damage = check(path, LINES[:4])
        assert damage is not None and str(path) in damage and "half a line" in damage
    assert check(written(tmp_path, LINES[:5], end=""), LINES[:5]) is None


@pytest.mark.parametrize(
    "broken",
    [
        LINES[2][:40],
        LINES[2][:-1],
        LINES[2][:30] + LINES[3],  # a torn record, and the next one right behind it
        LINES[2].replace("0.25", "0.2.5"),
        LINES[2].replace("-9.75", "-\0\0\0\0"),
        LINES[2].replace("minutes", "minütes\0"),
        LINES[2].replace("10", "1x0", 1),
        "[1, 2]",
        '{"progress": "10", "train/loss": 1.0}',
        '{"progress": true, "train/loss": 1.0}',
        '{"progress": null, "train/loss": 1.0}',
        '{"progress": 1.5, "train/loss": 1.0}',
        "\0" * 50,
        "not JSON at all " * 9,
        '{"progress": 10, "train/loss": ' + "[" * 5000 + "}",
    ],
)
def test_a_damaged_line_costs_that_line_alone(tmp_path: Path, broken: str) -> None:
    path = written(tmp_path, [*LINES[:2], broken, *LINES[3:]])
    damage = check(path, [*LINES[:2], *LINES[3:]])
    assert damage is not None and str(path) in damage
    assert "1 of 8 lines" in damage and "line 3" in damage


def test_a_word_in_place_of_a_number_is_no_point(tmp_path: Path) -> None:
    word = '{"progress": 11, "train/loss": "high", "episode/return_mean": 2.0}'
    path = written(tmp_path, [LINES[0], word, *LINES[6:]])
    assert read_curve(path, "train/loss").value.tolist() == [7, 8]
    assert read_curve(path, "episode/return_mean").value.tolist() == [2.0]


def test_bytes_of_chance_never_stop_a_reader(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "metrics.jsonl"
    text = ("\n".join(LINES * 3) + "\n").encode()
    for _ in range(200):
        damaged = bytearray(text)
        start, size = rng.integers(len(text)), rng.integers(1, 60)
        noise = rng.integers(0, 256, size).astype(np.uint8).tobytes()
        damaged[start : start + size] = noise if rng.random() < 0.7 else b""
        path.write_bytes(damaged)
        found = read_curves(path, NAMES)
        assert (np.diff(found.curves["train/loss"].progress) >= 0).all()
        newest_value(path, "train/loss")
        every_value(path, "train/loss")


@pytest.mark.parametrize("text", ["", "\n", "\n\n\n", "{}"])
def test_an_empty_file_has_curves_without_points(tmp_path: Path, text: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(text)
    found = read_curves(path, ["train/loss"])
    assert len(found.curves["train/loss"].progress) == 0
    assert found.curves["train/loss"].minutes is None
    assert metric_names(path) == []
    assert newest_value(path, "train/loss") is None
    assert every_value(path, "train/loss").values == []


def test_a_game_s_minutes_lie_between_those_of_the_points_around_it(tmp_path: Path) -> None:
    path = written(tmp_path, LINES)
    # The clock starts at 0; it is 1 at step 10: three tenths of a minute at step 3.
    minutes = read_curve(path, "episode/return").minutes
    assert minutes is not None
    np.testing.assert_allclose(minutes, [0.3, 0.3])
    evaluated = read_curve(path, "eval/return").minutes
    assert evaluated is not None and evaluated.tolist() == [1.0]
    assert read_curves(path, ["eval/return"], clock=False).curves["eval/return"].minutes is None


def test_what_a_resume_gave_up_is_no_part_of_the_curve(tmp_path: Path) -> None:
    steps = [(10, 1.0), (20, 2.0), (30, 3.0), (20, 20.0), (40, 40.0)]
    path = written(tmp_path, [json.dumps({"progress": p, "train/loss": v}) for p, v in steps])
    curve = read_curve(path, "train/loss")
    assert (curve.progress.tolist(), curve.value.tolist()) == ([10, 20, 20, 40], [1, 2, 20, 40])


def test_a_name_is_not_found_within_a_longer_one(tmp_path: Path) -> None:
    path = written(tmp_path, LINES)
    assert read_curve(path, "return").value.tolist() == []
    assert read_curve(path, "episode/return_me").value.tolist() == []


def test_the_newest_value_is_the_last_that_is_finite(tmp_path: Path) -> None:
    path = written(tmp_path, [*LINES, LINES[4]], end="")
    assert newest_value(path, "train/loss") == 8.0
    assert newest_value(path, "episode/return_mean") == 1e-05
    assert newest_value(path, "none/such") is None


@pytest.mark.parametrize("read", [1, 5, 26, 27, 64, 4096])
def test_every_value_is_found_however_the_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: int
) -> None:
    monkeypatch.setattr(curves, "READ", read)
    path = written(tmp_path, LINES * 3)
    for name in NAMES:
        finite = [value for _, value in naive(LINES * 3, name) if math.isfinite(value)]
        assert every_value(path, name).values == finite, name
        assert newest_value(path, name) == finite[-1], name


def test_a_value_before_many_megabytes_of_others_is_found(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with path.open("w") as file:
        file.write(LINES[3] + "\n")
        file.write((LINES[0] + "\n") * 300_000)  # 19 MB
    assert every_value(path, "eval/return").values == [2.2250738585072014e-308]
    assert newest_value(path, "eval/return") == 2.2250738585072014e-308


def test_a_number_that_was_cut_is_not_taken_for_a_shorter_one(tmp_path: Path) -> None:
    path = written(tmp_path, [*LINES[:3], '{"progress": 11, "episode/return_mean": 123'], end="")
    assert newest_value(path, "episode/return_mean") == -9.75
    assert every_value(path, "episode/return_mean").values == [-9.75]


def test_a_run_s_metrics_are_named_from_its_newest_lines(tmp_path: Path) -> None:
    names = metric_names(written(tmp_path, LINES))
    assert names == sorted({name for row in ROWS for name in row} - {"progress"})


def test_a_missing_file_is_the_caller_s_to_explain(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_curves(tmp_path / "metrics.jsonl", ["train/loss"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", None),
        (b'{"progress": 1, "eval/return": 2.0}\n', None),
        (b'{"progress": 1, "eval/return": 2.0}\n{"progress": 2, "eval', "half a line"),
        (b'{"progress": 1, "eval/return": 2.0}\n' + bytes(9) + b"\n", "no text"),
        (b'{"progress": 1, "eval/return": 2.0}\n\xff\n' + b"{}\n" * 50_000, "no text"),
    ],
)
def test_what_is_noticed_while_values_are_looked_for_is_told(
    tmp_path: Path, text: bytes, said: str | None
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(text)
    found = every_value(path, "eval/return")
    assert found.values == ([2.0] if text else [])
    assert found.damage is None if said is None else said in str(found.damage)
    growing = every_value(path, "eval/return", growing=True)
    assert (growing.damage is None) == (said != "no text")
