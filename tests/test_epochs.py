"""Epochs: each item once, from three numbers, whoever shares the work and wherever it goes on."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from test_store import arrival

from playfield._ext import shuffle
from playfield.buffers.augmentation import Augmentation
from playfield.buffers.epochs import Epochs, FrameEpochs
from playfield.buffers.store import Column, FrameStore

MASK = (1 << 64) - 1


def splitmix64(seed, number):
    """Output `number` of the generator of Steele, Lea and Flood 2014, in whole numbers."""
    z = (seed + (number + 1) * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def oracle_permutation(seed, epoch, count):
    """Knuth's algorithm P, its numbers from a stream that the epoch's number seeds."""
    order, stream = list(range(count)), splitmix64(seed, epoch)
    for used, i in enumerate(range(count - 1, 0, -1)):
        j = splitmix64(stream, used) * (i + 1) >> 64
        order[i], order[j] = order[j], order[i]
    return order


def permutation(seed, epoch, count):
    out = np.empty(count, np.int64)
    shuffle.permutation(seed, epoch, out)
    return out


# --- the order ------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, MASK), epoch=st.integers(0, 2**40), count=st.integers(1, 300))
def test_the_order_is_the_shuffle_of_the_textbook(seed, epoch, count):
    expected = oracle_permutation(seed, epoch, count)
    assert sorted(expected) == list(range(count))
    assert permutation(seed, epoch, count).tolist() == expected


def test_all_orders_are_equally_likely():
    orders = np.stack([permutation(5, epoch, 4) for epoch in range(24 * 200)])
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3


def test_neighbouring_epochs_and_seeds_have_unrelated_orders():
    orders = [permutation(seed, epoch, 2000) for seed in range(3) for epoch in range(3)]
    for i, one in enumerate(orders):
        for other in orders[:i]:
            assert abs(stats.spearmanr(one, other).statistic) < 0.1
            assert (one == other).sum() < 10  # one on average


# --- batches of indices ---------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 60),
    batch_size=st.integers(1, 70),
    ranks=st.integers(1, 5),
    drop_last=st.booleans(),
    seed=st.integers(0, 2**64),
)
def test_an_epoch_holds_each_index_once_however_many_ranks_share_it(
    count, batch_size, ranks, drop_last, seed
):
    ranks = min(ranks, batch_size)
    if drop_last and count < batch_size:
        with pytest.raises(ValueError, match=f"count={count} gives no batch of {batch_size}"):
            Epochs(count, batch_size, seed, drop_last=True)
        return
    alone = Epochs(count, batch_size, seed, drop_last=drop_last)
    shared = [
        Epochs(count, batch_size, seed, rank=rank, ranks=ranks, drop_last=drop_last)
        for rank in range(ranks)
    ]
    orders = []
    for epoch in range(2):
        batches = list(alone)
        assert alone.epoch == epoch + 1
        shares = list(zip(*shared, strict=True))  # every rank takes as many batches as the others
        assert len(batches) == len(shares) == len(alone)
        for batch, parts in zip(batches, shares, strict=True):
            assert np.concatenate(parts).tolist() == batch.tolist()
            sizes = [len(part) for part in parts]
            assert max(sizes) - min(sizes) <= 1
        assert all(len(batch) == batch_size for batch in batches[: -1 if not drop_last else None])
        orders.append(np.concatenate(batches))
        assert len(set(orders[-1].tolist())) == len(orders[-1])
        left_out = count % batch_size if drop_last else 0
        assert len(orders[-1]) == count - left_out
    if count > 20 and not drop_last:
        assert (orders[0] != orders[1]).any()


@pytest.mark.parametrize("stop", [0, 1, 3, 6, 7, 13])
def test_a_restored_state_goes_on_at_the_same_batch_with_any_number_of_ranks(stop):
    whole = Epochs(50, 8, seed=3)
    expected = [whole.indices() for _ in range(20)]
    first = Epochs(50, 8, seed=3, rank=1, ranks=2)
    for _ in range(stop):
        first.indices()
    state = json.loads(json.dumps(first.state_dict()))
    assert set(state) == {"seed", "epoch", "cursor", "count"}
    for ranks in (1, 3):
        again = [Epochs(50, 8, seed=99, rank=rank, ranks=ranks) for rank in range(ranks)]
        for rank in again:
            rank.load_state_dict(state)
        for batch in expected[stop:]:
            assert np.concatenate([rank.indices() for rank in again]).tolist() == batch.tolist()


def test_another_batch_size_goes_on_with_what_is_left_of_the_epoch():
    first, second = Epochs(50, 8, seed=3), Epochs(50, 11, seed=0)
    used = np.concatenate([first.indices(), first.indices()])
    second.load_state_dict(first.state_dict())
    left = np.concatenate(list(second))
    assert sorted([*used, *left]) == list(range(50))
    # One that drops short batches has no batch of 16 left after 40 of 50, and begins anew.
    third = Epochs(50, 16, seed=0, drop_last=True)
    third.load_state_dict({**first.state_dict(), "cursor": 40})
    assert (third.epoch, third.cursor) == (1, 0)


def test_starting_anew_leaves_the_rest_out_and_may_change_the_count():
    epochs = Epochs(10, 4, seed=1)
    epochs.start()
    assert epochs.epoch == 0  # nothing was begun
    epochs.indices()
    epochs.start(25)
    assert (epochs.epoch, epochs.cursor) == (1, 0)
    order = np.concatenate(list(epochs))
    assert order.tolist() == permutation(epochs.seed, 1, 25).tolist()


def test_indices_that_were_given_out_are_the_receivers_own():
    epochs = Epochs(10, 10, seed=1)
    epochs.upcoming()[:] = 0
    assert sorted(epochs.indices()) == list(range(10))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("count", {"count": 0}),
        ("batch_size", {"batch_size": 0}),
        ("batch_size", {"batch_size": 3, "ranks": 4}),
        ("rank", {"rank": 2, "ranks": 2}),
        ("rank", {"rank": -1}),
    ],
)
def test_numbers_that_make_no_epochs_are_refused_by_name(name, changes):
    with pytest.raises(ValueError, match=f"^{name}="):
        Epochs(**{"count": 10, "batch_size": 4, "seed": 0, **changes})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", -1),
        ("seed", 2**64),
        ("epoch", 1.0),
        ("epoch", None),
        ("cursor", 10),
        ("cursor", True),
        ("cursor", -4),
        ("count", 11),
        ("count", "10"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_by_field_and_changes_nothing(field, value):
    epochs = Epochs(10, 4, seed=0)
    epochs.indices()
    before = epochs.state_dict()
    with pytest.raises(ValueError, match=f"^{field}: "):
        epochs.load_state_dict({**before, field: value})
    assert epochs.state_dict() == before


# --- frames of a store ----------------------------------------------------------------------------


def picture_of(number):
    return np.full((1, 2, 3), number % 251, np.uint8)


def add_pictures(store, numbers, streams=None):
    """One-frame episodes, labelled with their number."""
    for number in numbers:
        for s in range(store.streams) if streams is None else streams:
            only = np.array([s])
            frames = picture_of(number + 100 * s)[None]
            step = arrival(frames, first=[True], terminated=[True])
            store.append(step, only)
            store.act(np.zeros(1, int), only, label=np.array([number + 100 * s]))


def data_set(count=20, capacity=20, streams=1, device="cpu"):
    store = FrameStore(
        capacity, streams, (1, 2, 3), columns={"label": Column((), "int64")}, device=device
    )
    add_pictures(store, range(count))
    return store


def check_pictures(batch):
    for frame, label in zip(batch.frames.cpu(), batch.extra["label"].tolist(), strict=True):
        np.testing.assert_array_equal(frame.numpy(), picture_of(label))


@pytest.mark.parametrize("device", ["cpu", "mmap", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_an_epoch_of_a_data_set_shows_each_picture_once_with_its_label(device):
    epochs = FrameEpochs(data_set(device=device), batch_size=6, seed=2)
    for _ in range(2):
        labels, ids = [], []
        for batch in epochs:
            check_pictures(batch)
            labels += batch.extra["label"].tolist()
            ids += batch.index.tolist()
        assert sorted(labels) == list(range(20))
        assert ids == labels  # of one stream, the id is the time
        assert labels != sorted(labels)


def test_frames_of_several_streams_and_of_a_ring_that_has_turned_are_all_there():
    store = data_set(count=0, capacity=30, streams=3)
    add_pictures(store, range(4), streams=[0])
    add_pictures(store, range(25), streams=[2])  # stream 1 stays empty
    seen = []
    for batch in FrameEpochs(store, batch_size=4, seed=0):
        check_pictures(batch)
        seen += batch.extra["label"].tolist()
        times, streams = np.divmod(batch.index.numpy(), 3)
        assert (times + 100 * streams).tolist() == batch.extra["label"].tolist()
    assert sorted(seen) == [*range(4), *range(215, 225)]


def test_shares_of_ranks_are_the_same_batches():
    store = data_set()
    alone = FrameEpochs(store, 7, seed=4)
    ranks = [FrameEpochs(store, 7, seed=4, rank=rank, ranks=3) for rank in range(3)]
    for _ in range(7):  # the third batch of an epoch holds 6, the seventh call is in the third one
        shares = [rank.sample().clone() for rank in ranks]
        whole = alone.sample()
        assert torch.cat([share.frames for share in shares]).equal(whole.frames)
        assert torch.cat([share.index for share in shares]).equal(whole.index)


def test_the_share_of_a_rank_in_a_short_batch_may_be_empty():
    rank = FrameEpochs(data_set(count=5), 4, seed=4, rank=0, ranks=3)
    sizes = [len(batch.frames) for batch in rank]
    assert sizes == [1, 0]


def test_the_items_of_an_epoch_are_those_stored_when_it_begins():
    store = data_set(count=10, capacity=40)
    epochs = FrameEpochs(store, batch_size=4, seed=2)
    add_pictures(store, range(10, 12))  # before the first batch: these count
    seen = epochs.sample().extra["label"].tolist()
    add_pictures(store, range(12, 20))
    seen += [label for batch in epochs for label in batch.extra["label"].tolist()]
    assert sorted(seen) == list(range(12))
    assert sorted(n for b in epochs for n in b.extra["label"].tolist()) == list(range(20))


def test_a_frame_overwritten_before_its_turn_is_an_error_and_the_next_epoch_takes_what_is_there():
    store = data_set(count=20, capacity=20)
    epochs = FrameEpochs(store, batch_size=19, seed=2)
    used = set(epochs.sample().index.tolist())
    (left,) = set(range(20)) - used
    add_pictures(store, range(20, 20 + left))  # up to, but not including, the one that is left
    state = epochs.state_dict()
    add_pictures(store, [20 + left])
    for _ in range(2):
        with pytest.raises(IndexError, match=f"id {left}: .* overwritten"):
            epochs.sample()
    assert epochs.state_dict() == state
    epochs.epochs.start()
    seen = [label for batch in epochs for label in batch.extra["label"].tolist()]
    assert sorted(seen) == list(range(left + 1, left + 21))
    assert epochs.epochs.epoch == 2


def test_a_restored_epoch_goes_on_with_the_same_frames_though_the_store_has_grown():
    store = data_set(count=15, capacity=40)
    whole, first = FrameEpochs(store, 4, seed=6), FrameEpochs(store, 4, seed=6)
    for epochs in (whole, first):
        epochs.sample()
    add_pictures(store, range(15, 22))
    state = json.loads(json.dumps(first.state_dict()))
    assert state == {**whole.epochs.state_dict(), "head": [15]}
    again = FrameEpochs(store, 4, seed=0)
    again.load_state_dict(state)
    for _ in range(12):
        ours, theirs = whole.sample().clone(), again.sample()
        assert ours.index.equal(theirs.index) and ours.frames.equal(theirs.frames)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("head", None),
        ("head", [21]),
        ("head", [-1]),
        ("head", [20, 20]),
        ("head", [20.0]),
        ("head", ["20"]),
        ("count", 19),
        ("cursor", 20),
        ("seed", "1"),
    ],
)
def test_a_state_of_other_frames_is_refused_by_field(field, value):
    epochs = FrameEpochs(data_set(), 6, seed=2)
    before = epochs.state_dict()
    with pytest.raises(ValueError, match=f"^{field}: "):
        epochs.load_state_dict({**before, field: value})
    assert epochs.state_dict() == before


def test_a_batch_lives_in_memory_that_the_next_one_uses_and_a_clone_does_not():
    epochs = FrameEpochs(data_set(), 5, seed=2)
    batch = epochs.sample()
    kept, before = batch.clone(), batch.frames.numpy().copy()
    assert epochs.sample().frames.data_ptr() == batch.frames.data_ptr()
    assert not np.array_equal(batch.frames.numpy(), before)
    np.testing.assert_array_equal(kept.frames.numpy(), before)
    check_pictures(kept)


def test_random_views_are_the_same_for_any_ranks_and_after_a_restart_and_new_in_each_epoch():
    store = FrameStore(12, 1, (1, 9, 9))
    noise = np.random.default_rng(0).integers(0, 256, (1, 1, 9, 9), np.uint8)
    for _ in range(12):  # one picture, so that only its views differ
        store.append(arrival(noise, first=[True], terminated=[True]))
    many = Augmentation(shift=3, flip=True)
    alone = FrameEpochs(store, 5, seed=4, augmentation=many)
    ranks = [
        FrameEpochs(store, 5, seed=4, rank=rank, ranks=2, augmentation=many) for rank in range(2)
    ]
    views = []
    for _ in range(6):
        again = FrameEpochs(store, 5, seed=0, augmentation=many)
        again.load_state_dict(alone.state_dict())
        views.append(alone.sample().frames.clone())
        assert views[-1].equal(again.sample().frames)
        assert views[-1].equal(torch.cat([rank.sample().frames for rank in ranks]))
    by_epoch = [{v.numpy().tobytes() for v in torch.cat(views[i : i + 3])} for i in (0, 3)]
    assert min(map(len, by_epoch)) > 8
    assert by_epoch[0] != by_epoch[1]


def test_an_empty_store_has_no_epochs():
    with pytest.raises(ValueError, match="count=0"):
        FrameEpochs(data_set(count=0), 4, seed=0)
