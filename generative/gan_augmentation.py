"""Augmentation between a GAN's images and its discriminator, for reals and fakes alike.

A discriminator that learns few images by heart stops teaching. If it only ever sees changed images,
real and painted ones changed in the same way, it has more to learn; and since gradients flow
through the changes, the generator learns to paint images which, changed, look like changed reals.
It does not learn to paint changed images, as long as no two different distributions of images look
the same after the change: as long as the operator from a distribution of images to that of changed
images can be inverted. Then nothing "leaks" (Karras et al. 2020, section 2.2 and appendix C).

A kind of change A that happens with chance p is the operator (1 - p) I + p A. It has an inverse
unless an eigenvalue of A is (p - 1) / p. None is while p < 1/2, whatever A is. Above that it
depends on A, and there is none up to p = 1 where no eigenvalue of A is negative:

- a uniform choice among the elements of a group, the one that does nothing included (mirrored or
  not, quarter turns by 0 to 3, any rotation, any hue), has eigenvalues 0 and 1. That is why a flip
  that happens is still none half of the time. Flips for sure would leak from p = 1/2 on;
- normal or log-normal amounts (brightness, contrast, scale, noise) have the positive ones of a
  Gaussian;
- hiding a part of an image twice hides it once, and parts commute: 0 to 1.

Uniform steps of many pixels have negative ones, sin(x) / x at worst, which is -0.217: an inverse
exists up to p = 0.82. And near p = 1 an inverse that exists is too ill-conditioned to be learned:
the paper saw leaks above 0.8, which is what `ada_limit` is for. A chain of kinds, each invertible,
is invertible.

DiffAugment (Zhao et al. 2020) changes every image, p = 1, so none of this covers it: that moves and
shades do not leak is what its paper claims and shows by better FIDs, not what is proven, and images
of which cutout always hides some part are never judged whole.

Both penalties on gradients differentiate through the changes again. All that is here has
derivatives of every order; on noise and hidden parts they are those of the identity and of zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from playfield.errors import UserError
from playfield.generative.affine_warp import copy_pixels, rotation, scaling, translation, warp
from playfield.generative.image_changes import Changes, Transform, shown
from playfield.generative.recolouring import (
    brightened,
    brightening,
    colour_axes,
    contrasted,
    contrasting,
    hue_rotation,
    luma_flip,
    recoloured,
    saturated,
    saturating,
)

#: Images move by at most this part of their height and width, or by one standard deviation of it.
MOVE = 1 / 8
#: Side of what cutout hides, as a part of the image's.
CUTOUT = 1 / 2
#: One standard deviation of ADA's scaling and stretch, of contrast and of saturation, as logarithms
#: of a factor, and of brightness and the noise's own standard deviation, in signals of [-1, 1].
SCALE, CONTRAST, SATURATION = 0.2 * math.log(2), 0.5 * math.log(2), math.log(2)
BRIGHTNESS, NOISE = 0.2, 0.1

#: What ADA does to an image, in this order; `Transform.happened` has these names. Copies take whole
#: pixels from elsewhere, warps interpolate, and each of the three groups is one map.
COPIES = ("flip", "turn", "translation")
WARPS = ("scaling", "rotation_before", "stretch", "rotation_after", "fractional_translation")
COLOURS = ("brightness", "contrast", "luma_flip", "hue", "saturation")
ADA_KINDS = (*COPIES, *WARPS, *COLOURS, "noise", "cutout")
#: What DiffAugment does, in this order.
DIFFAUGMENT_KINDS = ("brightness", "saturation", "contrast", "translation", "cutout")
#: Numbers of [0, 1) that each image gets in either, and normal ones in ADA.
UNIFORM = ("flip", "turn", "luma_flip", "hue", "before", "after", "x", "y", "cutout_x", "cutout_y")
NORMAL = ("x", "y", "scaling", "stretch", "brightness", "contrast", "saturation", "noise")
DIFFAUGMENT_UNIFORM = ("brightness", "saturation", "contrast", "x", "y", "cutout_x", "cutout_y")


@dataclass(frozen=True)
class GANAugmentation:
    """How images are changed before the discriminator sees them, real and painted ones alike.

    What is on by default keeps an image what it is. A digit in a mirror is no digit, a 6 upside
    down is a 9, and in a game left, right and colours are the rules. Changes that do not leak may
    still do that, but they cost a small discriminator what it could learn of the images themselves.
    """

    augment: Literal["none", "diffaugment", "ada"] = "none"
    """none; diffaugment: every image, always, for data sets of some thousand images; ada: each kind
    with a chance that rises while the discriminator learns its images by heart."""
    augment_colour: bool = True
    """Brightness and contrast, and saturation where there are colours: none changes what is shown.
    For both."""
    augment_translation: bool = True
    """Move images by whole pixels, up to an eighth of their size, which leaves them sharp. ada
    shows their reflection at the border, diffaugment mid-grey."""
    augment_cutout: bool = False
    """Hide a square of half their size at a random place, as mid-grey. For both; the paper of
    diffaugment has it on. Off here: half of a digit of 8 pixels is often that of another one."""
    augment_scaling: bool = True
    """ada: scale and stretch images a little (15 % is one standard deviation), which interpolates;
    people write digits and cameras see things like that."""
    augment_fractional_translation: bool = False
    """ada: move images by parts of pixels too, a normal number of an eighth of their size. Off: it
    goes twice as far as whole pixels, and on few pixels it blurs."""
    augment_flips: bool = False
    """ada: mirror images left to right. Off: a mirrored digit or game is another one; on for
    photographs."""
    augment_turns: bool = False
    """ada: turn images by quarters, only where they are square. Off: turned digits are others."""
    augment_rotation: bool = False
    """ada: rotate images by any angle. Off: a 6 is a 9 from the other side."""
    augment_hue: bool = False
    """ada: turn all hues by any angle, where there are colours. Off: games tell by colour."""
    augment_luma_flip: bool = False
    """ada: light for dark with the hue kept. Off: what is drawn on black stays so."""
    augment_noise: bool = False
    """ada: add normal noise. Off: the paper found no use for it once other kinds are on."""
    ada_target: float = 0.6
    """ada: the chance rises while the mean sign of the discriminator's output on real images is
    above this, and falls below it; -1: it rises to ada_limit and stays."""
    ada_speed: float = 500_000
    """ada: images in which the chance goes from 0 to 1 at most; 100,000 for short runs."""
    ada_interval: int = 4
    """ada: updates of the discriminator from one look at the mean sign to the next."""
    ada_limit: float = 0.8
    """ada: largest chance, in 0..1. Above 0.8 changes begin to leak into what is painted."""

    def __post_init__(self) -> None:
        if self.augment not in ("none", "diffaugment", "ada"):
            raise UserError(f"augment has to be none, diffaugment or ada, not {self.augment}.")
        if not -1 <= self.ada_target <= 1:
            raise UserError(
                f"ada_target is a mean of signs and has to lie in -1..1, not {self.ada_target}."
            )
        if not 0 < self.ada_speed < math.inf:
            raise UserError(
                f"ada_speed has to be a number of images above 0, not {self.ada_speed}."
            )
        if self.ada_interval < 1:
            raise UserError(f"ada_interval has to be 1 update or more, not {self.ada_interval}.")
        if not 0 <= self.ada_limit <= 1:
            raise UserError(f"ada_limit is a chance and has to lie in 0..1, not {self.ada_limit}.")
        if self.augment == "diffaugment":
            for kind in sorted(self.kinds("ada") - self.kinds("diffaugment") - {"augment_scaling"}):
                raise UserError(f"{kind} is a kind of ada: leave it out, or choose augment=ada.")
        if self.augment != "none" and not self.kinds(self.augment):
            raise UserError(
                f"All that {self.augment} does is switched off: leave one kind on, or choose "
                "augment=none."
            )

    def kinds(self, augment: Literal["diffaugment", "ada"]) -> set[str]:
        """The fields of the kinds that `augment` has and that are switched on."""
        both = {"augment_colour", "augment_translation", "augment_cutout"}
        every = {name for name in vars(self) if name.startswith("augment_")}
        return {name for name in (both if augment == "diffaugment" else every) if vars(self)[name]}


def draw(
    config: GANAugmentation, shape: Sequence[int], p: float, generator: torch.Generator
) -> Transform:
    """What to do to images of `shape` `[B, C, H, W]`.

    `p` is ADA's chance of each kind; DiffAugment does not look at it and happens always. The same
    numbers are drawn whatever `p` is and whichever kinds are switched on, so that switching one on
    leaves the others as they are. ("none" draws nothing.) They are looked at on the CPU, so a
    generator of an accelerator makes it wait; one of the CPU does not.

    Kinds for which there is no room are not done. One channel is grey, which has a luma flip (it is
    negated) and neither hue nor saturation. Three are red, green and blue. Of any other number,
    which are no colours, brightness and contrast are done to all channels alike, and nothing else.
    Images that are not square are not turned. Of a single pixel, such as a point in the plane (1x1
    with two channels), nothing is moved, warped or hidden.

    Raises ValueError, naming the argument, for a chance or a shape that cannot be.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p={p} is a chance and has to lie in 0..1")
    if len(shape) != 4 or min(shape) < 1:
        raise ValueError(f"shape={list(shape)} is not that of images [B, C, H, W]")
    batch, channels, height, width = shape
    size = (batch, channels, height, width)
    if config.augment == "none":
        return Transform(size)
    if config.augment == "diffaugment":
        return _diffaugment(config, size, generator)
    return _ada(config, size, p, generator)


