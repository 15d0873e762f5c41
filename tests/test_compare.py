"""`playfield compare`: what is averaged, what is refused, and that the mean is the mean."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import CommandLine, playfield
from made_runs import curve, make_run
from scipy import stats

from playfield.evaluation.comparison import lines
from playfield.evaluation.seed_curves import POINTS, mean_of_runs, moving_mean, t_quantile
from playfield.training.run import Run

__all__ = ["playfield"]  # a fixture

RETURN = "episode/return_mean"


def steady(value: float, last: int = 100) -> list[dict[str, object]]:
    return curve(RETURN, dict.fromkeys(range(10, last + 1, 10), value))


# --- means over runs ---


def test_an_interval_is_student_s_over_the_runs() -> None:
    x = np.array([0, 10, 20])
    runs = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 7.0], [5.0, 2.0, 2.0]])
    line = mean_of_runs("a", [(x, y) for y in runs])
    np.testing.assert_allclose(line.mean, [3, 2, 4])
    assert line.low is not None and line.high is not None
    for at in (0, 2):
        expected = stats.t.interval(0.95, 2, runs[:, at].mean(), stats.sem(runs[:, at]))
        assert (line.low[at], line.high[at]) == pytest.approx(expected, rel=1e-4)
    assert line.low[1] == line.high[1] == 2.0  # runs that agree


@pytest.mark.parametrize("degrees", [1, 2, 3, 10, 11, 12, 20, 50, 1000])
def test_the_quantile_is_student_s(degrees: int) -> None:
    assert t_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-4)


def test_one_run_has_its_own_points_and_no_interval() -> None:
    x, y = np.array([3, 5, 11]), np.array([1.0, np.nan, 2.0])
    line = mean_of_runs("a", [(x, y)])
    assert (line.x.tolist(), line.mean.tolist(), line.low) == ([3, 11], [1, 2], None)


def test_two_runs_have_a_mean_and_no_interval() -> None:
    x = np.array([0, 10])
    line = mean_of_runs("a", [(x, np.array([1.0, 2.0])), (x, np.array([3.0, 6.0]))])
    assert (line.mean.tolist(), line.low, line.high) == ([2, 4], None, None)


def test_runs_that_log_at_other_steps_meet_between_them() -> None:
    rising = (np.array([0, 100]), np.array([0.0, 100.0]))
    falling = (np.array([0, 30, 100]), np.array([0.0, -30.0, -100.0]))
    line = mean_of_runs("a", [rising, falling])
    assert line.x.tolist() == [0, 30, 100]
    np.testing.assert_allclose(line.mean, 0, atol=1e-12)


def test_a_mean_lasts_as_long_as_every_run_does() -> None:
    short = (np.array([10, 20, 30]), np.array([1.0, 1.0, 1.0]))
    long = (np.array([20, 40, 60]), np.array([3.0, 3.0, 99.0]))
    line = mean_of_runs("a", [short, long])
    assert (line.x.tolist(), line.mean.tolist()) == ([20, 30], [2, 2])
    later = (np.array([70, 80]), np.array([1.0, 1.0]))
    assert len(mean_of_runs("a", [short, later]).x) == 0
    assert len(mean_of_runs("a", [short, (short[0], np.full(3, np.nan))]).x) == 0


def test_games_that_end_together_count_as_their_mean() -> None:
    line = mean_of_runs("a", [(np.array([5, 5, 5, 9]), np.array([1.0, 2.0, 6.0, 0.0]))])
    assert (line.x.tolist(), line.mean.tolist()) == ([5, 9], [3, 0])


def test_many_points_become_means_of_them_all() -> None:
    # Of a straight line the mean around a place is its height there; of noise it is near 0, where
    # single points are not.
    x = np.arange(100_001)
    line = mean_of_runs("straight", [(x, 2.0 * x)])
    assert len(line.x) == POINTS
    np.testing.assert_allclose(line.mean[1:-1], 2 * line.x[1:-1])
    noise = np.random.default_rng(0).normal(size=len(x))
    smoothed = mean_of_runs("noise", [(x, noise)])
    assert smoothed.mean.std() < 2 / np.sqrt(len(x) / POINTS)
    # One outlier is seen, at its share.
    spike = np.zeros(len(x))
    spike[50_000] = 1e6
    assert np.trapezoid(mean_of_runs("spike", [(x, spike)]).mean) > 0


def test_a_moving_mean_looks_back_and_over_gaps() -> None:
    values = np.array([2.0, 4.0, np.nan, 6.0, 8.0])
    np.testing.assert_allclose(moving_mean(values, 2), [2, 3, 4, 6, 7])
    np.testing.assert_allclose(moving_mean(values, 100), [2, 3, 3, 4, 5])
    assert moving_mean(values, 1) is values


# --- groups ---


def groups(root: Path, *, average: bool = False) -> list[tuple[str, list[str]]]:
    runs = [Run.open(folder.name, root) for folder in sorted(root.iterdir())]
    return [(g.label, [run.name for run in g.runs]) for g in lines(runs, average=average)]


def test_runs_are_grouped_by_everything_but_their_seed(tmp_path: Path) -> None:
    for seed in (1, 2):
        make_run(tmp_path, f"fast-{seed}", config={"optimizer": {"lr": 0.1}, "n": 3}, seed=seed)
        make_run(tmp_path, f"slow-{seed}", config={"optimizer": {"lr": 0.01}, "n": 3}, seed=seed)
    assert groups(tmp_path) == [
        ("lr=0.1", ["fast-1", "fast-2"]),
        ("lr=0.01", ["slow-1", "slow-2"]),
    ]
    assert groups(tmp_path, average=True) == [("dqn", ["fast-1", "fast-2", "slow-1", "slow-2"])]


def test_what_only_another_algorithm_has_is_no_part_of_a_label(tmp_path: Path) -> None:
    make_run(tmp_path, "a", algorithm="dqn", config={"lr": 0.1, "n_step": 3})
    make_run(tmp_path, "b", algorithm="dqn", config={"lr": 0.1, "n_step": 1})
    make_run(tmp_path, "c", algorithm="ppo", config={"lr": 0.2, "clip": 0.1})
    assert [label for label, _ in groups(tmp_path)] == ["dqn, n_step=3", "dqn, n_step=1", "ppo"]


def test_a_protocol_is_told_by_its_name(tmp_path: Path) -> None:
    make_run(tmp_path, "a", protocol={"name": "nature", "noop_max": 30})
    make_run(tmp_path, "b")
    assert [label for label, _ in groups(tmp_path)] == ["nature", "machado2018"]


def test_runs_of_other_steps_are_other_runs(tmp_path: Path) -> None:
    make_run(tmp_path, "long", steps=2000)
    make_run(tmp_path, "short", steps=1000)
    assert [label for label, _ in groups(tmp_path)] == ["steps=2000", "steps=1000"]


# --- the command ---


def test_two_settings_are_drawn_beside_each_other(playfield: CommandLine, tmp_path: Path) -> None:
    for seed, offset in ((1, -1.0), (2, 1.0), (3, 0.0)):
        low, high = {"config": {"lr": 0.1}, "seed": seed}, {"config": {"lr": 0.2}, "seed": seed}
        make_run(playfield.root, f"low-{seed}", steady(3 + offset), **low)
        make_run(playfield.root, f"high-{seed}", steady(8 + offset), **high)
    for name in ("chart.png", "chart.svg"):
        result = playfield("compare", "low-*", "high-*", "--out", str(tmp_path / name))
        assert (result.code, result.err) == (0, "")
        assert (tmp_path / name).stat().st_size > 1000
    # Three seeds one apart: half the interval is 4.3027 times the root of a third.
    assert "A  lr=0.1     3  100     3  0.5158 to 5.484" in result.out
    assert "B  lr=0.2     3  100     8   5.516 to 10.48" in result.out
    assert "lr: A 0.1, B 0.2" in result.out
    assert "A  low-1 (seed 1), low-2 (seed 2), low-3 (seed 3)" in result.out
    assert "Student's t" in result.out


def test_time_is_an_axis_too(playfield: CommandLine) -> None:
    make_run(playfield.root, "run", steady(3.0))
    result = playfield("compare", "run", "--x", "time")
    assert "minutes of training" in result.out
    assert "A  run      1  10     3 " in result.out  # 100 steps at ten a minute


def test_the_axis_of_a_model_that_paints_counts_images(playfield: CommandLine) -> None:
    points = curve("paint/frechet_distance", {10: 5.0, 20: 4.0})
    make_run(playfield.root, "flow", points, algorithm="flow", data={"name": "digits"})
    shown = playfield("compare", "flow").out
    assert "paint/frechet_distance on digits" in shown and " images " in shown


def painted(
    root: Path, name: str, number: int | None, *metrics: str, count: int = 5000, seed: int = 0
) -> None:
    """A run of a painter whose evaluations were asked for `number` images; None: it isn't said."""
    points = [point for metric in metrics for point in curve(metric, {10: 5.0, 20: 4.0})]
    training = {"steps": 1000} | ({} if number is None else {"evaluate_images": number})
    data = {"name": "digits", "count": count}
    make_run(root, name, points, algorithm="flow", data=data, training=training, seed=seed)


