"""Profiles: a table that accounts for all of the time, and a trace of what happened when."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import TINY, CommandLine, playfield

from playfield import envs
from playfield.training import profile as profiles
from playfield.training.profile import TRACE, UPDATES, Operations, Profiler, profiling
from playfield.training.spans import KEPT, Recorder, recording, span

__all__ = ["playfield"]  # a fixture

CPU = torch.device("cpu")
SECOND = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 1234

    def read(self) -> int:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time stands still but where a test lets it pass."""
    clock = Clock()
    monkeypatch.setattr(profiles.time, "perf_counter_ns", clock.read)
    return clock


class FakeOperations(Operations):
    """Instead of torch's profiler: takes two seconds to start, and five to stop."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock, self.said = clock, list[str]()

    def start(self) -> None:
        self.clock.pass_(2)
        self.running = self.done = True
        self._clock = self.clock.now
        self.said.append("start")

    def stop(self) -> None:
        self.clock.pass_(5)
        self.running = False
        self.said.append("stop")


@pytest.fixture
def profiler(clock: Clock) -> Profiler:
    profiler = Profiler(lambda text: None)
    profiler.operations = FakeOperations(clock)
    return profiler


def learn(clock: Clock, updates: int = 1) -> None:
    """A step of a trainer, of half a second for each of `updates`, and as much for the rest."""
    with span("step"):
        for _ in range(updates):
            with span("update"):
                clock.pass_(0.5)
        clock.pass_(0.5)


# --- the table ------------------------------------------------------------------------------------


def test_the_rows_account_for_all_of_the_time_whatever_is_in_no_span_included(profiler, clock):
    with recording(profiler.recorder):
        learn(clock, updates=2)
        clock.pass_(4)
        with span("checkpoint"):
            clock.pass_(3)
            with span("log"):
                clock.pass_(0.25)
    found = profiler.profile(8.75)
    assert [(row.name, row.seconds, row.count) for row in found.rows] == [
        ("checkpoint", 3.0, 1),
        ("update", 1.0, 2),
        ("step", 0.5, 1),
        ("log", 0.25, 1),
        ("other", 4.0, None),
    ]
    assert sum(row.seconds for row in found.rows) == found.seconds


def test_the_shares_of_the_table_add_up_to_all(profiler, clock):
    with recording(profiler.recorder):
        learn(clock)
        clock.pass_(2)
    lines = profiler.profile(3.0).table()
    assert lines[0] == "where the 3.0 s of training went:"
    shares = {line.split()[0]: float(line.split("%")[0].split()[-1]) for line in lines[2:]}
    assert shares == {"update": 16.7, "step": 16.7, "other": 66.7}


def test_a_table_fits_a_narrow_terminal():
    row = profiles.Row("discriminator", 999_999.99, 123_456_789, "")
    for meaning in [*profiles.SPANS.values(), "torch's profiler, a few steps"]:
        rows = [profiles.Row(row.name, row.seconds, row.count, meaning)]
        table = profiles.Profile(1_000_000.0, rows, {"collector_0": rows}).table()
        assert max(map(len, table)) < 80


def test_what_other_threads_do_meanwhile_is_told_apart(profiler, clock):
    other = profiles.Track(profiler.recorder, "collector_0", 77)
    other.enter("act")
    other.exit("act", 0, SECOND)
    profiler.recorder.tracks.append(other)
    with recording(profiler.recorder):
        learn(clock)
    found = profiler.profile(1.0)
    assert "act" not in [row.name for row in found.rows]
    assert [row.name for row in found.meanwhile["collector_0"]] == ["act"]
    assert "meanwhile, in the thread collector_0:" in found.table()


def test_nothing_at_all_is_a_profile_too(profiler):
    assert [row.name for row in profiler.profile(0.0).rows] == ["other"]
    assert len(profiler.profile(0.0).table()) == 3


# --- when torch's profiler runs -------------------------------------------------------------------


def test_torchs_profiler_waits_for_updates_and_runs_once(profiler, clock, monkeypatch):
    monkeypatch.setattr(profiles, "STEPS", 3)
    monkeypatch.setattr(profiles, "SECONDS", 1e9)
    said, steps = profiler.operations.said, []
    with recording(profiler.recorder):
        for _ in range(50):
            learn(clock)
            steps.append(len(said))
    assert said == ["start", "stop"]
    assert steps[: UPDATES + 4] == [0] * UPDATES + [1, 1, 2, 2]


def test_an_agent_that_only_collects_is_not_what_torchs_profiler_waits_for(profiler, clock):
    with recording(profiler.recorder):
        for _ in range(10 * UPDATES):
            learn(clock, updates=0)
    assert profiler.operations.said == []


def test_long_steps_end_it_by_time_but_never_within_one(profiler, clock, monkeypatch):
    monkeypatch.setattr(profiles, "SECONDS", 1.2)
    with recording(profiler.recorder):
        learn(clock, updates=UPDATES)
        learn(clock)  # one second
        assert profiler.operations.said == ["start"]
        learn(clock)
    assert profiler.operations.said == ["start", "stop"]


def test_it_has_stopped_before_an_evaluation_begins(profiler, clock):
    with recording(profiler.recorder):
        learn(clock, updates=UPDATES)
        with span("step"):
            clock.pass_(0.1)
        with span("log"):
            assert profiler.operations.said == ["start"]
        with span("evaluate"):
            assert profiler.operations.said == ["start", "stop"]
            clock.pass_(9)
    assert {row.name: row.seconds for row in profiler.profile(100.0).rows}["evaluate"] == 9.0


def test_its_own_time_is_a_row_and_slows_no_other(profiler, clock, monkeypatch):
    monkeypatch.setattr(profiles, "STEPS", 2)
    monkeypatch.setattr(profiles, "SECONDS", 1e9)
    with recording(profiler.recorder):
        learn(clock, updates=UPDATES)  # 3 s
        learn(clock)  # 2 s to start, then 1 s
        clock.pass_(0.25)
        learn(clock)  # 1 s, then 5 s to stop
        learn(clock)  # 1 s
    found = profiler.profile(13.25)
    rows = {row.name: row.seconds for row in found.rows}
    assert rows == {"profiler": 9.25, "update": 3.0, "step": 1.0, "other": 0.0}
    assert len([e for e in profiler.trace()["traceEvents"] if e["name"] == "step"]) == 4


def test_where_torchs_profiler_fails_the_rest_goes_on(clock, tmp_path):
    class Failing(Operations):
        def start(self) -> None:
            self.done = True
            raise RuntimeError("another profiler is at work")

    said: list[str] = []
    profiler = Profiler(said.append)
    profiler.operations = Failing()
    with recording(profiler.recorder):
        for _ in range(3):
            learn(clock, updates=UPDATES)
    profiler.finish(tmp_path)
    assert said[0] == (
        "Torch's profiler does not work here (another profiler is at work): "
        "the trace has no operations."
    )
    assert sum("does not work" in text for text in said) == 1
    assert events_of(tmp_path)["update"][0]["dur"] == 0.5e6


# --- the trace ------------------------------------------------------------------------------------


def events_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The events with a duration in a run's trace, by name."""
    found: dict[str, list[dict[str, Any]]] = {}
    trace = json.loads((folder / TRACE).read_text())
    for event in trace["traceEvents"]:
        assert event["ph"] and "pid" in event
        if event["ph"] == "X":
            found.setdefault(event["name"], []).append(event)
    return found


