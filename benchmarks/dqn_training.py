"""Training speed: DQN on Pong against stable-baselines3's, in environment steps per second.

Both learn PongNoFrameskip-v4 as SB3 is commonly set for Atari: Nature CNN, batches of 32, an update
every 4 environment steps, one gradient step each, Adam at 1e-4, the target copied every 1,000
steps. Two settings are smaller than usual, in both: 20,000 transitions of replay, and learning from
step 1,000 on. Epsilon stays at 0.01, so that both act by network nearly always. Ours is all that
`playfield train` runs, logging included; SB3, in its own Atari wrappers, logs nothing.

Each peer has a process of its own, one after the other in alternating rounds, and as many torch
threads. The clock starts some seconds after the first update. Updates per step are counted: the
replay ratio has to be the same 1/4 everywhere.

    python benchmarks/dqn_training.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from measure import (
    Target,
    conditions,
    destination,
    need_stable_baselines3,
    parser,
    report,
    show,
    stop,
    summarise,
    threads_of,
)

ENV = "PongNoFrameskip-v4"
WANTED_RATIO = 3.0
STEPS_PER_UPDATE = 4
#: What both peers are told.
SHARED: dict[str, Any] = {
    "buffer_size": 20_000,
    "batch_size": 32,
    "learning_rate": 1e-4,
    "gamma": 0.99,
    "max_grad_norm": 10.0,
}
TARGET_EVERY, EPSILON, ADAM_EPS = 1_000, 0.01, 1e-8


@dataclass(frozen=True)
class Peer:
    """One way to train, measured in a process of its own."""

    library: Literal["playfield", "SB3"]
    num_envs: int
    precision: Literal["auto", "float32"] = "float32"  # SB3 knows nothing else
    note: str = ""

    @property
    def name(self) -> str:
        envs = f"{self.num_envs} environment{'s' if self.num_envs > 1 else ''}"
        return f"{self.library}, {envs}{', ' + self.note if self.note else ''}"


BASELINE = Peer("SB3", 1)
OURS = Peer("playfield", 8, "auto")
PEERS = (
    BASELINE,
    OURS,
    Peer("SB3", 8),
    Peer("playfield", 1, "auto"),
    Peer("playfield", 8, "float32", "float32"),
)


@dataclass(frozen=True)
class Window:
    """When to measure."""

    learning_starts: int = 1_000  # environment steps
    warm_up: float = 5.0  # seconds of learning before the clock starts
    seconds: float = 40.0  # on the clock


QUICK = Window(learning_starts=64, warm_up=0.1, seconds=1.0)


class Stopwatch:
    """Watches steps and updates go by, and says when the window is over."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.learning_since: float | None = None
        self.began: tuple[float, int, int] | None = None
        self.result: dict[str, float] | None = None

    def over(self, steps: int, updates: int) -> bool:
        """True once the result is there; called after every step."""
        now = time.perf_counter()
        if updates and self.learning_since is None:
            self.learning_since = now
        if self.learning_since is None or now - self.learning_since < self.window.warm_up:
            return False
        if self.began is None:
            self.began = (now, steps, updates)
            return False
        seconds = now - self.began[0]
        if seconds < self.window.seconds:
            return False
        self.result = {
            "seconds": seconds,
            "steps": steps - self.began[1],
            "updates": updates - self.began[2],
        }
        return True


class WindowOverError(Exception):
    """Leaves our loop, which would otherwise save a checkpoint first."""


def train_playfield(peer: Peer, window: Window, threads: int) -> dict[str, float] | None:
    """What `playfield train dqn` does, in a run that is thrown away."""
    import torch

    from playfield import envs
    from playfield.agents.dqn import DQN, DQNConfig
    from playfield.training.devices import set_threads
    from playfield.training.loop import TrainingConfig, train
    from playfield.training.run import Run, new_manifest
    from playfield.training.trainer import Metrics

    set_threads(threads)
    stopwatch = Stopwatch(window)

    class TimedDQN(DQN):
        def step(self) -> Metrics:
            metrics = super().step()
            if stopwatch.over(self.progress, self.updates):
                raise WindowOverError
            return metrics

    config = DQNConfig(
        **SHARED,
        num_envs=peer.num_envs,
        precision=peer.precision,
        learning_starts=window.learning_starts,
        update_every=STEPS_PER_UPDATE,
        target_every=TARGET_EVERY,
        epsilon_start=EPSILON,
        epsilon_final=EPSILON,
        adam_eps=ADAM_EPS,
        double=False,
        n_step=1,
    )
    training = TrainingConfig(steps=10**9, checkpoint_every=10**9, evaluate_episodes=0)
    env = envs.make(ENV, peer.num_envs, threads=threads)
    try:
        trainer = TimedDQN(config, env, seed=0, device=torch.device("cpu"))
        with tempfile.TemporaryDirectory() as root:
            manifest = new_manifest(
                command=[],
                algorithm="dqn",
                preset=None,
                env=env.spec.id,
                protocol=env.spec.protocol,
                config=asdict(config),
                training=asdict(training),
                seed=0,
                device="cpu",
            )
            try:
                train(trainer, Run.create(Path(root), "benchmark", manifest), training)
            except WindowOverError:
                pass
    finally:
        env.close()
    return stopwatch.result