@pytest.mark.parametrize("name", ["frechet_distance", "precision", "recall", "coverage"])
def test_what_depends_on_the_number_of_images_is_refused_for_different_ones(
    playfield: CommandLine, name: str
) -> None:
    metric = f"paint/{name}"
    painted(playfield.root, "a", 512, metric)
    painted(playfield.root, "b", 512, metric, seed=1)
    painted(playfield.root, "c", 1024, metric, seed=2)
    clause = f"run 'c' is evaluated by 1,024 painted images, and 'a' by 512, and {metric} depends"
    for average in ((), ("--average",)):
        refusal = playfield.refuses("compare", "a", "b", "c", "--metric", metric, *average)
        assert clause in refusal and "--force" in refusal
    forced = playfield("compare", "a", "b", "c", "--metric", metric, "--force").out
    assert f"Forced: {clause}" in " ".join(forced.split())
    # Drawn, and not averaged all the same.
    assert "A  evaluate_images=512      2 " in forced and "B  evaluate_images=1024     1 " in forced
    assert "evaluate_images: A 512, B 1024" in forced


def test_what_does_not_depend_on_the_number_of_images_compares_whatever_it_is(
    playfield: CommandLine,
) -> None:
    for metric in ("paint/diversity", "paint/neighbour_distance", "train/loss"):
        for name, number, seed in (("a", 512, 0), ("b", 1024, 1)):
            painted(playfield.root, f"{metric[-4:]}-{name}", number, metric, seed=seed)
        shown = playfield("compare", f"{metric[-4:]}-*", "--metric", metric)
        assert shown.code == 0 and "A  flow     2 " in shown.out


