"""From what a user writes to the environment that is meant: ids, game names, misspellings."""

from __future__ import annotations

import difflib
import functools
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from playfield.envs.protocols import NATURE, find_protocol
from playfield.envs.worlds import WORLDS
from playfield.errors import UserError

#: ROMs that ale-py ships but can only play with two players; asked for one, it ends the process.
TWO_PLAYER_GAMES = frozenset({"combat", "joust", "maze_craze", "warlords"})

_ATARI_ID = re.compile(
    r"(?P<namespace>ALE/)?(?P<game>\w+?)(?P<style>(?:-ram)?(?:NoFrameskip|Deterministic)?)"
    r"-v(?P<version>\d+)"
)


@dataclass(frozen=True, slots=True)
class ResolvedEnv:
    """The environment that an id stands for."""

    kind: Literal["atari", "world", "gymnasium"]
    id: str  # canonical: resolving it again gives this same record
    game: str | None = None  # Atari's ROM name, such as "ms_pacman"
    protocol: str | None = None  # the Atari protocol that the id means


def resolve(env_id: str) -> ResolvedEnv:
    """What `env_id` stands for.

    `ALE/Pong-v5` and plain `pong`, `Pong` mean Pong under the `machado2018` protocol,
    `PongNoFrameskip-v4` under `nature`. `playfield/…` are the built-in worlds, and everything
    registered with Gymnasium goes by its id (`module:Id-v0` imports the module first).

    Raises `UserError` for an id whose rules are not offered, saying which id to use instead, and
    for an unknown one, suggesting the nearest.
    """
    if env_id in WORLDS:
        return ResolvedEnv("world", env_id)
    if _in_gymnasium(env_id):
        return ResolvedEnv("gymnasium", env_id)
    if found := _plain_game(env_id) or _atari_id(env_id):
        return found
    near = suggestions(env_id)
    advice = f"did you mean {' or '.join(near)}? " if near else ""
    raise UserError(
        f"Environment {env_id!r} is unknown: {advice}`playfield list envs` shows what there is."
    )


def atari_id(game: str, protocol: str) -> str:
    """The canonical id of a game: the one that means `protocol` where there is such an id.

    Other protocols have no id of their own; theirs is `ALE/…-v5`, and the protocol is named beside.
    """
    name = game.title().replace("_", "")
    return f"{name}NoFrameskip-v4" if protocol == NATURE.name else f"ALE/{name}-v5"


@functools.cache
def atari_games() -> tuple[str, ...]:
    """The ROM names of the games that one player can play, in alphabetical order."""
    from ale_py import roms

    return tuple(sorted(set(roms.get_all_rom_ids()) - TWO_PLAYER_GAMES))


def gymnasium_ids() -> tuple[str, ...]:
    """Ids registered with Gymnasium other than Atari's, the newest version of each."""
    import gymnasium

    newest: dict[tuple[str | None, str], tuple[int, str]] = {}
    for env_id, spec in gymnasium.registry.items():
        if not is_ale(spec.entry_point):
            key = (spec.namespace, spec.name)
            newest[key] = max(newest.get(key, (-1, "")), (spec.version or 0, env_id))
    return tuple(env_id for _, env_id in newest.values())


def suggestions(env_id: str, most: int = 3) -> list[str]:
    """Known ids that look like `env_id`, nearest first."""
    known: dict[str, list[str]] = {}
    for candidate in (*WORLDS, *_canonical_games().values(), *gymnasium_ids()):
        known.setdefault(_bare(candidate), []).append(candidate)
    near = difflib.get_close_matches(_bare(env_id), known, n=most, cutoff=0.7)
    return [candidate for name in near for candidate in known[name]][:most]


def is_ale(entry_point: object) -> bool:
    """Whether a Gymnasium entry point is ALE's: those environments skip frames themselves."""
    return str(entry_point).startswith("ale_py")


def _in_gymnasium(env_id: str) -> bool:
    import gymnasium

    module, colon, bare = env_id.rpartition(":")
    if colon:
        try:
            importlib.import_module(module)
        except (ImportError, ValueError) as error:
            raise UserError(f"Environment {env_id!r}: can't import {module!r}: {error}.") from None
    spec = gymnasium.registry.get(bare)
    return spec is not None and not is_ale(spec.entry_point)


def _plain_game(env_id: str) -> ResolvedEnv | None:
    game = _games_by_letters().get(_letters(env_id))
    if game is None or "/" in env_id:
        return None
    return _atari(game, "machado2018")


def _atari_id(env_id: str) -> ResolvedEnv | None:
    parts = _ATARI_ID.fullmatch(env_id)
    game = parts and _games_by_letters().get(_letters(parts["game"]))
    if not parts or not game:
        return None
    match (parts["namespace"], parts["style"], parts["version"]):
        case ("ALE/", "", "5"):
            return _atari(game, "machado2018")
        case (None, "NoFrameskip", "4"):
            return _atari(game, "nature")
    raise UserError(
        f"Environment {env_id!r} has rules of its own that are not offered here: use "
        f"{atari_id(game, 'machado2018')} (sticky actions) or {atari_id(game, 'nature')} (none)."
    )


def _atari(game: str, protocol: str) -> ResolvedEnv:
    if game in TWO_PLAYER_GAMES:
        raise UserError(f"Atari game {game!r} needs two players; choose one for a single player.")
    return ResolvedEnv("atari", atari_id(game, protocol), game, find_protocol(protocol).name)


@functools.cache
def _games_by_letters() -> Mapping[str, str]:
    return {_letters(game): game for game in (*atari_games(), *TWO_PLAYER_GAMES)}


@functools.cache
def _canonical_games() -> Mapping[str, str]:
    return {game: atari_id(game, "machado2018") for game in atari_games()}


def _letters(name: str) -> str:
    """`MsPacman`, `ms_pacman` and `ms-pacman` are one name."""
    return re.sub(r"[\W_]", "", name).lower()


def _bare(env_id: str) -> str:
    """An id without namespace, version and style, for comparing what a user may have meant."""
    name = re.sub(r"((-ram)?(NoFrameskip|Deterministic)?-v\d*)$", "", env_id.rpartition("/")[2])
    return _letters(name)
