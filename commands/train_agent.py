"""`playfield train ALGORITHM` for agents: a new run in an environment."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from playfield.agents.registry import AgentConfig, Algorithm
from playfield.agents.training import AgentTrainingConfig
from playfield.commands import arguments
from playfield.envs.protocols import find_protocol
from playfield.errors import UserError
from playfield.training.places import runs_root
from playfield.training.transfer import Freeze, Parts

C = TypeVar("C")


@dataclass(frozen=True)
class Options(Generic[C]):
    """Train an agent in a new run, until its budget of steps or minutes is spent.

    Ctrl-C saves what was learnt and ends; `playfield resume` goes on from there.
    """

    agent: C
    """The algorithm's settings."""
    training: AgentTrainingConfig = field(default_factory=AgentTrainingConfig)
    """How long to train; when to log, save and evaluate."""
    env: str | None = None
    """Environment, such as ALE/Pong-v5 or CartPole-v1: see `playfield list envs`."""
    preset: str | None = None
    """Settings to start from, see `playfield list presets`; options beside it override them."""
    init_from: str | None = None
    """Run, by name or folder, whose newest weights are the first ones here, as far as they fit: of
    another game or algorithm as well."""
    init_parts: Parts = "all"
    """Which of its weights: those of the encoder, which sees, or all."""
    freeze: Freeze = "none"
    """What does not learn. Without init_from the encoder stays random, which is a baseline."""
    seed: int = 0
    """Seed of everything that is random."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    threads: int | None = None
    """Threads to compute with, and to emulate with; None: as many as there are cores to use, or
    half of them each where both go on at once. One is much faster where other programs keep the
    cores busy: several wait for each other at every step."""
    run: str | None = None
    """Name of the run; None: made from algorithm, environment and time."""
    root: Path = field(default_factory=runs_root)
    """Folder that runs are kept in."""
    protocol: str | None = None
    """Atari rules: machado2018, nature or atari100k; None: those that the id of the game means."""
    full_action_space: bool = False
    """All 18 Atari actions instead of those that do something in the game."""
    profile: bool = False
    """Print at the end where the time went, and write a trace of it to profile/trace.json in the
    run's folder, to be opened in https://ui.perfetto.dev."""
    dry_run: bool = False
    """Print the settings as they would be used, and exit."""


def run(chosen: Algorithm, args: Sequence[str]) -> int:
    """Train `chosen` as the options after its name say; the exit code."""
    command = f"train {chosen.name}"
    defaults = _defaults(chosen, arguments.value_of("--preset", args))
    config_type: Any = chosen.load_config_type()
    options = arguments.parse(Options[config_type], args, command=command, default=defaults)
    _check(options)
    if options.dry_run:
        print(json.dumps(_resolved(chosen, options), indent=2))
        return 0
    return _train(chosen, options)


def _defaults(chosen: Algorithm, preset_name: str | None) -> Options[AgentConfig]:
    if preset_name is None:
        return Options(agent=chosen.load_config_type()())
    from playfield.agents.presets import preset

    found = preset(preset_name, chosen.name)
    training = AgentTrainingConfig()
    if found.steps is not None:
        training = replace(training, steps=found.steps)
    return Options(agent=found.config, training=training, env=found.env)


def _check(options: Options[AgentConfig]) -> None:
    from playfield.commands.origin import check_parts

    if options.env is None:
        raise UserError(
            "train wants an environment, as in --env ALE/Pong-v5; `playfield list envs` shows "
            "what there is."
        )
    if options.protocol is not None:
        find_protocol(options.protocol)
    if options.seed < 0:
        raise UserError(f"--seed has to be 0 or more, not {options.seed}.")
    check_parts(options.init_from, options.init_parts)


def _resolved(chosen: Algorithm, options: Options[AgentConfig]) -> dict[str, Any]:
    from playfield import envs

    assert options.env is not None
    settings: dict[str, Any] = {
        "algorithm": chosen.name,
        "preset": options.preset,
        "env": envs.resolve(options.env).id,
        "protocol": options.protocol or envs.resolve(options.env).protocol,
        "full_action_space": options.full_action_space,
        "init_from": options.init_from,
        "init_parts": options.init_parts,
        "freeze": options.freeze,
        "seed": options.seed,
        "device": options.device,
        "threads": options.threads,
        "run": options.run,
        "root": str(options.root),
        "training": asdict(options.training),
        "config": asdict(options.agent),  # type: ignore[call-overload]
    }
    return settings


def _train(chosen: Algorithm, options: Options[AgentConfig]) -> int:
    from playfield import envs
    from playfield.commands.agent_evaluation import during_training
    from playfield.commands.ending import finish
    from playfield.commands.origin import begin, find_source
    from playfield.envs.contract import VectorEnv
    from playfield.training.devices import resolve_device, set_threads, share_cores
    from playfield.training.loop import train
    from playfield.training.profile import profiling
    from playfield.training.run import Run, new_manifest

    source = find_source(options.init_from, options.root)
    device = resolve_device(options.device)
    overlap = getattr(options.agent, "overlap", False)
    threads, emulator_threads = share_cores(options.threads, overlap=overlap)
    set_threads(threads)
    env_id = options.env
    assert env_id is not None

    def make_env(num_envs: int, render: bool = False) -> VectorEnv:
        return envs.make(
            env_id,
            num_envs,
            render=render,
            protocol=options.protocol,
            full_action_space=options.full_action_space or None,
            threads=emulator_threads,
        )

    env = make_env(options.agent.num_envs)
    try:
        trainer = chosen.build_trainer(
            options.agent, env, seed=options.seed, device=device, steps=options.training.steps
        )
        origin = begin(trainer, source, options.init_parts, options.freeze)
        new_run = Run.create(
            options.root,
            options.run,
            new_manifest(
                command=["playfield", *sys.argv[1:]],
                algorithm=chosen.name,
                preset=options.preset,
                env=env.spec.id,
                protocol=env.spec.protocol,
                config=asdict(options.agent),  # type: ignore[call-overload]
                training=asdict(options.training),
                init=None if origin is None else asdict(origin),
                seed=options.seed,
                device=str(device),
            ),
        )
        evaluate = during_training(
            trainer.policy,
            make_env,
            episodes=options.training.evaluate_episodes,
            seed=options.seed,
            pictured=lambda: make_env(1, render=True),
            folder=new_run.folder,
            media_mb_per_hour=options.training.media_mb_per_hour,
        )
        with profiling(new_run.folder, options.profile):
            outcome = train(trainer, new_run, options.training, evaluate=evaluate)
    finally:
        env.close()
    return finish(new_run, outcome)
