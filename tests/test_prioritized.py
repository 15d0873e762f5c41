"""Prioritised sampling: which transitions have a priority, which, and what is drawn by it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from store_oracle import OracleStore
from test_store import PICTURE, arrival, filled_store, play

from playfield.buffers.augmentation import Augmentation
from playfield.buffers.batch import Batch
from playfield.buffers.prioritized import Prioritized
from playfield.buffers.priority_sums import KernelSums, TorchSums
from playfield.buffers.store import FrameStore
from playfield.buffers.transitions import TransitionReader, TransitionSpec
from playfield.buffers.uniform import Uniform

BOTH = pytest.mark.parametrize("sums", [KernelSums, TorchSums])
ONE = TransitionSpec(stack=1)


class OraclePriorities:
    """A priority for each valid id, in a dict, and nothing else."""

    def __init__(self, store, spec, epsilon):
        self.uniform, self.epsilon = Uniform(store, spec, seed=0), epsilon
        self.most, self.of = 1.0, {}

    def catch_up(self):
        self.of = {i: self.of.get(i, self.most) for i in self.uniform.valid_ids().tolist()}

    def update(self, ids, priorities):
        self.catch_up()
        last = {i: p + self.epsilon for i, p in zip(ids, priorities, strict=True) if i in self.of}
        self.of.update(last)
        self.most = max(self.most, *last.values()) if last else self.most
        return len(last)


def leaves_by_id(sampler):
    """Every positive leaf under the id of the frame that lies there now."""
    store, found = sampler.store, {}
    leaves = sampler.sums.leaves[: store.capacity].numpy().reshape(store.streams, store.slots)
    for s, slot in np.argwhere(leaves > 0):
        times = np.arange(max(0, store.head[s] - store.slots), store.head[s])
        (time,) = times[times % store.slots == slot]
        found[int(time * store.streams + s)] = float(leaves[s, slot])
    return found


def line(steps, capacity=40):
    """One stream, one episode, frame t holding t."""
    store = FrameStore(capacity, 1, (1,), "float32")
    extend(store, steps)
    return store


def extend(store, steps):
    for _ in range(steps):
        time = int(store.head[0])
        store.append(arrival(np.full((1, 1), time, np.float32), first=[time == 0]))
        store.act(np.zeros(1, int))


# --- which have a priority, and which one ---------------------------------------------------------


@settings(max_examples=80)
@given(
    seed=st.integers(0, 2**32 - 1),
    streams=st.integers(1, 3),
    slots=st.integers(10, 24),
    # Between two looks: nothing, some steps, more than a whole ring.
    chunks=st.lists(st.sampled_from([0, 1, 1, 3, 11, 60]), min_size=1, max_size=7),
    episode_lengths=st.lists(st.sampled_from([1, 2, 3, 4, 9, 30]), min_size=1, max_size=4),
    stack=st.integers(1, 4),
    n=st.integers(1, 5),
    life_loss=st.booleans(),
    alpha=st.sampled_from([0.0, 0.5, 0.6, 1.0]),
)
def test_the_leaves_are_the_priorities_of_the_valid_transitions(
    seed, streams, slots, chunks, episode_lengths, stack, n, life_loss, alpha
):
    rng = np.random.default_rng(seed)
    store, frames = FrameStore(streams * slots, streams, PICTURE), OracleStore(streams, slots)
    spec = TransitionSpec(stack, n, life_loss_terminal=life_loss)
    oracle = OraclePriorities(store, spec, 1e-3)
    ours, theirs = (
        Prioritized(store, spec, 5, alpha=alpha, epsilon=1e-3, sums=sums)
        for sums in (KernelSums, TorchSums)
    )
    for steps in chunks:
        play(store, frames, rng, steps, episode_lengths)
        store.end_episodes()  # `play` begins anew, and what was open becomes complete
        most = int(store.head.max()) * streams + 5
        ids = rng.integers(-3, most, 12)  # any: stale, valid, not yet, twice
        priorities = rng.choice([0.0, 0.5, 3.0], 12) * rng.random(12)
        taken = oracle.update(ids.tolist(), priorities.tolist())
        assert ours.update(ids, priorities) == theirs.update(ids, priorities) == taken
        assert ours.max_priority.item() == theirs.max_priority.item() == oracle.most
        expected = {i: p**alpha for i, p in oracle.of.items()}
        assert leaves_by_id(ours) == pytest.approx(expected, rel=1e-6)
        assert torch.equal(ours.sums.leaves, theirs.sums.leaves)
        if not expected:
            for sampler in (ours, theirs):
                with pytest.raises(ValueError, match="begins a transition"):
                    sampler.draw(1)
            continue
        drawn = ours.sample(7, beta=0.5), theirs.sample(7, beta=0.5)
        for field in fields(Batch):
            assert torch.equal(*(getattr(batch, field.name) for batch in drawn)), field.name
        assert set(drawn[0].index.tolist()) <= set(expected)


def test_a_transition_that_becomes_complete_has_the_largest_priority_so_far():
    store = line(4)
    sampler = Prioritized(store, ONE, 0, alpha=0.5, epsilon=0.0)
    sampler.draw(1)
    assert leaves_by_id(sampler) == {0: 1.0, 1: 1.0, 2: 1.0}
    sampler.update([0, 1], np.array([16.0, 4.0]))
    extend(store, 1)
    sampler.draw(1)
    # The maximum is raw: 16 to the power 1/2, not that of 4 once more.
    assert leaves_by_id(sampler) == {0: 4.0, 1: 2.0, 2: 1.0, 3: 4.0}
    sampler.update([0], np.array([1.0]))
    extend(store, 1)
    sampler.draw(1)
    assert leaves_by_id(sampler)[4] == 4.0  # of all time, not of what is stored now


def test_an_incomplete_transition_has_no_priority_and_one_at_an_episodes_end_has():
    store = line(5)
    sampler = Prioritized(store, TransitionSpec(stack=1, n_step=3), 0)
    sampler.draw(1)
    assert set(leaves_by_id(sampler)) == {0, 1}
    store.end_episodes()
    sampler.draw(1)
    assert set(leaves_by_id(sampler)) == {0, 1, 2, 3}


def test_the_priority_of_an_overwritten_transition_is_gone_and_a_late_update_is_dropped():
    store = line(9, capacity=6)
    sampler = Prioritized(store, ONE, 0, epsilon=0.0)
    sampler.update([3, 4], np.array([100.0, 100.0]))
    extend(store, 2)
    # The rows of times 3 and 4 hold times 9 and 10 now: one new, one incomplete.
    assert sampler.update([3, 4, 2, 10, 11, -1], np.full(6, 1e6)) == 0
    assert sampler.max_priority.item() == 100
    assert leaves_by_id(sampler) == pytest.approx(
        {t: (100 if t >= 8 else 1) ** 0.6 for t in range(5, 10)}
    )


def test_of_equal_ids_in_one_update_the_last_counts():
    sampler = Prioritized(line(5), ONE, 0, alpha=1.0, epsilon=0.0)
    assert sampler.update([2, 0, 2, 2], np.array([50.0, 5.0, 60.0, 7.0])) == 2
    assert leaves_by_id(sampler) == {0: 5.0, 1: 1.0, 2: 7.0, 3: 1.0}
    assert sampler.max_priority.item() == 7.0


def test_epsilon_keeps_a_transition_without_error_alive():
    sampler = Prioritized(line(3), ONE, 0, alpha=0.5, epsilon=1e-4)
    sampler.update([0], torch.zeros(1))
    assert leaves_by_id(sampler)[0] == pytest.approx(1e-2)
    sampler.update([0], torch.full((1,), 8.0))
    assert sampler.max_priority.item() == 8.0 + 1e-4


@pytest.mark.parametrize("tiny", [1e-300, 1e-42])
def test_a_positive_priority_stays_positive_however_small(tiny):
    sampler = Prioritized(line(3), ONE, 0, alpha=1.0, epsilon=0.0)
    sampler.update([0, 1], np.array([tiny, 0.0]))
    assert set(leaves_by_id(sampler)) == {0}


# --- what is drawn --------------------------------------------------------------------------------


@BOTH
def test_transitions_are_drawn_in_proportion_to_priority_to_the_power_alpha(sums):
    store, rng = filled_store(), np.random.default_rng(2)
    sampler = Prioritized(store, TransitionSpec(stack=3, n_step=2), 11, alpha=0.7, sums=sums)
    valid = Uniform(store, sampler.spec, 0).valid_ids()
    priorities = rng.exponential(1, len(valid))
    assert sampler.update(valid, priorities) == len(valid)
    chances = (priorities + 1e-6) ** 0.7
    drawn = np.concatenate([sampler.draw(32) for _ in range(1500)])
    ids, counts = np.unique(drawn, return_counts=True)
    np.testing.assert_array_equal(ids, np.sort(valid))
    chances = chances[np.argsort(valid)] / chances.sum()
    assert stats.chisquare(counts, chances * len(drawn)).pvalue > 1e-3


def test_a_transition_of_priority_zero_is_never_drawn():
    store = filled_store()
    sampler = Prioritized(store, TransitionSpec(stack=2), 3, epsilon=0.0)
    valid = Uniform(store, sampler.spec, 0).valid_ids()
    alive = valid[::7]
    sampler.update(valid, np.isin(valid, alive) * 0.3)
    drawn = np.concatenate([sampler.draw(1000) for _ in range(100)])
    assert set(drawn.tolist()) == set(alive.tolist())


@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_if_every_priority_is_zero_the_draw_is_uniform(alpha):
    store = filled_store()
    sampler = Prioritized(store, TransitionSpec(stack=2), 3, alpha=alpha, epsilon=0.0)
    valid = Uniform(store, sampler.spec, 0).valid_ids()
    sampler.update(valid, np.zeros(len(valid)))
    batches = [sampler.sample(500, beta=0.5).clone() for _ in range(60)]
    ids, counts = np.unique(torch.cat([b.index for b in batches]), return_counts=True)
    np.testing.assert_array_equal(ids, np.sort(valid))
    assert stats.chisquare(counts).pvalue > 1e-3
    assert all((b.weight == 1).all() for b in batches)


def test_alpha_zero_is_uniform_whatever_the_priorities():
    store = filled_store()
    sampler = Prioritized(store, TransitionSpec(stack=2), 3, alpha=0.0)
    valid = Uniform(store, sampler.spec, 0).valid_ids()
    sampler.update(valid, np.random.default_rng(0).exponential(9, len(valid)))
    assert set(leaves_by_id(sampler).values()) == {1.0}
    assert (sampler.sample(64, beta=1.0).weight == 1).all()


@BOTH
@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_weights_are_importance_weights_over_their_largest(sums, beta):
    store, rng = filled_store(), np.random.default_rng(8)
    sampler = Prioritized(store, TransitionSpec(stack=2), 3, alpha=0.6, sums=sums)
    valid = Uniform(store, sampler.spec, 0).valid_ids()
    sampler.update(valid, rng.exponential(1, len(valid)))
    leaf = leaves_by_id(sampler)
    batch = sampler.sample(50, beta)
    chance = np.array([leaf[i] for i in batch.index.tolist()]) / sum(leaf.values())
    weights = (len(leaf) * chance) ** -beta
    assert batch.weight.dtype == torch.float32
    np.testing.assert_allclose(batch.weight, weights / weights.max(), rtol=1e-6)
    assert (batch.weight == 1).all() == (beta == 0)


def test_a_batch_is_what_its_ids_say():
    store = filled_store()
    sampler = Prioritized(store, TransitionSpec(stack=3, n_step=3), 1)
    batch = sampler.sample(40)
    expected = TransitionReader(store, sampler.spec, 40)(batch.index.numpy())
    for name in ("obs", "action", "reward", "discount", "next_obs"):
        assert torch.equal(getattr(batch, name), getattr(expected, name)), name
    assert sampler.sample(40).obs.data_ptr() == batch.obs.data_ptr()


def test_augmentation_changes_the_observations_and_nothing_else():
    store = filled_store()
    plain, views = (
        Prioritized(store, TransitionSpec(stack=2), 1, augmentation=a).sample(40)
        for a in (None, Augmentation(crop=(2, 4)))
    )
    assert torch.equal(plain.index, views.index)
    assert plain.obs.shape == (40, 4, 3, 5) and views.obs.shape == (40, 4, 2, 4)


def test_what_a_writer_overwrites_under_a_sample_is_drawn_again(monkeypatch):
    store = line(20, capacity=16)
    sampler = Prioritized(store, ONE, 0, alpha=1.0, epsilon=0.0)
    sampler.update(np.arange(4, 19), np.arange(4.0, 19.0))
    read, calls = TransitionReader.read, []

    def interrupted(reader):
        batch = read(reader)
        calls.append(reader.ids.copy())
        if len(calls) == 1:
            extend(store, 8)
        return batch

    monkeypatch.setattr(TransitionReader, "read", interrupted)
    batch = sampler.sample(64, beta=1.0)
    assert len(calls) == 2
    kept = calls[0] >= 12  # times 4..11 were overwritten
    assert 0 < kept.sum() < 64
    ids = batch.index.numpy()
    np.testing.assert_array_equal(ids[kept], calls[0][kept])
    assert (ids >= 12).all()
    assert batch.obs.flatten().tolist() == ids.tolist()
    leaf = leaves_by_id(sampler)
    leaves = np.array([leaf[i] for i in ids.tolist()])
    np.testing.assert_allclose(batch.weight, leaves.min() / leaves, rtol=1e-6)


# --- misuse ---------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("bad", [-1e-9, np.nan, np.inf])
def test_a_priority_that_is_none_is_refused_and_nothing_changes(sums, bad):
    sampler = Prioritized(line(5), ONE, 0, sums=sums)
    sampler.draw(1)
    before = leaves_by_id(sampler)
    with pytest.raises(ValueError, match=r"priorities: number 1 is .*, expected 0 or more"):
        sampler.update([0, 1], np.array([3.0, bad]))
    assert leaves_by_id(sampler) == before
    assert sampler.max_priority.item() == 1


def test_ids_and_priorities_of_other_shapes_are_refused():
    sampler = Prioritized(line(5), ONE, 0)
    for priorities in (np.ones(3), np.ones((2, 1))):
        with pytest.raises(ValueError, match="ids and priorities: shapes"):
            sampler.update([0, 1], priorities)
    assert sampler.update([], np.ones(0)) == 0


def test_a_store_without_a_transition_has_nothing_to_draw():
    sampler = Prioritized(line(1), ONE, 0)
    with pytest.raises(ValueError, match="none of the 1 stored frames begins a transition"):
        sampler.sample(4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": -0.1}, "alpha=-0.1"),
        ({"alpha": 1.5}, "alpha=1.5"),
        ({"alpha": float("nan")}, "alpha=nan"),
        ({"epsilon": -1.0}, "epsilon=-1.0"),
        ({"epsilon": float("inf")}, "epsilon=inf"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        Prioritized(line(3), ONE, 0, **settings)


@pytest.mark.parametrize("beta", [-0.1, 1.1, float("nan")])
def test_a_beta_out_of_range_is_refused(beta):
    with pytest.raises(ValueError, match="beta="):
        Prioritized(line(3), ONE, 0).sample(4, beta)


# --- state ----------------------------------------------------------------------------------------


def played_sampler(sums=None, steps=150, augmentation=None):
    """A sampler with all sorts of priorities, whose store has moved on since."""
    store = filled_store(steps)
    spec = TransitionSpec(stack=3, n_step=3)
    sampler = Prioritized(store, spec, 4, augmentation=augmentation, sums=sums)
    rng = np.random.default_rng(3)
    for _ in range(20):
        batch = sampler.sample(16)
        sampler.update(batch.index, torch.from_numpy(rng.exponential(2, 16)))
    play(store, OracleStore(store.streams, store.slots), rng, 7, [3, 5])
    return sampler


@BOTH
@pytest.mark.parametrize("steps", [15, 150])
@pytest.mark.parametrize("augmentation", [None, Augmentation(shift=1)])
def test_a_restored_sampler_makes_the_same_thousand_draws(sums, steps, augmentation):
    sampler = played_sampler(sums, steps, augmentation)
    copy = FrameStore(sampler.store.capacity, sampler.store.streams, PICTURE)
    twin = Prioritized(copy, sampler.spec, seed=99, augmentation=augmentation, sums=sums)
    twin.load_state_dict(deepcopy(sampler.state_dict()))
    copy.load_state_dict(sampler.store.state_dict())
    rng = np.random.default_rng(6)
    for _ in range(50):
        ours, theirs = sampler.sample(20, 0.7), twin.sample(20, 0.7)
        assert torch.equal(ours.index, theirs.index)
        assert torch.equal(ours.weight, theirs.weight)
        assert torch.equal(ours.obs, theirs.obs)
        priorities = rng.exponential(3, 20)
        assert sampler.update(ours.index, priorities) == twin.update(theirs.index, priorities)
    assert torch.equal(sampler.sums.leaves, twin.sums.leaves)


def test_a_state_is_no_view_of_the_sampler():
    sampler = played_sampler()
    state = sampler.state_dict()
    kept = deepcopy(state)
    sampler.update(sampler.draw(8), np.full(8, 77.0))
    assert torch.equal(state["leaves"], kept["leaves"])
    assert state["settled"].tolist() == kept["settled"].tolist()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("alpha", 0.5),
        ("leaves", torch.zeros(119)),
        ("leaves", torch.zeros(120, dtype=torch.float64)),
        ("leaves", torch.full((120,), -1.0)),
        ("leaves", torch.full((120,), np.nan)),
        ("settled", np.zeros(2, np.int64)),
        ("settled", np.zeros(3, np.int32)),
        ("settled", np.full(3, -1)),
        ("max_priority", 0.5),
        ("max_priority", np.inf),
        ("max_priority", "1"),
        ("generator", {"generator": "mt19937"}),
    ],
)
def test_a_state_that_does_not_fit_is_refused_by_field_and_not_taken(field, value):
    sampler = played_sampler()
    before, state = sampler.state_dict(), played_sampler(steps=60).state_dict()
    with pytest.raises(ValueError, match=f"^{field}:"):
        sampler.load_state_dict({**state, field: value})
    with pytest.raises(ValueError, match=f"^{field}: missing"):
        sampler.load_state_dict({name: v for name, v in state.items() if name != field})
    after = sampler.state_dict()
    assert torch.equal(after.pop("leaves"), before.pop("leaves"))
    assert after.pop("settled").tolist() == before.pop("settled").tolist()
    assert after == before


def test_a_state_of_a_store_that_got_further_is_refused_at_the_draw():
    sampler = played_sampler()
    twin = Prioritized(filled_store(15), sampler.spec, 0)
    twin.load_state_dict(sampler.state_dict())
    with pytest.raises(ValueError, match="settled: stream 0 was followed up to time"):
        twin.draw(1)


# --- GPU ------------------------------------------------------------------------------------------


@pytest.mark.gpu
def test_the_gpu_draws_the_same_batches_after_the_same_updates():
    spec, rng = TransitionSpec(stack=4, n_step=3), np.random.default_rng(1)
    ours, theirs = (Prioritized(filled_store(device=d), spec, 8) for d in ("cpu", "cuda"))
    for _ in range(30):
        here, there = ours.sample(64, 0.4), theirs.sample(64, 0.4)
        for field in fields(Batch):
            a, b = getattr(here, field.name), getattr(there, field.name).cpu()
            if field.name == "weight":  # pow of a GPU may differ in the last bit of float64
                torch.testing.assert_close(a, b, rtol=1e-6, atol=0)
            else:
                assert torch.equal(a, b), field.name
        td_error = torch.from_numpy(rng.normal(0, 1, 64)).abs().float()
        taken = theirs.update(there.index, td_error.cuda())
        assert taken == ours.update(here.index, td_error)


@pytest.mark.gpu
def test_an_update_on_the_gpu_does_not_wait_for_it():
    sampler = Prioritized(filled_store(device="cuda"), TransitionSpec(stack=2), 0)
    batch = sampler.sample(32)
    td_error = torch.rand(32, device="cuda")
    sampler.update(batch.index, td_error)
    torch.cuda.set_sync_debug_mode("error")
    try:
        sampler.update(batch.index, td_error * np.nan)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert set(leaves_by_id_on_host(sampler, batch.index)) == {np.float32(1e-6**0.6)}


def leaves_by_id_on_host(sampler, ids):
    store = sampler.store
    rows = ids % store.streams * store.slots + ids // store.streams % store.slots
    return sampler.sums.leaves.cpu()[rows].numpy()
