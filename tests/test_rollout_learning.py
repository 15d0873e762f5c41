"""A2C, REINFORCE and PQN learn worlds whose answers are known, and resume where they were."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_trainer import SilentDisplay, manifest
from test_exact_resume import assert_same, newest_state, points

from playfield import envs
from playfield.agents.a2c import A2CConfig
from playfield.agents.encoders import EncoderConfig
from playfield.agents.pqn import PQNConfig
from playfield.agents.presets import PRESETS
from playfield.agents.registry import ALGORITHMS
from playfield.agents.reinforce import ReinforceConfig
from playfield.envs.contract import EnvSpec
from playfield.envs.worlds.chain import CELLS, chain_values
from playfield.envs.worlds.endless import endless_value
from playfield.envs.worlds.vector import VectorWorld
from playfield.evaluation.games import play_games
from playfield.training.checkpoint import newest_intact
from playfield.training.loop import TrainingConfig, train
from playfield.training.optimizers import OptimizerConfig
from playfield.training.run import Run

CPU = torch.device("cpu")
CATCH = "playfield/Catch-v0"
MLP = EncoderConfig(mlp_layers=(32,))
LAYER_NORM = replace(MLP, norm="layer")
RADAM = OptimizerConfig("radam", 1e-2, schedule="linear", max_grad_norm=10.0)
ADAM = OptimizerConfig("adam", 1e-2, schedule="linear", max_grad_norm=0.5)
SHARED: dict[str, Any] = {"hidden": 32, "gamma": 0.9, "reward_clip": 0.0, "precision": "float32"}


def algorithm_of(config):
    (name,) = (n for n, a in ALGORITHMS.items() if type(config) is a.load_config_type())
    return ALGORITHMS[name]


def trainer(config, env, steps=None, seed=0):
    agent = algorithm_of(config).build_trainer(config, env, seed=seed, device=CPU, steps=steps)
    agent.begin_segment(0)
    return agent


def learn(config, env, steps, seed=0):
    agent = trainer(config, env, steps, seed)
    while agent.progress < steps:
        agent.step()
    return agent


def weights(agent):
    return torch.cat([p.detach().flatten() for p in agent.network.parameters()])


# --- worlds with known answers --------------------------------------------------------------------


class Identity:
    """One step, and the best action is the one that the observation shows: reward 1, else 0."""

    time_limit = None
    actions = 4

    def __init__(self, num_envs: int) -> None:
        names = tuple("ABCD")
        self.spec = EnvSpec("test/Identity-v0", (self.actions,), "float32", self.actions, names)
        self._shown = np.zeros(num_envs, np.int64)

    def start(self, rows, rngs):
        for env in np.flatnonzero(rows).tolist():
            self._shown[env] = rngs[env].integers(self.actions)

    def advance(self, actions, rngs):
        return (actions == self._shown).astype(float), np.ones(len(actions), np.bool_)

    def observe(self):
        return np.eye(self.actions, dtype=np.float32)[self._shown]

    def picture(self):
        return np.zeros((1, 1, 3), np.uint8)


@pytest.mark.parametrize(
    "config",
    [
        A2CConfig(num_envs=16, encoder=MLP, optimizer=ADAM, greedy_evaluation=True, **SHARED),
        ReinforceConfig(num_envs=16, encoder=MLP, optimizer=ADAM, greedy_evaluation=True, **SHARED),
        PQNConfig(num_envs=16, num_steps=8, minibatches=4, epsilon_final=0.3, encoder=LAYER_NORM, optimizer=RADAM,
                  **SHARED),
    ],
    ids=lambda config: algorithm_of(config).name,
)  # fmt: skip
def test_the_action_that_the_observation_shows_is_learned(config):
    agent = learn(config, VectorWorld(Identity, config.num_envs), 2_000)
    decision = agent.policy().act(torch.eye(4), np.ones(4, bool))
    assert decision.action.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "config",
    [
        A2CConfig(num_envs=8, encoder=MLP, optimizer=ADAM, **SHARED),
        ReinforceConfig(num_envs=8, encoder=MLP, optimizer=ADAM, **SHARED),
        PQNConfig(num_envs=8, num_steps=16, minibatches=4, epochs=4, encoder=LAYER_NORM, optimizer=RADAM,
                  **SHARED),
    ],
    ids=lambda config: algorithm_of(config).name,
)  # fmt: skip
def test_an_endless_reward_is_worth_one_over_one_minus_gamma(config):
    # Episodes are truncated every ten steps; taken for ends these would make it 5.3 and not 10.
    agent = learn(config, envs.make("playfield/Endless-v0", 8), 5_000)
    value = agent.policy().act(torch.ones(1, 1), np.ones(1, bool)).value
    np.testing.assert_allclose(value, endless_value(0.9), rtol=2e-2)


def test_pqns_values_of_a_chain_equal_value_iteration():
    # All actions at random, so every cell is seen; then only one-step returns are those of Q*.
    config = PQNConfig(
        num_envs=8, num_steps=16, minibatches=4, epochs=4, q_lambda=0.0, encoder=LAYER_NORM,
        optimizer=RADAM, epsilon_final=1.0, **{**SHARED, "hidden": 64},
    )  # fmt: skip
    agent = learn(config, envs.make("playfield/Chain-v0", 8), 6_000)
    q = agent.policy().act(torch.eye(CELLS)[1:-1], np.ones(CELLS - 2, bool)).preference
    np.testing.assert_allclose(q, chain_values(0.9)[1:-1], atol=1e-2)


def test_pqn_with_lambda_acts_on_a_chain_like_value_iteration():
    config = PQNConfig(
        num_envs=8, num_steps=16, minibatches=4, encoder=LAYER_NORM, optimizer=RADAM,
        epsilon_final=0.3, **SHARED,
    )  # fmt: skip
    agent = learn(config, envs.make("playfield/Chain-v0", 8), 6_000)
    action = agent.policy().act(torch.eye(CELLS)[1:-1], np.ones(CELLS - 2, bool)).action
    np.testing.assert_array_equal(action, chain_values(0.9)[1:-1].argmax(1))


# --- presets --------------------------------------------------------------------------------------


def mean_return(agent, env_id, games):
    return np.mean(
        [g.score for g in play_games(envs.make(env_id, 10), agent, episodes=games, seed=77)]
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cartpole-a2c", "cartpole-reinforce", "cartpole-pqn"])
def test_the_pole_stays_up(name):
    preset = PRESETS[name]
    agent = learn(preset.config, envs.make(preset.env, preset.config.num_envs), preset.steps)
    assert mean_return(agent.policy(), preset.env, 20) >= 475


@pytest.mark.slow
@pytest.mark.parametrize("name", ["catch-a2c", "catch-reinforce", "catch-pqn"])
def test_catch_is_solved_from_pixels(name):
    preset = PRESETS[name]
    agent = learn(preset.config, envs.make(preset.env, preset.config.num_envs), preset.steps)
    assert mean_return(agent.policy(), preset.env, 200) >= 0.9


# --- resume ---------------------------------------------------------------------------------------


RESUMED = [
    A2CConfig(num_envs=3, hidden=16),
    ReinforceConfig(num_envs=3, hidden=16),
    PQNConfig(num_envs=3, num_steps=7, minibatches=3, hidden=16),
]


def name_of(config):
    return algorithm_of(config).name


@pytest.mark.parametrize("config", RESUMED, ids=name_of)
def test_a_restored_trainer_learns_on_exactly_like_the_original(config):
    steps = 600
    original = trainer(config, envs.make(CATCH, 3), steps)
    while original.progress < 300:
        original.step()
    copy = trainer(config, envs.make(CATCH, 3), steps, seed=9)
    # A copy, as a file would be: torch hands an optimiser the very moments that it is given.
    copy.load_state_dict(deepcopy(original.state_dict()))
    copy.seed, copy.collector.seed = original.seed, original.collector.seed
    for agent in (original, copy):
        agent.begin_segment(1)
        while agent.progress < steps:
            report = agent.step()
    assert torch.equal(weights(original), weights(copy))
    assert_same(original.state_dict(), copy.state_dict())
    if "train/epsilon" in report:
        assert report["train/epsilon"] == 0.001


class Crash(Exception):
    """The process dies here."""


def go(run, config, training, dies_at=10**9):
    """Train `run` from its newest checkpoint, or from the start, with objects of its own."""
    agent = algorithm_of(config).build_trainer(
        config, envs.make(CATCH, config.num_envs), seed=11, device=CPU, steps=training.steps
    )
    step = agent.step

    def mortal_step():
        if agent.progress > dies_at:
            raise Crash
        return step()

    agent.step = mortal_step
    checkpoint = newest_intact(run.checkpoints_folder, pytest.fail)
    train(agent, run, training, resume_from=checkpoint, display=SilentDisplay())
    return agent


TRAINING = TrainingConfig(
    steps=620, log_every=45, checkpoint_every=150, keep_checkpoints=9, evaluate_episodes=0
)


@pytest.mark.parametrize("config", RESUMED, ids=name_of)
def test_a_run_that_died_and_was_resumed_equals_one_that_never_stopped(
    tmp_path: Path, config: Any
) -> None:
    whole, parts = (Run.create(tmp_path, name, manifest()) for name in ("whole", "parts"))
    unbroken = go(whole, config, TRAINING)
    with pytest.raises(Crash):
        go(parts, config, TRAINING, dies_at=400)
    resumed = go(parts, config, TRAINING)
    assert_same(unbroken.state_dict(), resumed.state_dict())
    assert_same(newest_state(whole), newest_state(parts))
    assert points(whole) == points(parts)
    assert {name for _, name, _ in points(whole)} >= {"train/loss", "episode/return"}


@pytest.mark.parametrize("config", RESUMED, ids=name_of)
def test_how_often_it_logs_changes_nothing(tmp_path: Path, config: Any) -> None:
    often, seldom = (
        go(Run.create(tmp_path, f"every-{n}", manifest()), config, replace(TRAINING, log_every=n))
        for n in (1, 1000)
    )
    assert torch.equal(weights(often), weights(seldom))
