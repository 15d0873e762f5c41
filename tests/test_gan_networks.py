"""Settings of generators and discriminators: what they build, and what they refuse."""

from __future__ import annotations

import pytest
import torch

from playfield.errors import UserError
from playfield.generative.gan_networks import (
    GAN_SIZES,
    GANNetConfig,
    build_discriminator,
    build_generator,
    halvings,
)
from playfield.generative.objective import ImageSpec
from playfield.nets.dcgan import DCGANDiscriminator, DCGANGenerator
from playfield.nets.mlp_gan import MLPDiscriminator, MLPGenerator
from playfield.nets.r3gan import R3GANDiscriminator, R3GANGenerator
from playfield.nets.sngan import SNGANDiscriminator, SNGANGenerator

DIGITS = ImageSpec(1, 8, 8, tuple("0123456789"))
FRAMES = ImageSpec(1, 32, 32)
#: The images that sizes are made for, by the end of their names.
MADE_FOR = {
    "tiny": [DIGITS],
    "small": [FRAMES, ImageSpec(3, 28, 28, tuple("ab"))],
    "base": [ImageSpec(3, 64, 64), ImageSpec(3, 128, 96, tuple("ab"))],
    "mlp": [ImageSpec(2, 1, 1), ImageSpec(2, 1, 1, tuple("ab"))],
}


@pytest.mark.parametrize("name", GAN_SIZES)
def test_every_size_fits_the_images_it_is_made_for(name):
    for spec in MADE_FOR[name.rsplit("-", 1)[-1]]:
        with torch.device("meta"):
            paints = build_generator(GAN_SIZES[name], spec, torch.float32)
            tells = build_discriminator(GAN_SIZES[name], spec, torch.float32)
            label = torch.empty(2, dtype=torch.int64)
            images = paints(torch.empty(2, paints.latent), label)
            assert images.shape == (2, *spec.shape)
            assert tells(images, label).shape == (2,)


@pytest.mark.parametrize(
    ("name", "spec", "least", "most"),
    [
        *((f"{net}-tiny", DIGITS, 0.05e6, 0.4e6) for net in ("dcgan", "resnet", "r3gan")),
        *((f"{net}-small", FRAMES, 0.1e6, 1.5e6) for net in ("dcgan", "resnet", "r3gan")),
        *((f"{net}-base", ImageSpec(3, 64, 64), 2e6, 25e6) for net in ("dcgan", "r3gan")),
    ],
)
def test_generator_and_discriminator_are_as_large_as_their_names_say(name, spec, least, most):
    for build in (build_generator, build_discriminator):
        with torch.device("meta"):
            network = build(GAN_SIZES[name], spec, torch.float32)
        assert least < sum(p.numel() for p in network.parameters()) < most


@pytest.mark.parametrize(
    ("net", "paints", "tells"),
    [
        ("dcgan", DCGANGenerator, DCGANDiscriminator),
        ("resnet", SNGANGenerator, SNGANDiscriminator),
        ("r3gan", R3GANGenerator, R3GANDiscriminator),
        ("mlp", MLPGenerator, MLPDiscriminator),
    ],
)
def test_a_name_stands_for_a_pair_of_networks_with_parameters_in_float32(net, paints, tells):
    config = GANNetConfig(net=net, latent=7)
    generator = build_generator(config, DIGITS, torch.bfloat16)
    discriminator = build_discriminator(config, DIGITS, torch.bfloat16)
    assert isinstance(generator, paints) and isinstance(discriminator, tells)
    assert generator.latent == 7
    for network in (generator, discriminator):
        assert network.dtype == torch.bfloat16
        assert {p.dtype for p in network.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("height", "width", "start", "count"),
    [
        (8, 8, 4, 1),
        (8, 8, 2, 2),
        (8, 8, 1, 3),
        (9, 13, 4, 1),  # 5x7
        (28, 28, 4, 3),  # 14, 7, 4
        (32, 48, 4, 3),  # 4x6
        (128, 128, 4, 5),
        (7, 200, 4, 1),
        (3, 3, 1, 1),  # 3 pixels can't be halved twice
        (1, 1, 4, 0),
    ],
)
def test_images_are_halved_until_the_shorter_side_is_about_the_start(height, width, start, count):
    assert halvings(ImageSpec(1, height, width), start) == count


def test_levels_beyond_the_list_have_the_last_multiple():
    config = GANNetConfig(generator_channels=8, discriminator_channels=16, channel_mult=(1, 3))
    spec = ImageSpec(1, 32, 32)
    generator = build_generator(config, spec, torch.float32)
    discriminator = build_discriminator(config, spec, torch.float32)
    assert [len(level) for level in generator.levels] == [1, 1, 1, 1]
    assert [level[0].last.out_channels for level in generator.levels] == [24, 24, 24, 8]
    assert [level[0].last.out_channels for level in discriminator.levels] == [16, 48, 48, 48]
    assert generator.sizes == [(4, 4), (8, 8), (16, 16), (32, 32)]


@pytest.mark.parametrize("net", ["resnet", "r3gan"])
def test_images_too_small_to_be_halved_are_painted_at_their_own_size(net):
    spec = ImageSpec(2, 5, 3)
    config = GANNetConfig(net=net)
    images = build_generator(config, spec, torch.float32)(
        torch.randn(2, 64), torch.tensor([-1, -1])
    )
    assert images.shape == (2, 2, 5, 3)
    logits = build_discriminator(config, spec, torch.float32)(images, torch.tensor([-1, -1]))
    assert logits.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *(
            ({name: 0}, f"{name} has to be 1 or more, not 0")
            for name in (
                "latent",
                "generator_channels",
                "discriminator_channels",
                "start_size",
                "blocks",
                "group_channels",
                "expansion",
                "class_features",
            )
        ),
        ({"channel_mult": ()}, "channel_mult has to hold a number for each level"),
        ({"channel_mult": (1, 0)}, "channel_mult have to be 1 or more each"),
        ({"minibatch_std_group": 1}, "minibatch_std_group has to be 2 or more, or 0 for none"),
        ({"minibatch_std_group": -4}, "minibatch_std_group has to be 2 or more, or 0 for none"),
        (
            {"discriminator_norm": "batch"},
            "discriminator_norm=batch does not go with net=r3gan: choose none",
        ),
        (
            {"net": "resnet", "discriminator_norm": "batch"},
            "does not go with net=resnet: choose none or layer or spectral",
        ),
        (
            {"generator_channels": 20},
            "group_channels=16 does not divide the 40 channels inside the blocks of "
            "generator_channels=20 times 1",
        ),
        (
            {"discriminator_channels": 8, "channel_mult": (1, 1), "group_channels": 12},
            "group_channels=12 does not divide the 64 channels",
        ),
    ],
)
def test_settings_that_make_no_networks_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        GANNetConfig(**settings)


@pytest.mark.parametrize("build", [build_generator, build_discriminator])
def test_a_dcgan_needs_images_that_can_be_halved(build):
    config = GANNetConfig(net="dcgan")
    with pytest.raises(UserError, match=r"those of 7x1 can't be with start_size=4"):
        build(config, ImageSpec(1, 7, 1), torch.float32)
