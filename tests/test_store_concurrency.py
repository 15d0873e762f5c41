"""One thread writes into a small ring, others read it: no row of theirs is torn or overwritten."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from types import SimpleNamespace

import numpy as np
import pytest

from playfield.buffers.batch import Batch
from playfield.buffers.prioritized import Prioritized
from playfield.buffers.sequences import SequenceBatch, SequenceReader, Sequences, SequenceSpec
from playfield.buffers.store import FrameStore
from playfield.buffers.transitions import TransitionReader, TransitionSpec
from playfield.buffers.uniform import Uniform

# Everything stored is a function of (stream, time), so a row says by each of its words whether it
# is the one that its id names.
STREAMS, SLOTS, EPISODE = 2, 96, 11
SHAPE = (1, 84, 84)
GAMMA = 0.5
SPECS = [TransitionSpec(4, 1, GAMMA), TransitionSpec(4, 3, GAMMA)]


def word(stream, time):
    """What every four bytes of a frame hold; never zero."""
    return (time * STREAMS + stream + 1).astype(np.int32)


def reward(stream, time):
    return np.float32((time * STREAMS + stream) % 4096)


def action(stream, time):
    return (time * STREAMS + stream) % 17


class Writer:
    """Episodes of `EPISODE` frames, the last one terminal."""

    def __init__(self, store: FrameStore) -> None:
        self.store, self.time = store, 0
        self._streams = np.arange(STREAMS)
        self._frames = np.empty((STREAMS, *SHAPE), np.uint8)
        self._words = self._frames.view(np.int32)

    def write(self, steps: int) -> None:
        for _ in range(steps):
            time = np.full(STREAMS, self.time)
            self._words[:] = word(self._streams, time)[:, None, None, None]
            self.store.append(
                SimpleNamespace(
                    frames=self._frames,
                    reward=reward(self._streams, time),
                    terminated=time % EPISODE == EPISODE - 1,
                    truncated=np.zeros(STREAMS, bool),
                    life_lost=np.zeros(STREAMS, bool),
                    first=time % EPISODE == 0,
                )
            )
            self.store.act(action(self._streams, time))
            self.time += 1


def assert_is_what_its_ids_say(batch: Batch, spec: TransitionSpec) -> None:
    stream, time = batch.index.numpy() % STREAMS, batch.index.numpy() // STREAMS
    step = time % EPISODE
    assert (step < EPISODE - 1).all(), "a final observation begins no transition"
    k = np.minimum(spec.n_step, EPISODE - 1 - step)
    returns = np.zeros(len(time))
    for i in range(1, spec.n_step + 1):
        returns += np.where(i <= k, GAMMA ** (i - 1) * reward(stream, time + i), 0)
    np.testing.assert_array_equal(batch.action, action(stream, time))
    np.testing.assert_array_equal(batch.reward, returns.astype(np.float32))
    ends = step + k == EPISODE - 1
    np.testing.assert_array_equal(batch.discount, np.where(ends, 0, GAMMA**k).astype(np.float32))
    for frames, newest in ((batch.obs, time), (batch.next_obs, time + k)):
        times = newest[:, None] - np.arange(spec.stack)[::-1]  # [B, stack]
        begun = times >= (newest - newest % EPISODE)[:, None]
        words = np.where(begun, word(stream[:, None], times), 0)
        # One reduction for all bytes: the readers are to read most of the time, not to check.
        assert (frames.numpy().view(np.int32) == words[:, :, None, None]).all()


def assert_windows_are_what_their_ids_say(batch: SequenceBatch, spec: SequenceSpec) -> None:
    stream, time = (x[:, None] for x in (batch.index.numpy() % STREAMS, batch.index // STREAMS))
    time = time.numpy()
    begin = time - time % EPISODE
    times = time + np.arange(spec.steps)  # [B, T]
    real = times < begin + EPISODE - 1
    np.testing.assert_array_equal(batch.mask, real)
    np.testing.assert_array_equal(batch.action, np.where(real, action(stream, times), 0))
    np.testing.assert_array_equal(batch.reward, np.where(real, reward(stream, times + 1), 0))
    discount = np.where(times + 1 == begin + EPISODE - 1, 0, GAMMA)
    np.testing.assert_array_equal(batch.discount, np.where(real, discount, 0))
    times = time - spec.stack + 1 + np.arange(spec.frames_read)
    stored = (times >= begin) & (times < begin + EPISODE)
    words = np.where(stored, word(stream, times), 0)
    assert (batch.frames.numpy().view(np.int32)[:, :, 0] == words[:, :, None, None]).all()


@pytest.fixture
def eager_switching() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture
def overwrites_seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each question for overwritten ones found, where it found any."""
    seen: list[int] = []

    def counting(ask: Callable[..., list[int]]) -> Callable[..., list[int]]:
        def counted(reader: object) -> list[int]:
            lost = ask(reader)
            if lost:
                seen.append(len(lost))
            return lost

        return counted

    for reader in (TransitionReader, SequenceReader):
        monkeypatch.setattr(reader, "overwritten", counting(reader.overwritten))
    return seen


def filled(slots: int = SLOTS) -> tuple[FrameStore, Writer]:
    store = FrameStore(STREAMS * slots, STREAMS, SHAPE)
    writer = Writer(store)
    writer.write(2 * slots)
    return store, writer


