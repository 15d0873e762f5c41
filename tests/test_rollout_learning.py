"""A2C, REINFORCE and PQN learn worlds whose answers are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

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
from playfield.training.optimizers import OptimizerConfig

CPU = torch.device("cpu")
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
        PQNConfig(num_envs=16, num_steps=8, minibatches=4, epsilon_final=0.3, encoder=LAYER_NORM,
                  optimizer=RADAM, **SHARED),
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
        PQNConfig(num_envs=8, num_steps=16, minibatches=4, epochs=4, encoder=LAYER_NORM,
                  optimizer=RADAM, **SHARED),
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
