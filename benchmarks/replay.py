"""Replay: playfield's frame store against stable-baselines3's ReplayBuffer, in one run.

Every peer holds the same 50,000 transitions of 84x84 pictures in stacks of four, and draws from
them uniformly into torch tensors on the CPU. The peers take turns, a block of calls each. Three
rows are no peers but bounds and variants:

  playfield, contiguous  obs and next_obs copied apart; as drawn they share three of five frames
  numpy fancy index      five frames per transition by numpy from our table, rows already known
  bare gather            our kernel alone, rows already known: little but the memory copy

Insertion is what one environment step costs each peer's memory, stacking excluded.

    python benchmarks/replay.py
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from measure import (
    Target,
    alternate,
    conditions,
    destination,
    need_stable_baselines3,
    parser,
    report,
    show,
    summarise,
    threads_of,
)
from numpy.typing import NDArray

from playfield.buffers.store import FrameStore
from playfield.buffers.transitions import TransitionReader, TransitionSpec
from playfield.buffers.uniform import Uniform
from playfield.envs.contract import VectorStep

STACK, SIZE, ACTIONS = 4, 84, 6
SPEC = TransitionSpec(stack=STACK, n_step=1, gamma=0.99)
OURS, SB3 = "playfield", "SB3"
SB3_LEAN = "SB3, optimize_memory_usage"
CONTIGUOUS, FANCY, BARE = "playfield, contiguous", "numpy fancy index", "bare gather"
#: Batch size: how many times faster than SB3, on two cores and one stream, we want to be.
WANTED_RATIO = {32: 8.0, 256: 20.0}
WANTED_BYTES = 7_200


@dataclass(frozen=True)
class Sizes:
    """How much is stored and how often it is measured."""

    transitions: int = 50_000
    episodes: int = 40  # per stream; a game of Pong is about a thousand steps
    blocks: int = 30
    calls: int = 20  # per block and peer


QUICK = Sizes(transitions=800, episodes=5, blocks=2, calls=3)


@dataclass(frozen=True)
class Moment:
    """One step of E environments, as each peer wants it."""

    step: VectorStep  # playfield stores this: one new frame each
    obs: NDArray[np.uint8]  # [E, 4, H, W], SB3 stores both stacks: before the step
    next_obs: NDArray[np.uint8]  # [E, 4, H, W], and after it
    action: NDArray[np.int64]  # [E], chosen on next_obs
    last_action: NDArray[np.int64]  # [E], led from obs to next_obs


def episode_lengths(transitions: int, episodes: int, seed: int) -> list[int]:
    """Random lengths of 1 or more that sum to `transitions`."""
    cuts = np.random.default_rng(seed).choice(transitions - 1, episodes - 1, replace=False) + 1
    return np.diff([0, *np.sort(cuts), transitions]).tolist()


def play(streams: int, lengths: Sequence[int], seed: int) -> Iterator[Moment]:
    """Endless play of random pictures, in episodes that end in all streams together.

    What a byte says makes no difference to a copy, as long as its page is really there.
    """
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (1024, SIZE, SIZE), dtype=np.uint8)
    no, yes = np.zeros(streams, bool), np.ones(streams, bool)
    for length in cycle(lengths):
        obs = np.zeros((streams, STACK, SIZE, SIZE), np.uint8)
        action = np.zeros(streams, np.int64)
        for t in range(length + 1):
            frames = pictures[rng.integers(len(pictures), size=streams)][:, None]
            next_obs = np.concatenate([obs[:, 1:], frames], axis=1)
            last_action, action = action, rng.integers(ACTIONS, size=streams)
            step = VectorStep(
                frames=frames,
                reward=rng.integers(-1, 2, streams).astype(np.float32),
                terminated=yes if t == length else no,
                truncated=no,
                life_lost=no,
                first=yes if t == 0 else no,
                lives=np.zeros(streams, np.int64),
            )
            yield Moment(step, obs, next_obs, action, last_action)
            obs = next_obs


class Memories:
    """The same transitions in every peer's memory."""

    def __init__(self, sizes: Sizes, streams: int) -> None:
        from gymnasium import spaces
        from stable_baselines3.common.buffers import ReplayBuffer

        self.streams = streams
        self.lengths = episode_lengths(sizes.transitions // streams, sizes.episodes, seed=0)
        moments = sum(self.lengths) + len(self.lengths)  # an episode's last frame has no action
        self.store = FrameStore(moments * streams, streams, (1, SIZE, SIZE))

        def sb3(lean: bool) -> ReplayBuffer:
            return ReplayBuffer(
                sizes.transitions,
                spaces.Box(0, 255, (STACK, SIZE, SIZE), np.uint8),
                spaces.Discrete(ACTIONS),
                device="cpu",
                n_envs=streams,
                optimize_memory_usage=lean,
                handle_timeout_termination=not lean,  # SB3 refuses both at once
            )

        self.sb3, self.sb3_lean = sb3(lean=False), sb3(lean=True)
        for moment in islice(play(streams, self.lengths, seed=1), moments):
            for insert in self.inserters().values():
                insert(moment)
        self._check()

    def inserters(self) -> dict[str, Callable[[Moment], None]]:
        """What each peer does with one step."""

        def ours(moment: Moment) -> None:
            self.store.append(moment.step)
            self.store.act(moment.action)

        def into(buffer: Any) -> Callable[[Moment], None]:
            def insert(moment: Moment) -> None:
                if not moment.step.first[0]:
                    buffer.add(
                        moment.obs,
                        moment.next_obs,
                        moment.last_action,
                        moment.step.reward,
                        moment.step.terminated,
                        infos,
                    )

            return insert

        infos: list[dict[str, Any]] = [{}] * self.streams
        return {SB3: into(self.sb3), SB3_LEAN: into(self.sb3_lean), OURS: ours}

    def _check(self) -> None:
        """Raise AssertionError unless ours and SB3's memories say the same of every 97th moment."""
        times = np.concatenate(
            [
                np.arange(length) + start
                for length, start in zip(
                    self.lengths, np.cumsum([0, *(n + 1 for n in self.lengths[:-1])]), strict=True
                )
            ]
        )
        assert len(Uniform(self.store, SPEC, 0).valid_ids()) == len(times) * self.streams
        places = np.arange(0, len(times), 97)
        stream = self.streams - 1
        reader = TransitionReader(self.store, SPEC, len(places))
        batch = reader(times[places] * self.streams + stream)
        for ours, theirs in (
            (batch.obs, self.sb3.observations[places, stream]),
            (batch.next_obs, self.sb3.next_observations[places, stream]),
            (batch.action, self.sb3.actions[places, stream, 0]),
            (batch.reward, self.sb3.rewards[places, stream]),
            (batch.discount == 0, self.sb3.dones[places, stream].astype(bool)),
        ):
            assert np.array_equal(ours.numpy(), theirs)

    def bytes_per_transition(self) -> dict[str, float]:
        """Bytes of what each peer stores, by transitions that can be drawn; batches left out."""
        store = self.store
        valid = len(Uniform(store, SPEC, 0).valid_ids())
        arrays = [store.frame_table.numpy(), *store.column_state().values()]
        found = {OURS: sum(array.nbytes for array in arrays) / valid}
        for name, buffer in ((SB3, self.sb3), (SB3_LEAN, self.sb3_lean)):
            arrays = [a for a in vars(buffer).values() if isinstance(a, np.ndarray)]
            held = buffer.size() * self.streams
            found[name] = sum(array.nbytes for array in arrays) / held
        return found


def sampling(memories: Memories, batch_size: int, sizes: Sizes) -> dict[str, list[float]]:
    """Microseconds per batch of each peer and bound."""
    store, sb3, sb3_lean = memories.store, memories.sb3, memories.sb3_lean
    sampler, apart = Uniform(store, SPEC, 0), Uniform(store, SPEC, 1)

    def contiguous() -> tuple[torch.Tensor, torch.Tensor]:
        batch = apart.sample(batch_size)
        return batch.obs.contiguous(), batch.next_obs.contiguous()

    # Fresh rows for each call of the bounds too: the same ones would come from the cache.
    rng = np.random.default_rng(2)
    oldest = rng.integers(0, store.capacity - SPEC.frames_read, (64, batch_size, 1))
    rows = cycle(oldest + np.arange(SPEC.frames_read))
    fancy_rows = cycle((oldest + np.arange(SPEC.frames_read))[::-1])
    table = store.frame_table.numpy()
    out = np.zeros((batch_size * SPEC.frames_read, store.frame_bytes), np.uint8)
    return alternate(
        {
            SB3: lambda: sb3.sample(batch_size),
            OURS: lambda: sampler.sample(batch_size),
            SB3_LEAN: lambda: sb3_lean.sample(batch_size),
            CONTIGUOUS: contiguous,
            FANCY: lambda: torch.from_numpy(table[next(fancy_rows)]),
            BARE: lambda: store.gather_into(next(rows), out),
        },
        blocks=sizes.blocks,
        calls=sizes.calls,
        warm_up=2,
    )


def insertion(memories: Memories, sizes: Sizes) -> dict[str, list[float]]:
    """Microseconds per environment step (one transition per stream), in memories that are full."""
    count = (sizes.blocks + 1) * sizes.calls
    moments = list(islice(play(memories.streams, [count], seed=3), count))

    def each(insert: Callable[[Moment], None]) -> Callable[[], None]:
        following = iter(moments)
        return lambda: insert(next(following))

    peers = {name: each(insert) for name, insert in memories.inserters().items()}
    return alternate(peers, blocks=sizes.blocks, calls=sizes.calls)


def main() -> None:
    options = parser(__doc__).parse_args()
    need_stable_baselines3()
    record = conditions(options)
    threads = threads_of(options)
    torch.set_num_threads(threads)  # nothing else that our own training sets: SB3 would gain too
    np.random.seed(0)  # noqa: NPY002 - SB3 draws from numpy's global generator
    sizes = QUICK if options.quick else Sizes()
    measurements: list[dict[str, Any]] = []
    targets: list[Target] = []
    bytes_per_transition: dict[str, dict[str, float]] = {}

    def add(what: str, streams: int, batch: int | None, samples: dict[str, list[float]]) -> None:
        summaries = {name: summarise(taken) for name, taken in samples.items()}
        ratios = {name: summaries[SB3].median / s.median for name, s in summaries.items()}
        if streams == 1 and batch in WANTED_RATIO:
            wanted = WANTED_RATIO[batch]
            targets.append(Target(f"sample {batch}, times SB3's speed", wanted, ratios[OURS]))
        measurements.append(
            {
                "what": what,
                "streams": streams,
                "batch_size": batch,
                "unit": "microseconds",
                "summary": {name: asdict(summary) for name, summary in summaries.items()},
                "sb3_time_over_this": ratios,
                "samples": samples,
            }
        )
        size = "" if batch is None else f" {batch}"
        show(
            f"{what}{size}, {streams} stream{'s' if streams > 1 else ''}",
            ("", "us: median (quartiles)", "SB3's time / this"),
            [(name, str(s), f"{ratios[name]:.2f}") for name, s in summaries.items()],
        )

    for streams in (1, 8):
        memories = Memories(sizes, streams)
        memories.store.threads = min(memories.store.threads, threads)
        for batch_size in WANTED_RATIO:
            add("sample", streams, batch_size, sampling(memories, batch_size, sizes))
        add("insert one step", streams, None, insertion(memories, sizes))
        found = memories.bytes_per_transition()
        bytes_per_transition[f"streams={streams}"] = found
        del memories
        gc.collect()  # SB3's peer is 3 GB: the next one should not have to stand beside it

    show(
        "bytes per transition",
        ("", *bytes_per_transition),
        [
            (name, *(f"{found[name]:,.0f}" for found in bytes_per_transition.values()))
            for name in (SB3, SB3_LEAN, OURS)
        ],
    )
    if not options.quick:  # tiny stores are mostly scratch
        measured = max(found[OURS] for found in bytes_per_transition.values())
        targets.append(Target("bytes per transition", WANTED_BYTES, measured, at_least=False))
    record |= {
        "threads": threads,
        "sizes": asdict(sizes),
        "transition": {"stack": STACK, "frame": [SIZE, SIZE], "n_step": 1},
        "bytes_per_transition": bytes_per_transition,
        "measurements": measurements,
    }
    report("replay", record, targets, destination(options))


if __name__ == "__main__":
    main()
