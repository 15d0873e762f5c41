"""Where an agent looks: how much each place of a picture matters to what it makes of it.

Two methods. The gradient tells what the smallest change of a pixel would do (Simonyan et al. 2014,
"Deep Inside Convolutional Networks"). The perturbation blurs a place and tells how much the answer
changes (Greydanus et al. 2018, "Visualizing and Understanding Atari Agents"): slower, one answer
for each place, and easier to read, for it asks about things and not about single pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from playfield.training.trainer import ExplainablePolicy, Scores

Method = Literal["gradient", "perturbation"]
#: What a place matters to: the return that the agent expects, or its rating of the actions.
Target = Literal["value", "actions"]

#: Of Greydanus et al., section 3 and their code, for pictures of 80x80: the deviation of the
#: mask's bell and of the blur, and the pixels between two places. Smaller pictures scale them.
MASK_SIGMA, BLUR_SIGMA, STRIDE, USUAL_SIDE = 5.0, 3.0, 5, 80
#: Blurs and masks narrower than a pixel would change nothing in the pictures of small worlds.
LEAST_MASK_SIGMA, LEAST_BLUR_SIGMA = 0.5, 1.0
_CHUNK = 64  # pictures shown to the network at once


def saliency(
    policy: ExplainablePolicy,
    obs: torch.Tensor,
    action: int,
    *,
    method: Method,
    target: Target,
) -> NDArray[np.float32]:
    """How much each pixel of `obs` `[1, C, H, W]` uint8 matters: `[H, W]`, 0 or more.

    `obs` is environment 0's newest observation, the one that `policy` last acted on, and `action`
    what it chose. The channels are a stack of frames, and a place is one in all of them. Raises
    ValueError for observations that are no pictures.
    """
    if obs.dim() != 4 or len(obs) != 1:
        raise ValueError(f"obs has shape {list(obs.shape)}, not [1, C, H, W]")
    seen = obs.float()
    if method == "gradient":
        return gradient_saliency(policy, seen, action, target)
    return perturbation_saliency(policy, seen, target)


def gradient_saliency(
    policy: ExplainablePolicy, obs: torch.Tensor, action: int, target: Target
) -> NDArray[np.float32]:
    """|d score / d pixel| `[H, W]` of `obs` `[1, C, H, W]` float32, summed over the channels.

    The score is the value, or `action`'s value or logit.
    """
    with torch.enable_grad():
        pixels = obs.clone().requires_grad_()
        scores = policy.scores(pixels)
        score = scores.value[0] if target == "value" else scores.preference[0, action]
        (gradient,) = torch.autograd.grad(score, pixels)
    return gradient[0].abs().sum(0).cpu().numpy()


@torch.inference_mode()
def perturbation_saliency(
    policy: ExplainablePolicy, obs: torch.Tensor, target: Target
) -> NDArray[np.float32]:
    """Half the squared change of the answer `[H, W]` when a place of `obs` `[1, C, H, W]` blurs.

    Equations 1 to 3 of Greydanus et al. 2018: the picture and its blur A(I) are mixed by a bell M
    around the place, I (1 - M) + A(I) M, and the saliency is half of |answer - answer'|² over the
    logits or action values, or of the value. Between places it is interpolated.

    Deviations: the place is blurred in every frame of the stack, as the paper's agents had a memory
    instead; and places are the centres of equal cells, so that the borders are covered alike.
    """
    height, width = obs.shape[2:]
    shrink = min(1.0, min(height, width) / USUAL_SIDE)
    blurred = gaussian_blur(obs, max(LEAST_BLUR_SIGMA, BLUR_SIGMA * shrink))
    stride = max(1, round(STRIDE * shrink))
    places = [_centres(height, stride), _centres(width, stride)]
    plain = _answer(policy.scores(obs), target)  # [1, K]
    changes = []
    for masks in _masks(obs.shape[2:], places, max(LEAST_MASK_SIGMA, MASK_SIGMA * shrink)):
        mask = masks.to(obs.device)
        answer = _answer(policy.scores(obs * (1 - mask) + blurred * mask), target)
        changes.append(0.5 * (answer - plain).square().sum(1).cpu())
    grid = torch.cat(changes).view(1, 1, len(places[0]), len(places[1]))
    full = F.interpolate(grid, (height, width), mode="bilinear", align_corners=False)
    return full[0, 0].numpy().copy()


def smoothed(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """A gradient `[H, W]` as it is looked at: single pixels flicker, their surroundings tell more.

    A bell of 2 pixels in 80; the pictures of small worlds stay as they are.
    """
    sigma = 2.0 * min(1.0, min(heat.shape) / USUAL_SIDE)
    if sigma < 0.5:
        return heat
    blurred: NDArray[np.float32] = gaussian_blur(torch.from_numpy(heat)[None, None], sigma).numpy()
    return blurred[0, 0]


def gaussian_blur(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """`images` `[B, C, H, W]` float32, each pixel the mean under a bell of `sigma` pixels.

    The bell is cut off at four deviations; beyond the border the outermost pixels go on.
    """
    reach = math.ceil(4 * sigma)
    distance = torch.arange(-reach, reach + 1, device=images.device)
    bell = torch.exp(-0.5 * (distance / sigma) ** 2)
    bell = bell / bell.sum()
    flat = images.flatten(0, 1)[:, None]  # [B*C, 1, H, W]
    flat = F.conv2d(F.pad(flat, (reach, reach, 0, 0), mode="replicate"), bell.view(1, 1, 1, -1))
    flat = F.conv2d(F.pad(flat, (0, 0, reach, reach), mode="replicate"), bell.view(1, 1, -1, 1))
    return flat.view(images.shape)


def _answer(scores: Scores, target: Target) -> torch.Tensor:
    return scores.value[:, None] if target == "value" else scores.preference  # [N, K]


def _centres(size: int, stride: int) -> torch.Tensor:
    """The middles of equal cells of about `stride` pixels, counted from the first pixel's."""
    count = math.ceil(size / stride)
    return (torch.arange(count) + 0.5) * (size / count) - 0.5


def _masks(size: torch.Size, places: list[torch.Tensor], sigma: float) -> Iterator[torch.Tensor]:
    """A bell of height 1 around every place, row by row: `[<= 64, 1, H, W]` at a time."""
    bells = [
        torch.exp(-0.5 * ((torch.arange(pixels) - centres[:, None]) / sigma) ** 2)
        for pixels, centres in zip(size, places, strict=True)
    ]  # [places, pixels] of each side
    rows, columns = (torch.arange(len(centres)) for centres in places)
    for pair in torch.split(torch.cartesian_prod(rows, columns), _CHUNK):
        yield (bells[0][pair[:, 0], :, None] * bells[1][pair[:, 1], None, :])[:, None]
