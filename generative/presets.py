"""Presets of models that paint: a config under a name, with the data it was made for, as data."""

from __future__ import annotations

from playfield.generative.augmentation import ImageAugmentation
from playfield.generative.consistency import ConsistencyConfig
from playfield.generative.diffusion import DiffusionConfig, DiffusionObjectiveConfig
from playfield.generative.flow import FlowConfig
from playfield.generative.gan_presets import GAN_PRESETS
from playfield.generative.networks import SIZES
from playfield.generative.painting_preset import PaintingPreset
from playfield.generative.reflow import ReflowConfig
from playfield.generative.training import PaintingTrainingConfig
from playfield.training.ema import EMAConfig
from playfield.training.optimizers import OptimizerConfig
from playfield.training.presets import find_preset

#: Of digits, on two cores: some minutes.
DIGITS = PaintingTrainingConfig(
    steps=300_000, log_every=5_000, checkpoint_every=100_000, evaluate_every=100_000
)
#: Of images of 32 pixels: twenty minutes on two quiet cores, half an hour on one.
SMALL = PaintingTrainingConfig(
    steps=200_000, log_every=4_000, checkpoint_every=100_000, evaluate_every=40_000
)
#: EDM's on CIFAR-10, for a GPU: 200 million images.
BASE = PaintingTrainingConfig(
    steps=200_000_000, log_every=50_000, checkpoint_every=5_000_000, evaluate_every=1_000_000
)

#: Down to 0 at the end of the run. On 1,500 digits a model that goes on learning at a high rate
#: begins to paint its training images.
ANNEALED = OptimizerConfig(learning_rate=1e-3, schedule="cosine", warmup_steps=10_000)

SMALL_STEPS = OptimizerConfig(learning_rate=5e-4, schedule="cosine", warmup_steps=5_000)

PRESETS = {
    preset.name: preset
    for preset in (
        PaintingPreset(
            "digits",
            "diffusion",
            "the defaults: EDM on 8x8 digits, class by class, in minutes on two cores",
            DiffusionConfig(
                objective=DiffusionObjectiveConfig(sigma_data=None), optimizer=ANNEALED
            ),
            DIGITS,
        ),
        PaintingPreset(
            "digits-v",
            "diffusion",
            "a DDPM with v predicted and the cosine schedule, on digits",
            DiffusionConfig(
                objective=DiffusionObjectiveConfig(parametrisation="v", noise_schedule="cosine"),
                optimizer=ANNEALED,
            ),
            DIGITS,
        ),
        PaintingPreset(
            "digits-flow",
            "flow",
            "the defaults: a flow on digits",
            FlowConfig(optimizer=ANNEALED),
            DIGITS,
        ),
        PaintingPreset(
            "digits-reflow",
            "reflow",
            "the defaults: a flow of digits made straighter",
            ReflowConfig(),
            PaintingTrainingConfig(
                steps=200_000, log_every=5_000, checkpoint_every=100_000, evaluate_every=100_000
            ),
        ),
        PaintingPreset(
            "digits-consistency",
            "consistency",
            "the defaults: a model of digits tuned for one or two steps",
            ConsistencyConfig(optimizer=OptimizerConfig("radam", 1e-4)),
            PaintingTrainingConfig(
                steps=400_000, log_every=5_000, checkpoint_every=100_000, evaluate_every=100_000
            ),
        ),
        PaintingPreset(
            "digits-dit",
            "diffusion",
            "EDM on digits with a transformer on patches in place of the U-Net",
            DiffusionConfig(
                objective=DiffusionObjectiveConfig(sigma_data=None),
                net=SIZES["dit-tiny"],
                optimizer=ANNEALED,
            ),
            DIGITS,
        ),
        PaintingPreset(
            "small",
            "diffusion",
            "EDM on images of about 32 pixels: frames of a game, in twenty minutes",
            DiffusionConfig(
                batch_size=64, net=SIZES["small"], optimizer=SMALL_STEPS, ema=EMAConfig(50_000)
            ),
            SMALL,
            data="atari:Breakout,size=32",
        ),
        PaintingPreset(
            "small-flow",
            "flow",
            "a flow on images of about 32 pixels",
            FlowConfig(
                batch_size=64, net=SIZES["small"], optimizer=SMALL_STEPS, ema=EMAConfig(50_000)
            ),
            SMALL,
            data="atari:Breakout,size=32",
        ),
        PaintingPreset(
            "base",
            "diffusion",
            "EDM's settings for CIFAR-10, its augmentation (0.12) included: for a GPU",
            DiffusionConfig(
                batch_size=512,
                net=SIZES["base"],
                augmentation=ImageAugmentation(augment=0.12),
                optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=10_000_000),
            ),
            BASE,
            data="cifar10",
        ),
        *GAN_PRESETS,
    )
}
#: What each algorithm begins with where no preset is named.
DEFAULTS = {
    "diffusion": "digits",
    "flow": "digits-flow",
    "reflow": "digits-reflow",
    "consistency": "digits-consistency",
    "gan": "r3gan",
}


def default_preset(algorithm: str) -> PaintingPreset:
    """The settings where none are chosen."""
    return PRESETS[DEFAULTS[algorithm]]


def preset(name: str, algorithm: str) -> PaintingPreset:
    """The preset called `name`; UserError if there is none, or if it is another algorithm's."""
    return find_preset(PRESETS, name, algorithm)
