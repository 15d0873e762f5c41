"""The evaluations of a report: with their rules, and averaged only where that means something."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from made_runs import RULES
from report_pages import (
    PROTOCOL,
    MakeRun,
    line,
    make_run,
    page_of,
    played,
    seen,
    table,
)

from playfield.evaluation.classification import Judgement, classify, write_judgement
from playfield.evaluation.image_results import ImageEvaluation, add_image_evaluation
from playfield.evaluation.images import ImageMetrics
from playfield.evaluation.report import report
from playfield.evaluation.report_page import render
from playfield.training.run import Run

__all__ = ["make_run"]  # a fixture


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
