"""Presets of classifiers: a config under a name, with the data it was made for, as data."""

from __future__ import annotations

from dataclasses import dataclass, field

from playfield.generative.classifier import ClassifierConfig
from playfield.generative.judges import CLASSIFIER
from playfield.training.loop import TrainingConfig
from playfield.training.optimizers import OptimizerConfig
from playfield.training.presets import find_preset


@dataclass(frozen=True)
class ClassifierTrainingConfig(TrainingConfig):
    """`TrainingConfig` for data of any size: its length follows from how many images there are."""

    steps: int = 0
    """Images to learn from in all, counted as often as they are seen and those before a resume
    included; 0: every one of them as often as --epochs says."""

    def __post_init__(self) -> None:
        TrainingConfig(**{**vars(self), "steps": self.steps or 1})

    def over(self, images: int, epochs: int) -> TrainingConfig:
        """The budget where there are so many images to learn from."""
        return TrainingConfig(**{**vars(self), "steps": self.steps or epochs * images})


@dataclass(frozen=True)
class ClassifierPreset:
    """Settings that were tried together."""

    name: str
    summary: str
    config: ClassifierConfig
    training: ClassifierTrainingConfig = field(default_factory=ClassifierTrainingConfig)
    data: str = "digits"
    algorithm: str = CLASSIFIER


PRESETS = {
    preset.name: preset
    for preset in (
        ClassifierPreset(
            "digits-classifier",
            "the defaults: 8x8 digits, each seen 20 times, in seconds on two cores",
            ClassifierConfig(),
            ClassifierTrainingConfig(evaluate_every=5_000),
        ),
        ClassifierPreset(
            "small-classifier",
            "images of about 32 pixels, shifted by up to 4: frames, photographs",
            ClassifierConfig(
                epochs=10,
                batch_size=128,
                features=256,
                shift=4,
                precision="auto",
                optimizer=OptimizerConfig(
                    optimizer="adamw",
                    learning_rate=1e-3,
                    schedule="cosine",
                    warmup_steps=2_000,
                    weight_decay=0.1,
                ),
            ),
            ClassifierTrainingConfig(
                log_every=5_000, checkpoint_every=100_000, evaluate_every=50_000
            ),
            data="cifar10",
        ),
    )
}
#: What is begun with where no preset is named.
DEFAULT = PRESETS["digits-classifier"]


def preset(name: str) -> ClassifierPreset:
    """The preset called `name`; UserError if there is none."""
    return find_preset(PRESETS, name, CLASSIFIER)