def train_sb3(peer: Peer, window: Window, threads: int) -> dict[str, float] | None:
    """SB3's own DQN with its own Atari wrappers."""
    import ale_py
    import gymnasium
    import torch
    from stable_baselines3 import DQN
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    gymnasium.register_envs(ale_py)
    torch.set_num_threads(threads)
    stopwatch = Stopwatch(window)

    class Watch(BaseCallback):
        def _on_step(self) -> bool:
            return not stopwatch.over(self.num_timesteps, self.model._n_updates)

    env = VecFrameStack(make_atari_env(ENV, n_envs=peer.num_envs, seed=0), n_stack=4)
    # SB3 counts train_freq in steps of all environments at once: with 8 of them one such step is
    # due two updates. Below 4 environments one update is due after several steps.
    steps = max(1, STEPS_PER_UPDATE // peer.num_envs)
    updates = max(1, peer.num_envs // STEPS_PER_UPDATE)
    model = DQN(
        "CnnPolicy",
        env,
        **SHARED,
        learning_starts=window.learning_starts,
        train_freq=steps,
        gradient_steps=updates,
        target_update_interval=TARGET_EVERY,
        exploration_initial_eps=EPSILON,
        exploration_final_eps=EPSILON,
        policy_kwargs={"optimizer_kwargs": {"eps": ADAM_EPS}},
        seed=0,
        device="cpu",
    )
    model.learn(10**9, callback=Watch())
    env.close()
    return stopwatch.result


def child(job: dict[str, Any]) -> None:
    """Measure one peer and print the result as the last line."""
    peer, window = Peer(**job["peer"]), Window(**job["window"])
    train = train_playfield if peer.library == "playfield" else train_sb3
    print(json.dumps(train(peer, window, job["threads"])))


def measure(peer: Peer, window: Window, threads: int) -> dict[str, float]:
    """Run `peer` in a process of its own; adds its rates to what it counted."""
    job = {"peer": asdict(peer), "window": asdict(window), "threads": threads}
    command = [sys.executable, __file__, "--child", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        stop(f"{peer.name} failed; its last words stand above.")
    counted: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    counted["steps_per_second"] = counted["steps"] / counted["seconds"]
    counted["updates_per_second"] = counted["updates"] / counted["seconds"]
    counted["steps_per_update"] = counted["steps"] / max(counted["updates"], 1)
    return counted


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, help="how often each peer is measured; 3")
    arguments.add_argument("--seconds", type=float, help="on the clock, each time; 40")
    arguments.add_argument("--child", help="a job of this script's own, as JSON")
    options = arguments.parse_args()
    if options.child:
        child(json.loads(options.child))
        return
    need_stable_baselines3()
    record = conditions(options)
    threads = threads_of(options)
    window = QUICK if options.quick else Window()
    if options.seconds is not None:
        window = replace(window, seconds=options.seconds)
    rounds = options.rounds or (1 if options.quick else 3)

    samples: dict[str, list[dict[str, float]]] = {peer.name: [] for peer in PEERS}
    for number in range(rounds):
        for peer in PEERS:
            counted = measure(peer, window, threads)
            samples[peer.name].append(counted)
            rate = counted["steps_per_second"]
            print(f"round {number + 1}: {peer.name}: {rate:,.0f} steps/s", flush=True)

    speed = {name: summarise([c["steps_per_second"] for c in s]) for name, s in samples.items()}
    ratios = {name: s.median / speed[BASELINE.name].median for name, s in speed.items()}
    per_update = {
        name: sum(c["steps"] for c in s) / max(1, sum(c["updates"] for c in s))
        for name, s in samples.items()
    }
    show(
        f"DQN on {ENV}, {threads} thread{'s' if threads > 1 else ''}, while learning",
        ("", "steps/s: median (quartiles)", "updates/s", "steps/update", "times SB3"),
        [
            (
                name,
                str(summary),
                f"{summary.median / per_update[name]:.1f}",
                f"{per_update[name]:.2f}",
                f"{ratios[name]:.2f}",
            )
            for name, summary in speed.items()
        ],
    )
    record |= {
        "env": ENV,
        "threads": threads,
        "rounds": rounds,
        "window": asdict(window),
        "settings": {
            **SHARED,
            "steps_per_update": STEPS_PER_UPDATE,
            "target_every": TARGET_EVERY,
            "epsilon": EPSILON,
            "adam_eps": ADAM_EPS,
            "double": False,
            "n_step": 1,
            "network": "Nature CNN",
        },
        "peers": {peer.name: asdict(peer) for peer in PEERS},
        "bfloat16": has_bfloat16(),
        "summary": {name: asdict(summary) for name, summary in speed.items()},
        "times_sb3": ratios,
        "steps_per_update": per_update,
        "samples": samples,
    }
    # A window of seconds ends in the middle of a stride, so small samples are a little off.
    slack = 0.5 if options.quick else 0.02
    unequal = [n for n, s in per_update.items() if abs(s / STEPS_PER_UPDATE - 1) > slack]
    if unequal:
        stop(f"steps per update are not {STEPS_PER_UPDATE} in {', '.join(unequal)}: no comparison.")
    target = Target("environment steps/s, times SB3's", WANTED_RATIO, ratios[OURS.name])
    report("dqn_training", record, [target], destination(options))


def has_bfloat16() -> bool:
    """Whether "auto" computes in bfloat16 here."""
    import torch

    from playfield.training.devices import precision

    return precision(torch.device("cpu"), "auto") is torch.bfloat16


if __name__ == "__main__":
    main()
