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
    differ from one another even if each has but one image, so they don't count. NaN where the real
    images have no variety to compare with. Nothing here waits for a GPU.
    """
    same = label[:, None] == label[None, :]  # [B, B]
    same = same | (same.sum() == len(label))
    weight = same.float() / same.sum(1, keepdim=True)
    painted = (_squared_distances(fake) * weight).sum()
    photographed = (_squared_distances(real) * weight).sum()
    return torch.where(photographed > 0, painted / photographed, torch.nan)


def _squared_distances(images: torch.Tensor) -> torch.Tensor:
    """Between any two of `images` `[B, …]`, `[B, B]` float32."""
    rows = images.flatten(1).float()
    rows = rows - rows.mean(0)  # smaller numbers, smaller rounding errors
    size = rows.square().sum(1)
    return (size[:, None] + size[None, :] - 2 * rows @ rows.T).clamp(min=0)


@dataclass
class GANHealth:
    """Running means, over some fifty updates, of what tells whether the game goes on.

    They are part of a run's state, and stay on the device until somebody asks. NaN is what could
    not be measured yet; an update whose numbers are not finite changes nothing.
    """

    diversity: torch.Tensor  # 0-d float32: `relative_diversity`
    spread: torch.Tensor  # 0-d: standard deviation of the logits of real and painted images
    updates: int = 0

    @classmethod
    def begin(cls, device: torch.device) -> GANHealth:
        """Before the first update."""
        unknown = torch.full((), torch.nan, device=device)
        return cls(unknown, unknown)

    def add(self, diversity: torch.Tensor, spread: torch.Tensor) -> None:
        """Take in one update."""
        self.updates += 1
        # A mean of all at first, and of the newest later.
        share = max(1 / self.updates, 1 - 0.5 ** (1 / HALF_LIFE))
        self.diversity = _taken_in(self.diversity, diversity.detach().float(), share)
        self.spread = _taken_in(self.spread, spread.detach().float(), share)

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


def _taken_in(mean: torch.Tensor, value: torch.Tensor, share: float) -> torch.Tensor:
    moved = torch.where(mean.isnan(), value, mean.lerp(value, share))
    return torch.where(value.isfinite(), moved, mean)
