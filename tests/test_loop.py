"""The loop: budgets, curves, checkpoints, evaluation and the non-finite guard."""

import errno
import io
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch
from fake_trainer import FakeTrainer, SilentDisplay, manifest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from playfield.agents.training import AgentTrainingConfig
from playfield.commands.agent_evaluation import during_training
from playfield.errors import DamagedFileError, UserError
from playfield.training import checkpoint as checkpoint_module
from playfield.training.checkpoint import list_checkpoints, load_checkpoint, newest_intact
from playfield.training.logs import read_metrics
from playfield.training.loop import NonFiniteError, Outcome, train
from playfield.training.run import Run

CONFIG: dict[str, Any] = {"steps": 100, "log_every": 20, "checkpoint_every": 50}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path, "fake", manifest())


def _train(
    run: Run, trainer: FakeTrainer, display: SilentDisplay | None = None, **options: Any
) -> Outcome:
    known = get_type_hints(AgentTrainingConfig)
    config = {name: options.pop(name) for name in list(options) if name in known}
    return train(
        trainer,
        run,
        AgentTrainingConfig(**{**CONFIG, **config}),
        display=display or SilentDisplay(),
        **options,
    )


def _resume(run: Run, trainer: FakeTrainer, **options: Any) -> Outcome:
    checkpoint = newest_intact(run.checkpoints_folder, lambda _: None)
    assert checkpoint is not None
    return _train(run, trainer, resume_from=checkpoint, **options)


def _column(run: Run, name: str) -> list[tuple[int, float]]:
    lines = read_metrics(run.metrics_path)
    return [(line["progress"], line[name]) for line in lines if name in line]


def _saved(run: Run) -> list[int]:
    return [int(path.name) for path in list_checkpoints(run.checkpoints_folder)]


def test_the_budget_of_steps_is_kept_and_the_end_saved(run: Run) -> None:
    outcome = _train(run, FakeTrainer(), steps=120)
    assert (outcome.progress, outcome.reason, outcome.signal) == (120, "steps", None)
    assert _saved(run) == [100, 120]
    assert outcome.checkpoint == run.checkpoints_folder / "000000000120"
    assert run.manifest["status"] == "finished"
    assert run.manifest["progress"] == 120


def test_a_trainer_of_many_environments_ends_at_the_first_step_past_the_budget(run: Run) -> None:
    outcome = _train(run, FakeTrainer(stride=16))
    assert outcome.progress == 112  # 7 times 16
    assert _saved(run) == [64, 112]


def test_minutes_end_a_run_between_two_steps(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("playfield.training.loop.time.monotonic", lambda: now[0])

    def a_second_passes(progress: int) -> None:
        now[0] += 1.0

    outcome = _train(run, FakeTrainer(on_step=a_second_passes), minutes=0.5)
    assert (outcome.progress, outcome.reason, outcome.minutes) == (30, "minutes", 0.5)
    # What was used before a resume counts: ten more seconds are left of 40.
    outcome = _resume(run, FakeTrainer(on_step=a_second_passes), minutes=40 / 60)
    assert outcome.progress == 40
    assert outcome.minutes == pytest.approx(40 / 60)


def test_curves_have_a_point_per_interval_and_per_game(run: Run) -> None:
    _train(run, FakeTrainer(game_length=25))
    assert [step for step, _ in _column(run, "train/loss")] == [20, 40, 50, 60, 80, 100]
    assert _column(run, "episode/return") == [(25, 1.0), (50, 2.0), (75, 3.0), (100, 4.0)]
    assert _column(run, "episode/return_mean")[-1] == (100, 2.5)
    assert _column(run, "train/updates")[-1] == (100, 100.0)
    steps = _column(run, "speed/steps_per_second")
    frames = _column(run, "speed/frames_per_second")
    assert [f / s for (_, f), (_, s) in zip(frames, steps, strict=True)] == pytest.approx([4.0] * 6)


def test_the_mean_of_an_interval_covers_exactly_its_steps(run: Run) -> None:
    trainer = FakeTrainer()
    trainer.step = lambda: _count(trainer)  # type: ignore[method-assign]
    _train(run, trainer, checkpoint_every=1000)
    assert _column(run, "count") == [(20, 10.5), (40, 30.5), (60, 50.5), (80, 70.5), (100, 90.5)]


def _count(trainer: FakeTrainer) -> dict[str, Any]:
    trainer.progress += 1
    return {"count": torch.tensor(float(trainer.progress))}


def test_results_depend_neither_on_logging_nor_on_saving(tmp_path: Path) -> None:
    weights = []
    for number, (log, save) in enumerate([(1, 7), (20, 50), (1000, 1000)]):
        trainer = FakeTrainer()
        run = Run.create(tmp_path, f"fake{number}", manifest())
        _train(run, trainer, log_every=log, checkpoint_every=save)
        weights.append(trainer.weight.detach().clone())
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])


