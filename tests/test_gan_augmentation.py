"""What a discriminator is shown of images: each kind by itself, all in a row, and what leaks."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats

from playfield.errors import UserError
from playfield.generative.gan_augmentation import (
    ADA_KINDS,
    DIFFAUGMENT_KINDS,
    DIFFAUGMENT_UNIFORM,
    NORMAL,
    UNIFORM,
    GANAugmentation,
    draw,
)

SWITCHES = [f.name for f in fields(GANAugmentation) if f.name.startswith("augment_")]
EVERYTHING = GANAugmentation(augment="ada", **dict.fromkeys(SWITCHES, True), ada_limit=1.0)


def only(augment: str, *kinds: str) -> GANAugmentation:
    return GANAugmentation(augment=augment, **{kind: kind in kinds for kind in SWITCHES})


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(shape, generator=seeded(7), dtype=dtype) * 2 - 1


def each(kind: str, shape: tuple[int, ...], p: float = 1.0, augment: str = "ada"):
    """Pairs (image, what became of it) under one kind."""
    images = pictures(*shape)
    transform = draw(only(augment, kind), shape, p, seeded())
    return list(zip(images, transform(images), strict=True))


# No change ------------------------------------------------------------------------------------


def test_with_chance_zero_the_images_are_the_very_ones():
    images = pictures(8, 3, 8, 8)
    assert draw(EVERYTHING, images.shape, 0.0, seeded())(images) is images


def test_without_augmentation_nothing_happens_at_any_chance():
    images = pictures(8, 3, 8, 8)
    assert draw(GANAugmentation(), images.shape, 1.0, seeded())(images) is images


def test_images_to_which_nothing_happens_keep_every_bit():
    images = pictures(300, 3, 7, 7)
    transform = draw(EVERYTHING, images.shape, 0.1, seeded())
    changed = transform(images)
    touched = torch.stack(list(transform.happened.values())).any(0)
    assert (~touched).float().mean().item() == pytest.approx(0.9**14, abs=0.1)
    assert torch.equal(changed[~touched], images[~touched])
    assert not torch.equal(changed, images)


# One kind at a time ---------------------------------------------------------------------------


def test_flips_mirror_half_of_the_images_to_which_they_happen():
    mirrored = [
        torch.equal(result, image.flip(2))
        for image, result in each("augment_flips", (600, 1, 3, 4))
        if torch.equal(result, image.flip(2)) or torch.equal(result, image)
    ]
    assert len(mirrored) == 600
    assert stats.binomtest(sum(mirrored), 600).pvalue > 1e-3


def test_turns_are_by_0_to_3_quarters_alike():
    counts = [0] * 4
    for image, result in each("augment_turns", (600, 2, 5, 5)):
        counts[
            [torch.equal(result, torch.rot90(image, q, (1, 2))) for q in range(4)].index(True)
        ] += 1
    assert sum(counts) == 600 and stats.chisquare(counts).pvalue > 1e-3


def test_images_that_are_not_square_are_not_turned():
    assert all(torch.equal(a, b) for a, b in each("augment_turns", (16, 1, 6, 5)))


def moves_found(pairs, reach: int, mode: str, **pad) -> list[tuple[int, int]]:
    """By how many pixels (down, right) each image was moved, its surroundings padded by numpy."""
    found = []
    for image, result in pairs:
        _, height, width = image.shape
        padded = np.pad(image.numpy(), ((0, 0), (reach,) * 2, (reach,) * 2), mode=mode, **pad)
        (move,) = [
            (down, right)
            for down, right in product(range(-reach, reach + 1), repeat=2)
            if np.array_equal(
                padded[:, reach - down :, reach - right :][:, :height, :width], result.numpy()
            )
        ]
        found.append(move)
    return found


def test_adas_moves_are_whole_pixels_of_up_to_an_eighth_with_reflections():
    moves = moves_found(each("augment_translation", (400, 2, 8, 16)), 3, "symmetric")
    down, right = np.array(moves).T
    # round(8 u) and round(16 u) with u in -1/8..1/8: the outermost have half a share.
    downs = [(down == step).sum() for step in (-1, 0, 1)]
    rights = [(right == step).sum() for step in (-2, -1, 0, 1, 2)]
    assert sum(downs) == sum(rights) == 400
    assert stats.chisquare(downs, [100, 200, 100]).pvalue > 1e-3
    assert stats.chisquare(rights, [50, 100, 100, 100, 50]).pvalue > 1e-3


def test_diffaugments_moves_are_uniform_up_to_an_eighth_and_uncover_grey():
    pairs = each("augment_translation", (400, 2, 8, 16), augment="diffaugment")
    moves = moves_found(pairs, 3, "constant", constant_values=0)
    down, right = np.array(moves).T
    downs = [(down == step).sum() for step in (-1, 0, 1)]
    rights = [(right == step).sum() for step in (-2, -1, 0, 1, 2)]
    assert sum(downs) == sum(rights) == 400
    assert stats.chisquare(downs).pvalue > 1e-3 and stats.chisquare(rights).pvalue > 1e-3


@pytest.mark.parametrize("augment", ["ada", "diffaugment"])
def test_cutout_hides_a_rectangle_of_at_most_half_of_the_sides(augment):
    sizes = set()
    for image, result in each("augment_cutout", (100, 2, 8, 12), augment=augment):
        hidden = (result == 0).all(0)
        rows, columns = hidden.any(1).nonzero().flatten(), hidden.any(0).nonzero().flatten()
        assert rows[-1] - rows[0] + 1 == len(rows) <= 4
        assert columns[-1] - columns[0] + 1 == len(columns) <= 6
        assert hidden.sum() == len(rows) * len(columns)
        assert torch.equal(torch.where(hidden, 0.0, image), result)
        sizes.add((len(rows), len(columns)))
    assert (4, 6) in sizes and len(sizes) > 3  # fewer where the middle is near the border


def test_diffaugments_colours_are_an_offset_and_factors_about_means():
    images = pictures(500, 3, 4, 4)
    changed = draw(only("diffaugment", "augment_colour"), images.shape, 0.0, seeded())(images)
    # Offsets move an image's mean, and nothing else does; factors are left when means are gone.
    offset = changed.mean((1, 2, 3)) - images.mean((1, 2, 3))
    assert stats.kstest(offset.numpy(), stats.uniform(-0.5, 1).cdf).pvalue > 1e-3
    grey, was = changed.mean(1, keepdim=True), images.mean(1, keepdim=True)
    light, had = grey - grey.mean((2, 3), keepdim=True), was - was.mean((2, 3), keepdim=True)
    contrast = (light / had)[:, 0, 0, 0]
    torch.testing.assert_close(light, contrast[:, None, None, None] * had, atol=1e-4, rtol=0)
    assert stats.kstest(contrast.numpy(), stats.uniform(0.5, 1).cdf).pvalue > 1e-3
    saturation = ((changed - grey) / (images - was))[:, 0, 0, 0] / contrast
    assert stats.kstest(saturation.numpy(), stats.uniform(0, 2).cdf).pvalue > 1e-3


def test_adas_amounts_have_the_papers_distributions():
    shape, log2 = (2000, 3, 8, 8), math.log(2)

    def numbers(kind: str) -> np.ndarray:
        (change,) = draw(only("ada", kind), shape, 1.0, seeded()).changes
        return change.numbers.numpy().astype(float)

    scales = np.log(numbers("augment_scaling")[:, (0, 1), (0, 1)])
    assert stats.kstest(scales.sum(1) / 2, stats.norm(0, 0.2 * log2).cdf).pvalue > 1e-3
    assert stats.kstest(scales @ [0.5, -0.5], stats.norm(0, 0.2 * log2).cdf).pvalue > 1e-3
    rotations = numbers("augment_rotation")
    angles = np.arctan2(rotations[:, 1, 0], rotations[:, 0, 0])
    assert stats.kstest(angles, stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 1e-3
    moves = numbers("augment_fractional_translation")[:, :2, 2]
    assert stats.kstest(moves.flatten(), stats.norm(0, 8 / 8).cdf).pvalue > 1e-3
    colours = numbers("augment_colour")
    grey = colours[:, :3, :3].sum((1, 2)) / 3  # what becomes of light: contrast
    assert stats.kstest(np.log(grey), stats.norm(0, 0.5 * log2).cdf).pvalue > 1e-3
    assert stats.kstest(colours[:, 0, 3] / grey, stats.norm(0, 0.2).cdf).pvalue > 1e-3
    saturation = (colours[:, 0, 0] - colours[:, 0, 1]) / grey
    assert stats.kstest(np.log(saturation), stats.norm(0, log2).cdf).pvalue > 1e-3
    noise = numbers("augment_noise").reshape(2000, -1).std(1)
    assert stats.kstest(noise, stats.halfnorm(0, 0.1).cdf).pvalue > 1e-3


@pytest.mark.parametrize("p", [0.1, 0.35, 0.8])
def test_each_kind_happens_to_its_share_of_the_images(p):
    shape = (3000, 3, 4, 4)
    happened = dict(draw(EVERYTHING, shape, p, seeded(3)).happened)
    assert set(happened) == set(ADA_KINDS)
    rotated = happened.pop("rotation_before") | happened.pop("rotation_after")
    for images in (rotated, *happened.values()):
        assert stats.binomtest(int(images.sum()), 3000, p).pvalue > 1e-4
    both = happened["scaling"] & happened["hue"]  # and independently of each other
    assert stats.binomtest(int(both.sum()), 3000, p * p).pvalue > 1e-4


def test_diffaugment_happens_to_every_image_whatever_the_chance():
    transform = draw(only("diffaugment", *SWITCHES[:3]), (5, 3, 8, 8), 0.0, seeded())
    assert set(transform.happened) == set(DIFFAUGMENT_KINDS)
    assert all(images.all() for images in transform.happened.values())


# All in a row ---------------------------------------------------------------------------------


def reflected(image: np.ndarray, y: int, x: int) -> np.ndarray:
    _, height, width = image.shape
    y, x = y % (2 * height), x % (2 * width)
    return image[:, min(y, 2 * height - 1 - y), min(x, 2 * width - 1 - x)]


def seen_through(image: np.ndarray, forward: np.ndarray) -> np.ndarray:
    """`image` after the map `forward` of its plane: a 3-tap low pass, then four pixels' mean."""
    _, height, width = image.shape
    back = np.linalg.inv(forward)
    for axis, places in ((2, back[0, :2]), (1, back[1, :2])):
        share = min(max((places @ places - 1) / 24, 0), 1 / 4)
        padded = np.pad(image, [(int(a == axis),) * 2 for a in range(3)], mode="edge")
        size = image.shape[axis]
        left, right = (padded.take(range(b, b + size), axis) for b in (0, 2))
        image = (1 - 2 * share) * image + share * (left + right)
    result = np.empty_like(image)
    for y, x in product(range(height), range(width)):
        px, py, _ = back @ [x - (width - 1) / 2, y - (height - 1) / 2, 1]
        px, py = px + (width - 1) / 2, py + (height - 1) / 2
        result[:, y, x] = sum(
            (1 - abs(py - j)) * (1 - abs(px - i)) * reflected(image, j, i)
            for j in (math.floor(py), math.floor(py) + 1)
            for i in (math.floor(px), math.floor(px) + 1)
        )
    return result


