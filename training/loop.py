"""The training loop: budget, logging, checkpoints, evaluation, signals and the non-finite guard."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from playfield.errors import DamagedFileError, UserError
from playfield.training.checkpoint import Checkpoint, set_aside_after
from playfield.training.console import Display, duration, open_display
from playfield.training.energy import EnergyMeter
from playfield.training.kept_checkpoints import CHECKPOINTS, Best, KeptCheckpoints, Record
from playfield.training.logs import MEDIA_MB_PER_HOUR
from playfield.training.media import Film, Histogram, Picture
from playfield.training.metrics import Recorder
from playfield.training.run import Run
from playfield.training.session_log import SessionLog
from playfield.training.signals import Interrupted, StopSignals
from playfield.training.spans import span, spanned
from playfield.training.trainer import Trainer

Evaluate = Callable[[], Mapping[str, float | Picture | Film | Histogram]]
Reason = Literal["steps", "minutes", "signal"]


class NonFiniteError(UserError):
    """Too many updates in a row had a loss or gradient that was not finite."""


@dataclass(frozen=True)
class TrainingConfig:
    """How long to train, and when to log, save and evaluate; none of it knows the algorithm.

    "Steps" are the trainer's clock: environment steps, or images.
    """

    steps: int = 1_000_000
    """Steps to train for in all, those before a resume included."""
    minutes: float | None = None
    """Wall-clock minutes to train for in all, those before a resume included; None: no limit."""
    log_every: int = 1_000
    """Steps between two points of the curves."""
    checkpoint_every: int = 250_000
    """Steps between two checkpoints; one more is written at the end and on Ctrl-C."""
    keep_checkpoints: int = 2
    """How many checkpoints to keep; older ones are removed, but never the best one."""
    evaluate_every: int = 0
    """Steps between two evaluations; 0: only at the end."""
    max_skipped: int = 100
    """Updates in a row that may be skipped as not finite before the run stops."""
    media_mb_per_hour: float = MEDIA_MB_PER_HOUR
    """Pictures and films that any hour may add to TensorBoard's file, in megabytes; 0: none."""

    def __post_init__(self) -> None:
        least = {
            "steps": 1,
            "log_every": 1,
            "checkpoint_every": 1,
            "keep_checkpoints": 1,
            "evaluate_every": 0,
            "max_skipped": 1,
            "media_mb_per_hour": 0,
        }
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise UserError(f"{name} must be {bound} or more, not {getattr(self, name)}.")
        if self.minutes is not None and not self.minutes > 0:
            raise UserError(f"minutes must be more than 0, not {self.minutes}.")

    @property
    def exact_resume(self) -> bool:
        """Whether each checkpoint ends the trainer's segment, as a resume from it would."""
        return True


@dataclass(frozen=True)
class Outcome:
    """How a call of `train` ended."""

    progress: int  # steps in all, of the trainer's `unit`
    minutes: float  # of training in all
    reason: Reason
    signal: int | None  # the signal's number where that was the reason
    checkpoint: Path | None  # the one that holds `progress`; None where it could not be saved
    evaluation: Mapping[str, float]  # the final evaluation; empty if there was none
    best: Record | None  # the best evaluation whose checkpoint is kept


def train(
    trainer: Trainer,
    run: Run,
    config: TrainingConfig,
    *,
    evaluate: Evaluate | None = None,
    best: Best | None = None,
    resume_from: Checkpoint | None = None,
    display: Display | None = None,
) -> Outcome:
    """Train until the budget is spent or a signal asks to stop, and save what was learnt.

    `evaluate()` returns metrics such as `{"eval/return": 12.5}`, and pictures, films and histograms
    under the names they are shown by; it must leave the trainer alone. A first signal cuts it
    short. What `best` says is the best evaluation so far is saved at once, and kept until another
    one beats it. `resume_from` restores the trainer, its stores and the curves, and sets newer
    checkpoints aside. `display` is a live one on a terminal and plain lines elsewhere unless given.

    Raises `UserError` if another process trains this run, `DamagedFileError` if `resume_from` does
    not fit the trainer, `NonFiniteError` after `max_skipped` skipped updates in a row, and
    `SystemExit` on a second signal. In each case the committed checkpoints are left as they were.
    """
    shown = display if display is not None else open_display(run.name, config.steps, trainer.unit)
    with run.hold(), StopSignals() as signals, shown:
        session = _Session(trainer, run, config, evaluate, best, shown, signals)
        session.begin(resume_from)
        try:
            outcome = session.train()
            status = "stopped" if outcome.reason == "signal" else "finished"
            session.curves.write_end(status)
        except Exception:
            session.curves.write_end("failed")
            session.update_manifest("failed")
            raise
        finally:
            session.curves.close()
        session.update_manifest(status)
        return outcome