def _diffaugment(
    config: GANAugmentation, shape: tuple[int, int, int, int], generator: torch.Generator
) -> Transform:
    batch, channels, height, width = shape
    u = _numbers(torch.rand, DIFFAUGMENT_UNIFORM, batch, generator)
    has_room = height * width > 1
    done = {
        "brightness": config.augment_colour,
        "saturation": config.augment_colour and channels == 3,
        "contrast": config.augment_colour,
        "translation": config.augment_translation and has_room,
        "cutout": config.augment_cutout and has_room,
    }
    changes = Changes({kind: torch.full((batch,), done[kind]) for kind in DIFFAUGMENT_KINDS})
    changes.add(["brightness"], brightened, u["brightness"] - 0.5)
    changes.add(["saturation"], saturated, 2 * u["saturation"])
    changes.add(["contrast"], contrasted, u["contrast"] + 0.5)

    x, y = (
        _step(number, _part(side, MOVE)) for number, side in ((u["x"], width), (u["y"], height))
    )
    changes.add(["translation"], copy_pixels, translation(-x, -y))
    inside = _window(x, x + width, width)[:, None] & _window(y, y + height, height)[:, :, None]
    changes.add(["translation"], shown, inside)  # instead of the reflection

    hidden = []
    for number, side in ((u["cutout_x"], width), (u["cutout_y"], height)):
        length = _part(side, CUTOUT)
        # Any middle, also at the border, where a part of the square falls outside.
        begin = _whole(number, side + 1 - length % 2) - length // 2
        hidden.append(_window(begin, begin + length, side))
    changes.add(["cutout"], shown, ~(hidden[0][:, None] & hidden[1][:, :, None]))
    return Transform(shape, tuple(changes.made), changes.happened)


