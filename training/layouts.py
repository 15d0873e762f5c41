"""What TensorBoard's Custom Scalars page shows of a run: the same charts for a whole family.

Tags of lines are regular expressions, so one chart suits every algorithm of a family; a curve that
a run does not have is not drawn. Titles of categories tell the families apart, for TensorBoard
joins the layouts of all runs that it shows by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Family = Literal["agent", "painter", "gan", "classifier"]


@dataclass(frozen=True)
class Lines:
    """Curves in one chart."""

    title: str
    tags: tuple[str, ...]  # regular expressions, each of whole names


@dataclass(frozen=True)
class Band:
    """A curve between two others, shaded: a mean and its spread."""

    title: str
    value: str
    lower: str
    upper: str


@dataclass(frozen=True)
class Category:
    """Charts under one heading: bands first."""

    title: str
    lines: tuple[Lines, ...] = ()
    bands: tuple[Band, ...] = ()
    closed: bool = False  # folded at first


def _health(family: str) -> tuple[Category, ...]:
    """What tells of trouble, and how fast it goes: alike for all."""
    return (
        Category(
            f"{family}: health",
            lines=(
                Lines("Gradient norm", (r"train/(\w+_)?gradient_norm",)),
                Lines("Skipped updates", (r"health/skipped_updates",)),
                Lines("Learning rate", (r"train/learning_rate",)),
            ),
        ),
        Category(
            f"{family}: speed",
            lines=(
                Lines("Steps, frames or images a second", (r"speed/(steps|frames|images)_.*",)),
                Lines("Updates a second", (r"speed/updates_per_second",)),
            ),
            closed=True,
        ),
    )


_PAINTED = Category(
    "Painting: pictures",
    lines=(
        Lines("Fréchet distance", (r"paint/frechet_distance",)),
        Lines("Precision and recall", (r"paint/(precision|recall|coverage)",)),
        Lines("Variety", (r"paint/diversity", r"gan/diversity")),
        Lines("Distance to the nearest training image", (r"paint/neighbour_distance",)),
    ),
)

LAYOUTS: dict[Family, tuple[Category, ...]] = {
    "agent": (
        Category(
            "Agent: return",
            lines=(
                Lines("Return of evaluations", (r"eval/return",)),
                Lines("Length of games", (r"episode/length_mean", r"eval/length")),
            ),
            bands=(
                Band(
                    "Return of the last games, with 10th and 90th percentile",
                    value="episode/return_mean",
                    lower="episode/return_low",
                    upper="episode/return_high",
                ),
            ),
        ),
        Category(
            "Agent: losses",
            lines=(
                Lines("Losses", (r"train/(\w+_)?loss",)),
                Lines("Values", (r"train/q", r"train/value", r"train/td_error")),
                Lines("Exploration", (r"train/epsilon", r"train/entropy")),
                Lines("Step of the policy", (r"train/approx_kl", r"train/clip_fraction")),
                Lines("Explained variance", (r"train/explained_variance",)),
            ),
        ),
        *_health("Agent"),
    ),
    "painter": (
        _PAINTED,
        Category(
            "Painting: losses",
            lines=(
                Lines("Loss", (r"train/loss",)),
                Lines("Loss by noise", (r"loss_by_noise/.*",)),
            ),
        ),
        *_health("Painting"),
    ),
    "gan": (
        _PAINTED,
        Category(
            "GAN: balance",
            lines=(
                Lines("Losses", (r"train/(generator|discriminator)_loss", r"train/penalty")),
                Lines("The discriminator on real and painted images", (r"gan/logit_.*",)),
                Lines("How surely it tells them apart", (r"gan/real_sign",)),
                Lines("Chance of augmentation", (r"gan/augment_probability",)),
                Lines("Collapse", (r"health/\w+_collapsed",)),
            ),
        ),
        *_health("GAN"),
    ),
    "classifier": (
        Category(
            "Classifier: held-out images",
            lines=(
                Lines("Accuracy", (r"classify/accuracy", r"train/accuracy")),
                Lines("Loss", (r"classify/loss", r"train/loss")),
                Lines(
                    "Precision, recall and F1 over the classes",
                    (r"classify/(precision|recall|f1)",),
                ),
            ),
        ),
        *_health("Classifier"),
    ),
}


def family(manifest: Mapping[str, Any]) -> Family:
    """Which family the run of a `run.json` is of."""
    if "env" in manifest:
        return "agent"
    if "held_out" in manifest:
        return "classifier"
    return "gan" if manifest["algorithm"] == "gan" else "painter"
