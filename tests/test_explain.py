"""Notable moments of a game, and the pictures of them that `playfield explain` writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import CommandLine, catch_run, playfield
from PIL import Image

from playfield.evaluation import scenes
from playfield.evaluation.notable_moments import NotableMoment, notable_moments

__all__ = ["catch_run", "playfield"]  # fixtures


def chosen(value: list[float], gain: dict[int, float], count: int) -> list[NotableMoment]:
    gains = np.zeros(len(value))
    for step, amount in gain.items():
        gains[step] = amount
    return notable_moments(np.array(value), gains, count)


def test_one_moment_of_each_kind_is_taken_in_turn() -> None:
    value = [1.0] * 200
    value[20], value[21] = 5.0, 4.9  # the highest, at the end of the steepest rise
    value[80], value[81] = 1.0, -3.0  # the steepest fall, to the lowest
    value[100] = 3.0
    found = chosen(value, {130: 1.0, 150: 4.0, 170: -2.0}, 5)
    assert found == [
        NotableMoment(20, "the highest value"),
        NotableMoment(81, "the value falls most"),
        # The rise to 20 is the steepest but beside one that is taken, and so are 82 and 22 on.
        NotableMoment(100, "the value rises most"),
        NotableMoment(150, "before a gain"),
        NotableMoment(170, "before a loss"),
    ]


def test_moments_come_in_the_order_of_the_game_and_lie_apart() -> None:
    value = np.random.default_rng(0).normal(size=500).cumsum()
    found = notable_moments(value, np.zeros(500), 12)
    steps = [moment.step for moment in found]
    assert len(steps) == 12
    assert min(np.diff(steps)) >= 8


def test_a_short_game_has_as_many_moments_as_it_can() -> None:
    assert len(chosen([0.0, 1.0, 2.0], {}, 8)) == 3
    assert chosen([], {}, 8) == []


def test_values_that_are_not_finite_are_left_out() -> None:
    found = chosen([np.nan, 1.0, np.inf, 2.0], {0: 1.0}, 4)
    assert {m.step: m.why for m in found} == {
        0: "before a gain",
        1: "the lowest value",
        3: "the highest value",
    }


def test_values_and_gains_of_unlike_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"value \[3\] and gain \[2\]"):
        notable_moments(np.zeros(3), np.zeros(2), 1)


# --- the command ---


def test_a_run_is_explained_by_pictures_and_what_they_are(
    playfield: CommandLine, catch_run: Path
) -> None:
    result = playfield("explain", "catch", "--moments", "3", "--seed", "4")
    assert result.code == 0, result
    folder = catch_run / "explained"
    names = sorted(path.name for path in folder.iterdir())
    expected = [*(f"moment-0{n}.png" for n in (1, 2, 3)), "moments.json", "moments.png"]
    assert names == expected
    index = json.loads((folder / "moments.json").read_text())
    assert (index["checkpoint"], index["seed"]) == ("000000000120", 4)
    assert index["actions"] == ["LEFT", "STAY", "RIGHT"]
    steps = [moment["step"] for moment in index["moments"]]
    assert steps == sorted(steps) and all(0 <= step < 9 for step in steps)  # Catch has 9 actions
    assert all(len(moment["action_values"]) == 3 for moment in index["moments"])
    assert all(moment["value"] == max(moment["action_values"]) for moment in index["moments"])
    with Image.open(folder / "moment-01.png") as picture:
        colours = np.asarray(picture).reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) > 5
    for step in steps:
        assert f"step {step:>6,}" in result.out


def test_explaining_again_leaves_nothing_of_before(playfield: CommandLine, catch_run: Path) -> None:
    args = ("--method", "gradient", "--of", "value")
    for count in (4, 2):
        assert playfield("explain", "catch", "--moments", str(count), *args).code == 0
    assert len(list((catch_run / "explained").glob("moment-*.png"))) == 2


@pytest.mark.parametrize("option", ["--moments", "--steps"])
def test_no_moments_are_refused(playfield: CommandLine, catch_run: Path, option: str) -> None:
    assert f"{option} has to be 1 or more" in playfield.refuses("explain", "catch", option, "0")


def test_a_game_without_a_notable_moment_is_told(
    playfield: CommandLine, catch_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = scenes.scenes

    def diverged(*args: Any, **options: Any) -> Iterator[scenes.Scene]:
        return (replace(scene, value=float("nan")) for scene in played(*args, **options))

    monkeypatch.setattr(scenes, "scenes", diverged)
    # Catch rewards only the ninth step.
    sentence = playfield.refuses("explain", "catch", "--steps", "3")
    assert "No moment" in sentence and "--checkpoint" in sentence
    assert not (catch_run / "explained").exists()


def test_a_file_in_the_place_of_the_folder_is_told(
    playfield: CommandLine, catch_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("not a folder")
    sentence = playfield.refuses("explain", "catch", "--out", str(tmp_path / "taken"))
    assert "taken cannot be written" in sentence and "--out" in sentence
