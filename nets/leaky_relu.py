"""The leaky ReLU of GANs: its slope below 0, and what weights before it are drawn with."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

SLOPE = 0.2
#: What keeps the variance through it, for `initialization.fan_in_normal_` (He et al. 2015,
#: equation 15).
GAIN = math.sqrt(2 / (1 + SLOPE**2))


def leaky_relu(x: torch.Tensor) -> torch.Tensor:
    """x where it is positive, a fifth of it where it isn't."""
    return F.leaky_relu(x, SLOPE)
