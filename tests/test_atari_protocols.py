"""The Atari protocols against what their papers say, and what is recorded of them."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest

from playfield.envs.protocols import (
    ATARI100K,
    MACHADO2018,
    NATURE,
    PROTOCOLS,
    AtariProtocol,
    find_protocol,
)
from playfield.errors import UserError


def test_machado2018_has_sticky_actions_and_nothing_else() -> None:
    assert MACHADO2018.repeat_action_probability == 0.25
    assert MACHADO2018.noop_max == 0
    assert not MACHADO2018.fire_reset
    assert not MACHADO2018.life_loss_terminal


def test_nature_and_atari100k_have_no_op_starts_and_terminal_life_loss() -> None:
    for protocol in (NATURE, ATARI100K):
        assert protocol.repeat_action_probability == 0.0
        assert protocol.noop_max == 30
        assert protocol.life_loss_terminal
    assert replace(NATURE, name="atari100k", fire_reset=False) == ATARI100K


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda protocol: protocol.name)
def test_every_protocol_skips_four_frames_and_plays_half_an_hour(protocol: AtariProtocol) -> None:
    assert protocol.frame_skip == 4
    assert protocol.max_frames == 30 * 60 * 60  # 60 frames a second
    assert (protocol.frame_size, protocol.grey, protocol.max_pool) == (84, True, True)
    assert not protocol.full_action_space
    assert find_protocol(protocol.name) is protocol


def test_a_protocol_is_recorded_whole_and_can_be_made_from_its_record() -> None:
    record = json.loads(json.dumps(NATURE.as_dict()))
    assert set(record) == {field.name for field in fields(AtariProtocol)}
    assert AtariProtocol(**record) == NATURE


def test_a_protocol_cannot_be_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        NATURE.noop_max = 0  # type: ignore[misc]


def test_an_unknown_protocol_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="machado2018, nature, atari100k"):
        find_protocol("nips2013")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("repeat_action_probability", 1.5),
        ("repeat_action_probability", -0.1),
        ("noop_max", -1),
        ("frame_skip", 0),
        ("max_frames", 0),
        ("frame_size", 0),
    ],
)
def test_a_value_no_emulator_can_follow_is_named(field: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"{field} must be .* not {value}"):
        replace(NATURE, **{field: value})
