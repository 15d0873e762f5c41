"""Averages of any width: snapshots beside a run's checkpoints, and models made from them."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_trainer import SilentDisplay, manifest
from painted_runs import EVERY, STEPS, painted_run
from safetensors.torch import load_file

from playfield.commands.stored_painter import keep_snapshots, new_trainer
from playfield.errors import DamagedFileError, UserError
from playfield.generative.denoiser_trainer import DenoiserTrainer
from playfield.generative.diffusion import DiffusionConfig
from playfield.generative.images import ImageData, images_from_arrays
from playfield.generative.networks import NetConfig
from playfield.generative.saved_painter import load_painter, stored_network
from playfield.training.checkpoint import load_checkpoint, newest_intact
from playfield.training.ema import EMAConfig
from playfield.training.ema_snapshots import list_snapshots
from playfield.training.loop import TrainingConfig, train
from playfield.training.optimizers import OptimizerConfig
from playfield.training.power_ema import power_decay
from playfield.training.run import Run

CPU = torch.device("cpu")
CONFIG = DiffusionConfig(
    batch_size=16,
    net=NetConfig(base_channels=8, channel_mult=(1,), blocks=1),
    precision="float32",
    optimizer=OptimizerConfig(learning_rate=1e-2),
    ema=EMAConfig(ema_profiles=(0.05, 0.1), snapshot_period=32, snapshots_kept=3),
)
LENGTH = 240


@pytest.fixture(scope="module")
def data() -> ImageData:
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 4, 4), np.uint8)
    return images_from_arrays("test", images)


class Crash(Exception):
    pass


def go(run: Run, data: ImageData, dies_at: int = 10**9) -> DenoiserTrainer:
    """Train `run` from its newest checkpoint, or from the start."""

    class Mortal(DenoiserTrainer):
        def step(self) -> Any:
            if self.progress > dies_at:
                raise Crash
            return super().step()

    trainer = new_trainer(CONFIG, data, None, seed=1, device=CPU, steps=LENGTH)
    trainer.__class__ = Mortal
    keep_snapshots(trainer, run)
    training = TrainingConfig(steps=LENGTH, log_every=80, checkpoint_every=80)
    checkpoint = newest_intact(run.checkpoints_folder, pytest.fail)
    train(trainer, run, training, resume_from=checkpoint, display=SilentDisplay())
    trainer.averages.save_snapshot()
    return trainer


def stored(run: Run) -> dict[str, dict[str, torch.Tensor]]:
    return {path.name: load_file(path) for path in (run.folder / "snapshots").iterdir()}


def test_snapshots_of_a_resumed_run_are_those_of_one_that_was_not(
    data: ImageData, tmp_path: Path
) -> None:
    straight, broken = (Run.create(tmp_path, name, manifest()) for name in ("straight", "broken"))
    go(straight, data)
    with pytest.raises(Crash):
        go(broken, data, dies_at=130)  # at 144, with a checkpoint of 80
    later = [s for s in list_snapshots(broken.folder / "snapshots") if s.progress > 80]
    assert later
    for snapshot in later:
        snapshot.path.write_bytes(b"of the run that died")
    go(broken, data)
    mine, theirs = stored(straight), stored(broken)
    assert mine.keys() == theirs.keys()
    for file, tensors in mine.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, theirs[file][name]), (file, name)
    # One every 32 images would be more than 3, so there is one every 64; and the end.
    assert {int(name[:12]) for name in mine} == {64, 128, 192, LENGTH}


def test_a_power_average_weighs_the_weights_after_each_update(
    data: ImageData, tmp_path: Path
) -> None:
    trainer = new_trainer(CONFIG, data, None, seed=1, device=CPU, steps=LENGTH)
    gamma = 6.94  # of the width 0.1 (Karras et al. 2024)
    average = torch.zeros(())
    for number in range(1, 6):
        trainer.step()
        weight = next(trainer.network.parameters()).detach().double()
        decay = power_decay(16 * (number - 1), 16 * number, gamma)
        average = decay * average + (1 - decay) * weight
    kept = next(trainer.averages.power_ema.networks[0.1].parameters())
    torch.testing.assert_close(kept.double(), average, rtol=1e-4, atol=1e-5)


def test_a_full_disk_costs_a_snapshot_and_not_the_run(
    data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    trainer = new_trainer(CONFIG, data, None, seed=1, device=CPU, steps=LENGTH)
    told: list[str] = []
    trainer.averages.keep_snapshots(tmp_path / "snapshots", told.append)
    monkeypatch.setattr("playfield.training.ema_snapshots.write_atomically", full)
    for _ in range(4):
        trainer.step()
    assert len(told) == 2
    assert "image 32 can't be saved" in told[0] and "No space left on device" in told[0]


def test_without_profiles_nothing_is_stored(data: ImageData, tmp_path: Path) -> None:
    config = DiffusionConfig(batch_size=16, net=CONFIG.net, precision="float32")
    trainer = new_trainer(config, data, None, seed=1, device=CPU, steps=LENGTH)
    trainer.averages.keep_snapshots(tmp_path / "snapshots", pytest.fail)
    trainer.step()
    trainer.averages.save_snapshot()
    assert not (tmp_path / "snapshots").exists()
    assert "power_ema" not in trainer.state_dict()


# --- the weights to paint with --------------------------------------------------------------------


def network(
    weights: str, progress: int = STEPS, name: str = "diffusion"
) -> dict[str, torch.Tensor]:
    run = Run.open(str(painted_run(name)), Path())
    checkpoint = load_checkpoint(run.checkpoints_folder / f"{progress:012d}", stores=False)
    return dict(stored_network(run, checkpoint, CPU, weights).state_dict())


def test_averaged_and_newest_weights_are_those_of_the_checkpoint() -> None:
    run = Run.open(str(painted_run("diffusion")), Path())
    state = load_checkpoint(run.checkpoints_folder / f"{STEPS:012d}").state["trainer"]
    for weights, saved in (("averaged", state["ema"]["network"]), ("newest", state["network"])):
        for name, tensor in network(weights).items():
            assert torch.equal(tensor, saved[name]), (weights, name)


@pytest.mark.parametrize("width", [0.05, 0.1])
def test_an_average_that_was_stored_comes_back(width: float) -> None:
    saved = load_file(painted_run("diffusion") / "snapshots" / f"{STEPS:012d}-{width}.safetensors")
    for name, tensor in network(str(width)).items():
        torch.testing.assert_close(tensor, saved[name], rtol=1e-4, atol=1e-5)


def test_an_average_at_an_earlier_checkpoint_knows_nothing_of_later_weights() -> None:
    before = network("0.1", EVERY)
    saved = load_file(painted_run("diffusion") / "snapshots" / "000000000128-0.1.safetensors")
    last = network("0.1")
    far = sum(float((before[name] - last[name]).abs().sum()) for name in saved)
    near = sum(float((before[name] - saved[name]).abs().sum()) for name in saved)
    assert near < far


def test_weights_that_there_are_not_are_refused() -> None:
    with pytest.raises(UserError, match="weights have to be averaged, newest"):
        load_painter(painted_run("diffusion"), weights="best", device="cpu")
    with pytest.raises(UserError, match="no snapshots"):
        load_painter(painted_run("flow"), weights="0.1", device="cpu")


def test_snapshots_of_another_network_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(painted_run("diffusion"), folder)
    text = (folder / "run.json").read_text()
    (folder / "run.json").write_text(text.replace('"base_channels": 8', '"base_channels": 16'))
    with pytest.raises(DamagedFileError, match=r"snapshots does not fit run\.json"):
        load_painter(folder, weights="0.1", device="cpu")
    with pytest.raises(DamagedFileError, match="does not fit the diffusion model"):
        load_painter(folder, device="cpu")


def test_a_painter_is_loaded_by_its_name_and_by_its_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = painted_run("flow")
    monkeypatch.setenv("PLAYFIELD_RUNS", str(folder.parent))
    assert load_painter("flow", device="cpu").family == "flow"
    assert load_painter(folder, device="cpu", root=Path("elsewhere")).spec.shape == (1, 8, 8)
    with pytest.raises(UserError, match="no run 'flow'"):
        load_painter("flow", root=Path("elsewhere"))
