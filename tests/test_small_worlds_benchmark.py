"""The benchmark of the toy worlds trains the presets that are made for them."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from benchmark_scripts import quick, script

from playfield.agents.registry import ALGORITHMS


@pytest.fixture(scope="module")
def small_worlds() -> ModuleType:
    return script("small_worlds")


def test_every_agent_is_trained_in_cartpole_and_catch(small_worlds: ModuleType) -> None:
    trained = {(each.algorithm, each.env) for each in small_worlds.lessons(ALGORITHMS)}
    assert trained >= {
        (algorithm, env)
        for algorithm in ("ppo", "a2c", "reinforce", "pqn", "dqn")
        for env in ("CartPole-v1", "playfield/Catch-v0")
    }
    assert {each.name for each in small_worlds.lessons(["a2c"])} == {"cartpole-a2c", "catch-a2c"}


def test_a_world_is_solved_by_its_weakest_and_slowest_seed(small_worlds: ModuleType) -> None:
    runs = [{"mean": 480.0, "seconds": 10.0}, {"mean": 470.0, "seconds": 31.0}]
    found = {"cartpole-a2c": {"algorithm": "a2c", "env": "CartPole-v1", "runs": runs}}
    score, seconds = small_worlds.targets(found)
    assert (score.wanted, score.measured, score.reached) == (475.0, 470.0, False)
    assert (seconds.wanted, seconds.measured, seconds.reached) == (30.0, 31.0, False)


@pytest.mark.slow
def test_the_benchmark_of_toy_worlds_runs(tmp_path: Path) -> None:
    record = quick("small_worlds", tmp_path, "--only", "a2c")
    assert set(record["worlds"]) == {"cartpole-a2c", "catch-a2c"}
    for world in record["worlds"].values():
        (run,) = world["runs"]
        assert run["steps"] >= 2_000 and len(run["scores"]) == 2 and run["seconds"] > 0
        assert "--root" not in run["command"]
