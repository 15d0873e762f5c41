"""A run brought back: its config, environment, checkpoint and policy, from what it saved."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

from playfield import envs
from playfield.agents.registry import ALGORITHMS, AgentConfig, Algorithm
from playfield.commands.arguments import nearest
from playfield.commands.notes import report as report
from playfield.envs.contract import EnvSpec, VectorEnv
from playfield.envs.protocols import AtariProtocol
from playfield.errors import UserError
from playfield.generative.judges import JUDGES
from playfield.training.checkpoint import Checkpoint
from playfield.training.run import MANIFEST, Run
from playfield.training.run_checkpoint import does_not_fit, wanted_checkpoint, weights_at
from playfield.training.saved_settings import from_stored
from playfield.training.transfer import Origin

if TYPE_CHECKING:
    import torch

    from playfield.training.trainer import Policy


def stored_algorithm(run: Run) -> Algorithm:
    """The algorithm that made `run`; `UserError` if this playfield has none of that name."""
    name = run.manifest["algorithm"]
    if name in JUDGES:
        raise UserError(
            f"Run {run.name!r} is of a {name} (on {run.world}), which says what images show and "
            f"plays nothing: `playfield eval {run.argument}` measures it."
        )
    if "data" in run.manifest:
        raise UserError(
            f"Run {run.name!r} is of a model that paints ({name} on {run.world}) and plays "
            f"nothing: `playfield sample {run.argument}` shows what it can do."
        )
    if name not in ALGORITHMS:
        raise UserError(
            f"Run {run.name!r} was made by the algorithm {name!r}, which this playfield does not "
            f"have{nearest(name, ALGORITHMS)}; install the version that made it "
            f"({run.manifest['versions'].get('playfield', 'unknown')})."
        )
    return ALGORITHMS[name]


def stored_config(run: Run) -> AgentConfig:
    """The algorithm's settings in `run.json`."""
    kind = stored_algorithm(run).load_config_type()
    return from_stored(kind, run.manifest["config"], f"{run.folder / MANIFEST}: config")


def stored_env(
    run: Run, num_envs: int, *, threads: int | None = None, render: bool = False
) -> VectorEnv:
    """`num_envs` copies of the run's environment, under the very protocol it was trained with."""
    stored_algorithm(run)  # which has an environment
    env_id = run.manifest["env"]
    if envs.resolve(env_id).kind != "atari":
        return envs.make(env_id, num_envs, render=render)
    rules = stored_protocol(run)
    return envs.make(env_id, num_envs, protocol=rules, threads=threads, render=render)


def stored_protocol(run: Run) -> AtariProtocol:
    """The rules of the Atari game that the run was trained on."""
    # What is recorded beside the rules (the game, the actions, ale-py's version) is for reading.
    names = {field.name for field in fields(AtariProtocol)}
    return from_stored(
        AtariProtocol,
        {name: value for name, value in run.manifest["protocol"].items() if name in names},
        f"{run.folder / MANIFEST}: protocol",
        complete=True,
    )


def stored_checkpoint(run: Run, wanted: str | None, *, stores: bool) -> Checkpoint:
    """The checkpoint that `wanted` names, by progress or path, or else the newest intact one.

    Damaged ones that are passed over are told to the user; one asked for by name must be intact.
    """
    return wanted_checkpoint(run, wanted, report, stores=stores)


def stored_policy(
    run: Run, checkpoint: Checkpoint, spec: EnvSpec, device: torch.device, *, precise: bool = False
) -> Policy:
    """The acting half of the agent in `checkpoint`; `precise`: in float32 whatever its settings."""
    algorithm, config = stored_algorithm(run), stored_config(run)
    if precise:
        config = replace(config, precision="float32")  # type: ignore[type-var]
    try:
        return algorithm.build_policy(config, spec, checkpoint.state["trainer"], device)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise does_not_fit(run, checkpoint, error) from error


def stored_weights(run: Run, checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """The weights of the network in `checkpoint`, by name."""
    return weights_at(run, checkpoint, stored_algorithm(run).weights)


def stored_origin(run: Run) -> Origin | None:
    """What the run's weights were at first; None: all random, and all learn."""
    origin = run.manifest.get("init")
    if origin is None:
        return None
    return from_stored(Origin, origin, f"{run.folder / MANIFEST}: init", complete=True)
