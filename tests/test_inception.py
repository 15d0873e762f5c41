"""The FID's Inception-v3: published sizes and names, its odd pooling, and torch-fidelity's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from peer_modules import torch_fidelity_module
from torch import nn

from playfield.evaluation.feature_networks import inception_features
from playfield.nets.inception import FIDInception


@pytest.fixture(scope="module")
def described() -> FIDInception:
    """The network without numbers in it."""
    with torch.device("meta"):
        return FIDInception()


def test_parameters_are_as_many_as_published(described: FIDInception) -> None:
    """Keras counts 23,817,352 that are trained, with 1000 classes and without the 17,216 factors of
    its batch norms; here there are 1008 classes of 2049 numbers, and the factors.
    """
    count = sum(parameter.numel() for parameter in described.parameters())
    assert count == 23_817_352 + 17_216 + 8 * 2049
    norms = [module for module in described.modules() if isinstance(module, nn.BatchNorm2d)]
    assert sum(norm.num_features for norm in norms) == 17_216
    assert len(norms) == 94 and all(norm.eps == 0.001 for norm in norms)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("Conv2d_1a_3x3.conv.weight", (32, 3, 3, 3)),
        ("Conv2d_3b_1x1.bn.running_mean", (80,)),
        ("Mixed_5b.branch_pool.conv.weight", (32, 192, 1, 1)),
        ("Mixed_5d.branch5x5_2.conv.weight", (64, 48, 5, 5)),
        ("Mixed_6a.branch3x3dbl_3.conv.weight", (96, 96, 3, 3)),
        ("Mixed_6b.branch7x7dbl_5.conv.weight", (192, 128, 1, 7)),
        ("Mixed_6e.branch7x7_3.conv.weight", (192, 192, 7, 1)),
        ("Mixed_7a.branch7x7x3_4.conv.weight", (192, 192, 3, 3)),
        ("Mixed_7b.branch3x3dbl_1.conv.weight", (448, 1280, 1, 1)),
        ("Mixed_7c.branch3x3_2b.conv.weight", (384, 384, 3, 1)),
        ("Mixed_7c.branch_pool.bn.bias", (192,)),
        ("fc.weight", (1008, 2048)),
        ("fc.bias", (1008,)),
    ],
)
def test_names_and_shapes_are_those_of_the_published_weights(
    described: FIDInception, name: str, shape: tuple[int, ...]
) -> None:
    assert tuple(described.state_dict()[name].shape) == shape


@pytest.mark.parametrize(("block", "channels"), [("Mixed_7b", 1280), ("Mixed_7c", 2048)])
def test_the_last_block_pools_the_maximum_and_the_others_what_lies_within(
    block: str, channels: int
) -> None:
    """The weights let through what the last branch has pooled, and nothing else is looked at."""
    with torch.device("meta"):
        module = getattr(FIDInception(), block)
    module = module.to_empty(device="cpu").eval()
    for name, tensor in module.state_dict().items():
        tensor.fill_(1 - 1e-3 if name.endswith("running_var") else name.endswith("bn.weight"))
    module.branch_pool.conv.weight.data[:, :, 0, 0] = torch.eye(192, channels)
    x = torch.rand(1, channels, 5, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        pooled = module(x)[0, -192:]
    for row in range(5):
        for column in range(4):
            window = x[0, :192, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            expected = window.amax((1, 2)) if block == "Mixed_7c" else window.mean((1, 2))
            torch.testing.assert_close(pooled[:, row, column], expected)


# --- beside torch-fidelity ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(described: FIDInception, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of random weights of the usual size."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, tensor in described.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue  # the published file has none
        if tensor.ndim > 1:
            deviation = (2 / tensor[0].numel()) ** 0.5
            state[name] = torch.randn(tensor.shape, generator=generator) * deviation
        elif name.endswith(("bn.weight", "running_var")):
            state[name] = torch.rand(tensor.shape, generator=generator) + 0.5
        else:
            state[name] = torch.randn(tensor.shape, generator=generator) * 0.1
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(state, path)
    return path


def test_features_are_those_of_torch_fidelity_with_the_same_weights(weights: Path) -> None:
    module = torch_fidelity_module("feature_extractor_inceptionv3")
    peer = module.FeatureExtractorInceptionV3("peer", ["2048"], str(weights))
    network = inception_features(weights, tensorflow_resize=True)
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 40), np.uint8)
    with torch.no_grad():
        (expected,) = peer(torch.from_numpy(images))
    found = network(images)
    assert found.shape == (2, 2048) and found.dtype == np.float32
    scale = expected.abs().mean().item()
    assert scale > 0.01  # or the comparison would say nothing
    np.testing.assert_allclose(found / scale, expected.numpy() / scale, atol=1e-4, rtol=1e-4)
    # The other way to resize is another measure, and says so.
    other = inception_features(weights)
    assert other.sha256 == network.sha256 and other.preprocessing != network.preprocessing


@pytest.mark.slow
def test_an_image_has_the_same_features_in_any_batch(weights: Path) -> None:
    network = inception_features(weights)
    images = np.random.default_rng(1).integers(0, 256, (5, 1, 8, 8), np.uint8)
    alone = np.concatenate([network(images[i : i + 1]) for i in range(5)])
    assert np.array_equal(network(images), alone)


@pytest.mark.gpu
def test_a_gpu_gives_the_processors_features(weights: Path) -> None:
    images = np.random.default_rng(2).integers(0, 256, (3, 3, 32, 32), np.uint8)
    expected = inception_features(weights)(images)
    found = inception_features(weights, "cuda")(images)
    scale = np.abs(expected).mean()
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-3)
