"""REINFORCE: whole episodes, one of each environment, and the returns that followed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scripted_world import Episode, ScriptedWorld, frame_of, reward_of

from playfield import envs
from playfield.agents import a2c
from playfield.agents.actor_critic import build_network
from playfield.agents.encoders import EncoderConfig, MemoryConfig
from playfield.agents.reinforce import Reinforce, ReinforceConfig, build_policy
from playfield.errors import UserError
from playfield.training.optimizers import OptimizerConfig

CPU = torch.device("cpu")
SMALL = ReinforceConfig(
    num_envs=3, max_episode_steps=12, gamma=0.9, reward_clip=0.0, hidden=16,
    encoder=EncoderConfig(mlp_layers=(8,)), precision="float32",
    optimizer=OptimizerConfig(learning_rate=1e-2),
)  # fmt: skip
#: One ends by itself, one by a time limit, and one is longer than it may be.
SCRIPTS = [
    [Episode(3, "terminated"), Episode(2, "terminated")],
    [Episode(5, "truncated")],
    [Episode(50, "terminated")],
]


def trainer(config=SMALL, env=None, seed=0):
    env = env or envs.make("playfield/Catch-v0", config.num_envs)
    learner = Reinforce(config, env, seed=seed, device=CPU)
    learner.begin_segment(0)
    return learner


def weights(learner):
    return torch.cat([p.detach().flatten() for p in learner.network.parameters()])


@pytest.fixture
def batches(monkeypatch):
    """What every update learns from."""
    seen, losses = [], a2c.losses
    monkeypatch.setattr(a2c, "losses", lambda n, b, c: seen.append(b.clone()) or losses(n, b, c))
    return seen


def test_an_update_learns_the_returns_that_followed_in_the_first_episode_of_each(batches):
    learner = trainer(env=ScriptedWorld(SCRIPTS))
    before = build_network(SMALL, learner.env.spec, 0, CPU)
    before.load_state_dict(learner.network.state_dict())
    learner.step()

    def value(env, step):
        with torch.no_grad():
            return before(torch.from_numpy(frame_of(env, 0, step))[None])[1].item()

    expected = {}
    for env, (length, stands_for_the_rest) in enumerate(
        [(3, 0.0), (5, value(1, 5)), (12, value(2, 12))]
    ):
        for t in range(length):
            rewards = [0.9 ** (k - t) * reward_of(env, 0, k) for k in range(t, length)]
            return_ = sum(rewards) + 0.9 ** (length - t) * stands_for_the_rest
            expected[tuple(frame_of(env, 0, t).tolist())] = return_, return_ - value(env, t)
    (batch,) = batches
    seen = dict(
        zip(
            map(tuple, batch.obs.tolist()),
            zip(batch.extra["return_"].tolist(), batch.extra["advantage"].tolist(), strict=True),
            strict=True,
        )
    )
    assert len(batch.action) == 3 + 5 + 12 and seen.keys() == expected.keys()
    for obs, numbers in expected.items():
        assert seen[obs] == pytest.approx(numbers, abs=1e-5)


def test_a_finished_episode_owes_nothing_to_any_value(batches):
    # Another baseline changes advantages, never the returns that are learned.
    learner, other = (
        trainer(env=ScriptedWorld([[Episode(4, "terminated")]] * 3)) for _ in range(2)
    )
    with torch.no_grad():
        other.network.value.bias += 100.0
    other.network_replaced()
    for reinforce in (learner, other):
        reinforce.step()
    one, two = (
        dict(zip(map(tuple, b.obs.tolist()), b.extra["return_"].tolist(), strict=True))
        for b in batches
    )
    assert one.keys() == two.keys() and len(one) == 12
    for obs, return_ in one.items():
        assert two[obs] == pytest.approx(return_, abs=1e-4)


def test_it_stops_when_the_last_first_episode_is_over_and_counts_all_that_was_played():
    scripts = [[Episode(2, "terminated")], [Episode(3, "truncated")], [Episode(7, "terminated")]]
    learner = trainer(env=ScriptedWorld(scripts))
    report = learner.step()
    assert len(learner.env.actions) == 7
    # Two steps and a reset again and again, three and a reset, seven.
    assert learner.progress == (2 + 2 + 1) + (3 + 3) + 7
    assert report["episode/length"] == [2.0, 3.0, 7.0]
    returns = [sum(reward_of(env, 0, t) for t in range(n)) for env, n in enumerate((2, 3, 7))]
    assert report["episode/return"] == pytest.approx(returns)


def test_a_game_longer_than_allowed_is_no_finished_game():
    learner = trainer(env=ScriptedWorld([[Episode(50, "terminated")]] * 3))
    report = learner.step()
    assert "episode/return" not in report and learner.progress == 36


def test_every_update_starts_the_environments_from_a_seed_of_its_own():
    first, again, resumed = (trainer(env=ScriptedWorld(SCRIPTS)) for _ in range(3))
    for learner in (first, again):
        for _ in range(4):
            learner.step()
    resumed.begin_segment(1)
    resumed.step()
    assert len(set(first.env.seeds)) == 4
    assert first.env.seeds == again.env.seeds
    assert not set(resumed.env.seeds) & set(first.env.seeds)


@pytest.mark.parametrize("memory", ["none", "lstm"])
def test_what_is_played_beyond_the_first_episode_reaches_no_loss(memory):
    config = replace(SMALL, memory=MemoryConfig(memory, memory_units=8))
    plain, poisoned = (
        trainer(config, ScriptedWorld(SCRIPTS, reset_reward)) for reset_reward in (0.0, math.nan)
    )
    for learner in (plain, poisoned):
        for _ in range(4):
            assert torch.isfinite(learner.step()["train/loss"])
    assert torch.equal(weights(plain), weights(poisoned))


def test_a_memory_learns_from_the_same_steps_and_returns(batches):
    learner = trainer(
        replace(SMALL, memory=MemoryConfig("lstm", memory_units=8)), ScriptedWorld(SCRIPTS)
    )
    learner.step()
    (batch,) = batches
    assert batch.valid.sum() == 3 + 5 + 12
    env = (batch.obs[0, :, 0] * 4).int()  # [B], which environment each stream is
    steps = batch.obs[..., 2] * 4  # [T, B]
    for b, length in enumerate(np.asarray([3, 5, 12])[env].tolist()):
        assert batch.valid[:, b].tolist() == [True] * length + [False] * (12 - length)
        assert steps[:length, b].tolist() == list(range(length))


def test_a_policy_is_built_from_a_state_alone():
    learner = trainer()
    learner.step()
    obs, first = learner.collector.store.latest(1), np.ones(3, bool)
    built = build_policy(SMALL, learner.env.spec, learner.state_dict(), CPU)
    np.testing.assert_array_equal(
        built.act(obs, first).preference, learner.policy().act(obs, first).preference
    )


def test_an_episode_has_to_be_allowed_a_step():
    with pytest.raises(UserError, match="max_episode_steps has to be 1 or more"):
        ReinforceConfig(max_episode_steps=0)
    with pytest.raises(UserError, match="gamma has to lie between 0 and 1"):
        ReinforceConfig(gamma=-1.0)
