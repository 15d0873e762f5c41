"""What `playfield doctor` measures of a machine, against clocks and works that are known."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from playfield.commands import doctor, machine_speed
from playfield.errors import UserError
from playfield.training import energy

CPU = torch.device("cpu")


class Clock:
    """Time that passes only in what is measured."""

    def __init__(self, lengths: list[float]) -> None:
        self.now, self.lengths = 100.0, iter(lengths)
        self.calls = 0

    def read(self) -> float:
        return self.now

    def act(self) -> None:
        self.now += next(self.lengths)
        self.calls += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[float]], Clock]:
    def make(lengths: list[float]) -> Clock:
        made = Clock(lengths)
        monkeypatch.setattr(machine_speed.time, "perf_counter", made.read)
        return made

    return make


def test_a_rate_is_the_median_calls_and_neither_the_first_ones_nor_a_disturbed_ones(clock):
    slow_start, disturbed = 50.0, 7.0
    made = clock([slow_start, 0.5, 0.5, disturbed, 0.5, 0.5])
    assert machine_speed.rate(made.act, amount=10.0, seconds=9.0) == 20.0
    assert made.calls == 6


def test_what_takes_longer_than_there_is_time_is_measured_once(clock):
    made = clock([30.0, 40.0])
    assert machine_speed.rate(made.act, amount=10.0, seconds=0.3) == 0.25


def test_a_copy_reads_and_writes_every_byte(monkeypatch):
    monkeypatch.setattr(machine_speed, "COPIED", 1000)
    monkeypatch.setattr(machine_speed, "rate", called_once)
    assert machine_speed.memory_bandwidth(CPU) == 2000


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_of_matrices_has_a_multiplication_and_an_addition_per_term(monkeypatch, dtype):
    monkeypatch.setattr(machine_speed, "rate", called_once)
    assert machine_speed.matmul_speed(CPU, dtype) == 2 * 512 * 512 * 512


def test_every_environment_counts_as_a_step(monkeypatch):
    monkeypatch.setattr(machine_speed, "rate", called_once)
    assert machine_speed.emulator_speed("playfield/Catch-v0", 3) == 3


def test_nothing_stays_on_the_disk_that_is_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(machine_speed, "WRITTEN", 1000)
    monkeypatch.setattr(machine_speed, "rate", called_once)
    assert machine_speed.disk_speed(tmp_path) == 1000
    assert list(tmp_path.iterdir()) == []


def called_once(act: Callable[[], None], amount: float) -> float:
    act()
    return amount


# --- what doctor says of it -----------------------------------------------------------------------


def look(name: str, root: Path) -> str:
    (check,) = [check for check in doctor.checks(root) if check.name == name]
    return check.look()


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("memory", r"copies at [\d.]+ GB/s, read and written together"),
        ("multiply", r"cpu [\d,]+ GFLOP/s in float32, [\d,]+ in bfloat16(; .*)?"),
        ("emulator", r"[\d,]+ steps/s of 8 games of playfield/Catch-v0"),
        ("runs", r".+ can be written to, at [\d,]+ MB/s; [\d,]+ GiB free"),
    ],
)
def test_doctor_measures_the_machine(name, numbers, tmp_path, monkeypatch):
    monkeypatch.setattr(machine_speed, "SECONDS", 0.0)
    monkeypatch.setattr(machine_speed, "COPIED", 2**20)
    monkeypatch.setattr(doctor, "GAME", "playfield/Catch-v0")  # Atari takes seconds to begin
    assert re.fullmatch(numbers, look(name, tmp_path))


def test_a_disk_that_is_full_is_broken(tmp_path, monkeypatch):
    def full(folder: Path) -> float:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(machine_speed, "disk_speed", full)
    with pytest.raises(UserError, match=r"can't be written to \(No space left on device\)"):
        look("runs", tmp_path)


def test_doctor_says_whether_runs_will_tell_their_energy(tmp_path, monkeypatch):
    class Silent(energy.EnergyMeter):
        def read(self) -> float | None:
            return None

    class Counting(energy.EnergyMeter):
        def read(self) -> float | None:
            return 0.0

    monkeypatch.setattr(energy, "EnergyMeter", Silent)
    assert "can't be read" in look("energy", tmp_path)
    monkeypatch.setattr(energy, "EnergyMeter", Counting)
    assert look("energy", tmp_path) == "runs tell what the processors took, all programs together"
