"""Windows of steps against the naive oracle, and the facts one by one."""

from __future__ import annotations

import threading
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from store_oracle import OracleStore
from test_store import PICTURE, arrival, play

from playfield.buffers import sequences
from playfield.buffers.augmentation import Augmentation
from playfield.buffers.sequences import SequenceReader, Sequences, SequenceSpec
from playfield.buffers.store import Column, FrameStore


def ids_column(store):
    """Fill the column "id" with the id of the frame that it stands beside."""
    for stream in range(store.streams):
        times = np.arange(max(0, store.head[stream] - store.slots), store.head[stream])
        store.extra["id"][stream, times % store.slots] = times * store.streams + stream


def lone_episodes(lengths, slots=200, ends="terminated"):
    """One stream of vectors `[t + 1]` at time t, reward t + 1, episodes of so many steps.

    The last one goes on.
    """
    store = FrameStore(slots, 1, (1,), "float32")
    time = 0
    for episode, length in enumerate(lengths):
        for step in range(length + 1):
            end = step == length and episode < len(lengths) - 1
            time += 1
            store.append(
                arrival(
                    np.full((1, 1), time, np.float32), reward=np.full(1, time, np.float32),
                    first=[step == 0], **{ends: [end]},
                )
            )  # fmt: skip
            store.act(np.full(1, step))
    return store


def filled_store(steps=200, streams=3, slots=60, lengths=(1, 2, 3, 17, 40), device="cpu", seed=5):
    store = FrameStore(streams * slots, streams, PICTURE, columns={"id": Column()}, device=device)
    play(store, OracleStore(streams, slots), np.random.default_rng(seed), steps, lengths)
    ids_column(store)
    return store


def tensors(batch):
    named = {f.name: getattr(batch, f.name) for f in fields(batch)}
    named |= named.pop("extra")
    return {name: value for name, value in named.items() if isinstance(value, torch.Tensor)}


