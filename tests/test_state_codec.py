"""Saved states: exact round trips, and nothing but data on the way back."""

import json
import math
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from playfield.errors import DamagedFileError
from playfield.training.state_codec import decode_state, encode_state

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
KEYS = st.text(max_size=4) | st.integers(-5, 5)
TREES = st.recursive(
    SCALARS,
    lambda node: st.lists(node, max_size=3) | st.dictionaries(KEYS, node, max_size=3),
    max_leaves=12,
)


def _round_trip(state: dict[Any, Any]) -> dict[Any, Any]:
    return decode_state(*encode_state(state))


def _same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b) or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


@given(st.dictionaries(KEYS, TREES, max_size=3))
def test_every_tree_of_plain_values_comes_back_the_same(tree: dict[Any, Any]) -> None:
    assert _same(_round_trip(tree), tree)


TENSORS = {
    "bfloat16": torch.tensor([1.5, float("nan"), -float("inf")], dtype=torch.bfloat16),
    "float16": torch.tensor([0.1], dtype=torch.float16),
    "float64": torch.tensor([0.1], dtype=torch.float64),
    "scalar": torch.tensor(7),
    "empty": torch.zeros(0, 3),
    "bool": torch.tensor([True, False]),
    "bytes": torch.arange(256, dtype=torch.uint8),
    "transposed": torch.arange(6).reshape(2, 3).T,
    "every second": torch.arange(10)[::2],
    "expanded": torch.ones(1).expand(4),
    "leaf": torch.nn.Parameter(torch.ones(2)),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_keep_dtype_shape_and_bits(name: str) -> None:
    tensor = TENSORS[name]
    back = _round_trip({"x": tensor})["x"]
    assert type(back) is torch.Tensor
    assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
    assert torch.equal(
        back.contiguous().view(-1).view(torch.uint8) if back.numel() else back,
        tensor.detach().contiguous().view(-1).view(torch.uint8) if back.numel() else tensor,
    )


ARRAYS = {
    "uint64": np.array([2**64 - 1], np.uint64),
    "uint16": np.arange(3, dtype=np.uint16),
    "scalar": np.array(2.5),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "reversed": np.arange(4)[::-1],
    "big-endian": np.arange(3, dtype=">i4"),
    "empty": np.zeros((2, 0), np.float32),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back_as_arrays_that_can_be_written_to(name: str) -> None:
    back = _round_trip({"x": ARRAYS[name]})["x"]
    assert isinstance(back, np.ndarray)
    assert back.dtype == ARRAYS[name].dtype.newbyteorder("=")
    np.testing.assert_array_equal(back, ARRAYS[name], strict=name != "big-endian")
    back[...] = 0


def test_tensors_that_share_memory_come_back_apart_and_equal() -> None:
    weight = torch.randn(3)
    back = _round_trip({"encoder": weight, "decoder": weight, "part": weight[1:]})
    assert torch.equal(back["encoder"], weight)
    assert torch.equal(back["decoder"], weight)
    assert torch.equal(back["part"], weight[1:])
    assert back["encoder"].data_ptr() != back["decoder"].data_ptr()


def test_paths_that_are_spelt_alike_are_kept_apart() -> None:
    back = _round_trip({"a": {"b": torch.zeros(1), 1: torch.ones(1)}, "a/b": torch.ones(2)})
    assert [back["a"]["b"].tolist(), back["a"][1].tolist(), back["a/b"].tolist()] == [
        [0.0],
        [1.0],
        [1.0, 1.0],
    ]
    both = _round_trip({"a": {1: torch.zeros(1), "1": torch.ones(1)}})
    assert both["a"][1].item() == 0
    assert both["a"]["1"].item() == 1


@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.MT19937, np.random.Philox])
def test_a_restored_generator_draws_the_same_numbers(bits: Any) -> None:
    rng = np.random.Generator(bits(3))
    rng.random(5)
    other = np.random.Generator(bits(9))
    other.bit_generator.state = _round_trip({"rng": rng.bit_generator.state})["rng"]
    np.testing.assert_array_equal(rng.random(10), other.random(10))


def test_a_restored_optimiser_goes_on_bit_for_bit() -> None:
    def fit(weight: torch.nn.Parameter, optimizer: torch.optim.Optimizer, steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            (weight - torch.tensor([1.0, -2.0])).square().sum().backward()
            optimizer.step()

    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.Adam([weight], lr=0.1)
    fit(weight, optimizer, 3)
    saved = _round_trip({"weight": weight, "optimizer": optimizer.state_dict()})
    other = torch.nn.Parameter(saved["weight"])
    resumed = torch.optim.Adam([other], lr=7.0)
    resumed.load_state_dict(saved["optimizer"])
    fit(weight, optimizer, 3)
    fit(other, resumed, 3)
    assert torch.equal(weight, other)


def test_numpy_scalars_become_numbers_and_tuples_become_lists() -> None:
    back = _round_trip({"i": np.int64(3), "b": np.bool_(True), "t": (1, (2,))})
    assert _same(back, {"i": 3, "b": True, "t": [1, [2]]})


@pytest.mark.parametrize(
    ("leaf", "named"),
    [(object(), "a object"), ({1, 2}, "a set"), (np.array(["x"]), "arrays of"), (1j, "a complex")],
)
def test_what_cannot_be_saved_is_named_by_its_path(leaf: object, named: str) -> None:
    with pytest.raises(TypeError, match=rf"outer/0: {named}"):
        encode_state({"outer": [leaf]})
    with pytest.raises(TypeError, match="neither str nor int"):
        encode_state({"outer": {2.5: 1}})


NOTHING = safetensors.torch.save({})
ONE = safetensors.torch.save({"x": torch.ones(1)})


@pytest.mark.parametrize(
    ("tree", "tensors", "named"),
    [
        ("{", NOTHING, "state.json can't be read"),
        ("[" * 100_000, NOTHING, "state.json can't be read"),
        ("3", NOTHING, "should hold a dict"),
        ('{"dict": [["k", [1]]]}', NOTHING, "k: a bare list"),
        ('{"dict": [["k", {"call": "os.system"}]]}', NOTHING, "k: .*has no meaning"),
        ('{"dict": [["k", {"float": "1"}]]}', NOTHING, "k: .*has no meaning"),
        ('{"dict": [["k", 1], ["k", 2]]}', NOTHING, "'k' is there twice"),
        ('{"dict": [[null, 1]]}', NOTHING, "is no item"),
        ('{"dict": [["k", {"tensor": "x"}]]}', NOTHING, "lacks 'x' for k"),
        ('{"dict": []}', ONE, "'x', which is not in the state"),
        ('{"dict": []}', ONE[:-2], "state.safetensors can't be read"),
        ('{"dict": []}', b"\xff" * 20, "state.safetensors can't be read"),
    ],
)
def test_damage_is_named_by_file_and_field(tree: str, tensors: bytes, named: str) -> None:
    with pytest.raises(DamagedFileError, match=named):
        decode_state(tree.encode(), tensors)


def test_the_tree_is_plain_json() -> None:
    tree, _ = encode_state({"a": {0: math.nan}, "w": torch.ones(1)})
    assert json.loads(tree, parse_constant=lambda token: pytest.fail(token)) == {
        "dict": [["a", {"dict": [[0, {"float": "nan"}]]}], ["w", {"tensor": "w"}]]
    }
