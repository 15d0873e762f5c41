"""The checkpoints that a run keeps: the last ones, and the best by a metric of its evaluations.

Two places know which one is the best. A checkpoint's state holds the record as it was when that was
written, itself included where it was the best by then, so that a resume after a kill goes on with
it. `run.json` holds it for readers, and also what an evaluation after the last checkpoint found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playfield.errors import DamagedFileError
from playfield.training.checkpoint import Checkpoint, list_checkpoints, prune, save_checkpoint
from playfield.training.run import MANIFEST, Run
from playfield.training.saved_settings import from_stored
from playfield.training.trainer import State

if TYPE_CHECKING:
    from playfield.buffers.store import FrameStore

#: The field of `run.json` that names the best checkpoint and the last one, and its own fields. A
#: checkpoint's state has the record under the name `BEST` as well.
CHECKPOINTS, BEST, LAST = "checkpoints", "best", "last"


@dataclass(frozen=True)
class Record:
    """The best evaluation whose weights are kept."""

    progress: int  # of the checkpoint
    metric: str
    value: float


@dataclass(frozen=True)
class Best:
    """What makes one evaluation better than another."""

    metric: str
    lowest: bool = True  # whether a low value is good

    def challenger(
        self, progress: int, evaluation: Mapping[str, float], record: Record | None
    ) -> Record | None:
        """The record that this evaluation would be, if it beats `record`; None if not.

        A value that is not finite beats nothing, an equal one neither. A record by another metric,
        from an older version, is always beaten.
        """
        value = evaluation.get(self.metric)
        if value is None or not math.isfinite(value):
            return None
        if record is not None and record.metric == self.metric:
            better = value < record.value if self.lowest else value > record.value
            if not better:
                return None
        return Record(progress, self.metric, value)


class KeptCheckpoints:
    """The checkpoints of a run that is being trained, written and removed as training goes on."""

    def __init__(self, run: Run, keep: int, best: Best | None) -> None:
        self._run, self._keep, self._best = run, keep, best
        self.newest: Path | None = None  # the newest one known to be intact
        self.saved_at = -1  # its progress
        self.record: Record | None = None  # the best evaluation whose weights are saved
        self._challenger: Record | None = None  # a better one, whose weights are not saved yet

    def go_on_from(self, checkpoint: Checkpoint) -> None:
        """Take the run up where `checkpoint`, an intact one, was written."""
        self.newest, self.saved_at = checkpoint.path, checkpoint.progress
        self.record = known_record(self._run, checkpoint)

    def judge(self, progress: int, evaluation: Mapping[str, float]) -> bool:
        """Take in an evaluation of the weights at `progress`; whether the record is another now.

        Weights that are not saved yet can only become the record with the next `commit`.
        """
        if self._best is None:
            return False
        better = self._best.challenger(progress, evaluation, self.record)
        if better is not None and self.saved_at == progress:
            self.record = better
            return True
        self._challenger = better
        return False

    def wants(self, progress: int) -> bool:
        """Whether the weights at `progress` are the best so far, and not saved yet."""
        return self._challenger is not None and self._challenger.progress == progress

    def commit(self, progress: int, state: State, stores: Mapping[str, FrameStore]) -> None:
        """Write a checkpoint, which becomes the record if it is the best so far.

        Raises `OSError`, and then all that was saved before is untouched.
        """
        best = self._challenger if self.wants(progress) else self.record
        state = {**state, BEST: None if best is None else asdict(best)}
        self.newest = save_checkpoint(self._run.checkpoints_folder, progress, state, stores)
        # Not before: what could not be written may be tried again where the run ends.
        self._challenger = None
        self.saved_at, self.record = progress, best

    def prune(self) -> None:
        """Remove those that need not be kept; raises `OSError`.

        `run.json` should have the newest `description` before: a kill must not leave it with the
        name of one that is gone.
        """
        best = () if self.record is None else (self.record.progress,)
        prune(self._run.checkpoints_folder, self._keep, intact=self.newest, kept=best)

    def description(self) -> dict[str, Any]:
        """What `run.json` says of them under `CHECKPOINTS`."""
        return {
            BEST: None if self.record is None else asdict(self.record),
            LAST: None if self.newest is None else {"progress": self.saved_at},
        }


def known_record(run: Run, newest: Checkpoint) -> Record | None:
    """The record of `run` where it goes on from `newest`; None where its checkpoint is gone.

    A record beyond `newest` is of a future that is given up. Of two that are left the later one
    counts: it has beaten the other. Raises `DamagedFileError` for what is no record.
    """
    found = [
        _record(place[BEST], f"{where}{BEST}")
        for where, place in (
            (f"{newest.path}: ", newest.state),
            (f"{run.folder / MANIFEST}: {CHECKPOINTS}.", run.manifest.get(CHECKPOINTS, {})),
        )
        if place.get(BEST) is not None
    ]
    kept = {int(path.name) for path in list_checkpoints(run.checkpoints_folder)}
    valid = [each for each in found if each.progress <= newest.progress and each.progress in kept]
    return max(valid, key=lambda record: record.progress, default=None)


def _record(value: Any, where: str) -> Record:
    if not isinstance(value, dict):
        raise DamagedFileError(f"{where} should be an object, not {value!r}.")
    record = from_stored(Record, value, where, complete=True)
    if not math.isfinite(record.value):
        raise DamagedFileError(f"{where}: value should be a finite number, not {record.value}.")
    return record
