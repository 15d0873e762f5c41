"""Optimisers against their papers' formulas, worked out by hand in float64."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import TINY, CommandLine, playfield
from torch import nn

from playfield.errors import UserError
from playfield.training.checkpoint import newest_intact
from playfield.training.gradient_step import GradientStep
from playfield.training.optimizers import (
    OptimizerConfig,
    build_optimizer,
    learning_rate,
    set_learning_rate,
)

__all__ = ["playfield"]  # a fixture

KINDS = ("sgd", "rmsprop", "adam", "adamw", "radam")
A, EPS, B1, B2, D, M = 0.1, 1e-3, 0.8, 0.95, 0.9, 0.7  # rate, epsilon, decays, momentum
SETTINGS: dict[str, Any] = {
    "learning_rate": A, "adam_eps": EPS, "beta1": B1, "beta2": B2, "rmsprop_decay": D,
}  # fmt: skip
W = np.array([[0.5, -2.0, 3.0]])
G1, G2 = np.array([[0.3, -0.01, 4.0]]), np.array([[-0.2, 0.5, 2.0]])


class Layer(nn.Module):
    """A weight, in float64."""

    def __init__(self, weight: np.ndarray) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float64))


def stepped(config: OptimizerConfig, gradients: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The weight that begins as `W`, after each of the steps by `gradients`."""
    layer = Layer(W)
    optimizer = build_optimizer(config, layer)
    weights = []
    for gradient in gradients:
        layer.weight.grad = torch.tensor(gradient)
        optimizer.step()
        weights.append(layer.weight.detach().numpy().copy())
    return weights


# --- the first two steps --------------------------------------------------------------------------


def adam_step(first: np.ndarray, second: np.ndarray | None = None) -> np.ndarray:
    """What Adam's step takes off (Kingma & Ba 2015, Algorithm 1), the sums written out."""
    if second is None:
        return A * first / (np.abs(first) + EPS)
    mean = (B1 * first + second) / (1 + B1)
    square = (B2 * first**2 + second**2) / (1 + B2)
    return A * mean / (np.sqrt(square) + EPS)


def test_sgd_goes_down_the_gradient() -> None:
    first, second = stepped(OptimizerConfig("sgd", **SETTINGS), [G1, G2])
    np.testing.assert_allclose(first, W - A * G1, rtol=1e-14)
    np.testing.assert_allclose(second, W - A * (G1 + G2), rtol=1e-14)


def test_momentum_adds_what_is_left_of_earlier_gradients() -> None:
    first, second = stepped(OptimizerConfig("sgd", **SETTINGS, momentum=M), [G1, G2])
    np.testing.assert_allclose(first, W - A * G1, rtol=1e-14)
    np.testing.assert_allclose(second, first - A * (M * G1 + G2), rtol=1e-14)


@pytest.mark.parametrize("momentum", [0.0, M])
def test_rmsprop_divides_by_the_root_of_the_mean_square_with_epsilon_outside(
    momentum: float,
) -> None:
    config = OptimizerConfig("rmsprop", **SETTINGS, momentum=momentum)
    first, second = stepped(config, [G1, G2])
    step1 = G1 / (np.sqrt((1 - D) * G1**2) + EPS)
    step2 = G2 / (np.sqrt((1 - D) * (D * G1**2 + G2**2)) + EPS) + momentum * step1
    np.testing.assert_allclose(first, W - A * step1, rtol=1e-12)
    np.testing.assert_allclose(second, W - A * (step1 + step2), rtol=1e-12)


def test_adam_divides_unbiased_means() -> None:
    first, second = stepped(OptimizerConfig("adam", **SETTINGS), [G1, G2])
    np.testing.assert_allclose(first, W - adam_step(G1), rtol=1e-12)
    np.testing.assert_allclose(second, first - adam_step(G1, G2), rtol=1e-12)


