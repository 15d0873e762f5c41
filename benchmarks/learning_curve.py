"""What a training run learnt, as three files to keep: numbers, curves and a picture.

    python benchmarks/learning_curve.py runs/pong --title "DQN on Pong, CPU" -o dqn-pong

writes to benchmarks/results/ `dqn-pong.json` (settings, protocol, versions, hardware, evaluations),
`dqn-pong-metrics.jsonl` (the run's curves, below 1 MB) and `dqn-pong.png`. Games are scored on the
raw reward, one dot each; the evaluations are those that training made and the newest of
`playfield eval`, which says how many games and which checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measure import FORMAT, RESULTS, refuse_paths, rounded, stop, write_json
from numpy.typing import NDArray

from playfield.errors import UserError
from playfield.evaluation.results import Evaluation, read_evaluations
from playfield.training.logs import read_metrics
from playfield.training.run import Run

WINDOW = 20  # games in the running mean
MOST_BYTES = 1_000_000  # of the curves that are kept
#: Options of the command line that name this machine's folders.
PATH_OPTIONS = ("--root",)
KEPT = (
    "created", "algorithm", "preset", "env", "protocol", "config", "training", "seed", "device",
    "versions", "hardware", "git", "status", "progress", "minutes",
)  # fmt: skip

BLUE, ORANGE, GREY, RED = "#2563a8", "#d97706", "#6b7280", "#b42318"


# --- numbers --------------------------------------------------------------------------------------


def command_without_paths(command: Sequence[str]) -> list[str]:
    """The command line as others would type it: without the options that name our folders."""
    kept: list[str] = []
    skip = False
    for argument in command:
        if skip:
            skip = False
        elif argument in PATH_OPTIONS:
            skip = True
        elif not argument.startswith(tuple(f"{option}=" for option in PATH_OPTIONS)):
            kept.append(argument)
    return kept


def describe(run: Run, title: str, evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """The run and its evaluations, oldest first, as one record."""
    manifest = run.manifest
    entries = json.loads((run.folder / "evaluation.json").read_text()) if evaluations else {}
    return {
        "format": FORMAT,
        "title": title,
        "command": command_without_paths(manifest["command"]),
        **{name: manifest[name] for name in KEPT if name in manifest},
        "evaluations": entries.get("evaluations", []),
    }


def is_optional(line: dict[str, Any]) -> bool:
    """Whether the curves survive the loss of this line: games and evaluations are never dropped."""
    return not any(
        name.startswith("eval/") or name in ("episode/return", "episode/length") for name in line
    )


def thinned(lines: Sequence[dict[str, Any]], most_bytes: int) -> list[str]:
    """The lines as JSON, floats to six digits, with as many log intervals as fit evenly spaced.

    Raises ValueError where games and evaluations alone are too much.
    """
    texts = [json.dumps(rounded(line), allow_nan=False) + "\n" for line in lines]
    sizes = np.array([len(text.encode()) for text in texts], np.int64)
    optional = np.array([is_optional(line) for line in lines], bool)
    kept = np.ones(len(lines), bool)
    every = 1
    while sizes[kept].sum() > most_bytes:
        if every > max(1, optional.sum()):
            raise ValueError(f"the games alone take more than {most_bytes:,} bytes")
        every += 1
        kept = ~optional
        # Counted from the end, so that the newest interval always stays.
        kept[np.flatnonzero(optional)[::-1][::every]] = True
    return [text for text, keep in zip(texts, kept, strict=True) if keep]


def curve(
    lines: Sequence[dict[str, Any]], name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Progress and values of one metric; what was not finite is left out."""
    points = [(line["progress"], line[name]) for line in lines if line.get(name) is not None]
    array = np.array(points, np.float64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def running_mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """The mean of each value and up to `window - 1` before it."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    return (sums[ends] - sums[starts]) / (ends - starts)


# --- picture --------------------------------------------------------------------------------------


def draw(
    path: Path,
    title: str,
    subtitle: str,
    lines: Sequence[dict[str, Any]],
    final: Evaluation | None,
    frames_per_step: int,
) -> None:
    """Returns above, value and loss below, over environment steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update(
        {
            "font.size": 9.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": GREY,
            "axes.grid": True,
            "grid.color": "#e5e7eb",
            "xtick.color": GREY,
            "ytick.color": GREY,
            "legend.frameon": False,
        }
    )
    figure, (returns, learning) = plt.subplots(
        2, 1, figsize=(8, 5.6), sharex=True, height_ratios=[3, 1.2], layout="constrained"
    )
    x, y = curve(lines, "episode/return")
    returns.plot(x, y, ".", color=BLUE, alpha=0.3, markersize=5, markeredgewidth=0, label="a game")
    if len(y):
        # Games that end at the same step are one point of the line, not a vertical stroke.
        last = np.flatnonzero(np.append(np.diff(x) > 0, True))
        mean = running_mean(y, WINDOW)[last]
        returns.plot(x[last], mean, color=BLUE, linewidth=1.8, label=f"mean of {WINDOW} games")
    x, y = curve(lines, "eval/return")
    if len(y):
        returns.plot(
            x, y, "D", color=ORANGE, markersize=5, label="evaluation while training", zorder=4
        )
    if final is not None:
        label = f"evaluation: {final.mean:.1f}, {final.episodes} games"
        returns.plot(
            final.progress, final.mean, "*", color=RED, markersize=13, label=label, zorder=5,
            clip_on=False,
        )  # fmt: skip
    returns.set_ylabel("raw return")
    figure.legend(loc="outside lower left", ncols=4, markerscale=1.2, borderaxespad=0.2)

    learning.plot(*curve(lines, "train/q"), color=BLUE, linewidth=1.2)
    learning.set_ylabel("Q", color=BLUE)
    loss = learning.twinx()
    loss.plot(*curve(lines, "train/loss"), color=ORANGE, linewidth=1.0)
    loss.set_ylabel("loss", color=ORANGE)
    loss.grid(False)

    learning.set_xlabel("environment steps")
    learning.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(short_number))
    returns.set_xlim(0, max((line["progress"] for line in lines), default=1))
    if frames_per_step > 1:
        frames = returns.secondary_xaxis(
            "top", functions=(lambda s: s * frames_per_step, lambda f: f / frames_per_step)
        )
        frames.set_xlabel(f"emulator frames ({frames_per_step} per step)", color=GREY)
        frames.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(short_number))
    figure.suptitle(f"{title}\n", x=0.01, ha="left", fontsize=12, fontweight="bold")
    figure.text(0.011, 0.945, subtitle, ha="left", va="top", color=GREY)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(figure)


