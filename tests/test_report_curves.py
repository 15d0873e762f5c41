"""The curves of a report: what shares a chart, and what a line stands for."""

from __future__ import annotations

import pytest
from report_pages import (
    PROTOCOL,
    MakeRun,
    line,
    make_run,
    page_of,
    seen,
    undrawn,
)

from playfield.evaluation.charts import Series
from playfield.evaluation.report import report
from playfield.evaluation.report_page import render
from playfield.training.run import Run

__all__ = ["make_run", "undrawn"]  # fixtures


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


def test_curves_from_different_numbers_of_images_have_charts_of_their_own(
    make_run: MakeRun, undrawn: list[list[Series]]
) -> None:
    values = {"paint__frechet_distance": 5.0, "paint__diversity": 1.0}
    runs = []
    for seed, number in enumerate([512, 512, 1024]):
        data = {"name": "digits", "count": 5000}
        run = make_run(f"r{seed}", lines=[line(100, **values)], env=None, data=data, seed=seed)
        run.update_manifest(training={"steps": 1000, "evaluate_images": number})
        runs.append(run)
    titles = [caption.partition(":")[0] for caption in charts(*runs)]
    assert dict(zip(titles, labels(undrawn), strict=True)) == {
        "paint/frechet_distance (512 images)": ["evaluate_images=512, 2 seeds"],
        "paint/frechet_distance (1,024 images)": ["r2"],
        "paint/diversity": ["dqn, 3 seeds"],
    }
    text = page_of(*runs).text
    assert "evaluate_images=512, 2 seeds: the mean of r0, r1." in text
    assert "dqn, 3 seeds: the mean of r0, r1, r2, with its" in text
