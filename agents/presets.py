"""Presets: an algorithm's config under a name, with the environment it was made for, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from playfield.agents.a2c import A2CConfig
from playfield.agents.dqn import DQNConfig
from playfield.agents.encoders import EncoderConfig, MemoryConfig
from playfield.agents.ppo import PPOConfig
from playfield.agents.pqn import PQNConfig
from playfield.agents.registry import AgentConfig
from playfield.agents.reinforce import ReinforceConfig
from playfield.training.optimizers import OptimizerConfig
from playfield.training.presets import find_preset


@dataclass(frozen=True)
class Preset:
    """Settings that were tried together."""

    name: str
    algorithm: str
    summary: str
    config: AgentConfig
    env: str | None = None  # what it was made for; None: any
    steps: int | None = None  # how long it takes there


MEMORIES: Mapping[Literal["lstm", "gru", "transformer"], str] = {
    "lstm": "a long short-term memory",
    "gru": "gated recurrent units",
    "transformer": "attention over the last 16 steps",
}

PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "dqn",
            "dqn",
            "the defaults: one-step DQN with Adam, for Atari on a small machine",
            DQNConfig(),
        ),
        Preset(
            "nature",
            "dqn",
            "the schedule of Mnih et al. 2015: a million frames of replay, 50M steps",
            DQNConfig(
                num_envs=8,
                buffer_size=1_000_000,
                learning_starts=50_000,
                target_every=40_000,
                epsilon_final=0.1,
                epsilon_steps=1_000_000,
            ),
            steps=50_000_000,
        ),
        Preset(
            "prioritized",
            "dqn",
            "double DQN with the prioritised replay of Schaul et al. 2016, 50M steps",
            DQNConfig(
                num_envs=8,
                double=True,
                prioritized=True,
                priority_beta_steps=50_000_000,
                buffer_size=1_000_000,
                learning_starts=50_000,
                target_every=30_000,
                optimizer=OptimizerConfig(
                    learning_rate=6.25e-5, adam_eps=1.5e-4, max_grad_norm=10.0
                ),
                epsilon_steps=1_000_000,
            ),
            steps=50_000_000,
        ),
        Preset(
            "pong",
            "dqn",
            "double 3-step DQN that learns Pong within a million steps",
            DQNConfig(
                double=True,
                n_step=3,
                learning_starts=5_000,
                target_every=2_000,
                optimizer=OptimizerConfig(learning_rate=2e-4, adam_eps=1.5e-4, max_grad_norm=10.0),
                epsilon_steps=50_000,
            ),
            env="PongNoFrameskip-v4",
            steps=1_000_000,
        ),
        Preset(
            "catch",
            "dqn",
            "the built-in pixel world, solved in seconds",
            DQNConfig(
                double=True,
                hidden=64,
                buffer_size=10_000,
                learning_starts=500,
                target_every=200,
                optimizer=OptimizerConfig(learning_rate=1e-3, max_grad_norm=10.0),
                epsilon_steps=3_000,
            ),
            env="playfield/Catch-v0",
            steps=15_000,
        ),
        Preset(
            "cartpole",
            "dqn",
            "vector observations: keeps the pole up for some hundreds of steps after a minute",
            DQNConfig(
                double=True,
                hidden=256,
                buffer_size=50_000,
                batch_size=64,
                learning_starts=1_000,
                update_every=2,
                target_every=400,
                optimizer=OptimizerConfig(learning_rate=5e-4, max_grad_norm=10.0),
                reward_clip=0.0,
                epsilon_final=0.04,
                epsilon_steps=10_000,
            ),
            env="CartPole-v1",
            steps=50_000,
        ),
        Preset(
            "ppo",
            "ppo",
            "the defaults: the Atari settings of OpenAI Baselines with a constant clip, 10M steps",
            PPOConfig(),
            steps=10_000_000,
        ),
        Preset(
            "ppo-fast",
            "ppo",
            "Pong in minutes on two cores: half the channels, centered kernels, large steps",
            PPOConfig(
                num_envs=16,
                clip=0.2,
                hidden=256,
                encoder=EncoderConfig(width=0.5, centered=True),
                optimizer=OptimizerConfig(
                    learning_rate=1e-3, schedule="linear", adam_eps=1e-5, max_grad_norm=0.5
                ),
            ),
            env="PongNoFrameskip-v4",
            steps=900_000,
        ),
        Preset(
            "catch-ppo",
            "ppo",
            "the built-in pixel world, solved in seconds",
            PPOConfig(
                num_steps=32,
                batch_size=64,
                clip=0.2,
                hidden=64,
                greedy_evaluation=True,
                optimizer=OptimizerConfig(
                    learning_rate=3e-3, schedule="linear", adam_eps=1e-5, max_grad_norm=0.5
                ),
            ),
            env="playfield/Catch-v0",
            steps=15_000,
        ),
        Preset(
            "cartpole-ppo",
            "ppo",
            "vector observations: learns to balance the pole in seconds",
            PPOConfig(
                num_envs=16,
                num_steps=32,
                epochs=10,
                clip=0.2,
                # Values are near 100 here, and their gradient goes through the policy's layers.
                value_coef=0.02,
                entropy_coef=0.0,
                reward_clip=0.0,
                hidden=64,
                greedy_evaluation=True,
                precision="float32",
                optimizer=OptimizerConfig(
                    learning_rate=3e-3, schedule="linear", adam_eps=1e-5, max_grad_norm=0.5
                ),
            ),
            env="CartPole-v1",
            steps=100_000,
        ),
        *(
            Preset(
                f"memory-{memory}",
                "ppo",
                f"{name}: the built-in corridor, whose end only memory can tell",
                PPOConfig(
                    num_envs=16,
                    num_steps=32,
                    batch_size=128,
                    clip=0.2,
                    hidden=32,
                    memory=MemoryConfig(memory, memory_units=64),
                    greedy_evaluation=True,
                    optimizer=OptimizerConfig(
                        learning_rate=3e-3, schedule="linear", adam_eps=1e-5, max_grad_norm=0.5
                    ),
                ),
                env="playfield/Corridor-v0",
                steps=20_000,
            )
            for memory, name in MEMORIES.items()
        ),
        Preset(
            "a2c",
            "a2c",
            "the defaults: OpenAI Baselines' settings for Atari, 10M steps",
            A2CConfig(),
            steps=10_000_000,
        ),
        Preset(
            "catch-a2c",
            "a2c",
            "the built-in pixel world, solved in seconds",
            A2CConfig(
                num_steps=9,
                gae_lambda=0.95,
                normalize_advantage=True,
                hidden=64,
                greedy_evaluation=True,
                optimizer=OptimizerConfig(
                    "rmsprop", 2e-3, schedule="linear", adam_eps=1e-5, max_grad_norm=0.5
                ),
            ),
            env="playfield/Catch-v0",
            steps=30_000,
        ),
        Preset(
            "cartpole-a2c",
            "a2c",
            "vector observations: learns to balance the pole in half a minute",
            A2CConfig(
                num_envs=8,
                num_steps=16,
                gae_lambda=0.95,
                normalize_advantage=True,
                reward_clip=0.1,
                entropy_coef=0.0,
                hidden=64,
                greedy_evaluation=True,
                precision="float32",
                optimizer=OptimizerConfig(
                    "rmsprop", 2e-3, schedule="linear", adam_eps=1e-5, max_grad_norm=0.5
                ),
            ),
            env="CartPole-v1",
            steps=80_000,
        ),
        Preset(
            "catch-reinforce",
            "reinforce",
            "the built-in pixel world, solved in seconds",
            ReinforceConfig(
                hidden=64,
                greedy_evaluation=True,
                optimizer=OptimizerConfig(learning_rate=3e-3, schedule="linear", max_grad_norm=0.5),
            ),
            env="playfield/Catch-v0",
            steps=60_000,
        ),
        Preset(
            "cartpole-reinforce",
            "reinforce",
            "vector observations: learns to balance the pole in half a minute",
            ReinforceConfig(
                max_episode_steps=500,
                gamma=0.98,
                reward_clip=0.1,
                hidden=64,
                greedy_evaluation=True,
                precision="float32",
                optimizer=OptimizerConfig(learning_rate=1e-2, schedule="linear", max_grad_norm=0.5),
            ),
            env="CartPole-v1",
            steps=400_000,
        ),
        Preset(
            "pqn",
            "pqn",
            "the defaults: the settings of Gallici et al. 2024 for Atari, 200 million frames",
            PQNConfig(),
            steps=50_000_000,
        ),
        Preset(
            "catch-pqn",
            "pqn",
            "the built-in pixel world, solved in seconds",
            PQNConfig(
                num_envs=32,
                num_steps=16,
                minibatches=4,
                hidden=64,
                epsilon_final=0.05,
                epsilon_steps=10_000,
                optimizer=OptimizerConfig("radam", 1e-3, schedule="linear", max_grad_norm=10.0),
            ),
            env="playfield/Catch-v0",
            steps=40_000,
        ),
        Preset(
            "cartpole-pqn",
            "pqn",
            "vector observations: learns to balance the pole in half a minute",
            PQNConfig(
                num_envs=32,
                num_steps=64,
                minibatches=16,
                epochs=4,
                q_lambda=0.95,
                reward_clip=0.1,
                epsilon_final=0.2,
                epsilon_steps=30_000,
                hidden=128,
                encoder=EncoderConfig(norm="layer", mlp_layers=(128,)),
                precision="float32",
                optimizer=OptimizerConfig("radam", 3e-4, schedule="linear", max_grad_norm=10.0),
            ),
            env="CartPole-v1",
            steps=150_000,
        ),
    )
}


def preset(name: str, algorithm: str) -> Preset:
    """The preset called `name`; UserError if there is none, or if it is another algorithm's."""
    return find_preset(PRESETS, name, algorithm)
