"""How much augmentation a discriminator needs: the chance p, moved by how much it overfits.

Karras et al. 2020, section 3. A discriminator that knows its images by heart is sure of them: its
outputs on reals are all positive, and r_t = E[sign(D(real))] nears 1; one that cannot tell has 0.
Every few minibatches p goes up if r_t is above its target and down if it is below, by an amount
that is fixed per image shown.
"""

from __future__ import annotations

import math

import torch

from playfield.generative.gan_augmentation import GANAugmentation
from playfield.training.trainer import State


class AdaptiveProbability:
    """The chance `p` of each kind of ADA's changes, by what `config` says of its movement.

    It begins at 0 and after every `ada_interval` updates moves by (images of those updates) /
    `ada_speed`, towards the target's side of `heuristic`, and no further than 0 and `ada_limit`. So
    its pace is by images, whatever the size of a batch.
    """

    def __init__(self, config: GANAugmentation) -> None:
        self.config = config
        self.p = 0.0
        #: r_t as it was at the newest look; None before the first.
        self.heuristic: float | None = None
        self._sign_sum: float | torch.Tensor = 0.0  # of this interval
        self._count = 0  # reals of this interval
        self._updates = 0  # of this interval

    def update(self, sign_sum: float | torch.Tensor, count: int) -> None:
        """Take in the sum of sign(D(real)) over the `count` reals of a minibatch.

        A tensor (0-d, without a graph) is waited for only when the interval ends. Where the sum is
        not finite then, p stays as it is. Raises ValueError for a sum that `count` signs cannot
        have.
        """
        if count < 1:
            raise ValueError(f"count={count} has to be a number of images, 1 or more")
        if isinstance(sign_sum, torch.Tensor):
            sign_sum = sign_sum.detach().float()  # a sum of signs is a whole number, and exact
        self._sign_sum = self._sign_sum + sign_sum
        self._count += count
        self._updates += 1
        if self._updates >= self.config.ada_interval:
            self._adjust()

    def _adjust(self) -> None:
        heuristic, images = float(self._sign_sum) / self._count, self._count
        self._sign_sum, self._count, self._updates = 0.0, 0, 0
        if not math.isfinite(heuristic):
            return
        if abs(heuristic) > 1:
            raise ValueError(f"sign_sum: the mean of {images} signs cannot be {heuristic}")
        self.heuristic = heuristic
        direction = (heuristic > self.config.ada_target) - (heuristic < self.config.ada_target)
        moved = self.p + direction * images / self.config.ada_speed
        self.p = min(max(moved, 0.0), self.config.ada_limit)

    def state_dict(self) -> State:
        """The chance, what was last seen, and the interval that has begun."""
        return {
            "p": self.p,
            "heuristic": self.heuristic,
            "sign_sum": float(self._sign_sum),
            "count": self._count,
            "updates": self._updates,
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from `state`; raises ValueError naming the field that does not fit."""
        for name in sorted(self.state_dict().keys() ^ state.keys()):
            raise ValueError(f"{name}: {'unknown' if name in state else 'missing'}")
        limit, interval = self.config.ada_limit, self.config.ada_interval
        p, heuristic, sign_sum = state["p"], state["heuristic"], state["sign_sum"]
        count, updates = state["count"], state["updates"]
        if not (_is_number(p) and 0 <= p <= limit):
            raise ValueError(f"p: {p!r}, expected a chance in 0..{limit} (ada_limit)")
        if heuristic is not None and not (_is_number(heuristic) and -1 <= heuristic <= 1):
            raise ValueError(f"heuristic: {heuristic!r}, expected a mean of signs or None")
        if not (type(updates) is int and 0 <= updates < interval):
            raise ValueError(f"updates: {updates!r}, expected 0..{interval - 1} (ada_interval)")
        if not (type(count) is int and count >= updates and (count > 0) == (updates > 0)):
            raise ValueError(f"count: {count!r} images cannot be those of {updates} updates")
        # A sum that is not finite is one that the next look passes over.
        if not (_is_number(sign_sum) and not abs(sign_sum) > count):
            raise ValueError(f"sign_sum: {sign_sum!r}, expected a sum of {count} signs")
        self.p, self.heuristic = float(p), heuristic
        self._sign_sum, self._count, self._updates = float(sign_sum), count, updates


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
