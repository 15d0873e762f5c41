"""The counter-based generator: a published sequence, its twins, and what it does with its state."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from playfield._ext import windows
from playfield.buffers.generator import (
    CounterGenerator,
    random_bits,
    scaled,
    torch_bits,
    torch_uniforms,
)

#: The first outputs of splitmix64 from the seed 1234567, as its authors' C program prints them.
PUBLISHED = [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]


def test_the_numbers_are_splitmix64s():
    assert random_bits(1234567, 0, 5).tolist() == PUBLISHED
    assert random_bits(1234567, 3, 2).tolist() == PUBLISHED[3:]


@pytest.mark.parametrize("seed", [0, 7, 2**63 + 5, 2**64 - 1])
def test_torch_has_the_same_bits(seed):
    ours = random_bits(seed, 10, 1000)
    theirs = torch_bits(seed, 10, 1000, torch.device("cpu"))
    assert np.array_equal(ours.view(np.int64), theirs.numpy())
    generator = CounterGenerator(0)
    generator.seed, generator.counter = seed, 10
    uniforms = torch_uniforms(seed, 10, 1000, torch.device("cpu"))
    assert np.array_equal(generator.uniforms(1000), uniforms.numpy())


def test_the_kernels_have_the_same_numbers():
    # Thirty frames of one stream, all but the last of them valid: one number decides each draw.
    columns = windows.Columns(
        np.zeros((1, 30), np.int32),
        np.zeros((1, 30), np.float32),
        np.zeros((1, 30), np.uint8),
        np.arange(30, dtype=np.int32)[None],
    )
    ids = np.empty(20, np.int64)
    _, used = windows.draw(columns, np.array([30]), 1, 1, False, 99, 4, 1000, ids)
    expected = scaled(random_bits(99, 4, used - 4), 30)
    assert ids.tolist() == expected[expected < 29].tolist()


def test_integers_are_uniform_and_below_the_bound():
    counts = np.bincount(CounterGenerator(3).integers(7, 70_000), minlength=7)
    assert len(counts) == 7
    assert stats.chisquare(counts).pvalue > 1e-3


def test_a_restored_generator_goes_on_with_the_same_numbers():
    ours, theirs = CounterGenerator(1), CounterGenerator(2)
    ours.bits(5)
    theirs.load_state_dict(ours.state_dict())
    assert np.array_equal(ours.bits(100), theirs.bits(100))


@pytest.mark.parametrize(
    ("field", "value"),
    [("generator", "pcg64"), ("seed", -1), ("counter", 2**64), ("counter", None), ("seed", 1.0)],
)
def test_a_state_that_is_not_its_own_is_refused_by_field(field, value):
    generator = CounterGenerator(1)
    with pytest.raises(ValueError, match=f"^{field}:"):
        generator.load_state_dict({**generator.state_dict(), field: value})