def in_the_plane(xx=1.0, xy=0.0, yx=0.0, yy=1.0, x=0.0, y=0.0) -> np.ndarray:
    return np.array([[xx, xy, x], [yx, yy, y], [0, 0, 1]])


def turned_clockwise(angle: float) -> np.ndarray:
    """y points down."""
    c, s = math.cos(angle), math.sin(angle)
    return in_the_plane(c, -s, s, c)


def changed_by_hand(image: np.ndarray, done, u, n, noise: np.ndarray) -> np.ndarray:
    """Karras et al. 2020, appendix B, one image `[C, H, W]` and one kind after the other."""
    _, height, width = image.shape
    if done["flip"] and u["flip"] >= 0.5:
        image = image[:, :, ::-1]
    if done["turn"] and height == width:
        image = np.rot90(image, int(u["turn"] * 4), (1, 2))
    if done["translation"]:
        down, right = (round((2 * u[a] - 1) / 8 * s) for a, s in (("y", height), ("x", width)))
        image = np.pad(image, ((0, 0), (9, 9), (9, 9)), mode="symmetric")
        image = image[:, 9 - down : 9 - down + height, 9 - right : 9 - right + width]
    forward = np.eye(3)
    if done["scaling"]:
        s = 2 ** (0.2 * n["scaling"])
        forward = in_the_plane(xx=s, yy=s) @ forward
    if done["rotation_before"]:
        forward = turned_clockwise(-math.pi * (2 * u["before"] - 1)) @ forward
    if done["stretch"]:
        s = 2 ** (0.2 * n["stretch"])
        forward = in_the_plane(xx=s, yy=1 / s) @ forward
    if done["rotation_after"]:
        forward = turned_clockwise(-math.pi * (2 * u["after"] - 1)) @ forward
    if done["fractional_translation"]:
        forward = in_the_plane(x=n["x"] * width / 8, y=n["y"] * height / 8) @ forward
    image = seen_through(np.ascontiguousarray(image), forward)
    if done["brightness"]:
        image = image + 0.2 * n["brightness"]
    if done["contrast"]:
        image = image * 2 ** (0.5 * n["contrast"])
    luma = image.mean(0)
    if done["luma_flip"] and u["luma_flip"] >= 0.5:
        image, luma = image - 2 * luma, -luma
    if done["hue"]:
        # In the plane across the greys, with red at angle 0 and green at 120 degrees.
        red, green, blue = image
        across = np.array([red - (green + blue) / 2, (green - blue) * math.sqrt(3) / 2]) * 2 / 3
        across = turned_clockwise(math.pi * (2 * u["hue"] - 1))[:2, :2] @ across.reshape(2, -1)
        a, b = across.reshape(2, height, width)
        b = b * math.sqrt(3)
        image = luma + np.stack([a, (b - a) / 2, (-b - a) / 2])
    if done["saturation"]:
        image = luma + (image - luma) * 2 ** n["saturation"]
    if done["noise"]:
        image = image + 0.1 * abs(n["noise"]) * noise
    if done["cutout"]:
        image = image.copy()
        for y, x in product(range(height), range(width)):
            off_y, off_x = (y + 0.5) / height - u["cutout_y"], (x + 0.5) / width - u["cutout_x"]
            if abs(off_y) < 0.25 and abs(off_x) < 0.25:
                image[:, y, x] = 0
    return image


