"""Penalties on the slope of a discriminator, and how to take them less often than every step.

A slope is the gradient of an image's logit with respect to that image. It is asked for as that of
the sum of a batch's logits, which is the same as long as no image's logit depends on another image.
Batch normalisation breaks that, so a discriminator under a penalty has none; minibatch standard
deviation bends it, and its share is then part of the penalty, as in StyleGAN2.

Everything here keeps its graph: a penalty is minimised by the discriminator's parameters, through
second derivatives. In bfloat16 these lose what they are about, so penalties want a discriminator
that computes in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


def squared_gradient(logits: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """`||d logit / d image||²` of each image `[B]`, summed over its channels and pixels.

    `logits` `[B]` are what a discriminator says of `images` `[B, C, H, W]`, which require a
    gradient (`ValueError` if not). The mean over the batch, times gamma / 2, is R1 on real images
    and R2 on painted ones that are cut off from their generator: Mescheder et al. 2018, equations 9
    and 10.
    """
    return _slope(logits, images).square().sum(1)


def interpolated(real: torch.Tensor, fake: torch.Tensor, fraction: torch.Tensor) -> torch.Tensor:
    """Images on the lines between pairs: `fraction` times `real`, the rest `fake`.

    Images are `[B, C, H, W]` float32; `fraction` `[B]` in [0, 1] is one number per pair: Gulrajani
    et al. 2017, algorithm 1. The result requires a gradient, and is cut off from the generator.
    """
    share = fraction[:, None, None, None]
    return (share * real + (1 - share) * fake).detach().requires_grad_()


def unit_gradient(logits: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """`(||d logit / d image||₂ - 1)²` of each image `[B]`: the penalty of WGAN-GP.

    Gulrajani et al. 2017, equation 3; arguments as for `squared_gradient`, the images those that
    `interpolated` gives, and the weight (lambda, 10 in the paper) the caller's. Where an image's
    slope is 0, which has no direction to grow in, the penalty is 1 and its gradient 0.
    """
    return (torch.linalg.vector_norm(_slope(logits, images), dim=1) - 1).square()


def _slope(logits: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """`d logit / d image` of each image `[B, C * H * W]`, with a graph."""
    if not images.requires_grad:
        raise ValueError("images: they have to require a gradient before the discriminator's look")
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.flatten(1)


@dataclass(frozen=True)
class LazyRegularisation:
    """A penalty that is taken at every `interval`th step only, in an optimiser step of its own.

    Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN", appendix B. That
    makes interval + 1 steps of the optimiser where there would be `interval`, so Adam's constants
    are brought to the same effect per interval, and the penalty is multiplied by the interval so
    that it weighs the same over time. A penalty that is part of the loss of every step is not
    lazy, and needs none of this.
    """

    interval: int

    def __post_init__(self) -> None:
        if self.interval < 1:
            raise ValueError(f"interval={self.interval} has to be 1 or more")

    def is_due(self, step: int) -> bool:
        """Whether the penalty is taken after step `step`, counted from 0."""
        return step % self.interval == 0

    @property
    def factor(self) -> int:
        """What the penalty is multiplied by."""
        return self.interval

    @property
    def correction(self) -> float:
        """The paper's c = interval / (interval + 1)."""
        return self.interval / (self.interval + 1)

    def learning_rate(self, rate: float) -> float:
        """Adam's learning rate: c times that without a penalty."""
        return self.correction * rate

    def betas(self, beta1: float, beta2: float) -> tuple[float, float]:
        """Adam's decays: those without a penalty to the power of c."""
        return beta1**self.correction, beta2**self.correction
