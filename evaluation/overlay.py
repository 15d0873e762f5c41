"""Drawn over a frame and beside it: where the agent looks, and what it thinks.

Everything is drawn without smoothing and in few colours: the same scene gives the same bytes, small
text stays sharp, and films stay small.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from playfield.evaluation.scenes import Scene

Picture = NDArray[np.uint8]  # [H, W, 3] RGB
Colour = tuple[int, int, int]

#: Pixels: text, the distance between two lines of it, the panel's width and the space around.
FONT_SIZE, LINE, WIDTH, MARGIN = 12, 14, 200, 6
NUMBER_WIDTH = 40
NAME_WIDTH = 84  # of "UPRIGHTFIRE", Atari's longest
GRAPH_HEIGHT = 48  # at least
PIXELS_PER_STEP = 2  # of the graph
MAX_ROWS = 18  # as many actions as an Atari has

PAPER: Colour = (24, 24, 24)
INK: Colour = (220, 220, 220)
FAINT: Colour = (130, 130, 130)
BAR: Colour = (70, 130, 210)
TAKEN: Colour = (255, 190, 60)  # the action that is taken
GAIN: Colour = (60, 150, 80)
LOSS: Colour = (190, 60, 60)


class Panel:
    """Draws a game's scenes with what the agent thinks beside them.

    From the top: game, step and score; the actions with their values or probabilities, the one
    taken marked; the value, and how it went, with a green line at each gain and a red one at each
    loss or lost life. Bars of probabilities reach from 0 to 1, those of action values from the
    lowest to the highest, whose differences would not be seen otherwise. Of more than 18 actions
    the best are shown.

    `actions` are their names. A picture is enlarged by a whole factor until it is `min_height`
    pixels high.
    """

    def __init__(self, actions: Sequence[str], *, min_height: int = 240) -> None:
        self._actions = actions
        self._min_height = min_height
        steps = (WIDTH - 2 * MARGIN) // PIXELS_PER_STEP
        self._past: deque[tuple[float, float]] = deque(maxlen=steps)  # value and gain of a step

    def draw(self, scene: Scene, picture: Picture | None = None) -> Picture:
        """`scene` with its panel, `[H', W', 3]`, of one size for a whole game.

        `picture` `[H, W, 3]` stands in for the scene's own, where something is drawn over it. Every
        scene of a game has to be drawn or noted, in order: the panel remembers its value.
        """
        self.note(scene)
        picture = scene.picture if picture is None else picture
        picture = enlarged(picture, self._min_height)
        height, width = picture.shape[:2]
        canvas = Image.new("RGB", (width + WIDTH, max(height, self._least_height())), PAPER)
        canvas.paste(Image.fromarray(picture), (0, 0))
        _Writer(canvas, width).write(scene, self._actions, self._past)
        return np.asarray(canvas)

    def note(self, scene: Scene) -> None:
        """Remember the value of a scene that is not drawn."""
        if scene.step == 0:
            self._past.clear()
        self._past.append((scene.value, scene.gain))

    def _least_height(self) -> int:
        lines = 5 + min(len(self._actions), MAX_ROWS)
        return lines * LINE + GRAPH_HEIGHT + 4 * MARGIN


def enlarged(picture: Picture, min_height: int) -> Picture:
    """`picture` `[H, W, 3]`, every pixel a square of as few as make it `min_height` high."""
    factor = -(-min_height // picture.shape[0])
    return picture.repeat(factor, axis=0).repeat(factor, axis=1) if factor > 1 else picture


def with_heat(
    picture: Picture, heat: NDArray[np.float32], strongest: float | None = None
) -> Picture:
    """`picture` `[H, W, 3]` in dim grey under `heat` `[h, w]`, 0 or more, in red to yellow.

    `strongest` is the heat that is shown brightest; None: the greatest here. Both cover the same
    scene, so `heat` is stretched to the picture. Without any heat the picture is only dimmed.
    """
    height, width = picture.shape[:2]
    top = float(heat.max()) if strongest is None else strongest
    share = np.clip(heat / top, 0, 1) if top > 0 else np.zeros_like(heat)
    stretched = Image.fromarray(share.astype(np.float32)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    strength = np.asarray(stretched, np.float64)[:, :, None]  # [H, W, 1]
    grey = picture @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    colour = np.array([255.0, 40.0, 0.0]) + strength * np.array([0.0, 200.0, 40.0])
    mixed = 0.6 * grey[:, :, None] * (1 - strength) + colour * strength
    return np.rint(mixed).astype(np.uint8)


class HeatScale:
    """What counts as strongest in a film: the greatest heat of late, so that it does not flicker.

    It rises at once and falls by half in about two seconds of an Atari game.
    """

    DECAY = 0.977

    def __init__(self) -> None:
        self._greatest = 0.0

    def of(self, heat: NDArray[np.float32]) -> float:
        self._greatest = max(float(heat.max()), self.DECAY * self._greatest)
        return self._greatest


def shown_actions(preference: NDArray[np.float32], rows: int) -> list[int]:
    """Which actions to show in `rows` lines: all in their order, or else the best, best first."""
    if len(preference) <= rows:
        return list(range(len(preference)))
    best: list[int] = np.argsort(-preference, kind="stable")[:rows].tolist()
    return best


def bar_lengths(scene: Scene) -> NDArray[np.float64]:
    """How much of its room each action's bar fills, `[num_actions]` in 0..1.

    Probabilities as they are; action values from the lowest to the highest.
    """
    preference = np.nan_to_num(scene.preference.astype(np.float64), posinf=0.0, neginf=0.0)
    if scene.kind == "action values":
        preference = preference - preference.min()
        preference = preference / max(preference.max(), 1e-9)
    return np.clip(preference, 0.0, 1.0)


def heading(scene: Scene) -> str:
    """What the numbers beside the actions are."""
    return "action values" if scene.kind == "action values" else "action probabilities"


def number(value: float) -> str:
    """A value in a few characters."""
    return f"{value:.2f}" if abs(value) < 1000 else f"{value:.3g}"


class _Writer:
    """Writes a panel on `canvas`, from its column `left` on."""

    def __init__(self, canvas: Image.Image, left: int) -> None:
        self._draw = ImageDraw.Draw(canvas)
        self._draw.fontmode = "1"  # no smoothing
        self._left, self._right = left + MARGIN, left + WIDTH - MARGIN
        self._bottom = canvas.height - MARGIN
        self._top = MARGIN  # of the next line

    def write(
        self, scene: Scene, actions: Sequence[str], past: Sequence[tuple[float, float]]
    ) -> None:
        self._line(f"game {scene.game}", f"step {scene.step:,}", FAINT)
        gain = f"{scene.reward:+g}" if scene.reward else ""
        self._line(f"score {scene.score:g}", gain, INK, GAIN if scene.reward > 0 else LOSS)
        self._top += MARGIN
        self._bars(scene, actions)
        self._top += MARGIN
        values = [value for value, _ in past if np.isfinite(value)]
        low, high = min(values, default=0.0), max(values, default=0.0)
        around = f"{number(low)} to {number(high)}"
        self._line(f"value {number(scene.value)}", around, INK, FAINT)
        self._graph(past, low, high)

    def _bars(self, scene: Scene, actions: Sequence[str]) -> None:
        shown = shown_actions(scene.preference, MAX_ROWS)
        count = f"best {len(shown)} of {len(actions)}" if len(shown) < len(actions) else ""
        self._line(heading(scene), count, FAINT)
        lengths = bar_lengths(scene)
        left = self._left + NAME_WIDTH
        room = self._right - NUMBER_WIDTH - left
        for action in shown:
            taken = action == scene.action and not scene.ended
            ink = TAKEN if taken else INK
            top = self._top + 3
            length = round(lengths[action] * (room - 1))
            colour = TAKEN if taken else BAR
            self._draw.rectangle((left, top, left + length, top + LINE - 6), fill=colour)
            name = _fitted(actions[action], NAME_WIDTH - 4)
            self._line(name, number(float(scene.preference[action])), ink, ink)

    def _graph(self, past: Sequence[tuple[float, float]], low: float, high: float) -> None:
        top, bottom = self._top + 2, self._bottom
        room = bottom - top
        self._draw.line((self._left, bottom, self._right, bottom), fill=FAINT)
        # A value that hardly moves is drawn as a flat line in the middle, not as a mountain range.
        span = max(high - low, 0.01 * max(abs(high), abs(low)), 1e-6)
        middle = (high + low) / 2
        points = []
        for index, (value, gain) in enumerate(past):
            x = self._left + index * PIXELS_PER_STEP
            if gain:
                self._draw.line((x, top, x, bottom - 1), fill=GAIN if gain > 0 else LOSS)
            if np.isfinite(value):
                points.append(
                    (x, round(bottom - 1 - room * (0.5 + 0.96 * (value - middle) / span)))
                )
        if len(points) == 1:
            points *= 2
        self._draw.line(points, fill=INK)

    def _line(self, left: str, right: str, ink: Colour, right_ink: Colour | None = None) -> None:
        font = _font()
        self._draw.text((self._left, self._top), left, ink, font)
        start = self._right - font.getlength(right)
        self._draw.text((round(start), self._top), right, right_ink or ink, font)
        self._top += LINE


def captioned(picture: Picture, lines: Sequence[str]) -> Picture:
    """`picture` `[H, W, 3]` with `lines` of text below it, each cut to its width."""
    height, width = picture.shape[:2]
    canvas = Image.new("RGB", (width, height + len(lines) * LINE + 2 * MARGIN), PAPER)
    canvas.paste(Image.fromarray(picture), (0, 0))
    draw = ImageDraw.Draw(canvas)
    draw.fontmode = "1"
    for index, line in enumerate(lines):
        top = height + MARGIN + index * LINE
        draw.text((MARGIN, top), _fitted(line, width - 2 * MARGIN), INK, _font())
    return np.asarray(canvas)


def _fitted(text: str, width: int) -> str:
    """`text`, cut where it is wider than `width` pixels."""
    while len(text) > 1 and _font().getlength(text) > width:
        text = text.removesuffix("…")[:-1] + "…"
    return text


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(FONT_SIZE)