@pytest.mark.parametrize("shape", [(16, 3, 6, 6), (12, 1, 5, 9), (6, 2, 8, 4), (4, 3, 1, 3)])
@pytest.mark.parametrize("p", [0.4, 1.0])
def test_all_kinds_in_a_row_are_those_of_the_paper_image_by_image(shape, p):
    images = pictures(*shape)
    batch, channels, height, width = shape
    changed = draw(EVERYTHING, shape, p, seeded(5))(images)
    # The numbers as they are documented: chances, uniform ones, normal ones, the noise's seed.
    generator = seeded(5)
    chance = torch.rand(len(ADA_KINDS), batch, generator=generator)
    uniform = torch.rand(len(UNIFORM), batch, generator=generator)
    normal = torch.randn(len(NORMAL), batch, generator=generator)
    noise = torch.randn(shape, generator=seeded(int(torch.randint(2**31, (), generator=generator))))
    for i, (image, result) in enumerate(zip(images, changed, strict=True)):
        done = dict(zip(ADA_KINDS, (chance[:, i] < p).tolist(), strict=True))
        for kind in ("rotation_before", "rotation_after"):
            done[kind] = bool(chance[ADA_KINDS.index(kind), i] < 1 - math.sqrt(1 - p))
        done["turn"] &= height == width
        done["luma_flip"] &= channels != 2
        done["hue"] &= channels == 3
        done["saturation"] &= channels == 3
        u = dict(zip(UNIFORM, uniform[:, i].tolist(), strict=True))
        n = dict(zip(NORMAL, normal[:, i].tolist(), strict=True))
        expected = changed_by_hand(image.double().numpy(), done, u, n, noise[i].double().numpy())
        np.testing.assert_allclose(result.numpy(), expected, atol=2e-4)


