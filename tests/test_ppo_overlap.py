"""Collecting while learning: one rollout late, corrected, and never in anybody's way."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scripted_world import Episode, ScriptedWorld, frame_of

from playfield.agents.encoders import EncoderConfig, MemoryConfig
from playfield.agents.policy_gradient import log_prob
from playfield.agents.ppo import PPO, PPOConfig
from playfield.training.optimizers import OptimizerConfig

CPU = torch.device("cpu")
SCRIPTS = [
    [Episode(3, "terminated"), Episode(1, "truncated"), Episode(2, "terminated")],
    [Episode(50, "terminated")],
    [Episode(4, "truncated"), Episode(1, "terminated")],
]
SMALL = PPOConfig(
    num_envs=3, num_steps=8, batch_size=8, epochs=2, hidden=8, gamma=0.9, gae_lambda=0.8,
    precision="float32", overlap=True, encoder=EncoderConfig(mlp_layers=(8,)),
    optimizer=OptimizerConfig(learning_rate=3e-2, max_grad_norm=0.5),
)  # fmt: skip
LSTM = replace(SMALL, memory=MemoryConfig("lstm", memory_units=6))
BOTH = pytest.mark.parametrize("config", [SMALL, LSTM], ids=["without memory", "lstm"])


def trainer(config=SMALL, env=None, seed=0):
    ppo = PPO(config, env or ScriptedWorld(SCRIPTS), seed=seed, device=CPU, steps=10_000)
    with torch.no_grad():
        ppo.network.policy.weight.mul_(100)
    ppo.network_replaced()
    ppo.begin_segment(0)
    return ppo


def weights(ppo):
    return torch.cat([p.detach().flatten() for p in ppo.network.parameters()])


def noted_learning(ppo):
    """A list of everything that `ppo` learns from, with the targets: filled as it goes on."""
    noted, learn, corrected = [], ppo.learn, ppo._corrected

    def noting_learn(collected):
        noted.append([collected, None])
        return learn(collected)

    def noting_targets(collected):
        noted[-1][1] = corrected(collected)
        return noted[-1][1]

    ppo.learn, ppo._corrected = noting_learn, noting_targets
    return noted


# --- the correction -------------------------------------------------------------------------------


@BOTH
def test_where_the_policy_stays_the_same_the_targets_are_those_without_overlap(config):
    ppo = trainer(config)
    ppo.learning_rate = lambda progress: 0.0
    noted = noted_learning(ppo)
    for _ in range(4):
        ppo.step()
    for collected, targets in noted:
        plain, valid = ppo._targets(collected), collected.trajectory.valid
        assert plain.keys() == targets.keys()
        for name, target in targets.items():
            np.testing.assert_allclose(target[valid], plain[name][valid], atol=2e-6, rtol=1e-5)


def test_values_and_probabilities_are_those_of_the_policy_that_learns():
    ppo = trainer()
    noted = noted_learning(ppo)
    learn = ppo.learn

    def with_network_as_it_is(collected):
        before = [ppo.network(torch.from_numpy(frames)) for frames in played(collected)]
        learn(collected)
        noted[-1].append(before)
        return {}

    ppo.learn = with_network_as_it_is
    for _ in range(3):
        ppo.step()
    moved = 0.0
    for collected, targets, outputs in noted:
        valid, action = collected.trajectory.valid, torch.from_numpy(collected.trajectory.action)
        for env, (logits, value) in enumerate(outputs):
            steps = valid[:, env]
            expected = log_prob(logits, action[:, env].clamp_min(0)).detach().numpy()
            np.testing.assert_allclose(
                targets["old_log_prob"][steps, env], expected[steps], atol=1e-5
            )
            np.testing.assert_allclose(
                targets["old_value"][:, env], value.detach().numpy(), atol=1e-5
            )
        older = collected.trajectory.extra["log_prob"]
        moved = np.abs(targets["old_log_prob"] - older)[valid].max()
    assert moved > 1e-2  # the data is of an older policy


def played(collected):
    """The observations `[T, 3]` of each environment, as its script has them."""
    for env, script in enumerate(SCRIPTS):
        rows, episode = [], 0
        while len(rows) < 100:
            steps = script[episode % len(script)].steps
            rows += [frame_of(env, episode, step) for step in range(steps + 1)]
            episode += 1
        times = collected.trajectory.index[:, env] // 3
        yield np.stack([rows[time] for time in times])


def test_the_ratio_is_one_on_the_first_minibatch_of_a_rollout_that_is_late():
    ppo = trainer(replace(SMALL, epochs=1, batch_size=1000))
    for _ in range(4):
        report = ppo.step()
        assert report["train/approx_kl"].item() == pytest.approx(0, abs=1e-9)
        assert report["train/clip_fraction"].item() == 0


def test_a_rollout_is_collected_by_the_policy_from_before_the_newest_updates():
    ppo = trainer(replace(SMALL, epochs=1))
    acted, refresh = [weights(ppo)], ppo.player.refresh

    def noting(network):
        refresh(network)
        acted.append(weights(ppo))

    ppo.player.refresh = noting
    noted = noted_learning(ppo)
    for _ in range(4):
        ppo.step()
    probe = trainer(SMALL)
    for number, (collected, _) in enumerate(noted):
        # The first two were collected by the weights from the start; then each one step late.
        torch.nn.utils.vector_to_parameters(acted[max(0, number - 1)], probe.network.parameters())
        action, valid = torch.from_numpy(collected.trajectory.action), collected.trajectory.valid
        for env, frames in enumerate(played(collected)):
            logits, _ = probe.network(torch.from_numpy(frames))
            expected = log_prob(logits, action[:, env].clamp_min(0)).detach().numpy()
            noted_then = collected.trajectory.extra["log_prob"][:, env]
            steps = valid[:, env]
            np.testing.assert_allclose(noted_then[steps], expected[steps], atol=1e-5)


@pytest.mark.parametrize("setting", [{"dropout": 0.5}, {"norm": "batch"}])
def test_the_correction_looks_with_the_network_as_it_plays(setting):
    encoder = EncoderConfig("small", **setting)
    ppo = PPO(replace(SMALL, encoder=encoder), catch(3), seed=0, device=CPU, steps=1000)
    ppo.begin_segment(0)
    ppo.learning_rate = lambda progress: 0.0
    collected = ppo.collector.collect()
    ppo.network.train()
    before = [b.clone() for b in ppo.network.buffers()]
    targets, valid = ppo._corrected(collected), collected.trajectory.valid
    assert ppo.network.training
    assert all(map(torch.equal, before, ppo.network.buffers()))
    older = collected.trajectory.extra["log_prob"]
    np.testing.assert_allclose(targets["old_log_prob"][valid], older[valid], atol=1e-5)


def catch(num_envs):
    from playfield import envs

    return envs.make("playfield/Catch-v0", num_envs)


# --- two threads ----------------------------------------------------------------------------------


@BOTH
def test_two_runs_with_overlap_learn_the_same_whatever_the_threads_are_at(config):
    class Slow(ScriptedWorld):
        def recv(self):
            time.sleep(0.003)
            return super().recv()

    first, second = trainer(config), trainer(config, Slow(SCRIPTS))
    for _ in range(4):
        assert first.step()["train/loss"] == second.step()["train/loss"]
    assert torch.equal(weights(first), weights(second))


class Failing(ScriptedWorld):
    """Breaks at a given vector step."""

    def __init__(self, at):
        super().__init__(SCRIPTS)
        self.at, self.played = at, 0

    def recv(self):
        self.played += 1
        if self.played == self.at:
            raise OSError("the emulator broke")
        return super().recv()


@pytest.mark.parametrize(("at", "steps"), [(1, 0), (8, 0), (9, 0), (16, 0), (17, 1), (24, 1)])
def test_an_error_in_the_background_reaches_the_caller_in_the_step_in_which_it_happens(at, steps):
    ppo = trainer(env=Failing(at))
    for _ in range(steps):
        ppo.step()
    before = ppo.progress
    for _ in range(2):  # and again, for one who would go on
        with pytest.raises(OSError, match="the emulator broke"):
            ppo.step()
    assert ppo.progress == before


def test_nobody_plays_any_more_when_learning_has_failed():
    class Slow(ScriptedWorld):
        playing = False

        def recv(self):
            self.playing = True
            time.sleep(0.01)
            step = super().recv()
            self.playing = False
            return step

    env = Slow(SCRIPTS)
    ppo = trainer(env=env)

    def fails(batch):
        raise ArithmeticError("learning broke")

    ppo._update = fails
    with pytest.raises(ArithmeticError, match="learning broke"):
        ppo.step()
    played = len(env.actions)
    time.sleep(0.05)
    assert not env.playing and len(env.actions) == played == 16


def test_between_two_steps_nothing_is_played():
    env = ScriptedWorld(SCRIPTS)
    ppo = trainer(env=env)
    for number in range(1, 4):
        ppo.step()
        time.sleep(0.02)
        assert len(env.actions) == 8 * (number + 1)


def test_a_segment_drops_what_was_collected_ahead():
    env = ScriptedWorld(SCRIPTS)
    ppo = trainer(env=env)
    ppo.step()
    progress = ppo.progress
    noted = noted_learning(ppo)
    ppo.begin_segment(1)
    ppo.step()
    ((collected, _),) = noted
    assert collected.trajectory.first[0].all()
    assert ppo.progress == progress + collected.steps


def test_the_thread_ends_with_its_trainer():
    def collecting():
        return [t for t in threading.enumerate() if t.name.startswith("collector")]

    gc.collect()
    before = set(collecting())
    ppo = trainer()
    ppo.step()
    assert set(collecting()) - before
    del ppo
    gc.collect()
    deadline = time.monotonic() + 60
    while set(collecting()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not set(collecting()) - before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_ctrl_c_saves_and_leaves_no_thread_behind(tmp_path: Path):
    command = [
        *(sys.executable, "-m", "playfield.cli", "train", "ppo", "--env", "playfield/Catch-v0"),
        *("--overlap", "--num-envs", "2", "--num-steps", "16", "--hidden", "16"),
        *("--threads", "1", "--device", "cpu", "--evaluate-episodes", "0", "--log-every", "50"),
        *("--steps", "10000000", "--run", "stopped", "--root", str(tmp_path)),
    ]
    log_path, curves = tmp_path / "log", tmp_path / "stopped" / "metrics.jsonl"
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ)
    try:
        deadline = time.monotonic() + 120
        while not (curves.exists() and curves.stat().st_size):
            assert process.poll() is None and time.monotonic() < deadline, log_path.read_text()
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
    finally:
        process.kill()
    said = log_path.read_text()
    assert "Saved at step" in said and "Traceback" not in said
    assert process.returncode == 128 + signal.SIGINT, said
