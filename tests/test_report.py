"""The report: one file that stands alone, shows what is whole and names what is not."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import CommandLine, catch_run, playfield
from made_runs import RULES
from PIL import Image

from playfield.errors import DamagedFileError, UserError
from playfield.evaluation.charts import Series
from playfield.evaluation.classification import Judgement, classify, write_judgement
from playfield.evaluation.image_results import ImageEvaluation, add_image_evaluation
from playfield.evaluation.images import ImageMetrics
from playfield.evaluation.media_files import Medium, mp4_boxes, newest_grids, read_medium
from playfield.evaluation.report import report
from playfield.evaluation.report_page import Page, Section, Table, render
from playfield.evaluation.results import Evaluation, add_evaluation
from playfield.training.run import Run, new_manifest

__all__ = ["catch_run", "playfield"]  # fixtures

PROTOCOL = {"name": "plain", "sticky": 0.25}
MakeRun = Callable[..., Run]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Makes a run's folder as training leaves it, with the lines of its curves."""

    def make(
        name: str,
        *,
        lines: list[dict[str, Any]] | None = None,
        algorithm: str = "dqn",
        env: str | None = "playfield/Catch-v0",
        data: dict[str, Any] | None = None,
        protocol: Mapping[str, Any] = PROTOCOL,
        config: Mapping[str, Any] | None = None,
        seed: int = 0,
        preset: str | None = None,
    ) -> Run:
        manifest = new_manifest(
            command=["playfield", "train", algorithm, "--note", "two words"],
            algorithm=algorithm,
            preset=preset,
            env=env,
            protocol=protocol if env is not None else None,
            data=data,
            config=config or {"gamma": 0.99, "optimizer": {"learning_rate": 0.001}},
            training={"steps": 1000},
            seed=seed,
            device="cpu",
        )
        run = Run.create(tmp_path / "runs", name, manifest)
        run.update_manifest(status="finished", progress=1000, minutes=1.5)
        if lines is not None:
            run.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return run

    return make


def line(progress: int, **values: float | None) -> dict[str, Any]:
    """A line of the curves; "train__loss" is the metric train/loss."""
    return {"progress": progress, **{n.replace("__", "/"): v for n, v in values.items()}}


def played(run: Run, scores: list[float], **changes: Any) -> None:
    """Write an evaluation of `run` with these scores."""
    fields: dict[str, Any] = {
        "env": run.world,
        "protocol": run.manifest["protocol"],
        "checkpoint": "000000001000",
        "progress": 1000,
        "episodes": len(scores),
        "num_envs": 1,
        "seed": 5,
        "epsilon": 0.001,
        "scores": tuple(scores),
        "steps": (9,) * len(scores),
        "truncated": 0,
        "finished_at": "2026-01-31T12:00:00+00:00",
    }
    add_evaluation(run.folder / "evaluation.json", Evaluation(**fields | changes))


def png(shade: int, frames: int = 1) -> bytes:
    pictures = [Image.fromarray(np.full((6, 8, 3), shade + i, np.uint8)) for i in range(frames)]
    encoded = io.BytesIO()
    pictures[0].save(encoded, "PNG", save_all=frames > 1, append_images=pictures[1:])
    return encoded.getvalue()


def gif(frames: int) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (frames, 32, 32, 3), np.uint8)
    pictures = [Image.fromarray(each) for each in noise]
    encoded = io.BytesIO()
    pictures[0].save(encoded, "GIF", save_all=True, append_images=pictures[1:], loop=0)
    return encoded.getvalue()


