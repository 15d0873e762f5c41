"""Batches: small frozen records of tensors on the learner's device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, dataclass, fields, replace
from typing import Any, ClassVar, Protocol, TypeVar

import torch


class Record(Protocol):
    """Any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


BatchT = TypeVar("BatchT", bound=Record)


def changed(
    batch: BatchT, change: Callable[[torch.Tensor], torch.Tensor], stays: tuple[str, ...] = ()
) -> BatchT:
    """`batch` with every tensor changed, those in its dicts too, but for the fields that stay."""
    new: dict[str, Any] = {}
    for field in fields(batch):
        value = getattr(batch, field.name)
        if field.name in stays:
            continue
        if isinstance(value, dict):
            new[field.name] = {name: change(tensor) for name, tensor in value.items()}
        else:
            new[field.name] = change(value)
    return replace(batch, **new)


@dataclass(frozen=True, slots=True)
class Batch:
    """B transitions of n steps or fewer, each as its learner needs it.

    The bootstrapped target of a transition is `reward + discount * value(next_obs)`, always:
    termination, truncation and the true number of steps are all in `discount`.
    """

    obs: torch.Tensor  # [B, stack*C, H, W] uint8, or [B, stack*D] float32
    action: torch.Tensor  # [B] int64
    reward: torch.Tensor  # [B] float32, the discounted sum over the steps, each reward clipped
    discount: torch.Tensor  # [B] float32, gamma^k after k steps; 0 where the episode terminated
    next_obs: torch.Tensor  # like obs, k steps later
    weight: torch.Tensor  # [B] float32, importance weights; 1 where sampling is uniform
    index: torch.Tensor  # [B] int64 on the CPU, the store's ids

    def clone(self) -> Batch:
        """A copy that stays as it is when the sampler draws again."""
        return changed(self, torch.Tensor.clone)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device; the ids stay on the CPU."""
        return changed(self, lambda tensor: tensor.to(device), stays=("index",))
