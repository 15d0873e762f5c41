"""Performance profiles as a picture: the share of runs and games above every score."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from playfield.evaluation.charts import Format, Series, line_chart
from playfield.evaluation.statistics import (
    FEWEST_RUNS,
    RESAMPLES,
    performance_profile,
    profile_band,
)

Array = NDArray[np.float64]

#: Of scores at which a profile is drawn.
THRESHOLDS = 201


def thresholds(groups: Mapping[str, Array]) -> Array:
    """Scores `[THRESHOLDS]` from below the lowest of all groups to the highest.

    At the first of them every profile is 1, at the last 0.
    """
    every = np.concatenate([scores.ravel() for scores in groups.values()])
    low, high = float(every.min()), float(every.max())
    margin = 0.02 * (high - low) or 0.5
    return np.linspace(low - margin, high, THRESHOLDS)


def profile_picture(
    groups: Mapping[str, Array],
    *,
    score: str,
    format: Format = "png",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> bytes:
    """The performance profiles of `groups`, each with its 95 % band, encoded.

    A group is scores `[runs, games]` by its name; one of too few runs has no band. `score` says
    what the scores are, under the picture. Agarwal et al. 2021 (arXiv:2108.13264), section 4.2.
    """
    at = thresholds(groups)
    lines = []
    for name, scores in groups.items():
        low, high = None, None
        if len(scores) >= FEWEST_RUNS:
            low, high = profile_band(scores, at, resamples, seed)
        lines.append(Series(name, at, performance_profile(scores, at), low, high))
    return line_chart(
        lines,
        title="Runs that score more",
        x_label=score,
        y_label="share of runs and games",
        format=format,
    )
