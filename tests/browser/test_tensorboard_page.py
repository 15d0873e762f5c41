"""TensorBoard in a real browser, on short runs of DQN, PPO, a GAN and diffusion."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tensorboard_page import TensorBoardPage

from playfield.training.logs import read_metrics

if TYPE_CHECKING:
    from playwright.sync_api import Locator

AGENTS = ("dqn", "ppo")
PAINTERS = ("gan", "diffusion")


def newest(run: Path, name: str) -> float:
    return [float(line[name]) for line in read_metrics(run / "metrics.jsonl") if name in line][-1]


def test_a_curve_is_drawn_once_for_each_run_that_has_it_the_resumed_one_too(
    tensorboard: TensorBoardPage,
) -> None:
    runs_with = {"episode/return_mean": 2, "eval/return": 2, "train/loss": 3, "gan/real_sign": 1}
    tensorboard.open("scalars", f"^({'|'.join(runs_with)})$")
    for tag, count in runs_with.items():
        lines = tensorboard.lines(tensorboard.card("tf-scalar-card", tag), count)
        assert len(lines) == count, tag
        for line in lines:  # none runs back over steps that it has drawn
            assert all(left < right for left, right in pairwise(line)), tag


def test_what_painters_paint_is_seen(tensorboard: TensorBoardPage) -> None:
    tensorboard.open("images", "^samples/")
    for tag in ("samples/averaged", "samples/newest", "samples/nearest"):
        for run in PAINTERS:
            shown = tensorboard.picture(tensorboard.card("tf-image-loader", tag, run))
            found = tensorboard.frames(shown)
            assert (found["type"], found["animated"]) == ("image/png", False), (tag, run)


def test_a_game_of_an_evaluation_moves_before_the_readers_eyes(
    tensorboard: TensorBoardPage, moves: Callable[[Locator], bool]
) -> None:
    tensorboard.open("images", "^eval/game$")
    for run in AGENTS:
        shown = tensorboard.picture(tensorboard.card("tf-image-loader", "eval/game", run))
        found = tensorboard.frames(shown)
        assert found["animated"] and found["frames"] == 10, run  # a game of Catch: 9 steps
        assert moves(shown), run


def test_distributions_of_actions_and_weights_are_drawn(tensorboard: TensorBoardPage) -> None:
    tensorboard.open("histograms", "^(eval/actions|weights/(encoder|input))$")
    for tag, run in (
        *(("eval/actions", run) for run in AGENTS),
        *(("weights/encoder", run) for run in ("dqn", "ppo", "diffusion")),
        ("weights/input", "gan"),
    ):
        card = tensorboard.card("tf-histogram-loader", tag, run)
        card.locator("g.histogram path.outline").nth(1).wait_for(state="attached")


def test_the_table_of_settings_has_a_row_for_each_run_with_how_it_came_out(
    tensorboard: TensorBoardPage, runs: Path
) -> None:
    tensorboard.open("hparams")
    tensorboard.show_metric("eval/return")
    header, *rows = tensorboard.grid("dqn")
    assert {row[0] for row in rows} == {*AGENTS, *PAINTERS}
    for row in rows:
        cells = dict(zip(header, row, strict=False))  # of which the last is empty
        assert cells["algorithm"] == cells["Trial ID"]
        if cells["algorithm"] in AGENTS:
            score = newest(runs / cells["algorithm"], "eval/return")
            assert float(cells["eval/return"]) == pytest.approx(score, rel=1e-3)
        else:
            assert cells["eval/return"] == ""


def test_the_custom_page_groups_each_familys_charts_and_shades_the_spread_of_returns(
    tensorboard: TensorBoardPage,
) -> None:
    tensorboard.open("custom_scalars")
    band = tensorboard.page.locator("tf-custom-scalar-margin-chart-card").first
    tensorboard.lines(band, 2)
    areas = band.locator('.area-plot path[d*="L"]')
    areas.nth(1).wait_for(state="attached")
    categories = tensorboard.page.locator(".category-name").all_inner_texts()
    for family in ("Agent", "Painting", "GAN"):
        about = [name.partition(": ")[2] for name in categories if name.startswith(f"{family}: ")]
        assert {"health", "speed"} < set(about), categories
    for chart, count in (("Return of evaluations", 2), ("Loss by noise", 3)):
        card = tensorboard.card("tf-custom-scalar-multi-line-chart-card", chart)
        assert len(tensorboard.lines(card, count)) >= count, chart


def test_each_run_has_a_card_that_says_how_to_go_on_with_it(tensorboard: TensorBoardPage) -> None:
    tensorboard.open("text", "^run/card$")
    for run in (*AGENTS, *PAINTERS):
        card = tensorboard.card("tf-text-loader", "run/card", run)
        card.get_by_text(re.compile(rf"playfield resume .*{run}")).first.wait_for()
