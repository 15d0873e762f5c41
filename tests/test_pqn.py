"""PQN: its loss by hand, its targets by their definition, and what it does when."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scripted_world import Episode, ScriptedWorld, frame_of, reward_of
from torch import nn

from playfield import envs
from playfield.agents.encoders import EncoderConfig
from playfield.agents.pqn import PQN, PQNConfig, build_network, build_policy, q_loss
from playfield.envs.contract import EnvSpec
from playfield.errors import UserError
from playfield.training.optimizers import OptimizerConfig

CPU = torch.device("cpu")
SMALL = PQNConfig(
    num_envs=4, num_steps=8, minibatches=2, hidden=16, epsilon_steps=200, precision="float32",
    encoder=EncoderConfig(norm="layer", mlp_layers=(8,)),
)  # fmt: skip
SCRIPTS = [
    [Episode(3, "terminated"), Episode(1, "truncated"), Episode(2, "terminated")],
    [Episode(50, "terminated")],
    [Episode(4, "truncated"), Episode(1, "terminated")],
]


def trainer(config=SMALL, env=None, seed=0, steps=None):
    env = env or envs.make("playfield/Catch-v0", config.num_envs)
    pqn = PQN(config, env, seed=seed, device=CPU, steps=steps)
    pqn.begin_segment(0)
    return pqn


def weights(pqn):
    return torch.cat([p.detach().flatten() for p in pqn.network.parameters()])


# --- the loss -------------------------------------------------------------------------------------


def test_the_loss_is_half_the_mean_squared_error_of_the_chosen_actions():
    q = torch.tensor([[1.0, 3.0], [5.0, 2.0]], requires_grad=True)
    loss, error = q_loss(q, torch.tensor([1, 0]), torch.tensor([2.0, 5.5]))
    assert loss.item() == 0.5 * (1.0 + 0.25) / 2
    assert error.tolist() == [1.0, -0.5] and not error.requires_grad
    loss.backward()
    assert q.grad.tolist() == [[0.0, 0.5], [-0.25, 0.0]]


def test_columns_that_would_broadcast_are_refused():
    q, action, return_ = torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64), torch.zeros(3)
    for wrong in ((q, action, return_[:, None]), (q, action[:2], return_), (q[:, 0], action, q)):
        with pytest.raises(ValueError, match="do not belong together"):
            q_loss(*wrong)


# --- the targets ----------------------------------------------------------------------------------


def definition(rewards, values, terminated, gamma, lambda_):
    """The λ-return of the first of N steps: n-step returns with their weights (equation 12.3).

    `values[n]` is that of the observation after n+1 steps; the episode or the rollout ends after N.
    """
    count, total = len(rewards), 0.0
    for n in range(1, count + 1):
        bootstrap = 0.0 if terminated and n == count else gamma**n * values[n - 1]
        return_ = sum(gamma**k * rewards[k] for k in range(n)) + bootstrap
        total += (
            lambda_ ** (n - 1) if n == count else (1 - lambda_) * lambda_ ** (n - 1)
        ) * return_
    return total


def steps_of_script(script, env, count):
    """`(episode, step)` of each of the first `count` rows, and the ends `(rows, ending)`."""
    rows, episode = [], 0
    while len(rows) < count + 1:
        length = script[episode % len(script)].steps
        rows += [(episode, step) for step in range(length + 1)]
        episode += 1
    return rows[: count + 1]


@pytest.mark.parametrize("lambda_", [0.0, 0.65, 1.0])
def test_the_returns_of_a_scripted_world_are_those_of_the_definition(monkeypatch, lambda_):
    config = replace(SMALL, num_envs=3, num_steps=11, q_lambda=lambda_, gamma=0.9, reward_clip=0.0)
    pqn = trainer(config, ScriptedWorld(SCRIPTS))
    network = {name: value.clone() for name, value in pqn.network.state_dict().items()}
    learned = []
    update = pqn._update
    monkeypatch.setattr(pqn, "_update", lambda b: learned.append(b.clone()) or update(b))
    pqn.step()

    before = build_network(config, pqn.env.spec, 0, CPU)
    before.load_state_dict(network)
    expected = {}
    for env, script in enumerate(SCRIPTS):
        rows = steps_of_script(script, env, config.num_steps)
        with torch.no_grad():
            obs = torch.from_numpy(np.stack([frame_of(env, *row) for row in rows]))
            values = before(obs).amax(1).double().tolist()
        for t, (episode, step) in enumerate(rows[:-1]):
            length, ending = (
                script[episode % len(script)].steps,
                script[episode % len(script)].ending,
            )
            if step == length:
                continue  # the final observation
            count = min(length - step, config.num_steps - t)
            ends = step + count == length and ending == "terminated"
            rewards = [reward_of(env, episode, step + k) for k in range(count)]
            expected[tuple(frame_of(env, episode, step).tolist())] = definition(
                rewards, values[t + 1 : t + 1 + count], ends, config.gamma, lambda_
            )
    seen = [
        (tuple(obs), return_)
        for batch in learned
        for obs, return_ in zip(batch.obs.tolist(), batch.extra["return_"].tolist(), strict=True)
    ]
    assert len(seen) == config.epochs * len(expected)  # each step so often, and nothing else
    for obs, return_ in seen:
        assert return_ == pytest.approx(expected[obs], abs=1e-5)


def test_what_a_final_observation_is_followed_by_reaches_no_loss():
    plain, poisoned = (
        trainer(replace(SMALL, num_envs=3), ScriptedWorld(SCRIPTS, reset_reward))
        for reset_reward in (0.0, math.nan)
    )
    for pqn in (plain, poisoned):
        for _ in range(5):
            assert torch.isfinite(pqn.step()["train/loss"])
    assert torch.equal(weights(plain), weights(poisoned))


# --- when it does what ----------------------------------------------------------------------------


def test_an_epoch_shares_its_steps_evenly_among_its_minibatches(monkeypatch):
    config = replace(SMALL, num_envs=3, num_steps=11, minibatches=4, epochs=3)
    pqn = trainer(config, ScriptedWorld(SCRIPTS))
    sizes = []
    update = pqn._update
    monkeypatch.setattr(pqn, "_update", lambda b: sizes.append(len(b.action)) or update(b))
    pqn.step()
    steps = pqn.progress
    assert steps < 33  # final observations are no steps
    assert len(sizes) == 4 * 3 == pqn.gradient_step.taken
    assert sum(sizes) == 3 * steps and max(sizes) - min(sizes) <= 4


def test_epsilon_falls_in_a_line_over_a_tenth_of_the_run_and_is_logged():
    pqn = trainer(replace(SMALL, epsilon_steps=None), steps=1000)
    logged = {}
    while pqn.progress < 200:
        at = pqn.progress
        logged[at] = pqn.step()["train/epsilon"]
    for at, epsilon in logged.items():
        assert epsilon == pytest.approx(max(0.001, 1 - 0.999 * at / 100))
    assert logged[0] == 1.0


def test_a_tenth_of_a_run_of_unknown_length_is_refused():
    with pytest.raises(UserError, match="epsilon_steps is a tenth of the run"):
        trainer(replace(SMALL, epsilon_steps=None))
    assert trainer(replace(SMALL, epsilon_steps=0)).step()["train/epsilon"] == 0.001


def test_it_explores_with_chance_epsilon_and_else_takes_the_greatest_value():
    pqn = trainer(replace(SMALL, num_envs=4))
    rng = np.random.default_rng(0)
    obs = torch.from_numpy(rng.integers(0, 256, (4000, 1, 10, 5), np.uint8))
    first = np.zeros(4000, bool)
    q = pqn.network(obs).detach()
    for epsilon in (0.0, 0.3, 1.0):
        pqn.player.epsilon = epsilon
        action, columns = pqn.player.choose(obs, first)
        np.testing.assert_array_equal(columns["value"], q.amax(1))
        differs = (action != q.argmax(1).numpy()).mean()
        assert differs == pytest.approx(epsilon * 2 / 3, abs=0.04 * (epsilon > 0))
    np.testing.assert_array_equal(pqn.player.value(obs, first), q.amax(1))


def test_it_acts_as_the_network_was_when_the_rollout_began():
    pqn = trainer()
    pqn.step()
    obs = pqn.collector.store.latest(1)
    np.testing.assert_array_equal(
        pqn.player.value(obs, np.zeros(4, bool)), pqn.network(obs).detach().amax(1)
    )


def test_the_policy_takes_the_greatest_value_and_can_be_built_from_a_state_alone():
    pqn = trainer()
    pqn.step()
    built = build_policy(pqn.config, pqn.env.spec, pqn.state_dict(), CPU)
    obs = pqn.collector.store.latest(1)
    q = pqn.network(obs).detach().numpy()
    for policy in (pqn.policy(), built):
        decision = policy.act(obs, np.ones(4, bool))
        np.testing.assert_array_equal(decision.preference, q)
        np.testing.assert_array_equal(decision.action, q.argmax(1))
        np.testing.assert_array_equal(decision.value, q.max(1))


# --- the network ----------------------------------------------------------------------------------


ATARI = EnvSpec("test/Pictures-v0", (1, 84, 84), "uint8", 6, ("NOOP",) * 6)


def test_every_hidden_layer_is_normalised_over_its_channels_alone():
    network = build_network(PQNConfig(), ATARI, 0, CPU)
    norms = [m.normalized_shape for m in network.modules() if isinstance(m, nn.LayerNorm)]
    assert norms == [(32,), (64,), (64,), (512,)]
    plain = build_network(PQNConfig(encoder=EncoderConfig(norm="none")), ATARI, 0, CPU)
    assert not [m for m in plain.modules() if isinstance(m, nn.LayerNorm)]


def test_hidden_weights_are_drawn_by_he_and_the_last_ones_by_lecun():
    network = build_network(PQNConfig(), ATARI, 0, CPU)
    layers = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert len(layers) == 5
    for layer in layers:
        gain = 1.0 if layer is layers[-1] else 2.0
        deviation = math.sqrt(gain / layer.weight[0].numel())
        assert layer.weight.std().item() == pytest.approx(deviation, rel=0.05)
        assert layer.weight.abs().max() <= 2 * deviation / 0.8796 * 1.001  # cut at two deviations
        assert not layer.bias.any()


def test_the_first_values_are_about_zero_and_one_whatever_the_picture():
    network = build_network(PQNConfig(), ATARI, 0, CPU)
    pictures = torch.randint(0, 256, (16, 4, 84, 84), dtype=torch.uint8)
    assert network(pictures).abs().max() < 5
    assert network(pictures // 16).abs().max() < 5


# --- state ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("minibatches", 0, "minibatches has to be 1 or more"),
        ("q_lambda", 1.1, "q_lambda has to lie between 0 and 1"),
        ("epsilon_final", -0.1, "epsilon_final has to lie between 0 and 1"),
        ("epsilon_steps", -1, "epsilon_steps has to be 0 or more"),
        ("stack", 0, "stack has to be 1 or more"),
        ("reward_clip", -1.0, "reward_clip has to be 0 or more"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(field, value, message):
    with pytest.raises(UserError, match=message):
        PQNConfig(**{field: value})


def test_the_optimiser_is_the_configs():
    config = replace(SMALL, optimizer=OptimizerConfig("sgd", 0.5))
    assert isinstance(trainer(config).gradient_step.optimizer, torch.optim.SGD)
    assert isinstance(trainer().gradient_step.optimizer, torch.optim.RAdam)
    assert trainer().gradient_step.max_norm == 10.0