def _ada(
    config: GANAugmentation,
    shape: tuple[int, int, int, int],
    p: float,
    generator: torch.Generator,
) -> Transform:
    batch, channels, height, width = shape
    chance = _numbers(torch.rand, ADA_KINDS, batch, generator)
    u = _numbers(torch.rand, UNIFORM, batch, generator)
    n = _numbers(torch.randn, NORMAL, batch, generator)
    # The noise has a generator of its own: it is too much to draw where there is none.
    noise_seed = torch.randint(2**31, (), generator=generator, device=generator.device)
    has_room, axes = height * width > 1, colour_axes(channels)
    done = {
        "flip": config.augment_flips and has_room,
        "turn": config.augment_turns and has_room and height == width,
        "translation": config.augment_translation and has_room,
        "scaling": config.augment_scaling and has_room,
        "rotation_before": config.augment_rotation and has_room,
        "stretch": config.augment_scaling and has_room,
        "rotation_after": config.augment_rotation and has_room,
        "fractional_translation": config.augment_fractional_translation and has_room,
        "brightness": config.augment_colour,
        "contrast": config.augment_colour,
        "luma_flip": config.augment_luma_flip and channels in (1, 3),
        "hue": config.augment_hue and channels == 3,
        "saturation": config.augment_colour and channels == 3,
        "noise": config.augment_noise,
        "cutout": config.augment_cutout and has_room,
    }
    # Rotations before and after the stretch let it go any way; the chance of either is p.
    once = 1 - math.sqrt(1 - p)
    limit = {kind: once if kind.startswith("rotation") else p for kind in ADA_KINDS}
    happened = {kind: (chance[kind] < limit[kind]) & done[kind] for kind in ADA_KINDS}
    on = {kind: happened[kind].float() for kind in ADA_KINDS}
    changes = Changes(happened)
    changes.add(COPIES, copy_pixels, _copy_map(on, u, height, width))
    changes.add(WARPS, warp, _warp_map(on, u, n, height, width))
    changes.add(COLOURS, recoloured, _colour_map(on, u, n, axes))
    if happened["noise"].any():
        noisy = torch.Generator().manual_seed(int(noise_seed))
        strength = NOISE * n["noise"].abs()
        noise = torch.randn(shape, generator=noisy) * strength[:, None, None, None]
        changes.add(["noise"], torch.add, noise)
    hidden_x = _window_about(u["cutout_x"], width)
    hidden_y = _window_about(u["cutout_y"], height)
    changes.add(["cutout"], shown, ~(hidden_x[:, None] & hidden_y[:, :, None]))
    return Transform(shape, tuple(changes.made), happened)


