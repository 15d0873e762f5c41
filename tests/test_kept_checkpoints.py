"""The best checkpoint is kept beside the last ones, through kills too, and found by name."""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_trainer import FakeTrainer, SilentDisplay, manifest

from playfield.errors import DamagedFileError, UserError
from playfield.training import checkpoint as checkpoint_module
from playfield.training import kept_checkpoints
from playfield.training.checkpoint import list_checkpoints, load_checkpoint, newest_intact
from playfield.training.kept_checkpoints import Best, Record, known_record
from playfield.training.loop import Outcome, TrainingConfig, train
from playfield.training.run import Run
from playfield.training.run_checkpoint import wanted_checkpoint

#: An evaluation every 10 steps, and seldom a checkpoint.
CONFIG = TrainingConfig(
    steps=60, log_every=10, checkpoint_every=50, evaluate_every=10, keep_checkpoints=1
)
DISTANCE = Best("paint/frechet_distance")


class Killed(BaseException):
    """The end of a process, at a chosen place."""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path, "fake", manifest())


def script(
    trainer: FakeTrainer, distances: Mapping[int, float]
) -> Callable[[], Mapping[str, float]]:
    """An evaluator that finds these distances at these steps, and 100 elsewhere."""
    return lambda: {DISTANCE.metric: distances.get(trainer.progress, 100.0)}


def go(
    run: Run,
    distances: Mapping[int, float],
    trainer: FakeTrainer | None = None,
    *,
    best: Best | None = DISTANCE,
    resume: bool = False,
    **config: Any,
) -> Outcome:
    trainer = trainer or FakeTrainer()
    return train(
        trainer,
        run,
        replace(CONFIG, **config),
        evaluate=script(trainer, distances),
        best=best,
        resume_from=newest_intact(run.checkpoints_folder, pytest.fail) if resume else None,  # type: ignore[arg-type]
        display=SilentDisplay(),
    )


def saved(run: Run) -> list[int]:
    return [int(path.name) for path in list_checkpoints(run.checkpoints_folder)]


def named(run: Run) -> tuple[int, int]:
    """The best and the last one that `run.json` names."""
    said = json.loads((run.folder / "run.json").read_text())["checkpoints"]
    assert said["best"]["metric"] == DISTANCE.metric
    return said["best"]["progress"], said["last"]["progress"]


def wanted(run: Run, name: str | None) -> int:
    return wanted_checkpoint(run, name, pytest.fail, stores=False).progress


def test_the_best_is_kept_though_older_than_the_checkpoints_that_are(run: Run) -> None:
    outcome = go(run, {10: 5.0, 20: 3.0, 30: 4.0})
    assert saved(run) == [20, 60]
    assert named(run) == (20, 60)
    assert outcome.best == Record(20, DISTANCE.metric, 3.0)
    assert outcome.checkpoint == run.checkpoints_folder / "000000000060"


def test_what_is_kept_are_the_weights_that_were_evaluated(run: Run) -> None:
    seen: dict[int, torch.Tensor] = {}
    trainer = FakeTrainer()

    def look(progress: int) -> None:
        seen[progress - 1] = trainer.weight.detach().clone()  # before the step to `progress`

    trainer.on_step = look
    go(run, {20: 3.0}, trainer)
    state = wanted_checkpoint(run, "best", pytest.fail, stores=False).state
    assert torch.equal(state["trainer"]["weight"], seen[20])


def test_the_best_makes_way_for_a_better_one(run: Run) -> None:
    go(run, {10: 5.0, 20: 3.0, 40: 2.0})
    assert saved(run) == [40, 60]
    assert named(run) == (40, 60)


def test_the_best_may_be_the_last_one_evaluated_after_it_was_saved(run: Run) -> None:
    go(run, {10: 5.0, 60: 1.0})
    assert saved(run) == [60]
    assert named(run) == (60, 60)
    assert wanted(run, "best") == wanted(run, "last") == wanted(run, None) == 60


def test_equal_evaluations_do_not_replace_the_first(run: Run) -> None:
    go(run, {20: 3.0, 30: 3.0})
    assert named(run) == (20, 60)


