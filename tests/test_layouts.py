"""The Custom Scalars page draws curves that exist; the card tells what a run is."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fake_trainer import manifest

from playfield.training.layouts import LAYOUTS, Family, family
from playfield.training.metrics import METRICS
from playfield.training.run_card import card, settings


@pytest.mark.parametrize("kind", LAYOUTS)
def test_every_chart_draws_metrics_that_exist(kind: Family) -> None:
    for category in LAYOUTS[kind]:
        for chart in category.lines:
            for tag in chart.tags:
                assert [name for name in METRICS if re.fullmatch(tag, name)], tag
        for band in category.bands:
            assert {band.value, band.lower, band.upper} <= METRICS.keys()


@pytest.mark.parametrize("kind", LAYOUTS)
def test_no_title_comes_twice_where_tensorboard_would_merge_them(kind: Family) -> None:
    for category in LAYOUTS[kind]:
        titles = [chart.title for chart in (*category.bands, *category.lines)]
        assert len(set(titles)) == len(titles)
    # Categories of one title have to be the same wherever they come.
    for other in LAYOUTS.values():
        for category in LAYOUTS[kind]:
            assert [c for c in other if c.title == category.title] in ([], [category])


def test_a_run_s_family_is_told_by_what_it_learns() -> None:
    painting = {
        name: value for name, value in manifest().items() if name not in ("env", "protocol")
    }
    painting |= {"algorithm": "flow", "data": {"name": "digits"}}
    assert family(manifest()) == "agent"
    assert family(painting) == "painter"
    assert family({**painting, "algorithm": "gan"}) == "gan"
    assert (
        family({**painting, "algorithm": "classifier", "held_out": {"part": 0.1}}) == "classifier"
    )


FULL: dict[str, Any] = {
    **manifest(),
    "command": ["playfield", "train", "dqn", "--env", "ALE/Pong-v5", "--run", "a b|c"],
    "preset": "pong",
    "config": {"gamma": 0.99, "double": True, "stack": None, "optimizer": {"learning_rate": 1e-4}},
    "training": {"steps": 100, "betas": [0.9, 0.999]},
    "protocol": {"sticky_actions": 0.25, "name": "machado2018"},
    "versions": {"torch": "2.9", "note": "two | columns\nand lines"},
    "hardware": {"cpu": "Some CPU", "gpus": ["A", "B"]},
    "git": {"commit": "0123abc", "dirty": True},
}


def test_the_card_tells_command_conditions_and_how_to_go_on() -> None:
    told = card(FULL, "runs/a b")
    assert "playfield train dqn --env ALE/Pong-v5 --run 'a b|c'" in told
    assert "playfield resume 'runs/a b'" in told
    for said in (
        "| environment | ALE/Pong-v5 |",
        "| commit | 0123abc and changes on top |",
        "| optimizer.learning_rate | 0.0001 |",
        "| name | machado2018 |",
        "| torch | 2.9 |",
        '| gpus | ["A", "B"] |',
    ):
        assert said in told, said


def test_a_value_cannot_break_the_card_s_table() -> None:
    (line,) = [line for line in card(FULL, "a").splitlines() if "note" in line]
    assert line == r"| note | two \| columns and lines |"


def test_a_card_of_a_run_that_says_little_has_no_empty_tables() -> None:
    told = card(manifest(), "a")
    assert "Versions" not in told
    assert "preset" not in told
    assert "commit" not in told


def test_settings_are_flat_and_of_kinds_that_a_table_sorts() -> None:
    assert settings(FULL) == {
        "algorithm": "dqn",
        "on": "ALE/Pong-v5",
        "preset": "pong",
        "seed": 0,
        "device": "cpu",
        "gamma": 0.99,
        "double": True,
        "stack": "none",
        "optimizer.learning_rate": 1e-4,
        "training.steps": 100,
        "training.betas": "[0.9, 0.999]",
        "protocol.sticky_actions": 0.25,
        "protocol.name": "machado2018",
    }
