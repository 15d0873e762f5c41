"""A classifier's run brought back: its images, its trainer, and what others measure with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from playfield.commands.data_sets import reopen
from playfield.errors import UserError
from playfield.evaluation.features import FeatureNetwork, TorchFeatures
from playfield.generative.classifier_trainer import ClassifierTrainer
from playfield.generative.held_out import beside, divided
from playfield.generative.pixels import to_signal
from playfield.generative.saved_classifier import (
    stored_classifier,
    stored_config,
    stored_held_out,
)
from playfield.generative.saved_painter import stored_description

if TYPE_CHECKING:
    from playfield.generative.images import ImageData
    from playfield.nets.classifier import ConvClassifier
    from playfield.training.checkpoint import Checkpoint
    from playfield.training.run import Run

#: What a classifier does to bytes, in words.
PREPROCESSING = "x / 127.5 - 1, at the size and in the colours that it learned"


def stored_images(run: Run) -> tuple[ImageData, ImageData]:
    """The images that `run` learns from, and those that it is measured on, opened again.

    Raises `UserError` where they are not there any more, or not the same.
    """
    stored_config(run)  # of a classifier
    held_out = stored_held_out(run)
    data = reopen(stored_description(run), run.name)
    if held_out.part is not None:
        return divided(data, held_out.part, run.manifest["seed"])
    assert held_out.data is not None
    return beside(data, reopen(held_out.data, run.name))


def stored_trainer(
    run: Run, data: ImageData, device: torch.device, *, steps: int
) -> ClassifierTrainer:
    """The trainer of `run`, for its checkpoint to be loaded into."""
    config, seed = stored_config(run), run.manifest["seed"]
    return ClassifierTrainer(config, data, seed=seed, device=device, steps=steps)


def classifier_features(run: Run, checkpoint: Checkpoint, device: torch.device) -> FeatureNetwork:
    """The last hidden layer of the classifier in `checkpoint`.

    It takes images of the shape that the classifier learned, and raises `UserError` for others.
    """
    network, sha256 = stored_classifier(run, checkpoint, device)
    known = stored_description(run)

    def prepare(images: torch.Tensor) -> torch.Tensor:
        if tuple(images.shape[1:]) != known.shape:
            raise UserError(
                f"The classifier {run.name!r} sees images of {_sizes(known.shape)} (channels, "
                f"height, width), and these are {_sizes(images.shape[1:])}: choose one of such "
                "images, or bring them to its size with --resize and --channels."
            )
        return to_signal(images)

    size = stored_config(run).features
    return TorchFeatures(
        "classifier", sha256, PREPROCESSING, size, _LastHidden(network), prepare, device
    )


class _LastHidden(nn.Module):
    def __init__(self, network: ConvClassifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network.features(x)


def _sizes(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
