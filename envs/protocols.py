"""Atari protocols: the settings that make two scores comparable, as named data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from playfield.errors import UserError


@dataclass(frozen=True)
class AtariProtocol:
    """How an Atari game is played and shown. Two scores compare only under one protocol.

    Frames are emulator frames, 60 a second; a step is `frame_skip` of them. `UserError` for a value
    that no emulator can follow.
    """

    name: str
    #: The chance, at each frame, that the emulator repeats the action before ("sticky actions").
    repeat_action_probability: float
    #: A game starts after a uniform number of no-op frames, 0 to `noop_max`.
    noop_max: int
    #: Press FIRE on the first frame of a game whose minimal action set has it; it counts as one of
    #: the no-op frames. FIRE is never pressed for the agent after a lost life.
    fire_reset: bool
    #: The learner treats a lost life as terminal. The game goes on, and evaluation ignores it.
    life_loss_terminal: bool
    #: All 18 actions, or the minimal set of those that do something in the game.
    full_action_space: bool = False
    frame_skip: int = 4
    #: Frames after which a game is cut (truncated): half an hour.
    max_frames: int = 108_000
    #: Height and width of a frame, resized by area averaging.
    frame_size: int = 84
    #: One channel of ALE's own grey palette, or three of colour.
    grey: bool = True
    #: A frame is the pixelwise maximum of the last two of its step: sprites that flicker stay.
    max_pool: bool = True

    def __post_init__(self) -> None:
        wrong = {
            "repeat_action_probability must be from 0 to 1": not (
                0.0 <= self.repeat_action_probability <= 1.0
            ),
            "noop_max must be 0 or more": self.noop_max < 0,
            "frame_skip must be 1 or more": self.frame_skip < 1,
            "max_frames must be 1 or more": self.max_frames < 1,
            "frame_size must be 1 or more": self.frame_size < 1,
        }
        for rule, broken in wrong.items():
            if broken:
                value = getattr(self, rule.split()[0])
                raise UserError(f"Atari protocol {self.name!r}: {rule}, not {value}.")

    def as_dict(self) -> dict[str, Any]:
        """Every field by its name: what a run and a result record."""
        return asdict(self)


#: Machado et al. 2018, "Revisiting the Arcade Learning Environment", section 6 and table 10: sticky
#: actions are the only randomness, a game ends only when it is over. What `ALE/Pong-v5` means.
#: (They recommend all 18 actions; like `ALE/…-v5` this takes the minimal set unless asked.)
MACHADO2018 = AtariProtocol(
    name="machado2018",
    repeat_action_probability=0.25,
    noop_max=0,
    fire_reset=False,
    life_loss_terminal=False,
)

#: Mnih et al. 2015, "Human-level control through deep reinforcement learning", with the FIRE at
#: reset of OpenAI Baselines. What `PongNoFrameskip-v4` and its customary wrappers mean.
NATURE = AtariProtocol(
    name="nature",
    repeat_action_probability=0.0,
    noop_max=30,
    fire_reset=True,
    life_loss_terminal=True,
)

#: The environment of the 100k benchmark (Kaiser et al. 2020, "Model-based reinforcement learning
#: for Atari", as its successors play it: van Hasselt et al. 2019, Schwarzer et al. 2021): Nature's
#: without the FIRE. Its other half, 100,000 steps of training, is the budget of a run.
ATARI100K = AtariProtocol(
    name="atari100k",
    repeat_action_probability=0.0,
    noop_max=30,
    fire_reset=False,
    life_loss_terminal=True,
)

PROTOCOLS: Mapping[str, AtariProtocol] = MappingProxyType(
    {protocol.name: protocol for protocol in (MACHADO2018, NATURE, ATARI100K)}
)


def find_protocol(name: str) -> AtariProtocol:
    """The protocol called `name`; `UserError` names the ones there are."""
    if name not in PROTOCOLS:
        raise UserError(f"Protocol {name!r} is unknown: use one of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]
