"""The replay of an off-policy agent: its store, its sampler, and a batch's way to the learner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import torch

from playfield.buffers.augmentation import Augmentation
from playfield.buffers.batch import Batch
from playfield.buffers.prefetch import Prefetcher
from playfield.buffers.prioritized import Prioritized
from playfield.buffers.store import FrameStore
from playfield.buffers.transitions import TransitionSpec
from playfield.buffers.uniform import Uniform
from playfield.envs.contract import EnvSpec
from playfield.errors import UserError
from playfield.training.schedules import Linear

Placement = Literal["auto", "cpu", "cuda", "mmap"]


class ReplayConfig(Protocol):
    """The settings of an agent that are its replay's."""

    @property
    def num_envs(self) -> int: ...
    @property
    def buffer_size(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def replay_device(self) -> Placement: ...
    @property
    def random_shift(self) -> int: ...
    @property
    def prioritized(self) -> bool: ...
    @property
    def priority_alpha(self) -> float: ...
    @property
    def priority_beta_start(self) -> float: ...
    @property
    def priority_beta_steps(self) -> int: ...
    @property
    def priority_epsilon(self) -> float: ...


class Replay:
    """What an agent has seen, drawn uniformly or by priority, onto the learner's device.

    Frames lie where `replay_device` says. Where that is not the learner's device, `request` has the
    next batch assembled in the background; from then until `sample` nothing may be appended.
    """

    def __init__(
        self,
        config: ReplayConfig,
        spec: EnvSpec,
        transitions: TransitionSpec,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        self.batch_size, self.device = config.batch_size, device
        place = placement(config.replay_device, device)
        try:
            self.store = FrameStore(
                config.buffer_size,
                config.num_envs,
                spec.frame_shape,
                spec.frame_dtype,
                device=place,
                num_actions=spec.num_actions,
            )
        except OSError as error:
            raise UserError(
                f"There is no room for buffer_size={config.buffer_size} frames ({error}): choose "
                "a smaller one."
            ) from None
        augmentation = Augmentation(shift=config.random_shift) if config.random_shift else None
        try:
            self.sampler = self._sampler(config, transitions, seed, augmentation)
        except ValueError as error:
            raise UserError(f"random_shift does not suit {spec.id}: {error}.") from None
        self.beta = Linear(config.priority_beta_start, 1.0, config.priority_beta_steps)
        self._prefetcher: Prefetcher[Batch] | None = None
        if self.store.device.type != device.type:
            self._prefetcher = Prefetcher(self.sampler, device)

    def _sampler(
        self,
        config: ReplayConfig,
        transitions: TransitionSpec,
        seed: int,
        augmentation: Augmentation | None,
    ) -> Uniform | Prioritized:
        if not config.prioritized:
            return Uniform(self.store, transitions, seed, augmentation)
        return Prioritized(
            self.store,
            transitions,
            seed,
            alpha=config.priority_alpha,
            epsilon=config.priority_epsilon,
            augmentation=augmentation,
        )

    def request(self, progress: int) -> None:
        """Have the next batch assembled while something else is done, if that can help."""
        if self._prefetcher is not None:
            self._prefetcher.start(*self._arguments(progress))

    def sample(self, progress: int) -> Batch:
        """A batch on the learner's device, valid until the next one: that requested, if one was."""
        if self._prefetcher is not None:
            if not self._prefetcher.started:
                self._prefetcher.start(*self._arguments(progress))
            return self._prefetcher.take()
        return self.sampler.sample(*self._arguments(progress))

    def update(self, batch: Batch, td_error: torch.Tensor) -> None:
        """Take over the TD errors `[B]` of `batch` as priorities, where sampling is by priority."""
        if isinstance(self.sampler, Prioritized):
            # An error that is not finite, whose step was skipped, is best not drawn again soon.
            errors = td_error.abs().nan_to_num(nan=0.0, posinf=0.0)
            self.sampler.update(batch.index, errors)

    def metrics(self, progress: int) -> dict[str, float]:
        """How full it is, and how much of the bias is corrected."""
        found = {"replay/fill": len(self.store) / self.store.capacity}
        if isinstance(self.sampler, Prioritized):
            found["replay/beta"] = self.beta(progress)
        return found

    def _arguments(self, progress: int) -> tuple[Any, ...]:
        if isinstance(self.sampler, Prioritized):
            return self.batch_size, self.beta(progress)
        return (self.batch_size,)

    def state_dict(self) -> dict[str, Any]:
        """The sampler's state; the store is saved apart. Between `request` and `sample` is no time
        for it."""
        return self.sampler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.sampler.load_state_dict(state)


def placement(wanted: Placement, device: torch.device) -> str:
    """Where the frames of a learner on `device` go; UserError for a GPU that it is not on."""
    if wanted == "auto":
        return str(device)
    if wanted == "cuda":
        if device.type != "cuda":
            raise UserError(
                f"replay_device=cuda needs a learner on that GPU, not on {device}: choose auto, "
                "cpu or mmap."
            )
        return str(device)
    return wanted
