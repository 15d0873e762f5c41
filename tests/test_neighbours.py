"""Nearest training images, against a loop over all of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from playfield.generative import neighbours
from playfield.generative.neighbours import memorisation_ratio, nearest
from playfield.generative.pixels import to_signal


def naive(samples: np.ndarray, images: np.ndarray) -> tuple[list[float], list[int]]:
    """Every pair, in Python's integers: the first of the nearest."""
    distances, indices = [], []
    for sample in samples.astype(int):
        squares = [int(((sample - image) ** 2).sum()) for image in images.astype(int)]
        indices.append(squares.index(min(squares)))
        distances.append(math.sqrt(min(squares)) / 127.5)
    return distances, indices


def pictures(count: int, *shape: int, seed: int = 0, codes: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, codes, (count, *shape)).astype(np.uint8)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("SAMPLE_BLOCK", 7), ("IMAGE_BLOCK", 11), ("PAIR_BLOCK", 5)):
        monkeypatch.setattr(neighbours, name, size)


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 5, 2)])
@pytest.mark.parametrize("codes", [2, 256])  # two codes: many images at the same distance
def test_the_nearest_are_those_of_a_loop(small_blocks, shape, codes):
    samples, images = (pictures(n, *shape, seed=n, codes=codes) for n in (23, 40))
    distance, index = nearest(samples, images)
    distances, indices = naive(samples, images)
    assert index.tolist() == indices
    assert distance.tolist() == pytest.approx(distances, rel=1e-14)


@pytest.mark.parametrize("numbers", [1, 70, 200])
def test_of_large_images_fewer_are_compared_at_once(monkeypatch, numbers):
    monkeypatch.setattr(neighbours, "BLOCK_NUMBERS", numbers)  # of 30 in each image
    samples, images = (pictures(n, 3, 5, 2, seed=n) for n in (9, 21))
    distance, index = nearest(samples, images)
    distances, indices = naive(samples, images)
    assert index.tolist() == indices
    assert distance.tolist() == pytest.approx(distances, rel=1e-14)


def test_copies_are_at_distance_zero_and_the_first_of_equals_counts(small_blocks):
    images = pictures(30, 1, 3, 3)
    images[[4, 17, 29]] = images[4]  # in different blocks
    distance, index = nearest(images[[29, 8]], images)
    assert distance.tolist() == [0.0, 0.0]
    assert index.tolist() == [4, 8]


@pytest.mark.parametrize("block", [1, 5, 2048])
def test_images_that_float32_cannot_tell_apart_are_told_apart(monkeypatch, block):
    monkeypatch.setattr(neighbours, "IMAGE_BLOCK", block)
    # 12288 pixels: the sums of squares are near 7e7, where float32 counts in steps of 8.
    sample = pictures(1, 3, 64, 64) // 2
    images = np.repeat(sample, 30, 0)
    for number, image in enumerate(images):
        image.reshape(-1)[number * 100 : number * 100 + 30 - number] += 1
    for count in range(1, 31):  # the squared distances are 30, 29, …
        distance, index = nearest(sample, images[:count])
        assert index.tolist() == [count - 1]
        assert distance.item() == pytest.approx(math.sqrt(31 - count) / 127.5)


def test_of_frames_that_are_nearly_alike_few_are_compared_pixel_by_pixel(monkeypatch):
    counts = []
    candidates = neighbours._candidates

    def counted(*arguments):
        found = candidates(*arguments)
        counts.append(len(found[0]))
        return found

    monkeypatch.setattr(neighbours, "_candidates", counted)
    frames = np.zeros((64, 3, 32, 32), np.uint8)  # black, but for a ball that moves
    for number, frame in enumerate(frames):
        frame[:, number // 8, 3 * (number % 8)] = 100 + number
    distance, index = nearest(frames, frames[::-1].copy())
    assert index.tolist() == list(range(63, -1, -1)) and not distance.any()
    assert sum(counts) == 64


def test_signals_and_bytes_measure_alike():
    samples, images = pictures(9, 1, 8, 8, seed=1), pictures(50, 1, 8, 8, seed=2)
    signals = to_signal(torch.from_numpy(samples)), to_signal(torch.from_numpy(images))
    expected = nearest(samples, images)
    for pair in ((signals[0], images), signals, (samples, signals[1])):
        distance, index = nearest(*pair)
        assert torch.equal(index, expected[1])
        torch.testing.assert_close(distance, expected[0], rtol=1e-6, atol=0)


def test_images_of_another_shape_and_no_images_are_refused():
    with pytest.raises(ValueError, match=r"\[1, 8, 8\].*\[1, 4, 16\]"):
        nearest(pictures(2, 1, 8, 8), pictures(2, 1, 4, 16))
    with pytest.raises(ValueError, match="empty"):
        nearest(pictures(2, 1, 8, 8), pictures(0, 1, 8, 8))


def test_new_images_have_a_ratio_of_one_and_copies_of_zero():
    train, held_out, samples = (pictures(200, 1, 6, 6, seed=s) for s in range(3))
    assert memorisation_ratio(samples, train, held_out) == pytest.approx(1, abs=0.02)
    assert memorisation_ratio(train[:50], train, held_out) == 0
    # Nearly copies: one pixel of each is off by one.
    near = train[:50].copy()
    near[:, 0, 0, 0] ^= 1
    assert memorisation_ratio(near, train, held_out) < 0.01


def test_the_ratio_is_that_of_the_medians():
    train = np.zeros((1, 1, 1, 1), np.uint8)
    samples, held_out = (
        np.array(values, np.uint8).reshape(-1, 1, 1, 1) for values in ([1, 2, 90, 30], [5, 4, 200])
    )
    assert memorisation_ratio(samples, train, held_out) == pytest.approx((2 + 30) / 2 / 5)


def test_where_held_out_images_are_copies_only_copies_are_no_closer():
    train = pictures(20, 1, 4, 4)
    assert memorisation_ratio(train[:5], train, train[5:10]) == 1
    assert memorisation_ratio(pictures(5, 1, 4, 4, seed=1), train, train[5:10]) == math.inf


@pytest.mark.gpu
def test_an_accelerator_finds_the_same():
    samples, images = (torch.from_numpy(pictures(n, 3, 8, 8, seed=n)) for n in (100, 3000))
    here, there = nearest(samples, images), nearest(samples.cuda(), images.cuda())
    assert torch.equal(there[0].cpu(), here[0]) and torch.equal(there[1].cpu(), here[1])
