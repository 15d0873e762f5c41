"""What is measured during training, and under which names.

Nothing heavy is imported: who only reads curves finds here what they mean.
"""

from __future__ import annotations

from dataclasses import dataclass

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
        "Fréchet distance of painted images to as many real ones, by random features",
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
