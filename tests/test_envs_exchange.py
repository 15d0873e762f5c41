"""The order of calls, and the seeds, that all environments share."""

from __future__ import annotations

import numpy as np
import pytest

from playfield.envs.exchange import Exchange
from playfield.envs.seeds import env_seeds


def exchange() -> Exchange:
    return Exchange("World-v0", num_envs=2, num_actions=3)


def test_actions_before_a_reset_are_out_of_order() -> None:
    with pytest.raises(RuntimeError, match=r"reset\(\) comes first"):
        exchange().send(np.array([0, 0]))


def test_two_sends_in_a_row_are_out_of_order() -> None:
    turn = exchange()
    turn.reset()
    turn.send(np.array([0, 0]))
    with pytest.raises(RuntimeError, match=r"recv\(\) comes first"):
        turn.send(np.array([0, 0]))


def test_two_recvs_in_a_row_are_out_of_order() -> None:
    turn = exchange()
    turn.reset()
    turn.send(np.array([0, 0]))
    turn.recv()
    with pytest.raises(RuntimeError, match=r"recv\(\) without a send"):
        turn.recv()


def test_a_refused_action_leaves_the_turn_with_the_learner() -> None:
    turn = exchange()
    turn.reset()
    with pytest.raises(ValueError, match="action 3 of environment 1"):
        turn.send(np.array([0, 3]))
    assert not turn.running
    turn.send(np.array([0, 2]))
    assert turn.running


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_sent_actions_are_int64_and_a_copy(dtype: type) -> None:
    turn = exchange()
    turn.reset()
    given = np.array([1, 2], dtype)
    sent = turn.send(given)
    given[:] = 0
    assert sent.dtype == np.int64
    assert sent.tolist() == [1, 2]


def test_an_environment_has_the_same_seed_in_a_vector_of_any_size() -> None:
    np.testing.assert_array_equal(env_seeds(7, 3), env_seeds(7, 50)[:3])


def test_neighbouring_seeds_share_no_environment() -> None:
    seeds = np.concatenate([env_seeds(seed, 64) for seed in range(20)])
    assert len(set(seeds.tolist())) == len(seeds)


def test_seeds_fit_the_emulator() -> None:
    seeds = env_seeds(2**63 - 1, 1000)
    assert seeds.min() >= 0 and seeds.max() < 2**31
    assert seeds.max() > 2**30  # and use its range