def box(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


MP4 = box(b"ftyp", b"isom") + box(b"moov", bytes(20)) + box(b"mdat", bytes(50))


@dataclass
class Seen(HTMLParser):
    """What a browser would find in a page."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    text: str = ""
    code: str = ""
    open: list[str] = field(default_factory=list)
    scrolled: list[bool] = field(default_factory=list)  # of every table: stands it in a .scroll?
    inside: list[dict[str, str | None]] = field(default_factory=list)

    VOID = frozenset({"meta", "link", "img", "br"})

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.scrolled.append(any(each.get("class") == "scroll" for each in self.inside))
        if tag not in self.VOID:
            self.open.append(tag)
            self.inside.append(dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"
        if tag == "code":
            self.code += "\n"
        self.inside.pop()

    def handle_data(self, data: str) -> None:
        if "code" in self.open:
            self.code += data
        if "style" not in self.open:
            self.text += " ".join(data.split()) + "\n" if data.strip() else ""

    def addresses(self) -> list[str]:
        found = [attrs.get(name) for _, attrs in self.tags for name in ("src", "href", "srcset")]
        return [address for address in found if address is not None]


def seen(html: str) -> Seen:
    parser = Seen()
    parser.feed(html)
    parser.close()
    assert not parser.open
    return parser


def page_of(*runs: Run) -> Seen:
    return seen(render(report(runs, "Made today.")))


def embedded(page: Seen, kind: str) -> list[bytes]:
    """The files of this MIME type in the page."""
    start = f"data:{kind};base64,"
    return [
        base64.b64decode(a.removeprefix(start)) for a in page.addresses() if a.startswith(start)
    ]


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


# --- curves ---


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> list[list[Series]]:
    """The lines of each chart, in the place of the chart, whose drawing takes its time."""
    lines: list[list[Series]] = []

    def draw(series: Sequence[Series], **_: object) -> bytes:
        lines.append(list(series))
        return b"<svg/>"

    monkeypatch.setattr("playfield.evaluation.report_curves.line_chart", draw)
    return lines


def labels(charts: list[list[Series]]) -> list[list[str]]:
    return [[each.label for each in lines] for lines in charts]


def charts(*runs: Run) -> list[str]:
    """The captions of all charts, folded ones included."""
    return [each.caption for each in report(runs, "").media() if each.kind == "chart"]


def test_runs_that_learn_the_same_share_a_chart_and_others_do_not(
    make_run: MakeRun, undrawn: list[list[Series]]
) -> None:
    curve = [line(100, eval__return=1.0), line(200, eval__return=2.0)]
    one, two = make_run("one", lines=curve), make_run("two", lines=curve, config={"gamma": 0.9})
    assert len(charts(one, two)) == 1
    assert labels(undrawn) == [["one", "two"]]
    undrawn.clear()
    other_rules = make_run("three", lines=curve, protocol=PROTOCOL | {"sticky": 0.0})
    other_world = make_run("four", lines=curve, env="playfield/Chain-v0")
    page = report([one, two, other_rules, other_world], "")
    titles = [section.title for section in page.sections if section.media]
    assert labels(undrawn) == [["one", "two"], ["three"], ["four"]]
    assert len(set(titles)) == 3


def test_what_algorithms_log_of_themselves_is_not_drawn_together(
    make_run: MakeRun, undrawn: list[list[Series]]
) -> None:
    curve = [line(100, train__loss=1.0, eval__return=1.0)]
    runs = [make_run("one", lines=curve), make_run("two", lines=curve, algorithm="ppo")]
    titles = [caption.partition(":")[0] for caption in charts(*runs)]
    assert sorted(titles) == ["eval/return", "train/loss (dqn)", "train/loss (ppo)"]


def test_a_chart_says_what_its_numbers_are(make_run: MakeRun) -> None:
    (caption,) = charts(make_run("one", lines=[line(100, eval__return=1.0)]))
    assert caption == "eval/return: mean raw score over the games of one evaluation"


def test_a_torn_curve_is_drawn_up_to_the_tear_and_said(make_run: MakeRun) -> None:
    run = make_run("one", lines=[line(100, train__loss=1.0), line(200, train__loss=0.5)])
    with run.metrics_path.open("a") as file:
        file.write('{"progress": 300, "train/lo')
    page = report([run], "")
    assert len(page.media()) == 1
    assert len(page.damage) == 1 and str(run.metrics_path) in page.damage[0]
    assert str(run.metrics_path) in seen(render(page)).text


def test_an_empty_run_is_said_to_be_empty(make_run: MakeRun) -> None:
    run = make_run("one")
    assert "No curves yet of one: nothing has been logged." in page_of(run).text
    run.metrics_path.write_text("")
    page = page_of(run)
    assert "No curves yet" in page.text and "Left out" not in page.text


def test_runs_that_differ_by_their_seed_are_one_line_with_its_interval(
    make_run: MakeRun, undrawn: list[list[Series]]
) -> None:
    runs = [
        make_run(f"seed{i}", lines=[line(100, eval__return=i), line(200, eval__return=i)], seed=i)
        for i in range(3)
    ]
    page = report(runs, "")
    ((drawn,),) = undrawn
    assert drawn.label == "dqn, 3 seeds"
    assert drawn.mean.tolist() == [1.0, 1.0]
    # Student's t of 2 degrees of freedom is 4.3027 at 97.5 %; the standard error is 1 / sqrt(3).
    assert drawn.high is not None and drawn.high == pytest.approx(1 + 4.3027 / 3**0.5, abs=1e-3)
    said = "dqn, 3 seeds: the mean of seed0, seed1, seed2, with its 95 % interval by Student's t."
    assert said in [text for section in page.sections for text in section.text]


def test_a_run_and_its_copy_are_not_two_seeds(
    make_run: MakeRun, undrawn: list[list[Series]]
) -> None:
    curve = [line(100, eval__return=1.0)]
    charts(make_run("one", lines=curve), make_run("copy", lines=curve))
    assert labels(undrawn) == [["one", "copy"]]


def test_a_mean_is_of_all_its_runs_or_none(make_run: MakeRun, undrawn: list[list[Series]]) -> None:
    curve = [line(100, eval__return=1.0)]
    charts(
        make_run("one", lines=curve),
        make_run("two", lines=curve, seed=1),
        make_run("empty", seed=2),
    )
    assert labels(undrawn) == [["one", "two"]]


def test_a_return_is_drawn_with_the_spread_of_its_games(
    make_run: MakeRun, undrawn: list[list[Series]]
) -> None:
    values = {"episode__return_mean": 5.0, "episode__return_low": 1.0, "episode__return_high": 8.0}
    (caption,) = charts(make_run("one", lines=[line(100, **values), line(200, **values)]))
    ((drawn,),) = undrawn
    assert drawn.low is not None and drawn.low.tolist() == [1.0, 1.0]
    assert drawn.high is not None and drawn.high.tolist() == [8.0, 8.0]
    assert "middle 80 % of these games" in caption


# --- evaluations ---


def table(page: Page, title: str) -> list[dict[str, str]]:
    """The rows of the table with this title, by the names of the columns."""
    (found,) = [t for section in page.sections for t in section.tables if t.title == title]
    return [dict(zip(found.head, row, strict=True)) for row in found.rows]


def test_an_evaluation_is_reported_with_its_conditions_and_interval(make_run: MakeRun) -> None:
    run = make_run("one")
    played(run, [float(score) for score in range(8)])
    played(run, [18.0] * 6, seed=6, epsilon=0.05)
    first, second = table(report([run], ""), "Whole games, raw score")
    # The middle half of 0..7 is 2..5.
    assert (first["mean"], first["IQM"], first["median"]) == ("3.50", "3.50", "3.50")
    assert (first["seed"], first["random actions"], first["games"]) == ("5", "0.1 %", "8")
    low, high = (float(end) for end in first["95 % interval"].split(" to "))
    # Of the mean of eight: 1.96 standard errors, by the population's spread, are 1.59.
    assert (3.5 - low, high - 3.5) == pytest.approx((1.59, 1.59), abs=0.2)
    assert (second["random actions"], second["95 % interval"]) == ("5 %", "18.00 to 18.00")


def test_the_rules_of_the_games_stand_above_their_scores(make_run: MakeRun) -> None:
    run = make_run("one", protocol={"name": "plain", "sticky": 0.25, "lives": True, "game": "x"})
    assert "Protocol plain: sticky 0.25, lives yes." in page_of(run).text.splitlines()


def test_too_few_games_have_no_interval(make_run: MakeRun) -> None:
    run = make_run("one")
    played(run, [1.0, 2.0])
    (row,) = table(report([run], ""), "Whole games, raw score")
    assert row["95 % interval"] == "-"


def test_runs_that_differ_by_their_seed_are_averaged_and_others_are_not(make_run: MakeRun) -> None:
    runs = [make_run(f"seed{i}", seed=i) for i in range(3)]
    for number, run in enumerate(runs):
        played(run, [float(number)] * 5)
    other = make_run("other", config={"gamma": 0.9, "optimizer": {"learning_rate": 0.001}})
    played(other, [7.0] * 5)
    page = report([*runs, other], "")
    rows = table(page, "Game by game, raw score")
    assert [(row["runs"], row["mean"]) for row in rows] == [("3", "1.00"), ("1", "7.00")]


def test_runs_of_other_rules_are_never_averaged(make_run: MakeRun) -> None:
    one, two = make_run("one"), make_run("two", seed=1)
    other_rules = make_run("three", seed=2, protocol=PROTOCOL | {"sticky": 0.0})
    other_chance = make_run("four", seed=3)
    for run, epsilon in {one: 0.001, two: 0.001, other_rules: 0.001, other_chance: 0.05}.items():
        played(run, [1.0] * 5, epsilon=epsilon)

    def averaged(*runs: Run) -> bool:
        return any(section.title.startswith("Over seeds") for section in report(runs, "").sections)

    assert averaged(one, two)
    assert not averaged(one, other_rules)
    assert not averaged(one, other_chance)


def test_runs_of_other_protocols_have_each_their_own_section(make_run: MakeRun) -> None:
    """Atari games share their rules; another environment has its own, whatever stands beside it."""
    wide, narrow = ({"name": "catch", "width": width} for width in (10, 20))
    worlds: list[tuple[str, Mapping[str, Any]]] = [
        ("ALE/Pong-v5", RULES),
        ("playfield/Catch-v0", wide),
        ("ALE/Breakout-v5", RULES | {"game": "breakout"}),
        ("playfield/Catch-v0", narrow),
        ("playfield/Catch-v0", wide),
    ]
    runs = [make_run(f"run{n}", env=env, protocol=rules) for n, (env, rules) in enumerate(worlds)]
    for seed, run in enumerate(runs):
        run.update_manifest(seed=seed)
        played(run, [1.0] * 5)
    sections = [each for each in report(runs, "").sections if each.title.startswith("Over seeds")]
    games = []
    for section in sections:
        (found,) = [t for t in section.tables if t.title == "Game by game, raw score"]
        games.append((section.title, [row[2] for row in found.rows]))
    # The Catch of other rules is alone, and nothing comes together from it.
    assert games == [
        ("Over seeds and games (machado2018)", ["1", "1"]),
        ("Over seeds and games (catch)", ["2"]),
    ]


def test_a_damaged_evaluation_is_named_and_the_rest_shown(make_run: MakeRun) -> None:
    run = make_run("one", lines=[line(100, eval__return=1.0)])
    (run.folder / "evaluation.json").write_text('{"format": 1, "evaluations": [{"env": 3}]}')
    page = report([run], "")
    assert len(page.damage) == 1 and "evaluation.json is damaged" in page.damage[0]
    assert len(page.media()) == 1
    assert "Nothing has been evaluated" in seen(render(page)).text


def test_scores_that_are_not_finite_are_named_and_left_out(make_run: MakeRun) -> None:
    runs = [make_run("one"), make_run("two", seed=1)]
    for run in runs:
        played(run, [1.0] * 5)
    played(runs[0], [1.0, 2.0], seed=6)
    path = runs[0].folder / "evaluation.json"
    path.write_text(path.read_text().replace("2.0", "NaN"))
    page = report(runs, "")
    assert [row["mean"] for row in table(page, "Whole games, raw score")] == ["1.00", "1.00"]
    (sentence,) = page.damage
    assert sentence == f"{path} has evaluations with scores that are not finite."


def test_a_classifier_is_reported_by_its_held_out_images(make_run: MakeRun) -> None:
    run = make_run("judge", env=None, data={"name": "digits"}, algorithm="classifier")
    labels = np.array([0, 0, 0, 1])
    judgement = Judgement(
        run="judge",
        progress=5000,
        weights_sha256="0",
        data="digits",
        held_out=0.2,
        seed=0,
        fingerprint="0",
        finished_at="2026-01-31T12:00:00+00:00",
        classification=classify(labels, np.array([0, 0, 1, 1]), ["zero", "one"]),
    )
    write_judgement(run.folder / "classification.json", judgement)
    (row,) = table(report([run], ""), "Held-out images")
    assert (row["at image"], row["held-out images"]) == ("5,000", "4")
    # Of class 0, two of three are found, and all that are taken for it are of it; of class 1, all
    # are found, and half of what is taken for it is of it.
    assert (row["accuracy"], row["precision"], row["recall"]) == ("75.0 %", "75.0 %", "83.3 %")


def test_painted_images_are_reported_with_what_painted_them(make_run: MakeRun) -> None:
    run = make_run("painter", env=None, data={"name": "digits"}, algorithm="diffusion")
    metrics = ImageMetrics(
        n=100,
        n_real=200,
        features="random",
        features_sha256="0",
        width=8,
        preprocessing="none",
        data="0",
        frechet_distance=12.5,
        kernel_distance=-0.25,
        kernel_distance_error=0.5,
        memorisation_ratio=float("inf"),
    )
    how = {"run": "painter", "progress": 5000, "weights": "averaged", "sampler": "heun", "steps": 9}
    evaluation = ImageEvaluation(
        painted=how,
        real={},
        held_out=None,
        classifier=None,
        accuracy_score=None,
        metrics=metrics,
        finished_at="2026-01-31T12:00:00+00:00",
    )
    add_image_evaluation(run.folder / "image_evaluation.json", evaluation)
    (row,) = table(report([run], ""), "Painted images against real ones")
    assert row["painted"] == "image 5,000, averaged, heun, 9 steps"
    assert (row["images"], row["Fréchet distance"]) == ("100 to 200", "12.5")
    assert row["kernel distance"] == "-0.25 ± 0.5"
    assert (row["memorisation ratio"], row["recall"]) == ("infinite", "-")


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
