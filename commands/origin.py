"""What a new run begins with: weights of another run, and which of them stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from playfield.commands import stored
from playfield.errors import UserError
from playfield.training.run import Run
from playfield.training.transfer import (
    Freeze,
    Origin,
    Parts,
    Transfer,
    encoder_name,
    freeze,
    transfer,
)

if TYPE_CHECKING:
    import torch
    from torch import nn

    from playfield.training.checkpoint import Checkpoint
    from playfield.training.trainer import Trainer


@dataclass(frozen=True)
class Source:
    """Weights of a run that may have been of another game and algorithm."""

    run: Run
    progress: int  # of the checkpoint they are from
    weights: dict[str, torch.Tensor]
    which: str = ""  # of the weights there, where it has several


def check_parts(init_from: str | None, parts: Parts) -> None:
    """`UserError` for parts of no run."""
    if init_from is None and parts != "all":
        raise UserError("--init-parts wants the run that they are of, as in --init-from RUN.")


def find_source(name_or_path: str | None, root: Path) -> Source | None:
    """The newest weights of the agent's run named so; None for no name.

    Raises `UserError` where there is no such run or it has no checkpoint that can be read.
    """
    if name_or_path is None:
        return None
    run = Run.open(name_or_path, root)
    stored.stored_algorithm(run)  # before the checkpoint, which can take a while
    return newest_weights(run, stored.stored_weights)


def newest_weights(
    run: Run, read: Callable[[Run, Checkpoint], dict[str, torch.Tensor]], which: str = ""
) -> Source:
    """What `read` finds in the newest checkpoint of `run` that can be read.

    Raises `UserError` where there is none.
    """
    checkpoint = stored.stored_checkpoint(run, None, stores=False)
    return Source(run, checkpoint.progress, read(run, checkpoint), which)


def begin(
    trainer: Trainer,
    source: Source | None,
    parts: Parts = "all",
    what: Freeze = "none",
    *,
    network: nn.Module | None = None,
) -> Origin | None:
    """Give a fresh trainer the weights of `source`, freeze what has to be, and say so.

    `network` is what takes them; None: `trainer.network`. Returns what `run.json` keeps of it; None
    where all weights are random and learn. Raises `UserError` where nothing fits.
    """
    if source is None and what == "none":
        return None
    network = trainer.network if network is None else network
    moved = Transfer((), {})
    if source is not None:
        name = f"run {source.run.name!r}"
        moved = transfer(source.weights, network, parts, source_name=name)
        trainer.network_replaced()
        _tell(source, moved)
    freeze(network, what)
    if what != "none":
        part = encoder_name(network)
        named = network.get_submodule(part).named_parameters()
        frozen = {f"{part}.{name}" for name, _ in named}
        random = frozen.difference(moved.taken)
        how = ", random weights where none were taken" if random != frozen else ", at random"
        print(f"The {what} is frozen{how if random else ''}.")
    return Origin(
        run=None if source is None else source.run.name,
        progress=None if source is None else source.progress,
        parts=parts,
        freeze=what,
        taken=moved.taken,
        left_out=moved.left_out,
    )


def _tell(source: Source, moved: Transfer) -> None:
    manifest = source.run.manifest
    unit = "image" if "data" in manifest else "step"
    which = f"; {source.which}" if source.which else ""
    left = f"; left out are {len(moved.left_out)}:" if moved.left_out else "."
    print(
        f"Begins with {len(moved.taken)} tensors of run {source.run.name!r} "
        f"({manifest['algorithm']} on {source.run.world}, {unit} {source.progress:,}{which}){left}"
    )
    for name, reason in moved.left_out.items():
        print(f"  {name}: {reason}")
