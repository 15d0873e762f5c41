"""Leaves and the sums over them: drawing rows in proportion to a number that each of them has.

The layout is in `_ext/priority_sums.pyx`: float32 leaves, float64 sums of blocks of leaves, and a
binary tree over the blocks. A sum is computed from its two parts whenever one of them changes,
never adjusted by a difference, so nothing drifts. All additions are elementwise and in one fixed
order, so the kernels and torch, on any device, hold the same bits and draw the same rows.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from playfield._ext import priority_sums as kernels
from playfield.buffers.generator import CounterGenerator, torch_uniforms

#: Leaves per block.
BLOCK = kernels.BLOCK


class PrioritySums(Protocol):
    """What a sampler needs of them; rows count from 0 and fewer than `capacity` are there."""

    leaves: torch.Tensor  # [capacity, padded to whole blocks] float32, 0 or more; write by `write`

    @property
    def total(self) -> torch.Tensor:
        """The sum of all leaves, 0-d float64 on the leaves' device."""

    def write(self, rows: NDArray[np.int64], values: torch.Tensor) -> None:
        """Set the leaves of `rows` `[K]` to `values` `[K]` float32, on the leaves' device.

        A row that is there twice has the same value at both places.
        """

    def load(self, leaves: torch.Tensor) -> None:
        """Set all leaves to those of another, and compute all sums."""

    def points(self, generator: CounterGenerator, count: int) -> torch.Tensor:
        """One point in each of `count` equal parts of `0..total`: float64, on the leaves' device.

        Takes one number of the generator each.
        """

    def find(self, points: torch.Tensor) -> tuple[NDArray[np.int64], torch.Tensor]:
        """The rows `[K]`, on the host, that cover `points` `[K]`, and their leaves.

        Every row covers a stretch as long as its leaf, one after another. Where one ends and the
        next begins it is the next; a point at the total or beyond it belongs to the last. A row
        whose leaf is 0 is never found; where all are 0, all rows are -1. Uses `points` up.
        """


class KernelSums:
    """`PrioritySums` on the CPU, in the kernels."""

    def __init__(self, capacity: int, device: torch.device) -> None:
        if device.type != "cpu":
            raise ValueError(f"device: the kernels' sums are on the CPU, not on {device}")
        blocks, width = _sizes(capacity)
        self._leaves = np.zeros(blocks * BLOCK, np.float32)
        self._tree = np.zeros(2 * width)
        self.leaves = torch.from_numpy(self._leaves)

    @property
    def total(self) -> torch.Tensor:
        return torch.from_numpy(self._tree)[1]

    def write(self, rows: NDArray[np.int64], values: torch.Tensor) -> None:
        kernels.write(rows, values.numpy(), self._leaves, self._tree, np.empty_like(rows))

    def load(self, leaves: torch.Tensor) -> None:
        self.leaves.copy_(leaves)
        kernels.rebuild(self._leaves, self._tree)

    def points(self, generator: CounterGenerator, count: int) -> torch.Tensor:
        points = np.empty(count)
        first = generator.take(count)
        kernels.stratified_points(generator.seed, first, self._tree[1], points)
        return torch.from_numpy(points)

    def find(self, points: torch.Tensor) -> tuple[NDArray[np.int64], torch.Tensor]:
        rows, values = np.empty(len(points), np.int64), np.zeros(len(points), np.float32)
        kernels.find(points.numpy(), self._leaves, self._tree, rows, values)
        return rows, torch.from_numpy(values)


class TorchSums:
    """`PrioritySums` on any device, in torch.

    Nothing here waits for the device but `find`, once, because the rows go to the host.
    """

    def __init__(self, capacity: int, device: torch.device) -> None:
        blocks, width = _sizes(capacity)
        self.device = device
        self.leaves = torch.zeros(blocks * BLOCK, device=device)
        self._blocks = self.leaves.view(blocks, BLOCK)
        self._width = width
        self._tree = torch.zeros(2 * width, dtype=torch.float64, device=device)
        self._parts = self._tree.view(width, 2)  # row k: the two parts of node k

    @property
    def total(self) -> torch.Tensor:
        return self._tree[1]

    def write(self, rows: NDArray[np.int64], values: torch.Tensor) -> None:
        index = torch.from_numpy(rows).to(self.device, non_blocking=True)
        self.leaves.index_copy_(0, index, values)
        if len(rows) < len(self._blocks):
            block = index // BLOCK  # one that is there twice gets the same sum twice
            sums = _halved(self._blocks[block].double())[-1].squeeze(1)
            self._tree.index_copy_(0, self._width + block, sums)
            self._add_up()
        else:
            self._rebuild()

    def load(self, leaves: torch.Tensor) -> None:
        self.leaves.copy_(leaves)
        self._rebuild()

    def _rebuild(self) -> None:
        sums = _halved(self._blocks.double())[-1].squeeze(1)
        self._tree[self._width : self._width + len(sums)] = sums
        self._add_up()

    def _add_up(self) -> None:
        """All of the tree above the blocks: for a device that is less work than to choose."""
        first = self._width // 2
        while first >= 1:
            parts = self._parts[first : 2 * first]
            torch.add(parts[:, 0], parts[:, 1], out=self._tree[first : 2 * first])
            first //= 2

    def points(self, generator: CounterGenerator, count: int) -> torch.Tensor:
        uniform = torch_uniforms(generator.seed, generator.take(count), count, self.device)
        points = torch.arange(count, device=self.device) + uniform
        # Multiplied as in the kernel: a GPU would round a division by a number differently.
        return points * (1.0 / count) * self.total

    def find(self, points: torch.Tensor) -> tuple[NDArray[np.int64], torch.Tensor]:
        node = torch.ones(len(points), dtype=torch.int64, device=self.device)
        for _ in range(self._width.bit_length() - 1):
            node, points = _step_down(self._parts[node], node, points)
        block = node - self._width
        node, draws = torch.zeros_like(block), torch.arange(len(block), device=self.device)
        for sums in reversed(_halved(self._blocks[block].double())[:-1]):
            parts = sums.view(len(block), -1, 2)[draws, node]
            node, points = _step_down(parts, node, points)
        rows = block * BLOCK + node
        values = self.leaves[rows]
        return torch.where(self.total > 0, rows, -1).cpu().numpy(), values


def _sizes(capacity: int) -> tuple[int, int]:
    """How many blocks hold `capacity` leaves, and the power of two that holds the blocks."""
    blocks = -(-capacity // BLOCK)
    return blocks, 1 << (blocks - 1).bit_length()


def _halved(sums: torch.Tensor) -> list[torch.Tensor]:
    """`sums` `[K, BLOCK]`, the sums of adjacent pairs of it, and so on to `[K, 1]`."""
    levels = [sums]
    while levels[-1].shape[1] > 1:
        levels.append(levels[-1][:, 0::2] + levels[-1][:, 1::2])
    return levels


def _step_down(
    parts: torch.Tensor, node: torch.Tensor, points: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`step_down` of the kernel, for all draws at once; `parts` `[K, 2]` are those of `node`."""
    left, right_sum = parts[:, 0], parts[:, 1]
    right = (points >= left) & (right_sum > 0)
    return 2 * node + right, torch.where(right, points - left, points)
