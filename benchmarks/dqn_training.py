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

from dataclasses import dataclass
from typing import Any, Literal

from sb3_atari import atari_envs
from training_speed import Comparison, Settings, Stopwatch, train_playfield, train_sb3

SETTINGS: dict[str, Any] = {
    "env": "PongNoFrameskip-v4",
    "learning_starts": 1_000,
    "buffer_size": 20_000,
    "batch_size": 32,
    "learning_rate": 1e-4,
    "gamma": 0.99,
    "max_grad_norm": 10.0,
    "steps_per_update": 4,
    "target_every": 1_000,
    "epsilon": 0.01,
    "adam_eps": 1e-8,
    "double": False,
    "n_step": 1,
    "network": "Nature CNN",
}
QUICK = SETTINGS | {"learning_starts": 64}
#: Those that bear the same name in both libraries.
SHARED = ("learning_starts", "buffer_size", "batch_size", "gamma")


@dataclass(frozen=True)
class Peer:
    """One way to train."""

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


def train(peer: Peer, settings: Settings, stopwatch: Stopwatch, threads: int) -> None:
    learn = learn_playfield if peer.library == "playfield" else learn_sb3
    learn(peer, settings, stopwatch, threads)


def learn_playfield(peer: Peer, settings: Settings, stopwatch: Stopwatch, threads: int) -> None:
    from playfield.agents.dqn import DQN, DQNConfig
    from playfield.training.optimizers import OptimizerConfig

    optimizer = {name: settings[name] for name in ("learning_rate", "adam_eps", "max_grad_norm")}
    config = DQNConfig(
        **{name: settings[name] for name in (*SHARED, "target_every")},
        num_envs=peer.num_envs,
        precision=peer.precision,
        optimizer=OptimizerConfig(**optimizer),
        update_every=settings["steps_per_update"],
        epsilon_start=settings["epsilon"],
        epsilon_final=settings["epsilon"],
        double=settings["double"],
        n_step=settings["n_step"],
    )
    train_playfield("dqn", DQN, config, settings["env"], stopwatch, threads)


def learn_sb3(peer: Peer, settings: Settings, stopwatch: Stopwatch, threads: int) -> None:
    import torch
    from stable_baselines3 import DQN

    torch.set_num_threads(threads)
    # SB3 counts train_freq in steps of all environments at once: with 8 of them one such step is
    # due two updates. Below 4 environments one update is due after several steps.
    every = settings["steps_per_update"]
    model = DQN(
        "CnnPolicy",
        atari_envs(settings["env"], peer.num_envs),
        **{name: settings[name] for name in (*SHARED, "learning_rate", "max_grad_norm")},
        train_freq=max(1, every // peer.num_envs),
        gradient_steps=max(1, peer.num_envs // every),
        target_update_interval=settings["target_every"],
        exploration_initial_eps=settings["epsilon"],
        exploration_final_eps=settings["epsilon"],
        policy_kwargs={"optimizer_kwargs": {"eps": settings["adam_eps"]}},
        seed=0,
        device="cpu",
    )
    train_sb3(model, stopwatch)


COMPARISON = Comparison(
    name="dqn_training",
    title=f"DQN on {SETTINGS['env']}",
    script=__file__,
    peers=PEERS,
    ours=OURS,
    baselines=(BASELINE,),
    wanted=3.0,
    settings=SETTINGS,
    quick=QUICK,
    train=train,
)

if __name__ == "__main__":
    COMPARISON.run(__doc__)
