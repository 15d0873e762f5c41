"""Between the loop, which knows no algorithm, and the algorithms, which know no loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

if TYPE_CHECKING:
    from playfield.buffers.store import FrameStore
    from playfield.training.gradient_step import GradientStep


@dataclass(frozen=True, slots=True)
class Share:
    """The mean over those of a batch that belong together, which may be none of them.

    A log interval's value is the sum of all totals over the sum of all counts.
    """

    total: torch.Tensor  # 0-d
    count: torch.Tensor  # 0-d


#: What one step reports: a scalar (a 0-d tensor stays on its device until the log interval ends), a
#: `Share`, or a sequence of finished values such as the returns of the games that ended in this
#: step.
Metrics = Mapping[str, float | torch.Tensor | Share | Sequence[float]]

#: Nested dicts and lists of tensors, numpy arrays, numbers, strings, booleans and None.
State = dict[str, Any]

#: What an agent rates its actions by.
PreferenceKind = Literal["action values", "probabilities"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What an agent does on E observations, and what it thinks of them."""

    action: NDArray[np.int64]  # [E]
    value: NDArray[np.float32]  # [E], the return that it expects from here
    preference: NDArray[np.float32]  # [E, num_actions], of `kind`
    kind: PreferenceKind


@dataclass(frozen=True, slots=True)
class Scores:
    """What an agent makes of N observations, with the graph that leads back to them."""

    value: torch.Tensor  # [N], the return that it expects
    preference: torch.Tensor  # [N, num_actions]: action values, or the policy's logits


class Policy(Protocol):
    """Something that acts: what evaluation and `watch` need of an agent.

    One with a memory keeps it from one call to the next, so each game in turn needs every one of
    its observations shown, in order.
    """

    stack: int  # frames per observation

    def act(self, obs: torch.Tensor, first: NDArray[np.bool_]) -> Decision:
        """What to do on `[E, stack*C, H, W]` uint8 or `[E, stack*D]` float32 observations.

        `first` `[E]` marks those that begin an episode, where a memory starts afresh.
        """
        ...


@runtime_checkable
class ExplainablePolicy(Policy, Protocol):
    """A policy that can be asked what it would have made of other observations."""

    def scores(self, obs: torch.Tensor) -> Scores:
        """What it makes of `obs` `[N, ...]`, float32 of an observation's shape and range.

        Each of them stands in the place of environment 0's newest observation, that of the last
        call of `act`: the memory is the one from before it. Neither memory nor draws change.
        """
        ...


class Trainer(Protocol):
    """One algorithm at work. The loop owns budget, logging, checkpoints, evaluation and signals."""

    @property
    def progress(self) -> int:
        """The trainer's clock, in `unit`s."""
        ...

    @property
    def unit(self) -> Literal["steps", "images"]:
        """What the clock counts: environment steps, or images learned from."""
        ...

    @property
    def stores(self) -> Mapping[str, FrameStore]:
        """The frame stores that a checkpoint keeps, by name."""
        ...

    @property
    def frames_per_step(self) -> int | None:
        """Emulator frames behind one unit of progress; None where nothing is emulated."""
        ...

    @property
    def gradient_steps(self) -> Mapping[str, GradientStep]:
        """The gradient steps that the loop watches for non-finite numbers, by name."""
        ...

    def step(self) -> Metrics:
        """Advance by the smallest consistent unit; between two calls the state can be saved."""
        ...

    def begin_segment(self, segment: int) -> None:
        """Start over in the environments, seeded by (run seed, segment); open episodes end as
        truncated.

        Emulator state cannot be saved, so a segment begins at the start, on resume, and after every
        checkpoint, where the run that is not stopped has to go on like the one that is.
        """
        ...

    @property
    def network(self) -> nn.Module:
        """What learns. Its part called `encoder` sees; the rest decides."""
        ...

    def network_replaced(self) -> None:
        """Bring what was made from `network` up to date: its weights were set from outside."""
        ...

    def state_dict(self) -> State: ...

    def load_state_dict(self, state: State) -> None: ...


class AgentTrainer(Trainer, Protocol):
    """A trainer of something that acts."""

    def policy(self) -> Policy:
        """The agent as it would be evaluated now."""
        ...
