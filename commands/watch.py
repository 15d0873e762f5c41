"""`playfield watch RUN`: the agent at play, in the terminal or in a video file."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from playfield.commands import arguments
from playfield.errors import UserError
from playfield.training.places import runs_root

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from playfield.envs.contract import EnvSpec, VectorEnv
    from playfield.training.trainer import Policy

EMULATOR_FRAMES_PER_SECOND = 60  # of an Atari 2600 on NTSC


@dataclass(frozen=True)
class Options:
    """Watch a run's agent play, in colour, in the terminal or as a video file.

    One game, unless --seconds, --steps or --episodes say otherwise; the first of them that is
    reached ends it. Ctrl-C ends it too.
    """

    run: tyro.conf.Positional[str]
    """Name or folder of the run."""
    video: Path | None = None
    """Write FILE.mp4, FILE.gif or FILE.png (animated) instead of drawing in the terminal."""
    seconds: float | None = None
    """Seconds to show."""
    steps: int | None = None
    """Environment steps to show."""
    episodes: int | None = None
    """Games to show."""
    fps: float | None = None
    """Pictures per second; None: the speed of the original."""
    checkpoint: str | None = None
    """Which checkpoint, by its step or path, best or last; None: the newest intact one."""
    epsilon: float = 0.001
    """Share of random actions."""
    seed: int | None = None
    """Seed of the games; None: one made from the run's own."""
    device: str = "cpu"
    """auto, cpu, cuda, cuda:1 or mps; one game at a time is quick enough on the CPU."""
    root: Path = field(default_factory=runs_root)
    """Folder that runs are kept in."""


@dataclass(frozen=True)
class Scene:
    """One picture and what there is to say about it."""

    picture: NDArray[np.uint8]  # [H, W, 3]
    game: int  # counted from 1
    score: float  # so far in this game
    action: str
    value: float  # of the best action, as the agent sees it
    ended: bool


def run(args: Sequence[str]) -> int:
    options = arguments.parse(Options, args, command="watch")
    _check(options)
    if options.video is None and not sys.stdout.isatty():
        raise UserError(
            "watch draws in a terminal, and its output goes elsewhere; "
            "write a file instead with --video FILE.mp4, .gif or .png."
        )

    from playfield.commands import stored
    from playfield.commands.agent_evaluation import report_seed
    from playfield.evaluation.video import VideoWriter
    from playfield.training.devices import resolve_device, set_threads
    from playfield.training.run import Run
    from playfield.training.signals import raise_at_interrupt

    device = resolve_device(options.device)
    set_threads(1)  # one observation at a time: more threads would wait longer than they work
    old = Run.open(options.run, options.root)
    checkpoint = stored.stored_checkpoint(old, options.checkpoint, stores=False)
    env = stored.stored_env(old, 1, render=True)
    seed = report_seed(old.manifest["seed"]) if options.seed is None else options.seed
    try:
        policy = stored.stored_policy(old, checkpoint, env.spec, device)
        rate = options.fps if options.fps is not None else pictures_per_second(env.spec)
        shown = bounded(
            scenes(env, policy, seed=seed, epsilon=options.epsilon),
            pictures=_pictures(options, rate),
            games=_games(options),
        )
        raise_at_interrupt()
        title = f"{old.name} at step {checkpoint.progress:,}: {env.spec.id}"
        if options.video is None:
            _draw(shown, title, rate)
            return 0
        count = 0
        with VideoWriter(options.video, rate) as writer:
            try:
                for scene in shown:
                    writer.add(scene.picture)
                    count += 1
            except KeyboardInterrupt:
                pass  # the film ends here, and is kept
    finally:
        env.close()
    print(f"{options.video}: {count} pictures, {count / rate:.1f} s of {title}")
    return 0


def scenes(env: VectorEnv, policy: Policy, *, seed: int, epsilon: float) -> Iterator[Scene]:
    """What environment 0 shows, step by step, without end."""
    from playfield.evaluation.games import moments

    game, score = 0, 0.0
    for moment in moments(env, policy, seed=seed, epsilon=epsilon):
        step = moment.step
        if step.first[0]:
            game, score = game + 1, 0.0
        score += float(step.reward[0])
        yield Scene(
            picture=env.render(),
            game=game,
            score=score,
            action=env.spec.action_meanings[moment.actions[0]],
            value=float(moment.decision.value[0]),
            ended=bool(step.terminated[0] or step.truncated[0]),
        )


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


def _pictures(options: Options, rate: float) -> int | None:
    # The first picture is that of the reset, before any step.
    limits = [] if options.steps is None else [options.steps + 1]
    if options.seconds is not None:
        limits.append(max(1, round(options.seconds * rate)))
    return min(limits, default=None)


def _games(options: Options) -> int | None:
    if options.episodes is None and options.steps is None and options.seconds is None:
        return 1
    return options.episodes


def _check(options: Options) -> None:
    for name in ("seconds", "steps", "episodes", "fps"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise UserError(f"--{name} has to be more than 0, not {value}.")
    if not 0 <= options.epsilon <= 1:
        raise UserError(f"--epsilon has to lie between 0 and 1, not {options.epsilon}.")
    if options.seed is not None and options.seed < 0:
        raise UserError(f"--seed has to be 0 or more, not {options.seed}.")


def _draw(shown: Iterator[Scene], title: str, rate: float) -> None:
    from playfield.evaluation.terminal import Screen

    with Screen(sys.stdout) as screen:
        due = time.monotonic()
        for scene in shown:
            caption = (
                f"game {scene.game}  score {scene.score:g}  {scene.action}  value {scene.value:.2f}"
            )
            screen.draw(scene.picture, [title, caption])
            # A slow terminal lengthens the game; it does not make it jump afterwards.
            due = max(due + 1 / rate, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