def test_a_resumed_run_is_the_run_that_was_never_stopped(tmp_path: Path) -> None:
    whole, first, second = FakeTrainer(), FakeTrainer(), FakeTrainer()
    unbroken = Run.create(tmp_path, "whole", manifest())
    _train(unbroken, whole)
    run = Run.create(tmp_path, "parts", manifest())
    _train(run, first, steps=50)
    outcome = _resume(run, second)
    assert outcome.progress == 100
    assert torch.equal(whole.weight, second.weight)
    assert (first.segments, second.segments) == ([0], [1])
    assert whole.segments == [0, 1]
    for name in ("train/loss", "episode/return", "episode/return_mean", "train/updates"):
        assert _column(run, name) == _column(unbroken, name)


def test_a_segment_begins_at_every_checkpoint_and_none_at_the_end(run: Run) -> None:
    trainer = FakeTrainer()
    _train(run, trainer, checkpoint_every=30)
    assert _saved(run) == [90, 100]
    assert trainer.segments == [0, 1, 2, 3]
    checkpoint = newest_intact(run.checkpoints_folder, pytest.fail)  # type: ignore[arg-type]
    assert checkpoint is not None and checkpoint.state["loop"]["segment"] == 3


def test_a_segment_of_a_resume_is_one_that_the_run_has_not_had(run: Run) -> None:
    trainers = [FakeTrainer() for _ in range(3)]
    _train(run, trainers[0], checkpoint_every=30, steps=40)
    _resume(run, trainers[1], checkpoint_every=30, steps=70)
    _resume(run, trainers[2], checkpoint_every=30, exact_resume=False)
    assert [trainer.segments for trainer in trainers] == [[0, 1], [2, 3], [4]]


def test_without_exact_resume_no_segment_begins_at_a_checkpoint(run: Run) -> None:
    trainer = FakeTrainer()
    _train(run, trainer, checkpoint_every=30, exact_resume=False)
    assert _saved(run) == [90, 100]
    assert trainer.segments == [0]


def test_an_evaluation_comes_before_the_checkpoint_of_its_step(run: Run) -> None:
    # A run killed right after the checkpoint goes on after its step and would never evaluate there.
    seen = []

    trainer = FakeTrainer()

    def evaluate() -> Mapping[str, float]:
        seen.append((trainer.progress, list_checkpoints(run.checkpoints_folder)))
        return {}

    _train(run, trainer, evaluate=evaluate, evaluate_every=50, steps=60)
    assert seen[0] == (50, [])


def test_a_signal_during_a_checkpoint_s_save_ends_the_run_there(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = checkpoint_module.encode_state

    def interrupted(state: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return real(state)

    monkeypatch.setattr(checkpoint_module, "encode_state", interrupted)
    trainer = FakeTrainer()
    outcome = _train(run, trainer)
    assert (outcome.progress, outcome.reason) == (50, "signal")
    assert _saved(run) == [50]
    assert trainer.segments == [0]  # the one after the checkpoint is the resume's


def test_resuming_from_an_older_checkpoint_sets_the_newer_aside_and_cuts_the_curves(
    run: Run,
) -> None:
    _train(run, FakeTrainer(), keep_checkpoints=5)
    display = SilentDisplay()
    trainer = FakeTrainer()
    checkpoint = load_checkpoint(run.checkpoints_folder / "000000000050")
    outcome = _train(run, trainer, display, resume_from=checkpoint, steps=70)
    assert outcome.progress == 70
    assert _saved(run) == [50, 70]
    assert any("000000000100.aside-1" in note for note in display.notes)
    assert [step for step, _ in _column(run, "train/loss")] == [20, 40, 50, 60, 70]


def test_a_damaged_newest_checkpoint_costs_only_the_steps_after_the_one_before(run: Run) -> None:
    _train(run, FakeTrainer())
    state = run.checkpoints_folder / "000000000100" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-1])
    trainer, whole = FakeTrainer(), FakeTrainer()
    outcome = _resume(run, trainer)
    assert outcome.progress == 100
    while whole.progress < 100:
        whole.step()
    assert torch.equal(whole.weight, trainer.weight)


def test_a_finished_run_has_nothing_left_to_do(run: Run) -> None:
    _train(run, FakeTrainer())
    display = SilentDisplay()
    trainer = FakeTrainer()
    outcome = _resume(run, trainer, display=display, evaluate=lambda: {"eval/return": 1.0})
    assert (outcome.progress, outcome.reason, outcome.evaluation) == (100, "steps", {})
    assert any("allow more steps" in note for note in display.notes)
    assert outcome.checkpoint is not None


def test_a_checkpoint_of_another_trainer_is_refused_and_named(run: Run) -> None:
    _train(run, FakeTrainer())
    other = FakeTrainer()
    other.weight = torch.nn.Parameter(torch.zeros(4))
    with pytest.raises(DamagedFileError, match=r"000000000100 doesn't fit this run"):
        _resume(run, other)
    assert _saved(run) == [50, 100]


def test_old_checkpoints_are_pruned(run: Run) -> None:
    _train(run, FakeTrainer(), checkpoint_every=10, keep_checkpoints=3)
    assert _saved(run) == [80, 90, 100]


