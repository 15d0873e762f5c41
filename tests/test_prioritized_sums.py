"""Leaves and the sums over them, in the kernels and in torch, against float64 and exact sums."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from playfield.buffers.generator import CounterGenerator
from playfield.buffers.priority_sums import BLOCK, KernelSums, TorchSums

CPU = torch.device("cpu")
BOTH = pytest.mark.parametrize("kind", [KernelSums, TorchSums])
# None is a power of two, and but for the last none fills its blocks.
CAPACITIES = (1, 5, BLOCK + 1, 1000, 3 * 1024 + 7, 50 * BLOCK)


def pairwise(leaves):
    """The sum of adjacent pairs, of pairs of those, and so on, in float64."""
    size = 1 << (len(leaves) - 1).bit_length()
    sums = np.zeros(size)
    sums[: len(leaves)] = leaves
    while len(sums) > 1:
        sums = sums[0::2] + sums[1::2]
    return sums[0]


def filled(kind, values):
    sums = kind(len(values), CPU)
    values = torch.as_tensor(np.asarray(values, np.float32))
    sums.write(np.arange(len(values)), values)
    return sums


def find(sums, points):
    return sums.find(torch.tensor(points, dtype=torch.float64))[0].tolist()


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    capacity=st.sampled_from(CAPACITIES),
    writes=st.lists(st.sampled_from([1, 2, 7, 300]), max_size=6),
    zeros=st.sampled_from([0.0, 0.5, 0.99]),
)
def test_kernels_and_torch_hold_the_same_bits_and_find_the_same_rows(seed, capacity, writes, zeros):
    rng = np.random.default_rng(seed)
    expected = np.zeros(capacity, np.float32)
    ours, theirs = KernelSums(capacity, CPU), TorchSums(capacity, CPU)
    draws = CounterGenerator(seed), CounterGenerator(seed)
    for count in writes:
        rows = rng.choice(capacity, min(count, capacity), replace=False)
        values = rng.lognormal(0, 5, len(rows)).astype(np.float32)
        values[rng.random(len(rows)) < zeros] = 0
        expected[rows] = values
        for sums in (ours, theirs):
            sums.write(rows, torch.from_numpy(values))
            np.testing.assert_array_equal(sums.leaves[:capacity].numpy(), expected)
            assert sums.total.item() == pairwise(expected)
        points = ours.points(draws[0], 33)
        assert torch.equal(points, theirs.points(draws[1], 33))
        found, leaves = ours.find(points.clone())
        found_by_torch, leaves_of_torch = theirs.find(points)
        np.testing.assert_array_equal(found, found_by_torch)
        assert torch.equal(leaves, leaves_of_torch)
        if expected.any():
            assert (expected[found] > 0).all()
            np.testing.assert_array_equal(expected[found], leaves.numpy())
        else:
            assert (found == -1).all()


@pytest.mark.parametrize(("kind", "updates"), [(KernelSums, 10**7), (TorchSums, 10**5)])
def test_sums_do_not_drift(kind, updates):
    capacity, at_once = 70_001, 1_000
    rng = np.random.default_rng(1)
    sums = kind(capacity, CPU)
    for _ in range(updates // at_once):
        rows = rng.choice(capacity, at_once, replace=False)
        values = np.exp(rng.normal(0, 4, at_once)).astype(np.float32)  # twelve orders of magnitude
        values[rng.random(at_once) < 0.1] = 0
        sums.write(rows, torch.from_numpy(values))
    leaves = sums.leaves.numpy()
    assert sums.total.item() == pairwise(leaves)
    exact = math.fsum(leaves.tolist())
    assert abs(sums.total.item() - exact) <= 1e-12 * exact
    fresh = kind(capacity, CPU)
    fresh.load(sums.leaves)
    np.testing.assert_array_equal(np.asarray(sums._tree), np.asarray(fresh._tree))


@BOTH
def test_a_point_on_the_edge_of_two_leaves_belongs_to_the_next(kind):
    sums = filled(kind, [1, 0, 2, 0.5, 0])
    below = np.nextafter
    assert find(sums, [0.0, below(1.0, 0), 1.0, below(3.0, 0), 3.0]) == [0, 0, 2, 2, 3]


@BOTH
def test_a_point_at_the_total_or_beyond_belongs_to_the_last_leaf_that_is_not_zero(kind):
    values = np.zeros(10 * BLOCK)
    values[[3, 40, 41]] = [0.1, 0.2, 0.7]
    sums = filled(kind, values)
    total = sums.total.item()
    assert find(sums, [np.nextafter(total, 0), total, np.nextafter(total, 2), 5.0]) == [41] * 4


@BOTH
@pytest.mark.parametrize("capacity", CAPACITIES)
def test_rows_are_found_where_the_exact_running_sum_says(kind, capacity):
    rng = np.random.default_rng(capacity)
    values = rng.integers(0, 5, capacity) / 4  # every sum of these is exact
    values[rng.integers(capacity)] = 1
    sums, ends = filled(kind, values), np.cumsum(values)
    points = rng.uniform(0, ends[-1], 500)
    points[:100] = rng.choice(ends[ends < ends[-1]], 100) if (ends < ends[-1]).any() else 0.0
    expected = np.searchsorted(ends, points, side="right")
    assert find(sums, points) == expected.tolist()


@BOTH
def test_every_row_is_drawn_in_proportion_to_its_leaf(kind):
    rng = np.random.default_rng(7)
    values = rng.exponential(1, 150).astype(np.float32)
    values[::3] = 0
    sums, generator = filled(kind, values), CounterGenerator(3)
    rows = np.concatenate([sums.find(sums.points(generator, 32))[0] for _ in range(1000)])
    counts = np.bincount(rows, minlength=len(values))
    assert not counts[values == 0].any()
    chances = values[values > 0] / values.sum(dtype=np.float64)
    assert stats.chisquare(counts[values > 0], chances / chances.sum() * len(rows)).pvalue > 1e-3


def test_a_draw_falls_into_its_own_part_of_the_total():
    sums = filled(KernelSums, np.ones(1000))
    for count in (1, 3, 32, 256):
        points = sums.points(CounterGenerator(count), count).numpy()
        assert (np.floor(points * count / 1000) == np.arange(count)).all()


def test_a_row_that_is_not_there_is_refused_and_nothing_is_written():
    sums = filled(KernelSums, [1, 2, 3])
    for row in (-1, BLOCK):
        with pytest.raises(IndexError, match=f"row {row} of {BLOCK} leaves"):
            sums.write(np.array([0, row]), torch.tensor([9.0, 9.0]))
    assert sums.leaves[:3].tolist() == [1, 2, 3]


@pytest.mark.gpu
def test_the_gpu_finds_the_same_rows():
    rng = np.random.default_rng(5)
    ours, theirs = KernelSums(70_001, CPU), TorchSums(70_001, torch.device("cuda"))
    draws = CounterGenerator(1), CounterGenerator(1)
    for _ in range(50):
        rows = rng.choice(70_001, 300, replace=False)
        values = torch.from_numpy(np.exp(rng.normal(0, 4, 300)).astype(np.float32))
        ours.write(rows, values)
        theirs.write(rows, values.cuda())
        assert ours.total.item() == theirs.total.item()
        found, leaves = ours.find(ours.points(draws[0], 100))
        found_there, leaves_there = theirs.find(theirs.points(draws[1], 100))
        np.testing.assert_array_equal(found, found_there)
        assert torch.equal(leaves, leaves_there.cpu())
