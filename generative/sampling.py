"""Paint images: a model, a sampler that fits it, a seed for each image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import torch

from playfield.errors import UserError
from playfield.generative import flow_samplers, samplers, time_grids
from playfield.generative.guidance import classifier_free
from playfield.generative.model import DenoisingModel, GeneratorModel, PaintingModel
from playfield.generative.noise import ImageGenerators
from playfield.generative.objective import NO_LABEL, Denoiser, Family, ImageSpec
from playfield.generative.samplers import Callback, Churn
from playfield.generative.truncation import truncated

Sampler = Literal[
    "ddpm",
    "ddim",
    "euler",
    "heun",
    "dpmpp-2m",
    "flow-euler",
    "flow-midpoint",
    "flow-heun",
    "consistency",
    "generator",
]

#: The samplers that run each family, and for each its steps where none are asked for. The first is
#: what "auto" takes. None: all steps of the schedule.
SAMPLERS: Mapping[Family, Mapping[Sampler, int | None]] = {
    "edm": {"heun": 18, "euler": 36, "dpmpp-2m": 18, "ddim": 36, "ddpm": 250},
    "ddpm": {"ddim": 50, "ddpm": None, "dpmpp-2m": 20, "euler": 50, "heun": 18},
    "flow": {
        "flow-midpoint": 16,
        "flow-heun": 16,
        "flow-euler": 32,
        "heun": 18,
        "euler": 36,
        "dpmpp-2m": 18,
        "ddim": 36,
        "ddpm": 250,
    },
    "consistency": {"consistency": 2},
}
#: What a GAN paints with: one call.
GENERATOR: Mapping[Sampler, int | None] = {"generator": 1}

#: Where the differential equation begins at most: nothing of an image shows through more noise, and
#: DDPM schedules that go on to thousands would waste most of EDM's steps there.
PURE_NOISE = 80.0

#: Samplers that go down a DDPM's own schedule.
ON_SCHEDULE: tuple[Sampler, ...] = ("ddpm", "ddim")

#: Settings that only some samplers have.
SETTING_OF: Mapping[str, tuple[Sampler, ...]] = {
    "variance": ("ddpm",),
    "eta": ("ddim",),
    "churn": ("heun", "euler"),
    "churn_min": ("heun", "euler"),
    "churn_max": ("heun", "euler"),
    "churn_noise": ("heun", "euler"),
    "truncation": ("generator",),
}


@dataclass(frozen=True)
class SamplerConfig:
    """How images are painted."""

    sampler: Literal["auto", Sampler] = "auto"
    """The way from noise to image; auto: one that suits the model."""
    steps: int | None = None
    """Steps on that way; None: what suits the sampler. Most samplers call the network once a step;
    heun, flow-midpoint and flow-heun call it twice."""
    guidance: float = 1.0
    """Classifier-free guidance: above 1, images show their label more clearly and differ less from
    one another. 1: none; 0: paint without the label."""
    churn: float = 0.0
    """euler and heun: noise to add on the way (EDM's S_churn); 0: none."""
    churn_min: float = 0.0
    """The least noise level at which churn adds noise (S_tmin)."""
    churn_max: float = math.inf
    """The greatest one (S_tmax)."""
    churn_noise: float = 1.0
    """Standard deviation of the noise that churn adds (S_noise)."""
    eta: float = 0.0
    """ddim: the share of each step's noise that is drawn anew; 0: none, 1: as much as ddpm."""
    variance: samplers.Variance = "small"
    """ddpm: the noise of a step, as it is for data of one image, or for data that is noise itself;
    in few steps small paints too little contrast, and large leaves noise."""
    clip: bool | None = None
    """Keep what the network expects to see within the range of images; None: for DDPM models."""
    truncation: float | None = None
    """generator (of a GAN): the greatest number in the noise that an image is made from; the less,
    the more usual images are, and the more alike. None: as it was trained."""

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise UserError(f"steps has to be 1 or more, not {self.steps}.")
        if not math.isfinite(self.guidance):
            raise UserError(f"guidance has to be a number, not {self.guidance}.")
        for name in ("churn", "churn_noise"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise UserError(f"{name} has to be a number of 0 or more, not {value}.")
        if not 0 <= self.churn_min <= self.churn_max:
            raise UserError(
                f"churn_min has to lie between 0 and churn_max ({self.churn_max}), not "
                f"{self.churn_min}."
            )
        if not 0 <= self.eta <= 1:
            raise UserError(f"eta has to lie in 0..1, not {self.eta}.")
        if self.truncation is not None and not 0 < self.truncation < math.inf:
            raise UserError(f"truncation has to be more than 0, not {self.truncation}.")


@dataclass(frozen=True)
class Plan:
    """A configuration made definite for a model."""

    sampler: Sampler
    grid: torch.Tensor  # [steps + 1] float64: noise levels, or times of a flow
    start: float  # standard deviation of the noise that the first step begins with

    @property
    def steps(self) -> int:
        return len(self.grid) - 1

    @property
    def network_calls(self) -> int:
        """Calls for each image, guidance aside: what is counted as NFE."""
        if self.sampler == "heun":
            return 2 * self.steps - 1
        return self.steps * (2 if self.sampler in ("flow-midpoint", "flow-heun") else 1)


def paint(
    model: PaintingModel,
    config: SamplerConfig,
    seeds: Sequence[int],
    label: torch.Tensor,
    *,
    initial: torch.Tensor | None = None,
    callback: Callback | None = None,
) -> torch.Tensor:
    """Images `[B, C, H, W]`, float32 signals in about [-1, 1], one for each of B seeds.

    An image follows from its seed, its label and the model; the batch it is painted in changes
    nothing but, on a GPU, the rounding.

    Args:
        label: `[B]` int64, `NO_LABEL` for none.
        initial: noise `[B, *model.noise_shape]` of unit variance to begin with, instead of the
            seeds'. The noise of later steps is the seeds' all the same.
        callback: sees each step of a model that denoises, as playfield.generative.samplers says.

    Raises `UserError` for a configuration that does not fit the model (see `plan`), for seeds out
    of range, and for labels that the model does not know.
    """
    planned = plan(model, config)
    check_label(model, label, len(seeds))
    noise = ImageGenerators(seeds)
    x = start_noise(model, noise, initial) * planned.start
    with torch.no_grad():
        image = _run(model, config, planned, x, label.to(model.device), noise, callback)
    return image.to(torch.float32)


def _run(
    model: PaintingModel,
    config: SamplerConfig,
    planned: Plan,
    x: torch.Tensor,
    label: torch.Tensor,
    noise: samplers.Noise,
    callback: Callback | None,
) -> torch.Tensor:
    if isinstance(model, GeneratorModel):
        z = x if config.truncation is None else truncated(x, config.truncation)
        return model.generator(z.to(model.device, torch.float32), label)
    assert isinstance(model, DenoisingModel)
    grid, name = planned.grid, planned.sampler
    if model.velocity is not None and name in FLOW_SAMPLERS:
        velocity = classifier_free(model.velocity, config.guidance)
        return FLOW_SAMPLERS[name](velocity, x, grid, label, callback=callback)
    denoiser = guided_denoiser(model, config)
    churn = Churn(config.churn, config.churn_min, config.churn_max, config.churn_noise)
    match name:
        case "ddpm":
            return samplers.ddpm(
                denoiser, x, grid, label, noise=noise, variance=config.variance, callback=callback
            )
        case "ddim":
            return samplers.ddim(
                denoiser, x, grid, label, noise=noise, eta=config.eta, callback=callback
            )
        case "euler":
            return samplers.euler(
                denoiser, x, grid, label, noise=noise, churn=churn, callback=callback
            )
        case "heun":
            return samplers.heun(
                denoiser, x, grid, label, noise=noise, churn=churn, callback=callback
            )
        case "dpmpp-2m":
            return samplers.dpmpp_2m(denoiser, x, grid, label, callback=callback)
        case "consistency":
            return samplers.consistency(denoiser, x, grid, label, noise=noise, callback=callback)
    raise ValueError(f"sampler: {name!r} does not run a model of family {model.family!r}")


FLOW_SAMPLERS = {
    "flow-euler": flow_samplers.flow_euler,
    "flow-midpoint": flow_samplers.flow_midpoint,
    "flow-heun": flow_samplers.flow_heun,
}


def plan(model: PaintingModel, config: SamplerConfig) -> Plan:
    """What `paint` does with this model and configuration.

    Raises `UserError` for a sampler that does not run the model's family, for more steps than its
    schedule has, for guidance where there is nothing to guide by, and for a setting that the
    sampler does not have.
    """
    fitting = SAMPLERS[model.family] if isinstance(model, DenoisingModel) else GENERATOR
    sampler = next(iter(fitting)) if config.sampler == "auto" else config.sampler
    if sampler not in fitting:
        kind = f"model of the {model.family} family" if isinstance(model, DenoisingModel) else "GAN"
        raise UserError(f"Sampler {sampler!r} does not fit a {kind}: use {_listed(fitting)}.")
    standard = {field.name: field.default for field in fields(SamplerConfig)}
    for setting, owners in SETTING_OF.items():
        if sampler not in owners and getattr(config, setting) != standard[setting]:
            raise UserError(
                f"{setting} is a setting of the sampler {_listed(owners)}, and {sampler} has none: "
                "choose that sampler, or leave the setting out."
            )
    if config.clip and sampler in FLOW_SAMPLERS:
        raise UserError(
            f"clip keeps expected images in range, and {sampler} follows a velocity: choose "
            "another sampler, such as heun, or leave clip out."
        )
    if not isinstance(model, DenoisingModel):
        return _one_call(config)
    check_guidance(model, config.guidance)
    steps = config.steps or usual_steps(model, sampler, fitting[sampler])
    if sampler in FLOW_SAMPLERS:
        return Plan(sampler, time_grids.flow_times(steps), 1.0)
    if sampler == "consistency":
        grid = time_grids.consistency_sigmas(steps, model.sigma_max)
    else:
        grid = sigma_grid(model, sampler, steps)
    return Plan(sampler, grid, start_std(model, grid))


def _one_call(config: SamplerConfig) -> Plan:
    """How a GAN paints; raises `UserError` for what it has no use for."""
    if config.steps not in (None, 1):
        raise UserError(f"A GAN paints in one step, not in {config.steps}: leave steps out.")
    if config.guidance != 1 or config.clip:
        name = "clip" if config.clip else "guidance"
        raise UserError(
            f"{name} is a setting of models that take noise away step by step, and a GAN paints in "
            "one: leave it out; truncation is what a GAN has."
        )
    return Plan("generator", torch.tensor([1.0, 0.0], dtype=torch.float64), 1.0)


def usual_steps(model: DenoisingModel, sampler: Sampler, most: int | None) -> int:
    """`most` steps, or as many as a DDPM's schedule has where its sampler has to go down that."""
    if model.sigmas is None or sampler not in ON_SCHEDULE:
        assert most is not None
        return most
    return min(most or len(model.sigmas), len(model.sigmas))


def sigma_grid(model: DenoisingModel, sampler: Sampler, steps: int) -> torch.Tensor:
    """Noise levels `[steps + 1]` that suit model and sampler.

    DDPM's own samplers go along its schedule. What solves the differential equation takes EDM's
    levels, for a DDPM too (Karras et al. 2022, section 3): an evenly spaced schedule is too coarse
    for it where there is little noise.
    """
    if model.sigmas is not None and sampler in ON_SCHEDULE:
        return time_grids.schedule_sigmas(model.sigmas, steps)
    return time_grids.edm_sigmas(steps, model.sigma_min, min(model.sigma_max, PURE_NOISE))


def start_std(model: DenoisingModel, grid: torch.Tensor) -> float:
    """Standard deviation of x at the first level.

    A DDPM begins with unit variance in its own coordinates, which is sqrt(1 + sigma^2) here; the
    others with sigma, as Karras et al. do.
    """
    sigma = grid[0].item()
    return math.hypot(1.0, sigma) if model.family == "ddpm" else sigma


def start_noise(
    model: PaintingModel, noise: ImageGenerators, initial: torch.Tensor | None
) -> torch.Tensor:
    """Noise of unit variance to begin with `[B, *noise_shape]`, on the model's device."""
    # Drawn in any case, so that the noise of later steps is the same with `initial` and without.
    drawn = noise.normal(model.noise_shape)
    if initial is None:
        initial = drawn
    elif initial.shape != drawn.shape:
        raise ValueError(f"initial: shape {tuple(initial.shape)}, expected {tuple(drawn.shape)}")
    return initial.to(model.device, samplers.state_dtype(model.device))


def guided_denoiser(model: DenoisingModel, config: SamplerConfig) -> Denoiser:
    """The model's denoiser with the guidance that is asked for, then clipped if that is too."""
    denoiser = classifier_free(model.denoiser, config.guidance)
    clip = model.family == "ddpm" if config.clip is None else config.clip
    return samplers.clipped(denoiser) if clip else denoiser


def check_guidance(model: PaintingModel, guidance: float) -> None:
    """Raise `UserError` for guidance that the model has nothing to be guided by."""
    if guidance == 1:
        return
    if not model.conditional:
        raise UserError(
            f"guidance={guidance:g} needs a model that was trained with labels, and this one was "
            "not: leave guidance at 1."
        )
    if not model.unconditional:
        raise UserError(
            f"guidance={guidance:g} needs a model that has learned without labels too, and this "
            "one was trained with label_dropout 0: leave guidance at 1."
        )


def check_label(model: PaintingModel, label: torch.Tensor, count: int) -> None:
    """Raise `UserError` for labels `[count]` that the model does not know."""
    if label.shape != (count,) or label.dtype != torch.int64:
        raise ValueError(
            f"label: {label.dtype} {tuple(label.shape)}, expected int64 for {count} seeds"
        )
    classes = len(model.spec.classes)
    for asked in sorted(set(label.tolist())):
        if NO_LABEL <= asked < classes:
            continue
        raise UserError(f"Class {asked} is unknown: the model has {_classes(model.spec)}.")
    if classes and not model.unconditional and (label == NO_LABEL).any():
        raise UserError(
            "This model has not learned to paint without a label: give each image a class of "
            f"0..{classes - 1}."
        )


def labels_in_turn(spec: ImageSpec, count: int) -> torch.Tensor:
    """Labels `[count]` int64 for `paint`: the classes one after the other, none without classes."""
    if not spec.classes:
        return torch.full((count,), NO_LABEL)
    return torch.arange(count) % len(spec.classes)


def _classes(spec: ImageSpec) -> str:
    return f"the classes 0..{len(spec.classes) - 1}" if spec.classes else "no classes"


def _listed(names: Sequence[str] | Mapping[Sampler, int | None]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
