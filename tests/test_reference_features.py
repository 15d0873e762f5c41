"""Features of real images in a cache: found again, never confused, never believed if damaged."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from playfield.evaluation.reference import images_sha256, reference_features

Bytes = NDArray[np.uint8]


@dataclass
class Sums:
    """A network that counts the images it is asked about."""

    name: str = "sums"
    sha256: str = "a" * 64
    preprocessing: str = "none"
    size: int = 2
    asked: int = 0

    def __call__(self, images: Bytes) -> NDArray[np.float32]:
        self.asked += len(images)
        total = images.astype(np.float32).sum((1, 2, 3))
        return np.stack([total, -total], 1)


@dataclass
class Cache:
    path: Path
    warnings: list[str] = field(default_factory=list)

    def features(self, network: Sums, images: Bytes) -> NDArray[np.floating]:
        return reference_features(network, images, cache=self.path, warn=self.warnings.append).array

    @property
    def file(self) -> Path:
        (file,) = (self.path / "features").iterdir()
        return file


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def images() -> Bytes:
    return np.random.default_rng(0).integers(0, 256, (20, 1, 4, 4), np.uint8)


def test_features_are_worked_out_once(cache: Cache, images: Bytes) -> None:
    network = Sums()
    first = cache.features(network, images)
    assert network.asked == 20
    second = cache.features(network, images)
    assert network.asked == 20 and np.array_equal(first, second)
    assert not cache.warnings


def test_without_a_cache_nothing_is_kept(images: Bytes, tmp_path: Path) -> None:
    network = Sums()
    for _ in range(2):
        reference_features(network, images, cache=None, warn=pytest.fail)
    assert network.asked == 40 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("field_name", ["name", "sha256", "preprocessing"])
def test_another_network_has_features_of_its_own(
    cache: Cache, images: Bytes, field_name: str
) -> None:
    cache.features(Sums(), images)
    other = Sums(**{field_name: "other"})
    cache.features(other, images)
    assert other.asked == 20


def test_other_images_have_features_of_their_own(cache: Cache, images: Bytes) -> None:
    changed = images.copy()
    changed[3, 0, 1, 2] ^= 1
    network = Sums()
    cache.features(network, images)
    for other in (changed, images[:10], images.reshape(20, 1, 2, 8), images[::-1]):
        before = network.asked
        expected = Sums()(other)
        assert np.array_equal(cache.features(network, other), expected)
        assert network.asked == before + len(other)


def test_the_hash_of_images_does_not_depend_on_how_they_lie(images: Bytes, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    turned = np.ascontiguousarray(images.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0)
    assert images_sha256(mapped) == images_sha256(images) == images_sha256(turned)


@pytest.mark.parametrize("damage", ["cut", "number", "conditions", "empty", "text"])
def test_a_damaged_file_is_told_and_made_again(cache: Cache, images: Bytes, damage: str) -> None:
    network = Sums()
    expected = cache.features(network, images)
    whole = cache.file.read_bytes()
    damaged = {
        "cut": whole[:-1],
        "number": whole[:-1] + bytes([whole[-1] ^ 1]),
        "conditions": whole.replace(b"none", b"some"),
        "empty": b"",
        "text": b"features",
    }[damage]
    assert damaged != whole
    cache.file.write_bytes(damaged)
    assert np.array_equal(cache.features(network, images), expected)
    assert network.asked == 40
    assert len(cache.warnings) == 1 and f"{cache.file} is damaged" in cache.warnings[0]
    cache.features(network, images)
    assert network.asked == 40 and len(cache.warnings) == 1


def test_a_file_in_the_place_of_another_is_not_believed(cache: Cache, images: Bytes) -> None:
    cache.features(Sums(), images)
    first = cache.file
    network = Sums()
    cache.features(network, images[::-1])
    (second,) = {*first.parent.iterdir()} - {first}
    shutil.copy(first, second)
    assert np.array_equal(cache.features(network, images[::-1]), Sums()(images[::-1]))
    assert network.asked == 40 and len(cache.warnings) == 1


def test_a_cache_that_cannot_be_written_is_done_without(cache: Cache, images: Bytes) -> None:
    cache.path.write_text("a file")
    network = Sums()
    assert np.array_equal(cache.features(network, images), Sums()(images))
    assert len(cache.warnings) == 1 and "are not kept" in cache.warnings[0]
