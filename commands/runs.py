"""`playfield runs`: a table of what has been trained and how well it does."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from playfield.commands import arguments
from playfield.errors import UserError
from playfield.training.places import runs_root

if TYPE_CHECKING:
    from playfield.training.run import Run

HEADER = ("name", "algorithm", "on", "steps", "done", "return", "best eval", "age", "state")
RIGHT = frozenset({"steps", "done", "return", "best eval", "age"})
#: What a narrow terminal does without, the first one first. A name is never cut: it is to be typed.
SPARED = ("age", "on", "done", "algorithm", "steps", "best eval")

State = Literal["running", "finished", "stopped", "failed", "interrupted"]
Column = Literal["name", "algorithm", "on", "steps", "done", "return", "best", "age", "state"]


@dataclass(frozen=True)
class Options:
    """List the runs, newest first, or those that all the filters let through.

    "return" is the mean raw score of the last games of training, "best eval" the best mean score of
    an evaluation; of a classifier it is the best accuracy on held-out images, and of a model that
    paints the Fréchet distance (FD) of the best checkpoint. A terminal that is too narrow gets
    fewer columns; a pipe gets all.
    """

    name: str | None = None
    """Part of the run's name, or a pattern for all of it, such as 'ppo-*-seed?'."""
    algorithm: str | None = None
    """The same of the algorithm."""
    on: str | None = None
    """The same of the environment or data."""
    state: State | None = None
    """Only runs in this state."""
    sort: Column = "age"
    """Column to sort by: words from A, numbers from the greatest, age from the newest."""
    reverse: bool = False
    """Sort the other way round; what is not known stays last."""
    limit: int | None = None
    """Show so many runs at most."""
    root: Path = field(default_factory=runs_root)
    """Folder that runs are kept in."""


@dataclass(frozen=True)
class Score:
    """How good a run is: the number to sort by, the greater the better, and what is shown."""

    value: float | None = None
    shown: str = "-"


@dataclass(frozen=True)
class Listed:
    """What the table says of one run."""

    run: Run
    state: str
    last_return: Score
    best: Score
    created: datetime | None
    damage: Sequence[str] = ()  # of its files, as far as they were read: one sentence for each

    @property
    def done(self) -> float | None:
        """The part of its steps that it has taken."""
        steps = self.run.manifest["training"].get("steps")
        known = isinstance(steps, int) and steps > 0
        return self.run.manifest.get("progress", 0) / steps if known else None

    def cells(self, now: datetime) -> tuple[str, ...]:
        """One for each name in `HEADER`; what is not known is "-"."""
        manifest = self.run.manifest
        return (
            self.run.name,
            manifest["algorithm"],
            self.run.world,
            f"{manifest.get('progress', 0):,}",
            "-" if self.done is None else f"{100 * self.done:.0f} %",
            self.last_return.shown,
            self.best.shown,
            "-" if self.created is None else _duration(now, self.created),
            self.state,
        )

    def key(self, column: Column) -> str | float | None:
        """What `column` is sorted by, ascending; None where it is not known."""
        manifest = self.run.manifest
        if column in ("name", "algorithm", "on", "state"):
            words = {"name": self.run.name, "algorithm": manifest["algorithm"]}
            return {**words, "on": self.run.world, "state": self.state}[column].lower()
        numbers = {
            "steps": float(manifest.get("progress", 0)),
            "done": self.done,
            "return": self.last_return.value,
            "best": self.best.value,
            "age": None if self.created is None else self.created.timestamp(),
        }
        number = numbers[column]
        return None if number is None else -number


def run(args: Sequence[str]) -> int:
    options = arguments.parse(Options, args, command="runs")
    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit has to be 1 or more, not {options.limit}.")

    from playfield.commands.notes import report
    from playfield.training.run import list_runs

    found = list_runs(options.root, report)
    if not found:
        print(f"No runs in {options.root}: `playfield train dqn --env ALE/Pong-v5` makes one.")
        return 0
    chosen = sort_by(options.sort, listed(found, options), reverse=options.reverse)
    if not chosen:
        print(f"None of the {len(found)} runs in {options.root} is such a one.")
        return 0
    now = datetime.now(UTC)
    for each in chosen[: options.limit]:
        for sentence in each.damage:
            report(sentence)
    rows = [each.cells(now) for each in chosen[: options.limit]]
    print("\n".join(table(rows, _width())))
    return 0