def assert_equal(ours, theirs):
    for name, tensor in tensors(ours).items():
        assert torch.equal(tensor.cpu(), tensors(theirs)[name].cpu()), name
    assert torch.equal(ours.obs.cpu(), theirs.obs.cpu())


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    streams=st.integers(1, 3),
    slots=st.integers(12, 30),
    steps=st.integers(3, 70),
    episode_lengths=st.lists(st.sampled_from([1, 2, 3, 4, 9, 30]), min_size=1, max_size=4),
    length=st.integers(1, 5),
    burn_in=st.integers(0, 3),
    stride=st.integers(1, 9),
    stack=st.integers(1, 4),
    clip=st.sampled_from([0.0, 1.0]),
    life_loss=st.booleans(),
    half_life=st.sampled_from([None, 0.3, 7.0]),
    dtype=st.sampled_from(["uint8", "float32"]),
)
def test_every_window_equals_the_oracles_and_no_other_is_valid(
    seed, streams, slots, steps, episode_lengths, length, burn_in, stride, stack, clip, life_loss,
    half_life, dtype,
):  # fmt: skip
    rng = np.random.default_rng(seed)
    store = FrameStore(streams * slots, streams, PICTURE, dtype, {"id": Column((2,), "int64")})
    oracle = OracleStore(streams, slots)
    play(store, oracle, rng, steps, episode_lengths)
    for stream in range(streams):
        times = np.arange(max(0, steps - slots), steps)
        ids = times * streams + stream
        store.extra["id"][stream, times % slots] = np.stack([ids, -ids], axis=1)
    spec = SequenceSpec(length, burn_in, stride, stack, 0.9, clip, life_loss, half_life)
    expected = {
        t * streams + s: found
        for s in range(streams)
        for t in range(steps)
        if (
            found := oracle.sequence(s, t, stack, length, burn_in, stride, 0.9, clip, life_loss)
        ) is not None
    }  # fmt: skip
    sampler = Sequences(store, spec, 0, columns=("id",))
    assert set(sampler.valid_ids().tolist()) == set(expected)
    if not expected:
        with pytest.raises(ValueError, match="begins a window of length"):
            sampler.sample(1)
        return
    batch = SequenceReader(store, spec, len(expected), ("id",))(np.array(list(expected)))
    assert batch.obs.shape == (len(expected), burn_in + length + 1, stack * 2, 3, 5)
    for i, (start, (real, observations)) in enumerate(expected.items()):
        count = len(real)
        np.testing.assert_array_equal(batch.obs[i, : count + 1].numpy(), np.stack(observations))
        assert not batch.obs[i, count + stack :].any()  # earlier, the last frames slide out
        sliding = batch.obs[i, count : count + stack, -2:]  # the newest frame of each stack
        assert not sliding[1:].any()
        actions, rewards, discounts = zip(*real, strict=True)
        padding = burn_in + length - count
        assert batch.action[i].tolist() == [*actions] + [0] * padding
        assert batch.reward[i].tolist() == pytest.approx([*rewards] + [0] * padding)
        assert batch.discount[i].tolist() == pytest.approx([*discounts] + [0] * padding)
        assert batch.mask[i].tolist() == [1] * count + [0] * padding
        places = [start + k * streams for k in range(count)] + [0] * padding
        assert batch.extra["id"][i].tolist() == [[place, -place] for place in places]
        assert batch.first[i].item() == oracle.history[start % streams][start // streams].first
    assert set(sampler.draw(50).tolist()) <= set(expected)


@pytest.mark.parametrize(("ends", "discount"), [("terminated", 0.0), ("truncated", 0.5)])
def test_a_window_is_padded_after_the_final_observation_of_its_episode(ends, discount):
    store = lone_episodes([3, 9], ends=ends)  # frames 1 2 3 4, then 5 6 ...
    batch = SequenceReader(store, SequenceSpec(5, gamma=0.5), 1)(np.array([1]))
    assert batch.obs.flatten().tolist() == [2, 3, 4, 0, 0, 0]
    assert batch.action.tolist() == [[1, 2, 0, 0, 0]]
    assert batch.reward.tolist() == [[3, 4, 0, 0, 0]]
    assert batch.discount.tolist() == [[0.5, discount, 0, 0, 0]]
    assert batch.mask.tolist() == [[1, 1, 0, 0, 0]]
    assert batch.first.tolist() == [False]


def test_stacked_observations_share_frames_and_those_of_the_episode_slide_out():
    store = lone_episodes([2, 9])
    batch = SequenceReader(store, SequenceSpec(5, stack=3), 1)(np.array([0]))
    assert batch.frames.flatten().tolist() == [0, 0, 1, 2, 3, 0, 0, 0]
    assert batch.obs[0].tolist() == [
        [0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 0], [3, 0, 0], [0, 0, 0],
    ]  # fmt: skip
    assert batch.obs.data_ptr() == batch.frames.data_ptr()


def test_a_life_lost_ends_the_return_but_not_the_window():
    store = FrameStore(20, 1, (1,), "float32")
    for t in range(6):
        frame = np.full((1, 1), t + 1.0, np.float32)
        store.append(arrival(frame, first=[t == 0], life_lost=[t == 2]))
        store.act(np.zeros(1, int))
    ids = np.array([0])
    ends = SequenceReader(store, SequenceSpec(4, gamma=0.5, life_loss_terminal=True), 1)(ids)
    goes_on = SequenceReader(store, SequenceSpec(4, gamma=0.5), 1)(ids)
    assert ends.discount.tolist() == [[0.5, 0, 0.5, 0.5]]
    assert goes_on.discount.tolist() == [[0.5] * 4]
    for batch in (ends, goes_on):
        assert batch.mask.tolist() == [[1] * 4]
        assert batch.obs.flatten().tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("length", "burn_in"), [(1, 0), (4, 0), (3, 2), (5, 5)])
def test_windows_as_far_apart_as_they_are_long_teach_every_step_after_the_burn_in_once(
    length, burn_in
):
    lengths = [1, 2, 3, 4, 5, 6, 11, 23]
    store = lone_episodes([*lengths, 0])
    spec = SequenceSpec(length, burn_in, stride=length)
    ids = Sequences(store, spec, 0).valid_ids()
    batch = SequenceReader(store, spec, len(ids))(ids)
    learnt = batch.obs[:, burn_in:-1][batch.mask[:, burn_in:] == 1].flatten()
    starts = np.cumsum([0] + [n + 1 for n in lengths])  # each episode has a final frame too
    steps = [
        start + k + 1
        for start, n in zip(starts, lengths, strict=False)
        for k in range(burn_in, n)
    ]  # fmt: skip
    assert sorted(learnt.tolist()) == steps