@pytest.mark.parametrize("shape", [(12, 3, 9, 6), (6, 1, 8, 8), (4, 2, 1, 5)])
def test_diffaugments_kinds_in_a_row_are_those_of_the_paper_image_by_image(shape):
    images = pictures(*shape)
    batch, channels, height, width = shape
    changed = draw(only("diffaugment", *SWITCHES[:3]), shape, 0.0, seeded(5))(images)
    numbers = torch.rand(len(DIFFAUGMENT_UNIFORM), batch, generator=seeded(5))
    for i, (image, result) in enumerate(zip(images.double().numpy(), changed, strict=True)):
        u = dict(zip(DIFFAUGMENT_UNIFORM, numbers[:, i].tolist(), strict=True))
        image = image + u["brightness"] - 0.5
        if channels == 3:
            image = image.mean(0) + 2 * u["saturation"] * (image - image.mean(0))
        image = image.mean() + (u["contrast"] + 0.5) * (image - image.mean())
        expected = np.zeros_like(image)
        most_y, most_x = int(height / 8 + 0.5), int(width / 8 + 0.5)
        down = int(u["y"] * (2 * most_y + 1)) - most_y
        right = int(u["x"] * (2 * most_x + 1)) - most_x
        cut_y, cut_x = int(height / 2 + 0.5), int(width / 2 + 0.5)
        top = int(u["cutout_y"] * (height + 1 - cut_y % 2)) - cut_y // 2
        left = int(u["cutout_x"] * (width + 1 - cut_x % 2)) - cut_x // 2
        for y, x in product(range(height), range(width)):
            hidden = top <= y < top + cut_y and left <= x < left + cut_x
            if not hidden and 0 <= y - down < height and 0 <= x - right < width:
                expected[:, y, x] = image[:, y - down, x - right]
        np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)