def test_radam_is_momentum_until_the_mean_square_can_be_trusted() -> None:
    """Liu et al. 2020, Algorithm 2: no division while the mean square has few terms."""
    first, second = stepped(OptimizerConfig("radam", **SETTINGS), [G1, G2])
    np.testing.assert_allclose(first, W - A * G1, rtol=1e-12)
    np.testing.assert_allclose(second, first - A * (B1 * G1 + G2) / (1 + B1), rtol=1e-12)


def test_radam_then_is_adam_times_its_rectification() -> None:
    """Under the same gradient always, unbiased means are that gradient and its square."""
    weights = [W, *stepped(OptimizerConfig("radam", **{**SETTINGS, "adam_eps": 1e-12}), [G1] * 12)]
    longest = 2 / (1 - B2) - 1
    kinds = set()
    for t in range(1, 13):
        length = longest - 2 * t * B2**t / (1 - B2**t)
        if length > 5:  # as the authors' code has it; 4 in the paper
            rectified = (length - 4) * (length - 2) * longest
            rectified /= (longest - 4) * (longest - 2) * length
            step = math.sqrt(rectified) * np.sign(G1)
        else:
            step = G1
        kinds.add(length > 5)
        np.testing.assert_allclose(weights[t], weights[t - 1] - A * step, rtol=1e-9)
    assert kinds == {False, True}


# --- weight decay ---------------------------------------------------------------------------------

L = 0.2


def test_adamw_shrinks_the_weight_beside_the_gradient() -> None:
    """Loshchilov & Hutter 2019, Algorithm 2, with the decay scaled by the learning rate."""
    first, second = stepped(OptimizerConfig("adamw", **SETTINGS, weight_decay=L), [G1, G2])
    np.testing.assert_allclose(first, (1 - A * L) * W - adam_step(G1), rtol=1e-12)
    np.testing.assert_allclose(second, (1 - A * L) * first - adam_step(G1, G2), rtol=1e-12)


def test_adam_adds_the_weight_to_the_gradient() -> None:
    first, second = stepped(OptimizerConfig("adam", **SETTINGS, weight_decay=L), [G1, G2])
    g1, g2 = G1 + L * W, G2 + L * first
    np.testing.assert_allclose(first, W - adam_step(g1), rtol=1e-12)
    np.testing.assert_allclose(second, first - adam_step(g1, g2), rtol=1e-12)


@pytest.mark.parametrize("kind", ["sgd", "rmsprop", "radam"])
def test_elsewhere_decay_is_a_term_of_the_gradient_too(kind: Any) -> None:
    (decayed,) = stepped(OptimizerConfig(kind, **SETTINGS, weight_decay=L, momentum=M), [G1])
    (plain,) = stepped(OptimizerConfig(kind, **SETTINGS, momentum=M), [G1 + L * W])
    np.testing.assert_allclose(decayed, plain, rtol=1e-12)


