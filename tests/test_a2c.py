"""A2C: its losses by hand, its kinship with PPO, and one update per rollout."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scripted_world import Episode, ScriptedWorld

from playfield import envs
from playfield.agents import a2c as module
from playfield.agents.a2c import A2C, A2CConfig, build_policy, losses
from playfield.agents.encoders import EncoderConfig, MemoryConfig
from playfield.agents.ppo import PPO, PPOConfig
from playfield.buffers.rollout import StepBatch
from playfield.errors import UserError
from playfield.training.optimizers import OptimizerConfig

CPU = torch.device("cpu")
SMALL = A2CConfig(
    num_envs=4, hidden=16, encoder=EncoderConfig(mlp_layers=(8,)), precision="float32",
    optimizer=OptimizerConfig("rmsprop", 1e-2, adam_eps=1e-5, max_grad_norm=0.5),
)  # fmt: skip


def trainer(config=SMALL, env=None, seed=0, steps=None, kind=A2C):
    env = env or envs.make("playfield/Catch-v0", config.num_envs)
    learner = kind(config, env, seed=seed, device=CPU, steps=steps)
    learner.begin_segment(0)
    return learner


def weights(learner):
    return torch.cat([p.detach().flatten() for p in learner.network.parameters()])


# --- the losses -----------------------------------------------------------------------------------


LOGITS = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])  # chances 1/2, 1/2 and 3/4, 1/4
BATCH = StepBatch(
    obs=torch.zeros(2, 1),
    action=torch.tensor([0, 1]),
    extra={"advantage": torch.tensor([2.0, -1.0]), "return_": torch.tensor([1.0, 0.0])},
    index=torch.zeros(2, dtype=torch.int64),
)


def says(obs):
    """A network of two actions, for two observations."""
    return LOGITS, torch.tensor([0.5, 2.0])


def test_the_losses_are_those_worked_out_by_hand():
    found = losses(says, BATCH, A2CConfig(value_coef=0.3, entropy_coef=0.1))
    policy_loss = -(2 * math.log(1 / 2) - 1 * math.log(1 / 4)) / 2
    value_loss = 0.5 * (0.25 + 4.0) / 2
    entropy = (math.log(2) - 0.75 * math.log(3 / 4) - 0.25 * math.log(1 / 4)) / 2
    assert found["train/policy_loss"].item() == pytest.approx(policy_loss, abs=1e-6)
    assert found["train/value_loss"].item() == pytest.approx(value_loss)
    assert found["train/entropy"].item() == pytest.approx(entropy)
    assert found["train/value"].item() == 1.25
    total = policy_loss + 0.3 * value_loss - 0.1 * entropy
    assert found["train/loss"].item() == pytest.approx(total)


def test_normalised_advantages_are_one_deviation_from_their_mean():
    found = losses(says, BATCH, A2CConfig(normalize_advantage=True))
    one = 1 / math.sqrt(2)  # 1.5 from the mean, over a deviation of 3 / sqrt(2)
    expected = -(one * math.log(1 / 2) - one * math.log(1 / 4)) / 2
    assert found["train/policy_loss"].item() == pytest.approx(expected)


@pytest.mark.parametrize("num_steps", [5, 23])
def test_an_update_is_ppos_on_one_minibatch_where_the_ratio_is_one(num_steps):
    shared = {
        "num_envs": 4, "num_steps": num_steps, "hidden": 16, "precision": "float32",
        "gae_lambda": 0.9, "normalize_advantage": False, "value_coef": 0.5, "entropy_coef": 0.01,
        "optimizer": OptimizerConfig("sgd", 1.0),
    }  # fmt: skip
    a2c = trainer(A2CConfig(**shared))
    ppo = trainer(PPOConfig(**shared, epochs=1, batch_size=10_000), kind=PPO)
    before = weights(a2c)
    assert torch.equal(before, weights(ppo))
    one, other = a2c.step(), ppo.step()
    assert (weights(a2c) - before).abs().max() > 1e-4
    torch.testing.assert_close(weights(a2c), weights(ppo), atol=1e-7, rtol=1e-5)
    for name in ("train/value_loss", "train/entropy", "train/gradient_norm"):
        torch.testing.assert_close(one[name], other[name])


# --- the trainer ----------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ["none", "lstm"])
def test_a_rollout_gives_one_update_on_all_of_its_steps(monkeypatch, memory):
    config = replace(SMALL, num_steps=7, memory=MemoryConfig(memory, memory_units=8))
    scripts = [[Episode(2, "terminated")], [Episode(9, "truncated")]] * 2
    a2c = trainer(config, ScriptedWorld(scripts))
    seen = []
    look = module.look
    monkeypatch.setattr(module, "look", lambda *args: seen.append(look(*args)) or seen[-1])
    for rollout in range(1, 6):
        before = a2c.progress
        a2c.step()
        assert a2c.gradient_step.taken == rollout == len(seen)
        assert len(seen[-1].action) == a2c.progress - before <= 28  # final observations are none
    assert a2c.progress < 5 * 28


@pytest.mark.parametrize("memory", ["none", "lstm"])
def test_what_a_final_observation_is_followed_by_reaches_no_loss(memory):
    scripts = [[Episode(3, "terminated"), Episode(1, "truncated")], [Episode(2, "truncated")]] * 2
    config = replace(SMALL, memory=MemoryConfig(memory, memory_units=8))
    plain, poisoned = (
        trainer(config, ScriptedWorld(scripts, reset_reward)) for reset_reward in (0.0, math.nan)
    )
    for a2c in (plain, poisoned):
        for _ in range(6):
            assert torch.isfinite(a2c.step()["train/loss"])
    assert torch.equal(weights(plain), weights(poisoned))


def test_a_rollout_of_nothing_but_final_observations_is_passed_over():
    a2c = trainer(
        replace(SMALL, num_envs=1, num_steps=1), ScriptedWorld([[Episode(1, "terminated")]])
    )
    updates = []
    for _ in range(4):
        a2c.step()
        updates.append(a2c.gradient_step.taken)
    assert updates == [1, 1, 2, 2] and a2c.progress == 2


def test_the_learning_rate_falls_to_nothing_by_the_end_of_the_run():
    config = A2CConfig(num_envs=4, hidden=16, precision="float32")
    a2c = trainer(config, steps=200)
    rates = []
    while a2c.progress < 200:
        at = a2c.progress
        rates.append((at, a2c.step()["train/learning_rate"]))
    for at, rate in rates:
        assert rate == pytest.approx(7e-4 * (1 - at / 200))


def test_evaluation_draws_from_the_policy_or_takes_its_likeliest_action():
    a2c = trainer()
    obs = a2c.collector.store.latest(1)
    first = np.ones(len(obs), bool)
    chances = torch.softmax(a2c.network(obs)[0], 1).detach().numpy()
    drawn = np.stack([a2c.policy().act(obs, first).preference for _ in range(2)])
    np.testing.assert_allclose(drawn[0], chances, rtol=1e-5)
    greedy = replace(a2c.config, greedy_evaluation=True)
    policy = build_policy(greedy, a2c.env.spec, a2c.state_dict(), CPU)
    np.testing.assert_array_equal(policy.act(obs, first).action, chances.argmax(1))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("num_steps", 0, "num_steps has to be 1 or more"),
        ("num_envs", 0, "num_envs has to be 1 or more"),
        ("gae_lambda", 1.5, "gae_lambda has to lie between 0 and 1"),
        ("entropy_coef", -0.1, "entropy_coef has to be 0 or more"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(field, value, message):
    with pytest.raises(UserError, match=message):
        A2CConfig(**{field: value})
