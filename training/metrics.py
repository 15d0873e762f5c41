"""What is measured during training, under which names, and how a log interval sums it up."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from playfield.training.trainer import Metrics, Share, State

#: A finished value (a game's return) is averaged with this many before it.
WINDOW = 100
#: What follows the name of a series of finished values in the name of their moving mean.
MEAN_SUFFIX = "_mean"
#: Series whose spread over the same games is shown too: what follows their name, and percentiles.
SPREAD = ("episode/return",)
PERCENTILES = {"_low": 10.0, "_high": 90.0}


@dataclass(frozen=True)
class Metric:
    """What a name in TensorBoard and `metrics.jsonl` stands for."""

    meaning: str
    unit: str


#: The groups that TensorBoard's page shows, by what comes before the slash.
GROUPS = {
    "episode": "games that were played to learn from, with exploration",
    "eval": "games of evaluations, which nothing is learned from; by (nearly) the best actions",
    "train": "losses and settings of the updates",
    "loss_by_noise": "a denoiser's loss, by how much noise there was",
    "gan": "the two networks of a GAN beside each other",
    "replay": "the replay memory",
    "paint": "painted images beside real ones",
    "classify": "a classifier on held-out images",
    "samples": "pictures that were painted from the same seeds each time",
    "weights": "distributions of the network's weights, part by part",
    "health": "signs of trouble",
    "speed": "how fast it goes",
    "time": "how long it has taken",
    "run": "what the run is, in words",
}

#: Every scalar a run logs; the x-axis is the trainer's progress. Unless stated otherwise a point is
#: the mean over the log interval that ends there.
METRICS: dict[str, Metric] = {
    "episode/return": Metric(
        "raw, unclipped score of one finished game, at its last step", "points"
    ),
    "episode/return_mean": Metric(f"mean return of the last {WINDOW} finished games", "points"),
    "episode/return_low": Metric(
        f"return that a tenth of the last {WINDOW} finished games do not reach", "points"
    ),
    "episode/return_high": Metric(
        f"return that a tenth of the last {WINDOW} finished games surpass", "points"
    ),
    "episode/length": Metric("environment steps of one finished game, at its last step", "steps"),
    "episode/length_mean": Metric(f"mean length of the last {WINDOW} finished games", "steps"),
    "train/loss": Metric("loss that is minimised, importance weights included", "1"),
    "train/td_error": Metric("mean absolute temporal-difference error", "clipped reward"),
    "train/q": Metric("mean value of the actions taken in the batch", "clipped reward"),
    "train/policy_loss": Metric("the part of the loss that moves the policy", "1"),
    "train/value_loss": Metric(
        "half the mean squared error of the values, not yet weighted", "clipped reward²"
    ),
    "train/entropy": Metric("mean entropy of the policy in the batch", "nats"),
    "train/value": Metric("mean value of the observations in the batch", "clipped reward"),
    "train/approx_kl": Metric(
        "estimate of how far the policy has moved since learning from the rollout began", "nats"
    ),
    "train/clip_fraction": Metric(
        "part of the batch whose ratio of old to new chances lies outside the clip", "fraction"
    ),
    "train/explained_variance": Metric(
        "part of the returns' variance that the values knew of: 1 is all, 0 none", "fraction"
    ),
    "train/accuracy": Metric(
        "part of the batch that a classifier takes for what it is, dropout at work", "fraction"
    ),
    "loss_by_noise/below_0.1": Metric("loss of images with little noise, sigma below 0.1", "1"),
    "loss_by_noise/from_0.1": Metric("loss of images with sigma from 0.1 to 0.5", "1"),
    "loss_by_noise/from_0.5": Metric("loss of images with sigma from 0.5 to 2", "1"),
    "loss_by_noise/above_2": Metric("loss of images with much noise, sigma of 2 or more", "1"),
    "train/discriminator_loss": Metric(
        "what the discriminator of a GAN minimises, less its penalty", "1"
    ),
    "train/generator_loss": Metric("what the generator of a GAN minimises", "1"),
    "train/penalty": Metric("penalty on the discriminator's slope, weight included", "1"),
    "train/discriminator_gradient_norm": Metric(
        "global norm of the discriminator's gradient before clipping, penalty included unless lazy",
        "1",
    ),
    "train/generator_gradient_norm": Metric(
        "global norm of the generator's gradient before clipping", "1"
    ),
    "gan/logit_real": Metric("mean output of the discriminator on real images", "1"),
    "gan/logit_fake": Metric("mean output of the discriminator on painted images", "1"),
    "gan/real_sign": Metric(
        "how surely it tells real images from painted ones: mean sign of its output on them, or of "
        "the difference where only that counts; near 1 throughout, it knows them by heart",
        "-1..1",
    ),
    "gan/augment_probability": Metric(
        "chance of each change that the discriminator sees images through", "probability"
    ),
    "gan/diversity": Metric(
        "variety of painted images over that of real ones of the same labels: near 0 is a collapse",
        "fraction",
    ),
    "train/gradient_norm": Metric("global norm of the gradient before clipping", "1"),
    "train/learning_rate": Metric("learning rate", "1"),
    "train/epsilon": Metric("chance of a random action", "probability"),
    "train/updates": Metric("gradient steps in all, at this point", "updates"),
    "replay/fill": Metric("part of the replay's capacity that is filled", "fraction"),
    "replay/beta": Metric("exponent of the importance weights of prioritised replay", "1"),
    "speed/steps_per_second": Metric("environment steps per second of training", "steps/s"),
    "speed/images_per_second": Metric("images learned from per second of training", "images/s"),
    "speed/frames_per_second": Metric("emulator frames per second of training", "frames/s"),
    "speed/updates_per_second": Metric("gradient steps per second of training", "updates/s"),
    "eval/return": Metric("mean raw score over the games of one evaluation", "points"),
    "eval/length": Metric("mean length of the games of one evaluation", "steps"),
    "paint/frechet_distance": Metric(
        "Fréchet distance of up to 512 painted images to as many real ones, by random features",
        "1",
    ),
    "paint/precision": Metric(
        "part of them that lie among real ones, by these features", "fraction"
    ),
    "paint/recall": Metric("part of the real ones that lie among them", "fraction"),
    "paint/coverage": Metric("part of the real ones that have one of them near", "fraction"),
    "paint/diversity": Metric(
        "their mean distance from one another over that of real ones: near 0 is a collapse",
        "fraction",
    ),
    "paint/neighbour_distance": Metric(
        "median distance of painted images to the nearest training image, in root mean square "
        "per pixel and channel",
        "codes of 0..255",
    ),
    "paint/images_per_second": Metric("images painted per second of an evaluation", "images/s"),
    "health/generator_collapsed": Metric(
        "part of the updates at which the generator painted nearly one image", "fraction"
    ),
    "health/discriminator_collapsed": Metric(
        "part of the updates at which the discriminator said nearly the same of all images",
        "fraction",
    ),
    "classify/accuracy": Metric(
        "part of the held-out images that are taken for what they are", "fraction"
    ),
    "classify/precision": Metric(
        "mean over the classes: part of the images taken for one that are of it", "fraction"
    ),
    "classify/recall": Metric(
        "mean over the classes: part of the images of one that are taken for it", "fraction"
    ),
    "classify/f1": Metric(
        "mean over the classes: harmonic mean of precision and recall", "fraction"
    ),
    "classify/loss": Metric("mean cross-entropy of the held-out images", "nats"),
    "health/skipped_updates": Metric(
        "updates skipped as not finite in all, at this point", "updates"
    ),
    "time/minutes": Metric("wall-clock minutes of the run at this point, resumes included", "min"),
}


@dataclass(frozen=True)
class Point:
    """One value of one curve."""

    progress: int
    name: str
    value: float


class Recorder:
    """Sums up what the steps of a log interval report, without waiting for a device.

    Scalars become means over the reports of the interval. A sequence is a series of values finished
    in that step: each stays a point of its own, and the mean over the last `WINDOW` of them is one
    more metric, named with `MEAN_SUFFIX`.
    """

    def __init__(self) -> None:
        self._sums: dict[str, float | torch.Tensor] = {}
        self._counts: dict[str, int] = {}
        self._shares: dict[str, float | torch.Tensor] = {}  # the counts of those in `_sums`
        self._finished: list[Point] = []
        self._windows: dict[str, deque[float]] = {}

    def add(self, progress: int, metrics: Metrics) -> None:
        """Take in what one step reported. Tensors are read here, and may be reused afterwards."""
        for name, value in metrics.items():
            if isinstance(value, Share):
                _accumulate(self._sums, name, value.total)
                _accumulate(self._shares, name, value.count)
                continue
            if isinstance(value, torch.Tensor):
                _accumulate(self._sums, name, value)
            elif isinstance(value, int | float):
                self._sums[name] = self._sums.get(name, 0.0) + value
            else:
                self._finish(progress, name, value)
                continue
            self._counts[name] = self._counts.get(name, 0) + 1

    def _finish(self, progress: int, name: str, values: Iterable[float]) -> None:
        window = self._windows.setdefault(name, deque(maxlen=WINDOW))
        for value in map(float, values):
            self._finished.append(Point(progress, name, value))
            window.append(value)

    def take(self) -> tuple[list[Point], dict[str, float]]:
        """The values finished in this interval, and the means over it; starts the next interval.

        Waits for the device once.
        """
        sums, shares = _to_host([self._sums, self._shares])
        counts = {**self._counts, **shares}
        means = {name: total / counts[name] for name, total in sums.items() if counts[name]}
        finished, self._finished = self._finished, []
        for name, window in self._windows.items():
            means[name + MEAN_SUFFIX] = sum(window) / len(window)
        self._sums.clear()
        self._counts.clear()
        self._shares.clear()
        return finished, means

    def spread(self) -> dict[str, float]:
        """The 10th and 90th percentile (linear) of the newest values of each series in `SPREAD`."""
        return {
            name + suffix: float(np.percentile(self._windows[name], percent))
            for name in SPREAD
            if self._windows.get(name)
            for suffix, percent in PERCENTILES.items()
        }

    def state_dict(self) -> State:
        """The moving windows; call it right after `take`, when nothing else is held."""
        return {name: list(window) for name, window in self._windows.items()}

    def load_state_dict(self, state: Mapping[str, list[float]]) -> None:
        self._windows = {name: deque(values, maxlen=WINDOW) for name, values in state.items()}


def _accumulate(sums: dict[str, float | torch.Tensor], name: str, value: torch.Tensor) -> None:
    value = value.detach()
    if name in sums:
        sums[name] += value  # in place where the sum is a tensor
    else:
        sums[name] = value.to(torch.float32, copy=True)


def _to_host(groups: Sequence[Mapping[str, float | torch.Tensor]]) -> list[dict[str, float]]:
    """The same numbers, for which a device is waited for once."""
    tensors = [v for group in groups for v in group.values() if isinstance(v, torch.Tensor)]
    if len({tensor.device for tensor in tensors}) == 1:
        read = iter(torch.stack(tensors).tolist())
    else:
        read = map(float, tensors)
    return [
        {name: next(read) if isinstance(v, torch.Tensor) else float(v) for name, v in group.items()}
        for group in groups
    ]
