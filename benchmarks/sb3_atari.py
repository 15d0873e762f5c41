"""stable-baselines3 on Atari, as its users set it up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import VecEnv

#: PPO's tuned settings for Atari: rl-baselines3-zoo, hyperparams/ppo.yml, "atari". Learning rate
#: and clip range fall in a straight line to 0 over the training; the zoo's takes 10M steps.
PPO_SETTINGS: dict[str, Any] = {
    "n_envs": 8,
    "n_steps": 128,
    "n_epochs": 4,
    "batch_size": 256,
    "learning_rate": 2.5e-4,
    "clip_range": 0.1,
    "vf_coef": 0.5,
    "ent_coef": 0.01,
}
PPO_STEPS = 10_000_000


def atari_envs(env_id: str, num_envs: int, *, subprocesses: bool = False, seed: int = 0) -> VecEnv:
    """SB3's Atari environments, four frames stacked, one after the other or in processes."""
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack

    envs = make_atari_env(
        f"ale_py:{env_id}",  # a process that hears of it first here has to import ale_py
        n_envs=num_envs,
        seed=seed,
        vec_env_cls=SubprocVecEnv if subprocesses else DummyVecEnv,
    )
    return VecFrameStack(envs, n_stack=4)


def ppo(envs: VecEnv, settings: dict[str, Any], *, seed: int, device: str = "cpu") -> PPO:
    """SB3's PPO with these `PPO_SETTINGS`, on that many environments."""
    from stable_baselines3 import PPO

    own = {name: value for name, value in settings.items() if name != "n_envs"}
    learning_rate, clip_range = own.pop("learning_rate"), own.pop("clip_range")
    return PPO(
        "CnnPolicy",
        envs,
        **own,
        learning_rate=lambda remaining: remaining * learning_rate,
        clip_range=lambda remaining: remaining * clip_range,
        seed=seed,
        device=device,
    )