def listed(runs: Sequence[Run], options: Options) -> list[Listed]:
    """Those of `runs` that the filters let through; only their files are read."""
    patterns = ((options.name, "name"), (options.algorithm, "algorithm"), (options.on, "on"))
    chosen = []
    for each in runs:
        texts = {"name": each.name, "algorithm": each.manifest["algorithm"], "on": each.world}
        if not all(matches(texts[column], pattern) for pattern, column in patterns):
            continue
        if options.state is None or each.status == options.state:
            chosen.append(described(each))
    return chosen


def described(run: Run) -> Listed:
    """What its files say of `run`."""
    state, damage = run.status, list[str]()
    last, best = _scores(run, damage, growing=state == "running")
    return Listed(run, state, last, best, _created(run), damage)


def matches(text: str, pattern: str | None) -> bool:
    """Whether `pattern` is in `text`, or with wildcards all of it; case does not count."""
    if pattern is None:
        return True
    text, pattern = text.lower(), pattern.lower()
    return fnmatchcase(text, pattern) if set(pattern) & set("*?[") else pattern in text


def sort_by(column: Column, runs: Sequence[Listed], *, reverse: bool) -> list[Listed]:
    """`runs` in the order of `column`; those of which it is not known at the end, as they were."""
    known = [(key, each) for each in runs if (key := each.key(column)) is not None]
    ordered = [each for _, each in sorted(known, key=lambda pair: pair[0], reverse=reverse)]
    return ordered + [each for each in runs if each.key(column) is None]


def table(rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """`rows` under `HEADER`, without as many columns as have to go for lines of `width`."""
    from playfield.commands.table import aligned

    spared: list[str] = []
    while True:
        kept = [column for column, name in enumerate(HEADER) if name not in spared]
        shown = [[row[column] for column in kept] for row in [HEADER, *rows]]
        right = [place for place, column in enumerate(kept) if HEADER[column] in RIGHT]
        lines = aligned(shown, right)
        if width is None or max(map(len, lines)) <= width or len(spared) == len(SPARED):
            return lines
        spared.append(SPARED[len(spared)])


def _width() -> int | None:
    """Columns of the terminal; None where stdout is none."""
    if not sys.stdout.isatty():
        return None
    from shutil import get_terminal_size

    return get_terminal_size().columns


def _scores(run: Run, damage: list[str], *, growing: bool) -> tuple[Score, Score]:
    """The newest mean return and the best evaluation.

    What is damaged is left out, and what of that is noticed goes into `damage`.
    """
    from playfield.training.curves import every_value, newest_value

    if "data" in run.manifest and "held_out" not in run.manifest:
        return Score(), _least_distance(run)
    judged = "held_out" in run.manifest
    logged: list[float] = []
    newest = None
    metric = "classify/accuracy" if judged else "eval/return"
    try:
        found = every_value(run.metrics_path, metric, growing=growing)
        logged = found.values
        damage += [] if found.damage is None else [found.damage]
        newest = None if judged else newest_value(run.metrics_path, "episode/return_mean")
    except FileNotFoundError:
        pass  # nothing is logged yet
    except OSError as error:
        damage.append(f"{run.metrics_path} can't be read ({error.strerror}).")
    if judged:
        best = max(logged, default=None)
        return Score(), Score() if best is None else Score(best, f"{100 * best:.1f} %")
    return _points([] if newest is None else [newest]), _points([*logged, *_evaluated(run, damage)])


def _points(scores: Sequence[float]) -> Score:
    best = max(scores, default=None)
    return Score() if best is None else Score(best, f"{best:.1f}")


def _evaluated(run: Run, damage: list[str]) -> list[float]:
    """What `playfield eval` found; a damaged file tells nothing, and that goes into `damage`."""
    from playfield.errors import DamagedFileError
    from playfield.evaluation.results import read_evaluations

    try:
        return [each.mean for each in read_evaluations(run.folder / "evaluation.json")]
    except (DamagedFileError, OSError) as error:
        damage.append(str(error))
        return []


def _least_distance(run: Run) -> Score:
    """The Fréchet distance of the best checkpoint; none where there is none by that."""
    best = run.manifest.get("checkpoints", {}).get("best")
    if not isinstance(best, dict) or best.get("metric") != "paint/frechet_distance":
        return Score()
    value = best.get("value")
    return Score(-value, f"FD {value:.3g}") if isinstance(value, int | float) else Score()


def _created(run: Run) -> datetime | None:
    try:
        then = datetime.fromisoformat(run.manifest["created"])
    except ValueError:
        return None
    return then if then.tzinfo is not None else then.replace(tzinfo=UTC)


def _duration(now: datetime, then: datetime) -> str:
    from playfield.training.console import duration

    return duration((now - then).total_seconds())
