"""How likely images are under a model: the density that its differential equation carries along.

Along dx/ds = f(x, s) the log density of a point changes by -div f (the instantaneous change of
variables, Chen et al. 2018). Followed from an image to its noise, whose density is known, this
gives the density of the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch

from playfield.errors import UserError
from playfield.generative.flow_samplers import velocity_at
from playfield.generative.model import PaintingModel, denoising
from playfield.generative.noise import ImageGenerators
from playfield.generative.objective import Denoiser, Velocity
from playfield.generative.samplers import denoise, state_dtype
from playfield.generative.sampling import check_label, sigma_grid
from playfield.generative.time_grids import flow_times

#: dx/ds at (x `[B, C, H, W]` float64, s).
Drift = Callable[[torch.Tensor, float], torch.Tensor]

#: The divergence `[B]` of v as a function of x, with a graph between them.
Divergence = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def bits_per_dimension(
    model: PaintingModel,
    frames: torch.Tensor,
    label: torch.Tensor,
    seeds: Sequence[int],
    *,
    steps: int = 32,
    probes: int = 1,
) -> torch.Tensor:
    """Bits for each byte of uint8 images `[B, C, H, W]`, `[B]` float64; less is likelier.

    An upper bound: bytes become densities by uniform noise as wide as a code, one draw from each
    image's seed (`dequantised`). The divergence is estimated with `probes` random directions, or
    exact for images of up to `EXACT_DIMENSIONS` numbers. The network is called 4 * steps times, and
    each time differentiated for each probe.

    A flow is followed from its end to its start. Other models are followed from sigma_min, where
    their densities are taken for those of clean images, to pure noise. Raises `UserError` for a
    consistency model, which has no equation to follow, and for labels that the model does not know.
    """
    model = denoising(model, "A likelihood")
    if model.family == "consistency":
        raise UserError(
            "A consistency model has no likelihoods: it jumps to the image. Ask the model that it "
            "was tuned from."
        )
    check_label(model, label, len(seeds))
    noise = ImageGenerators(seeds)
    signal = dequantised(frames, noise).to(model.device, state_dtype(model.device))
    label = label.to(model.device)
    dimensions = math.prod(model.spec.shape)
    if dimensions <= EXACT_DIMENSIONS:
        divergence: Divergence = exact_divergence
    else:
        directions = [_signs(noise, signal) for _ in range(probes)]
        divergence = hutchinson(directions)
    if model.velocity is not None:
        nats = flow_log_likelihood(model.velocity, signal, label, divergence, steps=steps)
    else:
        sigmas = sigma_grid(model, "heun", steps + 1)[:-1].flip(0)
        nats = diffusion_log_likelihood(model.denoiser, signal, label, sigmas, divergence)
    return to_bits_per_dimension(nats, dimensions)


#: Images of so few numbers have their divergence computed exactly, one derivative for each number.
EXACT_DIMENSIONS = 16


def dequantised(frames: torch.Tensor, noise: ImageGenerators) -> torch.Tensor:
    """uint8 images `[B, C, H, W]` as float64 signals, each code spread evenly over its own width.

    A code k is the signal k / 127.5 - 1, so it fills what lies within 1 / 255 of that.
    """
    spread = noise.uniform(frames.shape[1:]) - 0.5
    return (frames.cpu().double() + spread) / 127.5 - 1


def to_bits_per_dimension(nats: torch.Tensor, dimensions: int) -> torch.Tensor:
    """Log densities of signals `[B]`, in nats, as bits for each of `dimensions` bytes.

    A byte's probability is the density times 1 / 127.5, the width of a code. An even density over
    all codes is 8 bits.
    """
    return (math.log(127.5) - nats / dimensions) / math.log(2)


def flow_log_likelihood(
    velocity: Velocity,
    x: torch.Tensor,
    label: torch.Tensor,
    divergence: Divergence,
    *,
    steps: int = 32,
) -> torch.Tensor:
    """Log density `[B]`, in nats, of signals `[B, C, H, W]` under a flow (Lipman et al. 2023)."""

    def drift(x: torch.Tensor, t: float) -> torch.Tensor:
        return velocity_at(velocity, x, t, label)

    return log_density(drift, x, flow_times(steps).flip(0), 1.0, divergence)


def diffusion_log_likelihood(
    denoiser: Denoiser,
    x: torch.Tensor,
    label: torch.Tensor,
    sigmas: torch.Tensor,
    divergence: Divergence,
) -> torch.Tensor:
    """Log density `[B]`, in nats, of x `[B, C, H, W]` at the first of rising levels `sigmas`.

    The equation is the probability flow ODE (Song et al. 2021). Its end at the last level is taken
    for pure noise, so that level has to be far above the spread of the data.
    """

    def drift(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return (x - denoise(denoiser, x, sigma, label)) / sigma

    return log_density(drift, x, sigmas, sigmas[-1].item(), divergence)


def log_density(
    drift: Drift, x: torch.Tensor, times: torch.Tensor, end_std: float, divergence: Divergence
) -> torch.Tensor:
    """Log density `[B]` at x `[B, C, H, W]`, `times[0]`, if that at `times[-1]` is N(0, end_std^2).

    The classical Runge-Kutta method of fourth order, four calls of `drift` for each step. Nothing
    is differentiated but `drift` by x.
    """
    x = x.to(state_dtype(x.device))
    gained = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for time, time_next in pairwise(times.tolist()):
        width = time_next - time
        middle = time + width / 2
        v1, d1 = _with_divergence(drift, x, time, divergence)
        v2, d2 = _with_divergence(drift, x + width / 2 * v1, middle, divergence)
        v3, d3 = _with_divergence(drift, x + width / 2 * v2, middle, divergence)
        v4, d4 = _with_divergence(drift, x + width * v3, time_next, divergence)
        x = x + width / 6 * (v1 + 2 * v2 + 2 * v3 + v4)
        gained = gained + width / 6 * (d1 + 2 * d2 + 2 * d3 + d4)
    scaled = x.flatten(1) / end_std
    constant = math.log(2 * math.pi) / 2 + math.log(end_std)
    return gained - (scaled.square() / 2 + constant).sum(1)


def _with_divergence(
    drift: Drift, x: torch.Tensor, time: float, divergence: Divergence
) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        v = drift(x, time)
        # A drift that does not depend on x has no graph to it, and no divergence.
        change = divergence(v, x) if v.requires_grad else torch.zeros_like(v.flatten(1).sum(1))
    return v.detach(), change.detach()


def exact_divergence(v: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The sum of dv_i / dx_i `[B]`, by one derivative for each of an image's numbers."""
    total = torch.zeros(len(x), dtype=v.dtype, device=v.device)
    for index, output in enumerate(v.flatten(1).unbind(1)):
        (gradient,) = torch.autograd.grad(
            output.sum(), x, retain_graph=True, materialize_grads=True
        )
        total = total + gradient.flatten(1)[:, index]
    return total


def hutchinson(directions: Sequence[torch.Tensor]) -> Divergence:
    """The divergence as the mean of e . (dv/dx) e over random directions e `[B, C, H, W]`.

    Without bias for directions of independent +-1 (Hutchinson 1989). They stay the same along the
    way, as in FFJORD (Grathwohl et al. 2019), so what is integrated is a smooth function.
    """

    def divergence(v: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(len(x), dtype=v.dtype, device=v.device)
        for direction in directions:
            (gradient,) = torch.autograd.grad(
                v, x, direction, retain_graph=True, materialize_grads=True
            )
            total = total + (gradient * direction).flatten(1).sum(1)
        return total / len(directions)

    return divergence


def _signs(noise: ImageGenerators, like: torch.Tensor) -> torch.Tensor:
    """Independent +-1 in the shape, dtype and device of `like` `[B, C, H, W]`."""
    return torch.where(noise.uniform(like.shape[1:]) < 0.5, -1.0, 1.0).to(like)
