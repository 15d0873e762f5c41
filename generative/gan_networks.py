"""Which generator and which discriminator a GAN has: settings and what they build."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from playfield.errors import UserError
from playfield.generative.objective import ImageSpec
from playfield.nets.dcgan import DCGANDiscriminator, DCGANGenerator
from playfield.nets.image_generator import ImageGenerator
from playfield.nets.mlp_gan import MLPDiscriminator, MLPGenerator
from playfield.nets.normalization import Norm
from playfield.nets.r3gan import R3GANDiscriminator, R3GANGenerator
from playfield.nets.sngan import SNGANDiscriminator, SNGANGenerator

#: What each kind of discriminator may normalise by.
NORMS: dict[str, tuple[Norm, ...]] = {
    "dcgan": ("none", "batch", "layer", "spectral"),
    "resnet": ("none", "layer", "spectral"),
    "r3gan": ("none",),
    "mlp": ("none", "layer", "spectral"),
}


@dataclass(frozen=True)
class GANNetConfig:
    """What paints images, and what tells them from real ones."""

    net: Literal["dcgan", "resnet", "r3gan", "mlp"] = "r3gan"
    """Strided convolutions (dcgan), residual blocks as in SNGAN (resnet) or in R3GAN (r3gan), or
    layers without convolutions for points and small images (mlp)."""
    latent: int = 64
    """Numbers of noise that an image is painted from."""
    generator_channels: int = 32
    """The generator's channels at the image's own size (dcgan: at half of it); mlp: units."""
    discriminator_channels: int = 32
    """The discriminator's, likewise."""
    channel_mult: tuple[int, ...] = (1, 2)
    """Both channels on each level as multiples, from the largest level on; further levels have the
    last. From level to level images are halved."""
    start_size: int = 4
    """Images are halved as long as the shorter side does not fall below this: where the generator
    begins and the discriminator ends."""
    blocks: int = 1
    """Residual blocks on each level of r3gan and resnet; hidden layers of mlp."""
    group_channels: int = 16
    """Channels in each group of r3gan's 3x3 convolutions."""
    expansion: int = 2
    """How many times as many channels r3gan's blocks have inside."""
    class_features: int = 64
    """Numbers that r3gan's discriminator compares with a class's."""
    discriminator_norm: Norm = "none"
    """What keeps the discriminator in bounds: nothing, layer norms, spectral norms on its weights,
    or (dcgan alone) batch norms, which no penalty on gradients goes with."""
    minibatch_std_group: int = 0
    """Images over which the discriminator is told how much they differ (StyleGAN: 4); 0: none."""

    def __post_init__(self) -> None:
        for name in (
            "latent",
            "generator_channels",
            "discriminator_channels",
            "start_size",
            "blocks",
            "group_channels",
            "expansion",
            "class_features",
        ):
            if getattr(self, name) < 1:
                raise UserError(f"{name} has to be 1 or more, not {getattr(self, name)}.")
        if not self.channel_mult:
            raise UserError("channel_mult has to hold a number for each level, at least one.")
        if min(self.channel_mult) < 1:
            raise UserError(f"channel_mult have to be 1 or more each, not {self.channel_mult}.")
        if self.minibatch_std_group < 0 or self.minibatch_std_group == 1:
            raise UserError(
                "minibatch_std_group has to be 2 or more, or 0 for none, not "
                f"{self.minibatch_std_group}: one image does not differ from itself."
            )
        if self.discriminator_norm not in NORMS[self.net]:
            raise UserError(
                f"discriminator_norm={self.discriminator_norm} does not go with net={self.net}: "
                f"choose {' or '.join(NORMS[self.net])}."
            )
        if self.net == "r3gan":
            self._check_groups("generator_channels")
            self._check_groups("discriminator_channels")

    def _check_groups(self, name: str) -> None:
        for multiple in self.channel_mult:
            wide = self.expansion * multiple * getattr(self, name)
            if wide % self.group_channels:
                raise UserError(
                    f"group_channels={self.group_channels} does not divide the {wide} channels "
                    f"inside the blocks of {name}={getattr(self, name)} times {multiple}: choose "
                    "a number that does, or other channels."
                )


