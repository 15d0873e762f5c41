"""torchgan's and mimicry's DCGAN, trained by the steps that their own trainers take.

Their trainers around these steps load images, log, and keep gradients and pictures to show; none of
that is done here: the time is the kindest there is. What is set is what makes the networks those
they are compared with, and DCGAN's Adam. Neither library trains in bfloat16 on a processor by
itself, so that is `torch.autocast` around the step.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from painting_peers import Precision, autocast, load_torchvision, some
from torch import nn

#: Radford et al. 2015.
ADAM: dict[str, Any] = {"lr": 2e-4, "betas": (0.5, 0.999)}


class TorchGAN:
    """Its DCGANGenerator and DCGANDiscriminator, and the `train_ops` of its minimax losses.

    At their default widths, but with the paper's ReLU in the generator and plain logits, where the
    defaults have leaky ReLUs.
    """

    def __init__(self, images: torch.Tensor, batch_size: int, precision: Precision) -> None:
        load_torchvision()
        from torchgan.losses import MinimaxDiscriminatorLoss, MinimaxGeneratorLoss
        from torchgan.models import DCGANDiscriminator, DCGANGenerator

        self.images, self.batch_size, self.precision = images, batch_size, precision
        channels, size = images.shape[1], images.shape[2]
        self.generator: Any = DCGANGenerator(
            out_size=size, out_channels=channels, nonlinearity=nn.ReLU()
        )
        self.discriminator: Any = DCGANDiscriminator(
            in_size=size, in_channels=channels, last_nonlinearity=nn.Identity()
        )
        self.generator_loss: Any = MinimaxGeneratorLoss()
        self.discriminator_loss: Any = MinimaxDiscriminatorLoss()
        self.generator_adam = torch.optim.Adam(self.generator.parameters(), **ADAM)
        self.discriminator_adam = torch.optim.Adam(self.discriminator.parameters(), **ADAM)

    def step(self) -> None:
        """An update of each."""
        real, device = signals(self.images, self.batch_size), self.images.device
        both = self.generator, self.discriminator
        with autocast(self.precision):
            self.discriminator_loss.train_ops(*both, self.discriminator_adam, real, device)
            self.generator_loss.train_ops(*both, self.generator_adam, device, self.batch_size)

    def paint(self, count: int) -> torch.Tensor:
        return self.generator(*self.generator.sampler(count, self.images.device))

    def judge(self, images: torch.Tensor) -> torch.Tensor:
        return self.discriminator(images)


class Mimicry:
    """Its DCGANGenerator32 and DCGANDiscriminator32, residual nets, and their `train_step`.

    Made small by their widths alone: 64 channels instead of 256 and 128.
    """

    def __init__(self, images: torch.Tensor, batch_size: int, precision: Precision) -> None:
        load_torchvision()
        import_bare("torch_mimicry", ["torch_mimicry.training"])
        from torch_mimicry.nets.dcgan import dcgan_32
        from torch_mimicry.training.metric_log import MetricLog

        if images.shape[1:] != (3, 32, 32):
            raise ValueError(f"{list(images.shape)}: these networks are for RGB of 32x32")
        self.images, self.batch_size, self.precision = images, batch_size, precision
        self.generator: Any = dcgan_32.DCGANGenerator32(ngf=64)
        self.discriminator: Any = dcgan_32.DCGANDiscriminator32(ndf=64)
        self.generator_adam = torch.optim.Adam(self.generator.parameters(), **ADAM)
        self.discriminator_adam = torch.optim.Adam(self.discriminator.parameters(), **ADAM)
        self.log_type: Any = MetricLog

    def step(self) -> None:
        """An update of each."""
        batch = signals(self.images, self.batch_size), None
        log = self.log_type()  # its trainer makes one in every step
        with autocast(self.precision):
            self.discriminator.train_step(batch, self.generator, self.discriminator_adam, log)
            self.generator.train_step(batch, self.discriminator, self.generator_adam, log)

    def paint(self, count: int) -> torch.Tensor:
        return self.generator.generate_images(count, device=self.images.device)

    def judge(self, images: torch.Tensor) -> torch.Tensor:
        return self.discriminator(images).squeeze(1)


def signals(images: torch.Tensor, count: int) -> torch.Tensor:
    """So many of `images` at random, as float32 in [-1, 1]."""
    return some(images, count) / 127.5 - 1


def import_bare(package: str, inner: Sequence[str]) -> None:
    """Have `package` and some packages in it imported without what their `__init__` imports.

    mimicry's import tensorflow, scikit-image and lmdb, for its metrics and its data sets; networks
    and training steps need none of them.
    """
    if package in sys.modules:
        return
    spec = find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(f"{package} is not installed", name=package)
    (folder,) = spec.submodule_search_locations
    for name in (package, *inner):
        module = ModuleType(name)
        module.__path__ = [folder + name.removeprefix(package).replace(".", "/")]
        sys.modules[name] = module
