"""What is done to a batch of images, as functions with all their random numbers drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

import torch


@dataclass(frozen=True)
class Change:
    """A function of some of the images and of numbers of theirs."""

    rows: torch.Tensor  # [N] int64, whom it happens to
    function: Callable[..., torch.Tensor]  # of images [N, C, H, W] and the numbers
    numbers: torch.Tensor  # [N, …]

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        device = images.device
        numbers = self.numbers.to(device, non_blocking=True)
        if len(self.rows) == len(images):
            return self.function(images, numbers).to(images.dtype)
        rows = self.rows.to(device, non_blocking=True)
        changed = self.function(images.index_select(0, rows), numbers)
        return images.index_copy(0, rows, changed.to(images.dtype))


@dataclass(frozen=True)
class Transform:
    """What is done to each image of a batch. All its numbers are drawn, so calling it again, on
    other images of the same shape, does the same."""

    shape: tuple[int, int, int, int]
    """Of the images, `[B, C, H, W]`."""
    changes: tuple[Change, ...] = ()
    """In the order in which they happen; those that happen to no image are left out."""
    happened: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """By kind, which images it was done to, `[B]` bool on the CPU. A flip, a turn or a step that
    was done may be that by nothing."""

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Images `[B, C, H, W]` of floating point, changed; the same dtype and device.

        An image to which nothing happens comes back bit for bit; with no change at all, the very
        tensor. Raises ValueError for images of another shape.
        """
        if tuple(images.shape) != self.shape:
            raise ValueError(f"images: {list(images.shape)}, expected {list(self.shape)}")
        return reduce(lambda changed, change: change(changed), self.changes, images)


class Changes:
    """The changes of a transform as they come together, given whom each kind happens to."""

    def __init__(self, happened: Mapping[str, torch.Tensor]) -> None:
        self.happened = happened
        self.made: list[Change] = []

    def add(
        self, kinds: Sequence[str], function: Callable[..., torch.Tensor], numbers: torch.Tensor
    ) -> None:
        """Append what happens to the images of any of `kinds`, if to any; numbers are `[B, …]`."""
        (rows,) = torch.stack([self.happened[kind] for kind in kinds]).any(0).nonzero(as_tuple=True)
        if len(rows):
            self.made.append(Change(rows, function, numbers[rows]))


def shown(images: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Images `[N, C, H, W]` where `visible` `[N, H, W]` says so, mid-grey elsewhere."""
    return torch.where(visible[:, None], images, 0.0)
