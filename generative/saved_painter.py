"""A run that paints, read back from what it saved: its settings, its images, its model."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playfield.errors import DamagedFileError, UserError
from playfield.generative.denoiser_config import DenoiserConfig
from playfield.generative.judges import JUDGES
from playfield.generative.model import PaintingModel
from playfield.generative.objective import ImageSpec
from playfield.generative.painter_config import PainterConfig
from playfield.generative.registry import PAINTERS, Painter
from playfield.generative.teacher import Teacher
from playfield.training.checkpoint import Checkpoint
from playfield.training.devices import resolve_device
from playfield.training.ema import load_weights
from playfield.training.ema_snapshots import list_snapshots, reconstruct
from playfield.training.places import runs_root
from playfield.training.run import MANIFEST, Run
from playfield.training.run_checkpoint import does_not_fit, wanted_checkpoint, weights_at
from playfield.training.saved_settings import from_stored

if TYPE_CHECKING:
    import torch
    from torch import nn

#: The folder in a run's own that holds `ema_snapshots`.
SNAPSHOTS = "snapshots"
#: The weights to paint with where none are asked for: the average that training keeps.
AVERAGED = "averaged"
NEWEST = "newest"


def load_painter(
    run: str | Path,
    *,
    checkpoint: str | None = None,
    weights: str = AVERAGED,
    device: str = "auto",
    root: Path | None = None,
) -> PaintingModel:
    """The trained model of a run, ready for `playfield.paint`.

    Args:
        run: its folder, or its name in `root` (None: where runs are kept).
        checkpoint: by progress or path, or best or last; None: the newest intact one.
        weights: "averaged", "newest", or a number such as "0.1": see `stored_model`.
        device: auto, cpu, cuda, cuda:1 or mps.

    Raises `UserError` where there is no such run, checkpoint or device, and for an agent's run;
    `DamagedFileError` for files that are not what was written.
    """
    found = Run.open(str(run), runs_root() if root is None else root)
    painter_of(found)
    chosen = wanted_checkpoint(found, checkpoint, warnings.warn, stores=False)
    return stored_model(found, chosen, resolve_device(device), weights)


@dataclass(frozen=True)
class DataDescription:
    """What `run.json` keeps of the images that a run learns from, under `data`."""

    name: str  # the spec that opens them again
    fingerprint: str  # SHA-256 of their pixels and labels
    count: int
    shape: tuple[int, int, int]  # channels, height, width
    classes: tuple[str, ...]
    std: float  # of the images in [-1, 1]
    placement: str = "cpu"  # where they lie while it learns

    @property
    def spec(self) -> ImageSpec:
        return ImageSpec(*self.shape, self.classes)


@dataclass(frozen=True)
class Origin:
    """The model that a taught run began with, as `run.json` keeps it under `init`."""

    run: str
    progress: int  # of that run's checkpoint
    algorithm: str
    config: dict[str, Any]
    std: float  # of the images that it had learned from


def painter_of(run: Run) -> Painter:
    """The family of `run`; `UserError` if it is no painter's, or unknown to this playfield."""
    name = run.manifest["algorithm"]
    if name in PAINTERS and "data" in run.manifest:
        return PAINTERS[name]
    if name in JUDGES:
        raise UserError(
            f"Run {run.name!r} is of a {name} (on {run.world}), which says what images show and "
            f"paints none: `playfield eval {run.argument}` measures it, and `playfield "
            f"evaluate-images RUN --features classifier:{run.argument}` measures painters with it."
        )
    if "env" in run.manifest:
        raise UserError(
            f"Run {run.name!r} is of an agent ({name} on {run.world}), which plays and does not "
            f"paint: `playfield watch {run.argument}` shows it."
        )
    raise UserError(
        f"Run {run.name!r} was made by the algorithm {name!r}, which this playfield does not "
        f"have (it has {', '.join(PAINTERS)}); install the version that made it."
    )


