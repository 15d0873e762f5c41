"""Where an agent looks: networks whose answer is known by hand, and the agents' own."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from playfield.agents.actor_critic import ActorCriticPolicy
from playfield.agents.encoders import EncoderConfig, MemoryConfig
from playfield.agents.greedy import GreedyPolicy
from playfield.agents.ppo import PPOConfig
from playfield.evaluation.saliency import (
    Method,
    gaussian_blur,
    gradient_saliency,
    perturbation_saliency,
    saliency,
    smoothed,
)
from playfield.nets.actor_critic import ActorCritic
from playfield.nets.encoders import SmallCNN
from playfield.nets.q_heads import QHead, QNetwork
from playfield.training.trainer import Decision, Scores

CPU = torch.device("cpu")


class Looker:
    """Looks at one pixel for its value, and at another for its second action."""

    stack = 2

    def __init__(self, value: dict[tuple[int, int, int], float], at: tuple[int, int, int]) -> None:
        self.weights, self.at = value, at

    def act(self, obs: torch.Tensor, first: NDArray[np.bool_]) -> Decision:
        raise AssertionError("nobody plays here")

    def scores(self, obs: torch.Tensor) -> Scores:
        value = sum(
            (weight * obs[:, c, i, j] for (c, i, j), weight in self.weights.items()),
            torch.zeros(len(obs)),
        )
        c, i, j = self.at
        return Scores(value, torch.stack([torch.zeros_like(value), obs[:, c, i, j]], 1))


def noise(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def only(height: int, width: int, places: dict[tuple[int, int], float]) -> NDArray[np.float32]:
    expected = np.zeros((height, width), np.float32)
    for place, value in places.items():
        expected[place] = value
    return expected


# --- gradient ---


def test_a_network_that_looks_at_one_pixel_has_its_gradient_there_and_nowhere_else() -> None:
    looker = Looker({(0, 3, 5): -0.25}, at=(0, 0, 0))
    found = saliency(looker, noise(1, 2, 8, 9), 0, method="gradient", target="value")
    assert np.array_equal(found, only(8, 9, {(3, 5): 0.25}))


def test_a_place_is_one_in_all_frames_of_the_stack() -> None:
    looker = Looker({(0, 3, 5): 2.0, (1, 3, 5): -3.0}, at=(0, 0, 0))
    found = gradient_saliency(looker, noise(1, 2, 8, 9).float(), 0, "value")
    assert np.array_equal(found, only(8, 9, {(3, 5): 5.0}))


def test_the_gradient_of_actions_is_that_of_the_one_chosen() -> None:
    looker = Looker({(0, 3, 5): 2.0}, at=(1, 6, 2))
    obs = noise(1, 2, 8, 9).float()
    assert np.array_equal(gradient_saliency(looker, obs, 1, "actions"), only(8, 9, {(6, 2): 1.0}))


def test_smoothing_spreads_a_pixel_and_keeps_the_whole() -> None:
    heat = only(84, 84, {(40, 30): 8.0})
    shown = smoothed(heat)
    assert shown.sum() == pytest.approx(8.0, rel=1e-4)
    assert np.unravel_index(shown.argmax(), shown.shape) == (40, 30)
    assert shown[40, 32] == pytest.approx(shown[40, 30] * np.exp(-0.5), rel=1e-3)
    small = only(10, 5, {(3, 2): 1.0})
    assert np.array_equal(smoothed(small), small)


# --- perturbation ---


def test_the_blur_is_scipy_s() -> None:
    images = noise(2, 3, 20, 13).float()
    expected = gaussian_filter(images.numpy(), (0, 0, 1.7, 1.7), mode="nearest", truncate=4.0)
    # scipy rounds the reach of 6.8 pixels to 7, as the ceiling does here.
    assert np.allclose(gaussian_blur(images, 1.7).numpy(), expected, atol=1e-3)


def test_a_perturbation_is_half_the_square_of_what_the_blur_changes() -> None:
    # 16 pixels a side: a place at every pixel, a bell of deviation 5 * 16/80 = 1 and, at least, a
    # blur of deviation 1. The value is w x pixel, so the change is w M (A - I) in closed form.
    obs = noise(1, 1, 16, 16).float()
    found = perturbation_saliency(Looker({(0, 4, 9): 0.1}, at=(0, 0, 0)), obs, "value")
    blurred = gaussian_filter(obs[0, 0].numpy(), 1.0, mode="nearest", truncate=4.0)
    rows, columns = np.indices((16, 16))
    mask = np.exp(-0.5 * ((rows - 4) ** 2 + (columns - 9) ** 2))
    expected = 0.5 * (0.1 * mask * (blurred[4, 9] - float(obs[0, 0, 4, 9]))) ** 2
    assert np.allclose(found, expected, rtol=1e-3, atol=1e-6)


def test_at_atari_s_size_only_what_is_near_the_pixel_matters() -> None:
    looker = Looker({(1, 40, 60): 1.0}, at=(0, 0, 0))
    found = perturbation_saliency(looker, noise(1, 2, 84, 84).float(), "value")
    peak = np.unravel_index(found.argmax(), found.shape)
    assert np.hypot(peak[0] - 40, peak[1] - 60) <= 5 / np.sqrt(2)  # the nearest of the places
    rows, columns = np.indices(found.shape)
    far = np.hypot(rows - 40, columns - 60) > 35
    assert found.max() > 0 and found[far].max() < 1e-6 * found.max()


def test_where_nothing_is_to_be_seen_a_blur_changes_nothing() -> None:
    looker = Looker({(0, 10, 10): 1.0}, at=(0, 0, 0))
    flat = torch.full((1, 2, 84, 84), 77, dtype=torch.uint8)
    found = saliency(looker, flat, 0, method="perturbation", target="value")
    assert np.allclose(found, 0, atol=1e-8)


def test_the_actions_perturbation_sums_over_all_of_them() -> None:
    obs = noise(1, 2, 10, 5).float()
    one = Looker({(0, 4, 2): 1.0}, at=(0, 4, 2))  # its second action is worth its value
    found = [perturbation_saliency(one, obs, target) for target in ("value", "actions")]
    assert found[0].max() > 0 and np.allclose(found[0], found[1])


def test_vectors_have_no_places() -> None:
    with pytest.raises(ValueError, match=r"\[1, 4\], not \[1, C, H, W\]"):
        saliency(Looker({}, (0, 0, 0)), torch.zeros(1, 4), 0, method="gradient", target="value")


# --- the agents' own ---


def actor_critic(memory: MemoryConfig, device: torch.device = CPU) -> ActorCriticPolicy:
    from playfield.agents.actor_critic import build_network
    from playfield.envs.contract import EnvSpec

    spec = EnvSpec("test", (1, 6, 6), "uint8", 3, ("A", "B", "C"))
    config = PPOConfig(
        stack=1, hidden=8, encoder=EncoderConfig("small"), memory=memory, precision="float32"
    )
    network: ActorCritic = build_network(config, spec, 0, CPU)
    torch.nn.init.normal_(network.policy.weight, generator=torch.Generator().manual_seed(1))
    return ActorCriticPolicy(network.to(device), 1, device)


@pytest.mark.parametrize("memory", ["none", "lstm", "transformer"])
def test_scores_of_what_was_seen_are_those_that_it_acted_on(memory: str) -> None:
    config = MemoryConfig(memory, memory_units=8, memory_window=4)  # type: ignore[arg-type]
    policy, other = actor_critic(config), actor_critic(config)
    for step in range(4):
        obs = noise(2 + step, 1, 6, 6)[-2:]
        first = np.array([step in (0, 2), step == 0])
        decision = policy.act(obs, first)
        scores = policy.scores(obs[:1].float())
        assert scores.value.item() == pytest.approx(decision.value[0], abs=1e-6)
        chances = scores.preference.softmax(1)[0].detach().numpy()
        assert np.allclose(chances, decision.preference[0], atol=1e-6)
        # Asking changes nothing: another agent, never asked, does the same.
        again = other.act(obs, first)
        assert np.array_equal(again.action, decision.action)
        assert np.array_equal(again.value, decision.value)


def test_q_values_are_their_own_scores_and_asking_leaves_no_trace() -> None:
    encoder = SmallCNN((1, 6, 6))
    network = QNetwork(encoder, QHead(encoder.features, 8, 3)).train()
    policy = GreedyPolicy(network, 1, CPU)
    obs = noise(1, 1, 6, 6)
    decision = policy.act(obs, np.ones(1, bool))
    scores = policy.scores(obs.float())
    assert np.allclose(scores.preference.detach().numpy(), decision.preference, atol=1e-6)
    assert scores.value.item() == pytest.approx(decision.value[0])
    found = saliency(policy, obs, 0, method="gradient", target="value")
    assert found.shape == (6, 6) and found.max() > 0
    assert network.training and all(weight.grad is None for weight in network.parameters())


@pytest.mark.parametrize("memory", ["none", "lstm"])
def test_a_gradient_equals_the_slope_between_two_neighbours(memory: str) -> None:
    policy = actor_critic(MemoryConfig(memory, memory_units=8))  # type: ignore[arg-type]
    obs = noise(1, 1, 6, 6)
    for first in (True, False, False):
        policy.act(obs, np.array([first]))
    found = saliency(policy, obs, 1, method="gradient", target="actions")
    up, down = (obs.float().clone() for _ in range(2))
    up[0, 0, 2, 3] += 0.5
    down[0, 0, 2, 3] -= 0.5
    logits = policy.scores(torch.cat([up, down])).preference[:, 1].detach()
    assert found[2, 3] == pytest.approx(abs(float(logits[0] - logits[1])), rel=0.05, abs=1e-5)


def test_only_scores_with_a_graph_do_without_cudnn_which_has_no_backward_at_play() -> None:
    policy = actor_critic(MemoryConfig("lstm", memory_units=8))
    obs = noise(1, 1, 6, 6)
    policy.act(obs, np.array([True]))
    on = []
    policy.network.memory.register_forward_pre_hook(  # type: ignore[union-attr, operator]
        lambda *_: on.append(torch.backends.cudnn.enabled)
    )
    before = torch.backends.cudnn.enabled
    for method in ("gradient", "perturbation"):
        saliency(policy, obs, 1, method=method, target="actions")  # type: ignore[arg-type]
    assert on[0] is False and len(on) > 1 and set(on[1:]) == {before}
    assert torch.backends.cudnn.enabled == before


@pytest.mark.gpu
@pytest.mark.parametrize("memory", ["lstm", "gru"])
@pytest.mark.parametrize("method", ["gradient", "perturbation"])
def test_saliency_on_the_gpu_is_that_of_the_processor(
    method: Method, memory: Literal["lstm", "gru"]
) -> None:
    found = []
    for device in (CPU, torch.device("cuda")):
        policy = actor_critic(MemoryConfig(memory, memory_units=8), device)
        for step in range(3):
            policy.act(noise(1, 1, 6, 6), np.array([step == 0]))
        found.append(saliency(policy, noise(1, 1, 6, 6), 1, method=method, target="actions"))
    assert np.allclose(found[0], found[1], rtol=1e-2, atol=1e-5)
