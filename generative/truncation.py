"""The truncation trick: less unusual noise for better, less different images."""

from __future__ import annotations

import torch


def truncated(z: torch.Tensor, bound: float) -> torch.Tensor:
    """Standard normal numbers `z` made to lie within -`bound`..`bound`, float64 on the CPU.

    They follow the normal distribution cut off there, as with numbers drawn again until they lie
    inside (Brock et al. 2019, section 3.1). But each goes to its own quantile, so the image of a
    seed changes smoothly with `bound`, and the order of numbers is kept.
    """
    quantile = torch.special.ndtr(z.cpu().double())  # not every accelerator has float64
    edge = torch.tensor(bound, dtype=torch.float64)
    low, high = torch.special.ndtr(-edge), torch.special.ndtr(edge)
    inside = torch.special.ndtri(low + quantile * (high - low))
    return inside.clamp(-bound, bound)
