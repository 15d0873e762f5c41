"""`playfield watch RUN`: the agent at play, in the terminal or in a video file."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from playfield.commands import arguments
from playfield.errors import UserError
from playfield.training.places import runs_root

if TYPE_CHECKING:
    from playfield.evaluation.overlay import Picture
    from playfield.evaluation.scenes import Scene
    from playfield.evaluation.terminal import Style
    from playfield.training.trainer import Policy

Draw = Callable[["Scene"], "Picture"]
#: Said below a game in letters, whose brightness is all that they show.
COLOURLESS = "without colour heat only looks bright: see --video FILE"


@dataclass(frozen=True)
class Options:
    """Watch a run's agent play, in colour, in the terminal or as a video file.

    With --overlay values the actions and what the agent thinks of each stand beside the picture,
    and how its expectations went; --overlay saliency shows, besides, where it looks.

    One game, unless --seconds, --steps or --episodes say otherwise; the first of them that is
    reached ends it. Ctrl-C ends it too.
    """

    run: tyro.conf.Positional[str]
    """Name or folder of the run."""
    video: Path | None = None
    """Write FILE.mp4, FILE.gif or FILE.png (animated) instead of drawing in the terminal."""
    overlay: Literal["none", "values", "saliency"] = "none"
    """What to show of the agent's thoughts: action values or probabilities, or also saliency."""
    method: Literal["gradient", "perturbation"] = "gradient"
    """How saliency is found: gradient is quick, perturbation is clear and takes about a second for
    each picture of an Atari game."""
    of: Literal["actions", "value"] = "actions"
    """What saliency is of: the choice of the action, or the value."""
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


def run(args: Sequence[str]) -> int:
    options = arguments.parse(Options, args, command="watch")
    _check(options)
    style = _style(options)

    from playfield.commands import stored
    from playfield.commands.agent_evaluation import report_seed
    from playfield.evaluation.scenes import bounded, pictures_per_second, scenes
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
        looks = options.overlay == "saliency"
        policy = stored.stored_policy(old, checkpoint, env.spec, device, precise=looks)
        draw = _saliency(options, policy, env.spec.frame_shape) if looks else _plain
        rate = options.fps if options.fps is not None else pictures_per_second(env.spec)
        shown = bounded(
            scenes(env, policy, seed=seed, epsilon=options.epsilon),
            pictures=_pictures(options, rate),
            games=_games(options),
        )
        raise_at_interrupt()
        title = f"{old.name} at step {checkpoint.progress:,}: {env.spec.id}"
        if options.video is None:
            _draw(shown, draw, title, rate, style, env.spec.action_meanings, options.overlay)
            return 0
        count = 0
        if options.overlay != "none":
            draw = _with_panel(draw, env.spec.action_meanings)
        with VideoWriter(options.video, rate) as writer:
            try:
                for scene in shown:
                    writer.add(draw(scene))
                    count += 1
            except KeyboardInterrupt:
                pass  # the film ends here, and is kept
    finally:
        env.close()
    print(f"{options.video}: {count} pictures, {count / rate:.1f} s of {title}")
    return 0


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


def _style(options: Options) -> Style:
    """How to draw in the terminal; `UserError` where a film is wanted there and can't be shown."""
    from playfield.evaluation.terminal import style_of

    if options.video is not None:
        return "plain"
    if not sys.stdout.isatty():
        raise UserError(
            "watch draws in a terminal, and its output goes elsewhere; "
            "write a file instead with --video FILE.mp4, .gif or .png."
        )
    style = style_of(sys.stdout, os.environ)
    if style is None:
        raise UserError(
            f"watch can't draw in this terminal (TERM={os.environ.get('TERM', '')}), which only "
            "prints lines; write a file instead with --video FILE.mp4, .gif or .png."
        )
    return style


def _plain(scene: Scene) -> Picture:
    return scene.picture


def _saliency(options: Options, policy: Policy, frame_shape: tuple[int, ...]) -> Draw:
    """The picture of a scene in grey with where the agent looks in red and yellow over it."""
    from playfield.commands.explain import explainable
    from playfield.evaluation.overlay import HeatScale, with_heat
    from playfield.evaluation.saliency import saliency, smoothed

    asked, scale = explainable(policy, frame_shape, options.run), HeatScale()

    def draw(scene: Scene) -> Picture:
        heat = saliency(asked, scene.obs, scene.chosen, method=options.method, target=options.of)
        heat = smoothed(heat) if options.method == "gradient" else heat
        return with_heat(scene.picture, heat, scale.of(heat))

    return draw


def _with_panel(draw: Draw, actions: Sequence[str]) -> Draw:
    """`draw`, and the agent's thoughts beside it."""
    from playfield.evaluation.overlay import Panel

    panel = Panel(actions)
    return lambda scene: panel.draw(scene, draw(scene))


def _draw(
    shown: Iterator[Scene],
    draw: Draw,
    title: str,
    rate: float,
    style: Style,
    actions: Sequence[str],
    overlay: str,
) -> None:
    from playfield.evaluation.terminal import Screen
    from playfield.evaluation.terminal_panel import NARROWEST, TextPanel

    panel = None if overlay == "none" else TextPanel(actions, style)
    with Screen(sys.stdout, style) as screen:
        due = time.monotonic()
        for scene in shown:
            caption = (
                f"game {scene.game}  score {scene.score:g}  {actions[scene.action]}  "
                f"value {scene.value:.2f}"
            )
            captions, beside = [title, caption], list[str]()
            if overlay == "saliency" and style == "plain":
                captions.append(COLOURLESS)
            columns, rows = shutil.get_terminal_size()
            if panel is not None and columns >= 2 * NARROWEST:
                beside = panel.lines(scene, columns // 2, max(1, rows - len(captions)))
            screen.draw(draw(scene), captions, beside)
            # A slow terminal lengthens the game; it does not make it jump afterwards.
            due = max(due + 1 / rate, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
