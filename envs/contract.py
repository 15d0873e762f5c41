"""What every vector environment hands over, and the protocol that all of them follow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class VectorStep:
    """One step of E environments: what arrived *with* the newest frames.

    `reward`, `terminated`, `truncated` and `life_lost` belong to the action that led to `frames`.
    Autoreset is Gymnasium's `NEXT_STEP`: after a row with `terminated` or `truncated` (its frame is
    the final observation), the next row of that environment is its reset observation with `first`
    true, reward 0, and the action sent for it ignored. A `first` row is never a transition and is
    not counted as an environment step. The arrays are the receiver's own: no environment writes to
    them again.
    """

    frames: NDArray[Any]  # [E, C, H, W] uint8, or [E, D] float32
    reward: NDArray[np.float32]  # [E], raw: never clipped or scaled
    terminated: NDArray[np.bool_]  # [E], the game is over
    truncated: NDArray[np.bool_]  # [E], cut by a time limit; the state still has a value
    life_lost: NDArray[np.bool_]  # [E], a life was lost and the game goes on
    first: NDArray[np.bool_]  # [E], the first observation of an episode
    lives: NDArray[np.int64]  # [E], lives left; 0 where the environment knows none


@dataclass(frozen=True, slots=True)
class EnvSpec:
    """What a learner has to know of an environment before its first step."""

    id: str  # the canonical id, such as "ALE/Pong-v5"
    frame_shape: tuple[int, ...]  # one frame of one environment: (C, H, W) or (D,)
    frame_dtype: str  # "uint8" or "float32"
    num_actions: int
    action_meanings: tuple[str, ...]
    frames_per_step: int = 1  # emulator frames that one step advances (frame skip)
    protocol: dict[str, Any] = field(default_factory=dict)  # every setting that changes a score


class VectorEnv(Protocol):
    """E copies of one environment, stepped together.

    `send` and `recv` are `step` in two halves: the environments run between them. Exactly one
    `recv` follows each `send`. Actions are int64 `[E]`, validated before anything is sent: a
    `ValueError` names the first one outside `0 <= action < num_actions`.
    """

    spec: EnvSpec
    num_envs: int

    def reset(self, seed: int) -> VectorStep: ...

    def send(self, actions: NDArray[np.int64]) -> None: ...

    def recv(self) -> VectorStep: ...

    def step(self, actions: NDArray[np.int64]) -> VectorStep: ...

    def render(self) -> NDArray[np.uint8]:
        """The newest picture of environment 0 as `[H, W, 3]` uint8 RGB, for watching."""
        ...

    def close(self) -> None: ...
