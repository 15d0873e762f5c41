"""What was measured of painted images, for people: the conditions, and what each number says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from playfield.commands.table import aligned
from playfield.evaluation.image_results import ImageEvaluation
from playfield.evaluation.images import ImageMetrics
from playfield.evaluation.manifold import expected_coverage

HEADER = ("number", "value", "ideal", "what it says")
RIGHT = (1, 2)


def lines(evaluation: ImageEvaluation, about: Sequence[str]) -> list[str]:
    """The report; `about` is what there is to say of the painted images."""
    metrics = evaluation.metrics
    return [
        *_block("painted", about),
        f"real          {_images(evaluation.real)}",
        *([f"held out      {_images(evaluation.held_out)}"] if evaluation.held_out else []),
        f"features      {metrics.features}, {metrics.width:,} numbers for an image, weights sha256 "
        f"{metrics.features_sha256}",
        f"prepared      {metrics.preprocessing}",
        *([f"classifier    {_classifier(evaluation.classifier)}"] if evaluation.classifier else []),
        "",
        *aligned([HEADER, *rows(evaluation)], RIGHT),
        "",
    ]


def rows(evaluation: ImageEvaluation) -> list[tuple[str, str, str, str]]:
    """The table: name, value, what the best painter would have, meaning."""
    found, n = evaluation.metrics, evaluation.metrics.n
    covered = expected_coverage(found.n_real, n)
    return [
        ("Fréchet distance", _number(found.frechet_distance), "0", "falls with more images too"),
        (
            "kernel distance",
            _kernel(found),
            "0",
            "± standard error; unbiased, so that it may be below 0",
        ),
        ("precision", _part(found.precision), "1", "part that lies among real images"),
        (
            "recall",
            _part(found.recall),
            "1",
            "part of the real images that lies among painted ones",
        ),
        ("density", _part(found.density), "1", "how closely: above 1, among the densest ones"),
        ("coverage", _part(found.coverage), f"{covered:.3f}", "part of the real with one nearby"),
        ("diversity", _part(found.diversity), "1", _diversity(found)),
        (
            "memorisation ratio",
            _part(found.memorisation_ratio),
            "1",
            _memorisation(evaluation),
        ),
        ("class agreement", _part(found.agreement), "1", _agreement(evaluation)),
        (
            "accuracy score",
            _part(found.accuracy_score),
            _part(found.accuracy_score_real),
            _score(evaluation),
        ),
    ]


def _memorisation(evaluation: ImageEvaluation) -> str:
    if evaluation.metrics.memorisation_ratio is not None:
        return "distance to the data over that of held-out images: near 0, copies"
    if evaluation.held_out is None:
        return "needs --test-data: images that were not learned from"
    return "needs as --data what the run learned from"


def _agreement(evaluation: ImageEvaluation) -> str:
    if evaluation.metrics.agreement is not None:
        return "part that the classifier takes for its label"
    if evaluation.classifier is None:
        return "needs --classifier RUN"
    return "needs painted images with labels"


def _score(evaluation: ImageEvaluation) -> str:
    if evaluation.accuracy_score is None:
        return "needs --accuracy-score and --test-data"
    return (
        f"accuracy on the held-out images after learning from {evaluation.accuracy_score['n']:,} "
        "painted ones; ideal: from real ones"
    )


def _diversity(metrics: ImageMetrics) -> str:
    said = "distance from one another, over that of real ones"
    if not metrics.class_diversity:
        return said
    low = min(metrics.class_diversity.values())
    return f"{said}; least within a class {low:.3f}"


def _kernel(metrics: ImageMetrics) -> str:
    if metrics.kernel_distance is None or metrics.kernel_distance_error is None:
        return "-"
    return f"{metrics.kernel_distance:.4g} ± {metrics.kernel_distance_error:.2g}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _part(value: float | None) -> str:
    if value is None:
        return "-"
    return "infinite" if math.isinf(value) else f"{value:.3f}"


def _images(data: dict[str, Any]) -> str:
    size = "x".join(map(str, data["shape"]))
    of = f" of its {data['of']:,}" if data["n"] < data["of"] else ""
    return f"{data['data']}: {data['n']:,}{of} images of {size}, fingerprint {data['fingerprint']}"


def _classifier(judge: dict[str, Any]) -> str:
    return f"run {judge['run']}, checkpoint {judge['checkpoint']}, weights sha256 {judge['sha256']}"


def _block(name: str, texts: Sequence[str]) -> list[str]:
    return [f"{name if not index else '':<14}{text}" for index, text in enumerate(texts)]
