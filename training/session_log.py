"""What one session of training says of itself: its intervals, its evaluations, and what it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from playfield.training.histograms import weights
from playfield.training.layouts import LAYOUTS, family
from playfield.training.logs import MetricsLog
from playfield.training.media import Film, Histogram, Picture
from playfield.training.media_budget import MediaBudget
from playfield.training.metrics import Recorder
from playfield.training.run import Run
from playfield.training.run_card import card, settings
from playfield.training.trainer import Trainer


class SessionLog:
    """The curves of a session, filled with what `recorder` sums up and with what is measured here.

    It begins with what the run is. `resume_at` and `warn` are those of `MetricsLog`.
    """

    def __init__(
        self,
        trainer: Trainer,
        run: Run,
        recorder: Recorder,
        *,
        warn: Callable[[str], None],
        resume_at: int | None,
        media_mb_per_hour: float,
    ) -> None:
        self.newest: dict[str, float] = {}  # value of every metric
        self.pause = 0.0  # seconds of this interval spent on saving and evaluating
        self._trainer = trainer
        self._recorder = recorder
        self._curves = MetricsLog(run.folder, warn, resume_at, MediaBudget(media_mb_per_hour))
        layout = LAYOUTS[family(run.manifest)]
        self._curves.write_settings(settings(run.manifest), layout)
        self._curves.write_text(trainer.progress, "run/card", card(run.manifest, run.argument))
        self._logged_at = trainer.progress
        self._weights_at = -1
        self._updates = self._count_updates()
        self._interval_started = time.monotonic()

    def write_interval(self, progress: int, minutes: float) -> bool:
        """Write the points of the interval that ends here; False if it has no steps.

        `minutes` is the wall-clock time of the run. Waits for the device once.
        """
        if progress == self._logged_at:
            return False
        finished, values = self._recorder.take()
        values |= self._recorder.spread()
        now = time.monotonic()
        seconds = max(now - self._interval_started - self.pause, 1e-9)
        rate = (progress - self._logged_at) / seconds
        values[f"speed/{self._trainer.unit}_per_second"] = rate
        if self._trainer.frames_per_step is not None:
            values["speed/frames_per_second"] = rate * self._trainer.frames_per_step
        if self._trainer.gradient_steps:
            updates = self._count_updates()
            values["train/updates"] = updates
            values["speed/updates_per_second"] = (updates - self._updates) / seconds
            values["health/skipped_updates"] = sum(
                int(step.skipped) for step in self._trainer.gradient_steps.values()
            )
            self._updates = updates
        values["time/minutes"] = minutes
        self._curves.write(progress, values, finished)
        self.newest.update(values)
        self._logged_at, self._interval_started, self.pause = progress, now, 0.0
        return True

    def write_evaluation(
        self, progress: int, found: Mapping[str, float | Picture | Film | Histogram]
    ) -> dict[str, float]:
        """Write what an evaluation found, each kind as it is shown; returns the numbers."""
        numbers = {name: float(v) for name, v in found.items() if isinstance(v, int | float)}
        pictures = {name: v for name, v in found.items() if isinstance(v, np.ndarray)}
        films = {name: v for name, v in found.items() if isinstance(v, Film)}
        distributions = {name: v.values for name, v in found.items() if isinstance(v, Histogram)}
        self._curves.write(progress, numbers)
        self._curves.write_pictures(progress, pictures)
        self._curves.write_film(progress, films)
        self._curves.write_histograms(progress, distributions)
        self.write_weights(progress)
        self.newest.update(numbers)
        return numbers

    def write_weights(self, progress: int) -> None:
        """Write how the network's weights are distributed; once, where it is asked for twice."""
        if progress != self._weights_at:
            self._curves.write_histograms(progress, weights(self._trainer.network))
            self._weights_at = progress

    def write_end(self, status: str) -> None:
        """Say how the session ended: "finished", "stopped" or "failed"."""
        self._curves.write_end(self._trainer.progress, status)

    def flush(self) -> None:
        """Wait until all of it is on the disk, if that takes no longer than it should."""
        self._curves.flush()

    def close(self) -> None:
        self._curves.close()

    def _count_updates(self) -> int:
        return sum(step.taken for step in self._trainer.gradient_steps.values())