#: Numbers `[B]` by name; `on` has 1 for whom a kind happens to and 0 for whom it does not.
_Numbers = Mapping[str, torch.Tensor]


def _copy_map(on: _Numbers, u: _Numbers, height: int, width: int) -> torch.Tensor:
    mirrored = 1 - 2 * _whole(u["flip"], 2) * on["flip"]
    quarters = _whole(u["turn"], 4) * on["turn"]
    x = torch.round((2 * u["x"] - 1) * MOVE * width) * on["translation"]
    y = torch.round((2 * u["y"] - 1) * MOVE * height) * on["translation"]
    return (
        scaling(mirrored, torch.ones_like(mirrored))
        @ rotation(quarters * (math.pi / 2))
        @ translation(-x, -y)
    )


def _warp_map(on: _Numbers, u: _Numbers, n: _Numbers, height: int, width: int) -> torch.Tensor:
    shrink = torch.exp(-SCALE * n["scaling"] * on["scaling"])
    stretch = torch.exp(-SCALE * n["stretch"] * on["stretch"])
    moved = MOVE * on["fractional_translation"]
    return (
        scaling(shrink, shrink)
        @ rotation(_angle(u["before"]) * on["rotation_before"])
        @ scaling(stretch, 1 / stretch)
        @ rotation(_angle(u["after"]) * on["rotation_after"])
        @ translation(-n["x"] * width * moved, -n["y"] * height * moved)
    )


def _colour_map(on: _Numbers, u: _Numbers, n: _Numbers, axes: int) -> torch.Tensor:
    # A map of colours and not, as above, of places to look at: the last change is the first factor.
    matrix = saturating(torch.exp(SATURATION * n["saturation"] * on["saturation"]), axes)
    if axes == 3:
        matrix = matrix @ hue_rotation(_angle(u["hue"]) * on["hue"])
    return (
        matrix
        @ luma_flip(_whole(u["luma_flip"], 2) * on["luma_flip"], axes)
        @ contrasting(torch.exp(CONTRAST * n["contrast"] * on["contrast"]), axes)
        @ brightening(BRIGHTNESS * n["brightness"] * on["brightness"], axes)
    )


def _numbers(
    source: Callable[..., torch.Tensor],
    names: Sequence[str],
    batch: int,
    generator: torch.Generator,
) -> dict[str, torch.Tensor]:
    """`[B]` numbers for each name, on the CPU."""
    drawn = source(len(names), batch, generator=generator, device=generator.device).cpu()
    return dict(zip(names, drawn, strict=True))


def _whole(uniform: torch.Tensor, count: int) -> torch.Tensor:
    """0 .. count - 1 with equal chances; rounding must not make it count."""
    return (uniform * count).floor().clamp(max=count - 1)


def _step(uniform: torch.Tensor, most: int) -> torch.Tensor:
    """Whole numbers from -most to most with equal chances."""
    return _whole(uniform, 2 * most + 1) - most


def _part(side: int, part: float) -> int:
    """That part of a side in whole pixels."""
    return int(side * part + 0.5)


def _angle(uniform: torch.Tensor) -> torch.Tensor:
    return (2 * uniform - 1) * math.pi


def _window(begin: torch.Tensor, end: torch.Tensor, side: int) -> torch.Tensor:
    """Which of `side` pixels lie from `begin` up to before `end`: `[N, side]`."""
    pixel = torch.arange(side)
    return (pixel >= begin[:, None]) & (pixel < end[:, None])


def _window_about(middle: torch.Tensor, side: int) -> torch.Tensor:
    """Pixels whose middles lie in cutout's window about `middle`, in parts of the side."""
    pixel = (torch.arange(side) + 0.5) / side
    return (pixel - middle[:, None]).abs() < CUTOUT / 2
