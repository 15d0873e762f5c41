"""What training says when it ends, and the exit code of that."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from playfield.generative.judges import JUDGES

if TYPE_CHECKING:
    from playfield.training.loop import Outcome
    from playfield.training.run import Run


def finish(run: Run, outcome: Outcome) -> int:
    """Say what became of the run and what to do next; the exit code.

    0: the budget is spent; 128 + the signal that ended it; 1: the end could not be saved.
    """
    name = run.argument
    unit = "images" if "data" in run.manifest else "steps"
    print(f"{outcome.progress:,} {unit} in {outcome.minutes:.1f} minutes, kept in {run.folder}")
    if "eval/return" in outcome.evaluation:
        print(f"mean raw score of the last evaluation: {outcome.evaluation['eval/return']:.2f}")
    if "classify/accuracy" in outcome.evaluation:
        accuracy = outcome.evaluation["classify/accuracy"]
        print(f"accuracy on images that it did not learn from: {100 * accuracy:.2f} %")
    for sentence in run.manifest.get("diagnosis", ()):
        print(sentence)
    if (best := outcome.best) is not None:
        print(
            f"best evaluation: {best.metric} {best.value:.4g} at {unit.removesuffix('s')} "
            f"{best.progress:,} (--checkpoint best)"
        )
    if run.manifest["algorithm"] in JUDGES:
        print(f"  measure:   playfield eval {name}")
    elif "data" in run.manifest:
        print(f"  paint:     playfield sample {name}")
    else:
        print(f"  evaluate:  playfield eval {name}")
        print(f"  watch:     playfield watch {name}")
    print(f"  curves:    playfield tensorboard {name}")
    if outcome.checkpoint is None:
        print(
            f"playfield: the end of {run.name} could not be saved (see above): make room and "
            f"resume it with `playfield resume {name}`.",
            file=sys.stderr,
        )
        return 1
    return 0 if outcome.signal is None else 128 + outcome.signal
