"""A classifier of images, to judge what a model paints.

It is trained on real images alone (`classifier_trainer`), and asked whether a sample shows what its
label asks for. Its last hidden layer gives features to compare distributions by.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from playfield.errors import UserError
from playfield.generative.pixels import Images, as_signal
from playfield.nets.classifier import ConvClassifier
from playfield.training.optimizers import OptimizerConfig
from playfield.training.seeding import derive_seed

#: Images that are judged at once.
BLOCK = 512


@dataclass(frozen=True)
class ClassifierConfig:
    """How a classifier is built and trained. Steps are images."""

    epochs: int = 20
    """How many times it sees every image, where no number of steps is given."""
    batch_size: int = 64
    """Images per update."""
    width: int = 32
    """Channels of the first layers; later ones have up to four times as many."""
    features: int = 128
    """Units of the last hidden layer."""
    dropout: float = 0.5
    """Chance of such a unit to be dropped in training."""
    shift: int = 0
    """Most pixels by which training images move each way, their border repeated; of use where
    images have room around what they show, which the 8×8 digits have not."""
    flip: bool = False
    """Mirror training images left to right with chance 1/2; not for what can be read."""
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    """What the network computes in while it learns; auto: bfloat16 where the processor multiplies
    it. It judges in float32."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            optimizer="adamw", learning_rate=2e-3, schedule="cosine", weight_decay=0.5
        )
    )
    """How gradients become steps."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "width", "features"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} has to be 1 or more, not {getattr(self, name)}.")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout has to be at least 0 and below 1, not {self.dropout}.")
        if self.shift < 0:
            raise UserError(f"shift has to be a number of pixels, 0 or more, not {self.shift}.")


def stratified_split(
    labels: NDArray[np.int64], held_out: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices to train on and indices held out, each in order: the part `held_out` of every class.

    Counts are rounded; a class of two images or more has one in each part at least, a single image
    is trained on. Images without a label count as a class. The choice within a class follows from
    seed and label alone. Raises ValueError for a part outside of 0..1.
    """
    if not 0 < held_out < 1:
        raise ValueError(f"held_out={held_out} has to lie between 0 and 1")
    kept, out = [], []
    for label in np.unique(labels).tolist():
        members = np.flatnonzero(labels == label)
        # Labels begin at -1, seeds' paths at 0.
        generator = np.random.default_rng(derive_seed(seed, "split", label + 1))
        size = min(max(round(held_out * len(members)), 1), len(members) - 1)
        chosen = generator.permutation(members)
        out.append(chosen[:size])
        kept.append(chosen[size:])
    return np.sort(np.concatenate(kept)), np.sort(np.concatenate(out))


def build_classifier(
    config: ClassifierConfig, shape: tuple[int, int, int], classes: int, seed: int
) -> ConvClassifier:
    """A fresh network for images of this shape; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ConvClassifier(
            shape, classes, width=config.width, features=config.features, dropout=config.dropout
        )
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def as_judge(network: ConvClassifier) -> ConvClassifier:
    """`network` itself, set to judge: in `eval()`, and in float32 whatever it learned in."""
    network.dtype = torch.float32
    return network.eval()


@torch.no_grad()
def logits(network: ConvClassifier, images: Images) -> torch.Tensor:
    """What it says of each of `images`: `[N, classes]` float32, on the network's device."""
    return torch.cat([network(block) for block in _blocks(network, images)])


def predict(network: ConvClassifier, images: Images) -> torch.Tensor:
    """The likeliest class `[N]` int64 of each of `images`, on the network's device."""
    return logits(network, images).argmax(1)


@torch.no_grad()
def features(network: ConvClassifier, images: Images) -> torch.Tensor:
    """The last hidden layer `[N, features]` float32 on `images`, on the network's device."""
    return torch.cat([network.features(block) for block in _blocks(network, images)])


def accuracy(network: ConvClassifier, images: Images, labels: NDArray[np.int64]) -> float:
    """The part of `images` whose likeliest class is their label `[N]`."""
    return float((predict(network, images).cpu().numpy() == labels).mean())


def _blocks(network: ConvClassifier, images: Images) -> Iterator[torch.Tensor]:
    device = next(network.parameters()).device
    for block in torch.split(torch.as_tensor(images), BLOCK):
        yield as_signal(block.to(device))
