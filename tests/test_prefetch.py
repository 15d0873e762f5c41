"""Prefetching: the same batches as without it, none lost, none overwritten, and no thread left."""

from __future__ import annotations

import gc
import threading
import time
import traceback
from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch
from store_oracle import OracleStore
from test_store import PICTURE, filled_store, play

from playfield.buffers import staging
from playfield.buffers.epochs import FrameBatch, FrameEpochs
from playfield.buffers.prefetch import Prefetcher
from playfield.buffers.prioritized import Prioritized
from playfield.buffers.staging import StagedMemory, flat_pieces
from playfield.buffers.store import Column, FrameStore
from playfield.buffers.transitions import TransitionSpec
from playfield.buffers.uniform import Uniform
from playfield.training.state_codec import decode_state, encode_state

SPEC = TransitionSpec(stack=3, n_step=1)
ON_A_GPU = pytest.param("cuda", marks=pytest.mark.gpu)


def assert_same(ours, theirs):
    for field in fields(ours):
        one, other = getattr(ours, field.name), getattr(theirs, field.name)
        one, other = (v if isinstance(v, dict) else {"": v} for v in (one, other))
        assert one.keys() == other.keys(), field.name
        for name in one:
            assert torch.equal(one[name].cpu(), other[name].cpu()), f"{field.name} {name}"


def prefetch_threads():
    return [t for t in threading.enumerate() if t.name.startswith("playfield-prefetch")]


@pytest.mark.parametrize("placement", ["cpu", "mmap"])
@pytest.mark.parametrize("device", ["cpu", ON_A_GPU])
@pytest.mark.parametrize("spec", [SPEC, TransitionSpec(stack=2, n_step=3)], ids=["n=1", "n=3"])
def test_batches_are_the_same_with_and_without_prefetching(spec, device, placement):
    store = filled_store(device=placement)
    plain = Uniform(store, spec, seed=3)
    with Prefetcher(Uniform(store, spec, seed=3), device) as prefetcher:
        for size in (8, 8, 8, 5, 1, 8, 8):
            prefetcher.start(size)
            batch = prefetcher.take()
            assert_same(batch, plain.sample(size))
            assert batch.obs.device.type == device
            assert batch.index.device.type == "cpu"


def test_arguments_of_start_reach_the_sampler():
    store = filled_store()
    plain = Prioritized(store, SPEC, seed=3)
    with Prefetcher(Prioritized(store, SPEC, seed=3), "cpu") as prefetcher:
        for beta in (0.0, 0.4):
            prefetcher.start(16, beta=beta)
            ours, theirs = prefetcher.take(), plain.sample(16, beta=beta)
            assert_same(ours, theirs)
            for sampler in (prefetcher.sampler, plain):
                sampler.update(theirs.index, np.linspace(0, 3, 16))


def test_any_sampler_of_dataclasses_can_be_prefetched():
    columns = {"label": Column((), "int64"), "state": Column((2, 2))}
    store = FrameStore(30, 1, PICTURE, columns=columns)
    play(store, OracleStore(1, 30), np.random.default_rng(0), 30, [4])
    store.extra["label"][:] = np.arange(30)
    store.extra["state"][:] = np.random.default_rng(1).normal(size=(1, 30, 2, 2))
    plain = FrameEpochs(store, 8, seed=2)
    with Prefetcher(FrameEpochs(store, 8, seed=2), "cpu", FrameBatch) as prefetcher:
        for _ in range(9):  # two epochs of 8, 8, 8, 6, and on
            prefetcher.start()
            assert_same(prefetcher.take(), plain.sample())
        prefetcher.start()
        state = prefetcher.state_dict()
        expected = prefetcher.take()
    with Prefetcher(FrameEpochs(store, 8, seed=9), "cpu", FrameBatch) as resumed:
        resumed.load_state_dict(state)
        assert_same(resumed.take(), expected)