def short_number(value: float, _position: int | None = None) -> str:
    """1,500,000 as 1.5M: a tick label."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("run", type=Path, metavar="RUN_FOLDER")
    arguments.add_argument("--title", required=True, help="above the picture")
    arguments.add_argument("-o", dest="name", required=True, metavar="NAME", help="of the files")
    arguments.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER")
    options = arguments.parse_args()
    try:
        run = Run.open(str(options.run.resolve()), options.run.resolve().parent)
        evaluations = read_evaluations(run.folder / "evaluation.json")
        lines = read_metrics(run.metrics_path)
    except UserError as error:
        stop(str(error))
    except OSError as error:
        stop(f"{run.metrics_path} can't be read ({error.strerror}): the run logged nothing yet.")

    folder, name = options.output, options.name
    folder.mkdir(parents=True, exist_ok=True)
    record = describe(run, options.title, evaluations)
    write_json(folder / f"{name}.json", record)
    texts = thinned(lines, MOST_BYTES)
    refuse_paths(texts, f"{name}-metrics.jsonl")
    curves = folder / f"{name}-metrics.jsonl"
    beside = curves.with_name(f".{curves.name}.part")
    beside.write_text("".join(texts), encoding="utf-8")
    os.replace(beside, curves)

    # By progress, then by age: of several evaluations of the newest checkpoint, the last one made.
    final = max(evaluations, key=lambda e: (e.progress, e.finished_at), default=None)
    manifest = run.manifest
    minutes = manifest.get("minutes")
    protocol = manifest["protocol"].get("name")
    subtitle = ", ".join(
        part
        for part in (
            manifest["env"],
            f"protocol {protocol}" if protocol else "",
            f"seed {manifest['seed']}",
            manifest["device"],
            f"{minutes / 60:.1f} hours" if minutes and minutes >= 90 else "",
            f"{minutes:.1f} minutes" if minutes and minutes < 90 else "",
        )
        if part
    )
    frames_per_step = int(manifest["protocol"].get("frame_skip", 1))
    draw(folder / f"{name}.png", options.title, subtitle, lines, final, frames_per_step)
    print(f"Wrote {name}.json, {name}-metrics.jsonl ({len(texts):,} lines) and {name}.png.")
    if final is None:
        print(f"No evaluation yet: `playfield eval {run.name} --episodes 20` makes one.")


if __name__ == "__main__":
    main()
