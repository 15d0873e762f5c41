"""Training speed: PPO on Pong against stable-baselines3's, in environment steps per second.

Both learn PongNoFrameskip-v4 with the settings that rl-baselines3-zoo tuned for Atari: Nature CNN,
rollouts of 128 steps in 8 environments, learned from in 4 epochs of batches of 256: an update per
64 steps. Ours is all that `playfield train` runs, logging included; SB3, in its own Atari wrappers,
logs nothing.

SB3 is measured with its environments in one process and in one each, and the faster of the two is
what counts. Ours is measured in float32, in bfloat16 where the processor has it, and with the next
rollout collected while one is learned from (`overlap`), which is another algorithm: it is shown and
does not count.

Each peer has a process of its own, one after the other in alternating rounds, and as many torch
threads. The clock runs over whole rollouts and what is learned from them, and starts some seconds
after the first. Updates per step are counted and have to be the same everywhere.

    python benchmarks/ppo_training.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sb3_atari import PPO_SETTINGS, atari_envs, ppo
from training_speed import (
    ENDLESS,
    Comparison,
    Settings,
    Stopwatch,
    has_bfloat16,
    train_playfield,
    train_sb3,
)


def settings_of(**ppo_settings: Any) -> dict[str, Any]:
    """What every peer is told, in SB3's words."""
    rows = ppo_settings["n_envs"] * ppo_settings["n_steps"]
    updates = ppo_settings["n_epochs"] * rows // ppo_settings["batch_size"]
    return {
        "env": "PongNoFrameskip-v4",
        "ppo": ppo_settings,
        "steps_per_update": rows // updates,
        "network": "Nature CNN",
    }


# What the zoo leaves at SB3's defaults is said here, as ours has its own.
FULL = {**PPO_SETTINGS, "gamma": 0.99, "gae_lambda": 0.95, "max_grad_norm": 0.5}
ADAM_EPS = 1e-5  # SB3's default for policies, and only for them
SETTINGS = settings_of(**FULL)
QUICK = settings_of(**FULL | {"n_envs": 2, "n_steps": 32, "n_epochs": 2, "batch_size": 32})


@dataclass(frozen=True)
class Peer:
    """One way to train."""

    library: Literal["playfield", "SB3"]
    precision: Literal["float32", "bfloat16"] = "float32"  # SB3 knows nothing else
    overlap: bool = False  # ours: learn from one rollout while collecting the next
    subprocesses: bool = False  # SB3's: each environment in a process

    @property
    def name(self) -> str:
        if self.library == "SB3":
            return f"SB3, {'SubprocVecEnv' if self.subprocesses else 'DummyVecEnv'}"
        return f"{self.library}, {self.precision}{', overlap' if self.overlap else ''}"


BASELINES = (Peer("SB3"), Peer("SB3", subprocesses=True))
#: As the presets compute: in bfloat16 where that is faster.
OURS = Peer("playfield", "bfloat16" if has_bfloat16() else "float32")
PEERS = tuple(
    dict.fromkeys((*BASELINES, Peer("playfield"), OURS, Peer("playfield", OURS.precision, True)))
)


def train(peer: Peer, settings: Settings, stopwatch: Stopwatch, threads: int) -> None:
    learn = learn_playfield if peer.library == "playfield" else learn_sb3
    learn(peer, settings, stopwatch, threads)


def learn_playfield(peer: Peer, settings: Settings, stopwatch: Stopwatch, threads: int) -> None:
    from playfield.agents.ppo import PPO, PPOConfig
    from playfield.training.optimizers import OptimizerConfig

    told = settings["ppo"]
    config = PPOConfig(
        num_envs=told["n_envs"],
        num_steps=told["n_steps"],
        epochs=told["n_epochs"],
        batch_size=told["batch_size"],
        gamma=told["gamma"],
        gae_lambda=told["gae_lambda"],
        clip=told["clip_range"],
        anneal_clip=True,
        value_coef=2 * told["vf_coef"],  # ours weighs half the squared error, SB3's the whole
        entropy_coef=told["ent_coef"],
        precision=peer.precision,
        overlap=peer.overlap,
        optimizer=OptimizerConfig(
            learning_rate=told["learning_rate"],
            schedule="linear",
            adam_eps=ADAM_EPS,
            max_grad_norm=told["max_grad_norm"],
        ),
    )
    train_playfield("ppo", PPO, config, settings["env"], stopwatch, threads, steps=ENDLESS)


def learn_sb3(peer: Peer, settings: Settings, stopwatch: Stopwatch, threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    envs = atari_envs(settings["env"], settings["ppo"]["n_envs"], subprocesses=peer.subprocesses)
    train_sb3(ppo(envs, settings["ppo"], seed=0), stopwatch)


COMPARISON = Comparison(
    name="ppo_training",
    title=f"PPO on {SETTINGS['env']}",
    script=__file__,
    peers=PEERS,
    ours=OURS,
    baselines=BASELINES,
    wanted=2.0,
    settings=SETTINGS,
    quick=QUICK,
    train=train,
)

if __name__ == "__main__":
    COMPARISON.run(__doc__)
