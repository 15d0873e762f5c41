"""DQN's bookkeeping: when it acts, learns, copies, and what it saves."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from playfield import envs
from playfield.agents.dqn import DQN, DQNConfig, build_policy
from playfield.buffers.prefetch import Prefetcher
from playfield.errors import UserError
from playfield.training.optimizers import OptimizerConfig

CPU = torch.device("cpu")
SMALL = DQNConfig(
    num_envs=2, hidden=16, buffer_size=400, batch_size=8, learning_starts=40, update_every=4,
    target_every=100, optimizer=OptimizerConfig(learning_rate=1e-3, max_grad_norm=10.0),
    epsilon_steps=200, precision="float32",
)  # fmt: skip

PRIORITIZED = replace(SMALL, prioritized=True, priority_beta_steps=300)


def trainer(config=SMALL, env_id="playfield/Catch-v0", seed=0):
    dqn = DQN(config, envs.make(env_id, config.num_envs), seed=seed, device=CPU)
    dqn.begin_segment(0)
    return dqn


def run(dqn, steps):
    reports = []
    while dqn.progress < steps:
        reports.append(dqn.step())
    return reports


def weights(dqn):
    return torch.cat([p.detach().flatten() for p in dqn.online.parameters()])


@pytest.mark.parametrize("num_envs", [1, 2, 5, 8])
def test_the_replay_ratio_does_not_depend_on_the_number_of_environments(num_envs):
    dqn = trainer(replace(SMALL, num_envs=num_envs))
    run(dqn, 400)
    # One step of all environments may still be waiting for its updates.
    assert (dqn.progress - num_envs - 40) // 4 <= dqn.updates <= (dqn.progress - 40) // 4


def test_updates_begin_at_learning_starts_and_never_catch_up_in_a_burst():
    dqn = trainer()
    run(dqn, 40)
    assert dqn.updates == 0
    for _ in range(60):
        before = dqn.updates
        dqn.step()
        assert dqn.updates - before <= 1  # two environments, an update every four steps


def test_the_reset_pseudo_step_is_not_counted():
    dqn = trainer()
    reports = [dqn.step() for _ in range(30)]  # games of Catch last nine steps, then a reset
    assert dqn.progress == 2 * (30 - 3)
    lengths = [length for r in reports for length in r.get("episode/length", [])]
    assert lengths == [9.0] * 6
    assert len(dqn.store) == 2 * 31


def test_the_target_network_is_copied_at_the_start_and_every_target_every_steps():
    dqn = trainer()
    x = dqn.store.latest(1)
    assert torch.equal(dqn.target(x), dqn.online(x))
    run(dqn, 98)
    assert not torch.equal(dqn.target(x), dqn.online(x))
    run(dqn, 100)
    assert torch.equal(dqn.target(x), dqn.online(x))


def test_exploration_is_uniform_before_learning_and_falls_in_a_line():
    dqn = trainer()
    run(dqn, 40)
    acted = dqn.store.action[dqn.store.action >= 0]
    assert set(acted.tolist()) == {0, 1, 2}
    report = run(dqn, 120)[-1]
    assert report["train/epsilon"] == pytest.approx(1 + (0.01 - 1) * 120 / 200)
    assert run(dqn, 300)[-1]["train/epsilon"] == 0.01


def test_the_greedy_policy_takes_the_highest_value():
    dqn = trainer()
    run(dqn, 60)
    policy = dqn.policy()
    obs = dqn.store.latest(policy.stack)
    decision = policy.act(obs, np.ones(len(obs), bool))
    q = dqn.online(obs).detach().numpy()
    np.testing.assert_array_equal(decision.preference, q)
    np.testing.assert_array_equal(decision.action, q.argmax(1))
    np.testing.assert_array_equal(decision.value, q.max(1))


def test_the_same_seed_gives_the_same_weights_and_another_one_does_not():
    first, second, other = trainer(), trainer(), trainer(seed=1)
    for dqn in (first, second, other):
        run(dqn, 300)
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(other))


def test_training_leaves_the_global_generators_alone():
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global state is what is tested
    expected = torch.rand(1).item(), np.random.rand()  # noqa: NPY002
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    run(trainer(), 100)
    assert (torch.rand(1).item(), np.random.rand()) == expected  # noqa: NPY002


@pytest.mark.parametrize("config", [SMALL, PRIORITIZED], ids=["uniform", "prioritized"])
def test_a_restored_trainer_learns_on_exactly_like_the_original(config):
    original = trainer(config)
    run(original, 200)
    copy = trainer(config, seed=9)
    # A copy, as a file would be: torch hands an optimiser the very moments that it is given.
    copy.load_state_dict(deepcopy(original.state_dict()))
    copy.store.load_state_dict(original.store.state_dict())
    copy.seed = original.seed
    for dqn in (original, copy):
        dqn.begin_segment(1)
        run(dqn, 400)
    assert torch.equal(weights(original), weights(copy))
    assert original.updates == copy.updates


def test_a_policy_is_built_from_a_state_alone():
    dqn = trainer()
    run(dqn, 100)
    policy = build_policy(dqn.config, dqn.env.spec, dqn.state_dict(), CPU)
    obs = dqn.store.latest(1)
    first = np.ones(len(obs), bool)
    np.testing.assert_array_equal(
        policy.act(obs, first).preference, dqn.policy().act(obs, first).preference
    )


def test_a_new_segment_truncates_the_open_episodes():
    dqn = trainer()
    for _ in range(4):
        dqn.step()
    dqn.begin_segment(1)
    valid = dqn.replay.sampler.valid_ids()
    assert sorted(valid // 2) == [0, 0, 1, 1, 2, 2, 3, 3]  # the fifth frame ended as truncated
    lengths = [n for _ in range(10) for n in dqn.step().get("episode/length", [])]
    assert lengths == [9.0, 9.0]


def test_a_non_finite_target_is_skipped_and_the_weights_stay():
    dqn = trainer()
    run(dqn, 60)
    before = weights(dqn)
    dqn.store.reward[:] = np.inf
    dqn.replay.sampler.spec = replace(dqn.replay.sampler.spec)  # rewards unclipped reach the loss
    object.__setattr__(dqn.replay.sampler.spec, "reward_clip", 0.0)
    dqn.replay.sampler._readers.clear()
    run(dqn, 100)
    assert torch.equal(weights(dqn), before)
    assert int(dqn.gradient_step.skipped) > 0


def test_priorities_become_the_errors_of_the_batch_right_after_its_update():
    dqn = trainer(PRIORITIZED)
    sample, update = dqn.replay.sampler.sample, dqn.replay.sampler.update
    drawn, given = [], []

    def noted_sample(size, beta):
        batch = sample(size, beta)
        online, target = dqn.online(batch.obs), dqn.target(batch.next_obs).amax(1)
        chosen = online[torch.arange(size), batch.action]
        error = (batch.reward + batch.discount * target - chosen).abs().detach()
        drawn.append((batch.index.tolist(), error))
        return batch

    def noted_update(ids, priorities):
        given.append((ids.tolist(), priorities))
        assert not priorities.requires_grad
        assert update(ids, priorities) == len(set(ids.tolist()))

    dqn.replay.sampler.sample, dqn.replay.sampler.update = noted_sample, noted_update
    run(dqn, 200)
    assert len(given) == dqn.updates == len(drawn) > 30
    for (ids, error), (ids_given, priorities) in zip(drawn, given, strict=True):
        assert ids == ids_given
        torch.testing.assert_close(priorities, error)


def test_importance_weights_reach_the_loss():
    dqn = trainer(PRIORITIZED)
    run(dqn, 100)
    batch = dqn.replay.sampler.sample(8, 1.0).clone()
    assert batch.weight.max() == 1 and batch.weight.min() < 1
    copy = trainer(PRIORITIZED)
    copy.load_state_dict(deepcopy(dqn.state_dict()))
    copy.store.load_state_dict(dqn.store.state_dict())
    weighted = dqn._update(batch)["train/loss"]
    batch.weight.fill_(1.0)
    assert weighted < copy._update(batch)["train/loss"]


def test_beta_rises_to_one_by_the_end_of_its_steps_and_is_logged():
    dqn = trainer(PRIORITIZED)
    report = run(dqn, 150)[-1]
    assert report["replay/beta"] == pytest.approx(0.4 + 0.6 * 150 / 300)
    assert run(dqn, 300)[-1]["replay/beta"] == 1.0
    assert "replay/beta" not in trainer().step()


def test_an_error_that_is_not_finite_stops_no_prioritised_run():
    dqn = trainer(replace(PRIORITIZED, reward_clip=0.0))
    run(dqn, 60)
    before = weights(dqn)
    dqn.store.reward[:] = np.inf
    run(dqn, 80)
    assert torch.equal(weights(dqn), before)
    assert int(dqn.gradient_step.skipped) > 0


def test_the_learning_rate_falls_to_zero_in_equal_parts_from_update_to_update():
    optimizer = OptimizerConfig(learning_rate=1e-3, schedule="linear")
    config = replace(SMALL, num_envs=1, optimizer=optimizer)
    env = envs.make("playfield/Catch-v0", 1)
    dqn = DQN(config, env, seed=0, device=CPU, steps=440)  # 400 to learn in, an update after each 4
    dqn.begin_segment(0)
    logged, taken = [], []
    for report in iter(lambda: dqn.step() if dqn.progress < 440 else None, None):
        if "train/learning_rate" in report:
            logged.append(report["train/learning_rate"])
            taken.append(dqn.gradient_step.optimizer.param_groups[0]["lr"])
    expected = [1e-3 * (1 - k / 100) for k in range(1, 100)]
    assert logged == pytest.approx(expected)
    assert taken == logged


def test_a_schedule_up_to_the_end_of_a_run_has_to_know_it():
    config = replace(SMALL, optimizer=OptimizerConfig(schedule="cosine"))
    with pytest.raises(UserError, match="schedule=cosine ends with the run"):
        trainer(config)


def test_batch_norms_and_dropout_learn_in_updates_and_act_in_play():
    dqn = trainer()
    modes = []
    forward = dqn.online.forward
    dqn.online.forward = lambda obs: (modes.append(dqn.online.training), forward(obs))[1]
    run(dqn, 60)
    assert modes.count(True) == dqn.updates > 0
    assert modes.count(False) == sum(1 for mode in modes if not mode) > 0
    assert not dqn.target.training and not dqn.policy().network.training


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("batch_size", 0, "batch_size has to be more than 0"),
        ("gamma", 1.5, "gamma has to lie between 0 and 1"),
        ("epsilon_final", -0.1, "epsilon_final has to lie between 0 and 1"),
        ("reward_clip", -1.0, "reward_clip has to be 0 or more"),
        ("priority_alpha", 1.1, "priority_alpha has to lie between 0 and 1"),
        ("priority_beta_start", -0.1, "priority_beta_start has to lie between 0 and 1"),
        ("priority_beta_steps", -1, "priority_beta_steps has to be 0 or more"),
        ("priority_epsilon", float("nan"), "priority_epsilon has to be 0 or more"),
        ("stack", 0, "stack has to be 1 or more"),
        ("buffer_size", 4, "buffer_size=4 is too small"),
        ("learning_starts", 3, "learning_starts=3 is before the first complete transition"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(field, value, message):
    with pytest.raises(UserError, match=message):
        replace(SMALL, **{field: value})


@pytest.mark.parametrize("config", [SMALL, PRIORITIZED], ids=["uniform", "prioritized"])
def test_a_batch_assembled_in_the_background_is_the_one_that_would_be_drawn(config):
    plain, ahead = trainer(config), trainer(config)
    with Prefetcher(ahead.replay.sampler, CPU) as prefetcher:
        ahead.replay._prefetcher = prefetcher
        for dqn in (plain, ahead):
            run(dqn, 300)
    assert plain.updates > 50
    assert torch.equal(weights(plain), weights(ahead))


def test_frames_in_a_file_teach_the_same():
    plain, mapped = trainer(), trainer(replace(SMALL, replay_device="mmap"))
    for dqn in (plain, mapped):
        run(dqn, 200)
    assert mapped.store.placement == "mmap"
    assert torch.equal(weights(plain), weights(mapped))


def test_random_shifts_change_what_is_learnt_from_and_nothing_else():
    plain, shifted = trainer(), trainer(replace(SMALL, random_shift=2))
    for dqn in (plain, shifted):
        run(dqn, 48)  # random play until the first update
    assert plain.store.frames.equal(shifted.store.frames)
    assert not torch.equal(weights(plain), weights(shifted))


@pytest.mark.parametrize(
    ("change", "env_id", "message"),
    [
        ({"random_shift": 4}, "CartPole-v1", "random_shift does not suit CartPole-v1"),
        ({"random_shift": 5}, "playfield/Catch-v0", "random_shift does not suit playfield/Catch"),
        ({"random_shift": -1}, "playfield/Catch-v0", "random_shift has to be 0 or more"),
        ({"replay_device": "cuda"}, "playfield/Catch-v0", "replay_device=cuda needs a learner"),
    ],
)
def test_a_replay_that_does_not_suit_is_refused_by_name(change, env_id, message):
    with pytest.raises(UserError, match=message):
        trainer(replace(SMALL, **change), env_id)


@pytest.mark.gpu
def test_a_gpu_learns_the_same_batches_from_frames_on_either_side():
    device = torch.device("cuda")
    batches = []
    for place in ("cpu", "cuda"):
        config = replace(SMALL, replay_device=place)
        env = envs.make("playfield/Catch-v0", config.num_envs)
        dqn = DQN(config, env, seed=0, device=device)
        dqn.begin_segment(0)
        run(dqn, 60)
        dqn.replay.request(60)
        batches.append(dqn.replay.sample(60).clone())
    assert torch.equal(batches[0].index, batches[1].index)
    assert batches[0].obs.device.type == "cuda"
