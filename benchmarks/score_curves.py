"""When a learning run reached what: scores over wall clock and steps, as numbers and a picture."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pictures import BLUE, GREY, ORANGE, RED, entitle, pyplot, running_mean, save, shorten

MOST_POINTS = 400  # of a curve that is kept


class Game(NamedTuple):
    """A game that training finished."""

    seconds: float  # since the process started
    steps: int  # environment steps of training
    return_: float  # raw


class Score:
    """The mean return of the newest games, from the first `window` of them on."""

    def __init__(self, window: int) -> None:
        self._newest: deque[float] = deque(maxlen=window)

    def add(self, return_: float) -> float | None:
        """Take in a game; the mean, once there are enough."""
        self._newest.append(return_)
        if len(self._newest) < (self._newest.maxlen or 0):
            return None
        return sum(self._newest) / len(self._newest)


def means(games: Sequence[Game], window: int) -> list[tuple[Game, float]]:
    """The mean of the last `window` games, wherever there are that many.

    Games that ended at the same step are one point, after all of them: whichever happens to stand
    first among them is not ahead.
    """
    values = running_mean(np.array([game.return_ for game in games], np.float64), window)
    ends = np.append(np.diff([game.steps for game in games]) > 0, True)
    last = [k for k in range(window - 1, len(games)) if ends[k]]
    return [(games[k], float(values[k])) for k in last]


def reached(
    games: Sequence[Game], thresholds: Sequence[float], window: int
) -> dict[str, dict[str, float] | None]:
    """When the mean of the last `window` games first was each threshold or more; None: never."""
    found: dict[str, dict[str, float] | None] = {f"{t:g}": None for t in thresholds}
    for game, mean in means(games, window):
        for threshold in thresholds:
            if mean >= threshold and found[f"{threshold:g}"] is None:
                found[f"{threshold:g}"] = {
                    "minutes": game.seconds / 60,
                    "seconds": game.seconds,
                    "steps": game.steps,
                }
    return found


def curve(games: Sequence[Game], window: int) -> dict[str, list[float]]:
    """The mean of the last `window` games over time, `MOST_POINTS` of them at most."""
    points = means(games, window)
    every = max(1, -(-len(points) // MOST_POINTS))
    kept = points[::-1][::every][::-1]  # the newest stays
    return {
        "minutes": [game.seconds / 60 for game, _ in kept],
        "steps": [game.steps for game, _ in kept],
        "return_mean": [mean for _, mean in kept],
    }


def draw(path: Path, title: str, record: Mapping[str, Any]) -> None:
    """All runs of a result: the mean return over minutes on the left, over steps on the right."""
    plt = pyplot()
    figure, panels = plt.subplots(1, 2, figsize=(9, 4.4), sharey=True, layout="constrained")
    runs: Sequence[Mapping[str, Any]] = list(record["runs"].values())
    groups = list(dict.fromkeys(run["group"] for run in runs))
    for group, colour in zip(groups, _colours(len(groups)), strict=True):
        members = [run for run in runs if run["group"] == group]
        label = f"{group}, {len(members)} seed{'s' if len(members) > 1 else ''}"
        for run in members:
            for panel, over in zip(panels, ("minutes", "steps"), strict=True):
                x, y = run["curve"][over], run["curve"]["return_mean"]
                panel.plot(x, y, color=colour, linewidth=1.5, alpha=0.85, label=label)
                if run["evaluation"] is not None:
                    panel.plot(
                        run[over], run["evaluation"]["mean"], "*", color=colour, markersize=11,
                        markeredgecolor="white", markeredgewidth=0.5, zorder=5,
                    )  # fmt: skip
            label = None
    left, right = panels
    goal = record["thresholds"][-1]
    for panel in panels:
        panel.axhline(goal, color=RED, linewidth=1, linestyle=":", zorder=1)
        panel.set_xlim(left=0)
    left.axvline(record["within_minutes"], color=RED, linewidth=1, linestyle=":", zorder=1)
    left.set_ylabel(f"raw return, mean of {record['window_games']} games")
    left.set_xlabel("minutes since the process started")
    right.set_xlabel("environment steps")
    shorten(right.xaxis)
    left.plot([], [], "*", color=GREY, markersize=9, label="whole games, final weights")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=4, borderaxespad=0.2)
    hardware = record["hardware"]
    entitle(figure, title, (record["env"], f"{hardware['cores']} cores, {hardware['cpu']}"))
    save(figure, path)


def _colours(count: int) -> list[str]:
    known = [BLUE, ORANGE, "#3f7d4e", "#7c4fa0", GREY]
    return [known[k % len(known)] for k in range(count)]
