"""What is written for TensorBoard is what TensorBoard reads; a resume finds whole records alone."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.plugins.hparams import api_pb2
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard_back_end import Pages

from playfield.training import event_file
from playfield.training.histograms import buckets
from playfield.training.layouts import LAYOUTS
from playfield.training.media import Film

NOW = 1_700_000_000.5


def write(folder: Path, *events: Any, name: str = "events.out.tfevents.1.a") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(event_file.encode([event_file.version(NOW), *events]))
    return path


def points(steps: list[int], tag: str = "x") -> list[Any]:
    return [event_file.scalars(step, NOW, {tag: float(step)}) for step in steps]


def gif(frames: int) -> bytes:
    pictures = [Image.new("RGB", (6, 4), (40 * k, 0, 0)) for k in range(frames)]
    encoded = io.BytesIO()
    pictures[0].save(encoded, "gif", save_all=True, append_images=pictures[1:])
    return encoded.getvalue()


def test_numbers_and_what_they_mean_are_read_back(tmp_path: Path) -> None:
    values = {"train/loss": 0.25, "eval/return": -21.0}
    write(tmp_path, event_file.scalars(7, NOW, values, {"train/loss": "what is minimised (1)"}))
    pages = Pages(tmp_path)
    assert pages.series("train/loss") == [(7, 0.25)]
    assert pages.series("eval/return") == [(7, -21.0)]
    assert pages.plugin("train/loss") == "scalars"
    assert pages.description("train/loss") == "what is minimised (1)"


def test_a_film_reaches_the_browser_as_it_is(tmp_path: Path) -> None:
    film = Film(gif(5), height=4, width=6)
    write(tmp_path, event_file.picture(3, NOW, "eval/game", film))
    pages = Pages(tmp_path)
    assert pages.plugin("eval/game") == "images"
    ((step, (width, height, encoded)),) = pages.series("eval/game")
    assert (step, width, height) == (3, b"6", b"4")
    assert Image.open(io.BytesIO(encoded)).n_frames == 5  # type: ignore[attr-defined]


def test_a_histogram_is_read_back_by_its_edges_and_counts(tmp_path: Path) -> None:
    found = buckets(np.array([0.0, 0.0, 1.0, 3.0]))
    write(tmp_path, event_file.histogram(3, NOW, "eval/actions", found))
    pages = Pages(tmp_path)
    assert pages.plugin("eval/actions") == "histograms"
    ((step, read),) = pages.series("eval/actions")
    assert step == 3
    np.testing.assert_array_equal(
        read, [[-0.5, 0.5, 2], [0.5, 1.5, 1], [1.5, 2.5, 0], [2.5, 3.5, 1]]
    )


def test_a_text_is_read_back(tmp_path: Path) -> None:
    write(tmp_path, event_file.text(0, NOW, "run/card", "| größe |\n|---|"))
    pages = Pages(tmp_path)
    assert pages.plugin("run/card") == "text"
    ((_, read),) = pages.series("run/card")
    assert read.item().decode() == "| größe |\n|---|"


def test_runs_of_unlike_algorithms_share_one_table_of_settings(tmp_path: Path) -> None:
    dqn = {"algorithm": "dqn", "double": True, "optimizer.learning_rate": 1e-4}
    ppo = {"algorithm": "ppo", "clip": 0.1, "optimizer.learning_rate": 2e-4}
    write(tmp_path / "a", event_file.hyperparameters(NOW, dqn), *points([1, 9], "eval/return"))
    write(
        tmp_path / "b",
        event_file.hyperparameters(NOW, ppo),
        *points([1, 5], "eval/return"),
        event_file.session_end(5, NOW + 60, "finished"),
    )
    columns, rows = Pages(tmp_path).hyperparameters()
    assert columns == {"algorithm", "double", "clip", "optimizer.learning_rate"}
    assert set(rows) == {"a", "b"}  # the runs themselves: no sub-runs
    (group, session), (_, other) = rows["b"], rows["a"]
    assert group.hparams["algorithm"].string_value == "ppo"
    assert group.hparams["clip"].number_value == 0.1
    assert session.status == api_pb2.STATUS_SUCCESS
    assert session.end_time_secs == NOW + 60
    assert other.status == api_pb2.STATUS_UNKNOWN
    newest = {value.name.tag: value.value for value in other.metric_values}
    assert newest == {"eval/return": 9.0}


def test_the_same_layout_in_several_runs_is_one_page(tmp_path: Path) -> None:
    for name, kind in (("a", "agent"), ("b", "agent"), ("c", "gan")):
        write(tmp_path / name, event_file.custom_scalars(NOW, LAYOUTS[kind]))  # type: ignore[index]
    shown = Pages(tmp_path).layout()["category"]
    expected = [category.title for kind in ("agent", "gan") for category in LAYOUTS[kind]]  # type: ignore[index]
    assert [category["title"] for category in shown] == expected
    for category, one in zip(shown, [*LAYOUTS["agent"], *LAYOUTS["gan"]], strict=True):
        assert len(category["chart"]) == len(one.bands) + len(one.lines)
    margin = shown[0]["chart"][0]["margin"]["series"]
    assert margin == [
        {
            "value": "episode/return_mean",
            "lower": "episode/return_low",
            "upper": "episode/return_high",
        }
    ]
    (lines,) = [c["multiline"]["tag"] for c in shown[1]["chart"] if c["title"] == "Values"]
    # TensorBoard matches the beginning of a name, and a value is no value_loss.
    matched = [name for name in ("train/value", "train/value_loss") if re.match(lines[1], name)]
    assert matched == ["train/value"]


def test_an_open_tensorboard_forgets_what_a_resume_takes_back(tmp_path: Path) -> None:
    events = [event_file.histogram(30, NOW, "h", buckets(np.arange(3.0)))]
    write(tmp_path, *points([10, 20, 30]), *events)
    pages = Pages(tmp_path)
    assert pages.steps("x") == [10, 20, 30]
    second = [*event_file.restart(20, NOW), *points([25])]
    write(tmp_path, *second, name="events.out.tfevents.2.a")
    assert pages.reload().steps("x") == [10, 20, 25]
    assert pages.steps("h") == []
    write(tmp_path, *event_file.restart(10, NOW), *points([15]), name="events.out.tfevents.3.a")
    assert pages.reload().steps("x") == [10, 15]


def test_a_file_is_cut_to_what_a_resume_keeps(tmp_path: Path) -> None:
    settings = event_file.hyperparameters(NOW, {"seed": 1})
    end = event_file.session_end(20, NOW, "finished")
    layout = event_file.custom_scalars(NOW, LAYOUTS["painter"])
    path = write(tmp_path, settings, layout, *points([10, 20, 30, 40]), end)
    assert event_file.cut_events(path, 20) == 0
    expected = [event_file.version(NOW), *points([10, 20])]
    assert list(event_file.read_events(path)) == expected


@pytest.mark.parametrize("torn", [1, 4, 9, 20])
def test_everything_before_a_tear_is_kept(tmp_path: Path, torn: int) -> None:
    path = write(tmp_path, *points([10, 20, 30]))
    whole = path.read_bytes()
    path.write_bytes(whole[:-torn])
    before = [event_file.version(NOW), *points([10, 20])]
    assert list(event_file.read_events(path)) == before
    assert event_file.cut_events(path, 100) == len(whole) - torn - len(event_file.encode(before))
    assert path.read_bytes() == event_file.encode(before)


def test_all_before_a_flipped_bit_is_kept_wherever_it_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    film = event_file.picture(25, NOW, "eval/game", Film(gif(2), height=4, width=6))
    events = [event_file.version(NOW), *points([10, 20]), film, *points([30, 40])]
    ends = np.cumsum([len(event_file.encode([event])) for event in events])
    whole = event_file.encode(events)
    path = tmp_path / "events.out.tfevents.1"
    for bit in rng.choice(8 * len(whole), 300, replace=False).tolist():
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        before = events[: np.searchsorted(ends, bit // 8, side="right")]
        assert list(event_file.read_events(path)) == before, bit
        sound = event_file.encode(before)
        assert event_file.cut_events(path, 100) == len(whole) - len(sound), bit
        assert path.read_bytes() == (sound or bytes(damaged)), bit


def test_tensorboard_ends_a_file_at_the_same_damage(tmp_path: Path) -> None:
    path = write(tmp_path, *points([10, 20, 30]))
    content = bytearray(path.read_bytes())
    content[-len(event_file.encode(points([30]))) - 5] ^= 1  # last byte of the message of step 20
    path.write_bytes(content)
    assert Pages(tmp_path).steps("x") == [10]
    assert [event.step for event in event_file.read_events(path)] == [0, 10]


def test_a_message_that_is_no_event_ends_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, *points([10]))
    sound = path.read_bytes()
    records = io.BytesIO()
    RecordWriter(records).write(b"\xff" * 9)  # its checksums are right
    path.write_bytes(sound + records.getvalue())
    assert [event.step for event in event_file.read_events(path)] == [0, 10]
    assert event_file.cut_events(path, 100) == len(records.getvalue())
    assert path.read_bytes() == sound


def test_a_file_that_needs_no_cut_is_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path, *points([10, 20]))
    before = path.stat()
    assert event_file.cut_events(path, 20) == 0
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("content", [b"", b"\x00" * 40, b"not an event file", b"\xff" * 64])
def test_a_file_of_something_else_holds_no_events_and_stays(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(content)
    assert list(event_file.read_events(path)) == []
    assert event_file.cut_events(path, 0) == len(content)
    assert path.read_bytes() == content


@pytest.mark.parametrize("torn", [1, 4, 9, 20])
def test_a_tear_is_found_behind_the_last_whole_event(tmp_path: Path, torn: int) -> None:
    path = write(tmp_path, *points([10, 20, 30]))
    assert event_file.find_damage(path) is None
    path.write_bytes(path.read_bytes()[:-torn])
    assert event_file.find_damage(path) == event_file.Damage(20, torn=True)


def test_zeros_and_a_spoilt_last_message_are_damage_and_no_tear(tmp_path: Path) -> None:
    path = write(tmp_path, *points([10, 20, 30]))
    whole = path.read_bytes()
    last = len(event_file.encode(points([30])))
    path.write_bytes(whole + bytes(40))
    assert event_file.find_damage(path) == event_file.Damage(30, torn=False)
    path.write_bytes(whole[: -last - 3] + bytes(last + 3))  # the end of 20 with all of 30
    assert event_file.find_damage(path) == event_file.Damage(10, torn=False)
    path.write_bytes(whole[:-5] + b"?" + whole[-4:])
    assert event_file.find_damage(path) == event_file.Damage(20, torn=False)


@pytest.mark.parametrize("content", [b"", b"\0" * 40, b"not an event file"])
def test_a_file_without_an_event_is_damaged_from_its_beginning(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(content)
    assert event_file.find_damage(path) == event_file.Damage(None, torn=not content)


def test_looking_for_damage_reads_no_pictures(tmp_path: Path) -> None:
    film = event_file.picture(5, NOW, "eval/game", Film(bytes(200_000), height=4, width=6))
    path = write(tmp_path, *points([1]), film, *points([10]))
    content = bytearray(path.read_bytes())
    content[100_000] ^= 1  # only its checksum, which takes long, would tell
    path.write_bytes(content)
    assert event_file.find_damage(path) is None
