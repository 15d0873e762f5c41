"""Scores of several runs on several games in one number, and how sure that number is.

Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(arXiv:2108.13264). A matrix of scores has a row for each run and a column for each game. Scores of
different games share a scale, such as the human-normalised one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
#: Scores `[..., runs, games]` in, one value `[...]` for each matrix out; or several, `[..., T]`.
Statistic = Callable[[Array], Array]

#: Of a bootstrap: the ends of a 95 % interval then move by about a fiftieth of its width from one
#: seed to another. Agarwal et al. use 2,000 or more.
RESAMPLES = 10_000
#: Share of the resamples that lies within an interval.
LEVEL = 0.95
#: Runs of a game from which on an interval is worth showing. That of two reaches from one to the
#: other, and holds the truth every second time.
FEWEST_RUNS = 3
#: Scores that are resampled at once, which bounds the memory: 32 MiB.
_CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class Interval:
    """The ends of a 95 % interval."""

    low: float
    high: float


def mean(scores: Array) -> Array:
    """Of all scores `[..., runs, games]`: `[...]`. One outlying game can carry it."""
    return np.mean(scores, axis=(-2, -1))


def median(scores: Array) -> Array:
    """Over the games, of the mean over the runs of each, `[..., runs, games]` to `[...]`.

    Half of the games may score nothing without changing it.
    """
    return np.median(np.mean(scores, axis=-2), axis=-1)


def iqm(scores: Array) -> Array:
    """The interquartile mean of all scores `[..., runs, games]`: `[...]`.

    The lowest and the highest quarter of the runs and games together are left out, each rounded
    down to whole scores (a 25 % trimmed mean).
    """
    flat = np.sort(np.reshape(scores, (*np.shape(scores)[:-2], -1)), axis=-1)
    count = flat.shape[-1]
    cut = count // 4
    return np.mean(flat[..., cut : count - cut], axis=-1)


def optimality_gap(scores: Array, target: float = 1.0) -> Array:
    """By how much scores `[..., runs, games]` miss `target` on average: `[...]`, 0 is best.

    What is beyond the target counts no more than the target.
    """
    return target - np.mean(np.minimum(scores, target), axis=(-2, -1))


def performance_profile(scores: Array, thresholds: Array) -> Array:
    """The share of scores above each threshold, `[..., runs, games]` and `[T]` to `[..., T]`.

    Agarwal et al. 2021, equation 2 (a run-score distribution).
    """
    shares = [np.mean(scores > threshold, axis=(-2, -1)) for threshold in thresholds]
    return np.stack(shares, axis=-1)


def probability_of_improvement(a: Array, b: Array) -> Array:
    """How likely a run of `a` beats a run of `b` on a game, all games counting alike: `[...]`.

    `a` is `[..., runs of a, games]`, `b` `[..., runs of b, games]`; a tie is half a win. It is the
    mean over the games of Mann and Whitney's U divided by the number of pairs, and says nothing of
    how large an improvement is.
    """
    ours, theirs = a[..., :, None, :], b[..., None, :, :]  # [..., runs of a, runs of b, games]
    wins = np.mean(ours > theirs, axis=(-3, -2, -1))
    ties = np.mean(ours == theirs, axis=(-3, -2, -1))
    return np.asarray(wins + 0.5 * ties)


def stratified_bootstrap(
    scores: Array, statistic: Statistic, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """The 95 % interval of `statistic` over other training runs of the same games.

    A resample draws as many runs as there are, with replacement, for every game by itself; the ends
    are percentiles of the statistic of `resamples` of them. It knows no runs but those it is given:
    of two or three it makes too narrow an interval.

    `scores` is `[runs, games]`. Raises ValueError for fewer than two runs, which leave nothing to
    resample, and for a score that is not finite.
    """
    low, high = _percentiles(lambda drawn: statistic(drawn[0]), [scores], resamples, seed)
    return Interval(float(low), float(high))


def improvement_interval(a: Array, b: Array, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The 95 % interval of `probability_of_improvement(a, b)`; the runs of each are drawn apart.

    Raises ValueError where `stratified_bootstrap` does, and for groups of other games.
    """
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"a has {a.shape[-1]} games and b {b.shape[-1]}: they take the same")
    low, high = _percentiles(
        lambda drawn: probability_of_improvement(*drawn), [a, b], resamples, seed
    )
    return Interval(float(low), float(high))


def profile_band(
    scores: Array, thresholds: Array, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Array, Array]:
    """The ends `[T]` of the 95 % interval of a performance profile at each of its thresholds.

    Raises ValueError where `stratified_bootstrap` does.
    """
    return _percentiles(
        lambda drawn: performance_profile(drawn[0], thresholds), [scores], resamples, seed
    )


def _percentiles(
    statistic: Callable[[Sequence[Array]], Array],
    groups: Sequence[Array],
    resamples: int,
    seed: int,
) -> tuple[Array, Array]:
    """The ends of the middle 95 % of what `statistic` makes of resampled `groups`."""
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}: it takes one or more")
    for scores in groups:
        _check(scores)
    rng = np.random.default_rng(seed)
    # Pairs of runs are compared, where there are two groups: their product is what fills memory.
    pairs = int(np.prod([len(scores) for scores in groups]))
    at_once = max(1, _CHUNK // (pairs * groups[0].shape[1]))
    values = []
    for done in range(0, resamples, at_once):
        count = min(at_once, resamples - done)
        values.append(statistic([_resampled(scores, count, rng) for scores in groups]))
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(np.concatenate(values), [tail, 100 - tail], axis=0)
    return low, high


def _resampled(scores: Array, count: int, rng: np.random.Generator) -> Array:
    """`count` matrices like `scores`, every column drawn from its own: `[count, runs, games]`."""
    runs = rng.integers(len(scores), size=(count, *scores.shape))
    return scores[runs, np.arange(scores.shape[1])]


def _check(scores: Array) -> None:
    if scores.ndim != 2 or scores.shape[1] < 1:
        raise ValueError(f"scores are {list(scores.shape)}, not [runs, games]")
    if len(scores) < 2:
        raise ValueError("an interval takes two runs or more of each game")
    if not np.isfinite(scores).all():
        raise ValueError("scores have to be finite")