def test_the_number_of_images_is_the_one_that_an_evaluation_could_take(
    playfield: CommandLine,
) -> None:
    metric = "paint/frechet_distance"
    # More than there are are all of them; an old manifest says nothing and had 512; a run of grids
    # alone has nothing to compare.
    painted(playfield.root, "few-a", 2000, metric, count=1498)
    painted(playfield.root, "few-b", 3000, metric, count=1498, seed=1)
    assert "A  flow     2 " in playfield("compare", "few-*").out
    painted(playfield.root, "old-a", None, metric)
    painted(playfield.root, "old-b", 512, metric, seed=1)
    assert "A  flow     2 " in playfield("compare", "old-*").out
    painted(playfield.root, "old-grids", 0)
    assert "'old-grids' has no points" in playfield("compare", "old-*").err
    painted(playfield.root, "old-c", 513, metric)
    assert "by 513 painted images" in playfield.refuses("compare", "old-*")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"env": "ALE/Breakout-v5"}, "learns from ALE/Breakout-v5"),
        ({"protocol": {"repeat_action_probability": 0.0}}, "repeat_action_probability 0.0"),
    ],
)
def test_runs_under_other_rules_are_refused_and_forced_ones_marked(
    playfield: CommandLine, tmp_path: Path, change: dict[str, object], named: str
) -> None:
    make_run(playfield.root, "a", steady(1.0))
    make_run(playfield.root, "b", steady(2.0), **change)  # type: ignore[arg-type]
    refusal = playfield.refuses("compare", "a", "b")
    assert named in refusal and "--force" in refusal
    forced = playfield("compare", "a", "b", "--force", "--out", str(tmp_path / "a.svg"))
    assert forced.code == 0
    said = " ".join(forced.out.split())
    assert "Forced: run 'b'" in said and named in said
    assert b"forced" in (tmp_path / "a.svg").read_bytes()
    assert "A  " in forced.out and "B  " in forced.out  # not averaged all the same


def test_one_game_by_two_names_is_one_game(playfield: CommandLine) -> None:
    make_run(playfield.root, "a", steady(1.0))
    make_run(playfield.root, "b", steady(2.0), env="PongNoFrameskip-v4")
    assert playfield("compare", "a", "b").code == 0


def test_algorithms_compare_by_scores_and_not_by_losses(playfield: CommandLine) -> None:
    for name, algorithm in (("a", "dqn"), ("b", "ppo")):
        points = steady(1.0) + curve("train/loss", {100: 0.5})
        make_run(playfield.root, name, points, algorithm=algorithm)
    assert playfield("compare", "a", "b").code == 0
    refusal = playfield.refuses("compare", "a", "b", "--metric", "train/loss")
    assert "train/loss is something else in each algorithm (dqn, ppo)" in refusal
    assert "average of different algorithms" in playfield.refuses("compare", "a", "b", "--average")
    forced = playfield("compare", "a", "b", "--average", "--force").out
    assert "Forced: an average of different algorithms" in forced and "--average asks" in forced