@pytest.mark.parametrize("device", ["cpu", ON_A_GPU])
def test_a_batch_stays_as_it_is_while_the_next_one_is_assembled(device):
    with Prefetcher(Uniform(filled_store(), SPEC, seed=1), device) as prefetcher:
        prefetcher.start(32)
        for _ in range(5):
            batch = prefetcher.take()
            before = batch.clone()
            prefetcher.start(32)
            prefetcher.wait()
            assert_same(batch, before)


def test_the_frames_that_both_observations_show_are_copied_once():
    with Prefetcher(Uniform(filled_store(), SPEC, seed=1), "cpu") as prefetcher:
        prefetcher.start(32)
        batch = prefetcher.take()
    assert batch.obs[0, 2:].data_ptr() == batch.next_obs[0].data_ptr()  # two channels per frame
    assert batch.obs.untyped_storage().nbytes() == 32 * 4 * np.prod(PICTURE)


class Gated:
    """A sampler that waits for permission."""

    def __init__(self, sampler):
        self.sampler, self.permission, self.threads = sampler, threading.Event(), set()

    def sample(self, batch_size):
        self.threads.add(threading.get_ident())
        assert self.permission.wait(30)
        return self.sampler.sample(batch_size)

    def state_dict(self):
        return self.sampler.state_dict()

    def load_state_dict(self, state):
        self.sampler.load_state_dict(state)


def test_the_batch_is_assembled_in_another_thread_while_this_one_goes_on():
    sampler = Gated(Uniform(filled_store(), SPEC, seed=1))
    with Prefetcher(sampler, "cpu") as prefetcher:
        prefetcher.start(4)  # returns although nothing can be sampled yet
        assert prefetcher.started
        sampler.permission.set()
        assert len(prefetcher.take().action) == 4
        assert not prefetcher.started
    assert threading.get_ident() not in sampler.threads


