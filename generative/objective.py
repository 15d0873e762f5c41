"""What a family of models promises to its trainer and to the samplers.

All of them share one coordinate system, that of Karras et al. 2022: a noisy image is
`x = image + sigma * noise`, with noise of unit variance and images in [-1, 1]. What a DDPM calls
`x_t = a image + s noise` is `a x` at `sigma = s / a`; a flow's `x_t = t image + (1 - t) noise` is
`t x` at `sigma = (1 - t) / t`. So one sampler serves every family.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol, Self

import torch

#: The label of an image that has none, or whose label is kept from the network.
NO_LABEL = -1


@dataclass(frozen=True)
class ImageSpec:
    """What the images of a data set, and those that a model paints, look like."""

    channels: int
    height: int
    width: int
    classes: tuple[str, ...] = ()  # names; empty: images without labels

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width

    def without_classes(self) -> ImageSpec:
        """The same images, labels unseen."""
        return replace(self, classes=())


#: Families of models that take noise away, as the samplers tell them apart.
Family = Literal["edm", "ddpm", "flow", "consistency"]


class Network(Protocol):
    """A network that looks at a noisy image and at how noisy it is."""

    def __call__(
        self,
        x: torch.Tensor,
        level: torch.Tensor,
        label: torch.Tensor,
        augment: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """`x` `[B, C, H, W]` float32, scaled as the family wants it, to float32 of that shape.

        `level` `[B]` float32 is the family's number for the noise; `label` `[B]` int64, `NO_LABEL`
        for none; `augment` `[B, A]` float32 says how training images were changed, None: not at
        all.
        """
        ...


class Denoiser(Protocol):
    """The expected image behind a noisy one."""

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """`x` `[B, C, H, W]` float32 is image + sigma * noise; `sigma` `[B]`; `label` `[B]` int64.

        Returns the image expected, float32 `[B, C, H, W]`.
        """
        ...


class Velocity(Protocol):
    """The expected direction from noise to image at a point between them."""

    def __call__(self, x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """`x` `[B, C, H, W]` float32 is t * image + (1 - t) * noise; `t` `[B]`; `label` `[B]`.

        Returns image - noise as expected there, float32 `[B, C, H, W]`. t = 0 is noise, t = 1 is
        the image; both ends are asked for.
        """
        ...


@dataclass(frozen=True)
class Draw:
    """What training draws for each image of a batch.

    Drawn for a whole batch and cut into slices, it gives micro-batches the numbers that the batch
    as a whole would have had.
    """

    noise: torch.Tensor  # [B, C, H, W] float32, of unit variance
    time: torch.Tensor  # [B], where on the family's path: a sigma, a DDPM's step, a flow's t

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, images: slice) -> Draw:
        return Draw(self.noise[images], self.time[images])


@dataclass(frozen=True)
class Losses:
    """The loss of each image of a batch."""

    loss: torch.Tensor  # [B] float32, weighted, mean over its pixels and channels; with a graph
    sigma: torch.Tensor  # [B] float32, the noise that it was measured at


class Objective(Protocol):
    """A family of models: how its network is trained, and what it means.

    Objectives are immutable and hold no state; the families are frozen dataclasses of their
    settings.
    """

    @property
    def family(self) -> Family:
        """Which samplers run its models."""
        ...

    @property
    def sigma_min(self) -> float:
        """The least noise, above 0, that samplers should ask the denoiser about."""
        ...

    @property
    def sigma_max(self) -> float:
        """The most noise that they should ask about: where sampling begins."""
        ...

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Draw:
        """Noise and times for images of `shape` `[B, C, H, W]`, on the generator's device."""
        ...

    def judge(
        self,
        network: Network,
        images: torch.Tensor,
        label: torch.Tensor,
        augment: torch.Tensor | None,
        draw: Draw,
    ) -> Losses:
        """The network's loss on each of `images` `[B, C, H, W]` in [-1, 1], with this noise."""
        ...

    def losses(
        self,
        network: Network,
        images: torch.Tensor,
        label: torch.Tensor,
        augment: torch.Tensor | None,
        generator: torch.Generator,
    ) -> Losses:
        """Draw noise for `images`, and judge the network there."""
        return self.judge(network, images, label, augment, self.draw(images.shape, generator))

    def denoiser(self, network: Network, augment: torch.Tensor | None = None) -> Denoiser:
        """The network as a denoiser; training alone says how its images were changed."""
        ...

    def velocity(self, network: Network, augment: torch.Tensor | None = None) -> Velocity | None:
        """The network as a velocity; None for a family that has none."""
        return None

    @property
    def sigmas(self) -> torch.Tensor | None:
        """The noise levels `[T]` float64, rising, of a family that has so many; None: any."""
        return None

    def at(self, progress: int, steps: int) -> Self:
        """The objective as it is `progress` images into a training of `steps`."""
        return self