def test_a_disk_that_is_full_for_checkpoints_warns_and_training_goes_on(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = checkpoint_module.encode_state

    def full_after_the_first(state: Any) -> Any:
        if state["trainer"]["progress"] > 50:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(state)

    monkeypatch.setattr(checkpoint_module, "encode_state", full_after_the_first)
    display, trainer = SilentDisplay(), FakeTrainer()
    outcome = _train(run, trainer, display, steps=120)
    assert (outcome.progress, outcome.checkpoint) == (120, None)
    assert trainer.segments == [0, 1]  # games end at step 50; a resume can't begin at 100
    warnings = [note for note in display.notes if "No space left" in note]
    assert len(warnings) == 2  # at 100 and at the end
    assert all("the checkpoint of step 50 is intact" in note for note in warnings)
    assert newest_intact(run.checkpoints_folder, pytest.fail).progress == 50  # type: ignore[union-attr,arg-type]


def test_evaluation_comes_at_its_period_and_at_the_end_once(run: Run) -> None:
    seen = []

    trainer = FakeTrainer()

    def evaluate() -> Mapping[str, float]:
        seen.append(trainer.progress)
        return {"eval/return": float(trainer.progress)}

    outcome = _train(run, trainer, evaluate=evaluate, evaluate_every=40)
    assert seen == [40, 80, 100]
    assert _column(run, "eval/return") == [(40, 40.0), (80, 80.0), (100, 100.0)]
    assert outcome.evaluation == {"eval/return": 100.0}


def test_no_episodes_means_no_evaluation(run: Run) -> None:
    assert during_training(pytest.fail, pytest.fail, episodes=0, seed=0) is None
    assert _train(run, FakeTrainer(), evaluate=None).evaluation == {}


def test_pictures_of_an_evaluation_go_to_tensorboard_and_its_numbers_to_both(run: Run) -> None:
    picture = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    _train(run, FakeTrainer(), evaluate=lambda: {"eval/return": 1.0, "samples/grid": picture})
    assert _column(run, "eval/return") == [(100, 1.0)]
    assert not _column(run, "samples/grid")
    events = EventAccumulator(str(run.folder)).Reload()
    (shown,) = events.Images("samples/grid")
    assert shown.step == 100
    image = Image.open(io.BytesIO(shown.encoded_image_string))
    np.testing.assert_array_equal(np.asarray(image), picture)


def test_speed_is_counted_in_the_trainers_unit(run: Run) -> None:
    trainer, display = FakeTrainer(), SilentDisplay()
    trainer.unit = "images"
    _train(run, trainer, display)
    assert _column(run, "speed/images_per_second")
    assert not _column(run, "speed/steps_per_second")
    assert display.notes[-1].startswith("Done: 100 images in ")


def test_a_single_bad_update_is_skipped_counted_and_survived(run: Run) -> None:
    trainer = FakeTrainer(spoil=lambda progress: progress == 33)
    outcome = _train(run, trainer)
    assert outcome.reason == "steps"
    assert _column(run, "health/skipped_updates")[-1] == (100, 1.0)
    assert torch.isfinite(trainer.weight).all()


def test_many_bad_updates_in_a_row_stop_the_run_with_the_last_good_checkpoint(run: Run) -> None:
    trainer = FakeTrainer(spoil=lambda progress: progress > 95)
    display = SilentDisplay()
    with pytest.raises(NonFiniteError, match=r"last 25 .*'fit'.*loss is nan.*step 50 is intact"):
        _train(run, trainer, display, steps=1000, max_skipped=20)
    # At step 100 the streak had begun, so nothing was saved there.
    assert _saved(run) == [50]
    assert trainer.segments == [0, 1]
    assert any("100 is not saved while fit: the loss is nan" in note for note in display.notes)
    assert run.manifest["status"] == "failed"
    assert _column(run, "health/skipped_updates")[-1] == (120, 25.0)
    assert _resume(run, FakeTrainer()).progress == 100


def test_an_error_of_the_trainer_s_keeps_its_traceback_and_the_checkpoints(run: Run) -> None:
    def fail(progress: int) -> None:
        if progress == 70:
            raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        _train(run, FakeTrainer(on_step=fail))
    assert run.manifest["status"] == "failed"
    assert _saved(run) == [50]
    assert [step for step, _ in _column(run, "train/loss")][-1] == 60


def test_a_run_that_is_being_trained_is_left_alone(run: Run) -> None:
    with run.hold(), pytest.raises(UserError, match="another process"):
        _train(run, FakeTrainer())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("minutes", 0.0),
        ("minutes", float("nan")),
        ("log_every", 0),
        ("checkpoint_every", -1),
        ("keep_checkpoints", 0),
        ("evaluate_every", -1),
        ("evaluate_episodes", -1),
        ("max_skipped", 0),
        ("media_mb_per_hour", -1.0),
        ("media_mb_per_hour", float("nan")),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"^{field} must be .*, not "):
        AgentTrainingConfig(**{field: value})  # type: ignore[arg-type]
