"""Vector environments behind one contract: Atari, Gymnasium and the small built-in worlds.

Nothing here is imported before it is used: an emulator is loaded when one is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from playfield.envs.contract import EnvSpec, VectorEnv, VectorStep
from playfield.errors import UserError

if TYPE_CHECKING:
    from playfield.envs.names import ResolvedEnv
    from playfield.envs.protocols import AtariProtocol

__all__ = ["EnvSpec", "VectorEnv", "VectorStep", "available", "make", "resolve"]


def make(
    env_id: str,
    num_envs: int,
    *,
    protocol: str | AtariProtocol | None = None,
    full_action_space: bool | None = None,
    threads: int | None = None,
    processes: bool = False,
    render: bool = False,
) -> VectorEnv:
    """`num_envs` copies of the environment that `env_id` stands for (see `resolve`).

    `protocol` (a name or one of your own) overrides the one that an Atari id means, and
    `full_action_space` its action set. `threads` bounds the emulator threads of Atari; `processes`
    gives every Gymnasium environment a process. `render=True` prepares colour pictures of
    environment 0. Raises `UserError` for whatever can't be made.
    """
    from dataclasses import replace

    from playfield.envs.protocols import MACHADO2018, find_protocol

    found = resolve(env_id)
    if found.kind != "atari" and (protocol is not None or full_action_space is not None):
        raise UserError(f"{found.id} is not an Atari game: it has no protocol to choose.")
    if processes and found.kind != "gymnasium":
        raise UserError(f"{found.id} needs no processes: they are for Gymnasium environments.")
    if found.kind == "world":
        from playfield.envs.worlds import WORLDS
        from playfield.envs.worlds.vector import VectorWorld

        return VectorWorld(WORLDS[found.id], num_envs)
    if found.kind == "gymnasium":
        from playfield.envs.gymnasium_env import GymnasiumVector

        return GymnasiumVector(found.id, num_envs, processes=processes, render=render)
    from playfield.envs.atari import AtariVector

    chosen = protocol or found.protocol or MACHADO2018
    rules = find_protocol(chosen) if isinstance(chosen, str) else chosen
    if full_action_space is not None:
        rules = replace(rules, full_action_space=full_action_space)
    assert found.game is not None
    return AtariVector(found.game, num_envs, rules, threads=threads, render=render)


def resolve(env_id: str) -> ResolvedEnv:
    """What `env_id` stands for: kind, canonical id, and an Atari id's game and protocol."""
    from playfield.envs.names import resolve as resolve_name

    return resolve_name(env_id)


def available() -> dict[str, list[str]]:
    """Ids to choose from, by kind: "worlds" and "atari" in full, of "gymnasium" a few that fit."""
    from playfield.envs.names import atari_games, atari_id
    from playfield.envs.worlds import WORLDS

    return {
        "worlds": list(WORLDS),
        "atari": [atari_id(game, "machado2018") for game in atari_games()],
        "gymnasium": ["CartPole-v1", "Acrobot-v1", "MountainCar-v0"],
    }
