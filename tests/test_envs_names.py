"""Which environment an id stands for, and what is said of one that is not known."""

from __future__ import annotations

import subprocess
import sys

import gymnasium
import pytest

from playfield.envs import available, make, resolve
from playfield.envs.names import atari_games, atari_id
from playfield.envs.protocols import NATURE
from playfield.errors import UserError


@pytest.mark.parametrize(
    ("env_id", "canonical", "game", "protocol"),
    [
        ("ALE/Pong-v5", "ALE/Pong-v5", "pong", "machado2018"),
        ("pong", "ALE/Pong-v5", "pong", "machado2018"),
        ("Pong", "ALE/Pong-v5", "pong", "machado2018"),
        ("PongNoFrameskip-v4", "PongNoFrameskip-v4", "pong", "nature"),
        ("ms_pacman", "ALE/MsPacman-v5", "ms_pacman", "machado2018"),
        ("MsPacman", "ALE/MsPacman-v5", "ms_pacman", "machado2018"),
        ("MsPacmanNoFrameskip-v4", "MsPacmanNoFrameskip-v4", "ms_pacman", "nature"),
        ("tic_tac_toe_3d", "ALE/TicTacToe3D-v5", "tic_tac_toe_3d", "machado2018"),
        ("atlantis2", "ALE/Atlantis2-v5", "atlantis2", "machado2018"),
    ],
)
def test_atari_goes_by_three_styles_of_name(
    env_id: str, canonical: str, game: str, protocol: str
) -> None:
    found = resolve(env_id)
    assert (found.kind, found.id, found.game, found.protocol) == (
        "atari",
        canonical,
        game,
        protocol,
    )
    assert resolve(found.id) == found


def test_canonical_atari_ids_are_gymnasiums_own() -> None:
    ids = {atari_id(game, "machado2018") for game in atari_games()}
    assert ids == {env_id for env_id in gymnasium.registry if env_id.startswith("ALE/")}
    for game in atari_games():
        for protocol in ("machado2018", "nature"):
            found = resolve(atari_id(game, protocol))
            assert (found.game, found.protocol) == (game, protocol)


@pytest.mark.parametrize(
    "env_id",
    [
        "Pong-v0",
        "Pong-v4",
        "Pong-v5",
        "ALE/Pong-v4",
        "PongDeterministic-v4",
        "PongNoFrameskip-v0",
        "Pong-ram-v4",
        "Pong-ramNoFrameskip-v4",
        "ALE/Pong-ram-v5",
    ],
)
def test_atari_ids_with_other_rules_are_refused_with_the_ones_to_use(env_id: str) -> None:
    with pytest.raises(UserError, match=r"use ALE/Pong-v5 .* or PongNoFrameskip-v4"):
        resolve(env_id)


@pytest.mark.parametrize(
    ("env_id", "suggested"),
    [
        ("pnog", "ALE/Pong-v5"),
        ("ALE/Breakot-v5", "ALE/Breakout-v5"),
        ("ALE/Pong", "ALE/Pong-v5"),
        ("SpaceInvader", "ALE/SpaceInvaders-v5"),
        ("CartPol-v1", "CartPole-v1"),
        ("CartPole", "CartPole-v1"),
        ("playfield/Cach-v0", "playfield/Catch-v0"),
        ("catch", "playfield/Catch-v0"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_ones(env_id: str, suggested: str) -> None:
    with pytest.raises(UserError) as error:
        resolve(env_id)
    assert f"did you mean {suggested}" in str(error.value)


@pytest.mark.parametrize("env_id", ["", "xyzzyplugh", "/", "-v4", "no_such_module:Thing-v0", ":"])
def test_a_name_like_nothing_known_is_still_one_sentence(env_id: str) -> None:
    with pytest.raises(UserError, match=r"^Environment .*\.$"):
        resolve(env_id)


def test_two_player_games_are_refused_because_ale_would_end_the_process() -> None:
    with pytest.raises(UserError, match="two players"):
        resolve("ALE/Combat-v5")


def test_other_ids_are_gymnasiums_or_built_in() -> None:
    assert resolve("CartPole-v1").kind == "gymnasium"
    assert resolve("playfield/Catch-v0").kind == "world"


def test_everything_on_offer_can_be_resolved_and_every_world_made() -> None:
    offered = available()
    assert set(offered) == {"worlds", "atari", "gymnasium"}
    for ids in offered.values():
        for env_id in ids:
            assert resolve(env_id).id == env_id
    for env_id in offered["worlds"] + offered["gymnasium"]:
        env = make(env_id, 1)
        assert env.spec.id == env_id
        env.close()


def test_a_protocol_argument_overrides_the_one_of_the_id() -> None:
    for protocol in ("nature", NATURE):
        env = make("ALE/Pong-v5", 1, protocol=protocol)
        assert env.spec.protocol["name"] == "nature"
        assert env.spec.protocol["game"] == "pong"
        assert env.spec.id == "PongNoFrameskip-v4"
        env.close()
    env = make("PongNoFrameskip-v4", 1, protocol="atari100k")
    assert env.spec.protocol["name"] == "atari100k"
    env.close()


def test_settings_that_an_environment_does_not_have_are_refused() -> None:
    with pytest.raises(UserError, match="not an Atari game"):
        make("CartPole-v1", 1, protocol="nature")
    with pytest.raises(UserError, match="not an Atari game"):
        make("playfield/Catch-v0", 1, full_action_space=True)
    with pytest.raises(UserError, match="needs no processes"):
        make("playfield/Catch-v0", 1, processes=True)
    with pytest.raises(UserError, match="unknown: use one of"):
        make("pong", 1, protocol="natur")


def test_importing_envs_loads_neither_torch_nor_an_emulator() -> None:
    program = (
        "import sys, playfield.envs\n"
        "print(sorted({'torch', 'ale_py', 'gymnasium'} & set(sys.modules)))\n"
        "playfield.envs.available()\n"
        "playfield.envs.make('CartPole-v1', 1)\n"
        "playfield.envs.make('pong', 1)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["[]", "False"], done.stderr
