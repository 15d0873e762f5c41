"""Features of images: the same in any company, and a measure of what was done to images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from playfield.errors import UserError
from playfield.evaluation.feature_networks import (
    feature_network,
    random_features,
    weights_sha256,
)
from playfield.evaluation.features import TorchFeatures, extract
from playfield.evaluation.frechet import frechet_distance, gaussian_statistics
from playfield.nets.random_features import RandomFeatures

Bytes = NDArray[np.uint8]


def noise(seed: int, *shape: int) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def means(device: str = "cpu") -> TorchFeatures:
    """A network whose features are known: the channels' means."""

    class Means(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3))

    return TorchFeatures("means", "0" * 64, "none", 3, Means(), torch.Tensor.float, device, block=4)


# --- extracting -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 4, 9])
def test_features_are_those_of_each_image_in_order(count: int) -> None:
    images = noise(0, count, 3, 5, 7)
    features = extract(means(), images, batch_size=3)
    assert features.array.dtype == np.float32
    np.testing.assert_allclose(features.array, images.mean((2, 3)), rtol=1e-6)
    assert (features.name, features.sha256) == ("means", "0" * 64)
    assert features.preprocessing == "none"


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (2, 21, 30)])
def test_features_do_not_depend_on_the_batch_size_by_a_bit(shape: tuple[int, int, int]) -> None:
    network = random_features(shape[0])
    images = noise(1, 21, *shape)
    alone, few, all_ = (extract(network, images[:5], size).array for size in (1, 2, 5))
    many = extract(network, images, 21).array
    assert np.array_equal(alone, few) and np.array_equal(alone, all_)
    assert np.array_equal(alone, many[:5])
    assert np.array_equal(many[9:], network(images[9:]))  # in other places of the block


def test_images_mapped_from_a_file_are_read_as_they_are(tmp_path: Path) -> None:
    images = noise(2, 6, 3, 4, 4)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert np.array_equal(extract(means(), mapped).array, extract(means(), images).array)


@pytest.mark.parametrize(
    "images",
    [
        noise(0, 2, 3, 4),
        noise(0, 0, 3, 4, 4),
        noise(0, 2, 3, 4, 4).astype(np.float32),
    ],
)
def test_what_are_no_images_is_refused(images: Bytes) -> None:
    with pytest.raises(ValueError, match=r"images: .*expected uint8 \[N, C, H, W\]"):
        extract(means(), images)


def test_extracting_leaves_the_global_generators_alone() -> None:
    torch_state = torch.random.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    extract(random_features(1), noise(0, 3, 1, 8, 8))
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


# --- the random network ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "sha256"),
    [
        (1, "19f6b413f1b5a8c61f78f48b6974869fd13f1d7ddf31c2163752397900dd3d4b"),
        (3, "4316686441ef2f2481bd0959a3e1df58819f91404259607f81addf5782839f87"),
    ],
)
def test_random_weights_are_the_same_everywhere_and_for_good(channels: int, sha256: str) -> None:
    """Numbers in committed results hold for these weights; with others they would mean nothing."""
    assert random_features(channels).sha256 == sha256


def test_the_hash_of_weights_tells_any_change() -> None:
    network = nn.Linear(2, 2)
    before = weights_sha256(network)
    assert weights_sha256(network) == before
    with torch.no_grad():
        network.bias[1] += 1e-6
    assert weights_sha256(network) != before


def test_random_weights_follow_from_the_numbers_they_are_given() -> None:
    """Numbers that are all 1/2 are the middle of every interval: no weight, no response."""
    network = RandomFeatures(2, lambda count: torch.full((count,), 0.5, dtype=torch.float64))
    assert all(not parameter.any() for parameter in network.parameters())
    assert not network(torch.ones(1, 2, 8, 8)).any()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 8, 8), (4, 7, 5), (3, 28, 20), (3, 128, 128)])
