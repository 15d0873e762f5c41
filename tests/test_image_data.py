"""Images in a store as a data set: their statistics, in little memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from playfield.buffers.store import Column, FrameStore
from playfield.generative import images as image_data
from playfield.generative.datasets.options import DataOptions
from playfield.generative.datasets.storing import store_images
from playfield.generative.images import LABEL, ImageData, images_from_arrays


def pictures(count: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (count, *shape), np.uint8)


def test_the_deviation_is_that_of_all_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(7, 3, 4, 5)
    data = images_from_arrays("seven", images)
    for size in (1, 150, 1 << 20):
        monkeypatch.setattr(image_data, "BLOCK_BYTES", size)
        assert data.std() == pytest.approx((images / 127.5 - 1).std(), rel=1e-12)


def test_a_fingerprint_does_not_depend_on_how_the_images_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = pictures(7, 3, 4, 5)
    data = images_from_arrays("seven", images)
    found = []
    for size in (1, 150, 1 << 20):
        monkeypatch.setattr(image_data, "BLOCK_BYTES", size)
        np.testing.assert_array_equal(np.concatenate(list(data.blocks())), images)
        found.append(data.fingerprint())
    assert len(set(found)) == 1
    images[6, 2, 3, 4] ^= 1
    assert images_from_arrays("seven", images).fingerprint() not in found


def test_images_on_the_disk_are_never_all_in_memory() -> None:
    images = pictures(64, 3, 256, 256)
    options = DataOptions(placement="mmap")
    data = store_images("large", images, len(images), images.shape[1:], options)
    data.std()  # imports and caches
    tracemalloc.start()
    data.std()
    data.fingerprint()
    data.spread(5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < images.nbytes


def numbered(count: int, classes: int) -> ImageData:
    """Images that say which they are, of classes that come in turn."""
    images = np.arange(count).astype("<u4").view(np.uint8).reshape(count, 1, 2, 2)
    labels = np.arange(count) % classes
    return images_from_arrays("numbered", images, labels, [str(n) for n in range(classes)])


def numbers_of(images: NDArray[np.uint8]) -> list[int]:
    numbers: list[int] = np.ascontiguousarray(images).reshape(-1, 4).view("<u4")[:, 0].tolist()
    return numbers


@pytest.mark.parametrize("most", [1, 2, 5, 8, 9, 10])
def test_as_many_images_are_taken_as_were_asked_for(most: int) -> None:
    found = numbers_of(numbered(9, 3).spread(most))
    assert len(found) == min(most, 9)
    assert found == sorted(set(found))  # each once, in the order of the data
    assert set(found) <= set(range(9))


def test_where_all_images_are_wanted_none_is_copied() -> None:
    data = numbered(9, 3)
    assert np.shares_memory(data.spread(9), data.store.frames.numpy())


@pytest.mark.parametrize("most", [500, 512, 1000, 1999])
def test_of_classes_that_come_in_turn_each_is_taken(most: int) -> None:
    data = numbered(2000, 10)
    found = np.bincount(data.spread_labels(most), minlength=10)
    # Hypergeometric, with a deviation of at most 7 images.
    assert abs(found - most / 10).max() < 30


def test_images_are_drawn_from_all_of_them_and_the_same_each_time() -> None:
    data = numbered(2000, 10)
    found = numbers_of(data.spread(500))
    assert found == numbers_of(data.spread(500))
    assert abs(np.histogram(found, bins=4, range=(0, 2000))[0] - 125).max() < 45


def test_labels_are_those_of_the_images_taken_whatever_stream_they_lie_in() -> None:
    """Three streams of 1, 8 and 4 images."""
    store = FrameStore(24, 3, (1, 2, 2), columns={LABEL: Column((), "int64")})
    sizes, number = [1, 8, 4], 0
    for stream, size in enumerate(sizes):
        for place in range(size):
            code = np.array([number], "<u4").view(np.uint8).reshape(1, 2, 2)
            store.frames[stream, place] = torch.from_numpy(code)
            store.extra[LABEL][stream, place] = 100 + number
            number += 1
        store.head[stream] = size
    data = ImageData("streams", store, tuple(str(n) for n in range(200)))
    assert len(data) == 13
    for most in (1, 5, 12, 13, 20):
        found = numbers_of(data.spread(most))
        assert len(found) == min(most, 13)
        assert (data.spread_labels(most) - 100).tolist() == found