def test_a_window_is_drawn_once_its_last_frame_or_the_end_of_its_episode_is_stored():
    spec = SequenceSpec(4, stride=2)
    assert Sequences(lone_episodes([3]), spec, 0).valid_ids().tolist() == []
    assert Sequences(lone_episodes([4]), spec, 0).valid_ids().tolist() == [0]
    assert Sequences(lone_episodes([3, 1]), spec, 0).valid_ids().tolist() == [0, 2]
    store = lone_episodes([3])
    store.end_episodes()
    assert Sequences(store, spec, 0).valid_ids().tolist() == [0, 2]


def test_a_step_without_an_action_is_in_no_window():
    store = FrameStore(20, 1, (1,), "float32")
    for t in range(8):
        store.append(arrival(np.ones((1, 1), np.float32), first=[t == 0]))
        if t != 4:
            store.act(np.zeros(1, int))
    assert Sequences(store, SequenceSpec(2), 0).valid_ids().tolist() == [0, 1, 2, 5]


# --- drawing -------------------------------------------------------------------------------------


def uneven_store():
    """Streams of 8, 90 and 300 frames in rings of 120: one has hardly begun, one has wrapped."""
    store = FrameStore(360, 3, (1,), "float32")
    rng = np.random.default_rng(2)
    for stream, frames in enumerate((8, 90, 300)):
        only, ended = np.array([stream]), True
        for _ in range(frames):
            first, ended = ended, not ended and rng.random() < 0.1
            frame = np.ones((1, 1), np.float32)
            store.append(arrival(frame, first=[first], terminated=[ended]), only)
            store.act(np.zeros(1, int), only)
    return store


@pytest.fixture(params=["passing over", "searching"])
def drawing(request, monkeypatch):
    """Both ways of drawing: the quick one, and the one for stores with hardly a valid window."""
    if request.param == "searching":
        monkeypatch.setattr(sequences, "DRAWS_BEFORE_SEARCH", 0)


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize("stride", [1, 4])
def test_drawing_is_uniform_over_the_valid_windows(stride):
    sampler = Sequences(uneven_store(), SequenceSpec(6, 1, stride, stack=2), seed=3)
    valid = sampler.valid_ids()
    ids, counts = np.unique(sampler.draw(300 * len(valid)), return_counts=True)
    np.testing.assert_array_equal(ids, np.sort(valid))
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize("half_life", [0.01, 0.7, 5.0, 40.0, 1e7])
@pytest.mark.parametrize("stride", [1, 3])
def test_recent_windows_are_drawn_by_powers_of_a_half(half_life, stride):
    store = uneven_store()
    sampler = Sequences(store, SequenceSpec(6, stride=stride, recency_half_life=half_life), seed=4)
    valid = np.sort(sampler.valid_ids())
    age = store.head[valid % 3] - 1 - valid // 3
    probability = 0.5 ** ((age - age.min()) / half_life)
    probability /= probability.sum()
    draws = 60_000
    drawn = sampler.draw(draws)
    assert np.isin(drawn, valid).all()
    counts = np.bincount(np.searchsorted(valid, drawn), minlength=len(valid))
    # Windows that are hardly ever expected count together.
    rare = probability * draws < 10
    observed = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(probability[~rare], probability[rare].sum()) * draws
    if expected[-1] < 10:
        assert observed[-1] < 40
        observed, expected = observed[:-1], expected[:-1] * (observed[:-1].sum() / draws)
        expected *= observed.sum() / expected.sum()
    if len(observed) > 1:
        assert stats.chisquare(observed, expected).pvalue > 1e-3


@pytest.mark.parametrize("half_life", [0.1, 3.0, 1000.0])
def test_a_short_half_life_passes_over_no_more_than_the_stride_explains(half_life):
    # One long game: the newest 100 frames begin no complete window.
    store = lone_episodes([1900], slots=2000)
    spec = SequenceSpec(100, stride=50, recency_half_life=half_life)
    sampler = Sequences(store, spec, seed=1)
    sampler.draw(2000)
    least = 1 - 0.5 ** (1 / half_life)  # accepted, of what is drawn
    assert sampler.generator.counter < 2 * 2000 * 1.3 * min(1 / least, 50)