def test_highest_can_be_best(run: Run) -> None:
    go(run, {20: 300.0, 30: 400.0}, best=Best(DISTANCE.metric, lowest=False))
    assert named(run) == (30, 60)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_never_the_best(run: Run, value: float) -> None:
    go(run, {10: value, 20: 3.0, 30: value})
    assert named(run) == (20, 60)
    # Nor does it stand in the way of the first number.
    rule = Best("x", lowest=value < 0)
    assert rule.challenger(1, {"x": value}, None) is None
    assert rule.challenger(2, {"x": 1.0}, None) == Record(2, "x", 1.0)


def test_a_step_that_is_both_best_and_due_is_saved_once(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    real = kept_checkpoints.save_checkpoint

    def count(folder: Path, progress: int, *rest: Any) -> Path:
        written.append(progress)
        return real(folder, progress, *rest)

    monkeypatch.setattr(kept_checkpoints, "save_checkpoint", count)
    go(run, {50: 3.0})
    assert written == [10, 50, 60]  # the first evaluation is the best so far, whatever it finds


def test_without_a_rule_no_checkpoint_is_written_and_no_segment_begun_for_an_evaluation(
    run: Run,
) -> None:
    trainer = FakeTrainer()
    go(run, {20: 3.0}, trainer, best=None, keep_checkpoints=9)
    assert saved(run) == [50, 60]
    assert trainer.segments == [0, 1]
    assert run.manifest["checkpoints"] == {"best": None, "last": {"progress": 60}}


def test_what_is_learned_does_not_depend_on_what_is_kept(tmp_path: Path) -> None:
    weights = []
    for name, best in (("with", DISTANCE), ("without", None)):
        trainer = FakeTrainer()
        go(Run.create(tmp_path, name, manifest()), {20: 3.0}, trainer, best=best)
        weights.append(trainer.weight.detach())
    assert torch.equal(*weights)


def test_a_resume_goes_on_with_the_best_so_far(run: Run) -> None:
    go(run, {20: 3.0}, steps=40)
    whole = FakeTrainer()
    go(Run.create(run.folder.parent, "whole", manifest()), {20: 3.0, 90: 2.0}, whole, steps=100)
    second = FakeTrainer()
    go(run, {50: 3.5, 90: 4.0}, second, resume=True, steps=100)
    assert named(run) == (20, 100)
    assert saved(run) == [20, 100]
    assert torch.equal(whole.weight, second.weight)
    go(run, {110: 2.5}, resume=True, steps=120)
    assert named(run) == (110, 120)
    assert saved(run) == [110, 120]


def test_a_best_found_after_the_last_save_is_known_to_a_resume(run: Run) -> None:
    go(run, {20: 3.0, 40: 1.0}, steps=40)  # evaluated at the end, when 40 was saved already
    go(run, {50: 2.0}, resume=True)
    assert named(run) == (40, 60)


def test_a_kill_between_evaluation_and_checkpoint_costs_the_evaluation_alone(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(run, {10: 5.0}, steps=20)

    def killed(*_: Any) -> Path:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(kept_checkpoints, "save_checkpoint", killed)
        go(run, {30: 1.0}, resume=True)
    assert wanted(Run.open("fake", run.folder.parent), "best") == 10
    # It is found again, and saved this time.
    go(Run.open("fake", run.folder.parent), {30: 1.0}, resume=True)
    assert named(run) == (30, 60)


def test_a_kill_right_after_the_checkpoint_leaves_one_that_knows_it_is_the_best(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(run, {10: 5.0}, steps=20)
    real = kept_checkpoints.save_checkpoint

    def killed_after(*arguments: Any) -> Path:
        real(*arguments)
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(kept_checkpoints, "save_checkpoint", killed_after)
        go(run, {30: 1.0}, resume=True)
    again = Run.open("fake", run.folder.parent)
    assert named(again)[0] == 10  # `run.json` does not know yet
    assert saved(again) == [10, 20, 30]
    assert load_checkpoint(run.checkpoints_folder / f"{30:012d}").state["best"]["progress"] == 30
    assert wanted(again, "best") == 30
    go(again, {40: 2.0}, resume=True)
    assert named(again) == (30, 60)


def test_a_kill_before_old_ones_are_removed_leaves_none_named_that_is_gone(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(kept_checkpoints, "prune", killed)
        go(run, {10: 5.0})
    assert named(run) == (10, 10)
    assert saved(run) == [10]


def test_a_run_that_goes_on_from_an_older_checkpoint_forgets_what_came_later(run: Run) -> None:
    go(run, {10: 5.0, 40: 1.0}, keep_checkpoints=9)
    trainer = FakeTrainer()
    older = load_checkpoint(run.checkpoints_folder / f"{10:012d}")
    config = replace(CONFIG, steps=30, keep_checkpoints=9)
    evaluate = script(trainer, {20: 6.0, 30: 7.0})
    train(
        trainer, run, config,
        evaluate=evaluate, best=DISTANCE, resume_from=older, display=SilentDisplay(),
    )  # fmt: skip
    assert named(run) == (10, 30)


def test_a_record_whose_checkpoint_is_gone_is_none(run: Run) -> None:
    go(run, {20: 3.0})
    (run.checkpoints_folder / f"{20:012d}").rename(run.folder / "elsewhere")
    newest = load_checkpoint(run.checkpoints_folder / f"{60:012d}")
    assert known_record(run, newest) is None
    with pytest.raises(UserError, match="'fake' has no best checkpoint"):
        wanted(run, "best")
    go(run, {80: 50.0}, resume=True, steps=80)  # the best of those that there are
    assert named(run) == (80, 80)


def test_a_best_that_cannot_be_saved_is_given_up(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = checkpoint_module.encode_state

    def full_at_20(state: Any) -> Any:
        if state["trainer"]["progress"] == 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(state)

    monkeypatch.setattr(checkpoint_module, "encode_state", full_at_20)
    outcome = go(run, {10: 5.0, 20: 3.0, 30: 4.0})
    assert outcome.best == Record(30, DISTANCE.metric, 4.0)
    assert saved(run) == [30, 60]


def test_weights_that_are_not_sound_are_not_the_best(run: Run) -> None:
    trainer = FakeTrainer(spoil=lambda progress: progress == 20)
    go(run, {10: 5.0, 20: 3.0, 30: 4.0}, trainer)
    assert named(run) == (30, 60)


def test_best_and_last_find_their_checkpoints(run: Run) -> None:
    go(run, {20: 3.0})
    assert (wanted(run, "best"), wanted(run, "last"), wanted(run, None)) == (20, 60, 60)
    assert wanted(run, "20") == 20
    with pytest.raises(UserError, match="no checkpoint 'bets': there are 20, 60, best and last"):
        wanted(run, "bets")


def test_a_run_without_a_best_says_so(run: Run) -> None:
    go(run, {}, best=None)
    assert wanted(run, "last") == 60
    with pytest.raises(UserError, match="none of those that it keeps was evaluated"):
        wanted(run, "best")
    # One from before there was a best.
    run.manifest.pop("checkpoints")
    with pytest.raises(UserError, match="has no best checkpoint"):
        wanted(run, "best")


def test_a_damaged_best_is_told_and_no_other_taken(run: Run) -> None:
    go(run, {20: 3.0})
    path = run.checkpoints_folder / f"{20:012d}" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedFileError, match="000000000020"):
        wanted(run, "best")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (7, r"checkpoints\.best should be an object"),
        ({"progress": 20}, r"checkpoints\.best lacks the field 'metric'"),
        ({"progress": "20", "metric": "x", "value": 1.0}, "progress should be int"),
        ({"progress": 20, "metric": "x", "value": math.nan}, "should be a finite number"),
    ],
)
def test_a_record_that_is_none_names_its_field(run: Run, record: Any, said: str) -> None:
    go(run, {20: 3.0})
    run.manifest["checkpoints"] = {"best": record}
    with pytest.raises(DamagedFileError, match=said):
        wanted(run, "best")
