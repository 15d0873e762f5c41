"""What the replay benchmark asks of another library's replay memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import torch
from replay_data import Episode, Transition

GAMMA, ALPHA, BETA = 0.99, 0.6, 0.4


@dataclass(frozen=True)
class Wanted:
    """What a memory is to be."""

    capacity: int  # transitions
    n_step: int
    prioritized: bool
    device: str = "cpu"


@dataclass(frozen=True)
class Drawn:
    """B transitions as a learner gets them."""

    obs: torch.Tensor  # [B, 4, H, W] uint8
    next_obs: torch.Tensor  # [B, 4, H, W] uint8
    action: torch.Tensor  # [B], with or without further dimensions of 1, as the next three
    reward: torch.Tensor  # over n steps
    terminated: torch.Tensor  # within n steps
    weight: torch.Tensor | None = None
    index: Any = None  # what `update` takes


class Peer(ABC):
    """One memory, filled episode by episode and then drawn from."""

    label: ClassVar[str]
    library: ClassVar[str]  # its distribution
    how: ClassVar[str]  # it is set up
    frames: ClassVar[int]  # stored per transition, for a guess of whether it fits
    frames_to_save: ClassVar[int] = 0  # unpacked per transition while saving or loading
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    pads: ClassVar[bool] = True  # stacks at an episode's start are filled up with zeros
    keeps_final: ClassVar[bool] = True  # next_obs is the final frame where the episode terminated
    cuts_steps: ClassVar[bool] = True  # at an episode's end, n > 1 steps become fewer, as in ours

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted

    @classmethod
    def lacks(cls, n_step: int, prioritized: bool) -> str | None:
        """Why this cannot be drawn from it; None: it can."""
        return None

    @classmethod
    def installed(cls) -> str | None:
        """The library's version, or None."""
        try:
            return metadata.version(cls.library)
        except metadata.PackageNotFoundError:
            return None

    @abstractmethod
    def fill(self, episode: Episode) -> None:
        """Store an episode, as fast as the library can."""

    def ready(self, transition: Transition) -> Any:
        """The transition as the library's own environments hand it over; not timed."""
        return transition

    @abstractmethod
    def insert(self, ready: Any) -> None:
        """Store one transition while playing."""

    @abstractmethod
    def stored(self) -> int:
        """Transitions held now."""

    @abstractmethod
    def sample(self, batch_size: int) -> Drawn: ...

    def update(self, index: Any, priority: torch.Tensor) -> None:
        """Give transitions new priorities `[K]` float32."""
        raise NotImplementedError

    @abstractmethod
    def save(self, path: Path) -> None: ...

    @abstractmethod
    def load(self, path: Path) -> None:
        """Take over what was saved; called on a new, empty memory."""
