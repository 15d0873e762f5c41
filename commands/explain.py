"""`playfield explain RUN`: pictures of where the agent looks at notable moments of a game."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from playfield.commands import arguments
from playfield.errors import UserError
from playfield.training.places import runs_root

if TYPE_CHECKING:
    from playfield.evaluation.notable_moments import NotableMoment
    from playfield.evaluation.overlay import Picture
    from playfield.evaluation.scenes import Scene
    from playfield.training.trainer import ExplainablePolicy, Policy

INDEX, SHEET = "moments.json", "moments.png"
GAP = ((0, 0), (0, 8), (0, 0))  # pixels, to the right of a picture


@dataclass(frozen=True)
class Options:
    """Write pictures of where a run's agent looks at notable moments of a game it plays.

    Chosen in turn are: the highest value, where it fell most and rose most, the last step before a
    gain and before a loss, and the lowest value. moments.png shows all of them, moments.json says
    what they are.
    """

    run: tyro.conf.Positional[str]
    """Name or folder of the run."""
    moments: int = 8
    """Moments to show."""
    method: Literal["gradient", "perturbation"] = "perturbation"
    """perturbation blurs each place and tells how much the answer changes (Greydanus et al. 2018);
    gradient is quicker and harder to read."""
    of: Literal["actions", "value"] = "actions"
    """What saliency is of: the choice of the action, or the value."""
    out: Path | None = None
    """Folder for the pictures; None: explained in the run's own."""
    steps: int = 1_000
    """Steps of the game to choose from."""
    checkpoint: str | None = None
    """Which checkpoint, by its step or path, best or last; None: the newest intact one."""
    epsilon: float = 0.001
    """Share of random actions."""
    seed: int | None = None
    """Seed of the game; None: one made from the run's own."""
    device: str = "cpu"
    """auto, cpu, cuda, cuda:1 or mps."""
    root: Path = field(default_factory=runs_root)
    """Folder that runs are kept in."""


@dataclass(frozen=True)
class Explained:
    """A moment of a game and where the agent looks at it."""

    moment: NotableMoment
    scene: Scene
    picture: Picture  # [H', W', 3]: the scene, the scene under its saliency, and the panel
    heated: Picture  # [H, W, 3]: the scene under its saliency
    strongest: float  # the greatest saliency, in squared logits or action values or their slope


def run(args: Sequence[str]) -> int:
    options = arguments.parse(Options, args, command="explain")
    _check(options)

    from playfield.commands import stored
    from playfield.commands.agent_evaluation import report_seed
    from playfield.evaluation.scenes import bounded, scenes
    from playfield.training.devices import resolve_device, set_threads
    from playfield.training.run import Run

    device = resolve_device(options.device)
    set_threads(None)
    old = Run.open(options.run, options.root)
    checkpoint = stored.stored_checkpoint(old, options.checkpoint, stores=False)
    seed = report_seed(old.manifest["seed"]) if options.seed is None else options.seed
    env = stored.stored_env(old, 1, render=True)

    def fresh_policy() -> ExplainablePolicy:
        policy = stored.stored_policy(old, checkpoint, env.spec, device, precise=True)
        return explainable(policy, env.spec.frame_shape, options.run)

    def game(policy: ExplainablePolicy) -> Iterator[Scene]:
        playing = scenes(env, policy, seed=seed, epsilon=options.epsilon)
        return bounded(playing, pictures=options.steps + 1, games=1)

    try:
        # Played twice, for the same seeds give the same game: an agent with a memory is asked while
        # it remembers what it then remembered, and no game has to fit into memory.
        chosen = choose(game(fresh_policy()), options.moments)
        if not chosen:
            raise UserError(
                f"No moment of this game of {options.run} is notable, for no value of the agent is "
                "finite and nothing was gained or lost: choose an earlier --checkpoint."
            )
        folder = _prepared(options.out or old.folder / "explained")
        print(f"{old.name} at step {checkpoint.progress:,}: {env.spec.id}, seed {seed}")
        policy, found = fresh_policy(), []
        for each in explain(game(policy), policy, chosen, env.spec.action_meanings, options):
            found.append(each)
            name = _name(len(found))
            _write(folder / name, each.picture)
            at = f"step {each.moment.step:>6,}  value {each.scene.value:>8.2f}"
            print(f"  {name}  {at}  {each.moment.why}", flush=True)
        described: dict[str, Any] = {
            "run": old.name,
            "checkpoint": checkpoint.path.name,
            "env": env.spec.id,
            "actions": list(env.spec.action_meanings),
            "seed": seed,
            "epsilon": options.epsilon,
            "method": options.method,
            "of": options.of,
            "moments": [_entry(each, _name(i + 1)) for i, each in enumerate(found)],
        }
    finally:
        env.close()
    _write(folder / SHEET, sheet(found))
    _write_text(folder / INDEX, json.dumps(described, indent=2, allow_nan=False) + "\n")
    print(f"written to {folder}: all of them in {SHEET}, what they are in {INDEX}")
    return 0