class Normed(nn.Module):
    """Every kind of parameter there is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3)
        self.over_pixels = nn.LayerNorm([3, 4, 4])  # gains of three dimensions
        self.batch, self.group = nn.BatchNorm2d(3), nn.GroupNorm(1, 3)
        self.out = nn.Linear(3, 2)
        self.distance_bias = nn.Parameter(torch.zeros(4, 4))  # as attention has it


@pytest.mark.parametrize("kind", KINDS)
def test_biases_and_norms_do_not_decay(kind: Any) -> None:
    network = Normed()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.5)
            parameter.grad = torch.zeros_like(parameter)
    build_optimizer(OptimizerConfig(kind, learning_rate=0.1, weight_decay=0.1), network).step()
    moved = {name for name, p in network.named_parameters() if not bool((p == 0.5).all())}
    assert moved == {"conv.weight", "out.weight"}
    assert all(bool((p <= 0.5).all()) for p in network.parameters())


def test_moments_saved_before_there_was_a_choice_of_optimiser_go_on() -> None:
    old, new = Normed(), Normed()
    new.load_state_dict(old.state_dict())
    before = torch.optim.Adam(old.parameters(), 0.01, eps=1e-4, fused=True)
    after = build_optimizer(OptimizerConfig(learning_rate=0.01, adam_eps=1e-4), new)

    def step(network: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in network.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()

    step(old, before, 1)
    new.load_state_dict(old.state_dict())
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    step(old, before, 2)
    step(new, after, 2)
    assert all(torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True))


# --- in a gradient step ---------------------------------------------------------------------------

GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
#: Kind, device, and whether the decision to skip is left to the kernel, as on accelerators.
PATHS = [
    *((kind, "cpu", False) for kind in KINDS),
    *((kind, "cpu", True) for kind in ("sgd", "adam", "adamw")),
    *(pytest.param(kind, "cuda", None, marks=GPU) for kind in KINDS),
]


@pytest.fixture
def unwritten_memory_is_nan() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)  # fills what torch.empty gives
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("unwritten_memory_is_nan")
@pytest.mark.parametrize(("kind", "device", "on_device"), PATHS)
def test_a_skipped_step_leaves_no_trace_even_if_it_is_the_first(
    kind: Any, device: str, on_device: bool | None
) -> None:
    config = OptimizerConfig(kind, learning_rate=0.1, momentum=0.9, weight_decay=0.1)

    def learnt(scales: Sequence[float]) -> torch.Tensor:
        torch.manual_seed(0)
        network = nn.Linear(3, 2).to(device)
        step = GradientStep(build_optimizer(config, network), network.named_parameters(), 1.0)
        if on_device is not None:
            step._decides_on_device = on_device
        x = torch.ones(1, 3, device=device)
        for scale in scales:
            step.step(scale * (network(x) - 1).abs().sum())
        assert int(step.skipped) == sum(map(math.isnan, scales))
        return network.weight.detach().cpu()

    torch.testing.assert_close(learnt([math.nan, 1, math.nan, 1]), learnt([1, 1]))


# --- the learning rate ----------------------------------------------------------------------------


def rates(config: OptimizerConfig, steps: int | None, at: Sequence[float]) -> list[float]:
    return list(map(learning_rate(config, steps), at))


def test_a_line_falls_to_zero_with_the_end_of_the_run() -> None:
    config = OptimizerConfig(learning_rate=0.4, schedule="linear")
    assert rates(config, 200, [0, 50, 150, 200, 300]) == pytest.approx([0.4, 0.3, 0.1, 0, 0])


def test_schedule_steps_end_it_sooner_and_the_final_rate_stays() -> None:
    config = OptimizerConfig(
        learning_rate=0.4, schedule="linear", schedule_steps=100, final_learning_rate=0.2
    )
    for steps in (200, None):
        assert rates(config, steps, [0, 50, 100, 150]) == pytest.approx([0.4, 0.3, 0.2, 0.2])


def test_a_cosine_falls_fastest_in_the_middle() -> None:
    config = OptimizerConfig(learning_rate=0.4, schedule="cosine", final_learning_rate=0.2)
    a_third = 0.2 + 0.2 * 0.75  # cos(60 degrees) is a half
    assert rates(config, 300, [0, 100, 150, 300, 400]) == pytest.approx(
        [0.4, a_third, 0.3, 0.2, 0.2]
    )


def test_steps_multiply_again_and_again() -> None:
    config = OptimizerConfig(learning_rate=0.8, schedule="step", step_every=10, step_factor=0.5)
    assert rates(config, None, [0, 9, 10, 19, 20, 35]) == [0.8, 0.8, 0.4, 0.4, 0.2, 0.1]


def test_a_warm_up_is_a_factor_on_any_schedule() -> None:
    constant = OptimizerConfig(learning_rate=0.4, warmup_steps=10)
    assert rates(constant, None, [0, 5, 10, 20]) == pytest.approx([0, 0.2, 0.4, 0.4])
    line = OptimizerConfig(learning_rate=0.4, schedule="linear", warmup_steps=100)
    assert rates(line, 200, [0, 50, 100, 200]) == pytest.approx([0, 0.5 * 0.3, 0.2, 0])


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_schedule_that_ends_with_a_run_of_unknown_length_is_refused(schedule: Any) -> None:
    with pytest.raises(UserError, match=f"schedule={schedule} .* schedule_steps"):
        learning_rate(OptimizerConfig(schedule=schedule), None)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_a_new_rate_is_that_of_the_next_step_in_every_group(decay: float) -> None:
    layer = nn.Linear(2, 1)
    optimizer = build_optimizer(OptimizerConfig("sgd", 0.1, weight_decay=decay), layer)
    set_learning_rate(optimizer, 0.0)
    before = copy.deepcopy(layer.state_dict())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    torch.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)


def newest_rate(root: Path, run: str) -> float:
    """The learning rate of the last update before the newest checkpoint."""
    checkpoint = newest_intact(root / run / "checkpoints", pytest.fail)
    assert checkpoint is not None
    optimizer = checkpoint.state["trainer"]["gradient_step"]["optimizer"]
    return optimizer["param_groups"][0]["lr"]


def test_a_line_ends_with_the_run_and_with_more_steps_at_its_new_end(
    playfield: CommandLine,
) -> None:
    # Updates at 48, 56, ..., each after 8 steps: the last at 112 of 120, then at 192 of 200.
    line = ("--schedule", "linear", "--learning-rate", "1e-3")
    assert playfield("train", "dqn", *TINY, *line, "--steps", "120", "--run", "line").code == 0
    assert newest_rate(playfield.root, "line") == pytest.approx(1e-3 * (1 - 72 / 80))
    assert playfield("resume", "line", "--steps", "200").code == 0
    assert newest_rate(playfield.root, "line") == pytest.approx(1e-3 * (1 - 152 / 160))


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("learning_rate", 0.0, "learning_rate has to be more than 0"),
        ("learning_rate", math.nan, "learning_rate has to be more than 0"),
        ("learning_rate", math.inf, "learning_rate has to be more than 0"),
        ("final_learning_rate", -0.1, "final_learning_rate has to be 0 or more"),
        ("schedule_steps", 0, "schedule_steps has to be 1 or more"),
        ("step_every", 0, "step_every has to be more than 0"),
        ("step_factor", 0.0, "step_factor has to be more than 0"),
        ("warmup_steps", -1, "warmup_steps has to be 0 or more"),
        ("adam_eps", 0.0, "adam_eps has to be more than 0"),
        ("beta1", 1.0, "beta1 has to be at least 0 and below 1"),
        ("beta2", math.nan, "beta2 has to be at least 0 and below 1"),
        ("rmsprop_decay", -0.1, "rmsprop_decay has to be at least 0 and below 1"),
        ("momentum", 1.0, "momentum has to be at least 0 and below 1"),
        ("weight_decay", math.nan, "weight_decay has to be 0 or more"),
        ("max_grad_norm", 0.0, "max_grad_norm has to be more than 0"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(field: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        OptimizerConfig(**{field: value})


def test_all_of_it_is_set_by_flat_options(playfield: CommandLine) -> None:
    shown = playfield(
        *("train", "dqn", "--env", "playfield/Catch-v0", "--dry-run", "--optimizer", "adamw"),
        *("--weight-decay", "0.01", "--schedule", "cosine", "--max-grad-norm", "None"),
        *("--encoder", "nature", "--width", "0.5"),
    )
    config = json.loads(shown.out)["config"]
    chosen = {"optimizer": "adamw", "weight_decay": 0.01, "schedule": "cosine"}
    assert chosen.items() <= config["optimizer"].items()
    assert config["optimizer"]["max_grad_norm"] is None
    assert config["optimizer"]["adam_eps"] == 1.5e-4  # DQN's own default
    assert {"encoder": "nature", "width": 0.5}.items() <= config["encoder"].items()
