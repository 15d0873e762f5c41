"""Small worlds with known answers: no ROM, no download, solved in seconds.

| id | frames | what it shows | best return |
|---|---|---|---|
| `playfield/Catch-v0` | uint8 `[1, 10, 5]` | learning from pixels | 1 |
| `playfield/Corridor-v0` | uint8 `[1, 3, 10]` | memory | 1 (without memory 0) |
| `playfield/Chain-v0` | float32 `[7]` | values equal to value iteration | 1 |
| `playfield/Endless-v0` | float32 `[1]` | truncation bootstraps | 10 |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from playfield.envs.worlds.catch import Catch
from playfield.envs.worlds.chain import Chain
from playfield.envs.worlds.corridor import Corridor
from playfield.envs.worlds.endless import Endless
from playfield.envs.worlds.vector import Dynamics

#: What makes the dynamics of E copies, by id.
WORLDS: Mapping[str, Callable[[int], Dynamics]] = MappingProxyType(
    {
        "playfield/Catch-v0": Catch,
        "playfield/Corridor-v0": Corridor,
        "playfield/Chain-v0": Chain,
        "playfield/Endless-v0": Endless,
    }
)