def test_settings_are_averaged_over_when_asked(playfield: CommandLine) -> None:
    make_run(playfield.root, "a", steady(1.0), config={"lr": 0.1})
    make_run(playfield.root, "b", steady(3.0), config={"lr": 0.2}, seed=1)
    shown = playfield("compare", "a", "b", "--average").out
    assert "A  dqn      2  100     2" in shown and "--average asks" in shown


def test_kinds_of_runs_that_are_judged_differently_want_a_metric(playfield: CommandLine) -> None:
    make_run(playfield.root, "a", steady(1.0))
    make_run(playfield.root, "flow", algorithm="flow", data={"name": "digits"})
    assert "choose a --metric" in playfield.refuses("compare", "a", "flow")


def test_a_metric_that_no_run_has_is_answered_with_those_there_are(playfield: CommandLine) -> None:
    make_run(playfield.root, "a", steady(1.0))
    assert f"did you mean {RETURN}" in playfield.refuses("compare", "a", "--metric", "return_mean")
    assert "time/minutes" in playfield.refuses("compare", "a", "--metric", "zzz")


def test_empty_runs_are_left_out_and_said(playfield: CommandLine) -> None:
    make_run(playfield.root, "full", steady(1.0))
    make_run(playfield.root, "empty", [])
    make_run(playfield.root, "new", None)
    result = playfield("compare", "full", "empty", "new")
    assert result.code == 0
    for name in ("empty", "new"):
        assert f"Run '{name}' has no points" in result.err
    assert "nothing is logged there yet" in playfield.refuses("compare", "empty", "new")


def test_a_torn_file_is_drawn_up_to_the_tear_and_said(playfield: CommandLine) -> None:
    folder = make_run(playfield.root, "torn", steady(1.0))
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"progress": 110, "episode/return_mean": 5')
    result = playfield("compare", "torn")
    assert result.code == 0 and "half a line" in result.err
    assert "A  torn     1  100     1" in result.out
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("\n".join([*lines[:3], "\0\0\0", *lines[4:-1]]) + "\n")
    result = playfield("compare", "torn")
    assert result.code == 0 and "damaged in 1 of 10 lines" in result.err


def test_a_run_still_being_written_is_drawn_and_marked(playfield: CommandLine) -> None:
    make_run(playfield.root, "live", steady(1.0), status="running")
    with Run.open("live", playfield.root).hold():
        assert "live (seed 0, still running)" in playfield("compare", "live").out


def test_copies_of_a_seed_are_told(playfield: CommandLine) -> None:
    for name in ("a", "b"):
        make_run(playfield.root, name, steady(1.0))
    assert "runs of the same seed" in " ".join(playfield("compare", "a", "b").out.split())


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ((), "wants runs"),
        (("absent",), "'absent'"),
        (("none-*",), "'none-*'"),
        (("a", "--smooth", "0"), "--smooth"),
        (("a", "--out", "chart.pdf"), ".png or .svg"),
        (("a", "--out", "no/such/folder/chart.png"), "Can't write"),
        (("a", "--x", "weeks"), "--x"),
    ],
)
def test_a_user_s_mistake_is_answered_in_one_sentence(
    playfield: CommandLine, args: tuple[str, ...], named: str
) -> None:
    make_run(playfield.root, "a", steady(1.0))
    assert named in playfield.refuses("compare", *args)


@pytest.mark.parametrize(
    ("encoding", "columns"), [("utf-8", "80"), ("ascii", "80"), ("utf-8", "50")]
)
def test_a_pipe_gets_lines_of_its_width_without_colours(
    tmp_path: Path, encoding: str, columns: str
) -> None:
    long = {"optimizer": {"a_setting_with_a_long_name": "x" * 30}}
    make_run(tmp_path, "a-run-of-a-rather-long-name", steady(1.0), config=long)
    make_run(tmp_path, "b", steady(2.0), config={"optimizer": {"a_setting_with_a_long_name": "z"}})
    done = subprocess.run(
        [sys.executable, "-m", "playfield.cli", "compare", "a-*", "b", "--root", str(tmp_path)],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": columns, "TERM": "xterm"},
    )
    text = done.stdout.decode(encoding)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= int(columns)
    assert "a-run-of-a-rather-long-name (seed" in text


def test_ten_runs_are_as_many_lines_each_with_its_letter(playfield: CommandLine) -> None:
    for number in range(10):
        make_run(playfield.root, f"r{number}", steady(float(number)), config={"n": number})
    shown = playfield("compare", "r*").out.splitlines()
    table = [line.split() for line in shown if " n=" in line]
    assert [row[0] for row in table] == list("ABCDEFGHIJ")
    assert all(row[1] == f"n={row[4]}" for row in table)  # each run's return is its setting
