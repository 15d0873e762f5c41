"""What is drawn over a frame and beside it, in pixels and in text."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from playfield.evaluation.overlay import (
    BAR,
    GAIN,
    INK,
    LOSS,
    TAKEN,
    WIDTH,
    HeatScale,
    Panel,
    bar_lengths,
    shown_actions,
    with_heat,
)
from playfield.evaluation.scenes import Scene
from playfield.evaluation.terminal import Style
from playfield.evaluation.terminal_panel import TextPanel
from playfield.training.trainer import PreferenceKind

NAMES = ("LEFT", "STAY", "RIGHT")


def scene(
    *preference: float, kind: PreferenceKind = "probabilities", step: int = 0, action: int = 0
) -> Scene:
    rng = np.random.default_rng(0)
    return Scene(
        picture=rng.integers(0, 256, (120, 80, 3)).astype(np.uint8),
        game=1,
        step=step,
        score=3.0,
        reward=0.0,
        life_lost=False,
        action=action,
        chosen=action,
        value=1.0,
        preference=np.array(preference, np.float32),
        kind=kind,
        obs=torch.zeros(1, 1, 10, 5, dtype=torch.uint8),
        ended=False,
    )


def panel_of(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return picture[:, -WIDTH:]


def longest_run(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> list[int]:
    """Of each row of pixels that holds `colour` side by side, how many of them: bars, not text."""
    counts = (picture == np.array(colour, np.uint8)).all(2)
    runs = []
    for row in counts:
        padded = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
        runs.append(int(max(padded[1::2] - padded[::2], default=0)))
    return runs


# --- bars ---


def test_bars_of_probabilities_are_as_long_as_they_are_likely() -> None:
    assert bar_lengths(scene(0.25, 0.75, 0.0)).tolist() == [0.25, 0.75, 0.0]


def test_bars_of_action_values_reach_from_the_lowest_to_the_highest() -> None:
    shown = scene(-3.0, -1.0, -2.0, kind="action values")
    assert bar_lengths(shown).tolist() == [0.0, 1.0, 0.5]
    assert bar_lengths(scene(2.0, 2.0, kind="action values")).tolist() == [0.0, 0.0]


def test_numbers_that_are_none_are_drawn_as_no_bar() -> None:
    shown = scene(float("nan"), 1.0, float("inf"))
    assert bar_lengths(shown).tolist() == [0.0, 1.0, 0.0]
    broken = replace(shown, value=float("nan"))
    assert Panel(NAMES).draw(broken).shape[2] == 3
    assert TextPanel(NAMES, "plain").lines(broken, 40, 20)


def test_the_bar_of_the_action_that_is_taken_stands_out() -> None:
    picture = panel_of(Panel(NAMES).draw(scene(0.5, 0.25, 0.25, action=0)))
    taken, others = max(longest_run(picture, TAKEN)), max(longest_run(picture, BAR))
    assert taken == pytest.approx(2 * others, abs=2)


def test_after_the_end_no_action_is_marked() -> None:
    picture = Panel(NAMES).draw(replace(scene(0.5, 0.25, 0.25), ended=True))
    assert max(longest_run(panel_of(picture), TAKEN)) == 0


def test_of_many_actions_the_best_are_shown_first() -> None:
    preference = np.array([0.1, 0.4, 0.1, 0.3], np.float32)
    assert shown_actions(preference, 4) == [0, 1, 2, 3]
    assert shown_actions(preference, 3) == [1, 3, 0]


# --- the panel ---


def test_the_same_scene_gives_the_same_picture_with_the_game_unharmed() -> None:
    shown = scene(0.2, 0.3, 0.5)
    one, other = Panel(NAMES).draw(shown), Panel(NAMES).draw(shown)
    assert np.array_equal(one, other)
    enlarged = shown.picture.repeat(2, axis=0).repeat(2, axis=1)  # 120 pixels to 240
    assert np.array_equal(one[:240, :160], enlarged)


def test_all_pictures_of_a_game_have_one_size() -> None:
    panel = Panel(tuple(f"action {a}" for a in range(18)))
    even = [1 / 18] * 18
    shapes = {panel.draw(scene(*even, step=step)).shape for step in (0, 1, 90, 120)}
    assert len(shapes) == 1


def test_gains_and_losses_stand_in_the_course_of_the_value() -> None:
    panel = Panel(NAMES)
    marks = []
    for step, (reward, lost) in enumerate([(0.0, False), (2.0, False), (-1.0, False), (0.0, True)]):
        shown = replace(scene(1, 0, 0, step=step), reward=reward, life_lost=lost)
        picture = panel_of(panel.draw(shown))[-40:]
        marks.append([bool((picture == colour).all(2).any()) for colour in (GAIN, LOSS)])
    assert marks == [[False, False], [True, False], [True, True], [True, True]]


def test_a_new_game_begins_with_an_empty_course() -> None:
    panel, fresh = Panel(NAMES), Panel(NAMES)
    for step in range(30):
        panel.note(replace(scene(1, 0, 0, step=step), value=float(step), reward=1.0))
    shown = replace(scene(1, 0, 0), game=2)
    assert np.array_equal(panel.draw(shown), fresh.draw(shown))


def test_the_value_s_line_rises_with_the_value() -> None:
    panel = Panel(NAMES)
    for step in range(40):
        picture = panel_of(panel.draw(replace(scene(1, 0, 0, step=step), value=step / 10)))
    graph = (picture[125:-8] == INK).all(2)  # below the text, above the axis
    heights = [np.flatnonzero(column).mean() for column in graph.T if column.any()]
    assert len(heights) > 70
    assert all(np.diff(heights) <= 0)  # rows count from the top


# --- heat ---


def test_without_heat_a_picture_is_only_dimmed() -> None:
    picture = np.full((4, 4, 3), 100, np.uint8)
    assert np.array_equal(with_heat(picture, np.zeros((2, 2), np.float32)), np.full((4, 4, 3), 60))


def test_heat_glows_where_it_is_and_nowhere_else() -> None:
    picture = np.full((84, 84, 3), 50, np.uint8)
    heat = np.zeros((42, 42), np.float32)
    heat[10, 30] = 7.0
    shown = with_heat(picture, heat)
    grey = (shown[..., 0] == shown[..., 2]) & (shown[..., 0] == 30)
    rows, columns = np.nonzero(~grey)
    assert set(rows.tolist()) <= {19, 20, 21, 22} and set(columns.tolist()) <= {59, 60, 61, 62}
    assert shown[20, 60, 0] > 150 > shown[20, 60, 2]


def test_in_a_film_the_strongest_of_late_is_brightest() -> None:
    scale = HeatScale()
    assert scale.of(np.array([[4.0]], np.float32)) == 4.0
    assert 3.0 < scale.of(np.array([[1.0]], np.float32)) < 4.0
    assert scale.of(np.array([[9.0]], np.float32)) == 9.0


# --- text ---


def test_text_names_the_actions_their_chances_and_the_one_taken() -> None:
    lines = TextPanel(NAMES, "plain").lines(scene(0.5, 0.25, 0.25, action=2), 40, 20)
    assert lines[0] == "action probabilities"
    assert [line.split()[-1] for line in lines[1:4]] == ["0.50", "0.25", "0.25"]
    assert [line[0] for line in lines[1:4]] == [" ", " ", ">"]
    assert [line.count("#") for line in lines[1:4]] == [10, 5, 5]  # of 40 - 11 - 8 - 2 = 19, halved
    assert "value 1.00" in lines


@pytest.mark.parametrize("style", ["plain", "colour"])
@pytest.mark.parametrize(("columns", "rows"), [(26, 1), (26, 3), (30, 8), (40, 22), (200, 60)])
def test_text_stays_in_its_place(style: Style, columns: int, rows: int) -> None:
    panel = TextPanel(tuple(f"action number {a}" for a in range(18)), style)
    for step in range(60):
        shown = replace(scene(*np.full(18, 1 / 18), step=step), value=float(step % 7))
        lines = panel.lines(shown, columns, rows)
        assert 1 <= len(lines) <= rows and max(map(len, lines)) <= columns
        assert style == "colour" or "".join(lines).isascii()


def test_with_few_rows_the_best_actions_are_left() -> None:
    lines = TextPanel(NAMES, "plain").lines(scene(0.1, 0.7, 0.2), 30, 4)
    assert lines[0] == "action probabilities, best 2 of 3"[:30]
    assert [line.split()[0] for line in lines[1:3]] == ["STAY", "RIGHT"]
