"""What logging costs: training with curves on and off, in steps per second, in one run.

DQN and PPO train on Pong as `playfield train` does, and logging is switched on and off from one
block of steps to the next: on, the loop sums up what steps report, and both files are written in
their thread; off, none of this happens. All blocks have as many steps and updates.
The cost is how much longer a block with logging takes than its neighbour without, the median over
pairs of blocks, in which either comes first in turn, with the 95 % interval of a bootstrap.

Blocks differ by more than logging costs, so it is counted as well: the seconds of processor that
the loop's thread and the writer's spend on it, over those that training took. Distributions of
weights, which a run writes with its checkpoints, are not among them.

    python benchmarks/logging_cost.py
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any
from unittest import mock

import numpy as np
from measure import (
    Target,
    conditions,
    destination,
    parser,
    report,
    show,
    stolen_seconds,
    summarise,
    threads_of,
)
from numpy.typing import NDArray
from training_speed import ENDLESS, train_playfield

from playfield.evaluation.statistics import stratified_bootstrap
from playfield.training.metrics import Recorder
from playfield.training.session_log import SessionLog
from playfield.training.trainer import Metrics
from playfield.training.writer_thread import Job, WriterThread

ENV = "PongNoFrameskip-v4"
WANTED = 0.02  # of the time without
ENVS = 8
#: Steps of each environment in a rollout of PPO.
ROLLOUT, QUICK_ROLLOUT = 128, 16
#: Steps of each environment in a block: two rollouts of PPO, and two points of the curves.
BLOCK, QUICK_BLOCK = 2 * ROLLOUT, 2 * QUICK_ROLLOUT
PAIRS, QUICK_PAIRS = 16, 2
#: Threads that log.
LOOP, WRITER = "loop", "writer"


@dataclass(frozen=True)
class Block:
    """So many steps, with logging or without."""

    logged: bool
    steps: int  # of all environments; PPO does not count those that begin a game
    seconds: float
    stolen: float  # of those seconds, what other machines on the host had

    @property
    def per_step(self) -> float:
        return self.seconds / self.steps


class Switch:
    """Turns logging on and off every `block` steps of the trainer, and times each block.

    The blocks of a pair are on and off, those of the next off and on: what drifts favours neither.
    """

    def __init__(self, block: int, pairs: int) -> None:
        self.on = True
        self.timed: list[Block] = []
        self.work: Counter[str] = Counter()  # seconds of processor for logging, by thread
        self._block = block
        self._blocks = 2 * pairs
        self._calls = 0
        self._timing = False  # not while warming up

    def over(self, progress: int, updates: int) -> bool:
        """Called after every step of the trainer: whether all blocks are done."""
        self._calls += 1
        if self._calls % self._block or not updates:
            return False
        now = time.perf_counter(), stolen_seconds(), progress
        if self._timing:
            seconds, stolen, steps = (
                after - before for after, before in zip(now, self._begun, strict=True)
            )
            self.timed.append(Block(self.on, int(steps), seconds, stolen))
            self.on = len(self.timed) % 4 in (0, 3)
        else:
            self.work.clear()
        self._timing, self._begun = True, now
        return len(self.timed) == self._blocks

    @contextmanager
    def counted(self, thread: str) -> Iterator[None]:
        """Adds the processor's time that the calling thread spends within."""
        began = time.thread_time()
        try:
            yield
        finally:
            self.work[thread] += time.thread_time() - began


@contextmanager
def switched(switch: Switch) -> Iterator[None]:
    """The loop's own recorder and curves, which do nothing while the switch is off."""

    class SwitchedRecorder(Recorder):
        def add(self, progress: int, metrics: Metrics) -> None:
            if switch.on:
                with switch.counted(LOOP):
                    super().add(progress, metrics)

    class SwitchedLog(SessionLog):
        def write_interval(self, progress: int, minutes: float) -> bool:
            if not switch.on:
                return False
            with switch.counted(LOOP):
                return super().write_interval(progress, minutes)

    class CountedWriter(WriterThread):
        def put(self, job: Job, size: int = 0, share: float = 1.0) -> bool:
            def counted() -> None:
                with switch.counted(WRITER):
                    job()

            return super().put(counted, size, share)

    with (
        mock.patch("playfield.training.logs.WriterThread", CountedWriter),
        mock.patch("playfield.training.loop.Recorder", SwitchedRecorder),
        mock.patch("playfield.training.loop.SessionLog", SwitchedLog),
    ):
        yield


