"""The energy of a run, by counters that the test moves."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_trainer import FakeTrainer, SilentDisplay, manifest

from playfield.training import energy
from playfield.training.checkpoint import newest_intact
from playfield.training.energy import EnergyMeter
from playfield.training.loop import TrainingConfig, train
from playfield.training.run import Run

WH = 3_600_000_000  # microjoules: 3,600 joules of a million each


class Counters:
    """A machine's /sys/class/powercap."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def zone(self, place: str, name: str, value: int, most: int = 10 * WH) -> None:
        zone = self.folder / place
        zone.mkdir(parents=True)
        (zone / "name").write_text(f"{name}\n")
        (zone / "max_energy_range_uj").write_text(f"{most}\n")
        self.set(place, value)

    def set(self, place: str, value: int) -> None:
        (self.folder / place / "energy_uj").write_text(f"{value}\n")


@pytest.fixture
def counters(tmp_path: Path) -> Counters:
    return Counters(tmp_path)


def meter(counters: Counters, before: float | None = 0.0) -> EnergyMeter:
    return EnergyMeter(before, counters.folder)


def test_packages_add_up_and_begin_at_nought(counters):
    counters.zone("intel-rapl:0", "package-0", 7 * WH)
    counters.zone("intel-rapl:1", "package-1", 2 * WH)
    measured = meter(counters)
    assert measured.read() == 0.0
    counters.set("intel-rapl:0", 8 * WH)
    counters.set("intel-rapl:1", 4 * WH)
    assert measured.read() == pytest.approx(3.0)
    assert measured.read() == pytest.approx(3.0)


def test_memory_is_counted_beside_its_package_and_nothing_is_counted_twice(counters):
    counters.zone("intel-rapl:0", "package-0", 0)
    counters.zone("intel-rapl:0:0", "core", 0)  # part of the package
    counters.zone("intel-rapl:0:1", "dram", 0)
    counters.zone("intel-rapl:1", "psys", 0)  # the packages and everything else
    counters.zone("intel-rapl-mmio:0", "package-0", 0)  # the same one again
    measured = meter(counters)
    for place in ("intel-rapl:0:0", "intel-rapl:1", "intel-rapl-mmio:0"):
        counters.set(place, 5 * WH)
    counters.set("intel-rapl:0", 2 * WH)
    counters.set("intel-rapl:0:1", WH)
    assert measured.read() == pytest.approx(3.0)


def test_a_counter_that_began_again_at_0_went_on(counters):
    counters.zone("intel-rapl:0", "package-0", 9 * WH, most=10 * WH - 1)
    measured = meter(counters)
    counters.set("intel-rapl:0", 1 * WH)
    assert measured.read() == pytest.approx(2.0)


def test_what_was_used_before_a_resume_is_in_the_sum(counters):
    counters.zone("intel-rapl:0", "package-0", 0)
    measured = meter(counters, before=5.5)
    counters.set("intel-rapl:0", WH)
    assert measured.read() == pytest.approx(6.5)


@pytest.mark.parametrize("manifest", [{"device": "cpu"}, {"device": "cpu", "energy_wh": None}])
def test_a_sum_with_a_part_unknown_is_unknown(manifest):
    assert EnergyMeter.of_run(manifest, going_on=True).read() is None


def test_processors_alone_are_not_the_energy_of_a_run_on_a_gpu():
    assert EnergyMeter.of_run({"device": "cuda"}, going_on=False).read() is None


def test_a_machine_without_counters_has_no_answer(tmp_path):
    assert EnergyMeter(0.0, tmp_path / "missing").read() is None
    assert EnergyMeter(0.0, tmp_path).read() is None


def test_a_counter_that_may_not_be_read_or_says_nonsense_gives_no_answer(counters):
    counters.zone("intel-rapl:0", "package-0", 0)
    (counters.folder / "intel-rapl:0/energy_uj").unlink()
    assert meter(counters).read() is None
    (counters.folder / "intel-rapl:0/energy_uj").write_text("much")
    assert meter(counters).read() is None


def test_a_sum_that_missed_a_reading_stays_unknown(counters):
    counters.zone("intel-rapl:0", "package-0", 0)
    measured = meter(counters)
    (counters.folder / "intel-rapl:0/energy_uj").unlink()
    assert measured.read() is None
    counters.set("intel-rapl:0", WH)
    assert measured.read() is None


# --- runs -----------------------------------------------------------------------------------------


def go(run: Run, steps: int, counters: Counters, resume: bool = False) -> None:
    """Train to `steps`, of which each takes one watt-hour."""

    def work(progress: int) -> None:
        counters.set("intel-rapl:0", progress * WH)

    trainer = FakeTrainer(on_step=work)
    config = TrainingConfig(steps=steps, log_every=5, checkpoint_every=1000)
    found = newest_intact(run.checkpoints_folder, lambda _: None) if resume else None
    train(trainer, run, config, display=SilentDisplay(), resume_from=found)


def test_a_run_tells_its_energy_resumes_included(counters, tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "POWERCAP", counters.folder)
    counters.zone("intel-rapl:0", "package-0", 0, most=1000 * WH)
    run = Run.create(tmp_path / "runs", "fake", manifest())
    go(run, 10, counters)
    assert run.manifest["energy_wh"] == pytest.approx(10)
    go(Run.open("fake", tmp_path / "runs"), 16, counters, resume=True)
    assert Run.open("fake", tmp_path / "runs").manifest["energy_wh"] == pytest.approx(16)


def test_a_counter_that_begins_again_in_an_evaluation_loses_nothing(
    counters, tmp_path, monkeypatch
):
    monkeypatch.setattr(energy, "POWERCAP", counters.folder)
    most = 20 * WH
    counters.zone("intel-rapl:0", "package-0", 0, most=most)
    used = 0

    def work(_: int) -> None:
        nonlocal used
        used += WH
        counters.set("intel-rapl:0", used % (most + 1))

    def evaluate() -> dict[str, float]:
        for k in range(15):
            work(k)
        return {}

    run = Run.create(tmp_path / "runs", "fake", manifest())
    # Ten watt-hours of steps and fifteen of the evaluation are more than the counter can tell.
    config = TrainingConfig(steps=11, evaluate_every=10, checkpoint_every=1000)
    trainer = FakeTrainer(on_step=work)
    train(trainer, run, config, evaluate=evaluate, display=SilentDisplay())
    # The final evaluation comes after one more step.
    assert run.manifest["energy_wh"] == pytest.approx(10 + 15 + 1 + 15)


def test_a_run_that_goes_on_where_nothing_is_counted_takes_its_sum_back(
    counters, tmp_path, monkeypatch
):
    monkeypatch.setattr(energy, "POWERCAP", counters.folder)
    counters.zone("intel-rapl:0", "package-0", 0, most=1000 * WH)
    run = Run.create(tmp_path / "runs", "fake", manifest())
    go(run, 10, counters)
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "nothing")
    go(run, 16, counters, resume=True)
    assert run.manifest["energy_wh"] is None
    monkeypatch.setattr(energy, "POWERCAP", counters.folder)
    go(run, 20, counters, resume=True)
    assert run.manifest["energy_wh"] is None


def test_a_run_without_counters_says_nothing_of_energy(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "nothing")
    run = Run.create(tmp_path / "runs", "fake", manifest())
    config = TrainingConfig(steps=5)
    train(FakeTrainer(), run, config, display=SilentDisplay())
    assert "energy_wh" not in run.manifest
