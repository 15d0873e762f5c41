"""What the tests of painting share: small runs, trained once by the command line."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from playfield.cli import main

#: Settings that train on a few digits in a second or two.
TINY = (
    *("--data", "digits", "--threads", "1", "--device", "cpu", "--precision", "float32"),
    *("--base-channels", "8", "--channel-mult", "1", "2", "--batch-size", "64"),
    # So fast that classes, checkpoints and averages differ after few images.
    *("--learning-rate", "0.01", "--warmup-steps", "0", "--ema-half-life", "200"),
    *("--ema-ramp-up", "0"),
    # What an evaluation measures takes longer than these runs, and has tests of its own.
    *("--evaluate-images", "0"),
)
#: Of the runs that learn: images seen, and images between two checkpoints.
STEPS, EVERY = 384, 192


@functools.cache
def painted_run(name: str) -> Path:
    """A trained run's folder, for reading only: "diffusion", "flow", or "unlabelled".

    The first has snapshots of averages; the last is a DDPM of 20 steps that knows no labels.
    """
    return _train(name)


def _train(name: str) -> Path:
    budget = ("--steps", str(STEPS), "--checkpoint-every", str(EVERY), "--log-every", str(EVERY))
    averages = ("--ema-profiles", "0.05", "0.1", "--snapshot-period", "128")
    ddpm = ("--parametrisation", "v", "--noise-schedule", "cosine", "--timesteps", "20")
    chosen = {
        "diffusion": ("diffusion", *budget, *averages),
        "flow": ("flow", *budget),
        "unlabelled": ("diffusion", *ddpm, "--no-conditional", "--steps", "64"),
    }[name]
    root = Path(_keep().name)
    assert main(["train", *chosen, *TINY, "--run", name, "--root", str(root)]) == 0
    return root / name


@functools.cache
def _keep() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="playfield-tests-")  # removed when the tests end
