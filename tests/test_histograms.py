"""Histograms: every finite number is in one bucket; whole numbers have theirs to themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from playfield.training.histograms import BUCKETS, MOST_WEIGHTS, buckets, weights


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).normal(size=1000),
        np.array([1e-30, 1.0, 1e30]),
        np.array([-1e308, 1e308]),  # whose difference is no float
        np.array([1.0, np.nextafter(1.0, 2.0)]),  # between which there is none
        np.array([3.25]),
        np.arange(100),
        np.array([2.0**60, 2.0**60]),
        np.array([np.nan, np.inf, 2.5, -np.inf, 3.5]),
    ],
)
def test_every_finite_number_is_counted_once(values: np.ndarray) -> None:
    found = buckets(values)
    finite = values[np.isfinite(values)]
    assert found[:, 2].sum() == len(finite)
    assert np.isfinite(found).all()
    assert found[0, 0] <= finite.min()
    assert found[-1, 1] >= finite.max()
    assert len(found) <= BUCKETS
    np.testing.assert_array_equal(found[1:, 0], found[:-1, 1])  # no gap, no overlap


def test_counts_are_those_of_a_naive_count() -> None:
    values = np.random.default_rng(1).uniform(-2, 5, 500)
    found = buckets(values)
    assert len(found) == BUCKETS
    for low, high, count in found[:-1]:
        assert count == sum(low <= value < high for value in values)


def test_actions_have_a_bucket_each() -> None:
    found = buckets(np.array([0, 0, 5, 2, 5, 5]))
    assert [(row[:2].mean(), row[2]) for row in found] == [
        (0, 2), (1, 0), (2, 1), (3, 0), (4, 0), (5, 3),
    ]  # fmt: skip


@pytest.mark.parametrize("values", [np.zeros(0), np.array([np.nan, np.inf])])
def test_nothing_finite_is_no_bucket(values: np.ndarray) -> None:
    assert buckets(values).shape == (0, 3)


class Parted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2, bias=False))
        self.head = nn.Linear(400, 400).to(torch.bfloat16)
        self.activation = nn.ReLU()
        self.scale = nn.Parameter(torch.tensor(7.0))


def test_weights_are_parted_as_the_network_is() -> None:
    network = Parted()
    found = weights(network)
    assert set(found) == {"weights/encoder", "weights/head", "weights/own"}
    whole = torch.cat([p.detach().flatten() for p in network.encoder.parameters()])
    np.testing.assert_array_equal(found["weights/encoder"], whole.numpy())
    np.testing.assert_array_equal(found["weights/own"], [7.0])


def test_of_many_weights_some_stand_for_all() -> None:
    network = Parted()
    found = weights(network)["weights/head"]
    assert MOST_WEIGHTS / 2 < len(found) <= MOST_WEIGHTS + 2
    # A uniform distribution of known width: 4 standard errors of its standard deviation.
    assert np.std(found) == pytest.approx(1 / 20 / 3**0.5, rel=4 / (2 * len(found)) ** 0.5)


def test_training_does_not_change_what_was_taken() -> None:
    network = nn.Module()
    network.only = nn.Parameter(torch.ones(3))
    taken = weights(network)["weights/own"]
    with torch.no_grad():
        network.only.zero_()
    np.testing.assert_array_equal(taken, [1, 1, 1])


@pytest.mark.gpu
def test_weights_of_an_accelerator_come_to_the_host() -> None:
    network = Parted()
    expected = weights(network)
    found = weights(network.to("cuda"))
    assert set(found) == set(expected)
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name])
