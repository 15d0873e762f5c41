"""The gradient step: torch's own clipping as the oracle, and nothing moves on a non-finite one."""

import copy
import math

import pytest
import torch

from playfield.training.gradient_step import GradientStep
from playfield.training.state_codec import decode_state, encode_state

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
GPU = [pytest.mark.gpu, needs_cuda]
#: Device, fused optimiser, and whether the device decides. Fused optimisers on the CPU know
#: `found_inf` too, so the accelerators' path is held to the same facts where there is none.
PATHS = [
    ("cpu", True, False),
    ("cpu", False, False),
    ("cpu", True, True),
    pytest.param("cuda", True, True, marks=GPU),
    pytest.param("cuda", False, False, marks=GPU),
]


def _network(device: str) -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 2)).to(
        device
    )


def _step(
    network: torch.nn.Module,
    max_norm: float | None = None,
    *,
    fused: bool = True,
    on_device: bool = False,
) -> GradientStep:
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, fused=fused)
    gradient_step = GradientStep(optimizer, network.named_parameters(), max_norm)
    gradient_step._decides_on_device = on_device
    return gradient_step


def _loss(network: torch.nn.Module, seed: int, device: str, scale: float = 1.0) -> torch.Tensor:
    x = torch.randn(16, 5, generator=torch.Generator().manual_seed(seed)).to(device)
    return scale * (network(x) - 1).square().mean()


@pytest.mark.parametrize(("device", "fused", "on_device"), PATHS)
@pytest.mark.parametrize("max_norm", [None, 0.05, 1e6])
def test_a_step_is_torch_s_own_clipping_and_step(
    device: str, fused: bool, on_device: bool, max_norm: float | None
) -> None:
    ours, theirs = _network(device), _network(device)
    gradient_step = _step(ours, max_norm, fused=fused, on_device=on_device)
    optimizer = torch.optim.Adam(theirs.parameters(), lr=0.01, fused=fused)
    for seed in range(5):
        norm = gradient_step.step(_loss(ours, seed, device))
        optimizer.zero_grad()
        _loss(theirs, seed, device).backward()
        bound = math.inf if max_norm is None else max_norm
        expected = torch.nn.utils.clip_grad_norm_(theirs.parameters(), bound)
        optimizer.step()
        torch.testing.assert_close(norm, expected)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert gradient_step.taken == 5
    assert gradient_step.diagnosis() is None


@pytest.mark.parametrize(("device", "fused", "on_device"), PATHS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_non_finite_loss_moves_neither_weights_nor_moments(
    device: str, fused: bool, on_device: bool, bad: float
) -> None:
    network = _network(device)
    gradient_step = _step(network, 1.0, fused=fused, on_device=on_device)
    gradient_step.step(_loss(network, 0, device))
    before = copy.deepcopy((network.state_dict(), gradient_step.optimizer.state_dict()["state"]))
    gradient_step.step(_loss(network, 1, device, scale=bad))
    after = (network.state_dict(), gradient_step.optimizer.state_dict()["state"])
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert (int(gradient_step.skipped), int(gradient_step.skipped_in_a_row)) == (1, 1)
    gradient_step.step(_loss(network, 2, device))
    assert (int(gradient_step.skipped), int(gradient_step.skipped_in_a_row)) == (1, 0)
    assert "the loss is" in str(gradient_step.diagnosis())


@pytest.mark.parametrize(("device", "fused", "on_device"), PATHS)
def test_a_bad_gradient_under_a_finite_loss_is_named(
    device: str, fused: bool, on_device: bool
) -> None:
    network = _network(device)
    gradient_step = _step(network, fused=fused, on_device=on_device)
    # The gradient of sqrt at 0 is infinite, and its value isn't.
    loss = (network[2].bias - network[2].bias.detach()).abs().sqrt().sum()
    gradient_step.step(loss + 0 * _loss(network, 0, device))
    text = str(gradient_step.diagnosis())
    assert "2.bias" in text
    assert "0.weight" not in text
    assert int(gradient_step.skipped) == 1


def test_the_newest_skipped_step_is_the_one_diagnosed() -> None:
    network = _network("cpu")
    gradient_step = _step(network)
    gradient_step.step(_loss(network, 0, "cpu", scale=math.nan))
    gradient_step.step(_loss(network, 0, "cpu", scale=math.inf))
    assert gradient_step.diagnosis() == "the loss is inf"


def test_parameters_without_a_gradient_are_left_alone() -> None:
    network = _network("cpu")
    gradient_step = _step(network, 1.0)
    before = network[0].weight.clone()
    gradient_step.step(network[2].bias.square().sum())
    assert torch.equal(network[0].weight, before)
    gradient_step.step(network[2].bias.sum() * math.nan)
    assert int(gradient_step.skipped) == 1


def test_a_restored_gradient_step_goes_on_bit_for_bit() -> None:
    first = _network("cpu")
    whole = _step(first, 1.0)
    for seed in range(3):
        whole.step(_loss(first, seed, "cpu"))
    whole.step(_loss(first, 3, "cpu", scale=math.nan))
    second = copy.deepcopy(first)
    resumed = _step(second, 1.0)
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    assert resumed.taken == 4
    assert (int(resumed.skipped), int(resumed.skipped_in_a_row)) == (1, 1)
    for seed in range(4, 7):
        whole.step(_loss(first, seed, "cpu"))
        resumed.step(_loss(second, seed, "cpu"))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("device", "fused", "on_device"), PATHS)
