"""Which runs are put together, what groups are called, and whose scores don't compare."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from played_agents import evaluation, played, stored_run

from playfield.evaluation.human_scores import RANDOM_AND_HUMAN
from playfield.evaluation.results import pooled
from playfield.evaluation.run_groups import (
    Group,
    game_of,
    group_runs,
    settings_of,
    unlike_games,
    unlike_rules,
)
from playfield.training.run import Run


def names(groups: list[Group]) -> dict[str, list[str]]:
    return {group.name: [run.name for run in group.runs] for group in groups}


def test_seeds_and_games_are_put_together_and_algorithms_are_not() -> None:
    runs = [
        played(1, seed=0, name="a"),
        played(1, seed=1, name="b"),
        played(1, "ALE/Breakout-v5", name="c"),
        played(1, algorithm="ppo", name="d"),
    ]
    groups, others = group_runs(runs)
    assert names(groups) == {"dqn": ["a", "b", "c"], "ppo": ["d"]}
    assert others == [] and all(group.settings == {} for group in groups)


def test_groups_of_one_algorithm_are_numbered_and_told_apart_by_what_differs() -> None:
    runs = [
        played(1, name="a", n_step=1, hidden=8),
        played(1, name="b", n_step=3, hidden=8),
        played(1, name="c", n_step=1, hidden=8, seed=1),
        played(1, name="d", n_step=1, hidden=8, algorithm="ppo"),
    ]
    groups, _ = group_runs(runs)
    assert names(groups) == {"dqn 1": ["a", "c"], "dqn 2": ["b"], "ppo": ["d"]}
    assert [group.settings for group in groups] == [{"n_step": 1}, {"n_step": 3}, {}]


def test_a_setting_that_one_of_them_lacks_is_a_difference() -> None:
    groups, _ = group_runs([played(1), played(1, noisy=True)])
    assert [group.settings for group in groups] == [{"noisy": None}, {"noisy": True}]


def test_two_sides_stay_apart_even_with_the_same_settings() -> None:
    ours, theirs = group_runs([played(1, name="a")], [played(1, name="b")])
    assert (names(ours), names(theirs)) == ({"dqn 1": ["a"]}, {"dqn 2": ["b"]})


def test_the_score_of_a_run_is_the_mean_of_all_its_games() -> None:
    first, second = evaluation("ALE/Pong-v5", [1.0]), evaluation("ALE/Pong-v5", [4.0], seed=8)
    assert pooled([first, second]).scores == (1.0, 4.0)
    assert pooled([first, second]).mean == 2.5
    assert pooled([first]) == first


@pytest.mark.parametrize("change", [{"epsilon": 0.5}, {"checkpoint": "2"}, {"num_envs": 9}])
def test_games_under_other_conditions_are_not_pooled(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="more than the seed"):
        pooled([evaluation("pong", [1.0]), evaluation("pong", [1.0], seed=8, **change)])


def test_normalised_scores_are_runs_by_games() -> None:
    runs = []
    for game, env in (("breakout", "ALE/Breakout-v5"), ("pong", "ALE/Pong-v5")):
        random, human = RANDOM_AND_HUMAN[game]
        runs += [played(random, env), played(human, env, seed=1), played(2 * human - random, env)]
    ((group,), _) = group_runs(runs)
    scores = group.normalised(["breakout", "pong"])
    np.testing.assert_allclose(scores, [[0, 0], [1, 1], [2, 2]], atol=1e-12)
    assert group.scores("pong").shape == (3, 1)


def test_games_that_make_no_matrix_are_refused() -> None:
    ((group,), _) = group_runs([played(1), played(1, seed=1), played(1, "ALE/Breakout-v5")])
    with pytest.raises(ValueError, match="different numbers of runs"):
        group.normalised(["breakout", "pong"])
    ((group,), _) = group_runs([played(1, "CartPole-v1")])
    with pytest.raises(ValueError, match="no human score"):
        group.normalised(["CartPole-v1"])


def test_groups_share_a_profile_with_the_same_games_and_as_many_runs_of_each() -> None:
    assert unlike_games([("a", ["pong", "breakout"]), ("b", ["breakout", "pong"] * 2)]) is None
    uneven = unlike_games([("a", ["pong"]), ("b", ["pong", "breakout", "pong"])])
    assert uneven is not None and "the runs of b are 1 of breakout, 2 of pong" in uneven
    other = unlike_games([("a", ["pong"]), ("b", ["breakout"])])
    assert other is not None and "a has runs of pong and b of breakout" in other


def test_a_game_has_one_name_in_every_spelling() -> None:
    assert game_of("ALE/UpNDown-v5") == game_of("UpNDownNoFrameskip-v4") == "up_n_down"
    assert game_of("CartPole-v1") == "CartPole-v1"


# --- what runs say of themselves ---


def changed(name: str, **changes: Any) -> Run:
    run = stored_run(name)
    run.manifest |= changes
    return run


def test_settings_are_those_that_change_what_is_learned() -> None:
    settings = settings_of(stored_run("a"))
    assert settings == {
        "gamma": 0.99,
        "optimizer.learning_rate": 1e-4,
        "optimizer.name": "adam",
        "steps": 100,
    }
    assert settings == settings_of(changed("b", seed=9, env="ALE/Breakout-v5"))
    assert settings == settings_of(changed("b", training={"steps": 100, "log_every": 99}))
    assert settings != settings_of(changed("b", training={"steps": 200, "log_every": 10}))


def test_whose_weights_a_run_began_with_does_not_matter_but_which_does() -> None:
    def begun(run: str | None, parts: str, freeze: str = "none") -> dict[str, Any]:
        origin = {"run": run, "progress": 5, "parts": parts, "freeze": freeze}
        return settings_of(changed("a", init=origin))

    assert begun("seed-0", "all") == begun("seed-1", "all")
    different = [begun("x", "all"), begun("x", "encoder"), begun(None, "all", "encoder")]
    assert all(settings_of(stored_run("a")) != each for each in different)
    assert different[0] != different[1] != different[2]


def test_scores_under_one_protocol_compare_whatever_the_game() -> None:
    runs = [stored_run("a"), stored_run("b", "ALE/Breakout-v5")]
    assert unlike_rules(runs) == []


def test_other_rules_are_named_with_the_run_and_the_rule() -> None:
    (clause,) = unlike_rules([stored_run("a"), stored_run("b", protocol="nature"), stored_run("c")])
    assert clause.startswith("run 'b' plays by other rules than 'a'")
    assert "repeat_action_probability 0.0, not 0.25" in clause
    assert "noop_max 30, not 0" in clause and "ale_py" not in clause and "actions" not in clause


def test_other_worlds_are_held_against_themselves_alone() -> None:
    catch, large = {"name": "catch", "size": 10}, {"name": "catch", "size": 20}
    chain = changed("c", env="playfield/Chain-v0", protocol={"name": "chain"})
    runs = [stored_run("a"), changed("b", env="playfield/Catch-v0", protocol=catch), chain]
    assert unlike_rules(runs) == []
    (clause,) = unlike_rules([*runs, changed("d", env="playfield/Catch-v0", protocol=large)])
    assert "run 'd'" in clause and "'b'" in clause and "size 20, not 10" in clause
