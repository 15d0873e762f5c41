"""Published raw scores on the Atari 100k benchmark: 26 games, five training runs of each.

Two agents, the same games, one mean score of evaluation for every run:

- SimPLe: Kaiser et al. 2020, "Model-Based Reinforcement Learning for Atari" (arXiv:1903.00374), the
  runs that Agarwal et al. 2021 publish with rliable.
- DIAMOND: Alonso et al. 2024, "Diffusion for World Modeling" (arXiv:2405.12399), the runs that
  they publish with their code.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from playfield.evaluation.human_scores import human_normalised

SIMPLE: dict[str, list[float]] = {
    "Alien": [677.1875, 435.46875, 515.9375, 425.3125, 1030.46875],
    "Amidar": [93.65625, 102.703125, 63.71875, 31.0, 80.203125],
    "Assault": [457.890625, 606.1875, 509.0625, 671.078125, 391.78125],
    "Asterix": [1061.71875, 1108.59375, 920.3125, 1065.625, 1485.15625],
    "BankHeist": [43.90625, 77.5, 0.0, 31.875, 17.96875],
    "BattleZone": [4031.2, 4031.2, 5359.375, 3484.375, 3250.0],
    "Boxing": [12.65625, 20.984375, 0.09375, -4.359375, 9.375],
    "Breakout": [10.3125, 16.4, 22.765625, 16.4, 16.046875],
    "ChopperCommand": [962.5, 896.875, 909.375, 848.4375, 1279.6875],
    "CrazyClimber": [54370.3125, 57220.3125, 51150.0, 87593.75, 62583.6],
    "DemonAttack": [288.90625, 208.1, 161.25, 177.578125, 204.84375],
    "Freeway": [0.0, 0.015625, 21.546875, 29.890625, 31.96875],
    "Frostbite": [262.34375, 248.75, 205.78125, 266.875, 200.625],
    "Gopher": [447.5, 732.5, 525.3125, 432.8125, 845.625],
    "Hero": [3061.5625, 3020.859375, 2060.390625, 2935.0, 2205.234375],
    "Jamesbond": [141.40625, 50.0, 110.9375, 123.4375, 76.5625],
    "Kangaroo": [65.625, 62.5, 25.0, 40.625, 62.5],
    "Krull": [3317.546875, 1933.71875, 1739.03125, 1379.625, 2654.28125],
    "KungFuMaster": [14318.75, 15023.4375, 14134.375, 21054.6875, 9781.25],
    "MsPacman": [1551.09375, 1221.25, 1199.0625, 1525.0, 1903.4375],
    "Pong": [21.0, -17.890625, 19.3125, 20.671875, 20.984375],
    "PrivateEye": [100.0, 0.0, 100.0, -25.140625, 0.0],
    "Qbert": [4258.984375, 150.0, 580.078125, 798.828125, 656.25],
    "RoadRunner": [3081.25, 900.0, 5906.25, 11176.5625, 7139.0625],
    "Seaquest": [711.5625, 455.3125, 565.625, 854.0625, 830.0],
    "UpNDown": [8614.53125, 1616.09375, 498.59375, 661.25, 5360.9375],
}

DIAMOND: dict[str, list[float]] = {
    "Alien": [703.1, 683.6, 910.1, 826.8, 597.0],
    "Amidar": [215.4, 233.5, 181.9, 275.6, 222.4],
    "Assault": [1570.93, 1321.8, 1638.1, 1791.5, 1309.5],
    "Asterix": [3027.0, 2453.0, 7330.0, 2830.5, 2852.0],
    "BankHeist": [19.4, 16.3, 19.3, 13.7, 30.0],
    "BattleZone": [6340.0, 10520.0, 2220.0, 2400.0, 2030.0],
    "Boxing": [99.4, 84.0, 97.5, 71.4, 82.2],
    "Breakout": [124.0, 148.8, 81.0, 108.0, 200.6],
    "ChopperCommand": [1378.0, 1113.0, 1789.0, 1720.0, 849.0],
    "CrazyClimber": [81227.0, 99253.0, 96533.0, 116221.0, 102605.0],
    "DemonAttack": [245.4, 107.3, 295.7, 329.9, 462.3],
    "Freeway": [33.8, 33.7, 32.4, 33.0, 33.7],
    "Frostbite": [254.9, 297.4, 280.5, 267.6, 269.9],
    "Gopher": [980.8, 4337.0, 2518.0, 13846.6, 7807.2],
    "Hero": [3155.1, 7465.0, 3216.6, 7599.5, 6672.7],
    "Jamesbond": [424.0, 383.9, 508.5, 388.0, 432.5],
    "Kangaroo": [9871.0, 5858.0, 5712.0, 3258.0, 2212.0],
    "Krull": [9137.3, 7246.9, 8139.0, 9341.0, 9186.5],
    "KungFuMaster": [14325.0, 26783.0, 25959.0, 14546.0, 11955.0],
    "MsPacman": [1776.4, 1896.2, 1642.6, 2419.8, 2055.9],
    "Pong": [19.3, 20.9, 20.9, 20.7, 20.0],
    "PrivateEye": [100.0, 100.0, 208.1, 63.4, 100.0],
    "Qbert": [4506.5, 3890.8, 4707.2, 5041.8, 4350.2],
    "RoadRunner": [12228.0, 25222.0, 29552.0, 20223.0, 16141.0],
    "Seaquest": [307.0, 789.2, 769.2, 280.2, 610.6],
    "UpNDown": [3737.0, 3190.4, 5494.0, 1376.8, 5483.2],
}


def normalised(raw: dict[str, list[float]]) -> NDArray[np.float64]:
    """Human-normalised scores `[5 runs, 26 games]`, the games in alphabetical order."""

    def column(game: str) -> list[float]:
        scores = [human_normalised(game, score) for score in raw[game]]
        return [score for score in scores if score is not None]

    return np.array([column(game) for game in sorted(raw)]).T
