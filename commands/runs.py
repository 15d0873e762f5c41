"""`playfield runs`: a table of what has been trained and how well it plays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playfield.commands import arguments
from playfield.training.places import runs_root

if TYPE_CHECKING:
    from playfield.training.run import Run

HEADER = ("name", "algorithm", "on", "steps", "done", "return", "best eval", "age", "state")
RIGHT = (3, 4, 5, 6, 7)


@dataclass(frozen=True)
class Options:
    """List the runs, newest first.

    "return" is the mean raw score of the last games of training, "best eval" the best mean score of
    an evaluation; of a classifier it is the best accuracy on held-out images, and of a model that
    paints the Fréchet distance (FD) of the best checkpoint.
    """

    root: Path = field(default_factory=runs_root)
    """Folder that runs are kept in."""


def run(args: Sequence[str]) -> int:
    options = arguments.parse(Options, args, command="runs")

    from playfield.commands.stored import report
    from playfield.commands.table import aligned
    from playfield.training.run import list_runs

    found = list_runs(options.root, report)
    if not found:
        print(f"No runs in {options.root}: `playfield train dqn --env ALE/Pong-v5` makes one.")
        return 0
    now = datetime.now(UTC)
    print("\n".join(aligned([HEADER, *(row(each, now) for each in found)], RIGHT)))
    return 0


def row(run: Run, now: datetime) -> tuple[str, ...]:
    """The cells of one run; what a damaged or missing file would tell is shown as "-"."""
    manifest = run.manifest
    last_return, best = _scores(run)
    progress, steps = manifest.get("progress", 0), manifest["training"].get("steps")
    known = isinstance(steps, int) and steps > 0
    return (
        run.name,
        manifest["algorithm"],
        run.world,
        f"{progress:,}",
        f"{100 * progress / steps:.0f} %" if known else "-",
        last_return,
        best,
        _age(manifest["created"], now),
        state(run),
    )


def state(run: Run) -> str:
    """`running`, `finished`, `stopped` or `failed`; a run that nobody trains any more, though it
    never said goodbye (killed, power cut), is `interrupted`."""
    from playfield.errors import UserError

    status = str(run.manifest.get("status", "interrupted"))
    try:
        with run.hold():
            return "interrupted" if status == "running" else status
    except UserError:
        return "running"
    except OSError:
        return status


def _scores(run: Run) -> tuple[str, str]:
    """The newest mean return and the best evaluation."""
    from playfield.errors import DamagedFileError
    from playfield.evaluation.results import read_evaluations
    from playfield.training.logs import read_metrics

    try:
        points = read_metrics(run.metrics_path)
    except OSError:
        points = []
    returns = _finite(points, "episode/return_mean")
    evaluations = _finite(points, "eval/return")
    try:
        evaluations += [each.mean for each in read_evaluations(run.folder / "evaluation.json")]
    except (DamagedFileError, OSError):
        pass
    if accuracies := _finite(points, "classify/accuracy"):
        return "-", f"{100 * max(accuracies):.1f} %"
    if (distance := _least_distance(run)) is not None:
        return "-", f"FD {distance:.3g}"
    last_return = returns[-1] if returns else None
    return _number(last_return), _number(max(evaluations, default=None))


def _least_distance(run: Run) -> float | None:
    """The Fréchet distance of the best checkpoint; None where there is none by that."""
    best = run.manifest.get("checkpoints", {}).get("best")
    if not isinstance(best, dict) or best.get("metric") != "paint/frechet_distance":
        return None
    value = best.get("value")
    return value if isinstance(value, int | float) else None


def _finite(points: list[dict[str, Any]], name: str) -> list[float]:
    """The values of `name`; one that was not finite is null in the file."""
    return [point[name] for point in points if isinstance(point.get(name), int | float)]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _age(created: str, now: datetime) -> str:
    from playfield.training.console import duration

    try:
        then = datetime.fromisoformat(created)
    except ValueError:
        return "-"
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return duration((now - then).total_seconds())
