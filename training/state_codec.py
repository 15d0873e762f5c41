"""Nested states as JSON plus named tensors, and back, bit for bit; nothing in them can run."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from playfield.errors import DamagedFileError
from playfield.training.trainer import State

_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def encode_state(state: State) -> tuple[bytes, bytes]:
    """`state` as (JSON, safetensors): the tree with its scalars, and its tensors and arrays.

    Leaves are tensors, numpy arrays, int (of any size), float, bool, str and None; numpy scalars
    become Python's. Dicts have str or int keys, and an int key stays an int; tuples become lists.
    Tensors are saved without device, strides and graph. Raises `TypeError` naming the leaf
    that is none of these.
    """
    tensors: dict[str, torch.Tensor] = {}
    tree = _encode(state, (), tensors)
    text = json.dumps(tree, allow_nan=False, separators=(",", ":"))
    return text.encode(), safetensors.torch.save(tensors)


def decode_state(tree: bytes, tensors: bytes) -> State:
    """The state that `encode_state` was given; raises `DamagedFileError` naming the field."""
    try:
        named = safetensors.torch.load(tensors)
    except (safetensors.SafetensorError, ValueError, KeyError, AssertionError) as error:
        raise DamagedFileError(f"state.safetensors can't be read: {error}.") from None
    try:
        parsed = json.loads(tree)
        state = _decode(parsed, (), named)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"state.json can't be read: {error}.") from None
    if not isinstance(state, dict):
        raise DamagedFileError("state.json should hold a dict.")
    if named:
        raise DamagedFileError(
            f"state.safetensors holds {min(named)!r}, which is not in the state."
        )
    return state


# In JSON a scalar stands for itself, and everything else is an object with one key that says what
# it is: {"dict": [[key, node], ...]}, {"list": [node, ...]}, {"tensor": name}, {"array": name},
# {"float": "nan" | "inf" | "-inf"}. Pairs keep int keys (an optimiser's) apart from strings.


def _encode(value: Any, path: tuple[str, ...], tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": str(float(value))}
    if isinstance(value, torch.Tensor):
        # A copy always: safetensors refuses tensors that share memory, such as tied weights.
        data = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": _keep(data, path, tensors)}
    if isinstance(value, np.ndarray):
        native = value.astype(value.dtype.newbyteorder("="), order="C", copy=True)
        try:
            data = torch.from_numpy(native)
        except TypeError:
            raise TypeError(
                f"state {_show(path)}: arrays of {value.dtype} can't be saved"
            ) from None
        return {"array": _keep(data, path, tensors)}
    if isinstance(value, list | tuple):
        nodes = [_encode(v, (*path, str(i)), tensors) for i, v in enumerate(value)]
        return {"list": nodes}
    if isinstance(value, dict):
        pairs = []
        for key, item in value.items():
            if isinstance(key, bool) or not isinstance(key, int | str):
                raise TypeError(f"state {_show(path)}: the key {key!r} is neither str nor int")
            pairs.append([key, _encode(item, (*path, str(key)), tensors)])
        return {"dict": pairs}
    raise TypeError(f"state {_show(path)}: a {type(value).__name__} can't be saved")


def _keep(data: torch.Tensor, path: tuple[str, ...], tensors: dict[str, torch.Tensor]) -> str:
    """Put `data` into `tensors` under its path, numbered where two paths are spelt alike."""
    name = stem = "/".join(path)
    number = 2
    while name in tensors:
        name, number = f"{stem}#{number}", number + 1
    tensors[name] = data
    return name


def _decode(node: Any, path: tuple[str, ...], tensors: dict[str, torch.Tensor]) -> Any:
    """The value of `node`; takes what it uses out of `tensors`."""
    if not isinstance(node, dict):
        if isinstance(node, list):
            raise DamagedFileError(f"state.json, {_show(path)}: a bare list has no meaning there.")
        return node
    kind, content = next(iter(node.items())) if len(node) == 1 else (None, None)
    if kind in ("tensor", "array") and isinstance(content, str):
        if content not in tensors:
            raise DamagedFileError(f"state.safetensors lacks {content!r} for {_show(path)}.")
        data = tensors.pop(content)
        return data if kind == "tensor" else data.numpy()
    if kind == "list" and isinstance(content, list):
        return [_decode(item, (*path, str(i)), tensors) for i, item in enumerate(content)]
    if kind == "dict" and isinstance(content, list):
        return _decode_dict(content, path, tensors)
    if kind == "float" and content in _NON_FINITE:
        return _NON_FINITE[content]
    raise DamagedFileError(f"state.json, {_show(path)}: {str(node)[:40]!r} has no meaning there.")


def _decode_dict(
    pairs: list[Any], path: tuple[str, ...], tensors: dict[str, torch.Tensor]
) -> State:
    result: dict[Any, Any] = {}
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or type(pair[0]) not in (int, str):
            raise DamagedFileError(f"state.json, {_show(path)}: {str(pair)[:40]!r} is no item.")
        key, node = pair
        if key in result:
            raise DamagedFileError(f"state.json, {_show(path)}: the key {key!r} is there twice.")
        result[key] = _decode(node, (*path, str(key)), tensors)
    return result


def _show(path: tuple[str, ...]) -> str:
    return "/".join(path) or "(root)"
