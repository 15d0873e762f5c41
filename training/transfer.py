"""Weights that begin as those of another network, and parts of a network that stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from playfield.errors import UserError

Parts = Literal["encoder", "all"]
Freeze = Literal["none", "encoder"]


@dataclass(frozen=True)
class Origin:
    """What a run's weights were before its first update, as `run.json` keeps it."""

    run: str | None  # whose weights they were; None: nobody's, all are random
    progress: int | None  # of that run's checkpoint
    parts: Parts
    freeze: Freeze
    taken: tuple[str, ...]
    left_out: dict[str, str]  # name: why


@dataclass(frozen=True, slots=True)
class Transfer:
    """What became of each tensor, by its name in the networks."""

    taken: tuple[str, ...]
    left_out: dict[str, str]  # name: why


def transfer(
    source: Mapping[str, torch.Tensor], target: nn.Module, parts: Parts, *, source_name: str
) -> Transfer:
    """Give `target` the weights in `source` that fit it, buffers included; the rest stays.

    `source` is the `state_dict` of another network; the states of generators in it are no weights.

    A layer is taken whole, where all its tensors have the same names and shapes on both sides, or
    not at all: the bias of another weight is of no use. `parts` bounds what is looked at. Raises
    `UserError`, which calls the source `source_name`, where no layer fits; `target` is then as it
    was.
    """
    own = target.state_dict()  # shares the network's memory
    part = "" if parts == "all" else f"{encoder_name(target)}."
    here = {name: own[name] for name in own if _is_in(name, part)}
    there = {name: source[name] for name in source if _is_in(name, part)}
    misfits = {
        name: reason
        for name in (here | there)
        if (reason := _misfit(there.get(name), here.get(name))) is not None
    }
    first_misfit = {_layer(name): name for name in reversed(misfits)}
    left_out = {
        name: misfits.get(name) or f"goes with {first_misfit[_layer(name)]}"
        for name in (here | there)
        if _layer(name) in first_misfit
    }
    taken = tuple(name for name in here if name not in left_out)
    if not taken:
        what = "encoder" if parts == "encoder" else "network"
        reasons = [f"{name} ({reason})" for name, reason in misfits.items()]
        more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        raise UserError(
            f"Nothing of the {what} of {source_name} fits: "
            f"{', '.join(reasons[:3]) or 'it has no weights'}{more}; choose a run with the "
            "same kind of network, of observations or images like these."
        )
    with torch.no_grad():
        for name in taken:
            here[name].copy_(there[name])
    return Transfer(taken, left_out)


def freeze(network: nn.Module, what: Freeze) -> None:
    """Keep this part of `network` as it is while the rest learns.

    Its parameters get no gradient, and an optimiser passes over those without one: neither weight
    decay nor momentum moves them. Modules with buffers of their own, such as norms with running
    statistics, evaluate from now on, whatever mode the network is put in.
    """
    if what == "none":
        return
    part = network.get_submodule(encoder_name(network))
    part.requires_grad_(False)
    for module in part.modules():
        if next(module.buffers(recurse=False), None) is not None:
            module.training = False
            # `network.train()` reaches every module; this has the last word.
            module.register_forward_pre_hook(_evaluate)


def encoder_name(network: nn.Module) -> str:
    """What the part of `network` that sees is called in it."""
    name: str = getattr(network, "encoder_name", "encoder")
    return name


def _evaluate(module: nn.Module, _: tuple[Any, ...]) -> None:
    module.training = False


def _is_in(name: str, part: str) -> bool:
    # torch's name for what is neither parameter nor buffer, such as the draws of a dropout.
    is_weight = not name.endswith("_extra_state")
    return is_weight and name.startswith(part)


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _misfit(there: torch.Tensor | None, here: torch.Tensor | None) -> str | None:
    if there is None:
        return "missing there"
    if here is None:
        return "missing here"
    if there.shape != here.shape:
        return f"{list(there.shape)} there, {list(here.shape)} here"
    return None