def test_moments_from_a_file_meet_their_own_elements_of_a_channels_last_weight(
    device: str, fused: bool, on_device: bool
) -> None:
    def fresh() -> tuple[torch.nn.Conv2d, GradientStep]:
        torch.manual_seed(0)
        network = torch.nn.Conv2d(4, 8, 3).to(device).to(memory_format=torch.channels_last)
        return network, _step(network, fused=fused, on_device=on_device)

    def learn(network: torch.nn.Conv2d, gradient_step: GradientStep, seed: int) -> None:
        x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(seed)).to(device)
        gradient_step.step((network(x) - 1).square().mean())

    (first, whole), (second, resumed) = fresh(), fresh()
    for seed in range(3):
        learn(first, whole, seed)
    saved = {"network": first.state_dict(), "gradient_step": whole.state_dict()}
    state = decode_state(*encode_state(saved))  # files know no strides
    second.load_state_dict(state["network"])
    resumed.load_state_dict(state["gradient_step"])
    for seed in range(3, 6):
        learn(first, whole, seed)
        learn(second, resumed, seed)
    # CUDA's convolutions may add up in another order each time.
    atol = 0.0 if device == "cpu" else 1e-5
    torch.testing.assert_close(second.weight, first.weight, rtol=0.0, atol=atol)


def test_moments_of_another_network_are_refused_by_name() -> None:
    network = _network("cpu")
    gradient_step = _step(network)
    gradient_step.step(_loss(network, 0, "cpu"))
    state = copy.deepcopy(gradient_step.state_dict())
    state["optimizer"]["state"][2]["exp_avg"] = torch.zeros(2, 9)
    with pytest.raises(ValueError, match=r"exp_avg of 2\.weight has shape \(2, 9\)"):
        gradient_step.load_state_dict(state)


def test_parameters_that_the_optimiser_does_not_hold_are_refused() -> None:
    network = _network("cpu")
    optimizer = torch.optim.SGD(network[0].parameters(), lr=0.1)
    with pytest.raises(ValueError, match="optimiser's parameters"):
        GradientStep(optimizer, network.named_parameters(), None)


def test_a_step_that_the_device_decides_reads_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    network = _network("cpu")
    gradient_step = _step(network, 1.0, on_device=True)
    losses = [_loss(network, seed, "cpu", scale) for seed, scale in ((0, 1.0), (1, math.nan))]

    def refuse(*_: object) -> None:
        pytest.fail("a tensor was read by the host")

    with monkeypatch.context() as patch:
        for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__"):
            patch.setattr(torch.Tensor, name, refuse)
        for loss in losses:
            gradient_step.step(loss)
    assert int(gradient_step.skipped) == 1


@pytest.mark.gpu
@needs_cuda
def test_a_step_on_cuda_never_waits_for_the_device() -> None:
    network = _network("cuda")
    gradient_step = _step(network, 1.0)
    losses = [_loss(network, seed, "cuda", scale) for seed, scale in ((0, 1.0), (1, math.nan))]
    gradient_step.step(_loss(network, 2, "cuda"))  # the optimiser's state is made here
    torch.cuda.set_sync_debug_mode("error")
    try:
        for loss in losses:
            gradient_step.step(loss)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert int(gradient_step.skipped) == 1
