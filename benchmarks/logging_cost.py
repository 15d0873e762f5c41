"""What logging costs: training with curves on and off, in steps per second, in one run.

DQN and PPO train on Pong as `playfield train` does, and the curves are switched on and off from one
block of steps to the next: on, the loop sums up what steps report, and both files are written in
their thread; off, none of this happens. Distributions of weights, which a run writes with its
checkpoints, every 250,000 steps by default, are written in each block that logs, thirty times as
often. All blocks have the same number of steps and of updates. The cost is the median over pairs
of neighbouring blocks of how much longer the one that logs takes.

    python benchmarks/logging_cost.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any
from unittest import mock

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
from training_speed import ENDLESS, train_playfield

from playfield.training.metrics import Recorder
from playfield.training.session_log import SessionLog
from playfield.training.trainer import Metrics

ENV = "PongNoFrameskip-v4"
WANTED = 0.02  # of the time without
ENVS = 8
#: Steps per environment in a rollout of PPO's.
ROLLOUT, QUICK_ROLLOUT = 128, 16
#: Steps of a block: whole rollouts of PPO, and four points of the curves.
BLOCK, QUICK_BLOCK = 4_096, 128
PAIRS, QUICK_PAIRS = 16, 2


class Switch:
    """Turns logging on and off every `block` steps, and times each block."""

    def __init__(self, block: int, pairs: int) -> None:
        self.on = True
        self.seconds: list[float] = []  # of each block, one with logging first
        self.stolen: list[float] = []  # seconds in them that other machines on the host had
        self._block = block
        self._blocks = 2 * pairs
        self.weights_due = False  # once in each block that logs
        self._turn: int | None = None  # the progress that ends this block; None while warming up

    def over(self, progress: int, updates: int) -> bool:
        """Called between two steps: whether all blocks are done."""
        if self._turn is None:
            if progress < self._block or not updates or progress % self._block:
                return False
            self._begin(progress)
        elif progress >= self._turn:
            self.seconds.append(time.perf_counter() - self._begun)
            self.stolen.append(stolen_seconds() - self._stolen)
            self.on = not self.on
            self._begin(progress)
        return len(self.seconds) == self._blocks

    def _begin(self, progress: int) -> None:
        self._turn = progress + self._block
        self.weights_due = self.on
        self._begun, self._stolen = time.perf_counter(), stolen_seconds()


@contextmanager
def switched(switch: Switch) -> Iterator[None]:
    """The loop's own recorder and curves, which do nothing while the switch is off."""

    class SwitchedRecorder(Recorder):
        def add(self, progress: int, metrics: Metrics) -> None:
            if switch.on:
                super().add(progress, metrics)

    class SwitchedLog(SessionLog):
        def write_interval(self, progress: int, minutes: float) -> bool:
            if not switch.on:
                return False
            if switch.weights_due:
                self.write_weights(progress)
                switch.weights_due = False
            return super().write_interval(progress, minutes)

    with (
        mock.patch("playfield.training.loop.Recorder", SwitchedRecorder),
        mock.patch("playfield.training.loop.SessionLog", SwitchedLog),
    ):
        yield


def dqn(quick: bool) -> tuple[Any, Any]:
    from playfield.agents.dqn import DQN, DQNConfig

    starts = 64 if quick else 1_000
    return DQN, DQNConfig(
        num_envs=ENVS, learning_starts=starts, buffer_size=20_000, epsilon_start=0.01
    )


def ppo(quick: bool) -> tuple[Any, Any]:
    from playfield.agents.ppo import PPO, PPOConfig

    return PPO, PPOConfig(num_envs=ENVS, num_steps=QUICK_ROLLOUT if quick else ROLLOUT)


TRAINERS = {"dqn": dqn, "ppo": ppo}


def cost(seconds: Sequence[float]) -> float:
    """How much longer a block takes with logging: the median over pairs of (on, off), less 1."""
    pairs = zip(seconds[::2], seconds[1::2], strict=True)
    return statistics.median(on / off for on, off in pairs) - 1


def main() -> None:
    options = parser(__doc__).parse_args()
    record = conditions(options)
    threads = threads_of(options)
    block, pairs = (QUICK_BLOCK, QUICK_PAIRS) if options.quick else (BLOCK, PAIRS)
    found: dict[str, Any] = {}
    for name, make in TRAINERS.items():
        trainer_type, config = make(options.quick)
        switch = Switch(block, pairs)
        with switched(switch):
            train_playfield(name, trainer_type, config, ENV, switch, threads, steps=ENDLESS)
        on = summarise([block / seconds for seconds in switch.seconds[::2]])
        off = summarise([block / seconds for seconds in switch.seconds[1::2]])
        found[name] = {
            "cost": cost(switch.seconds),
            "steps_per_second_on": asdict(on),
            "steps_per_second_off": asdict(off),
            "seconds": switch.seconds,
            "stolen_seconds": switch.stolen,
        }
    show(
        f"{ENV}: {pairs} pairs of blocks of {block:,} steps, {threads} threads",
        ("", "steps/s on", "steps/s off", "cost"),
        [
            (
                name,
                f"{result['steps_per_second_on']['median']:,.0f}",
                f"{result['steps_per_second_off']['median']:,.0f}",
                f"{100 * result['cost']:.2f} %",
            )
            for name, result in found.items()
        ],
    )
    record |= {"threads": threads, "env": ENV, "block_steps": block, "results": found}
    targets = [
        Target(
            f"{name}: longer with logging, of the time without",
            WANTED,
            result["cost"],
            at_least=False,
        )
        for name, result in found.items()
    ]
    report("logging_cost", record, targets, destination(options))


if __name__ == "__main__":
    main()
