"""`playfield evaluate-images RUN|FOLDER`: how painted images compare with real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from playfield.commands import arguments
from playfield.errors import UserError
from playfield.generative.datasets.options import DataOptions
from playfield.generative.judges import CLASSIFIER
from playfield.generative.sampling import SamplerConfig
from playfield.training.places import runs_root

if TYPE_CHECKING:
    import torch

    from playfield.commands.image_measurement import Judge
    from playfield.commands.painted_images import PaintedImages
    from playfield.evaluation.features import FeatureNetwork
    from playfield.generative.images import ImageData
    from playfield.training.run import Run

#: Painted images, where nobody asks for more and the data has as many.
USUAL = 10_000


@dataclass(frozen=True)
class Options:
    """Measure painted images against real ones; print the numbers and keep them in a file.

    A run's model paints them now, each class as often as the data has it; or they are in files.
    Every number holds for the features, the images and how many there are: compare no others.
    """

    painted: tyro.conf.Positional[str]
    """Name or folder of a run that paints; or a folder of pictures, an .npz such as `playfield
    sample --out` writes, or any other images as in `playfield list data`."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """How a run paints."""
    images: DataOptions = field(default_factory=DataOptions)
    """How images are brought in from files, painted ones too."""
    data: str | None = None
    """Real images to compare with; None: those that the run learned from."""
    test_data: str | None = None
    """Real images that the painter did not learn from, such as digits,split=test; the ratio of
    memorisation and the accuracy score need them."""
    features: str = "random"
    """What images are seen by: random (fixed convolutions), classifier:RUN, or weights from a file:
    inception:FILE, inception-tf1:FILE, dinov2:FILE."""
    classifier: str | None = None
    """Run of a classifier, which says how many painted images show what they were asked to; None:
    that of --features, if it is one and knows these classes."""
    accuracy_score: bool = False
    """Train a classifier on the painted images, and one on as many real ones, and test both on
    --test-data."""
    number: Annotated[int | None, tyro.conf.arg(aliases=["-n"])] = None
    """Painted images; None: as many as there are real ones, 10,000 at most, or all in the folder.
    """
    first_seed: int = 0
    """A run's images are those of this seed and the ones after it."""
    weights: str = "averaged"
    """averaged, newest, or the width of an average, as in `playfield sample`."""
    checkpoint: str | None = None
    """Which checkpoint, by its images or path, best or last; None: the newest intact one."""
    out: Path | None = None
    """File to add the result to; None: image_evaluation.json of the run, and none for a folder."""
    batch_size: int = 64
    """Images to paint at once."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    threads: int | None = None
    """Threads to compute with; None: as many as there are cores to use."""
    root: Path = field(default_factory=runs_root)
    """Folder that runs are kept in."""


def run(args: Sequence[str]) -> int:
    options = arguments.parse(Options, args, command="evaluate-images")
    _check(options)

    from datetime import UTC, datetime

    from playfield.commands.image_measurement import (
        check_numbers,
        check_score,
        described,
        measure,
        score,
    )
    from playfield.commands.image_report import lines
    from playfield.commands.painted_images import open_source
    from playfield.evaluation.image_results import (
        FILE,
        ImageEvaluation,
        add_image_evaluation,
        read_image_evaluations,
    )
    from playfield.training.devices import resolve_device, set_threads
    from playfield.training.run import Run

    device = resolve_device(options.device)
    set_threads(options.threads)
    source = open_source(options.painted, options.root, options.images)
    results = options.out or (source.folder / FILE if isinstance(source, Run) else None)
    if results is not None:
        if not results.absolute().parent.is_dir():
            raise UserError(f"--out {results} is in a folder that does not exist: make it first.")
        read_image_evaluations(results)  # a damaged file is told before the work, not after it
    real = _real(options, source)
    held_out = _held_out(options, real)
    network = _network(options, real, device)
    judge = _judge(options, real, device)
    count = _count(options, source, real)
    check_numbers(count, real, network)
    if options.accuracy_score:
        assert held_out is not None  # as `_check` saw to
        check_score(source, real, held_out)
    painted = _painted(options, source, real, count, device)
    compared = described(real)
    fingerprint = compared["fingerprint"]
    metrics = measure(
        painted,
        real,
        held_out,
        network,
        judge,
        fingerprint=fingerprint,
        # Of images in files nobody knows; they are taken for painted after the data named.
        learned_from=painted.source.get("learned_from", fingerprint) == fingerprint,
    )
    how = None
    if options.accuracy_score:
        assert held_out is not None
        found, how = score(painted, real, held_out, device)
        metrics = replace(metrics, accuracy_score=found.painted, accuracy_score_real=found.real)
    evaluation = ImageEvaluation(
        painted=painted.source,
        real=compared,
        held_out=None if held_out is None else described(held_out),
        classifier=None if judge is None else judge.description(),
        accuracy_score=how,
        metrics=metrics,
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    print("\n".join(lines(evaluation, painted.about)))
    if results is not None:
        add_image_evaluation(results, evaluation)
        print(f"written to    {results}")
    return 0


def _real(options: Options, source: Run | ImageData) -> ImageData:
    """The images to compare with, of the shape of those painted."""
    from playfield.commands.data_sets import open_data_set, reopen, report_damage
    from playfield.commands.image_measurement import check_images, sizes
    from playfield.generative.saved_painter import stored_description
    from playfield.training.run import Run

    if options.data is None:
        if not isinstance(source, Run):
            raise UserError(
                f"{options.painted} says nothing of real images: name those to compare with, as in "
                "--data digits."
            )
        return reopen(stored_description(source), source.name)
    real = open_data_set(options.data, options.images)
    report_damage(real)
    if not isinstance(source, Run):
        check_images("painted", source, real)
    elif (shape := stored_description(source).shape) != real.spec.shape:
        raise UserError(
            f"Run {source.name!r} paints images of {sizes(shape)} (channels, height, width), and "
            f"those of {real.name} are of {sizes(real.spec.shape)}: bring them to that with "
            "--resize and --channels, or name other data."
        )
    return real


def _held_out(options: Options, real: ImageData) -> ImageData | None:
    from playfield.commands.data_sets import open_data_set, report_damage
    from playfield.commands.image_measurement import check_held_out, check_images

    if options.test_data is None:
        return None
    held_out = open_data_set(options.test_data, options.images)
    report_damage(held_out)
    check_images("test", held_out, real)
    check_held_out(held_out, real)
    return held_out


def _network(options: Options, real: ImageData, device: torch.device) -> FeatureNetwork:
    from playfield.commands import stored
    from playfield.commands.stored_classifier import classifier_features
    from playfield.evaluation.feature_networks import feature_network
    from playfield.training.run import Run

    kind, _, name = options.features.partition(":")
    if kind != CLASSIFIER or not name:
        return feature_network(options.features, real.spec.channels, device)
    run = Run.open(name, options.root)
    return classifier_features(run, stored.stored_checkpoint(run, None, stores=False), device)


def _judge(options: Options, real: ImageData, device: torch.device) -> Judge | None:
    from playfield.commands.image_measurement import knows_classes, open_judge
    from playfield.training.run import Run

    if options.classifier is not None:
        return open_judge(Run.open(options.classifier, options.root), real, device)
    kind, _, name = options.features.partition(":")
    if kind != CLASSIFIER:
        return None
    run = Run.open(name, options.root)
    # Only its features were asked for: where it knows other classes, it says nothing of them.
    return open_judge(run, real, device) if knows_classes(run, real) else None


def _count(options: Options, source: Run | ImageData, real: ImageData) -> int:
    from playfield.training.run import Run

    if options.number is not None:
        return options.number
    return min(len(real), USUAL) if isinstance(source, Run) else len(source)


def _painted(
    options: Options, source: Run | ImageData, real: ImageData, count: int, device: torch.device
) -> PaintedImages:
    from playfield.commands import stored
    from playfield.commands.painted_images import painted_by, painted_in
    from playfield.generative.saved_painter import stored_model
    from playfield.training.run import Run

    if not isinstance(source, Run):
        return painted_in(source, real, count)
    checkpoint = stored.stored_checkpoint(source, options.checkpoint, stores=False)
    return painted_by(
        source,
        checkpoint,
        stored_model(source, checkpoint, device, options.weights),
        options.weights,
        real,
        config=options.sampler,
        count=count,
        first_seed=options.first_seed,
        batch_size=options.batch_size,
    )


def _check(options: Options) -> None:
    from playfield.commands.sample_requests import MOST_IMAGES

    for name, value, least in (
        ("number", options.number, 1),
        ("batch-size", options.batch_size, 1),
        ("first-seed", options.first_seed, 0),
    ):
        if value is not None and value < least:
            raise UserError(f"--{name} has to be {least} or more, not {value}.")
    if options.number is not None and options.number > MOST_IMAGES:
        raise UserError(f"--number has to be {MOST_IMAGES:,} or less, not {options.number:,}.")
    if options.accuracy_score and options.test_data is None:
        raise UserError(
            "--accuracy-score tests on real images that the painter did not learn from: name them "
            "with --test-data, such as digits,split=test for a run on digits,split=train."
        )
