"""Collecting a rollout: what is played is what is learned from, step by step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scripted_world import Episode, ScriptedWorld, frame_of, reward_of

from playfield import envs
from playfield._ext import windows
from playfield.agents.collector import Collector
from playfield.agents.encoders import EncoderConfig, MemoryConfig
from playfield.agents.ppo import PPO, PPOConfig
from playfield.buffers.store import Column
from playfield.buffers.transitions import TransitionSpec
from playfield.training.optimizers import OptimizerConfig

CPU = torch.device("cpu")
GAMMA, LAMBDA = 0.9, 0.8
SCRIPTS = [
    [Episode(3, "terminated"), Episode(1, "truncated"), Episode(2, "terminated")],
    [Episode(50, "terminated")],
    [Episode(4, "truncated"), Episode(1, "terminated")],
    [Episode(7, "truncated")],
]
SMALL = PPOConfig(
    num_envs=4, num_steps=8, batch_size=8, epochs=3, gamma=GAMMA, gae_lambda=LAMBDA, hidden=8,
    reward_clip=0.5, precision="float32", encoder=EncoderConfig(mlp_layers=(8,)),
    optimizer=OptimizerConfig(learning_rate=1e-2, max_grad_norm=0.5),
)  # fmt: skip
LSTM = replace(SMALL, memory=MemoryConfig("lstm", memory_units=6), batch_size=16)


def trainer(config=SMALL, env=None, seed=0, steps=None):
    env = env or ScriptedWorld(SCRIPTS)
    ppo = PPO(config, env, seed=seed, device=CPU, steps=steps)
    ppo.begin_segment(0)
    return ppo


def weights(ppo):
    return torch.cat([p.detach().flatten() for p in ppo.network.parameters()])


def rows_of(script, count):
    """`(episode, step)` of the first `count` rows of an environment, final observations included.

    And, for each row, how the script says that its episode ends, or None where it goes on.
    """
    rows, endings, episode = [], [], 0
    while len(rows) < count:
        here = script[episode % len(script)]
        rows += [(episode, step) for step in range(here.steps + 1)]
        endings += [None] * here.steps + [here.ending]
        episode += 1
    return rows[:count], endings[:count]


def advantage_by_definition(env, rows, endings, values, clip):
    """GAE of the first row by its double sum: up to the episode's end, or to the last row."""
    total, t = 0.0, 0
    while t + 1 < len(rows) and endings[t] is None:
        terminal = endings[t + 1] == "terminated"
        reward = np.clip(reward_of(env, *rows[t]), -clip, clip)
        delta = reward + GAMMA * (not terminal) * values[t + 1] - values[t]
        total += (GAMMA * LAMBDA) ** t * delta
        t += 1
    return total


@pytest.mark.parametrize("num_steps", [1, 2, 5, 13])
def test_advantages_are_gae_by_its_definition_with_truncation_bootstrapped(num_steps):
    ppo = trainer(replace(SMALL, num_steps=num_steps))
    torch.nn.init.normal_(ppo.network.value.weight, generator=torch.Generator().manual_seed(0))
    ppo.player.refresh(ppo.network)
    for rollout in range(4):
        targets = ppo._targets(ppo.collector.collect())
        for env, script in enumerate(SCRIPTS):
            rows, endings = rows_of(script, (rollout + 1) * num_steps + 1)
            rows, endings = rows[rollout * num_steps :], endings[rollout * num_steps :]
            frames = torch.from_numpy(np.stack([frame_of(env, *row) for row in rows]))
            values = ppo.network(frames)[1].detach().numpy().astype(float)
            for t in range(num_steps):
                if endings[t] is not None:
                    assert targets["advantage"][t, env] == 0  # no step
                    continue
                tail = slice(t, None)
                expected = advantage_by_definition(
                    env, rows[tail], endings[tail], values[tail], SMALL.reward_clip
                )
                assert targets["advantage"][t, env] == pytest.approx(expected, abs=1e-5)
                assert targets["return_"][t, env] == pytest.approx(expected + values[t], abs=1e-5)


def test_the_reset_pseudo_step_is_neither_counted_nor_a_game():
    ppo = trainer(replace(SMALL, num_steps=9))
    report = ppo.step()
    # Nine vector steps: games of 3, 1 and 2 steps with a reset each; none; 4 and 1; 7.
    assert ppo.progress == (9 - 3) + 9 + (9 - 2) + (9 - 1)
    assert sorted(report["episode/length"]) == [1, 1, 2, 3, 4, 7]
    first_game = sum(reward_of(0, 0, step) for step in range(3))
    assert report["episode/return"][0] == pytest.approx(first_game)  # raw


class Poisoned(ScriptedWorld):
    """Other final observations of games that are over; each is seen by nobody but the player."""

    def recv(self):
        step = super().recv()
        step.frames[step.terminated] = [40.0, -30.0, 20.0]
        return step


def poison_actions(ppo):
    """Other actions on final observations, wherever the environment ignores what is sent."""
    choose, store = ppo.player.choose, ppo.collector.store

    def poisoned(obs, first):
        actions, columns = choose(obs, first)
        over = store.flags[np.arange(4), (store.head - 1) % store.slots] & windows.FINAL != 0
        return np.where(over, 1 - actions, actions), columns

    ppo.player.choose = poisoned


