"""What a training run learnt, as three files to keep: numbers, curves and a picture.

    python benchmarks/learning_curve.py runs/pong --title "DQN on Pong, CPU" -o dqn-pong

writes to benchmarks/results/ `dqn-pong.json` (settings, protocol, versions, hardware, evaluations),
`dqn-pong-metrics.jsonl` (the run's curves, below 1 MB) and `dqn-pong.png`. Games are scored on the
raw reward, one dot each; the evaluations are those that training made and the newest of
`playfield eval`, which says how many games and which checkpoint. `--published` draws what others
reached beside it.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measure import (
    FORMAT,
    RESULTS,
    command_without_paths,
    refuse_paths,
    rounded,
    stop,
    write_json,
)
from numpy.typing import NDArray
from pictures import BLUE, GREY, ORANGE, RED, entitle, pyplot, running_mean, save, shorten

from playfield.errors import UserError
from playfield.evaluation.results import Evaluation, read_evaluations
from playfield.training.logs import read_metrics
from playfield.training.run import Run

WINDOW = 20  # games in the running mean
MANY_GAMES = 1_500  # dots of more than these are fainter
MOST_BYTES = 1_000_000  # of the curves that are kept
GAMES_SHARE = 0.75  # of that, at most
KEPT = (
    "created", "algorithm", "preset", "env", "protocol", "config", "training", "seed", "device",
    "versions", "hardware", "git", "status", "progress", "minutes",
)  # fmt: skip
#: Below the returns, the first of each that a run logs: metrics and what they are called there.
THOUGHTS = {"train/q": "Q", "train/value": "value"}
EFFECTS = {"train/entropy": "entropy", "train/loss": "loss"}


@dataclass(frozen=True)
class Published:
    """What somebody else's agent reached, to be drawn beside this one's."""

    steps: float
    return_: float
    label: str


# --- numbers --------------------------------------------------------------------------------------


def describe(
    run: Run, title: str, evaluations: Sequence[Evaluation], published: Sequence[Published]
) -> dict[str, Any]:
    """The run, its evaluations, oldest first, and what others reached, as one record."""
    manifest = run.manifest
    entries = json.loads((run.folder / "evaluation.json").read_text()) if evaluations else {}
    return {
        "format": FORMAT,
        "title": title,
        "command": command_without_paths(manifest["command"]),
        **{name: manifest[name] for name in KEPT if name in manifest},
        "evaluations": entries.get("evaluations", []),
        "published": [asdict(other) for other in published],
    }


def thinned(lines: Sequence[dict[str, Any]], most_bytes: int) -> list[str]:
    """The lines as JSON, floats to six digits, as many as fit.

    Of log intervals every n-th is kept, and of games too where they alone would take more than
    `GAMES_SHARE`. Raises ValueError where evaluations, which are all kept, leave no room for them.
    """
    texts = [json.dumps(rounded(line), allow_nan=False) + "\n" for line in lines]
    sizes = np.array([len(text.encode()) for text in texts], np.int64)
    evaluations = np.array([any(n.startswith("eval/") for n in line) for line in lines], bool)
    games = np.array(["episode/return" in line for line in lines], bool) & ~evaluations
    room = most_bytes - int(sizes[evaluations].sum())
    if room < 0:
        raise ValueError(f"the evaluations alone take more than {most_bytes:,} bytes")
    kept = evaluations.copy()
    kept[evenly(np.flatnonzero(games), sizes, int(GAMES_SHARE * room))] = True
    room = most_bytes - int(sizes[kept].sum())
    kept[evenly(np.flatnonzero(~games & ~evaluations), sizes, room)] = True
    return [text for text, keep in zip(texts, kept, strict=True) if keep]


def evenly(
    candidates: NDArray[np.int64], sizes: NDArray[np.int64], most_bytes: int
) -> NDArray[np.int64]:
    """Every n-th of the candidates, the newest among them, with the least n that fits."""
    for every in range(1, len(candidates) + 1):
        # Counted from the end, so that the newest always stays.
        chosen = candidates[::-1][::every]
        if sizes[chosen].sum() <= most_bytes:
            return chosen
    return candidates[:0]


def curve(
    lines: Sequence[dict[str, Any]], name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Progress and values of one metric; what was not finite is left out."""
    points = [(line["progress"], line[name]) for line in lines if line.get(name) is not None]
    array = np.array(points, np.float64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


# --- picture --------------------------------------------------------------------------------------


def drawn(lines: Sequence[dict[str, Any]], candidates: Mapping[str, str]) -> tuple[str, str] | None:
    """The first of the candidates (metric to label) that the run logged."""
    logged = {name for line in lines for name in line}
    return next(((name, label) for name, label in candidates.items() if name in logged), None)


def draw(
    path: Path,
    title: str,
    subtitles: Sequence[str],
    lines: Sequence[dict[str, Any]],
    final: Evaluation | None,
    *,
    published: Sequence[Published],
    window: int,
    frames_per_step: int,
) -> None:
    """Returns above, what the agent thinks and how it learns below, over environment steps."""
    plt = pyplot()
    figure, (returns, learning) = plt.subplots(
        2, 1, figsize=(8, 5.6), sharex=True, height_ratios=[3, 1.2], layout="constrained"
    )
    x, y = curve(lines, "episode/return")
    faint = 0.3 if len(y) < MANY_GAMES else 0.12
    returns.plot(
        x, y, ".", color=BLUE, alpha=faint, markersize=5, markeredgewidth=0, label="a game"
    )
    if len(y):
        # Games that end at the same step are one point of the line, not a vertical stroke.
        last = np.flatnonzero(np.append(np.diff(x) > 0, True))
        mean = running_mean(y, window)[last]
        returns.plot(x[last], mean, color=BLUE, linewidth=1.8, label=f"mean of {window} games")
    x, y = curve(lines, "eval/return")
    if len(y):
        returns.plot(
            x, y, "D", color=ORANGE, markersize=5, label="evaluation while training", zorder=4
        )
    for other in published:
        label = f"{other.label}: {other.return_:g}"
        returns.plot(
            other.steps, other.return_, "s", color=GREY, markerfacecolor="none", markersize=8,
            label=label, zorder=4, clip_on=False,
        )  # fmt: skip
    if final is not None:
        label = f"evaluation: {final.mean:.1f}, {final.episodes} games"
        returns.plot(
            final.progress, final.mean, "*", color=RED, markersize=13, label=label, zorder=5,
            clip_on=False,
        )  # fmt: skip
    returns.set_ylabel("raw return")
    figure.legend(loc="outside lower left", ncols=4, markerscale=1.2, borderaxespad=0.2)

    if (thought := drawn(lines, THOUGHTS)) is not None:
        learning.plot(*curve(lines, thought[0]), color=BLUE, linewidth=1.2)
        learning.set_ylabel(thought[1], color=BLUE)
    if (effect := drawn(lines, EFFECTS)) is not None:
        beside = learning.twinx()
        beside.plot(*curve(lines, effect[0]), color=ORANGE, linewidth=1.0)
        beside.set_ylabel(effect[1], color=ORANGE)
        beside.ticklabel_format(useOffset=False)
        beside.grid(False)

    learning.set_xlabel("environment steps")
    shorten(learning.xaxis)
    reach = [line["progress"] for line in lines] + [other.steps for other in published]
    returns.set_xlim(0, max(reach, default=1))
    if frames_per_step > 1:
        frames = returns.secondary_xaxis(
            "top", functions=(lambda s: s * frames_per_step, lambda f: f / frames_per_step)
        )
        frames.set_xlabel(f"emulator frames ({frames_per_step} per step)", color=GREY)
        shorten(frames.xaxis)
    entitle(figure, title, subtitles)
    save(figure, path)


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("run", type=Path, metavar="RUN_FOLDER")
    arguments.add_argument("--title", required=True, help="above the picture")
    arguments.add_argument("-o", dest="name", required=True, metavar="NAME", help="of the files")
    arguments.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER")
    arguments.add_argument(
        "--window", type=int, default=WINDOW, help=f"games in the running mean; {WINDOW}"
    )
    arguments.add_argument(
        "--published",
        nargs=3,
        action="append",
        default=[],
        metavar=("STEPS", "RETURN", "LABEL"),
        help="draw beside it what others reached; say in LABEL who, and which curve it is",
    )
    options = arguments.parse_args()
    if options.window < 1:
        stop(f"--window has to be 1 or more, not {options.window}.")
    try:
        published = [Published(float(s), float(r), label) for s, r, label in options.published]
    except ValueError:
        stop("--published wants numbers of steps and points first, as in 2e6 300 'who, what'.")
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
    record = describe(run, options.title, evaluations, published)
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
    subtitles = (
        manifest["env"],
        f"protocol {protocol}" if protocol else "",
        f"seed {manifest['seed']}",
        manifest["device"],
        f"{minutes / 60:.1f} hours" if minutes and minutes >= 90 else "",
        f"{minutes:.1f} minutes" if minutes and minutes < 90 else "",
    )
    draw(
        folder / f"{name}.png",
        options.title,
        subtitles,
        lines,
        final,
        published=published,
        window=options.window,
        frames_per_step=int(manifest["protocol"].get("frame_skip", 1)),
    )
    print(f"Wrote {name}.json, {name}-metrics.jsonl ({len(texts):,} lines) and {name}.png.")
    if final is None:
        print(f"No evaluation yet: `playfield eval {run.name} --episodes 20` makes one.")


if __name__ == "__main__":
    main()
