"""Presets of GANs, as papers put them together, each sized by the images it learns from."""

from __future__ import annotations

from dataclasses import replace

from playfield.generative.gan import GANConfig
from playfield.generative.gan_networks import GAN_SIZES
from playfield.generative.painting_preset import Larger, PaintingPreset
from playfield.generative.training import PaintingTrainingConfig
from playfield.training.ema import EMAConfig
from playfield.training.optimizers import OptimizerConfig

#: Images of up to so many pixels are tiny (digits), or small (frames of games).
TINY, SMALL = 16, 48

#: Of digits, on two cores: some minutes.
DIGITS = PaintingTrainingConfig(
    steps=400_000, log_every=5_000, checkpoint_every=100_000, evaluate_every=50_000
)
#: Of images of 32 pixels or so: some minutes of DCGAN, an hour or two of R3GAN.
FRAMES = PaintingTrainingConfig(
    steps=200_000, log_every=4_000, checkpoint_every=100_000, evaluate_every=40_000
)
#: Of larger ones, on a GPU: R3GAN's on CIFAR-10 is twice that.
PHOTOGRAPHS = PaintingTrainingConfig(
    steps=100_000_000, log_every=50_000, checkpoint_every=5_000_000, evaluate_every=1_000_000
)

R3GAN = GANConfig(
    batch_size=64,
    loss="relativistic",
    penalty="r1r2",
    penalty_weight=1.0,
    final_penalty_weight=0.1,
    net=GAN_SIZES["r3gan-tiny"],
    optimizer=OptimizerConfig(
        learning_rate=1e-3, schedule="cosine", final_learning_rate=5e-5, beta1=0.0, beta2=0.99
    ),
    ema=EMAConfig(ema_half_life=50_000),
)
#: For minutes on two cores. In short runs on digits, which were not kept, a penalty that stays
#: found more of them than one that falls, and so did twice as many steps, each twice as long, from
#: as many images; four times as long, it collapsed.
R3GAN_IN_MINUTES = replace(
    R3GAN,
    batch_size=32,
    final_penalty_weight=None,
    optimizer=replace(R3GAN.optimizer, learning_rate=2e-3),
)
#: Radford et al. 2015.
DCGAN = GANConfig(
    batch_size=64,
    loss="non-saturating",
    penalty="none",
    net=GAN_SIZES["dcgan-tiny"],
    optimizer=OptimizerConfig(learning_rate=2e-4, beta1=0.5, beta2=0.999),
    ema=EMAConfig(ema_half_life=50_000),
)
#: Gulrajani et al. 2017, algorithm 1, on DCGAN's nets without batch norm in the critic.
WGAN_GP = GANConfig(
    batch_size=64,
    loss="wasserstein",
    penalty="gradient",
    penalty_weight=10.0,
    discriminator_steps=5,
    net=replace(GAN_SIZES["dcgan-tiny"], discriminator_norm="none"),
    optimizer=OptimizerConfig(learning_rate=1e-4, beta1=0.0, beta2=0.9),
    ema=EMAConfig(ema_half_life=50_000),
)
#: Minutes are few for steps as short as the paper's.
WGAN_GP_IN_MINUTES = replace(WGAN_GP, optimizer=replace(WGAN_GP.optimizer, learning_rate=5e-4))
#: Miyato et al. 2018, their settings for CIFAR-10.
SNGAN = GANConfig(
    batch_size=64,
    loss="hinge",
    penalty="none",
    discriminator_steps=5,
    net=GAN_SIZES["resnet-tiny"],
    optimizer=OptimizerConfig(learning_rate=2e-4, schedule="linear", beta1=0.0, beta2=0.9),
    ema=EMAConfig(ema_half_life=50_000),
)
#: In minutes those make fewer than two thousand steps of the generator, too few to tell classes
#: apart where it was tried. Five times as many, each five times as long, paint digits.
SNGAN_IN_MINUTES = replace(
    SNGAN,
    discriminator_steps=1,
    optimizer=replace(SNGAN.optimizer, learning_rate=1e-3),
)


def _larger(in_minutes: GANConfig, papers: GANConfig, nets: str) -> tuple[Larger, ...]:
    """Both on larger nets of this kind: small ones for minutes, and those for a GPU."""
    small, base = (
        replace(
            config,
            net=replace(
                GAN_SIZES[f"{nets}-{size}"], discriminator_norm=config.net.discriminator_norm
            ),
        )
        for config, size in ((in_minutes, "small"), (papers, "base"))
    )
    return Larger(TINY, small, FRAMES), Larger(SMALL, base, PHOTOGRAPHS)


GAN_PRESETS = (
    PaintingPreset(
        "r3gan",
        "gan",
        "the defaults: the relativistic loss, R1 and R2, residual nets without norms",
        R3GAN_IN_MINUTES,
        # Penalties make its steps dear, and its learning rate ends with the run.
        replace(DIGITS, steps=200_000),
        larger=_larger(R3GAN_IN_MINUTES, R3GAN, "r3gan"),
    ),
    PaintingPreset(
        "dcgan",
        "gan",
        "the loss of 2014 and the convolutional nets of 2015",
        DCGAN,
        DIGITS,
        larger=_larger(DCGAN, DCGAN, "dcgan"),
    ),
    PaintingPreset(
        "wgan-gp",
        "gan",
        "a critic that is held to slope 1 by a gradient penalty",
        WGAN_GP_IN_MINUTES,
        DIGITS,
        larger=_larger(WGAN_GP_IN_MINUTES, WGAN_GP, "dcgan"),
    ),
    PaintingPreset(
        "sngan",
        "gan",
        "the hinge loss, and residual nets with spectral norms",
        SNGAN_IN_MINUTES,
        DIGITS,
        larger=_larger(SNGAN_IN_MINUTES, SNGAN, "resnet"),
    ),
    PaintingPreset(
        "gaussians",
        "gan",
        "R3GAN on points of the plane: eight or 25 heaps of them, in a minute",
        replace(
            R3GAN,
            batch_size=128,
            conditional=False,
            # Heaps are narrow and far apart, so the discriminator has to be steep.
            penalty_weight=0.02,
            final_penalty_weight=0.002,
            optimizer=OptimizerConfig(
                learning_rate=3e-3,
                schedule="cosine",
                final_learning_rate=5e-5,
                beta1=0.5,
                beta2=0.99,
            ),
            net=GAN_SIZES["mlp"],
            precision="float32",
            ema=EMAConfig(ema_half_life=10_000),
        ),
        PaintingTrainingConfig(
            steps=300_000, log_every=10_000, checkpoint_every=100_000, evaluate_every=50_000
        ),
        data="gaussians:8",
    ),
)