def test_a_batch_shows_the_store_of_its_start_not_of_its_take():
    """The price of prefetching: what is stored or learnt after `start` waits for the next batch."""
    store, oracle = FrameStore(60, 3, PICTURE), OracleStore(3, 20)
    rng = np.random.default_rng(2)
    play(store, oracle, rng, 30, [5, 9])
    sampler = Prioritized(store, SPEC, seed=4)
    with Prefetcher(sampler, "cpu") as prefetcher:
        prefetcher.start(16)
        prefetcher.wait()  # now the sampler is free for an update
        held = sampler.draw(1)
        sampler.update(held, [1e9])
        play(store, oracle, rng, 40, [5, 9])  # overwrites the whole ring
        late = prefetcher.take()
        assert (late.index.numpy() < 30 * 3).all()
        for i, id_ in enumerate(late.index.tolist()):
            np.testing.assert_array_equal(late.obs[i], oracle.stack(id_ % 3, id_ // 3, 3))
        prefetcher.start(16)
        assert (prefetcher.take().index.numpy() >= 50 * 3).all()


# --- errors and threads ---------------------------------------------------------------------------


def test_an_error_in_the_thread_is_raised_by_take_with_its_traceback():
    store = FrameStore(60, 3, PICTURE)
    with Prefetcher(Uniform(store, SPEC, seed=4), "cpu") as prefetcher:
        prefetcher.start(16)
        prefetcher.wait()
        assert prefetcher.started
        with pytest.raises(ValueError, match="begins a transition") as caught:
            prefetcher.take()
        assert "_fill" in [f.name for f in traceback.extract_tb(caught.value.__traceback__)]
        with pytest.raises(RuntimeError, match="no batch was started"):
            prefetcher.take()
        play(store, OracleStore(3, 20), np.random.default_rng(2), 20, [5])
        prefetcher.start(16)  # and it goes on
        assert len(prefetcher.take().action) == 16


def test_starts_and_takes_alternate():
    with Prefetcher(Uniform(filled_store(), SPEC, seed=4), "cpu") as prefetcher:
        with pytest.raises(RuntimeError, match="no batch was started"):
            prefetcher.take()
        prefetcher.start(4)
        with pytest.raises(RuntimeError, match="has not been taken"):
            prefetcher.start(4)
        prefetcher.take()
        with pytest.raises(RuntimeError, match="no batch was started"):
            prefetcher.take()
    for method in (prefetcher.take, prefetcher.start, lambda: prefetcher.load_state_dict({})):
        with pytest.raises(RuntimeError, match="was closed"):
            method()


@pytest.mark.parametrize("untaken", [False, True])
def test_closing_leaves_no_thread_and_what_was_taken(untaken):
    prefetcher = Prefetcher(Uniform(filled_store(), SPEC, seed=4), "cpu")
    prefetcher.start(4)
    batch = prefetcher.take()
    before = batch.clone()
    if untaken:
        prefetcher.start(4)
    assert prefetch_threads()
    prefetcher.close()
    prefetcher.close()
    assert not prefetch_threads()
    assert not prefetcher.started
    assert_same(batch, before)


def test_a_prefetcher_that_was_never_started_has_no_thread():
    with Prefetcher(Uniform(filled_store(), SPEC, seed=4), "cpu") as prefetcher:
        prefetcher.wait()
        assert not prefetch_threads()


def test_the_thread_of_a_forgotten_prefetcher_ends():
    prefetcher = Prefetcher(Uniform(filled_store(), SPEC, seed=4), "cpu")
    prefetcher.start(4)
    prefetcher.take()
    threads = prefetch_threads()
    del prefetcher
    gc.collect()
    for thread in threads:
        thread.join(30)
    assert threads
    assert not prefetch_threads()


def test_a_device_that_is_neither_cpu_nor_cuda_is_refused():
    with pytest.raises(ValueError, match="device: meta, expected cpu or a CUDA device"):
        Prefetcher(Uniform(filled_store(), SPEC, seed=4), "meta")


def test_a_batch_that_is_on_a_device_already_is_refused():
    batch = Uniform(filled_store(), SPEC, seed=4).sample(4).to("meta")
    with pytest.raises(ValueError, match="obs is on meta already"):
        flat_pieces(batch)


# --- state ----------------------------------------------------------------------------------------


def learn(store, oracle, sampler, prefetcher, rng, steps):
    """Frames arrive between start and take, and priorities change after the next start."""
    seen = []
    for _ in range(steps):
        if not prefetcher.started:
            prefetcher.start(8)
        batch = prefetcher.take().clone()
        seen.append(batch)
        prefetcher.start(8)
        prefetcher.wait()
        sampler.update(batch.index, batch.reward.abs())
        play(store, oracle, rng, 3, [100])
        store.end_episodes()
    return seen


def test_a_resumed_run_takes_the_batch_that_was_started_and_goes_on_the_same():
    store, oracle = FrameStore(60, 3, PICTURE), OracleStore(3, 20)
    play(store, oracle, np.random.default_rng(1), 30, [5, 9])
    sampler = Prioritized(store, TransitionSpec(stack=2, n_step=3), seed=4)
    with Prefetcher(sampler, "cpu") as prefetcher:
        learn(store, oracle, sampler, prefetcher, np.random.default_rng(2), 6)
        saved = encode_state({"store": store.state_dict(), "batches": prefetcher.state_dict()})
        twin_oracle = OracleStore(3, 20)
        twin_oracle.history = [list(stream) for stream in oracle.history]
        on = learn(store, oracle, sampler, prefetcher, np.random.default_rng(3), 6)
    state = decode_state(*saved)
    twin = FrameStore(60, 3, PICTURE)
    twin.load_state_dict(state["store"])
    sampler = Prioritized(twin, TransitionSpec(stack=2, n_step=3), seed=77)
    with Prefetcher(sampler, "cpu") as prefetcher:
        prefetcher.start(8)  # dropped by loading
        prefetcher.load_state_dict(state["batches"])
        resumed = learn(twin, twin_oracle, sampler, prefetcher, np.random.default_rng(3), 6)
    for ours, theirs in zip(on, resumed, strict=True):
        assert_same(ours, theirs)


def test_saving_changes_nothing():
    store = filled_store()
    plain = Uniform(store, SPEC, seed=3)
    with Prefetcher(Uniform(store, SPEC, seed=3), "cpu") as prefetcher:
        for _ in range(4):
            prefetcher.state_dict()
            prefetcher.start(8)
            state = prefetcher.state_dict()
            taken = prefetcher.take()
            assert_same(taken, plain.sample(8))
            assert state["sampler"] == plain.state_dict()
            assert torch.equal(state["pending"]["obs"], taken.obs)


def test_a_draw_that_failed_is_not_saved_and_still_raised():
    with Prefetcher(Uniform(FrameStore(60, 3, PICTURE), SPEC, seed=4), "cpu") as prefetcher:
        prefetcher.start(4)
        assert prefetcher.state_dict()["pending"] is None
        with pytest.raises(ValueError, match="begins a transition"):
            prefetcher.take()


def test_a_state_that_does_not_fit_is_refused_by_field_and_nothing_is_lost():
    with Prefetcher(Uniform(filled_store(), SPEC, seed=4), "cpu") as prefetcher:
        prefetcher.start(4)
        good = prefetcher.state_dict()
        pending = {name: v for name, v in good["pending"].items() if name != "reward"}
        for state, field in [
            ({"pending": None}, "sampler"),
            ({"sampler": good["sampler"]}, "pending"),
            ({**good, "pending": pending}, "pending.reward"),
            ({**good, "pending": {**good["pending"], "mask": torch.ones(4)}}, "pending.mask"),
            ({**good, "sampler": {**good["sampler"], "counter": -1}}, "counter"),
        ]:
            with pytest.raises(ValueError, match=f"^{field}:"):
                prefetcher.load_state_dict(state)
        assert torch.equal(prefetcher.take().obs, good["pending"]["obs"])


# --- staging --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Odd:
    values: dict[str, torch.Tensor]
    index: torch.Tensor
    length: int


def test_tensors_of_every_kind_arrive_as_they_are():
    table = torch.arange(1000, dtype=torch.int32)
    batch = Odd(
        {
            "far apart in one table": table[900:910],
            "in the table": table[3:7],
            "transposed": torch.rand(3, 4).T,
            "expanded": torch.rand(3, 1).expand(3, 5),
            "bool": torch.tensor([True, False]),
            "bfloat16": torch.rand(5).bfloat16(),
            "scalar": torch.tensor(2.5, dtype=torch.float64),
            "empty": torch.empty(0, 7),
        },
        torch.arange(9)[::2],
        length=7,
    )
    pieces, sources = flat_pieces(batch)
    assert sum(source.nbytes for source in sources) < 400  # not what lies between the two slices
    memory = StagedMemory(pieces, None)
    memory.fill(sources)
    copy = memory.hand_over(batch)
    assert copy.length == 7
    assert torch.equal(copy.index, batch.index)
    for name, tensor in batch.values.items():
        assert torch.equal(copy.values[name], tensor), name
        assert copy.values[name].dtype == tensor.dtype
        if tensor.numel():
            assert copy.values[name].data_ptr() != tensor.data_ptr()


class Device:
    """A stand-in for CUDA that notes who waits for whom."""

    def __init__(self, monkeypatch):
        self.log: list[str] = []
        self.current = "consumer"
        device, log = self, self.log

        class Event:
            def __init__(self, blocking=False):
                self.name = "copied" if blocking else "released"

            def record(self, stream=None):
                log.append(f"{stream.name if stream else device.current} records {self.name}")

            def synchronize(self):
                log.append(f"thread waits for {self.name}")

        class Stream:
            device = torch.device("cpu")

            def __init__(self, name):
                self.name = name

            def wait_event(self, event):
                log.append(f"{self.name} waits for {event.name}")

            def __enter__(self):
                device.current = self.name

            def __exit__(self, *error):
                device.current = "consumer"

        self.stream = Stream("copier")
        monkeypatch.setattr(staging.torch.cuda, "Event", Event)
        monkeypatch.setattr(staging.torch.cuda, "stream", lambda stream: stream)
        monkeypatch.setattr(staging.torch.cuda, "current_stream", lambda _: Stream(device.current))
        empty, copy = torch.empty, torch.Tensor.copy_
        monkeypatch.setattr(torch, "empty", lambda *a, pin_memory=False, **k: empty(*a, **k))

        def noted(tensor, source, non_blocking=False):
            assert non_blocking
            log.append(f"{device.current} copies")
            return copy(tensor, source)

        monkeypatch.setattr(torch.Tensor, "copy_", noted)
        monkeypatch.setattr(
            torch.Tensor, "record_stream", lambda _, s: log.append(f"{s.name} uses the memory")
        )


def test_copies_wait_for_consumers_and_refills_for_copies(monkeypatch):
    """Where no GPU is at hand: the order of events that keeps memory from early overwriting."""
    batch = Uniform(filled_store(), SPEC, seed=4).sample(4)
    expected = batch.clone()
    device = Device(monkeypatch)
    pieces, sources = flat_pieces(batch)
    on_device = sum(not piece.stays for piece in pieces)
    memory = StagedMemory(pieces, device.stream)
    memory.fill(sources)
    copies = ["copier copies"] * on_device
    assert device.log == [
        "thread waits for copied", "copier waits for released", *copies, "copier records copied",
    ]  # fmt: skip
    device.log.clear()
    taken = memory.hand_over(batch)
    assert device.log == ["consumer waits for copied", *["consumer uses the memory"] * on_device]
    device.log.clear()
    memory.release()
    assert device.log == ["consumer records released"]
    for name in ("obs", "next_obs", "reward", "index"):
        assert torch.equal(getattr(taken, name), getattr(expected, name))
    assert taken.obs.data_ptr() != memory.on_cpu(batch).obs.data_ptr()
    assert taken.index.data_ptr() == memory.on_cpu(batch).index.data_ptr()


@pytest.mark.gpu
def test_a_slow_consumer_sees_its_own_batch_and_never_a_later_one():
    store = filled_store()
    plain = Uniform(store, SPEC, seed=3)
    sums, expected = [], []
    with Prefetcher(Uniform(store, SPEC, seed=3), "cuda") as prefetcher:
        prefetcher.start(256)
        torch.cuda.set_sync_debug_mode("error")  # neither start nor take waits for the device
        try:
            for _ in range(20):
                batch = prefetcher.take()
                prefetcher.start(256)
                torch.cuda._sleep(20_000_000)  # the copies of later batches are long under way
                sums.append((batch.obs.long().sum(), batch.next_obs.long().sum()))
                time.sleep(0.001)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for _ in range(20):
        batch = plain.sample(256)
        expected.append((batch.obs.long().sum().item(), batch.next_obs.long().sum().item()))
    assert [(a.item(), b.item()) for a, b in sums] == expected


@pytest.mark.gpu
def test_memory_of_a_dropped_batch_is_not_handed_out_while_a_consumer_uses_it():
    store = filled_store()
    expected = Uniform(store, SPEC, seed=3).sample(256).obs.long().sum()
    prefetcher = Prefetcher(Uniform(store, SPEC, seed=3), "cuda")
    prefetcher.start(256)
    batch = prefetcher.take()
    torch.cuda._sleep(100_000_000)
    total = batch.obs.long().sum()
    stream = prefetcher._stream
    prefetcher.close()
    shape = batch.obs.untyped_storage().nbytes()
    del batch
    with torch.cuda.stream(stream):
        torch.full((shape,), 7, dtype=torch.uint8, device="cuda")
    assert total.item() == expected