def dqn(quick: bool) -> tuple[Any, Any, int]:
    """The trainer, its settings, and how far its `step` takes each environment."""
    from playfield.agents.dqn import DQN, DQNConfig

    starts = 64 if quick else 1_000
    config = DQNConfig(
        num_envs=ENVS, learning_starts=starts, buffer_size=20_000, epsilon_start=0.01
    )
    return DQN, config, 1


def ppo(quick: bool) -> tuple[Any, Any, int]:
    """The same; a rollout at once."""
    from playfield.agents.ppo import PPO, PPOConfig

    rollout = QUICK_ROLLOUT if quick else ROLLOUT
    return PPO, PPOConfig(num_envs=ENVS, num_steps=rollout), rollout


TRAINERS = {"dqn": dqn, "ppo": ppo}


def costs(blocks: Sequence[Block]) -> list[float]:
    """How much longer a step takes in that block of each pair that logs, of the other's time."""
    pairs = zip(blocks[::2], blocks[1::2], strict=True)
    ordered = [sorted(pair, key=lambda block: block.logged) for pair in pairs]
    return [on.per_step / off.per_step - 1 for off, on in ordered]


def summary(switch: Switch) -> dict[str, Any]:
    """What one trainer's blocks say."""
    found = np.array(costs(switch.timed))
    interval = stratified_bootstrap(found[:, None], median_of_pairs)
    logged = sum(block.seconds for block in switch.timed if block.logged)
    return {
        "cost": float(np.median(found)),
        "cost_95": [interval.low, interval.high],
        "counted": {thread: switch.work[thread] / logged for thread in (LOOP, WRITER)},
        "steps_per_second": {
            name: asdict(summarise([b.steps / b.seconds for b in switch.timed if b.logged == logs]))
            for name, logs in (("on", True), ("off", False))
        },
        "blocks": [asdict(block) for block in switch.timed],
    }


def median_of_pairs(found: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.median(found, axis=(-2, -1))


def main() -> None:
    options = parser(__doc__).parse_args()
    record = conditions(options)
    threads = threads_of(options)
    block, pairs = (QUICK_BLOCK, QUICK_PAIRS) if options.quick else (BLOCK, PAIRS)
    results: dict[str, Any] = {}
    for name, make in TRAINERS.items():
        trainer_type, config, taken = make(options.quick)
        switch = Switch(block // taken, pairs)
        with switched(switch):
            train_playfield(name, trainer_type, config, ENV, switch, threads, steps=ENDLESS)
        results[name] = summary(switch)
    show(
        f"{ENV}: {pairs} pairs of blocks of {block * ENVS:,} steps, {threads} threads",
        ("", "steps/s on", "steps/s off", "cost", "95 %", "counted: loop + writer"),
        [
            (
                name,
                f"{found['steps_per_second']['on']['median']:,.0f}",
                f"{found['steps_per_second']['off']['median']:,.0f}",
                f"{100 * found['cost']:.2f} %",
                " to ".join(f"{100 * end:.2f}" for end in found["cost_95"]),
                " + ".join(f"{100 * share:.3f} %" for share in found["counted"].values()),
            )
            for name, found in results.items()
        ],
    )
    record |= {"threads": threads, "env": ENV, "block_steps": block * ENVS, "results": results}
    targets = [
        Target(
            f"{name}: longer with logging, of the time without",
            WANTED,
            found["cost"],
            at_least=False,
        )
        for name, found in results.items()
    ]
    report("logging_cost", record, targets, destination(options))


if __name__ == "__main__":
    main()