def stored_config(run: Run) -> PainterConfig:
    """The family's settings in `run.json`."""
    kind = painter_of(run).load_config_type()
    return from_stored(kind, run.manifest["config"], f"{run.folder / MANIFEST}: config")


def stored_description(run: Run) -> DataDescription:
    """What `run.json` says of the images."""
    where = f"{run.folder / MANIFEST}: data"
    # Runs from before placements were kept have none.
    values = {"placement": "cpu", **run.manifest["data"]}
    return from_stored(DataDescription, values, where, complete=True)


def stored_origin(run: Run) -> Origin | None:
    """The model that the run began with and learns from; None: none."""
    if not painter_of(run).taught or run.manifest.get("init") is None:
        return None
    return from_stored(Origin, run.manifest["init"], f"{run.folder / MANIFEST}: init", True)


def stored_teacher(run: Run) -> Teacher | None:
    """The family of the model that `run` learns from, without its weights; None: from none."""
    origin = stored_origin(run)
    if origin is None:
        return None
    if origin.algorithm not in PAINTERS:
        raise DamagedFileError(
            f"{run.folder / MANIFEST}: init.algorithm should be one of {', '.join(PAINTERS)}, not "
            f"{origin.algorithm!r}."
        )
    kind = PAINTERS[origin.algorithm].load_config_type()
    config = from_stored(kind, origin.config, f"{run.folder / MANIFEST}: init.config")
    assert isinstance(config, DenoiserConfig)
    return Teacher(config.build_objective(origin.std, None), None, stored_spec(run))


def stored_spec(run: Run) -> ImageSpec:
    """The images that `run` paints; without classes if it learned without."""
    spec = stored_description(run).spec
    return spec if stored_config(run).conditional else spec.without_classes()


def stored_network(
    run: Run, checkpoint: Checkpoint, device: torch.device, weights: str = AVERAGED
) -> nn.Module:
    """The network of `run` in `eval()`, with the `weights` that `stored_model` tells of."""
    network = stored_config(run).build_network(stored_spec(run), seed=0, device=device)
    if weights not in (AVERAGED, NEWEST):
        folder = run.folder / SNAPSHOTS
        made = reconstruct(list_snapshots(folder), _width(weights), checkpoint.progress)
        try:
            load_weights(network, made, "snapshots")
        except ValueError as error:
            raise DamagedFileError(f"{folder} does not fit {MANIFEST}: {error}.") from error
        return network.eval().requires_grad_(False)
    try:
        state = checkpoint.state["trainer"]
        network.load_state_dict(state["network"] if weights == NEWEST else state["ema"]["network"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise does_not_fit(run, checkpoint, error) from error
    return network.eval().requires_grad_(False)


def stored_weights(run: Run, checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """What another run can begin with, by the names in its trainer's `networks`.

    They are the averaged weights of what paints, and the newest of a discriminator.
    """
    painting = weights_at(run, checkpoint, "ema", "network")
    if not painter_of(run).discriminator:
        return painting
    judging = weights_at(run, checkpoint, "discriminator")
    return {
        f"{player}.{name}": weights[name]
        for player, weights in (("generator", painting), ("discriminator", judging))
        for name in weights
    }


def stored_model(
    run: Run, checkpoint: Checkpoint, device: torch.device, weights: str = AVERAGED
) -> PaintingModel:
    """The model in `checkpoint`, ready to paint.

    `weights` are "averaged", those of the average that training keeps; "newest", those of the last
    update; or a number: the power-function average of this width (sigma_rel) at that checkpoint,
    made from the run's snapshots.
    """
    return stored_config(run).painting_model(
        stored_network(run, checkpoint, device, weights),
        stored_spec(run),
        stored_description(run).std,
        stored_teacher(run),
        device,
    )


def _width(weights: str) -> float:
    try:
        return float(weights)
    except ValueError:
        raise UserError(
            f"weights have to be {AVERAGED}, {NEWEST}, or the width (sigma_rel) of an average such "
            f"as 0.1, not {weights!r}."
        ) from None