def test_spans_stand_in_the_trace_in_microseconds_from_the_start(profiler, clock, tmp_path):
    clock.pass_(1)
    with recording(profiler.recorder):
        learn(clock)
    profiler.finish(tmp_path)
    events = events_of(tmp_path)
    assert [(e["ts"], e["dur"]) for e in events["step"]] == [(1e6, 1e6)]
    assert [(e["ts"], e["dur"]) for e in events["update"]] == [(1e6, 0.5e6)]


def test_operations_are_moved_to_the_clock_of_the_spans():
    operations = Operations()
    # The calendar said 2,000 s when the clock said 50 s; an operation 3 s later. Torch counts its
    # µs from a calendar time of its own; the trace's time begins at 40 s of the clock.
    operations._calendar, operations._clock = 2_000 * SECOND, 50 * SECOND
    events = [{"name": "aten::mm", "ph": "X", "ts": 1_003e6, "dur": 7.0}, {"name": "x", "ph": "M"}]
    operations._trace = {"baseTimeNanoseconds": 1_000 * SECOND, "traceEvents": events}
    moved, same = operations.events(40 * SECOND)
    assert moved == {"name": "aten::mm", "ph": "X", "ts": 13e6, "dur": 7.0}
    assert same == {"name": "x", "ph": "M"}


def test_torchs_own_profiler_shows_the_operations_of_a_step_and_nothing_on_the_terminal(
    tmp_path, capfd
):
    said: list[str] = []
    with profiling(tmp_path, say=said.append):
        for _ in range(UPDATES + 3):
            with span("step"), span("update"):
                torch.ones(8, 8) @ torch.ones(8, 8)
    events = events_of(tmp_path)
    assert len(events["update"]) == UPDATES + 3
    assert events["aten::mm"]
    # The clocks agree: no operation is before the first step or after the last one.
    begin, end = events["step"][0]["ts"], events["step"][-1]["ts"] + events["step"][-1]["dur"]
    slack = 1e6  # of a machine that did something else between two looks at two clocks
    for event in events["aten::mm"]:
        assert begin - slack < event["ts"] < end + slack
    assert capfd.readouterr() == ("", "")
    assert any(line.split()[:1] == ["profiler"] for line in said)


@pytest.mark.gpu
def test_what_a_gpu_did_is_in_the_trace_and_the_table_says_that_its_times_are_not(tmp_path):
    said: list[str] = []
    matrix = torch.ones(512, 512, device="cuda")
    with profiling(tmp_path, say=said.append):
        for _ in range(UPDATES + 3):
            with span("step"), span("update"):
                matrix @ matrix
    trace = json.loads((tmp_path / TRACE).read_text())
    assert any(event.get("cat") == "kernel" for event in trace["traceEvents"])
    assert "these are the processor's times; what the GPU did is in the trace." in said


