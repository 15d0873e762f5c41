"""Which of a run's checkpoints is meant, and what to say of one that is not the run's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from playfield.errors import DamagedFileError, UserError
from playfield.training.checkpoint import (
    Checkpoint,
    list_checkpoints,
    load_checkpoint,
    newest_intact,
)
from playfield.training.kept_checkpoints import BEST, LAST, known_record
from playfield.training.run import MANIFEST, Run

if TYPE_CHECKING:
    import torch

#: The field of `run.json` that says why none of the run's evaluations can be the best, if so.
NO_BEST = "no_best"


def wanted_checkpoint(
    run: Run, wanted: str | None, report: Callable[[str], None], *, stores: bool
) -> Checkpoint:
    """The checkpoint that `wanted` names: by progress or path, "best", or "last".

    None is the last as well, the newest intact one. The best is that of the best evaluation, in
    runs that are told what that is. Damaged ones that are passed over are told to `report`; one
    asked for by name must be intact. Raises `UserError` where there is none.
    """
    if wanted not in (None, LAST, BEST):
        return load_checkpoint(_find(run, wanted), stores=stores)
    newest = _newest(run, report, stores=stores)
    if wanted != BEST:
        return newest
    record = known_record(run, newest)
    if record is None:
        reason = run.manifest.get(NO_BEST) or (
            "none of those that it keeps was evaluated by a number to choose by (runs that paint "
            "are, with --evaluate-every)"
        )
        raise UserError(f"Run {run.name!r} has no best checkpoint: {reason}; take the last.")
    if record.progress == newest.progress:
        return newest
    return load_checkpoint(_find(run, str(record.progress)), stores=stores)


def _newest(run: Run, report: Callable[[str], None], *, stores: bool) -> Checkpoint:
    checkpoint = newest_intact(run.checkpoints_folder, report, stores=stores)
    if checkpoint is None:
        some = list_checkpoints(run.checkpoints_folder)
        raise UserError(
            f"Run {run.name!r} has no {'intact ' if some else ''}checkpoint in "
            f"{run.checkpoints_folder}: "
            + ("all of them are damaged, " if some else "it ended before the first one, ")
            + "so train anew under another name."
        )
    return checkpoint


def weights_at(run: Run, checkpoint: Checkpoint, *path: str) -> dict[str, torch.Tensor]:
    """The weights at this place in the trainer's state, by name.

    Raises `DamagedFileError` where there are none.
    """
    try:
        weights = checkpoint.state["trainer"]
        for key in path:
            weights = weights[key]
        return {name: weights[name].detach() for name in weights}
    except (KeyError, TypeError, AttributeError) as error:
        raise does_not_fit(run, checkpoint, error) from error


def does_not_fit(run: Run, checkpoint: Checkpoint, error: Exception) -> DamagedFileError:
    """The sentence for a checkpoint that is whole but not what `run.json` describes."""
    reason = " ".join(str(error).split())
    if isinstance(error, KeyError):
        reason = f"{reason} is missing"
    what = "model" if "data" in run.manifest else "agent"
    return DamagedFileError(
        f"Checkpoint {checkpoint.path} does not fit the {run.manifest['algorithm']} {what} that "
        f"{MANIFEST} describes ({reason[:200]}): it belongs to another run, or {MANIFEST} "
        "was edited."
    )


def _find(run: Run, wanted: str) -> Path:
    known = list_checkpoints(run.checkpoints_folder)
    digits = wanted.replace(",", "").replace("_", "")
    for path in known:
        if path.name == wanted or (digits.isdecimal() and int(path.name) == int(digits)):
            return path
    if (Path(wanted) / "manifest.json").is_file():
        return Path(wanted)
    steps = "".join(f"{int(path.name):,}, " for path in known)
    raise UserError(
        f"Run {run.name!r} has no checkpoint {wanted!r}: there are {steps}{BEST} and {LAST}."
    )