def uniform(store: FrameStore, seed: int, batch_size: int = 8) -> Iterator[None]:
    """Draws and checks one batch after another."""
    spec = SPECS[seed % 2]
    sampler = Uniform(store, spec, seed)
    while True:
        yield assert_is_what_its_ids_say(sampler.sample(batch_size), spec)


def prioritized(store: FrameStore, seed: int, batch_size: int = 8) -> Iterator[None]:
    spec, rng = SPECS[seed % 2], np.random.default_rng(seed)
    sampler = Prioritized(store, spec, seed)
    while True:
        batch = sampler.sample(batch_size)
        yield assert_is_what_its_ids_say(batch, spec)
        sampler.update(batch.index, rng.random(batch_size))


def sequences(store: FrameStore, seed: int, batch_size: int = 8) -> Iterator[None]:
    spec = SequenceSpec(length=3, burn_in=1, stack=2, gamma=GAMMA)
    sampler = Sequences(store, spec, seed)
    while True:
        yield assert_windows_are_what_their_ids_say(sampler.sample(batch_size), spec)


@pytest.mark.parametrize(
    ("placement", "kinds"),
    [
        ("cpu", [uniform, uniform, uniform]),
        ("mmap", [uniform, uniform]),
        ("cpu", [prioritized, uniform, sequences]),
    ],
)
def test_readers_never_see_a_torn_or_overwritten_row_while_a_thread_writes(
    placement, kinds, eager_switching, overwrites_seen
):
    store = FrameStore(STREAMS * SLOTS, STREAMS, SHAPE, device=placement)
    writer = Writer(store)
    writer.write(2 * SLOTS)
    began, done = writer.time, threading.Event()
    enough, most = 400, 5000  # batches of each reader; more only if none met the writer yet

    def write() -> None:
        while not done.is_set():
            writer.write(1)

    def read(batches: Iterator[None]) -> None:
        for count, _ in zip(range(most), batches, strict=False):
            if count >= enough and len(overwrites_seen) >= 5:
                return

    with ThreadPoolExecutor(4) as threads:
        writing = threads.submit(write)
        try:
            reading = [threads.submit(read, kind(store, i)) for i, kind in enumerate(kinds)]
            wait(reading, timeout=60, return_when=FIRST_EXCEPTION)
        finally:
            done.set()
    writing.result()
    for future in reading:
        future.result()
    assert writer.time - began > SLOTS, "the ring was never overwritten: this shows nothing"
    assert overwrites_seen, "no reader met the writer: this shows nothing"


# --- the same, moment by moment -------------------------------------------------------------------


def interrupted(monkeypatch: pytest.MonkeyPatch, moment: str, write: Callable[[], None]) -> None:
    """Call `write` once, at a moment of the next batch's assembly."""
    left = [write]

    def with_a_write(method: Callable[..., Batch]) -> Callable[..., Batch]:
        def interrupted_method(*arguments):
            if left and moment != "after the gather":
                left.pop()()
            result = method(*arguments)
            if left:
                left.pop()()
            return result

        return interrupted_method

    if moment == "before the rows are planned":
        for reader in (TransitionReader, SequenceReader):
            monkeypatch.setattr(reader, "read", with_a_write(reader.read))
    else:
        monkeypatch.setattr(FrameStore, "gather_into", with_a_write(FrameStore.gather_into))


@pytest.mark.parametrize("kind", [uniform, prioritized, sequences])
@pytest.mark.parametrize("seed", [0, 1])  # one step and three
@pytest.mark.parametrize("steps", [2, 20, SLOTS, 3 * SLOTS])
@pytest.mark.parametrize(
    "moment", ["before the rows are planned", "before the gather", "after the gather"]
)
def test_what_is_overwritten_during_a_draw_is_drawn_again(
    moment, steps, seed, kind, monkeypatch, overwrites_seen
):
    store, writer = filled()
    batches = kind(store, seed, batch_size=200)
    interrupted(monkeypatch, moment, lambda: writer.write(steps))
    next(batches)  # is checked there
    if steps >= 20:  # with fewer, none of the 200 has to begin at the oldest slots
        assert overwrites_seen


@pytest.mark.parametrize("spec", SPECS, ids=["n=1", "n=3"])
@pytest.mark.parametrize("claimed", [1, 7, 40])
def test_slots_that_a_writer_has_claimed_are_not_read_whatever_they_hold(claimed, spec):
    store, writer = filled()
    # The writer has begun `claimed` slots and finished none: they hold anything by now.
    rng = np.random.default_rng(claimed)
    slots = np.arange(writer.time, writer.time + claimed) % SLOTS
    store.claimed += claimed
    store.frames[:, slots] = 123
    store.action[:, slots] = rng.integers(-1, 5, (STREAMS, claimed))
    store.reward[:, slots] = np.nan
    store.flags[:, slots] = rng.integers(0, 8, (STREAMS, claimed))
    store.step_in_episode[:, slots] = rng.integers(0, 10**9, (STREAMS, claimed))
    sampler = Uniform(store, spec, seed=0)
    for _ in range(20):
        assert_is_what_its_ids_say(sampler.sample(64), spec)


def test_an_id_that_never_began_a_transition_is_refused_beside_one_that_was_overwritten():
    store, writer = filled()
    newest = (writer.time - 1) * STREAMS
    reader = TransitionReader(store, SPECS[0], 2)
    reader.ids[:] = [0, newest]
    with pytest.raises(IndexError, match=f"id {newest} begins no valid transition"):
        reader.read()
    reader.ids[:] = [0, newest - 8 * STREAMS]
    reader.read()
    assert reader.overwritten() == [0]
