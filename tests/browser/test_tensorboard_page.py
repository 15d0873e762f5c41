"""TensorBoard in a real browser, on short runs of DQN, PPO, a GAN and diffusion."""

from __future__ import annotations

from tensorboard_page import TensorBoardPage

PAINTERS = ("gan", "diffusion")


def test_a_curve_is_drawn_for_each_run_that_has_it(tensorboard: TensorBoardPage) -> None:
    runs_with = {"episode/return_mean": 2, "eval/return": 2, "train/loss": 3, "gan/real_sign": 1}
    tensorboard.open("scalars", f"^({'|'.join(runs_with)})$")
    for tag, count in runs_with.items():
        card = tensorboard.card("tf-scalar-card", tag)
        assert tensorboard.curves(card, count) == count, tag


def test_what_painters_paint_is_seen(tensorboard: TensorBoardPage) -> None:
    tensorboard.open("images", "^samples/")
    for tag in ("samples/averaged", "samples/newest", "samples/nearest"):
        for run in PAINTERS:
            shown = tensorboard.picture(tensorboard.card("tf-image-loader", tag, run))
            found = tensorboard.frames(shown)
            assert (found["type"], found["animated"]) == ("image/png", False), (tag, run)
