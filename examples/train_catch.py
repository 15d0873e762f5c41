"""Train DQN on the built-in pixel world in a few seconds, and count what it catches.

python examples/train_catch.py
"""

import numpy as np
import torch

import playfield
from playfield.agents.dqn import DQN
from playfield.agents.presets import PRESETS
from playfield.evaluation.games import play_games
from playfield.training.devices import set_threads

set_threads(1)  # the network is too small to share

catch = PRESETS["catch"]
env = playfield.envs.make("playfield/Catch-v0", num_envs=catch.config.num_envs)
agent = DQN(catch.config, env, seed=0, device=torch.device("cpu"))
agent.begin_segment(0)

returns: list[float] = []
next_report = 0
while agent.progress < 15_000:
    returns += agent.step().get("episode/return", [])
    if agent.progress >= next_report and returns:
        print(f"{agent.progress:6,} steps  mean return {np.mean(returns[-100:]):5.2f}")
        next_report = agent.progress + 2_500

games = play_games(
    playfield.envs.make("playfield/Catch-v0", 8), agent.policy(), episodes=100, seed=1
)
print(f"caught {sum(game.score > 0 for game in games)} of {len(games)} balls")
