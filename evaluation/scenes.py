"""A game as it is shown: pictures, and what there is to say about each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from playfield.envs.contract import EnvSpec, VectorEnv
from playfield.evaluation.games import Moment, moments
from playfield.training.trainer import Policy, PreferenceKind

EMULATOR_FRAMES_PER_SECOND = 60  # of an Atari 2600 on NTSC


@dataclass(frozen=True)
class Scene:
    """One instant of the game in environment 0: its picture, and what the agent makes of it."""

    picture: NDArray[np.uint8]  # [H, W, 3]
    game: int  # counted from 1
    step: int  # environment steps of this game up to here
    score: float  # so far in this game
    reward: float  # that came with this picture
    life_lost: bool  # with this picture; the game goes on
    action: int  # what is done next: now and then something else than the agent chose
    chosen: int  # what the agent chose
    value: float  # the return that it expects from here
    preference: NDArray[np.float32]  # [num_actions], of `kind`
    kind: PreferenceKind
    obs: torch.Tensor  # [1, stack*C, H, W] uint8, or [1, stack*D] float32: what it was shown
    ended: bool  # the game is over: no action follows

    @property
    def gain(self) -> float:
        """The reward, or -1 for a life that was lost without any."""
        return -1.0 if self.life_lost and not self.reward else self.reward


class Camera:
    """Makes scenes of the moments of a game as they come, counting games, steps and points."""

    def __init__(self, env: VectorEnv) -> None:
        self._env = env
        self._game, self._step, self._score = 0, 0, 0.0

    def take(self, moment: Moment) -> Scene:
        """What environment 0 shows now; every one of its moments has to be taken, in order."""
        step, decision = moment.step, moment.decision
        if step.first[0]:
            self._game, self._step, self._score = self._game + 1, 0, 0.0
        else:
            self._step += 1
        self._score += float(step.reward[0])
        return Scene(
            picture=self._env.render(),
            game=self._game,
            step=self._step,
            score=self._score,
            reward=float(step.reward[0]),
            life_lost=bool(step.life_lost[0]),
            action=int(moment.actions[0]),
            chosen=int(decision.action[0]),
            value=float(decision.value[0]),
            preference=decision.preference[0],
            kind=decision.kind,
            obs=moment.obs[:1],
            ended=bool(step.terminated[0] or step.truncated[0]),
        )


def scenes(env: VectorEnv, policy: Policy, *, seed: int, epsilon: float) -> Iterator[Scene]:
    """What environment 0 shows, step by step, without end."""
    camera = Camera(env)
    for moment in moments(env, policy, seed=seed, epsilon=epsilon):
        yield camera.take(moment)


def bounded(
    all_scenes: Iterator[Scene], *, pictures: int | None, games: int | None
) -> Iterator[Scene]:
    """The scenes up to the given number of pictures or the end of the given number of games."""
    for scene in itertools.islice(all_scenes, pictures):
        yield scene
        if scene.ended and scene.game == games:
            return


def pictures_per_second(spec: EnvSpec) -> float:
    """The speed at which a person would see the environment."""
    if "frame_skip" in spec.protocol:
        return EMULATOR_FRAMES_PER_SECOND / spec.frames_per_step
    return 8.0 if spec.id.startswith("playfield/") else 30.0