@pytest.mark.parametrize("half_life", [None, 9.0])
def test_a_restored_sampler_draws_the_same_windows(half_life):
    store = filled_store()
    spec = SequenceSpec(6, 2, 3, stack=2, recency_half_life=half_life)
    augmentation = Augmentation(shift=1, flip=True)
    sampler = Sequences(store, spec, 4, ("id",), augmentation)
    sampler.sample(33)
    twin = Sequences(store, spec, 99, ("id",), augmentation)
    twin.load_state_dict(sampler.state_dict())
    for _ in range(50):
        assert_equal(sampler.sample(20), twin.sample(20))


def test_a_state_of_another_sampler_is_refused_by_field():
    store, spec = filled_store(), SequenceSpec(4)
    plain = Sequences(store, spec, 0)
    augmented = Sequences(store, spec, 0, augmentation=Augmentation(shift=1))
    with pytest.raises(ValueError, match="generator: None"):
        augmented.load_state_dict(plain.state_dict())
    with pytest.raises(ValueError, match="counter: -1"):
        plain.load_state_dict({**plain.state_dict(), "counter": -1})


# --- batches -------------------------------------------------------------------------------------


def test_a_batch_is_reused_by_the_next_draw_and_a_clone_is_not():
    sampler = Sequences(filled_store(), SequenceSpec(6, stack=3), 0, ("id",))
    batch = sampler.sample(16)
    kept, before = batch.clone(), batch.obs.clone()
    assert_equal(kept, batch)
    assert sampler.sample(16).frames.data_ptr() == batch.frames.data_ptr()
    assert not torch.equal(batch.obs, before)
    assert torch.equal(kept.obs, before)
    assert not torch.equal(kept.extra["id"], batch.extra["id"])


def test_a_batch_moves_between_devices_but_for_its_ids():
    batch = Sequences(filled_store(), SequenceSpec(6, stack=3), 0, ("id",)).sample(4).to("meta")
    devices = {name: tensor.device.type for name, tensor in tensors(batch).items()}
    assert devices.pop("index") == "cpu"
    assert set(devices.values()) == {"meta"}
    assert batch.obs.device.type == "meta"


def test_all_frames_of_a_window_are_augmented_alike():
    store = FrameStore(60, 1, (1, 8, 8))
    picture = np.random.default_rng(0).integers(1, 256, (1, 1, 8, 8)).astype(np.uint8)
    for t in range(60):
        store.append(arrival(picture, first=[t == 0]))
        store.act(np.zeros(1, int))
    augmentation = Augmentation(shift=2, flip=True, crop=(6, 5))
    batch = Sequences(store, SequenceSpec(4), 0, augmentation=augmentation).sample(20)
    assert batch.obs.shape == (20, 5, 1, 6, 5)
    assert torch.equal(batch.obs, batch.obs[:, :1].expand_as(batch.obs))
    assert len({view.numpy().tobytes() for view in batch.obs[:, 0]}) > 10


@pytest.mark.parametrize("augmentation", [None, Augmentation(shift=1, flip=True)])
def test_a_mapped_store_gives_the_same_windows(augmentation):
    spec = SequenceSpec(6, 2, 2, stack=3)
    held, mapped = filled_store(), filled_store(device="mmap")
    ours = Sequences(held, spec, 8, ("id",), augmentation).sample(64)
    assert_equal(ours, Sequences(mapped, spec, 8, ("id",), augmentation).sample(64))


@pytest.mark.gpu
@pytest.mark.parametrize("augmentation", [None, Augmentation(shift=1, flip=True)])
@pytest.mark.parametrize("half_life", [None, 9.0])
def test_the_gpu_holds_the_same_windows_bit_for_bit(augmentation, half_life):
    spec = SequenceSpec(6, 2, 2, stack=3, recency_half_life=half_life)
    host, device = filled_store(), filled_store(device="cuda")
    ours = Sequences(host, spec, 8, ("id",), augmentation).sample(64)
    theirs = Sequences(device, spec, 8, ("id",), augmentation).sample(64)
    assert theirs.obs.is_cuda and theirs.mask.is_cuda and theirs.extra["id"].is_cuda
    assert_equal(ours, theirs)


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"length": 0}, "length=0 has to be 1 or more"),
        ({"length": 4, "burn_in": -1}, "burn_in=-1 has to be 0 or more"),
        ({"length": 4, "stride": 0}, "stride=0"),
        ({"length": 4, "stack": 0}, "stack=0"),
        ({"length": 4, "gamma": 1.1}, "gamma=1.1"),
        ({"length": 4, "reward_clip": -1.0}, "reward_clip=-1.0"),
        ({"length": 4, "recency_half_life": 0.0}, "recency_half_life=0.0"),
        ({"length": 4, "recency_half_life": float("nan")}, "recency_half_life=nan"),
    ],
)
def test_settings_that_make_no_window_are_refused_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        SequenceSpec(**values)


