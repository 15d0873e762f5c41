"""The store and uniform sampling against the naive oracle, and the facts one by one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from store_oracle import Moment, OracleStore

from playfield.buffers.augmentation import Augmentation, Augmenter, augment_frames
from playfield.buffers.prioritized import Prioritized
from playfield.buffers.store import Column, FrameStore
from playfield.buffers.transitions import TransitionReader, TransitionSpec
from playfield.buffers.uniform import Uniform

PICTURE = (2, 3, 5)


def arrival(frames, **values):
    """One step of arrivals; whatever is not named is zero or False."""
    count = len(frames)
    flags = {
        name: np.zeros(count, bool) for name in ("terminated", "truncated", "life_lost", "first")
    }
    return SimpleNamespace(
        **{"frames": frames, "reward": np.zeros(count, np.float32), **flags}
        | {name: np.asarray(v) for name, v in values.items()}
    )


def play(store, oracle, rng, steps, episode_lengths, life_loss_rate=0.2):
    """Feed both stores the same random episodes, and check each acting stack on the way."""
    count, shape = store.streams, store.frame_shape
    left = np.zeros(count, int)  # steps until the episode of each stream ends
    ended = np.ones(count, bool)
    for _ in range(steps):
        first = ended.copy()
        left[first] = rng.choice(episode_lengths, first.sum())
        final = ~first & (left == 0)
        terminated = final & (rng.random(count) < 0.5)
        step = arrival(
            rng.integers(1, 256, (count, *shape)).astype(store.frame_dtype),
            reward=np.where(first, 0, rng.normal(0, 2, count)).astype(np.float32),
            terminated=terminated,
            truncated=final & ~terminated,
            life_lost=~first & (rng.random(count) < life_loss_rate),
            first=first,
        )
        store.append(step)
        for s in range(count):
            oracle.history[s].append(
                Moment(
                    step.frames[s].copy(), float(step.reward[s]), bool(terminated[s]),
                    bool(step.truncated[s]), bool(step.life_lost[s]), bool(first[s]),
                )
            )  # fmt: skip
        for size in sorted({1, 2, min(4, store.slots)}):
            acting = store.latest(size).cpu().numpy()
            for s in range(count):
                expected = oracle.stack(s, len(oracle.history[s]) - 1, size)
                np.testing.assert_array_equal(acting[s], expected)
        actions = rng.integers(0, 7, count)
        store.act(actions)
        for s in np.flatnonzero(~final):
            oracle.history[s][-1].action = int(actions[s])
        step.frames[:] = 99  # the store keeps no reference to what it was given
        left -= 1
        ended = final


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    streams=st.integers(1, 3),
    slots=st.integers(10, 24),
    steps=st.integers(3, 60),
    episode_lengths=st.lists(st.sampled_from([1, 2, 3, 4, 9, 30]), min_size=1, max_size=4),
    stack=st.integers(1, 4),
    n=st.integers(1, 5),
    clip=st.sampled_from([0.0, 1.0]),
    life_loss=st.booleans(),
    dtype=st.sampled_from(["uint8", "float32"]),
)
def test_every_transition_equals_the_oracles_and_no_other_is_valid(
    seed, streams, slots, steps, episode_lengths, stack, n, clip, life_loss, dtype
):
    rng = np.random.default_rng(seed)
    store = FrameStore(streams * slots, streams, PICTURE, dtype)
    oracle = OracleStore(streams, slots)
    play(store, oracle, rng, steps, episode_lengths)
    spec = TransitionSpec(stack, n, 0.9, clip, life_loss)
    expected = {
        t * streams + s: found
        for s in range(streams)
        for t in range(steps)
        if (found := oracle.transition(s, t, stack, n, 0.9, clip, life_loss)) is not None
    }
    sampler = Uniform(store, spec, seed=0)
    assert set(sampler.valid_ids().tolist()) == set(expected)
    if not expected:
        with pytest.raises(ValueError, match="begins a transition"):
            sampler.draw(1)
        return
    ids = np.asarray(list(expected), np.int64)
    batch = TransitionReader(store, spec, len(ids))(ids)
    for i, (obs, action, reward, discount, next_obs) in enumerate(expected.values()):
        np.testing.assert_array_equal(batch.obs[i].numpy(), obs)
        assert batch.action[i].item() == action
        # Both sum in float64 and round once.
        assert batch.reward[i].item() == pytest.approx(reward, abs=1e-6)
        assert batch.discount[i].item() == pytest.approx(discount, abs=1e-7)
        np.testing.assert_array_equal(batch.next_obs[i].numpy(), next_obs)
    assert set(sampler.draw(50).tolist()) <= set(expected)


def filled_store(steps=200, streams=3, slots=40, lengths=(1, 2, 3, 17), device="cpu", seed=5):
    store, oracle = FrameStore(streams * slots, streams, PICTURE, device=device), None
    oracle = OracleStore(streams, slots)
    play(store, oracle, np.random.default_rng(seed), steps, lengths)
    return store


def test_sampling_is_uniform_over_the_valid_transitions():
    sampler = Uniform(filled_store(), TransitionSpec(stack=3, n_step=2), seed=11)
    valid = sampler.valid_ids()
    ids, counts = np.unique(sampler.draw(200 * len(valid)), return_counts=True)
    np.testing.assert_array_equal(ids, np.sort(valid))
    assert stats.chisquare(counts).pvalue > 1e-3


def test_sampling_is_uniform_when_streams_hold_different_numbers_of_frames():
    store = FrameStore(60, 3, (1,), "float32")
    for stream, frames in enumerate((4, 20, 35)):
        for t in range(frames):
            only = np.array([stream])
            store.append(arrival(np.ones((1, 1), np.float32), first=[t == 0]), only)
            store.act(np.zeros(1, int), only)
    sampler = Uniform(store, TransitionSpec(stack=1), seed=3)
    valid = sampler.valid_ids()
    assert len(valid) == 3 + 19 + 19  # the ring of 20 holds 20 frames, the newest has no successor
    _, counts = np.unique(sampler.draw(300 * len(valid)), return_counts=True)
    assert len(counts) == len(valid)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_a_store_with_one_valid_transition_yields_it():
    store = FrameStore(40, 1, (1,), "float32")
    # Episodes of one observation begin no transition at all; one among them has two.
    for t in range(39):
        store.append(arrival(np.full((1, 1), t, np.float32), first=[t != 20], terminated=[t != 19]))
        store.act(np.array([4]))
    ids = Uniform(store, TransitionSpec(stack=1), seed=0).draw(3)
    assert ids.tolist() == [19, 19, 19]


def test_the_capacity_is_never_less_than_asked_for():
    store = FrameStore(100, streams=7)
    assert store.capacity == 105


def test_a_transition_of_atari_costs_at_most_7200_bytes():
    assert FrameStore(1000, streams=8).bytes_per_frame <= 7200


def test_truncation_bootstraps_from_the_final_frame():
    store = FrameStore(20, 1, (1,), "float32")
    for t in range(4):
        store.append(
            arrival(
                np.full((1, 1), t + 1.0, np.float32),
                reward=np.ones(1, np.float32), first=[t == 0], truncated=[t == 3],
            )
        )  # fmt: skip
        store.act(np.zeros(1, int))
    store.append(arrival(np.full((1, 1), 50, np.float32), first=[True]))
    batch = TransitionReader(store, TransitionSpec(stack=1, n_step=5, gamma=0.5), 3)(
        np.array([0, 1, 2])
    )
    assert batch.next_obs.flatten().tolist() == [4.0, 4.0, 4.0]
    assert batch.discount.tolist() == [0.125, 0.25, 0.5]
    assert batch.reward.tolist() == [1.75, 1.5, 1.0]


def test_a_life_lost_ends_the_return_only_for_a_learner_that_asks_for_it():
    store = FrameStore(20, 1, (1,), "float32")
    for t in range(6):
        store.append(
            arrival(
                np.full((1, 1), t + 1.0, np.float32), reward=np.ones(1, np.float32),
                first=[t == 0], life_lost=[t == 2],
            )
        )  # fmt: skip
        store.act(np.zeros(1, int))
    ids = np.array([0])
    ends = TransitionReader(store, TransitionSpec(2, 4, 0.5, life_loss_terminal=True), 1)(ids)
    goes_on = TransitionReader(store, TransitionSpec(2, 4, 0.5), 1)(ids)
    assert (ends.discount.item(), ends.reward.item()) == (0.0, 1.5)
    assert (goes_on.discount.item(), goes_on.reward.item()) == (0.0625, 1.875)
    # The game goes on, so the stack after a lost life reaches back across it.
    after = TransitionReader(store, TransitionSpec(3, 1, 0.5, life_loss_terminal=True), 1)
    assert after(np.array([3])).obs.flatten().tolist() == [2.0, 3.0, 4.0]


def test_a_reset_in_the_middle_truncates_and_is_no_transition():
    store = FrameStore(20, 1, (1,), "float32")
    for first in (True, False, True, False):
        store.append(arrival(np.ones((1, 1), np.float32), first=[first]))
        store.act(np.zeros(1, int))
    sampler = Uniform(store, TransitionSpec(stack=1), seed=0)
    assert sampler.valid_ids().tolist() == [0, 2]
    store.end_episodes()
    store.append(arrival(np.ones((1, 1), np.float32), first=[True]))
    assert sampler.valid_ids().tolist() == [0, 2]


def test_a_frame_that_continues_no_episode_is_refused():
    store = FrameStore(20, 1, (1,), "float32")
    frame = np.ones((1, 1), np.float32)
    with pytest.raises(ValueError, match="continues no episode"):
        store.append(arrival(frame))
    store.append(arrival(frame, first=[True], terminated=[True]))
    with pytest.raises(ValueError, match="continues no episode"):
        store.append(arrival(frame))
    assert len(store) == 1


def test_frames_of_another_shape_or_dtype_are_refused():
    store = FrameStore(20, 1, (1, 4, 4))
    with pytest.raises(ValueError, match=r"expected uint8 \[1, 1, 4, 4\]"):
        store.append(arrival(np.zeros((1, 1, 4, 5), np.uint8), first=[True]))
    with pytest.raises(ValueError, match="frames are float64"):
        store.append(arrival(np.zeros((1, 1, 4, 4)), first=[True]))


def test_arrivals_of_another_length_and_streams_that_are_not_there_are_refused():
    store = FrameStore(20, 2, (1,), "float32")
    frames = np.ones((2, 1), np.float32)
    with pytest.raises(ValueError, match="reward has 3 rows, expected 2"):
        store.append(arrival(frames, first=[True, True], reward=np.zeros(3, np.float32)))
    with pytest.raises(ValueError, match="first has 1 rows, expected 2"):
        store.append(arrival(frames, first=[True]))
    with pytest.raises(ValueError, match="no stream 2"):
        store.append(arrival(frames, first=[True, True]), np.array([0, 2]))
    assert len(store) == 0
    store.append(arrival(frames, first=[True, True]))
    with pytest.raises(ValueError, match="actions has 3 rows, expected 2"):
        store.act(np.zeros(3, int))


def test_a_final_frame_keeps_its_columns_but_gets_no_action():
    store = FrameStore(20, 1, (1,), "float32", {"value": Column()})
    for t in range(2):
        store.append(arrival(np.ones((1, 1), np.float32), first=[t == 0], truncated=[t == 1]))
        store.act(np.array([3]), value=np.array([t + 0.5]))
    assert store.action[0, :2].tolist() == [3, -1]
    assert store.extra["value"][0, :2].tolist() == [0.5, 1.5]


def test_an_overwritten_id_is_refused():
    store = filled_store()
    with pytest.raises(IndexError, match="id 0 begins no valid transition"):
        TransitionReader(store, TransitionSpec(stack=1), 1)(np.array([0]))


def test_the_oldest_transition_of_the_longest_window_is_whole():
    store = FrameStore(7, 1, (1,), "float32")
    for t in range(20):
        store.append(arrival(np.full((1, 1), t, np.float32), first=[t == 0]))
        store.act(np.zeros(1, int))
    batch = Uniform(store, TransitionSpec(stack=4, n_step=3), seed=0).sample(1)
    assert batch.obs.tolist() == [[13, 14, 15, 16]] and batch.next_obs.tolist() == [
        [16, 17, 18, 19]
    ]
    assert store.latest(7).tolist() == [[13, 14, 15, 16, 17, 18, 19]]


@pytest.mark.parametrize("kind", [Uniform, Prioritized])
@pytest.mark.parametrize(("stack", "n_step"), [(4, 3), (6, 1), (1, 6)])
def test_a_transition_that_cannot_fit_the_ring_is_refused_at_once(kind, stack, n_step):
    with pytest.raises(ValueError, match=f"stack={stack} and n_step={n_step} do not fit .* of 6"):
        kind(FrameStore(6, 1), TransitionSpec(stack, n_step), seed=0)


@pytest.mark.parametrize("stack", [-1, 0, 41])
def test_a_policy_cannot_ask_for_a_stack_that_no_ring_holds(stack):
    with pytest.raises(ValueError, match=rf"stack={stack} has to lie in 1\.\.40"):
        filled_store().latest(stack)


@pytest.mark.parametrize("batch_size", [0, -1])
@pytest.mark.parametrize("kind", [Uniform, Prioritized])
def test_an_empty_batch_is_refused(kind, batch_size):
    with pytest.raises(ValueError, match=f"batch_size={batch_size} has to be 1 or more"):
        kind(filled_store(), TransitionSpec(), seed=0).sample(batch_size)


def test_sizes_that_make_no_store_are_refused():
    for capacity, streams in ((3, 2), (0, 1), (-5, 1), (10, 0)):
        with pytest.raises(ValueError, match="too small"):
            FrameStore(capacity, streams)
    for shape in ((), (1, 0, 4), (1, -84, 84)):
        with pytest.raises(ValueError, match=r"frame_shape=.* has to be sizes of 1 or more"):
            FrameStore(10, 1, shape)
    with pytest.raises(ValueError, match="frames are uint8 or float32, not 'int64'"):
        FrameStore(10, 1, (1,), "int64")


def test_an_empty_stream_has_no_newest_stack():
    store = FrameStore(20, 2, (1,), "float32")
    store.append(arrival(np.ones((1, 1), np.float32), first=[True]), np.array([0]))
    with pytest.raises(ValueError, match="stream 1 holds no frame yet"):
        store.latest()


def test_a_batch_is_reused_by_the_next_draw_and_a_clone_is_not():
    sampler = Uniform(filled_store(), TransitionSpec(stack=2), seed=0)
    batch = sampler.sample(16)
    kept, before = batch.clone(), batch.obs.clone()
    assert sampler.sample(16).obs.data_ptr() == batch.obs.data_ptr()
    assert not torch.equal(batch.obs, before)
    assert torch.equal(kept.obs, before)


def test_declared_columns_are_kept_beside_their_frames():
    columns = {"log_probability": Column(), "state": Column((2,), "float32")}
    store = FrameStore(8, 2, (1,), "float32", columns)
    for t in range(3):
        store.append(arrival(np.ones((2, 1), np.float32), first=[t == 0] * 2))
        store.act(np.zeros(2, int), log_probability=np.array([-t, -2.0 * t]), state=np.ones((2, 2)))
    assert store.extra["log_probability"][:, :3].tolist() == [[0, -1, -2], [0, -2, -4]]
    assert store.extra["state"].shape == (2, 4, 2)


@pytest.mark.parametrize("steps", [15, 200])
def test_a_restored_store_and_sampler_draw_the_same_batches(steps):
    store = filled_store(steps)
    sampler = Uniform(store, TransitionSpec(stack=3, n_step=3), seed=4)
    sampler.draw(100)
    copy = FrameStore(store.capacity, store.streams, PICTURE)
    copy.load_state_dict(store.state_dict())
    twin = Uniform(copy, sampler.spec, seed=99)
    twin.load_state_dict(sampler.state_dict())
    for _ in range(50):
        ours, theirs = sampler.sample(20), twin.sample(20)
        for name in ("obs", "action", "reward", "discount", "next_obs", "weight", "index"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name)), name


@pytest.mark.parametrize(
    ("other", "field"),
    [
        ({"streams": 2}, "streams"),
        ({"frame_shape": (2, 3, 6)}, "frame_shape"),
        ({"frame_dtype": "float32"}, "frame_dtype"),
        ({"capacity": 240}, "slots"),
        ({"columns": {"value": Column()}}, "columns"),
    ],
)
def test_a_state_of_another_layout_is_refused_by_field(other, field):
    store = filled_store()
    settings = {"capacity": 120, "streams": 3, "frame_shape": PICTURE, **other}
    with pytest.raises(ValueError, match=f"^{field}:"):
        FrameStore(**settings).load_state_dict(store.state_dict())


@pytest.mark.parametrize("field", ["layout", "columns", "frames", "head", "action"])
def test_a_state_that_lacks_something_is_refused_by_field_and_changes_nothing(field):
    store, other = filled_store(), filled_store(seed=6)
    state = store.state_dict()
    (state if field in state else state["columns"]).pop(field)
    before = other.frames.clone(), other.reward.copy()
    with pytest.raises(ValueError, match=f"^{field}: missing"):
        other.load_state_dict(state)
    assert torch.equal(other.frames, before[0]) and (other.reward == before[1]).all()


@pytest.mark.gpu
@pytest.mark.parametrize("n", [1, 3])
def test_the_gpu_holds_the_same_batches_bit_for_bit(n):
    host, device = filled_store(), filled_store(device="cuda")
    spec = TransitionSpec(stack=4, n_step=n)
    ours, theirs = Uniform(host, spec, seed=8).sample(64), Uniform(device, spec, seed=8).sample(64)
    for name in ("obs", "action", "reward", "discount", "next_obs", "weight", "index"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name).cpu()), name


@pytest.mark.parametrize("n", [1, 3])
def test_augmented_transitions_are_views_of_the_plain_ones_each_with_its_own_choice(n):
    store, spec = filled_store(), TransitionSpec(stack=3, n_step=n)
    plain = Uniform(store, spec, seed=8).sample(64).clone()
    augmentation = Augmentation(shift=1, flip=True)
    batch = Uniform(store, spec, seed=8, augmentation=augmentation).sample(64)
    assert torch.equal(batch.index, plain.index) and torch.equal(batch.reward, plain.reward)
    twin = Augmenter(augmentation, PICTURE, seed=8)
    assert torch.equal(batch.obs, augment_frames(plain.obs, twin.choices(64)))
    assert torch.equal(batch.next_obs, augment_frames(plain.next_obs, twin.choices(64)))


def test_a_restored_augmenting_sampler_makes_the_same_choices():
    store, spec = filled_store(), TransitionSpec(stack=2)
    ours, theirs = (Uniform(store, spec, seed, Augmentation(shift=1)) for seed in (1, 2))
    ours.sample(10)
    theirs.load_state_dict(ours.state_dict())
    assert torch.equal(ours.sample(30).obs, theirs.sample(30).obs)
    with pytest.raises(ValueError, match="generator: None"):
        theirs.load_state_dict(Uniform(store, spec, 1).state_dict())
