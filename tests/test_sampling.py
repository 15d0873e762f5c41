"""Painting: which sampler runs which model, and what an image's seed decides."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from exact_models import Gaussian, Recorded, labels, painting

from playfield.errors import UserError
from playfield.generative.noise import image_noise
from playfield.generative.sampling import SAMPLERS, SamplerConfig, paint, plan
from playfield.generative.time_grids import edm_sigmas

CLASSES = ("cat", "dog", "owl")


def arithmetic(x: torch.Tensor, level: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """An answer that is the same to the last bit in every batch: no sums, no functions."""
    level = level.view(-1, 1, 1, 1)
    return x * (0.25 / (0.25 + level * level)) + 0.1 * label.view(-1, 1, 1, 1)


FITTING = [(family, sampler) for family, fitting in SAMPLERS.items() for sampler in fitting]


@pytest.mark.parametrize(("family", "sampler"), FITTING)
def test_an_image_is_the_same_to_the_last_bit_in_a_batch_of_any_size(
    family: str, sampler: str
) -> None:
    velocity = arithmetic if family == "flow" else None
    model = painting(family, arithmetic, velocity, classes=CLASSES)
    settings: dict[str, Any] = {"sampler": sampler, "steps": 4, "guidance": 1.7, "clip": False}
    if sampler == "ddim":
        settings["eta"] = 0.5
    if sampler in ("euler", "heun"):
        settings["churn"] = 3.0
    config = SamplerConfig(**settings)
    label = torch.arange(64) % 4 - 1
    together = paint(model, config, range(64), label)
    assert together.dtype == torch.float32 and together.shape == (64, 1, 5, 7)
    for batch in (1, 7):
        for begin in range(0, 64, batch):
            seeds = range(begin, min(begin + batch, 64))
            part = slice(seeds.start, seeds.stop)
            assert torch.equal(paint(model, config, seeds, label[part]), together[part])
    assert len({image.numpy().tobytes() for image in together}) == 64


@pytest.mark.parametrize(("family", "sampler"), FITTING)
def test_every_sampler_paints_the_data_it_knows_with_the_steps_that_suit_it(
    family: str, sampler: str
) -> None:
    data = Gaussian(0.5)
    denoiser = Recorded(consistent if family == "consistency" else data.denoiser)
    velocity = Recorded(data.velocity) if family == "flow" else None
    model = painting(family, denoiser, velocity, shape=(1, 20, 20))
    config = SamplerConfig(sampler=sampler, clip=False)  # type: ignore[arg-type]
    image = paint(model, config, range(25), labels(25))
    assert image.std().item() == pytest.approx(0.5, rel=0.09)
    assert abs(image.mean().item()) < 0.02
    calls = velocity.calls if velocity and sampler.startswith("flow") else denoiser.calls
    assert calls == plan(model, config).network_calls


def consistent(x: torch.Tensor, sigma: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return x * 0.5 / (0.25 + sigma.view(-1, 1, 1, 1) ** 2).sqrt()


@pytest.mark.parametrize(
    ("family", "sampler", "calls"),
    [
        ("edm", "heun", 35),
        ("ddpm", "ddim", 50),
        ("flow", "flow-midpoint", 32),
        ("consistency", "consistency", 2),
    ],
)
def test_auto_takes_what_suits_the_family(family: str, sampler: str, calls: int) -> None:
    planned = plan(painting(family), SamplerConfig())
    assert (planned.sampler, planned.network_calls) == (sampler, calls)


def test_a_ddpm_takes_all_its_steps_unless_told_otherwise() -> None:
    planned = plan(painting("ddpm"), SamplerConfig(sampler="ddpm"))
    assert planned.steps == 1000


def test_noise_at_the_start_has_the_spread_of_the_first_level() -> None:
    assert plan(painting("edm"), SamplerConfig()).start == 80.0
    assert plan(painting("flow"), SamplerConfig()).start == 1.0
    assert plan(painting("flow"), SamplerConfig(sampler="heun")).start == 80.0
    planned = plan(painting("ddpm"), SamplerConfig(steps=10))
    assert planned.start == math.hypot(1, planned.grid[0].item())  # unit variance for a DDPM


@pytest.mark.parametrize(
    ("family", "sampler", "offered"),
    [
        ("edm", "flow-heun", "heun, euler, dpmpp-2m, ddim or ddpm"),
        ("ddpm", "consistency", "ddim, ddpm, dpmpp-2m, euler or heun"),
        ("flow", "consistency", "flow-midpoint"),
        ("consistency", "heun", "use consistency"),
    ],
)
def test_a_sampler_that_does_not_fit_is_refused_with_those_that_do(
    family: str, sampler: str, offered: str
) -> None:
    with pytest.raises(UserError, match=offered):
        plan(painting(family), SamplerConfig(sampler=sampler))  # type: ignore[arg-type]


def test_more_steps_than_a_schedule_has_are_refused() -> None:
    with pytest.raises(UserError, match="1000 or less"):
        paint(painting("ddpm"), SamplerConfig(steps=1001), [0], labels(1))
    plan(painting("edm"), SamplerConfig(steps=1001))  # no schedule, no end


def test_guidance_needs_a_model_with_labels_that_also_learned_without() -> None:
    plain = painting("edm")
    with pytest.raises(UserError, match="trained with labels"):
        paint(plain, SamplerConfig(guidance=1.5), [0], labels(1))
    always = painting("edm", classes=CLASSES, unconditional=False)
    with pytest.raises(UserError, match="label_dropout"):
        paint(always, SamplerConfig(guidance=1.5), [0], labels(1, 0))
    with pytest.raises(UserError, match="not learned to paint without a label"):
        paint(always, SamplerConfig(), [0], labels(1))
    paint(always, SamplerConfig(steps=2), [0], labels(1, 2))


def test_a_label_out_of_range_is_refused() -> None:
    model = painting("edm", classes=CLASSES)
    for label in (3, -2):
        with pytest.raises(UserError, match=rf"Class {label} .* 0\.\.2"):
            paint(model, SamplerConfig(), [0, 1], torch.tensor([1, label]))
    with pytest.raises(UserError, match="no classes"):
        paint(painting("edm"), SamplerConfig(), [0], labels(1, 0))
    with pytest.raises(ValueError, match="label"):
        paint(model, SamplerConfig(), [0, 1], labels(3, 0))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sampler": "dpmpp-2m", "churn": 1.0}, "churn is a setting of the sampler heun or euler"),
        ({"sampler": "heun", "eta": 0.5}, "eta is a setting of the sampler ddim"),
        ({"sampler": "heun", "variance": "large"}, "variance is a setting of the sampler ddpm"),
        (
            {"sampler": "ddim", "churn_noise": 1.01},
            "churn_noise is a setting of the sampler heun or euler",
        ),
        ({"sampler": "ddim", "churn_min": 0.1}, "churn_min is a setting"),
        ({"sampler": "ddim", "churn_max": 50.0}, "churn_max is a setting"),
    ],
)
def test_a_setting_that_the_sampler_does_not_have_is_refused(
    settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        plan(painting("edm"), SamplerConfig(**settings))


def test_a_velocity_has_no_expected_image_to_clip() -> None:
    with pytest.raises(UserError, match=r"clip keeps .* flow-midpoint follows a velocity"):
        plan(painting("flow"), SamplerConfig(clip=True))
    plan(painting("flow"), SamplerConfig(sampler="heun", clip=True))
    plan(painting("flow"), SamplerConfig(clip=False))


def test_ddpms_own_samplers_go_along_its_schedule_and_solvers_along_edms_levels() -> None:
    model = painting("ddpm")
    assert model.sigmas is not None
    schedule, top = set(model.sigmas.tolist()), model.sigmas[-1].item()
    for sampler in ("ddpm", "ddim"):
        grid = plan(model, SamplerConfig(sampler=sampler, steps=7)).grid.tolist()
        assert grid[0] == top and set(grid[:-1]) <= schedule
    for sampler in ("euler", "heun", "dpmpp-2m"):
        grid = plan(model, SamplerConfig(sampler=sampler, steps=7)).grid
        assert torch.equal(grid, edm_sigmas(7, model.sigma_min, 80.0))


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": 0},
        {"guidance": math.nan},
        {"churn": -1.0},
        {"churn": math.inf},
        {"churn_noise": -0.1},
        {"churn_min": 2.0, "churn_max": 1.0},
        {"churn_min": -1.0},
        {"churn_max": math.nan},
        {"eta": 1.1},
        {"eta": math.nan},
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(settings)).partition("_")[0]):
        SamplerConfig(**settings)


def test_a_ddpm_clips_unless_told_otherwise() -> None:
    def too_bright(x: torch.Tensor, sigma: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return torch.full_like(x, 3.0)

    for family, clip, brightest in (("ddpm", None, 1), ("ddpm", False, 3), ("edm", None, 3)):
        config = SamplerConfig(steps=5, clip=clip)
        image = paint(painting(family, too_bright), config, [0], labels(1))
        torch.testing.assert_close(image, torch.full_like(image, brightest))


def test_noise_that_is_given_begins_the_image_and_the_seed_does_the_rest() -> None:
    model = painting("edm")
    config = SamplerConfig(sampler="ddim", eta=1.0, steps=6)
    own = paint(model, config, [4, 5], labels(2))
    given = paint(model, config, [4, 5], labels(2), initial=image_noise([4, 5], (1, 5, 7)))
    assert torch.equal(own, given)
    other = paint(model, config, [4, 5], labels(2), initial=image_noise([6, 7], (1, 5, 7)))
    assert not torch.equal(own, other)
    with pytest.raises(ValueError, match="initial"):
        paint(model, config, [4], labels(1), initial=torch.zeros(1, 1, 5, 5))


def test_painting_neither_tracks_gradients_nor_touches_the_global_generator() -> None:
    weight = torch.ones((), requires_grad=True)

    def learned(x: torch.Tensor, sigma: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return weight * Gaussian().denoiser(x, sigma, label)

    before = torch.get_rng_state()
    image = paint(painting("edm", learned), SamplerConfig(steps=3), [0], labels(1))
    assert not image.requires_grad
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_of_a_family_has_what_the_family_is_sampled_by() -> None:
    with pytest.raises(ValueError, match="velocity"):
        painting("edm", velocity=Gaussian().velocity)
    with pytest.raises(ValueError, match="sigmas"):
        replace(painting("edm"), family="ddpm")


@pytest.mark.gpu
@pytest.mark.parametrize(("family", "sampler"), FITTING)
def test_a_gpu_paints_what_the_cpu_paints(family: str, sampler: str) -> None:
    config = SamplerConfig(sampler=sampler, steps=6)  # type: ignore[arg-type]
    here = paint(painting(family), config, range(4), labels(4))
    there = paint(painting(family, device=torch.device("cuda")), config, range(4), labels(4))
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-4)
