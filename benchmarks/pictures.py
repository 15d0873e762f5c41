"""How the pictures of learning runs look, and the numbers that they are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLUE, ORANGE, GREY, RED = "#2563a8", "#d97706", "#6b7280", "#b42318"
FRAME = "#e5e7eb"


def running_mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """The mean of each value and up to `window - 1` before it."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    return (sums[ends] - sums[starts]) / (ends - starts)


def pyplot() -> Any:
    """matplotlib's pyplot, drawing to files in one style."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update(
        {
            "font.size": 9.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": GREY,
            "axes.grid": True,
            "grid.color": FRAME,
            "xtick.color": GREY,
            "ytick.color": GREY,
            "legend.frameon": False,
        }
    )
    return plt


def short_number(value: float, _position: int | None = None) -> str:
    """1,500,000 as 1.5M: a tick label."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def shorten(axis: Any) -> None:
    """Label an axis with short numbers."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(short_number))


def entitle(figure: Any, title: str, subtitles: Sequence[str]) -> None:
    """Title and subtitle, flush left; parts that are empty are left out."""
    figure.suptitle(f"{title}\n", x=0.01, ha="left", fontsize=12, fontweight="bold")
    subtitle = ", ".join(part for part in subtitles if part)
    height = figure.get_size_inches()[1]
    figure.text(0.011, 1 - 0.308 / height, subtitle, ha="left", va="top", color=GREY)


def save(figure: Any, path: Path) -> None:
    """Write `figure` without a trace of who drew it when, and close it."""
    from matplotlib import pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(figure)
