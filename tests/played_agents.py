"""Runs and their games as tests of statistics make them, without training or playing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playfield.envs.protocols import find_protocol
from playfield.evaluation.results import Evaluation
from playfield.evaluation.run_groups import PlayedRun
from playfield.training.run import Run


def evaluation(env: str, scores: list[float], **changes: Any) -> Evaluation:
    """The games of one seed; `changes` to the conditions."""
    conditions: dict[str, Any] = {
        "protocol": {"name": "machado2018"},
        "checkpoint": "000000001000",
        "progress": 1000,
        "num_envs": 1,
        "steps": (10,) * len(scores),
        "seed": 7,
        "epsilon": 0.001,
        "truncated": 0,
        "finished_at": "2026-01-01T00:00:00+00:00",
    }
    return Evaluation(
        env=env,
        scores=tuple(scores),
        episodes=len(scores),
        **(conditions | changes),
    )


def played(
    score: float,
    env: str = "ALE/Pong-v5",
    *,
    algorithm: str = "dqn",
    seed: int = 0,
    name: str | None = None,
    **settings: Any,
) -> PlayedRun:
    """A run whose agent scored `score` on average, in two games of each of two seeds."""
    games = tuple(
        evaluation(env, [score + off, score - off], seed=at) for at, off in ((1, 1.0), (2, 3.0))
    )
    name = name or f"{algorithm}-{env}-{seed}"
    return PlayedRun(name, algorithm, seed, {"gamma": 0.99, **settings}, games)


def stored_run(name: str, env: str = "ALE/Pong-v5", protocol: str = "machado2018") -> Run:
    """A run as its manifest tells of it, with what is recorded beside the rules."""
    rules = find_protocol(protocol).as_dict()
    described = {"game": env, "actions": ["NOOP", name], "ale_py": name}
    manifest = {
        "env": env,
        "protocol": rules | described,
        "algorithm": "dqn",
        "seed": 0,
        "config": {"gamma": 0.99, "optimizer": {"learning_rate": 1e-4, "name": "adam"}},
        "training": {"steps": 100, "log_every": 10},
        "init": None,
    }
    return Run(Path(name), manifest)
