"""`playfield eval` of several runs: groups, tables, files, and what it refuses to put together."""

from __future__ import annotations

import io
import json
import math
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import CommandLine, catch_run, playfield
from PIL import Image
from played_agents import evaluation, played

from playfield.commands.evaluation_table import group_lines, run_lines
from playfield.envs.protocols import find_protocol
from playfield.evaluation import games as whole_games
from playfield.evaluation.aggregates import aggregate
from playfield.evaluation.results import read_evaluations
from playfield.evaluation.run_groups import group_runs
from playfield.evaluation.score_profiles import profile_picture, thresholds

__all__ = ["catch_run", "playfield"]  # fixtures

QUICK = ("--episodes", "2", "--threads", "1")


@pytest.fixture
def clone(catch_run: Path) -> Callable[..., Path]:
    """Makes a copy of the trained run under another name, and with other fields in `run.json`."""

    def copy(name: str, *, config: dict[str, Any] | None = None, **fields: Any) -> Path:
        folder = catch_run.parent / name
        shutil.copytree(catch_run, folder)
        path = folder / "run.json"
        manifest = json.loads(path.read_text())
        manifest["config"] |= config or {}
        path.write_text(json.dumps(manifest | fields))
        return folder

    return copy


def no_games(playfield: CommandLine, *args: str) -> str:
    """The sentence that refuses `args` before any game is played."""
    sentence = playfield.refuses("eval", *args)
    assert not list(playfield.root.glob("*/evaluation.json"))
    return sentence


def test_runs_are_played_under_every_seed_grouped_and_written(
    playfield: CommandLine, clone: Callable[..., Path], tmp_path: Path
) -> None:
    clone("second", seed=1)
    clone("other", seed=2, config={"n_step": 2})
    out, picture = tmp_path / "all.json", tmp_path / "profiles.png"
    result = playfield(
        *("eval", "catch", "second", "other", *QUICK, "--seeds", "2"),
        *("--out", str(out), "--profile-picture", str(picture)),
    )
    assert result.code == 0, result
    assert "2 whole ones for each of 2 seeds in 2 environments for each run" in result.out
    assert "dqn 1 has n_step 1" in result.out and "dqn 2 has n_step 2" in result.out
    assert "An interval takes 3 runs or more" in result.out
    document = json.loads(out.read_text())
    names = [[run["name"] for run in group["runs"]] for group in document["groups"]]
    assert names == [["catch", "second"], ["other"]]
    assert (document["conditions"]["seeds"], document["conditions"]["forced"]) == (2, [])
    assert [each["than"] for each in document["improvements"]] == ["dqn 2"]
    seeds = set()
    for name in ("catch", "second", "other"):
        evaluations = read_evaluations(playfield.root / name / "evaluation.json")
        assert [each.episodes for each in evaluations] == [2, 2]
        seeds |= {each.seed for each in evaluations}
    assert len(seeds) == 6  # every run's games are its own
    with Image.open(picture) as opened:
        assert opened.format == "PNG" and opened.width > 400


def test_one_run_under_several_seeds_is_reported_as_one(
    playfield: CommandLine, catch_run: Path
) -> None:
    result = playfield("eval", "catch", *QUICK, "--seeds", "3", "--seed", "5", "--epsilon", "0")
    assert result.code == 0, result
    assert "2 whole ones for each of 3 seeds" in result.out
    assert "no random actions; seeds 5, " in result.out and "by seed" in result.out
    evaluations = read_evaluations(catch_run / "evaluation.json")
    assert len({each.seed for each in evaluations}) == len(evaluations) == 3
    # The first seeds are the same however many there are.
    playfield("eval", "catch", *QUICK, "--seeds", "2", "--seed", "5", "--epsilon", "0")
    assert read_evaluations(catch_run / "evaluation.json")[0].seed == evaluations[2].seed


def test_runs_are_held_against_others_of_the_same_settings(
    playfield: CommandLine, clone: Callable[..., Path], tmp_path: Path
) -> None:
    clone("second", seed=1)
    out = tmp_path / "all.json"
    result = playfield("eval", "catch", "--against", "second", *QUICK, "--out", str(out))
    assert result.code == 0, result
    assert "scores more than of" in result.out
    (improvement,) = json.loads(out.read_text())["improvements"]
    assert (improvement["group"], improvement["than"]) == ("dqn 1", "dqn 2")


