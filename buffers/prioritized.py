"""Prioritised sampling of transitions (Schaul et al. 2016, the proportional variant)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from playfield._ext import windows
from playfield._ext.priorities import ValidRows
from playfield.buffers.augmentation import Augmentation, augmenter_for
from playfield.buffers.batch import Batch
from playfield.buffers.generator import CounterGenerator
from playfield.buffers.priority_sums import KernelSums, PrioritySums, TorchSums
from playfield.buffers.store import FrameStore
from playfield.buffers.transitions import TransitionReader, TransitionSpec, check_window

# Leaves stay normal float32 numbers: what is positive is drawn, even where subnormals are flushed.
SMALLEST_LEAF = float(np.finfo(np.float32).tiny)
LARGEST_LEAF = float(np.finfo(np.float32).max)


class Prioritized:
    """Draws transitions with replacement, each in proportion to (priority + epsilon)^alpha.

    Priorities are raw numbers that `update` sets, absolute TD errors as a rule. A transition has
    one from the moment it is complete: the largest that any has had so far (`max_priority`, 1 at
    first). What is overwritten, final, incomplete, or has a stack that reaches past the oldest
    stored frame has none and is never drawn; what can be drawn is what `Uniform` draws. Only if all
    priorities are zero, the draw is uniform.

    Another thread may write into the store meanwhile: what it overwrites is drawn again.

    Args:
        store: what to draw from; its columns are followed.
        spec: how transitions are read.
        seed: of the draws, and of the views.
        alpha: 0 draws uniformly, 1 in proportion to the priorities (equation 1 of the paper).
        epsilon: added to every updated priority, so that none is zero for ever; section 3.3 of the
            paper leaves its size open, 1e-6 is OpenAI Baselines'.
        augmentation: makes every observation a random view of what is stored.
        sums: where leaves and sums are kept; None: in the kernels for a store on the CPU, in torch
            on the store's device otherwise.

    Raises ValueError, naming the field, for numbers out of range, and for transitions that reach
    over more than the ring. `sample`, `update` and the rest
    are for one thread at a time.
    """

    def __init__(
        self,
        store: FrameStore,
        spec: TransitionSpec,
        seed: int,
        *,
        alpha: float = 0.6,
        epsilon: float = 1e-6,
        augmentation: Augmentation | None = None,
        sums: Callable[[int, torch.device], PrioritySums] | None = None,
    ) -> None:
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha={alpha} has to lie in [0, 1]")
        if not 0 <= epsilon < math.inf:
            raise ValueError(f"epsilon={epsilon} has to be 0 or more, and finite")
        check_window(store, spec)
        self.store, self.spec = store, spec
        self.alpha, self.epsilon = alpha, epsilon
        if sums is None:
            sums = KernelSums if store.device.type == "cpu" else TorchSums
        self.sums = sums(store.capacity, store.device)
        #: The largest priority so far, epsilon included, before alpha: 0-d float64 on the device.
        self.max_priority = torch.ones((), dtype=torch.float64, device=store.device)
        self.generator = CounterGenerator(seed)
        self.augmenter = augmenter_for(store, augmentation, seed)
        self._settled = np.zeros(store.streams, np.int64)
        self._seen = np.zeros(store.streams, np.int64)
        self._rows = ValidRows(
            store.action, store.flags, store.step_in_episode, self._settled, self._seen,
            np.zeros(store.capacity, np.uint8),
            spec.stack, spec.n_step, spec.life_loss_terminal,
        )  # fmt: skip
        room = store.capacity + store.streams * spec.stack
        self._changed = np.empty(room, np.int64), np.empty(room, np.float32)
        self._readers: dict[int, TransitionReader] = {}

    def sample(self, batch_size: int, beta: float = 1.0) -> Batch:
        """A batch of `batch_size` transitions, valid until the next draw of that size.

        `weight` is (N P(i))^-beta over its largest in this batch (section 3.4 of the paper; the
        maximum over the batch, as in DQN Zoo). beta = 1 makes up for all of the prioritisation, 0
        for none. On a GPU this waits for the device once, because rows are read on the host.
        Raises ValueError while the store holds no valid transition, and for beta out of [0, 1].
        """
        if not 0 <= beta <= 1:
            raise ValueError(f"beta={beta} has to lie in [0, 1]")
        reader = self._readers.get(batch_size)
        if reader is None:
            reader = TransitionReader(self.store, self.spec, batch_size, self.augmenter)
            self._readers[batch_size] = reader
        reader.expect()
        reader.ids[:], leaves = self._draw(batch_size)
        batch = reader.read()
        while lost := reader.overwritten():
            reader.ids[lost], leaves[lost] = self._draw(len(lost))
            batch = reader.read()
        batch.weight.copy_(importance_weights(leaves, beta))
        return batch

    def draw(self, count: int) -> NDArray[np.int64]:
        """Ids `[count]`, one from each of `count` equal parts of the sum of all."""
        return self._draw(count)[0]

    def update(
        self, ids: torch.Tensor | NDArray[np.int64], priorities: torch.Tensor | NDArray[Any]
    ) -> int:
        """Give the transitions that begin at `ids` `[K]` new priorities `[K]`; returns how many.

        Ids that begin no valid transition any more, or never did, are passed over; of an id that is
        there more than once the last place counts. Ids are on the CPU, priorities anywhere.

        Raises ValueError for priorities that are negative or not finite. On a GPU that would have
        to wait for the device; there such a priority counts as zero instead.
        """
        ids = np.ascontiguousarray(ids, np.int64)
        device = self.store.device
        priority = torch.as_tensor(priorities, dtype=torch.float64, device=device).detach()
        if ids.ndim != 1 or priority.shape != ids.shape:
            raise ValueError(
                f"ids and priorities: shapes {list(ids.shape)} and {list(priority.shape)}, "
                "expected [K] and [K]"
            )
        sound = (priority >= 0) & (priority < math.inf)
        if device.type != "cpu":
            priority = torch.where(sound, priority, 0.0)
        elif not sound.all():
            place = int((~sound).nonzero()[0])
            raise ValueError(
                f"priorities: number {place} is {priority[place].item()}, expected 0 or more, "
                "and finite"
            )
        head = self._catch_up()
        rows, places = np.empty_like(ids), np.empty_like(ids)
        taken = self._rows.rows_of(head, ids, rows, places)
        if taken == 0:
            return 0
        if taken < len(ids):
            priority = priority[self.store.on_device(torch.from_numpy(places[:taken]))]
        priority = priority + self.epsilon
        torch.maximum(self.max_priority, priority.max(), out=self.max_priority)
        self.sums.write(rows[:taken], self._leaf(priority))
        return taken

    def _leaf(self, priority: torch.Tensor) -> torch.Tensor:
        """priority^alpha as float32; 0 stays 0, also where alpha is 0 (as in DQN Zoo)."""
        leaf = priority.pow(self.alpha).clamp_(SMALLEST_LEAF, LARGEST_LEAF)
        return leaf.mul_(priority > 0).float()

    def _catch_up(self) -> NDArray[np.int64]:
        """Let the leaves follow the store up to now; returns the heads of now."""
        head = self.store.head.copy()
        rows, valid = self._changed
        count = self._rows.catch_up(head, rows, valid)
        if count:
            begins = self.store.on_device(torch.from_numpy(valid[:count]))
            self.sums.write(rows[:count], begins * self._leaf(self.max_priority))
        return head

    def _draw(self, count: int) -> tuple[NDArray[np.int64], torch.Tensor]:
        """Ids `[count]` and their leaves, on the store's device."""
        head = self._catch_up()
        ids = np.empty(count, np.int64)
        rows, leaves = self.sums.find(self.sums.points(self.generator, count))
        if rows[0] >= 0:
            self._rows.ids_of(head, rows, ids)
            return ids, leaves
        valid = self._valid_ids(head)
        if not len(valid):
            raise ValueError(
                f"none of the {len(self.store)} stored frames begins a transition with "
                f"stack={self.spec.stack}, n_step={self.spec.n_step} yet"
            )
        return valid[self.generator.integers(len(valid), count)], torch.ones_like(leaves)

    def _valid_ids(self, head: NDArray[np.int64]) -> NDArray[np.int64]:
        ids = np.empty(self.store.capacity, np.int64)
        spec = self.spec
        found = windows.valid(
            self.store.kernel_columns, head, spec.stack, spec.n_step, spec.life_loss_terminal, ids
        )
        return ids[:found]

    def state_dict(self) -> dict[str, Any]:
        """Leaves, what is known of the store, the largest priority, the generators; all copies."""
        state = {} if self.augmenter is None else {"augmenter": self.augmenter.state_dict()}
        return state | {
            "alpha": self.alpha,
            "leaves": self.sums.leaves[: self.store.capacity].clone(),
            "settled": self._settled.copy(),
            "max_priority": self.max_priority.item(),
            "generator": self.generator.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the same draws; the store has the same contents when they are made.

        Raises ValueError, naming the field, for what does not fit; nothing is taken then.
        """
        for name in ("alpha", "leaves", "settled", "max_priority", "generator"):
            if name not in state:
                raise ValueError(f"{name}: missing")
        if state["alpha"] != self.alpha:
            raise ValueError(f"alpha: {state['alpha']!r}, expected {self.alpha!r}")
        leaves, settled = torch.as_tensor(state["leaves"]), np.asarray(state["settled"])
        if leaves.shape != (self.store.capacity,) or leaves.dtype != torch.float32:
            raise ValueError(
                f"leaves: {leaves.dtype} {list(leaves.shape)}, expected torch.float32 "
                f"[{self.store.capacity}]"
            )
        if not ((leaves >= 0) & (leaves < math.inf)).all():
            raise ValueError("leaves: negative or not finite")
        if settled.shape != self._settled.shape or settled.dtype != np.int64:
            raise ValueError(
                f"settled: {settled.dtype} {list(settled.shape)}, expected int64 "
                f"{list(self._settled.shape)}"
            )
        if (settled < 0).any():
            raise ValueError("settled: negative")
        most = state["max_priority"]
        if not isinstance(most, float) or not 1 <= most < math.inf:
            raise ValueError(f"max_priority: {most!r}, expected a number of 1 or more")
        CounterGenerator(0).load_state_dict(state["generator"])  # raises if it does not fit
        if self.augmenter is not None:
            self.augmenter.load_state_dict(state.get("augmenter", {}))
        self.generator.load_state_dict(state["generator"])
        self.max_priority.fill_(most)
        # What is newer than that holds no priority, and the next call says so once more.
        self._settled[:] = self._seen[:] = settled
        padded = torch.zeros_like(self.sums.leaves)
        padded[: self.store.capacity] = leaves.to(padded.device)
        self.sums.load(padded)


def importance_weights(leaves: torch.Tensor, beta: float) -> torch.Tensor:
    """(N P(i))^-beta over its largest, float64 `[B]`, for transitions drawn by `leaves` `[B]`.

    With P(i) = leaf / total the number of transitions N and the total cancel, and what remains is
    (smallest leaf / leaf)^beta (Schaul et al. 2016, section 3.4).
    """
    leaves = leaves.double()
    return (leaves.min() / leaves).pow(beta)
