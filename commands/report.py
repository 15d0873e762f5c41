"""`playfield report RUN ...`: one page about runs, in one file that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from playfield.commands import arguments
from playfield.errors import DamagedFileError, UserError
from playfield.training.places import runs_root

if TYPE_CHECKING:
    from playfield.training.run import Run

#: Seconds. A GIF of an Atari game takes about 40 kB for each, and a page is read whole.
LONGEST_FILM = 120


@dataclass(frozen=True)
class Options:
    """Write one page about runs: curves, evaluations, pictures, what differs, how to go on.

    The page is one HTML file that loads nothing from anywhere, for a browser, also a phone's. What
    a run holds no longer whole is named there and left out.
    """

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Names or folders of runs."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("report.html")
    """File to write; one that is there is replaced."""
    film: float | None = None
    """Film so many seconds of each agent at play, kept in its folder videos; None: the newest film
    that lies there."""
    root: Path = field(default_factory=runs_root)
    """Folder that runs are kept in."""


def run(args: Sequence[str]) -> int:
    options = arguments.parse(Options, args, command="report")
    _check(options)

    from datetime import UTC, datetime

    from playfield.atomic import write_atomically
    from playfield.commands.notes import report as tell
    from playfield.evaluation.report import report
    from playfield.evaluation.report_page import render
    from playfield.training.machine import versions

    damage: list[str] = []
    runs = _opened(options, damage)
    if options.film is not None:
        _film(runs, options.film, damage)
    made = f"Made {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by playfield {versions()['playfield']}."
    page = report(runs, made, damage)
    encoded = render(page).encode()
    try:
        write_atomically(options.out, encoded)
    except OSError as error:
        raise _unwritable(options.out, error) from error
    for sentence in page.damage:
        tell(f"left out: {sentence}")
    kinds = [medium.kind for medium in page.media()]
    held = ", ".join(
        _count(kinds.count(kind), kind) for kind in ("chart", "picture", "film") if kind in kinds
    )
    size = f"{len(encoded) / 1e6:.1f} MB"
    print(f"{options.out}: {_count(len(runs), 'run')}{', ' if held else ''}{held}; {size}")
    return 0


def _check(options: Options) -> None:
    """Told before the work, not after it."""
    if not options.runs:
        raise UserError("report wants runs: name one or more; `playfield runs` lists them.")
    if options.film is not None and not 0 < options.film <= LONGEST_FILM:
        raise UserError(
            f"--film has to be more than 0 and at most {LONGEST_FILM} seconds, not {options.film}."
        )
    if options.out.is_dir():
        raise UserError(f"{options.out} is a folder: name a file in it, such as report.html.")
    if not options.out.parent.is_dir():
        raise UserError(
            f"{options.out} cannot be written: there is no folder {options.out.parent}."
        )


def _opened(options: Options, damage: list[str]) -> list[Run]:
    """The runs, each once; those whose `run.json` is damaged are left out, unless all are."""
    from playfield.training.run import Run

    runs: dict[Path, Run] = {}
    first_error: DamagedFileError | None = None
    for name in options.runs:
        try:
            found = Run.open(name, options.root)
        except DamagedFileError as error:
            damage.append(str(error))
            first_error = first_error or error
        else:
            runs.setdefault(found.folder.resolve(), found)
    if not runs and first_error is not None:
        raise first_error
    return list(runs.values())


def _film(runs: Sequence[Run], seconds: float, damage: list[str]) -> None:
    """A new film of every agent among `runs`, in its folder; one that can't be made is told."""
    agents = [each for each in runs if "data" not in each.manifest]
    if not agents:
        raise UserError("--film is of agents, and none of these runs is one: leave it out.")
    for each in agents:
        try:
            _record(each, seconds)
        except UserError as error:
            damage.append(f"no new film of {each.name}: {error}")


def _record(run: Run, seconds: float) -> None:
    """A GIF of the newest checkpoint at play: unlike an MP4, all browsers show it by itself."""
    import torch

    from playfield.commands import stored
    from playfield.commands.agent_evaluation import EPSILON, report_seed
    from playfield.evaluation.overlay import Panel
    from playfield.evaluation.scenes import bounded, pictures_per_second, scenes
    from playfield.evaluation.video import VideoWriter
    from playfield.training.devices import set_threads

    set_threads(1)  # one observation at a time: more threads would wait longer than they work
    checkpoint = stored.stored_checkpoint(run, None, stores=False)
    folder = run.folder / "videos"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}).") from None
    env = stored.stored_env(run, 1, render=True)
    try:
        policy = stored.stored_policy(run, checkpoint, env.spec, torch.device("cpu"))
        rate = pictures_per_second(env.spec)
        pictures = max(1, round(seconds * rate))
        panel = Panel(env.spec.action_meanings)
        played = scenes(env, policy, seed=report_seed(run.manifest["seed"]), epsilon=EPSILON)
        with VideoWriter(folder / f"{checkpoint.progress:012d}.gif", rate) as writer:
            for scene in bounded(played, pictures=pictures, games=None):
                writer.add(panel.draw(scene))
    finally:
        env.close()


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path} cannot be written ({error.strerror}); name a file in a folder that exists, that "
        "this user may write to and that has room."
    )
