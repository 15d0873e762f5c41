"""What a classifier makes of images that it has not learned from: curves, tables and files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from torch.nn import functional as F

from playfield.commands import stored
from playfield.commands.stored_classifier import stored_images
from playfield.errors import UserError
from playfield.evaluation.classification import (
    FILE,
    Classification,
    Judgement,
    classify,
    write_judgement,
)
from playfield.evaluation.confusion import confusion_picture, confusion_table, scores_table
from playfield.evaluation.grids import write_png
from playfield.generative.classifier import logits
from playfield.generative.saved_classifier import (
    stored_classifier,
    stored_held_out,
    weights_sha256,
)

if TYPE_CHECKING:
    from playfield.generative.classifier_trainer import ClassifierTrainer
    from playfield.generative.images import ImageData
    from playfield.nets.classifier import ConvClassifier
    from playfield.training.loop import Outcome
    from playfield.training.media import Picture
    from playfield.training.run import Run

#: The picture of the confusion matrix in a run's folder.
PICTURE = "confusion.png"


def measured(network: ConvClassifier, images: ImageData) -> tuple[Classification, float]:
    """What `network`, set to judge, takes `images` for, and its mean cross-entropy in nats."""
    said = logits(network, images.images()).cpu()
    labels = images.labels()
    loss = F.cross_entropy(said, torch.from_numpy(labels))
    return classify(labels, said.argmax(1).numpy(), images.classes), float(loss)


def during_training(
    trainer: ClassifierTrainer, test: ImageData
) -> Callable[[], Mapping[str, float | Picture]]:
    """What the training loop calls to see how well its classifier does on `test`."""

    def evaluate() -> Mapping[str, float | Picture]:
        with trainer.judging() as network:
            result, loss = measured(network, test)
        return {
            "classify/accuracy": result.accuracy,
            "classify/precision": result.precision,
            "classify/recall": result.recall,
            "classify/f1": result.f1,
            "classify/loss": loss,
            "classify/confusion": confusion_picture(result),
        }

    return evaluate


def conclude(run: Run, trainer: ClassifierTrainer, test: ImageData, outcome: Outcome) -> None:
    """Measure what training ended with, tell it and keep it; nothing where a signal ended it.

    Files that can't be written are told and cost nothing else: `playfield eval` makes them again.
    """
    if outcome.signal is not None or outcome.checkpoint is None:
        return
    with trainer.judging() as network:
        result, _ = measured(network, test)
        sha256 = weights_sha256(network)
    try:
        keep(run, describe(run, test, outcome.progress, sha256, result))
    except UserError as error:
        stored.report(str(error))


def measure_again(run: Run, checkpoint: str | None, device: torch.device) -> None:
    """`playfield eval` of a classifier's run: its files are written anew."""
    found = stored.stored_checkpoint(run, checkpoint, stores=False)
    network, sha256 = stored_classifier(run, found, device)
    _, test = stored_images(run)
    result, _ = measured(network, test)
    keep(run, describe(run, test, found.progress, sha256, result))


def describe(
    run: Run, test: ImageData, progress: int, sha256: str, result: Classification
) -> Judgement:
    """`result` with the conditions that it was found under."""
    held_out = stored_held_out(run)
    return Judgement(
        run=run.name,
        progress=progress,
        weights_sha256=sha256,
        data=test.name,
        held_out=held_out.part,
        seed=run.manifest["seed"],
        fingerprint=test.fingerprint(),
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        classification=result,
    )


def keep(run: Run, judgement: Judgement) -> None:
    """Print `judgement`, and write it and its picture; raises `UserError` where that can't be."""
    console = Console(highlight=False)
    result = judgement.classification
    for line in lines(judgement):
        console.print(line, markup=False, soft_wrap=True)
    for table in (scores_table(result), confusion_table(result, console.width)):
        console.print()
        console.print(table)
    console.print()
    write_judgement(run.folder / FILE, judgement)
    write_png(run.folder / PICTURE, confusion_picture(result))
    console.print(f"written to  {run.folder / FILE} and {PICTURE}", markup=False, soft_wrap=True)


def lines(judgement: Judgement) -> list[str]:
    """The report: what was measured, on what, and what came out."""
    result = judgement.classification
    shown = f"{result.n:,} images of {judgement.data}"
    if judgement.held_out is not None:
        shown += (
            f", {100 * judgement.held_out:g} % of each class, held out by seed {judgement.seed}"
        )
    return [
        f"run         {judgement.run} at image {judgement.progress:,}",
        f"measured    {shown}",
        f"accuracy    {100 * result.accuracy:.2f} %",
        f"weights     sha256 {judgement.weights_sha256}",
    ]