def test_games_of_the_same_conditions_are_reused_when_asked(
    playfield: CommandLine, catch_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert playfield("eval", "catch", *QUICK).code == 0
    (before,) = read_evaluations(catch_run / "evaluation.json")

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a game was played")

    monkeypatch.setattr("playfield.evaluation.games.play_games", refuse)
    assert playfield("eval", "catch", *QUICK, "--reuse").code == 0
    assert read_evaluations(catch_run / "evaluation.json") == [before]
    with pytest.raises(AssertionError, match="was played"):
        playfield("eval", "catch", *QUICK, "--reuse", "--epsilon", "0.5", "--debug")


@pytest.mark.filterwarnings("error")
def test_scores_that_are_not_finite_are_told_and_stored_and_end_nothing(
    playfield: CommandLine,
    clone: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    clone("second", seed=1)
    play_games = whole_games.play_games

    def spoilt(*args: Any, **kwargs: Any) -> list[whole_games.Game]:
        return [replace(game, score=math.inf) for game in play_games(*args, **kwargs)]

    monkeypatch.setattr("playfield.evaluation.games.play_games", spoilt)
    alone = playfield("eval", "catch", *QUICK)
    assert alone.code == 0 and "raw score     none: a score is not finite" in alone.out
    out, picture = tmp_path / "all.json", tmp_path / "profiles.png"
    files = ("--out", str(out), "--profile-picture", str(picture))
    result = playfield("eval", "catch", "second", *QUICK, *files)
    assert result.code == 0, result
    assert "Run 'second' has scores that are not finite" in result.out
    assert "not drawn" in result.out and not picture.exists()
    assert json.loads(out.read_text())["groups"][0]["runs"][0]["mean"] is None


def test_an_interrupt_keeps_the_seeds_that_were_played_and_reuse_goes_on(
    playfield: CommandLine, catch_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play_games, seeds = whole_games.play_games, []

    def play(*args: Any, **kwargs: Any) -> list[whole_games.Game]:
        seeds.append(kwargs["seed"])
        if len(seeds) == 2:
            assert signal.getsignal(signal.SIGINT) is not signal.SIG_DFL, "would end at once"
            signal.raise_signal(signal.SIGINT)
        return play_games(*args, **kwargs)

    monkeypatch.setattr("playfield.evaluation.games.play_games", play)
    assert playfield("eval", "catch", *QUICK, "--seeds", "3").code == 130
    (kept,) = read_evaluations(catch_run / "evaluation.json")
    assert kept.seed == seeds[0]
    assert playfield("eval", "catch", *QUICK, "--seeds", "3", "--reuse").code == 0
    assert len(read_evaluations(catch_run / "evaluation.json")) == 3
    assert len(seeds) == 4 and seeds[2] == seeds[1]  # the first seed is not played again


# --- what is refused ---


def test_runs_of_other_rules_are_refused_and_forced_only_with_a_word(
    playfield: CommandLine, clone: Callable[..., Path], tmp_path: Path
) -> None:
    rules = json.loads((clone("third") / "run.json").read_text())["protocol"]
    clone("other", protocol=rules | {"wind": 3})
    sentence = no_games(playfield, "catch", "other", *QUICK)
    assert "run 'other' plays by other rules than 'catch' (wind 3, not None)" in sentence
    assert "--force" in sentence
    out = tmp_path / "all.json"
    result = playfield("eval", "catch", "other", *QUICK, "--force", "--out", str(out))
    assert result.code == 0, result
    assert "FORCED        run 'other' plays by other rules" in result.out
    assert "run 'other'" in json.loads(out.read_text())["conditions"]["forced"][0]


def test_an_empty_run_among_others_is_refused_before_they_play(
    playfield: CommandLine, clone: Callable[..., Path]
) -> None:
    shutil.rmtree(clone("empty") / "checkpoints")
    assert "Run 'empty' has no checkpoint" in no_games(playfield, "catch", "empty", *QUICK)


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ([], "wants a run"),
        (["catch", "--seeds", "0"], "--seeds"),
        (["catch", "catch"], "named twice"),
        (["catch", "--against", "catch"], "named twice"),
        (["catch", "cacth"], "did you mean catch"),
        (["catch", "--against", "cacth"], "did you mean catch"),
        (["catch", "--out", "/nowhere/all.json"], "/nowhere/all.json cannot be written"),
        (["catch", "--profile-picture", "profiles.jpg"], ".png or .svg"),
    ],
)
def test_a_wrong_word_is_named_before_a_game_is_played(
    playfield: CommandLine, catch_run: Path, args: list[str], named: str
) -> None:
    assert named in no_games(playfield, *args)


@pytest.mark.parametrize(
    ("algorithm", "named"), [("classifier", "measure it alone"), ("gan", "playfield sample other")]
)
def test_what_plays_no_games_is_refused_among_what_does(
    playfield: CommandLine, clone: Callable[..., Path], algorithm: str, named: str
) -> None:
    data = {"name": "digits"}
    clone("other", algorithm=algorithm, data=data)
    assert named in no_games(playfield, "catch", "other", *QUICK)


@pytest.mark.parametrize(
    "option", [["--seeds", "2"], ["--reuse"], ["--out", "all.json"], ["--force"]]
)
def test_a_classifier_alone_takes_no_options_of_games(
    playfield: CommandLine, clone: Callable[..., Path], option: list[str]
) -> None:
    clone("judge", algorithm="classifier", data={"name": "digits"})
    assert f"leave {option[0]} out" in playfield.refuses("eval", "judge", *option)


def test_a_profile_over_scales_that_differ_is_refused(
    playfield: CommandLine, clone: Callable[..., Path]
) -> None:
    clone("pole", env="CartPole-v1", protocol={"name": "CartPole-v1"})
    args = ("catch", "pole", *QUICK, "--profile-picture", "profiles.svg")
    assert "one scale" in no_games(playfield, *args)


def test_profiles_of_uneven_or_other_games_are_refused_before_a_game_is_played(
    playfield: CommandLine, clone: Callable[..., Path]
) -> None:
    atari = {"env": "ALE/Pong-v5", "protocol": {"name": "machado2018"}}
    for at in (1, 2):
        clone(f"pong-{at}", seed=at, **atari)
    clone("breakout", **atari | {"env": "ALE/Breakout-v5"})
    clone("other", **atari | {"env": "ALE/Breakout-v5"}, config={"n_step": 2})
    picture = ("--profile-picture", "profiles.svg")
    uneven = no_games(playfield, "pong-1", "pong-2", "breakout", *QUICK, *picture)
    assert "1 of breakout, 2 of pong" in uneven and "Leave --profile-picture" in uneven
    unlike = no_games(playfield, "pong-1", "other", *QUICK, *picture)
    assert "pong-1 has runs of pong and other of breakout" in unlike


def test_scores_of_one_run_that_cannot_be_saved_cost_no_other_its_own(
    playfield: CommandLine, clone: Callable[..., Path], catch_run: Path
) -> None:
    second = clone("second", seed=1)
    (catch_run / ".evaluation.json.lock").mkdir()
    result = playfield("eval", "catch", "second", *QUICK)
    assert result.code == 2
    assert "catch/evaluation.json cannot be written" in result.err
    assert "second" in result.out
    assert len(read_evaluations(second / "evaluation.json")) == 1


# --- the tables ---


def test_tables_of_atari_games_fit_a_terminal_of_80_columns() -> None:
    runs = [
        played(1234.5 * at, env, algorithm=algorithm, seed=at, name=f"{algorithm}-{game}-{at}")
        for algorithm in ("dqn", "ppo")
        for game, env in (("mr", "ALE/MontezumaRevenge-v5"), ("pe", "ALE/PrivateEye-v5"))
        for at in range(5)
    ]
    groups, _ = group_runs(runs)
    lines = group_lines(groups, aggregate(groups), ["run 'a' plays by other rules " * 4])
    assert max(map(len, lines)) <= 80, max(lines, key=len)
    text = "\n".join(lines)
    for word in ("optimality gap", "IQM", "median", "probability", "FORCED", "10,000 resamples"):
        assert word in text


def test_tables_of_runs_say_which_checkpoints_played_under_which_seeds() -> None:
    runs = [played(1.0, seed=at, name=f"run-{at}") for at in range(2)]
    groups, _ = group_runs(runs)
    text = "\n".join(group_lines(groups, aggregate(groups), []))
    assert "checkpoint    the newest intact one of each run" in text
    assert "game seeds    1 for each run, and 1 more made from it" in text
    other = replace(runs[1], evaluations=(evaluation("ALE/Pong-v5", [1.0], seed=5),) * 2)
    groups, _ = group_runs([runs[0], other])
    text = "\n".join(group_lines(groups, aggregate(groups), [], "best"))
    assert "checkpoint    the best of each run" in text
    assert "game seeds    run-0 1, run-1 5, and 1 more made from each" in text


def test_of_atari_games_every_setting_that_is_argued_about_is_told() -> None:
    rules = find_protocol("nature").as_dict()
    assert rules["life_loss_terminal"]  # to the learner: an evaluation plays on
    lines = run_lines("first", [evaluation("ALE/Pong-v5", [1.0, 2.0], protocol=rules)])
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    for setting in ("sticky actions 0,", "up to 30 no-ops", "minimal actions", "frame skip 4"):
        assert setting in text
    assert "lost lives end no game" in text and "108,000 frames at most" in text


def test_a_single_game_has_no_standard_error_and_says_its_conditions() -> None:
    lines = run_lines("first", [evaluation("ALE/Pong-v5", [14.6], steps=(100,))])
    text = "\n".join(lines)
    assert "±" not in text and "100.0 %" in text and "0.1 % random actions; seed 7" in text


def test_pictures_of_profiles_are_of_the_kind_that_is_asked_for() -> None:
    groups = {"dqn": np.array([[0.0, 1.0]] * 3), "ppo": np.array([[2.0, 3.0]])}
    at = thresholds(groups)
    assert at[0] < 0 and at[-1] == 3.0 and (np.diff(at) > 0).all()
    png = profile_picture(groups, score="score", resamples=20)
    assert Image.open(io.BytesIO(png)).format == "PNG"
    svg = profile_picture(groups, score="score", format="svg", resamples=20)
    assert svg.startswith(b"<?xml") and svg == profile_picture(
        groups, score="score", format="svg", resamples=20
    )
    assert profile_picture({"one": np.array([[5.0]])}, score="score")