def test_a_window_longer_than_the_ring_is_refused():
    store = FrameStore(10, 1, (1,), "float32")
    Sequences(store, SequenceSpec(5, burn_in=2, stack=3), 0)
    with pytest.raises(ValueError, match=r"reads 11 frames, .* ring of 10 frames"):
        Sequences(store, SequenceSpec(6, burn_in=2, stack=3), 0)


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="batch_size=0 has to be 1 or more"):
        Sequences(filled_store(), SequenceSpec(4), 0).sample(0)


def test_a_ring_that_just_fits_a_window_holds_one():
    store = lone_episodes([30], slots=10)
    sampler = Sequences(store, SequenceSpec(5, burn_in=2, stack=3), 0)
    assert sampler.valid_ids().tolist() == [23]
    assert sampler.sample(1).obs[0, :, -1].tolist() == [24, 25, 26, 27, 28, 29, 30, 31]


def test_a_column_that_the_store_lacks_is_refused():
    with pytest.raises(ValueError, match=r"'state' is not one of the store's \(id\)"):
        Sequences(filled_store(), SequenceSpec(4), 0, columns=("state",))


def test_an_id_that_begins_no_window_is_refused():
    store = lone_episodes([3, 50], slots=40)
    reader = SequenceReader(store, SequenceSpec(4, stride=2), 1)
    for wrong in (0, -1, 19, 54, 1000):  # overwritten, nonsense, off the stride, incomplete, never
        with pytest.raises(IndexError, match=f"id {wrong} begins no valid window"):
            reader(np.array([wrong]))


# --- threads -------------------------------------------------------------------------------------


def test_windows_that_a_writer_takes_while_they_are_gathered_are_drawn_again(monkeypatch):
    store = lone_episodes([60], slots=40)
    sampler = Sequences(store, SequenceSpec(4, stack=2), 0)
    gather_into = store.gather_into

    def late(rows, out):
        monkeypatch.setattr(store, "gather_into", gather_into)
        for time in range(61, 81):
            store.append(arrival(np.full((1, 1), time + 1, np.float32)))
            store.act(np.zeros(1, int))
        gather_into(rows, out)

    monkeypatch.setattr(store, "gather_into", late)
    batch = sampler.sample(64)
    assert batch.index.min() >= 81 - 40 + 1
    expected = batch.index[:, None] + 1 + torch.arange(5)
    assert torch.equal(batch.obs[:, :, -1], expected.float())


def test_a_reader_beside_a_writer_sees_whole_windows():
    store = FrameStore(64, 1, (256,), "float32", {"id": Column()})
    ready = threading.Event()

    def write():
        for time in range(4000):
            frame = np.full((1, 256), time, np.float32)
            end = time % 50 == 49
            store.append(
                arrival(frame, first=[time % 50 == 0], terminated=[end], reward=frame[:, 0].copy())
            )
            store.act(np.full(1, time), id=np.full(1, time))
            if time == 64:
                ready.set()

    writer = threading.Thread(target=write)
    writer.start()
    ready.wait()
    sampler = Sequences(store, SequenceSpec(8, 2, stack=2, recency_half_life=30), 0, ("id",))
    while writer.is_alive():
        batch = sampler.sample(16)
        time = batch.index[:, None] + torch.arange(10)
        real = batch.mask == 1
        assert torch.equal(batch.action[real], time[real])
        assert torch.equal(batch.extra["id"][real], time[real].float())
        assert torch.equal(batch.reward[real], time[real] + 1.0)
        newest = batch.obs[:, :-1, 256:][real]
        assert torch.equal(newest, time[real].float().unsqueeze(1).expand_as(newest))
    writer.join()
