"""How the two players of a GAN are: is the generator still inventing, the discriminator judging?

The losses of a GAN say little: they are those of a game, and stay where they are while images get
better, or while they all become the same.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from playfield.training.trainer import State

#: Below this part of the real images' variety a generator counts as collapsed. Trained ones have
#: from 0.5 to 1, noise has more than 1, and one image painted again and again has 0.
LEAST_DIVERSITY = 0.1
#: Logits that differ less than this, over real and painted images, tell nothing.
LEAST_SPREAD = 1e-3
#: Updates after which what was averaged counts half.
HALF_LIFE = 50
#: Updates before which nothing is said: fresh networks judge and paint all images alike.
PATIENCE = 200


def relative_diversity(fake: torch.Tensor, real: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """The variety of painted images over that of real ones of the same labels, 0-d float32.

    `fake` and `real` are `[B, C, H, W]`, and share `label` `[B]`. Variety is the mean squared
    distance between two images of one label; where no label comes twice, between any two. Classes
    differ from one another even if each has but one image, so they don't count.
    """
    if int(torch.bincount(label + 1).max()) == 1:
        label = torch.zeros_like(label)
    painted, photographed = _scatter(fake.flatten(1), label), _scatter(real.flatten(1), label)
    return painted / photographed.clamp(min=torch.finfo(torch.float32).tiny)


def _scatter(rows: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Squared distances of `rows` `[B, D]` to the mean of those of their label, added up."""
    group = label + 1  # no label is a group too
    counts = torch.bincount(group).clamp(min=1)[:, None]
    rows = rows.float()
    sums = rows.new_zeros(len(counts), rows.shape[1]).index_add_(0, group, rows)
    return (rows - (sums / counts)[group]).square().sum()


@dataclass
class GANHealth:
    """Running means, over some fifty updates, of what tells whether the game goes on.

    They are part of a run's state, and stay on the device until somebody asks.
    """

    diversity: torch.Tensor  # 0-d float32: `relative_diversity`
    spread: torch.Tensor  # 0-d: standard deviation of the logits of real and painted images
    updates: int = 0

    @classmethod
    def begin(cls, device: torch.device) -> GANHealth:
        """Before the first update."""
        return cls(torch.zeros((), device=device), torch.zeros((), device=device))

    def add(self, diversity: torch.Tensor, spread: torch.Tensor) -> None:
        """Take in one update."""
        self.updates += 1
        # A mean of all at first, and of the newest later.
        share = max(1 / self.updates, 1 - 0.5 ** (1 / HALF_LIFE))
        self.diversity = self.diversity.lerp(diversity.detach().float(), share)
        self.spread = self.spread.lerp(spread.detach().float(), share)

    @property
    def collapsed(self) -> torch.Tensor:
        """Whether the generator paints nearly one image, 0-d float32: 1 or 0."""
        if self.updates < PATIENCE:
            return torch.zeros_like(self.diversity)
        return (self.diversity < LEAST_DIVERSITY).float()

    @property
    def blind(self) -> torch.Tensor:
        """Whether the discriminator says nearly the same of all images, 0-d float32: 1 or 0."""
        if self.updates < PATIENCE:
            return torch.zeros_like(self.spread)
        return (self.spread < LEAST_SPREAD).float()

    def diagnosis(self) -> list[str]:
        """What is wrong, a sentence each; waits for the device."""
        found = []
        if self.blind:
            found.append(
                "The discriminator has collapsed: it says nearly the same of every image (its "
                f"logits differ by {float(self.spread):.1g}), so the generator learns nothing more "
                "from it. Train anew with a lower learning rate or a heavier penalty."
            )
        if self.collapsed:
            found.append(
                f"The generator has collapsed: what it paints has {float(self.diversity):.1%} of "
                "the variety of the real images. Sample an earlier checkpoint, or train anew with "
                "a lower learning rate, a heavier penalty or the relativistic loss."
            )
        return found

    def state_dict(self) -> State:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def load_state_dict(self, state: State) -> None:
        device = self.diversity.device
        self.diversity, self.spread = (state[n].to(device) for n in ("diversity", "spread"))
        self.updates = state["updates"]