def test_the_size_of_a_trace_is_bounded_however_long_the_run(clock):
    recorder = Recorder()
    with recording(recorder):
        for _ in range(KEPT + 5):
            with span("act"):
                pass
    assert len(recorder.tracks[0].events) == KEPT


# --- runs -----------------------------------------------------------------------------------------


def test_a_run_that_fails_has_its_profile_and_its_error(tmp_path):
    said: list[str] = []
    with pytest.raises(ZeroDivisionError), profiling(tmp_path, say=said.append), span("step"):
        raise ZeroDivisionError
    assert (tmp_path / TRACE).exists() and said[0].startswith("where the ")


def test_a_profile_that_nobody_wants_is_none(tmp_path):
    with profiling(tmp_path, wanted=False, say=pytest.fail), span("step"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_trace_that_cannot_be_written_is_told_and_costs_nothing_else(tmp_path):
    (tmp_path / "profile").touch()  # a file where the folder should be
    said: list[str] = []
    with profiling(tmp_path, say=said.append):
        pass
    assert said[-1].startswith(f"Can't write {tmp_path / TRACE} (")


def test_a_training_with_profile_says_where_its_time_went(playfield: CommandLine) -> None:
    run = ("--run", "catch", "--root", str(playfield.root))
    result = playfield("train", "dqn", *TINY, *run, "--steps", "120", "--profile")
    assert result.code == 0, result
    table = result.out.partition("of training went:")[2]
    names = {line.split()[0] for line in table.splitlines() if "%" in line}
    parts = {"act", "environments", "store", "sample", "update", "step", "log", "checkpoint"}
    assert parts <= names and {"begin", "other"} <= names
    events = events_of(playfield.root / "catch")
    assert parts <= set(events)
    updates = len(events["update"])
    assert updates > UPDATES
    assert any(name.startswith("aten::") for name in events)

    resumed = playfield("resume", "catch", "--root", run[-1], "--steps", "160", "--profile")
    assert "of training went:" in resumed.out
    assert 0 < len(events_of(playfield.root / "catch")["update"]) < updates


# --- every kind of trainer ------------------------------------------------------------------------


def spans_of_a_step(trainer: Any) -> set[str]:
    trainer.begin_segment(0)
    recorder = Recorder()
    with recording(recorder):
        trainer.step()
    return set().union(*(track.totals for track in recorder.tracks))


ROLLOUT = {"act", "environments", "store", "targets", "sample", "update"}


@pytest.mark.parametrize("name", ["ppo", "pqn", "a2c", "reinforce"])
def test_a_learner_from_rollouts_names_what_its_time_goes_to(name):
    from playfield.agents.registry import algorithm

    sizes = {"num_envs": 2, "hidden": 8}
    chosen = algorithm(name)
    config = chosen.load_config_type()(**sizes)
    env = envs.make("playfield/Catch-v0", 2)
    trainer = chosen.build_trainer(config, env, seed=0, device=CPU, steps=1000)
    assert spans_of_a_step(trainer) == ROLLOUT


def test_a_rollout_that_is_collected_meanwhile_is_waited_for():
    from playfield.agents.ppo import PPO, PPOConfig

    config = PPOConfig(num_envs=2, num_steps=4, batch_size=8, hidden=8, overlap=True)
    env = envs.make("playfield/Catch-v0", 2)
    assert spans_of_a_step(PPO(config, env, seed=0, device=CPU, steps=100)) == ROLLOUT | {"wait"}


@pytest.mark.parametrize(
    ("name", "spans"),
    [
        ("diffusion", {"sample", "update", "average"}),
        ("gan", {"sample", "discriminator", "generator", "average"}),
        ("classifier", {"sample", "update"}),
    ],
)
def test_a_learner_from_images_names_what_its_time_goes_to(name, spans):
    assert spans_of_a_step(learner_from_images(name)) == spans


def learner_from_images(name: str) -> Any:
    from playfield.generative.classifier import ClassifierConfig
    from playfield.generative.classifier_trainer import ClassifierTrainer
    from playfield.generative.diffusion import DiffusionConfig
    from playfield.generative.gan import GANConfig
    from playfield.generative.gan_networks import GANNetConfig
    from playfield.generative.images import images_from_arrays
    from playfield.generative.networks import NetConfig

    images = np.random.default_rng(0).integers(0, 256, (16, 1, 6, 6), dtype=np.uint8)
    data = images_from_arrays("test", images, np.arange(16) % 2, list("ab"))
    if name == "classifier":
        return ClassifierTrainer(
            ClassifierConfig(batch_size=8), data, seed=0, device=CPU, steps=100
        )
    if name == "gan":
        net = GANNetConfig(
            net="r3gan", latent=8, generator_channels=8, discriminator_channels=8,
            group_channels=8, class_features=8, start_size=3,
        )  # fmt: skip
        config: Any = GANConfig(batch_size=8, net=net)
    else:
        net = NetConfig(base_channels=8, channel_mult=(1, 2), blocks=1)
        config = DiffusionConfig(batch_size=8, net=net)
    return config.build_trainer(data, None, seed=0, device=CPU, steps=100)
