"""Policies with a value: how they begin, how they act, and what they remember."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from playfield import envs
from playfield.agents.actor_critic import (
    ActorCriticPolicy,
    PolicyGradientConfig,
    build_network,
    look,
    sample,
)
from playfield.agents.encoders import EncoderConfig, MemoryConfig
from playfield.agents.policy_gradient import log_prob
from playfield.agents.ppo import PPO, PPOConfig, build_policy
from playfield.buffers.rollout import StreamBatch
from playfield.envs.contract import EnvSpec
from playfield.errors import UserError

CPU = torch.device("cpu")
VECTORS = EnvSpec("test/Vectors-v0", (6,), "float32", 3, ("A", "B", "C"))
SMALL = PolicyGradientConfig(
    hidden=16, precision="float32", encoder=EncoderConfig(mlp_layers=(16,))
)
KINDS = ("lstm", "gru", "transformer")


def with_memory(kind):
    return replace(SMALL, memory=MemoryConfig(kind, memory_units=8, memory_window=4))


def network_of(config, spec=VECTORS, seed=0):
    return build_network(config, spec, seed, CPU)


def decided(network, scale=100.0):
    """`network` with a policy that is anything but even."""
    with torch.no_grad():
        network.policy.weight.mul_(scale)
    return network


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


# --- the beginning --------------------------------------------------------------------------------


def test_at_first_every_action_is_about_equally_likely_and_biases_are_zero():
    network = network_of(SMALL)
    logits, value = network(noise(200, 6))
    assert logits.log_softmax(1).exp().sub(1 / 3).abs().max() < 0.03
    assert logits.dtype == value.dtype == torch.float32
    assert logits.shape == (200, 3) and value.shape == (200,)
    assert all(not p.any() for name, p in network.named_parameters() if name.endswith("bias"))


def test_weights_are_orthogonal_with_the_gains_of_openai_baselines():
    network = network_of(SMALL)
    gains = {"body.0": math.sqrt(2), "policy": 0.01, "value": 1.0}
    for name, gain in gains.items():
        weight = network.get_submodule(name).weight.detach()
        np.testing.assert_allclose(weight @ weight.T, gain**2 * np.eye(len(weight)), atol=1e-5)


def test_the_same_seed_gives_the_same_network_and_leaves_torchs_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, second, other = (network_of(SMALL, seed=seed) for seed in (1, 1, 2))
    assert torch.rand(1) == expected
    assert torch.equal(first.policy.weight, second.policy.weight)
    assert not torch.equal(first.policy.weight, other.policy.weight)


def test_without_a_hidden_layer_features_go_straight_to_the_heads():
    network = network_of(replace(SMALL, hidden=0))
    assert network.policy.in_features == 16
    assert network(noise(2, 6))[0].shape == (2, 3)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("num_envs", 0, "num_envs has to be 1 or more"),
        ("gamma", 1.01, "gamma has to lie between 0 and 1"),
        ("gae_lambda", -0.1, "gae_lambda has to lie between 0 and 1"),
        ("value_coef", -1.0, "value_coef has to be 0 or more"),
        ("entropy_coef", float("nan"), "entropy_coef has to be 0 or more"),
        ("reward_clip", -1.0, "reward_clip has to be 0 or more"),
        ("hidden", -1, "hidden has to be 0 or more"),
        ("stack", 0, "stack has to be 1 or more"),
        ("num_steps", 0, "num_steps has to be 1 or more"),
        ("epochs", 0, "epochs has to be 1 or more"),
        ("batch_size", 0, "batch_size has to be 1 or more"),
        ("clip", 0.0, "clip has to be more than 0"),
        ("value_clip", -0.2, "value_clip has to be more than 0"),
        ("target_kl", 0.0, "target_kl has to be more than 0"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(field, value, message):
    with pytest.raises(UserError, match=message):
        PPOConfig(**{field: value})


def test_a_memory_needs_rollouts_of_two_steps_or_more():
    with pytest.raises(UserError, match="num_steps has to be 2 or more with memory=gru"):
        PPOConfig(num_steps=1, memory=MemoryConfig("gru"))


# --- acting ---------------------------------------------------------------------------------------


def test_draws_have_the_policys_distribution():
    chances = np.array([0.6, 0.25, 0.1, 0.05])
    logits = np.broadcast_to(np.log(chances).astype(np.float32) + 7, (20_000, 4))
    counts = np.bincount(sample(logits, np.random.default_rng(0)), minlength=4)
    assert stats.chisquare(counts, 20_000 * chances).pvalue > 0.01
    flat = np.bincount(sample(logits * 0, np.random.default_rng(0)), minlength=4)
    assert stats.chisquare(counts, flat).pvalue < 1e-6  # the test can tell


def test_an_action_without_a_chance_is_never_drawn():
    logits = np.tile(np.array([[0.0, -np.inf, 0.0]], np.float32), (5_000, 1))
    assert set(sample(logits, np.random.default_rng(0))) == {0, 2}


def test_a_policy_draws_its_actions_or_takes_the_likeliest():
    network = decided(network_of(SMALL))
    obs, first = noise(1, 6).expand(4_000, 6), np.ones(4_000, bool)
    logits, value = network(obs[:1])
    chances = logits.softmax(1).detach().numpy()
    greedy = ActorCriticPolicy(network, 1, CPU, greedy=True).act(obs, first)
    drawn = ActorCriticPolicy(network, 1, CPU).act(obs, first)
    assert (greedy.action == chances.argmax()).all()
    counts = np.bincount(drawn.action, minlength=3)
    assert stats.chisquare(counts, 4_000 * chances[0] / chances.sum()).pvalue > 0.01
    for decision in (greedy, drawn):
        np.testing.assert_allclose(decision.preference, chances.repeat(4_000, 0), rtol=1e-4)
        np.testing.assert_allclose(decision.value, value.item(), rtol=1e-4)


def test_two_evaluations_of_the_same_weights_draw_the_same():
    network, obs = network_of(SMALL), noise(50, 6)
    first = np.ones(50, bool)
    one, other = (ActorCriticPolicy(network, 1, CPU).act(obs, first).action for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_acting_leaves_the_network_in_the_mode_it_was_in():
    network = network_of(replace(SMALL, encoder=EncoderConfig(mlp_layers=(16,), dropout=0.5)))
    policy, obs, first = ActorCriticPolicy(network, 1, CPU), noise(5, 6), np.ones(5, bool)
    network.train()
    one, other = (policy.act(obs, first).value for _ in range(2))
    np.testing.assert_array_equal(one, other)  # nothing is dropped at play
    assert network.training


# --- memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_memory_is_set_back_before_the_first_observation_of_an_episode(kind):
    network = decided(network_of(with_memory(kind)))
    policy, fresh = (ActorCriticPolicy(network, 1, CPU, greedy=True) for _ in range(2))
    obs = noise(6, 2, 6)
    for t in range(3):
        policy.act(obs[t], np.full(2, t == 0))
    for t in range(3, 6):  # stream 0 begins an episode, stream 1 goes on
        seen = policy.act(obs[t], np.array([t == 3, False]))
        alone = fresh.act(obs[t], np.full(2, t == 3))
        np.testing.assert_allclose(seen.preference[0], alone.preference[0], atol=1e-6)
        assert np.abs(seen.preference[1] - alone.preference[1]).max() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_seen_before_in_the_episode_is_remembered(kind):
    network = decided(network_of(with_memory(kind)))
    one, other = (ActorCriticPolicy(network, 1, CPU) for _ in range(2))
    one.act(noise(1, 6, seed=1), np.array([True]))
    other.act(noise(1, 6, seed=2), np.array([True]))
    now = noise(1, 6, seed=3)
    seen = [policy.act(now, np.array([False])).preference for policy in (one, other)]
    assert np.abs(seen[0] - seen[1]).max() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_a_segment_begins_without_memories(kind):
    config = PPOConfig(
        num_envs=3, num_steps=4, hidden=8, precision="float32",
        memory=MemoryConfig(kind, memory_units=8, memory_window=4),
    )  # fmt: skip
    ppo = PPO(config, envs.make("playfield/Catch-v0", 3), seed=0, device=CPU, steps=100)
    for segment in (0, 1):
        ppo.begin_segment(segment)
        collected = ppo.collector.collect()
        assert not collected.trajectory.initial["memory"].any()
    later = ppo.collector.collect().trajectory.initial["memory"]
    assert later.shape == (3, ppo.network.state_size) and later.any()


def streams(steps, seed=0, batch=2):
    """A batch of whole streams, with an episode that begins in the middle of one."""
    first = torch.zeros(steps, batch, dtype=torch.bool)
    first[0], first[3, 1] = True, True
    return StreamBatch(
        obs=noise(steps, batch, 6, seed=seed),
        action=torch.from_numpy(np.random.default_rng(seed).integers(3, size=(steps, batch))),
        valid=torch.ones(steps, batch, dtype=torch.bool),
        first=first,
        extra={"advantage": noise(steps, batch, seed=seed + 1)},
        initial={},
        index=torch.zeros(steps, batch, dtype=torch.int64),
    )


def padded(batch, rows):
    """`batch` with `rows` more steps of noise, none of them valid."""
    more = streams(len(batch.obs) + rows, seed=9)

    def joined(name):
        return torch.cat([getattr(batch, name), getattr(more, name)[-rows:]])

    return replace(
        batch,
        **{name: joined(name) for name in ("obs", "action", "first", "index")},
        valid=torch.cat([batch.valid, torch.zeros(rows, 2, dtype=torch.bool)]),
        extra={"advantage": torch.cat([batch.extra["advantage"], noise(rows, 2, seed=5)])},
    )


def gradients_of(network, batch):
    """The gradients of a loss that looks at logits, values and what was noted."""
    network.zero_grad()
    seen = look(network, batch)
    loss = (seen.noted["advantage"] * log_prob(seen.logits, seen.action)).mean()
    (loss + seen.value.square().mean()).backward()
    return [p.grad.clone() for p in network.parameters()]


@pytest.mark.parametrize("kind", KINDS)
def test_training_on_a_padded_sequence_equals_training_on_the_unpadded_one(kind):
    network = decided(network_of(with_memory(kind)))
    batch = streams(6)
    batch.initial["memory"] = torch.zeros(2, network.state_size)
    plain, other = gradients_of(network, batch), gradients_of(network, padded(batch, 3))
    assert any(g.abs().max() > 1e-3 for g in plain)
    for one, same in zip(plain, other, strict=True):
        torch.testing.assert_close(one, same, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_taken_up_from_its_noted_state_goes_on_like_the_whole(kind):
    network = decided(network_of(with_memory(kind)))
    batch = streams(8)
    batch.initial["memory"] = torch.zeros(2, network.state_size)
    whole = look(network, batch)
    _, _, state = network.unroll(batch.obs[:5], batch.first[:5], batch.initial["memory"])
    logits, value, _ = network.unroll(batch.obs[5:], batch.first[5:], state.detach())
    torch.testing.assert_close(logits.flatten(0, 1), whole.logits[10:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(value.flatten(), whole.value[10:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["none", *KINDS])
def test_a_policy_is_built_from_a_saved_state_alone(kind):
    config = PPOConfig(
        num_envs=2, num_steps=8, hidden=8, precision="float32",
        memory=MemoryConfig(kind, memory_units=8, memory_window=4),
    )  # fmt: skip
    ppo = PPO(config, envs.make("playfield/Catch-v0", 2), seed=0, device=CPU, steps=100)
    ppo.begin_segment(0)
    ppo.step()
    built = build_policy(config, ppo.env.spec, ppo.state_dict(), CPU)
    obs = ppo.collector.store.latest(1)
    decisions = [p.act(obs, np.ones(2, bool)) for p in (built, ppo.policy())]
    np.testing.assert_array_equal(decisions[0].preference, decisions[1].preference)
    np.testing.assert_array_equal(decisions[0].action, decisions[1].action)


def test_greedy_evaluation_is_the_configs():
    config = PPOConfig(num_envs=2, hidden=8, greedy_evaluation=True, precision="float32")
    ppo = PPO(config, envs.make("playfield/Catch-v0", 2), seed=0, device=CPU, steps=100)
    assert ppo.policy().greedy
    assert build_policy(config, ppo.env.spec, ppo.state_dict(), CPU).greedy
    assert not build_policy(PPOConfig(hidden=8), ppo.env.spec, ppo.state_dict(), CPU).greedy