# Draws ----------------------------------------------------------------------------------------


def test_one_transform_does_the_same_to_reals_and_to_fakes():
    images = pictures(16, 3, 8, 8)
    other = images.flip(0)
    transform = draw(EVERYTHING, images.shape, 0.6, seeded())
    changed, first = transform(other), transform(images)
    assert torch.equal(transform(images), first)
    # All but the noise and the brightness is linear, and those drop out of differences.
    torch.testing.assert_close(
        transform(images + other) - changed, first - transform(0 * images), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("augment", ["ada", "diffaugment"])
def test_the_same_seed_gives_the_same_images_and_draws_from_nothing_else(augment):
    config = replace(only("ada", *SWITCHES[:3]), augment=augment)
    images, before = pictures(16, 3, 8, 8), torch.get_rng_state()
    first, second, other = (draw(config, images.shape, 0.5, seeded(s))(images) for s in (3, 3, 4))
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_and_the_chance_leave_the_draws_of_all_else_as_they_are(switch):
    shape = (40, 3, 8, 8)
    ours, theirs, never = seeded(), seeded(), seeded()
    every = draw(EVERYTHING, shape, 0.5, ours)
    alone = draw(only("ada", switch), shape, 0.5, theirs)
    draw(only("ada", switch), shape, 0.0, never)
    switched_on = [kind for kind in ADA_KINDS if alone.happened[kind].any()]
    assert switched_on
    for kind in switched_on:
        assert torch.equal(alone.happened[kind], every.happened[kind])
    (change,) = alone.changes
    at = next(c for c in every.changes if c.function is change.function)
    if change.function.__name__ not in ("warp", "recoloured", "copy_pixels"):  # those are products
        assert torch.equal(at.numbers, change.numbers)
    assert torch.equal(ours.get_state(), theirs.get_state())
    assert torch.equal(ours.get_state(), never.get_state())


def test_diffaugments_switches_leave_each_others_draws_as_they_are():
    images = pictures(20, 1, 8, 8)
    every, state = seeded(), seeded()
    both = draw(
        only("diffaugment", "augment_translation", "augment_cutout"), images.shape, 0, every
    )
    moved = draw(only("diffaugment", "augment_translation"), images.shape, 0, state)(images)
    cut = draw(only("diffaugment", "augment_cutout"), images.shape, 0, seeded())
    assert torch.equal(both(images), cut(moved))
    assert torch.equal(every.get_state(), state.get_state())


# Derivatives ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config", [EVERYTHING, only("diffaugment", *SWITCHES[:3])], ids=["ada", "diffaugment"]
)
def test_the_gradient_is_the_adjoint_and_has_a_gradient_itself(config):
    images = pictures(3, 3, 2, 2, dtype=torch.float64).requires_grad_()
    transform = draw(config, images.shape, 0.7, seeded(1))
    assert len(transform.changes) >= 5
    assert torch.autograd.gradcheck(transform, images)
    assert torch.autograd.gradgradcheck(lambda x: transform(x).tanh(), images)