class _Session:
    """One call of `train`. Only `train` below runs at every step; the rest, now and then."""

    curves: SessionLog

    def __init__(
        self,
        trainer: Trainer,
        run: Run,
        config: TrainingConfig,
        evaluate: Evaluate | None,
        best: Best | None,
        display: Display,
        signals: StopSignals,
    ) -> None:
        self.trainer = trainer
        self.run = run
        self.config = config
        self.evaluator = evaluate
        self.kept = KeptCheckpoints(run, config.keep_checkpoints, best)
        self.display = display
        self.signals = signals
        self.recorder = Recorder()
        self.segment = 0
        self.minutes_before = 0.0
        self.last_evaluation: Mapping[str, float] = {}

    @spanned("begin")
    def begin(self, resume_from: Checkpoint | None) -> None:
        if resume_from is not None:
            self._restore(resume_from)
        self.energy = EnergyMeter.of_run(self.run.manifest, going_on=resume_from is not None)
        self.trainer.begin_segment(self.segment)
        self.update_manifest("running")
        self.curves = SessionLog(
            self.trainer,
            self.run,
            self.recorder,
            warn=self.display.note,
            resume_at=resume_from.progress if resume_from is not None else None,
            media_mb_per_hour=self.config.media_mb_per_hour,
        )
        self.begun_at = self.trainer.progress
        self.evaluated_at = -1
        self._schedule(self.begun_at)
        self.started = time.monotonic()
        minutes = self.config.minutes
        left = float("inf") if minutes is None else (minutes - self.minutes_before) * 60
        self.deadline = self.started + left
        self.next_look = self.started  # when the clock next matters: for a picture or the deadline

    def _restore(self, checkpoint: Checkpoint) -> None:
        try:
            loop = checkpoint.state["loop"]
            self.segment = loop["segment"] + 1
            self.minutes_before = loop["minutes"]
            self.recorder.load_state_dict(loop["windows"])
            self.trainer.load_state_dict(checkpoint.state["trainer"])
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise DamagedFileError(
                f"Checkpoint {checkpoint.path} doesn't fit this run: {error}"
            ) from error
        checkpoint.load_stores(self.trainer.stores)
        if self.trainer.progress != checkpoint.progress:
            raise DamagedFileError(
                f"Checkpoint {checkpoint.path} holds a trainer at step {self.trainer.progress}."
            )
        try:
            for path in set_aside_after(self.run.checkpoints_folder, checkpoint.progress):
                self.display.note(f"Set the newer checkpoint aside as {path.name}.")
        except OSError as error:
            self.display.note(f"Can't set newer checkpoints aside ({error.strerror or error}).")
        self.kept.go_on_from(checkpoint)
        self.display.note(f"Going on from {self._at(checkpoint.progress)}.")

    def train(self) -> Outcome:
        trainer, add, signals, clock = self.trainer, self.recorder.add, self.signals, time.monotonic
        progress = trainer.progress
        reason = self._reason_to_stop(progress)
        while reason is None:
            with span("step"):
                metrics = trainer.step()
            progress = trainer.progress
            if metrics:
                with span("log"):
                    add(progress, metrics)
            if progress >= self.next_event or signals.received is not None:
                reason = self._attend(progress)
            if clock() >= self.next_look:
                reason = reason or self._reason_to_stop(progress)
                self._show(progress)
        return self._finish(progress, reason)

    def _attend(self, progress: int) -> Reason | None:
        """What is due at this step; the reason to stop, if there is one now."""
        if progress >= self.next_log:
            self.log(progress)
        reason = self._reason_to_stop(progress)
        if reason is None and progress >= self.next_evaluation:
            self.evaluate(progress)
            reason = self._reason_to_stop(progress)
        # Last: a resume begins after this step, so all that belongs to it is in the curves by now.
        due = progress >= self.next_checkpoint or self.kept.wants(progress)
        if reason is None and due and self.save(progress):
            reason = self._reason_to_stop(progress)
            if reason is None and self.config.exact_resume:
                self._begin_next_segment()
        self._schedule(progress)
        return reason

    @spanned("begin")
    def _begin_next_segment(self) -> None:
        """Do what a resume from the checkpoint just committed would: start over in the games."""
        started = time.monotonic()
        self.segment += 1
        self.trainer.begin_segment(self.segment)
        self.curves.pause += time.monotonic() - started

    def _schedule(self, progress: int) -> None:
        config = self.config
        self.next_log = _next_multiple(progress, config.log_every)
        self.next_checkpoint = _next_multiple(progress, config.checkpoint_every)
        self.next_evaluation: float = float("inf")
        if config.evaluate_every and self.evaluator is not None:
            self.next_evaluation = _next_multiple(progress, config.evaluate_every)
        self.next_event = min(
            self.next_log, self.next_checkpoint, self.next_evaluation, config.steps
        )

    def _reason_to_stop(self, progress: int) -> Reason | None:
        if self.signals.received is not None:
            return "signal"
        if progress >= self.config.steps:
            return "steps"
        return "minutes" if time.monotonic() >= self.deadline else None

    def _finish(self, progress: int, reason: Reason) -> Outcome:
        self.log(progress)
        saved = self.kept.saved_at == progress or self.save(progress)
        evaluation: Mapping[str, float] = {}
        if reason != "signal" and progress > self.begun_at and self.evaluated_at != progress:
            evaluation = self.evaluate(progress)
        elif self.evaluated_at == progress:
            evaluation = self.last_evaluation
        self._show(progress)
        if reason == "signal" and self.kept.newest is not None:
            resume = f"Resume with: playfield resume {self.run.argument}"
            self.display.note(f"Saved at {self._at(self.kept.saved_at)}. {resume}")
        elif reason == "signal":
            self.display.note("Stopped before anything was saved.")
        elif progress == self.begun_at:
            self.display.note(f"Nothing left to do at {self._at(progress)}: allow more {reason}.")
        else:
            time_taken = duration(self._minutes() * 60)
            self.display.note(f"Done: {progress:,} {self.trainer.unit} in {time_taken}.")
        return Outcome(
            progress=progress,
            minutes=self._minutes(),
            reason=reason,
            signal=self.signals.received if reason == "signal" else None,
            checkpoint=self.kept.newest if saved else None,
            evaluation=evaluation,
            best=self.kept.record,
        )

    @spanned("log")
    def log(self, progress: int) -> None:
        """Write the points of the interval that ends here, and look after the updates' health."""
        if self.curves.write_interval(progress, self._minutes()):
            self._stop_if_diverged(progress)

    @spanned("checkpoint")
    def save(self, progress: int) -> bool:
        """Commit a checkpoint, if the updates are sound; a full disk costs only this one.

        Returns whether it is committed.
        """
        self.log(progress)  # what the curves hold up to here is what a resume keeps of them
        started = time.monotonic()
        self.curves.write_weights(progress)
        self.curves.flush()
        streaks = self._streaks()
        if streaks:
            at = self._at(progress).capitalize()
            self.display.note(f"{at} is not saved while {'; '.join(streaks)}.")
            return False
        state = {
            "trainer": self.trainer.state_dict(),
            "loop": {
                "segment": self.segment,
                "minutes": self._minutes(),
                "windows": self.recorder.state_dict(),
            },
        }
        try:
            self.kept.commit(progress, state, self.trainer.stores)
        except OSError as error:
            self._tell_trouble(progress, error)
        else:
            self.curves.newest["checkpoint/progress"] = progress
            self._prune(progress)
        self.curves.pause += time.monotonic() - started
        return self.kept.saved_at == progress

    def _prune(self, progress: int) -> None:
        self.update_manifest("running")  # so that it never names one that is gone
        try:
            self.kept.prune()
        except OSError as error:
            self._tell_trouble(progress, error)

    def _tell_trouble(self, progress: int, error: OSError) -> None:
        self.display.note(
            f"Trouble in {self.run.checkpoints_folder} at {self._at(progress)} "
            f"({error.strerror or error}); {self._last_saved()}"
        )

    @spanned("evaluate")
    def evaluate(self, progress: int) -> Mapping[str, float]:
        """Evaluate what was learnt so far and log it; empty if a signal cut that short."""
        if self.evaluator is None:
            return {}
        started = time.monotonic()
        self.energy.read()  # what is used up to here, should the counters begin again meanwhile
        result: dict[str, float] = {}
        try:
            with self.signals.interruptible():
                found = self.evaluator()
        except Interrupted:
            self.display.note("The evaluation was cut short.")
        else:
            result = self.curves.write_evaluation(progress, found)
            self.last_evaluation = result
            self.evaluated_at = progress
            if self.kept.judge(progress, result):
                self._prune(progress)
        self.curves.pause += time.monotonic() - started
        return result

    def update_manifest(self, status: str) -> None:
        fields: dict[str, Any] = {"status": status, CHECKPOINTS: self.kept.description()}
        if hasattr(self, "started"):
            fields |= {"progress": self.trainer.progress, "minutes": self._minutes()}
        fields |= self._energy()
        try:
            self.run.update_manifest(**fields)
        except OSError as error:
            self.display.note(
                f"Can't write {self.run.folder / 'run.json'} ({error.strerror or error})."
            )

    def _energy(self) -> dict[str, float | None]:
        energy = self.energy.read()
        known = energy is not None or "energy_wh" in self.run.manifest
        return {"energy_wh": energy} if known else {}

    def _streaks(self) -> list[str]:
        return [
            f"{name}: {step.diagnosis()}"
            for name, step in self.trainer.gradient_steps.items()
            if int(step.skipped_in_a_row)
        ]

    def _stop_if_diverged(self, progress: int) -> None:
        for name, step in self.trainer.gradient_steps.items():
            row = int(step.skipped_in_a_row)
            if row >= self.config.max_skipped:
                raise NonFiniteError(
                    f"Run {self.run.name} stopped at {self._at(progress)}: the last {row} updates "
                    f"of {name!r} were not finite ({step.diagnosis()}); {self._last_saved()} Try a "
                    "lower learning rate, or float32."
                )

    def _last_saved(self) -> str:
        if self.kept.newest is None:
            return "nothing has been saved yet."
        return f"the checkpoint of {self._at(self.kept.saved_at)} is intact."

    def _at(self, progress: int) -> str:
        return f"{self.trainer.unit.removesuffix('s')} {progress:,}"

    def _minutes(self) -> float:
        return self.minutes_before + (time.monotonic() - self.started) / 60

    @spanned("display")
    def _show(self, progress: int) -> None:
        now = time.monotonic()
        fraction = progress / self.config.steps
        if self.config.minutes is not None:
            fraction = max(fraction, self._minutes() / self.config.minutes)
        rate = self.curves.newest.get(f"speed/{self.trainer.unit}_per_second", 0.0)
        if not rate and now > self.started:
            rate = (progress - self.begun_at) / (now - self.started)
        self.display.update(progress, min(fraction, 1.0), rate, self.curves.newest)
        self.next_look = min(self.deadline, now + self.display.every)
        self.energy.read()  # often enough for counters that begin again at 0


def _next_multiple(progress: int, period: int) -> int:
    return (progress // period + 1) * period