#: Networks by kind and by the size of images.
GAN_SIZES: dict[str, GANNetConfig] = {
    # For digits of 8x8: minutes on two cores.
    "dcgan-tiny": GANNetConfig(
        net="dcgan",
        generator_channels=64,
        discriminator_channels=64,
        start_size=2,
        discriminator_norm="batch",
    ),
    "resnet-tiny": GANNetConfig(
        net="resnet",
        generator_channels=48,
        discriminator_channels=48,
        channel_mult=(1,),
        start_size=4,
        discriminator_norm="spectral",
    ),
    "r3gan-tiny": GANNetConfig(
        generator_channels=32, discriminator_channels=32, channel_mult=(1, 2)
    ),
    # For images of 32 pixels or so.
    "dcgan-small": GANNetConfig(
        net="dcgan",
        latent=100,
        generator_channels=64,
        discriminator_channels=64,
        channel_mult=(1, 2, 4),
        discriminator_norm="batch",
    ),
    "resnet-small": GANNetConfig(
        net="resnet",
        latent=128,
        generator_channels=64,
        discriminator_channels=64,
        channel_mult=(1,),
        discriminator_norm="spectral",
    ),
    "r3gan-small": GANNetConfig(
        generator_channels=32, discriminator_channels=32, channel_mult=(1, 2, 2, 4)
    ),
    # For 64 to 128 pixels: a GPU. DCGAN's own widths, SNGAN's for ImageNet, and R3GAN's groups.
    "dcgan-base": GANNetConfig(
        net="dcgan",
        latent=100,
        generator_channels=64,
        discriminator_channels=64,
        channel_mult=(1, 2, 4, 8),
        discriminator_norm="batch",
    ),
    "resnet-base": GANNetConfig(
        net="resnet",
        latent=128,
        generator_channels=64,
        discriminator_channels=64,
        channel_mult=(1, 2, 4, 8, 16),
        discriminator_norm="spectral",
    ),
    "r3gan-base": GANNetConfig(
        generator_channels=96,
        discriminator_channels=96,
        channel_mult=(1, 2, 4, 8),
        blocks=2,
        group_channels=64,
        class_features=512,
    ),
    # For points in the plane.
    "mlp": GANNetConfig(
        net="mlp", latent=2, generator_channels=128, discriminator_channels=128, blocks=3
    ),
}


def build_generator(config: GANNetConfig, spec: ImageSpec, dtype: torch.dtype) -> ImageGenerator:
    """What paints images of `spec`, computing in `dtype` (its parameters are float32).

    Raises `UserError` where the settings don't fit the images.
    """
    classes, latent = len(spec.classes), config.latent
    match config.net:
        case "mlp":
            return MLPGenerator(
                spec.shape,
                latent=latent,
                width=config.generator_channels,
                depth=config.blocks,
                classes=classes,
                dtype=dtype,
            )
        case "dcgan":
            channels = _halved_channels(config, config.generator_channels, spec)
            return DCGANGenerator(
                spec.shape, latent=latent, channels=channels, classes=classes, dtype=dtype
            )
        case "resnet":
            return SNGANGenerator(
                spec.shape,
                latent=latent,
                channels=_channels(config, config.generator_channels, spec),
                blocks=config.blocks,
                classes=classes,
                dtype=dtype,
            )
        case "r3gan":
            return R3GANGenerator(
                spec.shape,
                latent=latent,
                channels=_channels(config, config.generator_channels, spec),
                blocks=config.blocks,
                group_channels=config.group_channels,
                expansion=config.expansion,
                classes=classes,
                dtype=dtype,
            )


def build_discriminator(config: GANNetConfig, spec: ImageSpec, dtype: torch.dtype) -> nn.Module:
    """What tells real images of `spec` from painted ones, computing in `dtype`.

    Images `[B, C, H, W]` and labels int64 `[B]` to logits `[B]`; parameters are float32. Raises
    `UserError` where the settings don't fit the images.
    """
    classes, group = len(spec.classes), config.minibatch_std_group
    match config.net:
        case "mlp":
            return MLPDiscriminator(
                spec.shape,
                width=config.discriminator_channels,
                depth=config.blocks,
                norm=config.discriminator_norm,
                group=group,
                classes=classes,
                dtype=dtype,
            )
        case "dcgan":
            return DCGANDiscriminator(
                spec.shape,
                channels=_halved_channels(config, config.discriminator_channels, spec),
                norm=config.discriminator_norm,
                group=group,
                classes=classes,
                dtype=dtype,
            )
        case "resnet":
            return SNGANDiscriminator(
                spec.shape,
                channels=_channels(config, config.discriminator_channels, spec),
                blocks=config.blocks,
                norm=config.discriminator_norm,
                group=group,
                classes=classes,
                dtype=dtype,
            )
        case "r3gan":
            return R3GANDiscriminator(
                spec.shape,
                channels=_channels(config, config.discriminator_channels, spec),
                blocks=config.blocks,
                group_channels=config.group_channels,
                expansion=config.expansion,
                class_features=config.class_features,
                group=group,
                classes=classes,
                dtype=dtype,
            )


def halvings(spec: ImageSpec, start_size: int) -> int:
    """How often images are halved, odd sides up, before the shorter falls below `start_size`."""
    side, count = min(spec.height, spec.width), 0
    while 2 ** (count + 1) <= side and -(-side // 2 ** (count + 1)) >= start_size:
        count += 1
    return count


def _channels(config: GANNetConfig, channels: int, spec: ImageSpec) -> list[int]:
    """Channels on every level, from the image's own size on."""
    levels = 1 + halvings(spec, config.start_size)
    last = len(config.channel_mult) - 1
    return [channels * config.channel_mult[min(level, last)] for level in range(levels)]


def _halved_channels(config: GANNetConfig, channels: int, spec: ImageSpec) -> list[int]:
    """Channels on every level but the image's own, of which there has to be one."""
    if not halvings(spec, config.start_size):
        raise UserError(
            f"net=dcgan halves images at least once, and those of {spec.height}x{spec.width} "
            f"can't be with start_size={config.start_size}: choose a smaller one, or another net."
        )
    return _channels(config, channels, spec)[:-1]
