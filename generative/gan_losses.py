"""The adversarial losses: what discriminator and generator each minimise.

All of them are functions of the discriminator's logits `[B]`, one per image, unbounded and high
where it believes an image to be real; `real` is what it says of real images and `fake` of painted
ones. They return the loss of each image (of each pair) `[B]`, of which the caller takes the mean.

Every log of a sigmoid is a softplus: `-log sigmoid(x) = softplus(-x)`. Written out, with a small
number to keep the log finite, its gradient would vanish where the discriminator is sure, which is
where the generator has most to learn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

#: `(real, fake)`, logits `[B]` each, to the losses `[B]`.
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class AdversarialLoss:
    """What the two players minimise.

    Only where the loss is `relativistic` does the generator's look at `real`, and the two arguments
    then are pairs: real image i is compared to fake image i. The others ignore it, whatever it is.

    `told` says, for each pair, how far the real image is told from a painted one: above 0 where it
    is. Where a loss has a logit at which it can't tell, that is the distance to it. A constant on
    all logits changes nothing for the others, so for them it is the distance to the painted image.
    """

    name: str
    discriminator: Loss
    generator: Loss
    told: Loss
    relativistic: bool = False


def above_zero(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """`real`: of losses that can't tell at 0."""
    return real


def above_half(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """`real - 1/2`: of least squares between 0 and 1."""
    return real - 0.5


def above_fake(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """`real - fake`: of losses that know differences only."""
    return real - fake


def non_saturating_discriminator(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """`-log sigmoid(real) - log(1 - sigmoid(fake))`: Goodfellow et al. 2014, equation 1."""
    return F.softplus(-real) + F.softplus(fake)


def non_saturating_generator(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """`-log sigmoid(fake)`: Goodfellow et al. 2014, end of section 3.

    Its gradient is near -1 where a fake is recognised; that of the minimax loss
    `log(1 - sigmoid(fake))` vanishes there.
    """
    return F.softplus(-fake)


def hinge_discriminator(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """`max(0, 1 - real) + max(0, 1 + fake)`: Miyato et al. 2018, equation 16."""
    return F.relu(1 - real) + F.relu(1 + fake)


def hinge_generator(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """`-fake`, without a hinge: Miyato et al. 2018, equation 17."""
    return -fake


def wasserstein_discriminator(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """`fake - real`: Arjovsky et al. 2017, equation 2, with the critic's sign turned.

    It is bounded only for a discriminator whose slope is: see `gan_penalties.unit_gradient`.
    """
    return fake - real


def wasserstein_generator(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """`-fake`: Arjovsky et al. 2017, algorithm 1."""
    return -fake


def least_squares_discriminator(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """`(real - 1)² / 2 + fake² / 2`: Mao et al. 2017, equation 9 (the 0-1 coding)."""
    return ((real - 1).square() + fake.square()) / 2


def least_squares_generator(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """`(fake - 1)² / 2`: Mao et al. 2017, equation 9."""
    return (fake - 1).square() / 2


def relativistic_discriminator(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """`-log sigmoid(real_i - fake_i)`: Jolicoeur-Martineau 2018 (RSGAN).

    R3GAN (Huang et al. 2024, equation 2) takes it with a penalty on reals and one on fakes. A loss
    of log 2 says that the two can't be told apart.
    """
    return F.softplus(fake - real)


def relativistic_generator(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """`-log sigmoid(fake_i - real_i)`: Jolicoeur-Martineau 2018 (RSGAN)."""
    return F.softplus(real - fake)


#: Every loss by its name.
LOSSES: dict[str, AdversarialLoss] = {
    loss.name: loss
    for loss in (
        AdversarialLoss(
            "non-saturating", non_saturating_discriminator, non_saturating_generator, above_zero
        ),
        AdversarialLoss("hinge", hinge_discriminator, hinge_generator, above_zero),
        AdversarialLoss(
            "wasserstein", wasserstein_discriminator, wasserstein_generator, above_fake
        ),
        AdversarialLoss(
            "least-squares", least_squares_discriminator, least_squares_generator, above_half
        ),
        AdversarialLoss(
            "relativistic",
            relativistic_discriminator,
            relativistic_generator,
            above_fake,
            relativistic=True,
        ),
    )
}
