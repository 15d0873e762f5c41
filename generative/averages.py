"""The averages of a painter's weights: the one it paints with, and those chosen after training."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

from torch import nn

from playfield.training.ema import EMA, EMAConfig
from playfield.training.ema_snapshots import SnapshotFolder
from playfield.training.power_ema import PowerEMA
from playfield.training.trainer import State


class Averages:
    """All averages that `config` asks for of `network`, whose clock is images.

    `update` comes after every optimiser step.
    """

    def __init__(self, network: nn.Module, config: EMAConfig) -> None:
        self.config = config
        self.ema = EMA(network, config)
        self.power_ema = PowerEMA(network, config.ema_profiles)
        self.progress = 0
        self.snapshots: SnapshotFolder | None = None
        self._report: Callable[[str], None] = warnings.warn

    @property
    def network(self) -> nn.Module:
        """The network that paints: it only runs forward, in `eval()`."""
        return self.ema.network

    def keep_snapshots(self, folder: Path, report: Callable[[str], None]) -> None:
        """Store the averages of `ema_profiles` in `folder` from now on; nothing if there are none.

        A snapshot that cannot be written is told to `report`, and training goes on.
        """
        if self.config.ema_profiles:
            period, kept = self.config.snapshot_period, self.config.snapshots_kept
            self.snapshots = SnapshotFolder(folder, period, kept)
            self._report = report

    def update(self, progress: int, count: int) -> None:
        """Take in the weights after `progress` images, the last `count` of them since before."""
        self.ema.update(progress, count)
        self.power_ema.update(progress, count)
        self.progress = progress
        if self.snapshots is not None and self.snapshots.due(progress, count):
            self.save_snapshot()

    def save_snapshot(self) -> None:
        """Store the averages as they are now; call it when training ends as well."""
        if self.snapshots is None or not self.power_ema.progress:
            return
        try:
            self.snapshots.save(self.power_ema)
        except OSError as error:
            self._report(
                f"The snapshot of image {self.progress:,} can't be saved in "
                f"{self.snapshots.folder} ({error.strerror or error})."
            )

    def restart(self, network: nn.Module) -> None:
        """Forget what was averaged: the weights of `network` were set from outside."""
        self.ema = EMA(network, self.config)
        self.power_ema = PowerEMA(network, self.config.ema_profiles)

    def state_dict(self) -> State:
        """The fields that a trainer's state has of them."""
        state: State = {"ema": self.ema.state_dict()}
        return state | (
            {"power_ema": self.power_ema.state_dict()} if self.config.ema_profiles else {}
        )

    def load_state_dict(self, state: State, progress: int) -> None:
        """Go on from `state` as it was at image `progress`."""
        self.ema.load_state_dict(state["ema"])
        if self.config.ema_profiles:
            self.power_ema.load_state_dict(state["power_ema"])
        if self.snapshots is not None:
            self.snapshots.forget_after(progress)
        self.progress = progress
