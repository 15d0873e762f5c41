"""A run of a classifier, read back from what it saved."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from playfield.errors import UserError
from playfield.generative.classifier import ClassifierConfig, as_judge, build_classifier
from playfield.generative.held_out import HeldOut
from playfield.generative.judges import CLASSIFIER
from playfield.generative.saved_painter import stored_description
from playfield.training.run import MANIFEST
from playfield.training.run_checkpoint import does_not_fit, weights_at
from playfield.training.saved_settings import from_stored

if TYPE_CHECKING:
    import torch
    from torch import nn

    from playfield.nets.classifier import ConvClassifier
    from playfield.training.checkpoint import Checkpoint
    from playfield.training.run import Run


def is_classifier(run: Run) -> bool:
    return str(run.manifest["algorithm"]) == CLASSIFIER


def stored_classifier(
    run: Run, checkpoint: Checkpoint, device: torch.device
) -> tuple[ConvClassifier, str]:
    """The classifier in `checkpoint`, set to judge, and the `weights_sha256` of it.

    Raises `UserError` for the run of anything else, and `DamagedFileError` where the checkpoint is
    another run's.
    """
    config, known = stored_config(run), stored_description(run)
    network = build_classifier(config, known.shape, len(known.classes), seed=0).to(device)
    try:
        network.load_state_dict(checkpoint.state["trainer"]["network"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise does_not_fit(run, checkpoint, error) from error
    network = as_judge(network).requires_grad_(False)
    return network, weights_sha256(network)


def stored_weights(run: Run, checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """What another run can begin with, by name."""
    return weights_at(run, checkpoint, "network")


def stored_config(run: Run) -> ClassifierConfig:
    """The settings in `run.json`; `UserError` if the run is no classifier's."""
    if not is_classifier(run):
        raise UserError(
            f"Run {run.name!r} is no classifier's ({run.manifest['algorithm']} on {run.world}): "
            "`playfield train classifier` makes one."
        )
    where = f"{run.folder / MANIFEST}: config"
    return from_stored(ClassifierConfig, run.manifest["config"], where)


def stored_held_out(run: Run) -> HeldOut:
    """What `run.json` says of the images that the run is measured on."""
    where = f"{run.folder / MANIFEST}: held_out"
    return from_stored(HeldOut, run.manifest.get("held_out", {}), where)


def weights_sha256(network: nn.Module) -> str:
    """SHA-256 over the names, shapes and numbers of parameters and buffers.

    It tells networks apart by what they compute: neither the place they are stored in nor what
    only training needs (a count of dropout's masks) is in it.
    """
    digest = hashlib.sha256()
    named = [*network.named_parameters(), *network.named_buffers()]
    for name, tensor in sorted(named, key=lambda each: each[0]):
        values = tensor.detach().cpu().numpy()
        digest.update(f"{name} {values.dtype.name} {values.shape}\n".encode())
        digest.update(values.astype(values.dtype.newbyteorder("<"), order="C").tobytes())
    return digest.hexdigest()