@pytest.mark.parametrize("config", [SMALL, LSTM, replace(SMALL, overlap=True)])
def test_the_pseudo_step_after_an_episode_end_contributes_to_no_loss(config):
    plain, poisoned = trainer(config), trainer(config, Poisoned(SCRIPTS, reset_reward=1e6))
    poison_actions(poisoned)
    for _ in range(4):
        reports = plain.step(), poisoned.step()
        assert reports[0]["train/loss"] == reports[1]["train/loss"]
    assert torch.equal(weights(plain), weights(poisoned))


def test_the_final_observation_of_a_truncated_game_does_matter():
    # What the test above would not notice: an observation that nobody looks at at all.
    class Elsewhere(ScriptedWorld):
        def recv(self):
            step = super().recv()
            step.frames[step.truncated] = [40.0, -30.0, 20.0]
            return step

    plain, other = trainer(), trainer(env=Elsewhere(SCRIPTS))
    for ppo in (plain, other):
        ppo.step()
    assert not torch.equal(weights(plain), weights(other))


def batches_of(ppo):
    """Lets `ppo` take a step; the ids of every batch that it learned from, and its trajectory."""
    ids, update, learn = [], ppo._update, ppo.learn

    def noted_update(batch):
        valid = getattr(batch, "valid", torch.ones(batch.index.shape, dtype=torch.bool))
        ids.append(batch.index[valid].tolist())
        return update(batch)

    def noted_learn(collected):
        ppo.seen = collected.trajectory
        return learn(collected)

    ppo._update, ppo.learn = noted_update, noted_learn
    ppo.step()
    return ids, ppo.seen


@pytest.mark.parametrize("batch_size", [1, 5, 8, 31, 1000])
@pytest.mark.parametrize("config", [SMALL, LSTM, replace(SMALL, overlap=True)])
def test_every_step_of_a_rollout_is_learned_from_once_per_epoch(config, batch_size):
    ppo = trainer(replace(config, batch_size=batch_size))
    for _ in range(2):
        ids, trajectory = batches_of(ppo)
        steps = sorted(trajectory.index[trajectory.valid].tolist())
        flat = [i for batch in ids for i in batch]
        assert len(flat) == 3 * len(steps)
        for epoch in range(3):
            part = flat[epoch * len(steps) : (epoch + 1) * len(steps)]
            assert sorted(part) == steps
        if config.memory.memory == "none":
            assert max(map(len, ids)) <= batch_size


def test_the_order_of_the_steps_differs_from_epoch_to_epoch():
    ids, _ = batches_of(trainer(replace(SMALL, batch_size=1000)))
    assert len(ids) == 3
    assert ids[0] != ids[1] != ids[2]


class Counting:
    """Notes the number of each vector step, and values an observation at that number."""

    def __init__(self, num_envs):
        self.num_envs, self.now, self.begun = num_envs, 0, 0

    @property
    def columns(self):
        return {"value": Column(), "number": Column()}

    def begin(self):
        self.begun += 1

    def choose(self, obs, first):
        self.now += 1
        number = np.full(self.num_envs, self.now, np.float32)
        return np.zeros(self.num_envs, np.int64), {"value": number, "number": number}

    def value(self, obs, first):
        return np.full(self.num_envs, self.now + 1, np.float32)


def test_rollouts_follow_each_other_without_a_gap():
    env = ScriptedWorld(SCRIPTS)
    player = Counting(4)
    collector = Collector(env, player, TransitionSpec(), steps=5, seed=0, device=CPU)
    collector.begin_segment(0)
    for rollout in range(5):
        collected = collector.collect()
        expected = np.arange(5) + 5 * rollout + 1
        np.testing.assert_array_equal(collected.trajectory.extra["number"].T, [expected] * 4)
        # The last value is that of the observation which the next rollout begins with.
        np.testing.assert_array_equal(collected.value[-1], 5 * rollout + 6)


def test_a_segment_begins_with_new_games_from_a_seed_of_its_own():
    env, player = ScriptedWorld(SCRIPTS), Counting(4)
    collector = Collector(env, player, TransitionSpec(), steps=6, seed=3, device=CPU)
    for segment in (0, 1, 0):
        collector.begin_segment(segment)
        collected = collector.collect()
        assert collected.trajectory.first[0].all()
        assert collected.finished["episode/length"] == [
            3,
            4,
            1,
            1,
        ]  # none begun in a segment before
    assert player.begun == 3
    assert env.seeds[0] == env.seeds[2] != env.seeds[1]


def test_the_rings_hold_what_is_still_read_while_the_next_rollout_is_collected():
    config = replace(SMALL, stack=3, num_steps=6)
    ppo = trainer(config, envs.make("playfield/Catch-v0", 4))
    collector = Collector(
        ppo.env, ppo.player, ppo.rollout.spec, steps=6, seed=0, device=CPU, ahead=1
    )
    collector.begin_segment(0)
    for _ in range(5):
        trajectory = collector.collect().trajectory
        (before,) = (b.clone() for b in collector.rollout.minibatches(trajectory, 1, 100))
        collector.collect()  # the one that is under way
        (after,) = collector.rollout.minibatches(trajectory, 1, 100)
        assert torch.equal(before.obs[before.index.argsort()], after.obs[after.index.argsort()])
