"""Charts as files: lines with their intervals, as PNG or SVG.

The same numbers give the same bytes, whatever a user's own matplotlib settings are. Matplotlib is
imported when the first chart is drawn: what only takes a `Series` from here does not wait for it.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Format = Literal["png", "svg"]

#: Inches, unless another size is asked for; a PNG has `DPI` times as many pixels.
SIZE = (7.2, 4.2)
DPI = 120
#: Okabe and Ito's colours, which colour-blind readers can tell apart, without black and yellow.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
#: One more dash for every round through the colours.
DASHES = ("-", "--", ":", "-.")
#: A line of so few points shows where they are.
MARKED = 30

_STYLE: Any = {
    "svg.hashsalt": "playfield",  # names of clip paths would be random
    "svg.fonttype": "path",  # a page looks the same where the font is missing
    "text.parse_math": False,  # a dollar in a run's name is a dollar
    "axes.formatter.useoffset": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Series:
    """One line of a chart, and the band around it where `low` and `high` are known.

    All arrays are `[N]` and of one length; `x` ascends. What is not finite is a gap.
    """

    label: str
    x: NDArray[np.floating[Any]]
    mean: NDArray[np.floating[Any]]
    low: NDArray[np.floating[Any]] | None = None
    high: NDArray[np.floating[Any]] | None = None

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError(f"series {self.label!r} has one of low and high: it takes both")
        for name in ("x", "mean", "low", "high"):
            values = getattr(self, name)
            if values is not None and np.shape(values) != (len(self.x),):
                raise ValueError(
                    f"{name} of series {self.label!r} is {list(np.shape(values))}, "
                    f"not [{len(self.x)}]"
                )


def line_chart(
    series: Sequence[Series],
    *,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    format: Format = "svg",
    size: tuple[float, float] = SIZE,
) -> bytes:
    """`series` as lines over their bands, with a legend where there is more than one.

    Up to `len(COLOURS) * len(DASHES)` (24) of them can be told apart. `size` is in inches; text
    does not shrink with it.
    """

    def draw(axes: Axes) -> None:
        for number, each in enumerate(series):
            colour, dash = line_style(number)
            if each.low is not None and each.high is not None:
                axes.fill_between(
                    each.x, each.low, each.high, color=colour, alpha=0.18, linewidth=0
                )
            few = np.isfinite(each.mean).sum() <= MARKED
            axes.plot(
                each.x,
                each.mean,
                linestyle=dash,
                color=colour,
                linewidth=1.4,
                marker="o" if few else "",
                markersize=3,
            )
        if len(series) > 1:
            axes.legend(axes.lines, [_shown(each.label) for each in series], fontsize="small")
        axes.set_ylim(*value_range(series))
        if not any(np.isfinite(each.mean).any() for each in series):
            axes.text(0.5, 0.5, "no points", transform=axes.transAxes, ha="center", color="#777777")

    return chart(draw, title=title, x_label=x_label, y_label=y_label, format=format, size=size)


def chart(
    draw: Callable[[Axes], None],
    *,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    format: Format = "svg",
    size: tuple[float, float] = SIZE,
) -> bytes:
    """What `draw` puts on a pair of axes in the house's style, encoded; for charts of any kind.

    Raises ValueError for another `format`.
    """
    if format not in ("png", "svg"):
        raise ValueError(f"format is {format!r}: a chart is png or svg")
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    with matplotlib.rc_context(), warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box, which says it better than a warning.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=size, dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set_title(title, fontsize="medium", loc="left")
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
        draw(axes)
        encoded = io.BytesIO()
        figure.savefig(encoded, format=format, metadata={"Date": None} if format == "svg" else None)
        return encoded.getvalue()


def value_range(series: Sequence[Series]) -> tuple[float, float]:
    """Lowest and highest of what a chart of `series` shows, with some air; never equal.

    A band counts up to once the height of all lines beyond them: that of two seeds is 13 times as
    wide as their standard error, and would flatten the lines.
    """
    lines = [np.asarray(each.mean, np.float64) for each in series]
    bands = [np.asarray(b, np.float64) for s in series for b in (s.low, s.high) if b is not None]
    known = np.concatenate(lines) if lines else np.zeros(0)
    known = known[np.isfinite(known)]
    if not len(known):
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    height = high - low or max(abs(high), 1e-9)
    edges = np.concatenate(bands) if bands else np.zeros(0)
    edges = edges[np.isfinite(edges)].clip(low - height, high + height)
    low, high = min([low, *edges.tolist()]), max([high, *edges.tolist()])
    air = 0.04 * (high - low) or 0.1 * height
    return low - air, high + air


def line_style(number: int) -> tuple[str, str]:
    """Colour and dash of line `number`; they come again after the last of them."""
    return COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]


def compact(value: float) -> str:
    """`value` in a few characters, as on an axis: 250k, 1.5M, 0.25."""
    if not math.isfinite(value):
        return str(value)
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):.4g}{letter}"
    return f"{value:.4g}"


def _shown(label: str) -> str:
    # Matplotlib leaves out of a legend what begins with an underscore; a run's name may.
    return f" {label}" if label.startswith("_") else label
