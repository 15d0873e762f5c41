"""What the numbers for painted images say of real ones: halves of the digits, one as if painted.

Nothing painted can be better, so this is where each number ends, and how far chance takes it there
with so many images. Halves are drawn at random, or with each class equally often in both, as
painters are asked for classes in turn; each draw is another pair of halves without an image in
common. They are seen by random features and by a classifier of the digits.

    python benchmarks/real_halves.py
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from measure import conditions, destination, parser, report, show, threads_of
from numpy.typing import NDArray

from playfield.commands.data_sets import open_data_set
from playfield.evaluation.feature_networks import random_features, weights_sha256
from playfield.evaluation.features import extract
from playfield.evaluation.images import Features, image_metrics
from playfield.evaluation.manifold import expected_coverage
from playfield.generative.classifier import ClassifierConfig
from playfield.generative.classifier_trainer import train_classifier
from playfield.generative.datasets.options import DataOptions
from playfield.generative.images import ImageData
from playfield.generative.pixels import to_signal

#: Images of each half; whole numbers of each of the ten classes.
SIZES, QUICK_SIZES = (300, 600, 800), (300,)
DRAWS, QUICK_DRAWS = 20, 2
SEED = 0
NAMES = (
    "frechet_distance",
    "kernel_distance",
    "kernel_distance_error",
    "precision",
    "recall",
    "coverage",
)

Places = NDArray[np.intp]


def main() -> None:
    options = parser(__doc__).parse_args()
    record = conditions(options)
    torch.set_num_threads(threads_of(options))
    sizes, draws = (QUICK_SIZES, QUICK_DRAWS) if options.quick else (SIZES, DRAWS)
    digits = open_data_set("digits", DataOptions())
    seen = {"random": extract(random_features(1), digits.images())}
    seen["classifier"] = classifier_features(digits, 1 if options.quick else None)
    found = {
        features: {
            f"{size}, {how}": summary(
                seen[features], halves(digits.labels(), size, how == "classes alike", draws)
            )
            for size in sizes
            for how in ("at random", "classes alike")
        }
        for features in seen
    }
    for features, rows in found.items():
        show(
            f"halves of the digits by {features} features: mean ± deviation of {draws} draws",
            (
                "images of each kind",
                "FD",
                "KID · 10³",
                "its error · 10³",
                "precision",
                "recall",
                "coverage",
            ),
            [
                (
                    half,
                    spread(row["frechet_distance"], 2),
                    spread(row["kernel_distance"], 2, 1e3),
                    f"{1e3 * row['kernel_distance_error']['mean']:.2f}",
                    *(spread(row[name], 3) for name in ("precision", "recall", "coverage")),
                )
                for half, row in rows.items()
            ],
        )
    record |= {
        "draws": draws,
        "best_coverage": {size: expected_coverage(size, size) for size in sizes},
        "found": found,
    }
    report("real_halves", record, [], destination(options))


def classifier_features(digits: ImageData, epochs: int | None) -> Features:
    """What the last hidden layer of a classifier that learned all of `digits` sees in them."""
    config = ClassifierConfig() if epochs is None else ClassifierConfig(epochs=epochs)
    images = digits.images()
    network = train_classifier(images, digits.labels(), digits.classes, config, SEED)
    with torch.inference_mode():
        rows = network.features(to_signal(torch.from_numpy(images))).numpy()
    return Features(rows, "classifier", weights_sha256(network), "x / 127.5 - 1")


def halves(
    labels: NDArray[np.int64], size: int, classes_alike: bool, draws: int
) -> Iterator[tuple[Places, Places]]:
    """Places of `size` images and of as many others, drawn anew each time."""
    rng = np.random.default_rng(SEED)
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    groups = classes if classes_alike else [np.arange(len(labels))]
    each = size // len(groups)
    for _ in range(draws):
        shuffled = [rng.permutation(group) for group in groups]
        one = np.concatenate([group[:each] for group in shuffled])
        yield one, np.concatenate([group[each : 2 * each] for group in shuffled])


def summary(seen: Features, pairs: Iterator[tuple[Places, Places]]) -> dict[str, Any]:
    """Of each number its mean and deviation over the pairs, and the numbers themselves."""
    metrics = ("frechet_distance", "kernel_distance", "manifold")
    pair_records = [
        image_metrics(part(seen, one), part(seen, other), data="digits", metrics=metrics).record()
        for one, other in pairs
    ]
    samples = {name: [record[name] for record in pair_records] for name in NAMES}
    return {
        name: {
            "mean": float(np.mean(values)),
            "deviation": float(np.std(values, ddof=1)),
            "samples": values,
        }
        for name, values in samples.items()
    }


def part(seen: Features, places: Places) -> Features:
    return Features(seen.array[places], seen.name, seen.sha256, seen.preprocessing)


def spread(found: dict[str, Any], digits: int, times: float = 1.0) -> str:
    return f"{times * found['mean']:.{digits}f} ± {times * found['deviation']:.{digits}f}"


if __name__ == "__main__":
    main()
