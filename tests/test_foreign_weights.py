"""Weights from others' files: tensors, nothing that runs, and a sentence for any other file."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from playfield.errors import DamagedFileError, UserError
from playfield.evaluation.feature_networks import dinov2_features, inception_features
from playfield.evaluation.foreign_weights import load_into, read_weights


def state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "0.weight": torch.randn(4, 3, generator=generator),
        "0.bias": torch.randn(4, generator=generator),
    }


def legacy(value: Any, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("w.pth", torch.save),
        ("w.pt", legacy),  # files of before 2020
        ("w.safetensors", safetensors.torch.save_file),
    ],
)
def test_tensors_are_read_and_the_file_is_hashed(
    tmp_path: Path, name: str, save: Callable[[Any, Path], None]
) -> None:
    path = tmp_path / name
    save(state(), path)
    weights, sha256 = read_weights(path)
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert set(weights) == set(state())
    assert all(torch.equal(weights[key], value) for key, value in state().items())


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04", b"\x80\x02}q\x00"])
def test_files_of_another_kind_are_told(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"can't be read as weights: expected") as told:
        read_weights(path)
    assert str(path) in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("w.pth", torch.save),
        ("w.pt", legacy),
        ("w.safetensors", safetensors.torch.save_file),
    ],
)
def test_files_that_were_cut_short_are_told(
    tmp_path: Path, name: str, save: Callable[[Any, Path], None]
) -> None:
    path = tmp_path / name
    save({"weight": torch.zeros(1000)}, path)
    whole = path.read_bytes()
    for size in (len(whole) // 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DamagedFileError, match="or cut short"):
            read_weights(path)


@pytest.mark.parametrize("name", ["nowhere.pth", "."])
def test_a_path_without_a_file_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"is no file: name the weights to load"):
        read_weights(tmp_path / name)


class Attack:
    """An object whose pickle makes a file when it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("torch_made", [True, False])
def test_nothing_in_a_file_is_run(tmp_path: Path, torch_made: bool) -> None:
    path, trace = tmp_path / "weights.pth", tmp_path / "trace"
    content = {"weight": torch.zeros(2), "more": Attack(trace)}
    if torch_made:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(DamagedFileError):
        read_weights(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ([torch.zeros(2)], "holds no weights by name, but a list"),
        ({}, "holds no weights by name"),
        ({"state_dict": {"w": torch.zeros(2)}, "epoch": 3}, "'state_dict', a dict, where"),
        ({"w": torch.zeros(2), 3: torch.zeros(2)}, "'3', a Tensor"),
    ],
)
def test_files_of_other_contents_are_told(tmp_path: Path, value: Any, sentence: str) -> None:
    path = tmp_path / "weights.pth"
    torch.save(value, path)
    with pytest.raises(UserError, match=sentence):
        read_weights(path)


@pytest.mark.parametrize("number", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_are_told(tmp_path: Path, number: float) -> None:
    path = tmp_path / "weights.pth"
    torch.save(state() | {"0.bias": torch.tensor([0, 0, number, 0])}, path)
    with pytest.raises(DamagedFileError, match=r"0\.bias holds numbers that are not finite"):
        read_weights(path)


# --- into a network ---


def network() -> nn.Module:
    with torch.device("meta"):
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def norm() -> dict[str, torch.Tensor]:
    return {
        "1.weight": torch.full((4,), 2.0),
        "1.bias": torch.zeros(4),
        "1.running_mean": torch.zeros(4),
        "1.running_var": torch.ones(4),
    }


def test_weights_go_where_they_belong_as_float32() -> None:
    weights = {name: tensor.half() for name, tensor in (state() | norm()).items()}
    loaded = network()
    load_into(loaded, weights, Path("w.pth"), "toy")
    x = torch.ones(2, 3)
    expected = 2 * (x @ weights["0.weight"].float().T + weights["0.bias"].float())
    torch.testing.assert_close(loaded.eval()(x), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (dict[str, torch.Tensor](), None),
        ({"1.num_batches_tracked": torch.tensor(7)}, None),  # of no use here
        ({"2.weight": torch.zeros(4)}, "holds no toy, which has no 2.weight"),
        ({"0.weight": torch.zeros(3, 4)}, r"0.weight is \[3, 4\], expected \[4, 3\]"),
    ],
)
def test_other_weights_are_told(change: dict[str, torch.Tensor], sentence: str | None) -> None:
    weights = state() | norm() | change
    if sentence is None:
        load_into(network(), weights, Path("w.pth"), "toy")
        return
    with pytest.raises(UserError, match=sentence):
        load_into(network(), weights, Path("w.pth"), "toy")


def test_weights_that_are_missing_are_named_and_counted() -> None:
    with pytest.raises(UserError) as told:
        load_into(network(), norm(), Path("w.pth"), "toy")
    assert str(told.value) == "w.pth holds no toy: of 6 tensors it lacks 0.weight and 1 more."


@pytest.mark.parametrize(
    ("open_network", "sentence"),
    [
        (inception_features, r"holds no Inception-v3.*lacks Conv2d_1a_3x3\.conv\.weight and 471"),
        (dinov2_features, r"holds no DINOv2: expected cls_token"),
    ],
)
def test_a_file_of_another_network_is_told(
    tmp_path: Path, open_network: Callable[[Path], object], sentence: str
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(state(), path)
    with pytest.raises(UserError, match=sentence):
        open_network(path)