def test_images_of_any_size_and_channels_have_256_features_of_one_order(
    shape: tuple[int, int, int],
) -> None:
    network = random_features(shape[0])
    features = extract(network, noise(3, 8, *shape)).array
    assert features.shape == (8, network.size) == (8, 256)
    size = np.abs(features).reshape(8, 4, 64).mean((0, 2))  # by scale
    assert (size > 0.1).all() and (size < 3).all()


def test_random_features_refuse_images_of_other_channels() -> None:
    with pytest.raises(UserError, match="of 1 channels were asked for, and these have 3"):
        random_features(1)(noise(0, 2, 3, 8, 8))


@pytest.fixture(scope="module")
def digits() -> tuple[Bytes, Bytes, NDArray[np.int64]]:
    """Two halves of the 8×8 digits, and the classes of the second."""
    data = pytest.importorskip("sklearn.datasets").load_digits()
    order = np.random.default_rng(0).permutation(len(data.images))
    images = np.round(data.images * 255 / 16).astype(np.uint8)[order, None]
    half = len(images) // 2
    return images[:half], images[half:], data.target[order][half:]


def noisy(images: Bytes, deviation: float) -> Bytes:
    added = np.random.default_rng(1).normal(0, deviation, images.shape)
    return np.clip(images + added, 0, 255).astype(np.uint8)


def blurred(images: Bytes, side: float) -> Bytes:
    """Each pixel mixed with its neighbours along both axes, which have `side` of its own weight."""
    mixed = images.astype(np.float64)
    for axis in (2, 3):
        edges = [(0, 0)] * 4
        edges[axis] = (1, 1)
        padded = np.pad(mixed, edges, mode="edge")
        inner = np.arange(1, padded.shape[axis] - 1)
        before, here, after = (padded.take(inner + step, axis) for step in (-1, 0, 1))
        mixed = (here + side * (before + after)) / (1 + 2 * side)
    return np.round(mixed).astype(np.uint8)


def test_distance_grows_with_noise_with_blur_and_with_classes_that_are_missing(
    digits: tuple[Bytes, Bytes, NDArray[np.int64]],
) -> None:
    one, other, labels = digits
    network = random_features(1)
    real = gaussian_statistics(extract(network, one).array)

    def distance(images: Bytes) -> float:
        return frechet_distance(*real, *gaussian_statistics(extract(network, images).array))

    alike = distance(other)
    by_noise = [distance(noisy(other, deviation)) for deviation in (16, 32, 64)]
    by_blur = [distance(blurred(other, side)) for side in (0.1, 0.3, 0.8)]
    # As many images each time, for the distance of few is larger by itself.
    kept = [np.resize(other[labels >= classes], other.shape) for classes in (1, 3, 7)]
    by_classes = [distance(images) for images in kept]
    for distances in (by_noise, by_blur, by_classes):
        assert alike < distances[0] < distances[1] < distances[2]
        assert distances[2] > 10 * alike
    assert by_noise[1] > 3 * alike and by_blur[0] > 3 * alike


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["", "fid", "inception", "dinov2:", "random:file", "classifier"])
def test_words_that_name_no_network_are_told_which_do(words: str) -> None:
    with pytest.raises(UserError, match=r"--features has to be random, .*inception:FILE.*not"):
        feature_network(words, 3)


def test_the_word_random_names_the_random_network() -> None:
    assert feature_network("random", 3).sha256 == random_features(3).sha256


# --- on a GPU -------------------------------------------------------------------------------------


@pytest.mark.gpu
def test_a_gpu_gives_the_processors_features_in_any_batch() -> None:
    images = noise(4, 130, 3, 32, 32)
    expected = extract(random_features(3), images).array
    network = random_features(3, "cuda")
    together, apart = (extract(network, images, size).array for size in (130, 7))
    np.testing.assert_allclose(together, expected, atol=1e-4)
    np.testing.assert_allclose(apart, together, atol=1e-5)
