"""PPO learns worlds whose answers are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from playfield import envs
from playfield.agents.actor_critic import ActorCriticPolicy
from playfield.agents.ppo import PPO, PPOConfig
from playfield.agents.presets import PRESETS
from playfield.envs.contract import EnvSpec
from playfield.envs.worlds.endless import endless_value
from playfield.envs.worlds.vector import VectorWorld
from playfield.evaluation.games import play_games
from playfield.training.optimizers import OptimizerConfig

CPU = torch.device("cpu")
CATCH, CORRIDOR = "playfield/Catch-v0", "playfield/Corridor-v0"
OPTIMIZER = OptimizerConfig(learning_rate=3e-3, schedule="linear", adam_eps=1e-5, max_grad_norm=0.5)


def learn(config, env, steps, seed=0):
    ppo = PPO(config, env, seed=seed, device=CPU, steps=steps)
    ppo.begin_segment(0)
    while ppo.progress < steps:
        ppo.step()
    return ppo


def learn_preset(name, **changes):
    preset = PRESETS[name]
    config = replace(preset.config, **changes)
    return learn(config, envs.make(preset.env, config.num_envs), preset.steps)


def mean_score(ppo, env, *, greedy, games=200):
    policy = ActorCriticPolicy(ppo.network, ppo.rollout.spec.stack, CPU, greedy=greedy)
    return np.mean([game.score for game in play_games(env, policy, episodes=games, seed=77)])


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", [False, True])
def test_an_endless_reward_is_worth_one_over_one_minus_gamma(overlap):
    assert endless_learner(overlap) == pytest.approx(endless_value(0.9), rel=0.02)


def test_taking_truncation_for_termination_would_nearly_halve_that_value(monkeypatch):
    # The fault that the test above is there to catch, made on purpose: one step in ten then seems
    # to lead nowhere, and the value is 1 / (1 - 0.9 * 0.9) = 5.3.
    from playfield.agents import collector as module

    append = module.FrameStore.append

    def confused(store, step, streams=None):
        step.terminated[step.truncated] = True
        append(store, step, streams)

    monkeypatch.setattr(module.FrameStore, "append", confused)
    assert endless_learner() == pytest.approx(1 / (1 - 0.9 * 0.9), rel=0.15)


def endless_learner(overlap=False):
    """The value of the one state, after learning."""
    config = PPOConfig(
        num_envs=4, num_steps=16, batch_size=32, gamma=0.9, gae_lambda=0.9, hidden=16,
        value_coef=1.0, reward_clip=0.0, overlap=overlap, precision="float32",
        optimizer=replace(OPTIMIZER, learning_rate=1e-2),
    )  # fmt: skip
    ppo = learn(config, envs.make("playfield/Endless-v0", 4), 4_000)
    return ppo.policy().act(torch.ones(1, 1), np.ones(1, bool)).value.item()


# --- actions --------------------------------------------------------------------------------------


class Identity:
    """Four states, drawn at random; the action that has the state's number gives 1, others 0."""

    time_limit = 10

    def __init__(self, num_envs):
        self.spec = EnvSpec("test/Identity-v0", (4,), "float32", 4, tuple("ABCD"))
        self.state = np.zeros(num_envs, np.int64)

    def start(self, rows, rngs):
        self.draw(rows, rngs)

    def draw(self, rows, rngs):
        for env in np.flatnonzero(rows):
            self.state[env] = rngs[env].integers(4)

    def advance(self, actions, rngs):
        right = actions == self.state
        self.draw(np.ones(len(right), bool), rngs)
        return right.astype(float), np.zeros(len(right), bool)

    def observe(self):
        return np.eye(4, dtype=np.float32)[self.state]

    def picture(self):
        return np.zeros((1, 4, 3), np.uint8)


@pytest.mark.parametrize("overlap", [False, True])
def test_the_identity_is_learned_in_two_thousand_steps(overlap):
    config = PPOConfig(
        num_envs=8, num_steps=16, batch_size=32, hidden=32, gamma=0.5, clip=0.2, overlap=overlap,
        precision="float32", optimizer=replace(OPTIMIZER, learning_rate=1e-2),
    )  # fmt: skip
    ppo = learn(config, VectorWorld(Identity, 8), 2_000)
    assert mean_score(ppo, VectorWorld(Identity, 4), greedy=True, games=8) == 10
    assert mean_score(ppo, VectorWorld(Identity, 4), greedy=False, games=40) > 9


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="as the preset has it"),
        pytest.param({"precision": "float32"}, id="float32", marks=pytest.mark.slow),
        pytest.param({"overlap": True}, id="overlap", marks=pytest.mark.slow),
    ],
)
def test_catch_is_solved_from_pixels(changes):
    ppo = learn_preset("catch-ppo", **changes)
    assert mean_score(ppo, envs.make(CATCH, 10), greedy=True) >= 0.95
    assert mean_score(ppo, envs.make(CATCH, 10), greedy=False) >= 0.9


@pytest.mark.slow
def test_the_pole_is_balanced():
    ppo = learn_preset("cartpole-ppo")
    for greedy in (True, False):
        assert mean_score(ppo, envs.make("CartPole-v1", 10), greedy=greedy, games=50) >= 475


# --- memory ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["lstm", "gru", "transformer"])
def test_the_corridor_is_solved_with_a_memory(memory):
    ppo = learn_preset(f"memory-{memory}")
    assert ppo.config.memory.memory == memory and ppo.rollout.spec.stack == 1
    assert mean_score(ppo, envs.make(CORRIDOR, 10), greedy=True) >= 0.95
    assert mean_score(ppo, envs.make(CORRIDOR, 10), greedy=False) >= 0.9


@pytest.mark.slow
def test_the_corridor_is_not_solved_by_looking_at_four_frames():
    # Either door is right half of the time, whatever the agent does: 1,000 games deviate from 0 by
    # 0.03. An agent with nine frames or more of the ten would solve it.
    preset = PRESETS["memory-gru"]
    without = replace(preset.config.memory, memory="none")
    ppo = learn_preset("memory-gru", memory=without, stack=4)
    for greedy in (True, False):
        assert abs(mean_score(ppo, envs.make(CORRIDOR, 10), greedy=greedy, games=1_000)) < 0.15
