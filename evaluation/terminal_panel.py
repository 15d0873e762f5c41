"""What an agent thinks, as lines of text beside a picture in the terminal."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from playfield.evaluation.overlay import bar_lengths, heading, number, shown_actions
from playfield.evaluation.scenes import Scene
from playfield.evaluation.terminal import Style

#: Cells: what a bar is drawn with, whole and in eighths, by style; and what marks an action.
_BLOCKS: dict[Style, str] = {"colour": " ▏▎▍▌▋▊▉█", "plain": " #"}
_LEVELS: dict[Style, str] = {"colour": "▁▂▃▄▅▆▇█", "plain": "_.-~'^"}
_MARKS: dict[Style, str] = {"colour": "▶", "plain": ">"}
NARROWEST, WIDEST = 26, 40
_NAME, _NUMBER = 11, 8


class TextPanel:
    """A panel of text: the actions with their values or probabilities, and how the value went.

    It says what `overlay.Panel` draws. The columns it may take are the caller's to choose, from
    `NARROWEST` on.
    """

    def __init__(self, actions: Sequence[str], style: Style) -> None:
        self._actions, self._style = actions, style
        self._past: deque[float] = deque(maxlen=WIDEST)

    def lines(self, scene: Scene, columns: int, rows: int) -> list[str]:
        """At most `rows` lines of at most `columns` letters for `scene`, the next of its game.

        With few rows the value's course goes first, then the worst actions.
        """
        if scene.step == 0:
            self._past.clear()
        self._past.append(scene.value)
        columns = min(columns, WIDEST)
        value = f"value {number(scene.value)}"
        course = ["", value, self._course(columns)]
        if rows < len(self._actions) + 1 + len(course):
            course = [value]
        shown = shown_actions(scene.preference, max(1, rows - 1 - len(course)))
        title = heading(scene)
        if len(shown) < len(self._actions):
            title += f", best {len(shown)} of {len(self._actions)}"
        lengths = bar_lengths(scene)
        bars = [self._bar(scene, action, float(lengths[action]), columns) for action in shown]
        return [line[:columns] for line in [title, *bars, *course]][:rows]

    def _bar(self, scene: Scene, action: int, length: float, columns: int) -> str:
        taken = action == scene.action and not scene.ended
        mark = _MARKS[self._style] if taken else " "
        room = columns - _NAME - _NUMBER - 2
        blocks = _BLOCKS[self._style]
        steps = len(blocks) - 1
        whole, part = divmod(round(length * room * steps), steps)
        bar = blocks[-1] * whole + (blocks[part] if part else "")
        name = self._actions[action][:_NAME]
        return f"{mark}{name:<{_NAME}} {bar:<{room}}{number(float(scene.preference[action])):>8}"

    def _course(self, columns: int) -> str:
        """The newest values as one line of levels between the least and the greatest of them."""
        values = [value for value in list(self._past)[-columns:] if math.isfinite(value)]
        if not values:
            return ""
        low, span = min(values), max(max(values) - min(values), 1e-9)
        levels = _LEVELS[self._style]
        top = len(levels) - 1
        return "".join(levels[round((value - low) / span * top)] for value in values)
