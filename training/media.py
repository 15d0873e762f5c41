"""What an evaluation may hand to the curves besides numbers: pictures, films, histograms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]  # [H, W, 3] RGB


@dataclass(frozen=True)
class Film:
    """An animated picture as a browser plays it: a whole GIF, APNG or WebP file."""

    encoded: bytes
    height: int  # pixels
    width: int  # pixels


@dataclass(frozen=True)
class Histogram:
    """Numbers whose distribution is shown, not each of them; those not finite are left out."""

    values: NDArray[np.floating[Any]]  # [N]