def choose(game: Iterable[Scene], count: int) -> list[NotableMoment]:
    """At most `count` notable moments of `game`, at each of which an action follows."""
    import numpy as np

    from playfield.evaluation.notable_moments import notable_moments

    value, gain = [], []
    for scene in game:
        if scene.step:
            gain.append(scene.gain)  # what the action before brought
        if not scene.ended:
            value.append(scene.value)
    gain += [0.0] * (len(value) - len(gain))  # of an action that is not played any more
    return notable_moments(np.asarray(value, float), np.asarray(gain, float), count)


def explain(
    game: Iterable[Scene],
    policy: ExplainablePolicy,
    chosen: Sequence[NotableMoment],
    actions: Sequence[str],
    options: Options,
) -> Iterator[Explained]:
    """Each of the `chosen` moments as `policy` comes to it in the `game` that it plays."""
    import numpy as np

    from playfield.evaluation.overlay import PAPER, Panel, captioned, enlarged, with_heat
    from playfield.evaluation.saliency import saliency, smoothed

    method, target = options.method, options.of
    wanted = {moment.step: moment for moment in chosen}
    panel = Panel(actions)
    for scene in game:
        moment = wanted.pop(scene.step, None)
        if moment is None:
            panel.note(scene)
            continue
        heat = saliency(policy, scene.obs, scene.chosen, method=method, target=target)
        strongest = float(heat.max())
        heated = with_heat(scene.picture, smoothed(heat) if method == "gradient" else heat)
        pair = [enlarged(one, 240) for one in (scene.picture, heated)]
        both = np.concatenate([np.pad(pair[0], GAP, constant_values=PAPER[0]), pair[1]], axis=1)
        about = (
            f"step {moment.step:,}: {moment.why}",
            f"saliency of the {target} by {method}, at most {strongest:.2g}",
        )
        yield Explained(moment, scene, captioned(panel.draw(scene, both), about), heated, strongest)
        if not wanted:
            return


def sheet(found: Sequence[Explained]) -> Picture:
    """All of them in one picture, with what they are below each."""
    import numpy as np

    from playfield.evaluation.grids import grid

    images = np.stack([each.heated for each in found]).transpose(0, 3, 1, 2)  # [N, 3, H, W]
    captions = [f"{each.moment.step}: {each.moment.why}" for each in found]
    return grid(images, scale=max(1, -(-160 // images.shape[3])), gap=8, captions=captions)


def explainable(policy: Policy, frame_shape: tuple[int, ...], run: str) -> ExplainablePolicy:
    """`policy`, once it is known that it can be asked where it looks; `UserError` otherwise."""
    from playfield.training.trainer import ExplainablePolicy

    if len(frame_shape) != 3:
        raise UserError(
            f"The agent of {run} sees vectors of {frame_shape[0]} numbers, and saliency is of "
            f"pictures: watch its values with `playfield watch {run} --overlay values`."
        )
    if not isinstance(policy, ExplainablePolicy):
        raise UserError(f"The agent of {run} can't be asked where it looks.")
    return policy


def _name(number: int) -> str:
    return f"moment-{number:02}.png"


def _entry(each: Explained, name: str) -> dict[str, Any]:
    """What moments.json says of one; what is not finite is null."""
    scene = each.scene
    numbers = [scene.value, each.strongest, *scene.preference.tolist()]
    value, strongest, *preference = (v if math.isfinite(v) else None for v in numbers)
    return {
        "file": name,
        "step": each.moment.step,
        "why": each.moment.why,
        "score": scene.score,
        "action": scene.action,
        "chosen": scene.chosen,
        "value": value,
        scene.kind.replace(" ", "_"): preference,
        "strongest": strongest,
    }


def _prepared(folder: Path) -> Path:
    """`folder`, there and without the moments of an earlier call."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if re.fullmatch(r"moment-\d+\.png", path.name):
                path.unlink()
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder


def _write(path: Path, picture: Picture) -> None:
    from playfield.evaluation.grids import write_png

    write_png(path, picture)


def _write_text(path: Path, text: str) -> None:
    from playfield.atomic import write_atomically

    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path} cannot be written ({error.strerror or error}); name with --out a folder that this "
        "user may write to and that has room."
    )


def _check(options: Options) -> None:
    for name in ("moments", "steps"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} has to be 1 or more, not {getattr(options, name)}.")
    if not 0 <= options.epsilon <= 1:
        raise UserError(f"--epsilon has to lie between 0 and 1, not {options.epsilon}.")
    if options.seed is not None and options.seed < 0:
        raise UserError(f"--seed has to be 0 or more, not {options.seed}.")
