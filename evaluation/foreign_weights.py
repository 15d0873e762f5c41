"""Weights that others have trained, from a file that the user names: tensors, nothing that runs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from playfield.errors import DamagedFileError, UserError

#: Batch norms count the batches they have learned from; ported weights may have none of that.
_COUNTER = "num_batches_tracked"


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], str]:
    """The tensors in `path`, by name, and the SHA-256 of the file.

    The file is a `.safetensors`, or a dict of tensors that torch has saved, of which nothing but
    tensors is read. Raises `UserError` for what is none of these.
    """
    if not path.is_file():
        raise UserError(f"{path} is no file: name the weights to load, .safetensors or .pth.")
    try:
        with open(path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror or error}.") from None
    weights = _tensors(path)
    wrong = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if wrong:
        raise DamagedFileError(f"{path}: {wrong[0]} holds numbers that are not finite.")
    return weights, sha256


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            loaded = safetensors.torch.load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    # What torch raises for a file that is none of its own follows from the bytes it stumbles over.
    # Its sentences stay out of ours: they advise to load the file in the way that runs it.
    except Exception as error:
        raise DamagedFileError(
            f"{path} can't be read as weights: expected a .safetensors file, or a .pth of tensors "
            "and nothing else; it is another file, or cut short."
        ) from error
    if not isinstance(loaded, dict) or not loaded:
        raise UserError(f"{path} holds no weights by name, but a {type(loaded).__name__}.")
    for name, tensor in loaded.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise UserError(
                f"{path} holds {str(name)[:40]!r}, a {type(tensor).__name__}, where the names of "
                "weights and tensors were expected: save the network's `state_dict()` alone."
            )
    return dict(loaded)


def load_into(
    network: nn.Module, weights: Mapping[str, torch.Tensor], path: Path, what: str
) -> None:
    """Give `network`, which may lie on the device "meta", the `weights` that `path` held.

    Every tensor has to be there, in its shape, and no other: `UserError` names the first that is
    not, and says that `path` holds no `what`. Weights become float32.
    """
    expected = _without_counters(network.state_dict())
    given = _without_counters(weights)
    missing = [name for name in expected if name not in given]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(
            f"{path} holds no {what}: of {len(expected)} tensors it lacks {missing[0]}{more}."
        )
    for name, tensor in given.items():
        if name not in expected:
            raise UserError(f"{path} holds no {what}, which has no {name}.")
        if tensor.shape != expected[name].shape:
            raise UserError(
                f"{path} holds no {what}: {name} is {list(tensor.shape)}, expected "
                f"{list(expected[name].shape)}."
            )
    counters = {name: torch.tensor(0) for name in network.state_dict() if _COUNTER in name}
    floats = {name: tensor.float() for name, tensor in given.items()}
    network.load_state_dict(floats | counters, assign=True)


def _without_counters(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in weights.items() if not name.endswith(_COUNTER)}