def test_a_penalty_on_the_slope_of_a_linear_discriminator_has_its_closed_form_and_gradient():
    """D(x) = w.Tx has the slope T'w, so R1 is |T'w|^2, and its gradient by w is 2 T T'w."""
    images = pictures(1, 2, 3, 4, dtype=torch.float64).requires_grad_()
    weight = pictures(24, dtype=torch.float64).requires_grad_()
    transform = draw(EVERYTHING, images.shape, 1.0, seeded(2))
    logit = transform(images).flatten() @ weight
    (slope,) = torch.autograd.grad(logit, images, create_graph=True)
    penalty = slope.square().sum()
    (gradient,) = torch.autograd.grad(penalty, weight)
    units = torch.eye(24, dtype=torch.float64).view(24, 1, 2, 3, 4)
    nothing = transform(torch.zeros_like(images))
    matrix = torch.stack([(transform(unit) - nothing).flatten() for unit in units], 1).detach()
    torch.testing.assert_close(penalty, (matrix.T @ weight).square().sum())
    torch.testing.assert_close(gradient, 2 * matrix @ matrix.T @ weight.detach())


def test_gradients_reach_every_image_and_pass_by_what_is_hidden():
    images = pictures(32, 1, 8, 8).requires_grad_()
    changed = draw(only("ada", "augment_cutout"), images.shape, 0.6, seeded())(images)
    (gradient,) = torch.autograd.grad(changed.sum(), images)
    assert torch.equal(gradient, (changed != 0).float())


# Images of all sorts --------------------------------------------------------------------------


@pytest.mark.parametrize("config", [EVERYTHING, only("diffaugment", *SWITCHES[:3])])
@pytest.mark.parametrize(
    "shape", [(5, 2, 1, 1), (5, 1, 1, 1), (5, 3, 1, 6), (5, 4, 7, 1), (1, 6, 2, 3), (3, 1, 32, 20)]
)
def test_images_of_any_shape_and_channels_pass(config, shape):
    images = pictures(*shape)
    changed = draw(config, shape, 1.0, seeded())(images)
    assert changed.shape == shape and changed.isfinite().all() and not torch.equal(changed, images)


