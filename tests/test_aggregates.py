"""Groups of runs in numbers: per game, over games, against each other; and what is left unsaid."""

from __future__ import annotations

import json
import math

import pytest
from atari_100k_scores import DIAMOND, SIMPLE
from played_agents import played

from playfield.evaluation.aggregates import Aggregates, aggregate, document
from playfield.evaluation.human_scores import RANDOM_AND_HUMAN
from playfield.evaluation.run_groups import PlayedRun, group_runs


def runs_of(algorithm: str, raw: dict[str, list[float]]) -> list[PlayedRun]:
    return [
        played(score, f"ALE/{game}-v5", algorithm=algorithm, seed=seed)
        for game, scores in raw.items()
        for seed, score in enumerate(scores)
    ]


def found(runs: list[PlayedRun], others: list[PlayedRun] | None = None) -> Aggregates:
    return aggregate(*group_runs(runs, others or []))


def test_published_runs_come_to_the_published_numbers() -> None:
    result = found(runs_of("diamond", DIAMOND) + runs_of("simple", SIMPLE))
    ours, theirs = result.over_games
    assert (ours.group, ours.runs, len(ours.games)) == ("diamond", 5, 26)
    numbers = [
        [getattr(each, name).value for name in ("mean", "median", "iqm", "optimality_gap")]
        for each in (ours, theirs)
    ]
    # Alonso et al. 2024 (arXiv:2405.12399) and Micheli et al. 2023 (arXiv:2209.00588).
    assert numbers[0] == pytest.approx([1.459, 0.373, 0.641, 0.480], abs=0.0005)
    assert numbers[1] == pytest.approx([0.332, 0.134, 0.130, 0.729], abs=0.0005)
    assert ours.iqm.interval is not None
    assert ours.iqm.interval.low < 0.641 < ours.iqm.interval.high
    (improvement,) = result.improvements
    assert (improvement.group, improvement.than) == ("diamond", "simple")
    # Counted: 542 of the 26 x 25 pairs.
    assert improvement.probability.value == pytest.approx(542 / 650)
    assert result.notes == ()


def test_one_game_is_told_in_raw_scores_and_as_a_share_of_human_play() -> None:
    random, human = RANDOM_AND_HUMAN["pong"]
    half = (random + human) / 2
    (pong,) = found([played(half + at, seed=at) for at in (-1, 0, 1)]).on_games
    assert (pong.game, pong.runs, pong.games, pong.progress) == ("pong", 3, 12, (1000, 1000))
    assert pong.mean.value == pytest.approx(half)
    assert pong.human_normalised == pytest.approx(0.5)
    assert pong.mean.interval is not None
    # The least mean of three draws from three: all of them the lowest, which is 1 case of 27.
    assert pong.mean.interval.low == pytest.approx(half - 1)


def test_a_game_without_a_human_score_stays_raw_and_out_of_averages() -> None:
    runs = [played(1, seed=at) for at in range(5)]
    runs += [played(9, "CartPole-v1", seed=at) for at in range(5)]
    result = found(runs)
    assert {each.game: each.human_normalised is None for each in result.on_games} == {
        "CartPole-v1": True,
        "pong": False,
    }
    assert result.over_games[0].games == ("pong",)
    assert any("CartPole-v1" in note and "leave it out" in note for note in result.notes)
    assert found(runs[5:]).over_games == ()


def test_two_runs_have_no_interval_and_three_a_doubtful_one() -> None:
    def told(count: int) -> tuple[bool, str]:
        result = found([played(at, seed=at) for at in range(count)])
        return result.on_games[0].mean.interval is not None, " ".join(result.notes)

    assert told(1)[0] is told(2)[0] is False
    assert "takes 3 runs" in told(2)[1]
    assert told(3)[0] and "fewer than 5 runs" in told(3)[1]
    assert told(5) == (True, "")


def test_games_with_unequal_numbers_of_runs_are_told_and_not_averaged() -> None:
    runs = [played(1, seed=at) for at in range(5)]
    runs += [played(1, "ALE/Breakout-v5", seed=at) for at in range(6)]
    result = found(runs)
    assert result.over_games == ()
    assert len(result.on_games) == 2
    assert any("6 of breakout, 5 of pong" in note for note in result.notes)


def test_groups_of_other_games_are_said_not_to_compare() -> None:
    pong = [played(1, seed=at) for at in range(5)]
    both = [
        played(1, env, seed=at, algorithm="ppo")
        for env in ("ALE/Pong-v5", "ALE/Breakout-v5")
        for at in range(5)
    ]
    result = found(pong + both)
    assert any("played different games" in note for note in result.notes)
    (improvement,) = result.improvements
    assert improvement.games == ("pong",)


def test_groups_without_a_common_game_have_no_improvement() -> None:
    others = [played(1, "ALE/Breakout-v5", algorithm="ppo", seed=at) for at in range(5)]
    result = found([played(1, seed=at) for at in range(5)] + others)
    assert result.improvements == ()
    assert any("no game in common" in note for note in result.notes)


def test_runs_of_one_seed_are_told_for_they_may_be_copies() -> None:
    result = found([played(1, seed=at) for at in (0, 1, 2, 3, 0)])
    assert any("share the training seed 0" in note for note in result.notes)


def test_every_group_is_held_against_those_it_was_asked_to_be() -> None:
    def group(algorithm: str, score: float) -> list[PlayedRun]:
        return [played(score, algorithm=algorithm, seed=at) for at in range(3)]

    result = found(group("dqn", 5) + group("ppo", 3), group("pqn", 4))
    probabilities = {(e.group, e.than): e.probability.value for e in result.improvements}
    assert probabilities == {("dqn", "pqn"): 1.0, ("ppo", "pqn"): 0.0}
    among = found(group("dqn", 5) + group("ppo", 3) + group("pqn", 5))
    assert [(e.group, e.than, e.probability.value) for e in among.improvements] == [
        ("dqn", "ppo", 1.0),
        ("dqn", "pqn", 0.5),
        ("ppo", "pqn", 0.0),
    ]


def test_a_run_with_a_score_that_is_not_finite_counts_nowhere_and_is_named() -> None:
    runs = [played(at, seed=at) for at in range(5)]
    spoilt = [played(math.nan, seed=5, name="spoilt"), played(math.inf, algorithm="ppo")]
    groups, _ = group_runs(runs + spoilt)
    result = aggregate(groups)
    assert result.on_games == found(runs).on_games
    assert any("'spoilt'" in note and "not finite" in note for note in result.notes)
    encoded = json.dumps(document(result, groups, {}), allow_nan=False)
    assert json.loads(encoded)["groups"][0]["runs"][5]["mean"] is None
    nothing = found(spoilt)
    assert (nothing.on_games, nothing.improvements, len(nothing.notes)) == ((), (), 2)
    assert found(runs, spoilt).improvements == ()


def test_the_document_holds_every_game_and_is_plain_json() -> None:
    runs = [played(at, seed=at) for at in range(2)]
    groups, _ = group_runs(runs)
    encoded = json.dumps(document(aggregate(groups), groups, {"episodes": 2}), allow_nan=False)
    read = json.loads(encoded)
    assert read["bootstrap"]["resamples"] >= 2000
    assert [run["seed"] for run in read["groups"][0]["runs"]] == [0, 1]
    assert read["groups"][0]["runs"][1]["evaluations"][1]["scores"] == [4.0, -2.0]
    assert read["on_games"][0]["mean"] == {"value": 0.5, "interval": None}
