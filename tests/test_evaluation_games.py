"""Whole games: fixed quotas, raw scores, no end at a lost life, seeds that decide everything."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from playfield import envs
from playfield.envs.contract import EnvSpec, VectorStep
from playfield.evaluation.games import moments, play_games, quotas
from playfield.training.trainer import Decision


class Scripted:
    """Environments whose games last for ever the same number of steps: `lengths[e]`, reward 1 each.

    Follows the NEXT_STEP rule; loses a life in the middle of every game.
    """

    def __init__(
        self, lengths: Sequence[int], rewards: float = 1.0, truncate: bool = False
    ) -> None:
        self.lengths = np.asarray(lengths)
        self.num_envs = len(lengths)
        self.rewards = rewards
        self.truncate = truncate
        self.spec = EnvSpec("scripted", (1, 2, 2), "uint8", 3, ("A", "B", "C"))
        self.seen: list[NDArray[np.int64]] = []

    def reset(self, seed: int) -> VectorStep:
        self.age = np.zeros(self.num_envs, np.int64)
        return self._step(np.ones(self.num_envs, bool))

    def send(self, actions: NDArray[np.int64]) -> None:
        self.seen.append(actions)

    def recv(self) -> VectorStep:
        first = self.age == self.lengths
        self.age = np.where(first, 0, self.age + 1)
        return self._step(first)

    def step(self, actions: NDArray[np.int64]) -> VectorStep:
        self.send(actions)
        return self.recv()

    def render(self) -> NDArray[np.uint8]:
        return np.zeros((2, 2, 3), np.uint8)

    def close(self) -> None: ...

    def _step(self, first: NDArray[np.bool_]) -> VectorStep:
        over = self.age == self.lengths
        frames = np.broadcast_to(self.age[:, None, None, None], (self.num_envs, 1, 2, 2))
        return VectorStep(
            frames=frames.astype(np.uint8),
            reward=np.where(first, 0.0, self.rewards).astype(np.float32),
            terminated=over & (not self.truncate),
            truncated=over & self.truncate,
            life_lost=~first & (self.age == self.lengths // 2),
            first=first,
            lives=np.ones(self.num_envs, np.int64),
        )


def certain(action: NDArray[np.int64]) -> Decision:
    preference = np.eye(3, dtype=np.float32)[action]
    return Decision(action, np.zeros(len(action), np.float32), preference, "probabilities")


class Always:
    """Takes one action always."""

    def __init__(self, action: int = 0, stack: int = 1) -> None:
        self.action = action
        self.stack = stack
        self.observed: list[torch.Tensor] = []

    def act(self, obs: torch.Tensor, first: NDArray[np.bool_]) -> Decision:
        self.observed.append(obs.clone())
        return certain(np.full(len(obs), self.action, np.int64))


class CatchPlayer(Always):
    """Plays Catch perfectly: moves under the ball."""

    def act(self, obs: torch.Tensor, first: NDArray[np.bool_]) -> Decision:
        ball = obs[:, 0, :-1].amax(1).argmax(1)
        paddle = obs[:, 0, -1].argmax(1)
        return certain((1 + torch.sign(ball - paddle)).numpy().astype(np.int64))


@pytest.mark.parametrize(
    ("episodes", "num_envs", "expected"),
    [(10, 4, [3, 3, 2, 2]), (3, 3, [1, 1, 1]), (2, 4, [1, 1, 0, 0]), (7, 1, [7])],
)
def test_quotas_share_the_games_evenly(episodes: int, num_envs: int, expected: list[int]) -> None:
    assert quotas(episodes, num_envs).tolist() == expected


def test_short_games_do_not_crowd_out_long_ones() -> None:
    # The first four games to finish are all of length 2; a fair sample holds both kinds equally.
    games = play_games(Scripted([2, 40]), Always(), episodes=4, seed=0)
    assert [game.steps for game in games] == [2, 2, 40, 40]
    assert [game.env for game in games] == [0, 0, 1, 1]


def test_a_lost_life_does_not_end_a_game_and_the_reset_row_is_no_step() -> None:
    games = play_games(Scripted([6], rewards=2.5), Always(), episodes=2, seed=0)
    assert [(game.score, game.steps) for game in games] == [(15.0, 6), (15.0, 6)]


def test_the_score_is_the_raw_reward_and_truncation_is_told() -> None:
    games = play_games(Scripted([3], rewards=-400.0, truncate=True), Always(), episodes=1, seed=0)
    assert games[0].score == -1200.0
    assert games[0].truncated


def test_the_stack_starts_with_zeros_and_never_shows_the_game_before() -> None:
    policy = Always(stack=3)
    play_games(Scripted([2]), policy, episodes=2, seed=0)
    shown = [obs[0, :, 0, 0].tolist() for obs in policy.observed]
    # Frames show the age of their game: 0, 1, 2, then a new game.
    assert shown == [[0, 0, 0], [0, 0, 1], [0, 1, 2], [0, 0, 0], [0, 0, 1], [0, 1, 2]]


def test_a_perfect_player_wins_every_game_of_catch() -> None:
    env = envs.make("playfield/Catch-v0", 4)
    games = play_games(env, CatchPlayer(), episodes=20, seed=3)
    assert [game.score for game in games] == [1.0] * 20


def test_each_game_is_told_as_it_ends() -> None:
    told: list[int] = []
    play_games(
        Scripted([1, 5]), Always(), episodes=4, seed=0, finished=lambda game: told.append(game.env)
    )
    assert told == [0, 0, 1, 1]


def test_equal_seeds_give_equal_games_and_other_seeds_others() -> None:
    def scores(seed: int) -> list[float]:
        env = envs.make("playfield/Catch-v0", 3)
        return [g.score for g in play_games(env, Always(1), episodes=30, seed=seed, epsilon=0.5)]

    assert scores(1) == scores(1)
    assert scores(1) != scores(2)


def test_epsilon_is_the_share_of_random_actions() -> None:
    env = Scripted([1000] * 8)
    play_games(env, Always(0), episodes=8, seed=0, epsilon=0.3)
    actions = np.concatenate(env.seen)
    # 8,000 draws: action 0 with 1 - 0.3 * 2/3 = 0.8; four standard deviations are 0.018.
    assert abs((actions == 0).mean() - 0.8) < 0.018
    assert abs((actions == 2).mean() - 0.1) < 0.018


def test_epsilon_zero_never_overrules_the_policy() -> None:
    env = Scripted([50])
    play_games(env, Always(2), episodes=1, seed=0)
    assert set(np.concatenate(env.seen).tolist()) == {2}


def test_moments_pair_each_observation_with_the_answer_to_it() -> None:
    playing = moments(Scripted([5]), Always(1), seed=0, epsilon=0.0)
    first, second = next(playing), next(playing)
    assert first.step.first.tolist() == [True]
    assert first.actions.tolist() == [1]
    assert second.obs[0, 0, 0, 0].item() == 1