@pytest.mark.parametrize("augment", ["ada", "diffaugment"])
def test_points_are_not_moved_warped_or_hidden(augment):
    points = pictures(64, 2, 1, 1)
    kinds = set(SWITCHES) - {"augment_colour", "augment_noise"}
    kinds &= set(SWITCHES if augment == "ada" else SWITCHES[:3])
    assert draw(only(augment, *kinds), points.shape, 1.0, seeded())(points) is points


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_images_keep_their_dtype(dtype):
    images = pictures(16, 3, 8, 8)
    transform = draw(EVERYTHING, images.shape, 0.5, seeded())
    changed = transform(images.to(dtype))
    assert changed.dtype == dtype
    torch.testing.assert_close(changed.float(), transform(images), atol=0.1, rtol=0.1)


def test_images_of_another_shape_than_was_drawn_for_are_refused():
    transform = draw(EVERYTHING, (4, 1, 8, 8), 0.5, seeded())
    with pytest.raises(ValueError, match=r"images: \[5, 1, 8, 8\], expected \[4, 1, 8, 8\]"):
        transform(pictures(5, 1, 8, 8))


@pytest.mark.parametrize(
    ("shape", "p", "named"),
    [
        ((4, 8, 8), 0.5, "shape"),
        ((4, 1, 8, 0), 0.5, "shape"),
        ((4, 1, 8, 8), 1.1, "p="),
        ((4, 1, 8, 8), -0.1, "p="),
        ((4, 1, 8, 8), math.nan, "p="),
    ],
)
def test_a_chance_or_shape_that_cannot_be_is_refused(shape, p, named):
    with pytest.raises(ValueError, match=named):
        draw(EVERYTHING, shape, p, seeded())


@pytest.mark.gpu
def test_an_accelerator_shows_the_same_without_drawing_itself():
    images = pictures(32, 3, 8, 8)
    transform = draw(EVERYTHING, images.shape, 0.5, seeded())
    there = transform(images.cuda())
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), transform(images), atol=1e-4, rtol=0)
    drawn_there = draw(EVERYTHING, images.shape, 0.5, torch.Generator("cuda").manual_seed(0))
    assert drawn_there(images.cuda()).isfinite().all()


# Settings -------------------------------------------------------------------------------------


def test_by_default_nothing_turns_one_digit_into_another():
    on = {switch for switch in SWITCHES if getattr(GANAugmentation(), switch)}
    assert on == {"augment_colour", "augment_translation", "augment_scaling"}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"augment": "all"}, "augment"),
        ({"ada_target": 1.2}, "ada_target"),
        ({"ada_target": math.nan}, "ada_target"),
        ({"ada_speed": 0}, "ada_speed"),
        ({"ada_speed": math.inf}, "ada_speed"),
        ({"ada_interval": 0}, "ada_interval"),
        ({"ada_limit": 1.01}, "ada_limit"),
        ({"augment": "diffaugment", "augment_flips": True}, "augment_flips is a kind of ada"),
        ({"augment": "diffaugment", "augment_noise": True}, "augment_noise is a kind of ada"),
        (
            {
                "augment": "diffaugment",
                "augment_colour": False,
                "augment_translation": False,
                "augment_cutout": False,
            },
            "All that diffaugment does is switched off",
        ),
        (
            {"augment": "ada", **dict.fromkeys(SWITCHES, False)},
            "All that ada does is switched off",
        ),
    ],
)
def test_settings_that_mean_nothing_are_named(settings, named):
    with pytest.raises(UserError, match=named):
        GANAugmentation(**settings)


# What leaks -----------------------------------------------------------------------------------

#: All images of two pixels that are black, grey or white.
WORLD = list(product([-1, 0, 1], repeat=2))


def operator(outcomes) -> np.ndarray:
    """`[9, 9]`: how a kind that happens takes each image (columns) to others, by chances."""
    matrix = np.zeros((9, 9))
    for column, image in enumerate(WORLD):
        for chance, result in outcomes(*image):
            matrix[WORLD.index(result), column] += chance
    return matrix


