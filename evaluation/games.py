"""Whole games played by a policy, scored on the raw reward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from playfield.buffers.store import FrameStore
from playfield.envs.contract import VectorEnv, VectorStep
from playfield.training.trainer import Decision, Policy


@dataclass(frozen=True, slots=True)
class Game:
    """One whole game: from its first observation to game over or the time limit."""

    env: int  # the environment it was played in
    score: float  # sum of raw rewards
    steps: int  # environment steps
    truncated: bool  # ended by the time limit, not by the game


@dataclass(frozen=True, slots=True)
class Moment:
    """What playing shows at each instant: the newest step and what the agent is about to do."""

    step: VectorStep
    obs: torch.Tensor  # [E, stack*C, H, W] uint8, or [E, stack*D] float32
    decision: Decision  # the policy's answer to `obs`
    actions: NDArray[np.int64]  # [E], what is done: now and then something else, at random


def quotas(episodes: int, num_envs: int) -> NDArray[np.int64]:
    """How many games each of E environments plays, fixed beforehand: `[E]`, sums to `episodes`.

    Taking the first games that finish instead would favour short ones: an agent that dies early
    would fill the sample with its deaths.
    """
    share, rest = divmod(episodes, num_envs)
    return np.asarray([share + (env < rest) for env in range(num_envs)], np.int64)


def moments(env: VectorEnv, policy: Policy, *, seed: int, epsilon: float) -> Iterator[Moment]:
    """Play without end. `epsilon` of the actions are uniformly random, drawn from `seed` alone.

    The policy's stack is the frame store's own view, the code path that training reads.
    """
    rng = np.random.default_rng([seed, 0x9A3E5])
    spec = env.spec
    store = FrameStore(
        env.num_envs * (policy.stack + 1), env.num_envs, spec.frame_shape, spec.frame_dtype
    )
    step = env.reset(seed)
    while True:
        store.append(step)
        obs = store.latest(policy.stack)
        decision = policy.act(obs, step.first)
        explore = rng.random(env.num_envs) < epsilon
        random = rng.integers(spec.num_actions, size=env.num_envs)
        actions = np.where(explore, random, decision.action).astype(np.int64)
        yield Moment(step, obs, decision, actions)
        store.act(actions)
        step = env.step(actions)


def play_games(
    env: VectorEnv,
    policy: Policy,
    *,
    episodes: int,
    seed: int,
    epsilon: float = 0.0,
    finished: Callable[[Game], None] = lambda game: None,
    watch: Callable[[Moment], None] = lambda moment: None,
) -> list[Game]:
    """Play `episodes` whole games; `finished` hears of each as it ends, `watch` of every moment.

    A lost life never ends a game. Every environment plays a quota fixed beforehand and the games
    come back ordered by environment, so the result depends on `seed`, `epsilon` and the number of
    environments, not on which game was over first. The environments have to be fresh.
    """
    quota = quotas(episodes, env.num_envs)
    score = np.zeros(env.num_envs, np.float64)
    steps = np.zeros(env.num_envs, np.int64)
    games: list[list[Game]] = [[] for _ in range(env.num_envs)]
    for moment in moments(env, policy, seed=seed, epsilon=epsilon):
        step = moment.step
        score += step.reward
        steps += ~step.first
        watch(moment)
        for index in np.flatnonzero(step.terminated | step.truncated):
            if len(games[index]) < quota[index]:
                truncated = not step.terminated[index]
                game = Game(int(index), float(score[index]), int(steps[index]), truncated)
                games[index].append(game)
                finished(game)
            score[index] = 0.0
            steps[index] = 0
        if all(len(played) == share for played, share in zip(games, quota, strict=True)):
            break
    return [game for played in games for game in played]
