"""Atari on the real emulator: the traps of ALE's vector environment, each held by a fact."""

from __future__ import annotations

import hashlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace

import ale_py.vector_env
import numpy as np
import pytest

from playfield.envs import make
from playfield.envs.atari import AtariVector, life_lost
from playfield.envs.contract import VectorStep
from playfield.envs.protocols import MACHADO2018, NATURE, AtariProtocol
from playfield.errors import UserError

#: Nothing random: every game of it is the same under the same actions.
STILL = replace(NATURE, name="still", noop_max=0, fire_reset=False)


@contextmanager
def atari(
    game: str,
    num_envs: int,
    protocol: AtariProtocol = MACHADO2018,
    *,
    threads: int | None = None,
    render: bool = False,
) -> Iterator[AtariVector]:
    env = AtariVector(game, num_envs, protocol, threads=threads, render=render)
    try:
        yield env
    finally:
        env.close()


def random_actions(env: AtariVector, steps: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(env.spec.num_actions, size=(steps, env.num_envs))


def area_average(picture: np.ndarray, size: int) -> np.ndarray:
    """`[H, W, …]` to `[size, size, …]`: each new pixel is the mean of the area that it covers."""

    def overlaps(length: int) -> np.ndarray:  # [size, length], rows sum to 1
        edges = np.arange(size + 1) * length / size
        pixel = np.arange(length)
        covered = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
        return np.clip(covered, 0, None) * size / length

    height, width = picture.shape[:2]
    rows = np.tensordot(overlaps(height), picture.astype(float), (1, 0))  # [size, W, …]
    return np.moveaxis(np.tensordot(overlaps(width), rows, (1, 1)), 0, 1)


def assert_rows_equal(ours: VectorStep, row: int, theirs: VectorStep, other: int) -> None:
    for column in fields(VectorStep):
        np.testing.assert_array_equal(
            getattr(ours, column.name)[row], getattr(theirs, column.name)[other], column.name
        )


def test_a_step_has_the_shapes_and_dtypes_of_the_contract() -> None:
    with atari("pong", 2) as env:
        for step in (env.reset(0), env.step([0, 1])):
            assert step.frames.shape == (2, 1, 84, 84)
            assert env.spec.frame_shape == (1, 84, 84)
            dtypes = {column.name: getattr(step, column.name).dtype for column in fields(step)}
            assert dtypes == {
                "frames": np.uint8,
                "reward": np.float32,
                "terminated": np.bool_,
                "truncated": np.bool_,
                "life_lost": np.bool_,
                "first": np.bool_,
                "lives": np.int64,
            }
        assert env.spec.frames_per_step == 4


def test_a_wrong_action_is_refused_before_it_can_hang_the_emulator() -> None:
    refused: list[tuple[list[object], type[Exception], str]] = [
        ([0, 6], ValueError, "action 6 of environment 1 is outside 0 <= action < 6"),
        ([-1, 0], ValueError, "action -1 of environment 0"),
        ([0], ValueError, r"shape \(2,\)"),
        ([[0], [0]], ValueError, r"shape \(2,\)"),
        ([0.0, 1.0], TypeError, "integers, not float64"),
        ([True, False], TypeError, "integers, not bool"),
    ]
    with atari("pong", 2, STILL) as env:
        before = env.reset(0)
        for actions, error, says in refused:
            with pytest.raises(error, match=says):
                env.send(np.asarray(actions))
            with pytest.raises(RuntimeError, match="without a send"):
                env.recv()  # nothing is under way
        assert (env.step([0, 0]).frames != before.frames).any()


def test_sticky_actions_are_the_only_randomness_of_machado2018() -> None:
    assert MACHADO2018.repeat_action_probability == 0.25
    same = np.repeat(np.random.default_rng(0).integers(6, size=(80, 1)), 3, axis=1)
    with atari("pong", 3, MACHADO2018) as env:
        start = env.reset(5).frames
        np.testing.assert_array_equal(start[0], start[1])
        last = [env.step(actions) for actions in same][-1].frames
        assert (last[0] != last[1]).any() and (last[0] != last[2]).any()


def test_without_sticky_actions_the_same_actions_play_the_same_game() -> None:
    same = np.repeat(np.random.default_rng(0).integers(6, size=(80, 1)), 2, axis=1)
    with atari("pong", 2, STILL) as env:
        env.reset(5)
        for actions in same:
            step = env.step(actions)
            assert_rows_equal(step, 0, step, 1)


def test_rewards_are_the_games_own_points() -> None:
    with atari("ms_pacman", 1) as env:
        env.reset(0)
        rewards = [env.step(actions).reward[0] for actions in random_actions(env, 120)]
    # A pellet is 10 points: clipped, no sum of four frames could exceed 4.
    assert 10.0 in rewards
    assert sum(rewards) >= 50.0


def test_a_lost_life_does_not_end_or_reset_the_game() -> None:
    with atari("breakout", 1, NATURE) as env:
        step = env.reset(2)
        assert step.lives[0] == 5
        lives = [5]
        lost = 0
        for actions in random_actions(env, 2000):
            before, step = step, env.step(actions)
            assert not step.first[0] and not step.truncated[0]
            assert step.life_lost[0] == (0 < step.lives[0] < before.lives[0])
            lost += int(step.life_lost[0])
            if step.lives[0] != lives[-1]:
                lives.append(int(step.lives[0]))
            if step.terminated[0]:
                break
        assert lives == [5, 4, 3, 2, 1, 0]
        assert lost == 4  # the fifth ends the game
        assert not step.life_lost[0]

        after = env.step([0])
        assert after.first[0] and after.lives[0] == 5
        assert after.reward[0] == 0.0
        assert not (after.terminated[0] or after.truncated[0] or after.life_lost[0])
        assert not env.step([0]).first[0]


def test_the_step_after_a_game_is_its_reset_whatever_the_action() -> None:
    # Cut after 8 steps; with nothing random, every game starts with the same frame.
    with atari("breakout", 2, replace(STILL, max_frames=32)) as env:
        start = env.reset(0).frames
        for _ in range(3):
            for _ in range(8):
                step = env.step([1, 1])
            assert step.truncated.all()
            step = env.step([3, 0])
            assert step.first.all() and not step.truncated.any() and not step.reward.any()
            np.testing.assert_array_equal(step.frames, start)


def test_environments_end_and_start_each_in_its_own_time() -> None:
    with atari("breakout", 3, NATURE) as env:
        step = env.reset(0)
        assert step.first.all()
        ends = np.zeros(3, np.int64)
        for actions in random_actions(env, 600):
            before, step = step, env.step(actions)
            np.testing.assert_array_equal(step.first, before.terminated | before.truncated)
            ends += step.terminated
        assert (ends >= 1).all()


@pytest.mark.parametrize(("frame_skip", "steps"), [(4, 10), (1, 40), (8, 5)])
def test_the_cap_counts_emulator_frames_and_truncates(frame_skip: int, steps: int) -> None:
    # Skipped twice, 40 frames would be over after fewer steps.
    with atari("pong", 1, replace(MACHADO2018, max_frames=40, frame_skip=frame_skip)) as env:
        assert env.spec.frames_per_step == frame_skip
        env.reset(0)
        cut = [env.step([0]) for _ in range(steps)]
        assert [bool(step.truncated[0]) for step in cut] == [False] * (steps - 1) + [True]
        assert not any(step.terminated[0] for step in cut)
        assert env.step([0]).first[0]


@pytest.mark.parametrize("protocol", [MACHADO2018, NATURE], ids=lambda protocol: protocol.name)
def test_an_environment_plays_alike_alone_and_among_others(protocol: AtariProtocol) -> None:
    with atari("breakout", 1, protocol) as alone, atari("breakout", 3, protocol) as many:
        assert_rows_equal(alone.reset(11), 0, many.reset(11), 0)
        for actions in random_actions(many, 250):
            assert_rows_equal(alone.step(actions[:1]), 0, many.step(actions), 0)


def test_a_reset_with_the_same_seed_repeats_everything_and_another_seed_does_not() -> None:
    def play(env: AtariVector, seed: int) -> bytes:
        digest = hashlib.sha256(env.reset(seed).frames.tobytes())
        for actions in random_actions(env, 60):
            digest.update(env.step(actions).frames.tobytes())
        return digest.digest()

    with atari("breakout", 2, NATURE) as env:
        assert play(env, 1) == play(env, 1) != play(env, 2)


def test_nothing_writes_to_a_step_that_was_handed_over() -> None:
    with atari("breakout", 2) as env:
        steps = [env.reset(0)]
        before = [[getattr(steps[0], column.name).copy() for column in fields(VectorStep)]]
        for actions in random_actions(env, 80):
            steps.append(env.step(actions))
            before.append([getattr(steps[-1], column.name).copy() for column in fields(VectorStep)])
        for step, copies in zip(steps, before, strict=True):
            for column, copy in zip(fields(VectorStep), copies, strict=True):
                np.testing.assert_array_equal(getattr(step, column.name), copy)
        # And the receiver may write to its own without disturbing the environment.
        steps[-1].lives[:] = 99
        assert not env.step([0, 0]).life_lost.any()


def test_arrays_of_one_step_do_not_share_memory() -> None:
    with atari("pong", 2) as env:
        for step in (env.reset(0), env.step([0, 0])):
            arrays = [getattr(step, column.name) for column in fields(VectorStep)]
            for index, array in enumerate(arrays):
                assert not any(np.shares_memory(array, other) for other in arrays[index + 1 :])


@pytest.mark.parametrize("protocol", [MACHADO2018, NATURE], ids=lambda protocol: protocol.name)
def test_the_colour_picture_is_the_same_game(
    protocol: AtariProtocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    with atari("breakout", 2, protocol, render=True) as env:
        assert env._twin is not None
        twin_steps = []
        receive = env._twin.recv
        monkeypatch.setattr(
            env._twin, "recv", lambda: twin_steps.append(receive()) or twin_steps[-1]
        )
        env.reset(4)
        ended = 0
        for moment, actions in enumerate(random_actions(env, 300)):
            step = env.step(actions)
            _, reward, terminated, _, info = twin_steps[-1]
            assert reward[0] == step.reward[0]
            assert terminated[0] == step.terminated[0]
            assert info["lives"][0] == step.lives[0]
            ended += int(step.terminated[0])
            if moment % 5:
                continue
            picture = env.render()
            assert picture.shape == (210, 160, 3) and picture.dtype == np.uint8
            # ALE's grey is nearly luminance; a ball or a paddle elsewhere differs by far more.
            luminance = picture @ [0.299, 0.587, 0.114]
            assert np.abs(area_average(luminance, 84) - step.frames[0, 0]).max() < 6
        assert ended >= 1


def test_without_the_twin_the_picture_is_the_agents_own_frame() -> None:
    with atari("pong", 2) as env:
        with pytest.raises(RuntimeError, match="before reset"):
            env.render()
        step = env.reset(0)
        np.testing.assert_array_equal(env.render(), np.repeat(step.frames[0, 0][..., None], 3, 2))


def test_a_colour_protocol_gives_channels_first() -> None:
    protocol = replace(STILL, name="colour", grey=False, frame_size=64)
    with atari("breakout", 1, protocol) as colour, atari("breakout", 1, STILL, render=True) as grey:
        frames = colour.reset(0).frames
        grey.reset(0)
        assert frames.shape == (1, 3, 64, 64) == (1, *colour.spec.frame_shape)
        assert frames.flags.c_contiguous
        expected = area_average(grey.render(), 64)  # [64, 64, 3]
        np.testing.assert_allclose(frames[0], np.moveaxis(expected, 2, 0), atol=0.51)


@pytest.mark.parametrize(("game", "fewest"), [("freeway", 0), ("pong", 1)])
def test_nature_starts_after_up_to_30_frames_fire_included(game: str, fewest: int) -> None:
    # Cut after every step, so that every second one is a reset. Freeway knows no FIRE.
    with atari(game, 1, replace(NATURE, max_frames=4)) as env:
        env.reset(0)
        assert env.spec.protocol["fire_pressed"] == (game == "pong")
        waited = []
        for _ in range(400):
            env._emulators.send(np.zeros(1, np.int64))
            *_, truncated, info = env._emulators.recv()
            if not truncated[0]:
                waited.append(int(info["episode_frame_number"][0]))
    assert len(waited) == 200
    assert min(waited) == fewest
    assert max(waited) == 30


def test_fire_is_pressed_at_reset_under_nature_and_never_under_machado2018() -> None:
    # Without FIRE no ball is served, and nobody can lose one.
    with atari("breakout", 1, NATURE) as env:
        env.reset(0)
        assert any(env.step([0]).life_lost[0] for _ in range(80))
    with atari("breakout", 1, MACHADO2018) as env:
        env.reset(0)
        assert {int(env.step([0]).lives[0]) for _ in range(80)} == {5}


def test_the_action_set_is_minimal_unless_asked_and_recorded() -> None:
    with atari("breakout", 1) as env:
        assert env.spec.action_meanings == ("NOOP", "FIRE", "RIGHT", "LEFT")
        assert env.spec.protocol["full_action_space"] is False
    full = make("ALE/Breakout-v5", 1, full_action_space=True)
    assert full.spec.num_actions == 18
    assert full.spec.protocol["full_action_space"] is True
    assert full.spec.protocol["actions"] == list(full.spec.action_meanings)
    full.close()


@pytest.mark.parametrize(
    ("before", "now", "ends_or_starts", "lost"),
    [
        (3, 2, False, True),
        (3, 3, False, False),
        (3, 4, False, False),  # a bonus life
        (1, 0, False, False),  # Q*bert shows 0 for its last life
        (0, 0, False, False),
        (1, 0, True, False),  # the game is over
        (2, 1, True, False),  # a new game of a vector that was cut
        (0, 5, True, False),
    ],
)
def test_a_life_is_lost_where_fewer_are_left_and_the_game_goes_on(
    before: int, now: int, ends_or_starts: bool, lost: bool
) -> None:
    result = life_lost(np.array([before]), np.array([now]), np.array([ends_or_starts]))
    assert result.tolist() == [lost]


def test_neither_the_end_nor_the_start_of_a_game_is_a_lost_life(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A bonus life, a cut, the next game with its usual count; then an end with lives to spare.
    script = [(6, False, False), (6, False, True), (5, False, False), (4, True, False)]
    with atari("breakout", 1) as env:
        env.reset(0)
        for lives, terminated, truncated in script:
            frames, reward, *_ = env._emulators.step(np.zeros(1, np.int64))
            answer = (frames, reward, np.array([terminated]), np.array([truncated]))
            info = {"lives": np.array([lives], np.int32)}
            monkeypatch.setattr(env._emulators, "send", lambda actions: None)
            monkeypatch.setattr(env._emulators, "recv", lambda a=answer, i=info: (*a, i))
            step = env.step([0])
            monkeypatch.undo()
            assert step.lives[0] == lives
            assert not step.life_lost[0]


@pytest.fixture
def ale_arguments(monkeypatch: pytest.MonkeyPatch) -> list[inspect.BoundArguments]:
    """The arguments of every vector environment that ALE is asked for."""
    seen = []
    signature = inspect.signature(ale_py.vector_env.AtariVectorEnv)

    class Recorded(ale_py.vector_env.AtariVectorEnv):
        def __init__(self, *args: object, **kwargs: object) -> None:
            seen.append(signature.bind(*args, **kwargs))
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(ale_py.vector_env, "AtariVectorEnv", Recorded)
    return seen


def test_no_default_of_the_emulator_is_relied_upon(
    ale_arguments: list[inspect.BoundArguments],
) -> None:
    with atari("pong", 1):
        pass
    assert set(ale_arguments[0].signature.parameters) == set(ale_arguments[0].arguments)


@pytest.mark.parametrize(
    ("cores", "num_envs", "threads", "expected"),
    [(2, 3, None, 2), (8, 2, None, 2), (2, 3, 1, 1), (1, 2, 9, 2)],
)
def test_emulator_threads_follow_affinity_argument_and_number_of_environments(
    cores: int,
    num_envs: int,
    threads: int | None,
    expected: int,
    ale_arguments: list[inspect.BoundArguments],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    with atari("pong", num_envs, threads=threads):
        pass
    assert ale_arguments[0].arguments["num_threads"] == expected


def test_reset_and_close_discard_a_step_that_is_still_running() -> None:
    with atari("pong", 2, STILL) as env:
        start = env.reset(0)
        env.send(np.array([1, 1]))
        again = env.reset(0)
        assert_rows_equal(again, 0, start, 0)
        env.step([0, 0])
        env.send(np.array([1, 1]))
        env.close()
        env.close()
        with pytest.raises(RuntimeError, match="closed"):
            env.send(np.array([0, 0]))
        with pytest.raises(RuntimeError, match="after close"):
            env.reset(0)


def test_the_emulator_starts_without_chatter() -> None:
    program = (
        "from playfield.envs import make\n"
        "env = make('pong', 1, render=True); env.reset(0); env.step([0]); env.close()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


@pytest.mark.parametrize(
    ("game", "num_envs", "threads", "says"),
    [
        ("ALE/Pong-v5", 1, None, "not the ROM name"),
        ("combat", 1, None, "not the ROM name"),  # ALE would end the process
        ("pong", 0, None, "number of environments must be 1 or more"),
        ("pong", 1, 0, "threads must be 1 or more"),
    ],
)
def test_what_cannot_be_made_is_said(
    game: str, num_envs: int, threads: int | None, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        AtariVector(game, num_envs, threads=threads)


def test_a_missing_rom_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    with pytest.raises(UserError, match="ROM of 'pong'"):
        AtariVector("pong", 1)


def test_a_negative_seed_is_refused() -> None:
    with atari("pong", 1) as env, pytest.raises(ValueError, match="0 or more"):
        env.reset(-1)
