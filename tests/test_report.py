"""The report: one file that stands alone, shows what is whole and names what is not."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import pytest
from command_line import CommandLine, catch_run, playfield
from PIL import Image
from report_pages import (
    MP4,
    MakeRun,
    box,
    embedded,
    gif,
    line,
    make_run,
    page_of,
    png,
    seen,
    table,
    undrawn,
)

from playfield.errors import DamagedFileError, UserError
from playfield.evaluation.charts import Series
from playfield.evaluation.media_files import Medium, mp4_boxes, newest_grids, read_medium
from playfield.evaluation.report import report
from playfield.evaluation.report_page import Page, Section, Table, render
from playfield.training.run import Run

__all__ = ["catch_run", "make_run", "playfield", "undrawn"]  # fixtures


# --- the page ---


def test_a_page_loads_nothing_from_anywhere(make_run: MakeRun) -> None:
    run = make_run("one", lines=[line(100, train__loss=1.0), line(200, train__loss=0.5)])
    (run.folder / "samples").mkdir()
    (run.folder / "samples" / "000000000200.png").write_bytes(png(3))
    html = render(report([run], "Made today."))
    page = seen(html)
    assert all(address.startswith(("data:", "#")) for address in page.addresses())
    assert not {"script", "iframe", "object", "form"} & {tag for tag, _ in page.tags}
    assert "url(" not in html and "@import" not in html
    policies = [a["content"] for tag, a in page.tags if a.get("http-equiv")]
    assert policies and str(policies[0]).startswith("default-src 'none';")


def test_a_page_suits_a_phone_and_a_dark_room(make_run: MakeRun) -> None:
    html = render(report([make_run("one"), make_run("two", seed=1)], "Made today."))
    page = seen(html)
    metas = {a.get("name"): a.get("content") for tag, a in page.tags if tag == "meta"}
    assert metas["viewport"] == "width=device-width, initial-scale=1"
    assert metas["color-scheme"] == "light dark"
    assert "prefers-color-scheme: dark" in html
    assert page.scrolled and all(page.scrolled)


def test_pictures_say_what_they_show_to_those_who_do_not_see_them() -> None:
    media = (Medium("film", "image/gif", b"x", "a game"), Medium("film", "video/mp4", b"y", "two"))
    page = seen(render(Page("t", "m", [], [Section("s", media=media)])))
    shown = [(tag, attrs) for tag, attrs in page.tags if tag in ("img", "video")]
    assert [(tag, attrs.get("alt") or attrs.get("aria-label")) for tag, attrs in shown] == [
        ("img", "a game"),
        ("video", "two"),
    ]


def test_names_are_text_and_never_markup(make_run: MakeRun) -> None:
    evil = '<script>alert("x")</script>'
    run = make_run("one", preset=evil, config={evil: evil, "quote": "\"'><img src=x>"})
    page = page_of(run)
    assert "script" not in {tag for tag, _ in page.tags}
    assert evil in page.text
    assert all(address.startswith(("data:", "#")) for address in page.addresses())


def test_a_table_has_as_many_cells_in_each_row() -> None:
    with pytest.raises(ValueError, match="a row of 1, not 2"):
        Table(("a", "b"), [("1", "2"), ("1",)])


# --- settings ---


def test_only_what_differs_is_listed(make_run: MakeRun) -> None:
    one = make_run("one")
    two = make_run("two", seed=3, config={"gamma": 0.9, "optimizer": {"learning_rate": 0.001}})
    rows = table(report([one, two], ""), "What differs between them")
    assert [tuple(row.values()) for row in rows if row["setting"] in ("gamma", "seed")] == [
        ("gamma", "0.99", "0.9"),
        ("seed", "0", "3"),
    ]
    assert not [row for row in rows if "learning_rate" in row["setting"]]


def test_what_another_algorithm_does_not_know_is_no_difference(make_run: MakeRun) -> None:
    one = make_run("one", config={"gamma": 0.9, "target_period": 10})
    two = make_run("two", config={"gamma": 0.9, "clip": 0.2}, algorithm="ppo")
    rows = table(report([one, two], ""), "What differs between them")
    settings = {row["setting"] for row in rows}
    assert "algorithm" in settings
    assert not settings & {"gamma", "target_period", "clip"}


def test_a_run_says_how_it_was_made_and_how_to_go_on(make_run: MakeRun) -> None:
    run = make_run("one")
    page = page_of(run)
    assert page.code.splitlines() == [
        "playfield train dqn --note 'two words'",
        f"playfield resume {run.folder}",
    ]
    for known in (run.manifest["versions"]["torch"], run.manifest["hardware"]["cpu"]):
        assert known in page.text


def test_energy_is_shown_where_it_was_measured(make_run: MakeRun) -> None:
    run = make_run("one")
    assert "Wh" not in page_of(run).text
    run.manifest["energy_wh"] = 12.34
    assert "Training took 12.3 Wh" in page_of(run).text


# --- pictures and films ---


@pytest.fixture
def painter(make_run: MakeRun) -> Run:
    run = make_run("painter", env=None, data={"name": "digits"}, algorithm="diffusion")
    (run.folder / "samples").mkdir()
    (run.folder / "videos").mkdir()
    return run


def test_the_newest_grid_of_training_is_shown(painter: Run) -> None:
    samples = painter.folder / "samples"
    for name, shade in {"90": 1, "000000000200": 2, "000000000200-ddim": 3}.items():
        (samples / f"{name}.png").write_bytes(png(shade))
    os.utime(samples / "90.png")  # a copy has a new time, and is no newer for that
    (samples / ".000000000300.png.77.tmp").write_bytes(b"being written")
    assert [path.stem for path in newest_grids(samples)] == [
        "000000000200",
        "90",
        "000000000200-ddim",
    ]
    page = page_of(painter)
    assert embedded(page, "image/png") == [png(2)]
    assert "painter, samples/000000000200.png: at 200 images" in page.text


def test_a_torn_picture_is_named_and_the_one_before_it_shown(painter: Run) -> None:
    samples = painter.folder / "samples"
    (samples / "100.png").write_bytes(png(1))
    (samples / "200.png").write_bytes(png(2)[:-20])
    page = report([painter], "")
    assert [medium.data for medium in page.media()] == [png(1)]
    (sentence,) = page.damage
    assert sentence.startswith(f"{samples / '200.png'} is damaged")


@pytest.mark.parametrize(
    ("name", "data", "mime"),
    [
        ("game.gif", gif(3), "image/gif"),
        ("game.png", png(5, frames=3), "image/png"),
        ("game.mp4", MP4, "video/mp4"),
    ],
)
def test_films_are_embedded_as_they_are(painter: Run, name: str, data: bytes, mime: str) -> None:
    (painter.folder / "videos" / name).write_bytes(data)
    page = report([painter], "")
    assert [(medium.kind, medium.mime) for medium in page.media()] == [("film", mime)]
    seen_page = seen(render(page))
    assert embedded(seen_page, mime) == [data]
    assert ("video" in {tag for tag, _ in seen_page.tags}) == (mime == "video/mp4")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no picture at all",
        png(1)[:30],
        png(5, frames=3)[:-40],
        gif(3)[:-700],
        MP4[:-1],
        MP4[: len(MP4) // 2],
        box(b"ftyp", b"isom"),
    ],
)
def test_a_damaged_film_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "film.gif"
    path.write_bytes(data)
    with pytest.raises(DamagedFileError, match=r"film\.gif is damaged: ."):
        read_medium(path, "")


def test_a_file_too_large_for_a_page_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "film.gif"
    with path.open("wb") as file:
        file.truncate(2**40)  # sparse: a terabyte in name only
    with pytest.raises(UserError, match="a page takes files of up to 16"):
        read_medium(path, "")


def test_the_boxes_of_an_mp4_follow_one_another() -> None:
    large = struct.pack(">I4sQ", 1, b"mdat", 16 + 5) + bytes(5)  # a size of 64 bits
    rest = struct.pack(">I4s", 0, b"free") + bytes(9)  # all that follows
    assert list(mp4_boxes(box(b"ftyp") + large + rest)) == [
        (b"ftyp", 8),
        (b"mdat", 21),
        (b"free", 17),
    ]


# --- the command ---


def test_the_command_writes_a_page_and_tells_its_size(
    playfield: CommandLine, catch_run: Path, tmp_path: Path, undrawn: list[list[Series]]
) -> None:
    out = tmp_path / "page.html"
    result = playfield("report", "catch", "-o", str(out))
    assert result.code == 0, result
    page = seen(out.read_text())
    drawn = len(embedded(page, "image/svg+xml"))
    assert drawn == len(undrawn) > 3
    assert result.out.startswith(f"{out}: 1 run, {drawn} charts; ")
    assert f"{out.stat().st_size / 1e6:.1f} MB" in result.out
    assert page.code.endswith("playfield resume catch\n")


def test_a_film_is_recorded_and_kept_for_the_next_report(
    playfield: CommandLine, catch_run: Path, tmp_path: Path, undrawn: list[list[Series]]
) -> None:
    out = tmp_path / "page.html"
    result = playfield("report", "catch", "-o", str(out), "--film", "1.5")
    assert result.code == 0 and "1 film" in result.out, result
    film = catch_run / "videos" / "000000000120.gif"
    with Image.open(film) as image:
        assert image.n_frames == 12  # Catch is shown at 8 pictures a second
    playfield("report", "catch", "-o", str(out))
    assert embedded(seen(out.read_text()), "image/gif") == [film.read_bytes()]


def test_an_agent_that_cannot_be_filmed_is_named_and_the_page_written(
    playfield: CommandLine, catch_run: Path, tmp_path: Path, undrawn: list[list[Series]]
) -> None:
    shutil.rmtree(catch_run / "checkpoints")
    result = playfield("report", "catch", "-o", str(tmp_path / "page.html"), "--film", "1")
    assert result.code == 0 and (tmp_path / "page.html").exists()
    assert "left out: no new film of catch: " in result.err


def test_a_run_named_twice_is_reported_once(
    playfield: CommandLine, catch_run: Path, tmp_path: Path, undrawn: list[list[Series]]
) -> None:
    out = str(tmp_path / "page.html")
    assert "1 run," in playfield("report", "catch", str(catch_run), "--out", out).out


def test_a_damaged_run_is_named_among_others_and_refused_alone(
    playfield: CommandLine, catch_run: Path, tmp_path: Path, undrawn: list[list[Series]]
) -> None:
    broken = catch_run.parent / "broken"
    broken.mkdir()
    (broken / "run.json").write_text("{")
    out = tmp_path / "page.html"
    result = playfield("report", "broken", "catch", "-o", str(out))
    assert result.code == 0 and "1 run," in result.out
    assert "broken/run.json is damaged" in result.err
    assert "run.json is damaged" in seen(out.read_text()).text
    assert "run.json is damaged" in playfield.refuses("report", "broken", "-o", str(out))


def test_mistakes_are_told_before_the_work(
    playfield: CommandLine, catch_run: Path, tmp_path: Path
) -> None:
    assert "name one or more" in playfield.refuses("report")
    assert "did you mean catch" in playfield.refuses("report", "cathc")
    assert "is a folder" in playfield.refuses("report", "catch", "-o", str(tmp_path))
    missing = str(tmp_path / "none" / "page.html")
    assert "there is no folder" in playfield.refuses("report", "catch", "-o", missing)
    assert "--film has to be" in playfield.refuses("report", "catch", "--film", "0")


def test_only_agents_are_filmed(playfield: CommandLine, make_run: MakeRun, painter: Run) -> None:
    said = playfield.refuses("report", str(painter.folder), "--film", "2", "-o", "page.html")
    assert "--film is of agents" in said