#: In ADA's order. Half of what cutout's window covers is one pixel of two; it has half of the
#: height, and the row's middle lies in it with chance 1/2.
TWO_PIXEL_KINDS = {
    "augment_flips": operator(lambda a, b: [(0.5, (a, b)), (0.5, (b, a))]),
    "augment_luma_flip": operator(lambda a, b: [(0.5, (a, b)), (0.5, (-a, -b))]),
    "augment_cutout": operator(lambda a, b: [(0.5, (a, b)), (0.25, (0, b)), (0.25, (a, 0))]),
}


def chain(kinds, p: float) -> np.ndarray:
    result = np.eye(9)
    for kind, matrix in TWO_PIXEL_KINDS.items():
        if kind in kinds:
            result = ((1 - p) * np.eye(9) + p * matrix) @ result
    return result


def histogram(images: torch.Tensor) -> np.ndarray:
    codes = (images.flatten(1).round() + 1) @ torch.tensor([3.0, 1.0])
    return np.bincount(codes.int().numpy(), minlength=9) / len(images)


def sample(shares: np.ndarray, count: int) -> torch.Tensor:
    chosen = np.random.default_rng(4).choice(9, count, p=shares)
    return torch.tensor(WORLD, dtype=torch.float32)[torch.from_numpy(chosen)].view(count, 1, 1, 2)


#: Anything but symmetric: mirrored or negated it would be another.
LOPSIDED = np.array([0.05, 0.02, 0.6, 0.03, 0.1, 0.04, 0.02, 0.08, 0.06])


@pytest.mark.parametrize(
    ("kinds", "p"),
    [(("augment_flips",), 0.8), (("augment_luma_flip",), 0.8), (("augment_cutout",), 0.8)]
    + [(tuple(TWO_PIXEL_KINDS), p) for p in (0.2, 0.5, 0.6)],
)
def test_what_was_painted_can_be_told_from_what_the_discriminator_sees(kinds, p):
    images = sample(LOPSIDED, 100_000)
    seen = histogram(draw(only("ada", *kinds), images.shape, p, seeded())(images))
    matrix = chain(kinds, p)
    np.testing.assert_allclose(seen, matrix @ LOPSIDED, atol=6e-3)
    np.testing.assert_allclose(np.linalg.solve(matrix, seen), LOPSIDED, atol=0.06)


def test_no_kind_of_two_pixels_has_a_negative_eigenvalue():
    for matrix in TWO_PIXEL_KINDS.values():
        assert np.linalg.eigvals(matrix).real.min() > -1e-12


def test_flips_at_chance_one_leak_because_mirrored_worlds_look_alike():
    images = sample(LOPSIDED, 20_000)
    config = only("ada", "augment_flips")
    seen, mirrored_seen = (
        20_000 * histogram(draw(config, images.shape, 1.0, seeded(s))(shown))
        for s, shown in ((0, images), (1, images.flip(3)))
    )
    assert stats.chi2_contingency([seen, mirrored_seen]).pvalue > 1e-3
    seen, mirrored_seen = (
        20_000 * histogram(draw(config, images.shape, 0.8, seeded(s))(shown))
        for s, shown in ((0, images), (1, images.flip(3)))
    )
    assert stats.chi2_contingency([seen, mirrored_seen]).pvalue < 1e-12


@pytest.mark.parametrize("width", [8, 32, 128])
def test_moves_can_be_undone_up_to_the_default_limit(width):
    """On a line without ends, where moves have the waves as eigenvectors."""
    (change,) = draw(
        only("ada", "augment_translation"), (20_000, 1, 1, width), 1.0, seeded()
    ).changes
    steps = change.numbers[:, 0, 2].int().numpy()
    shares = np.bincount(steps % 1024, minlength=1024) / len(steps)
    p = GANAugmentation().ada_limit
    assert np.abs((1 - p) + p * np.fft.fft(shares)).min() > 0.02
