"""Rollouts against the naive oracle, and what on-policy learners have to be able to rely on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from store_oracle import OracleStore
from test_store import arrival, play

from playfield.buffers.returns import gae
from playfield.buffers.rollout import Rollout
from playfield.buffers.store import Column, FrameStore
from playfield.buffers.transitions import TransitionSpec
from playfield.envs.worlds.endless import TIME_LIMIT, Endless
from playfield.envs.worlds.vector import VectorWorld

PICTURE = (2, 3, 5)
COLUMNS = {"value": Column(), "state": Column((3,))}


def played(seed, streams=3, slots=30, steps=70, lengths=(1, 2, 3, 7), dtype="uint8", device="cpu"):
    """A store after random play, its columns filled with noise, and its oracle."""
    rng = np.random.default_rng(seed)
    store = FrameStore(streams * slots, streams, PICTURE, dtype, COLUMNS, device=device)
    oracle = OracleStore(streams, slots)
    play(store, oracle, rng, steps, lengths)
    for column in store.extra.values():
        column[:] = rng.normal(size=column.shape)
    return store, oracle


def rows_of(store, oracle, steps, spec):
    return [
        oracle.rollout(s, steps, spec.stack, spec.gamma, spec.reward_clip, spec.life_loss_terminal)
        for s in range(store.streams)
    ]  # [E][T]


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    streams=st.integers(1, 3),
    steps=st.integers(1, 12),
    played_steps=st.integers(13, 60),
    lengths=st.lists(st.sampled_from([1, 2, 3, 9, 30]), min_size=1, max_size=4),
    stack=st.integers(1, 4),
    spare=st.integers(0, 5),
    clip=st.sampled_from([0.0, 1.0]),
    life_loss=st.booleans(),
    dtype=st.sampled_from(["uint8", "float32"]),
)
def test_a_rollout_and_its_batches_equal_the_oracles(
    seed, streams, steps, played_steps, lengths, stack, spare, clip, life_loss, dtype
):
    store, oracle = played(seed, streams, steps + stack + spare, played_steps, lengths, dtype)
    spec = TransitionSpec(stack, 1, 0.9, clip, life_loss)
    rollout = Rollout(store, steps, spec, seed=seed, initial=["state"])
    expected = rows_of(store, oracle, steps, spec)
    trajectory = rollout.read()
    stacks = {}
    for t, s in np.ndindex(steps, streams):
        time, stacks[t, s], step, first = expected[s][t]
        assert trajectory.index[t, s] == time * streams + s
        assert trajectory.first[t, s] == first
        assert trajectory.valid[t, s] == (step is not None)
        action, reward, discount, ends = step or (-1, 0, 0, False)
        assert trajectory.action[t, s] == action
        assert trajectory.reward[t, s] == np.float32(reward)
        assert trajectory.discount[t, s] == np.float32(discount)
        assert trajectory.ends[t, s] == ends
        assert trajectory.extra["value"][t, s] == store.extra["value"][s, time % store.slots]
        if t == 0:
            state = store.extra["state"][s, time % store.slots]
            np.testing.assert_array_equal(trajectory.initial["state"][s], state)
    steps_there = set(trajectory.index[trajectory.valid].tolist())
    place_of = {int(i): divmod(n, streams) for n, i in enumerate(trajectory.index.flat)}
    target = np.random.default_rng(seed).normal(size=(steps, streams, 2))

    seen = []
    for batch in rollout.minibatches(trajectory, 2, 5, advantage=target):
        for b, i in enumerate(batch.index.tolist()):
            seen.append(i)
            t, s = place_of[i]
            np.testing.assert_array_equal(batch.obs[b].numpy(), stacks[t, s])
            assert batch.action[b] == trajectory.action[t, s]
            assert batch.extra["value"][b] == trajectory.extra["value"][t, s]
            np.testing.assert_array_equal(batch.extra["advantage"][b], target[t, s])
            assert batch.extra.keys() == {"value", "advantage"}
    for epoch in (seen[: len(seen) // 2], seen[len(seen) // 2 :]):
        assert len(epoch) == len(steps_there) and set(epoch) == steps_there

    seen = []
    for batch in rollout.sequences(trajectory, 2, 2, advantage=target):
        assert len(batch.index) == steps
        for b, s in enumerate((batch.index[0] % streams).tolist()):
            seen.append(s)
            for t in range(steps):
                np.testing.assert_array_equal(batch.obs[t, b].numpy(), stacks[t, s])
            assert batch.index[:, b].tolist() == trajectory.index[:, s].tolist()
            assert batch.valid[:, b].tolist() == trajectory.valid[:, s].tolist()
            assert batch.first[:, b].tolist() == trajectory.first[:, s].tolist()
            actions = np.maximum(trajectory.action[:, s], 0)
            assert batch.action[:, b].tolist() == actions.tolist()
            np.testing.assert_array_equal(batch.extra["advantage"][:, b], target[:, s])
            np.testing.assert_array_equal(batch.initial["state"][b], trajectory.initial["state"][s])
    assert sorted(seen) == sorted([*range(streams)] * 2)


def test_a_store_filled_by_a_policy_hands_back_what_the_policy_noted():
    # Two environments, an episode's end within: T rounds of latest, act, step, append.
    store = FrameStore(40, 2, (1,), "float32", {"value": Column(), "log_probability": Column()})
    arrived = arrival(np.zeros((2, 1), np.float32), first=[True, True])
    store.append(arrived)
    rollout = Rollout(store, 4, TransitionSpec(stack=1, gamma=0.5), seed=0)
    for update in range(2):
        for t in range(4):
            now = 4 * update + t
            store.act(
                np.array([now, now + 50]),
                value=np.array([now, -now]),
                log_probability=np.full(2, now / 10),
            )
            # Stream 1 is truncated at time 3; time 4 is its next episode's first frame.
            store.append(
                arrival(
                    np.full((2, 1), now + 1, np.float32),
                    reward=np.array([now, now], np.float32),
                    truncated=[False, now == 2],
                    first=[False, now == 3],
                )
            )
        steps = rollout.read()
        if update == 0:
            assert steps.action.tolist() == [[0, 50], [1, 51], [2, 52], [3, -1]]
            assert steps.ends.T.tolist() == [[False] * 4, [False, False, True, False]]
            assert steps.valid.T.tolist() == [[True] * 4, [True, True, True, False]]
            assert steps.reward.tolist() == [[0, 0], [1, 1], [2, 2], [3, 0]]
            assert steps.discount.T.tolist() == [[0.5] * 4, [0.5, 0.5, 0.5, 0]]
            # The value of the final frame, time 3, is what the truncated step bootstraps from.
            assert steps.values([9, 10]).T.tolist() == [[0, 1, 2, 3, 9], [0, -1, -2, -3, 10]]
        else:
            assert steps.first.T.tolist() == [[False] * 4, [True, False, False, False]]
            assert steps.action[:, 1].tolist() == [54, 55, 56, 57]
    np.testing.assert_allclose(steps.extra["log_probability"][:, 0], [0.4, 0.5, 0.6, 0.7])


@pytest.mark.parametrize("lambda_", [0.0, 0.95, 1.0])
def test_in_an_endless_world_a_learner_finds_r_over_1_minus_gamma(lambda_):
    # The world is cut every ten steps; the one state's value is learnt from its λ-returns.
    gamma, steps = 0.9, 3 * (TIME_LIMIT + 1)
    env = VectorWorld(Endless, 2)
    store = FrameStore(2 * (steps + 1), 2, (1,), "float32", {"value": Column()})
    rollout = Rollout(store, steps, TransitionSpec(stack=1, gamma=gamma), seed=0)
    store.append(env.reset(seed=0))
    value = 0.0
    for _ in range(200):
        for _ in range(steps):
            actions = np.zeros(2, np.int64)
            store.act(actions, value=np.full(2, value))
            store.append(env.step(actions))
        seen = rollout.read()
        assert seen.valid.sum() == 2 * 3 * TIME_LIMIT
        advantage = gae(
            seen.reward, seen.discount, seen.values([value] * 2), seen.ends, seen.valid, lambda_
        )
        value += float(advantage[seen.valid].mean())
    assert value == pytest.approx(1 / (1 - gamma), rel=1e-4)
    env.close()


def test_batches_of_one_size_use_the_same_memory_and_clones_do_not():
    store, _ = played(1)
    rollout = Rollout(store, 20, TransitionSpec(stack=2), seed=1)
    batches = rollout.minibatches(rollout.read(), 1, 8)
    first = next(batches)
    kept, obs = first.clone(), first.obs.numpy().copy()
    assert next(batches).obs.data_ptr() == first.obs.data_ptr()
    np.testing.assert_array_equal(kept.obs.numpy(), obs)
    assert not np.array_equal(first.obs.numpy(), obs)


@pytest.mark.parametrize("device", ["mmap", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_every_placement_gives_the_same_batches(device):
    spec = TransitionSpec(stack=3)
    here, there = (
        Rollout(played(5, device=place)[0], 20, spec, seed=3, initial=["state"])
        for place in ("cpu", device)
    )
    target = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    for method in ("minibatches", "sequences"):
        ours, theirs = (
            getattr(rollout, method)(rollout.read(), 2, 2, advantage=target)
            for rollout in (here, there)
        )
        for a, b in zip(ours, theirs, strict=True):
            assert b.obs.device.type == there.store.device.type
            assert a.obs.equal(b.obs.cpu()) and a.action.equal(b.action.cpu())
            assert a.index.equal(b.index)
            for name, column in a.extra.items():
                assert column.equal(b.extra[name].cpu())


def test_targets_may_be_tensors():
    store, _ = played(1)
    rollout = Rollout(store, 20, TransitionSpec(stack=2), seed=1)
    trajectory = rollout.read()
    return_ = torch.arange(60.0).view(20, 3)
    for batch in rollout.minibatches(trajectory, 1, 16, return_=return_):
        place = {int(i): n for n, i in enumerate(trajectory.index.flat)}
        assert batch.extra["return_"].tolist() == [place[int(i)] for i in batch.index]


def test_a_restored_rollout_goes_on_with_the_same_shuffles():
    store, _ = played(1)
    spec = TransitionSpec(stack=2)
    whole, first, again = (Rollout(store, 20, spec, seed=seed) for seed in (4, 4, 9))
    trajectory = whole.read()

    def orders(rollout, updates):
        return [
            batch.index.tolist()
            for _ in range(updates)
            for batch in rollout.minibatches(trajectory, 2, 16)
        ]

    expected = orders(whole, 3)
    assert orders(first, 1) == expected[: len(expected) // 3]
    again.load_state_dict(first.state_dict())
    assert orders(again, 2) == expected[len(expected) // 3 :]


def test_a_broken_off_epoch_is_left_and_the_next_has_another_order():
    store, _ = played(1)
    rollout, other = (Rollout(store, 20, TransitionSpec(stack=2), seed=4) for _ in range(2))
    trajectory = rollout.read()
    broken_off = next(rollout.minibatches(trajectory, 4, 16)).index.tolist()
    other.load_state_dict(rollout.state_dict())
    following = [b.index.tolist() for b in rollout.minibatches(trajectory, 1, 16)]
    assert following[0] != broken_off
    assert len(np.unique(np.concatenate(following))) == trajectory.valid.sum()
    assert following == [b.index.tolist() for b in other.minibatches(trajectory, 1, 16)]


@pytest.mark.parametrize(
    ("field", "value"), [("count", None), ("count", 0), ("epoch", -1), ("seed", "x")]
)
def test_a_state_of_something_else_is_refused_by_field(field, value):
    rollout = Rollout(played(1)[0], 20, TransitionSpec(stack=2), seed=4)
    with pytest.raises(ValueError, match=f"^{field}: "):
        rollout.load_state_dict({**rollout.state_dict(), field: value})


def test_observations_outlive_as_many_new_frames_as_the_ring_has_room_for():
    # Of 30 slots, 20 steps with stacks of 3 need 23; the episode began before them.
    store, _ = played(1, lengths=(200,))
    rollout = Rollout(store, 20, TransitionSpec(stack=3), seed=1)
    trajectory = rollout.read()

    def observations():
        return {
            index: obs.numpy().tobytes()
            for batch in rollout.minibatches(trajectory, 1, 16)
            for index, obs in zip(batch.index.tolist(), batch.obs, strict=True)
        }

    before = observations()
    frame = arrival(np.zeros((3, *PICTURE), np.uint8))
    for _ in range(7):
        store.append(frame)
    assert observations() == before
    store.append(frame)
    with pytest.raises(IndexError, match="stack of 3, has been overwritten"):
        observations()


def rollout_of(**changes):
    numbers = {"steps": 20, "stack": 4, "n_step": 1, "initial": (), **changes}
    store = played(1)[0]
    spec = TransitionSpec(stack=numbers["stack"], n_step=numbers["n_step"])
    return Rollout(store, numbers["steps"], spec, seed=0, initial=numbers["initial"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({"steps": 27}, "steps=27 with stack=4 need 31 frames per stream.* rings have 30"),
        ({"stack": 11}, "steps=20 with stack=11 need 31"),
        ({"n_step": 3}, "n_step=3"),
        ({"initial": ["cell"]}, r"initial=\['cell'\]: the store has no such column"),
    ],
)
def test_a_rollout_that_the_store_cannot_hold_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        rollout_of(**changes)
    assert rollout_of(steps=26).read().action.shape == (26, 3)  # exactly fits


def test_a_rollout_longer_than_what_is_stored_is_refused():
    store, _ = played(1, steps=20)
    rollout = Rollout(store, 20, TransitionSpec(stack=2), seed=0)
    with pytest.raises(ValueError, match=r"stream 0 holds 20 frames, .* 20 steps needs 21"):
        rollout.read()


def test_targets_that_do_not_fit_are_refused_by_name():
    rollout = rollout_of()
    trajectory = rollout.read()
    for method in (rollout.minibatches, rollout.sequences):
        with pytest.raises(ValueError, match=r"advantage is \[21, 3\], expected \[20, 3\]"):
            method(trajectory, 1, 8, advantage=np.zeros((21, 3)))
        with pytest.raises(ValueError, match="value is the name of a column"):
            method(trajectory, 1, 8, value=np.zeros((20, 3)))
        with pytest.raises(ValueError, match="batch_size=0"):
            method(trajectory, 1, 0)


def test_values_need_a_column_of_that_name():
    store = FrameStore(30, 1, (1,), "float32")
    for t in range(5):
        store.append(arrival(np.zeros((1, 1), np.float32), first=[t == 0]))
        store.act(np.zeros(1, int))
    with pytest.raises(ValueError, match='no column "value"'):
        Rollout(store, 3, TransitionSpec(stack=1), seed=0).read().values([0.0])
