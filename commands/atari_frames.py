"""`--data atari:GAME`: frames that are collected here, from the emulator, and kept."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import shutil
from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from playfield import envs
from playfield.buffers.manifest import MANIFEST as STORE_MANIFEST
from playfield.buffers.store import FrameStore
from playfield.cache import data_folder, exclusive, no_room, prepare
from playfield.commands import stored
from playfield.commands.agent_evaluation import EPSILON
from playfield.envs.contract import VectorEnv
from playfield.envs.protocols import MACHADO2018, AtariProtocol, find_protocol
from playfield.errors import DamagedFileError, UserError
from playfield.evaluation.games import moments
from playfield.generative.datasets.options import DataOptions
from playfield.generative.datasets.spec import DataSpec, Kind
from playfield.generative.datasets.storing import new_writer
from playfield.generative.images import ImageData
from playfield.training.checkpoint import MANIFEST as CHECKPOINT_MANIFEST
from playfield.training.checkpoint import Checkpoint
from playfield.training.places import runs_root
from playfield.training.progress_bar import progress_bar
from playfield.training.run import Run

#: Of what a collection is made of; a new number leaves older ones unused.
FORMAT = 1
#: Environments side by side. A part of what decides the frames, so it does not follow the cores.
NUM_ENVS = 8
FRAMES, SIZE, EVERY = 20_000, 64, 4
SIZES = range(8, 257)
RANDOM = "random"
#: Looks at all screens in a row, none of which shows anything new, before they are given up.
PATIENCE = 5_000


@dataclass(frozen=True)
class Collection:
    """Everything that decides the frames, pixel by pixel."""

    game: str  # the ROM's name
    rules: AtariProtocol  # frame size and colour included
    frames: int
    every: int  # steps from one kept frame of an environment to its next
    seed: int
    policy: str  # "random", or the SHA-256 of the agent's checkpoint
    epsilon: float  # share of random actions in the agent's play
    num_envs: int
    ale_py: str
    format: int = FORMAT

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a frame, `(C, H, W)`."""
        return 1 if self.rules.grey else 3, self.rules.frame_size, self.rules.frame_size

    @property
    def key(self) -> str:
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Agent:
    """Who plays, where it is not chance."""

    run: Run
    checkpoint: Checkpoint


def open_atari(spec: DataSpec, options: DataOptions) -> ImageData:
    """The frames that `spec` describes: those kept from an earlier time, or else collected now.

    ALE scales its screen to the wanted square by area averaging, and has a grey of its own. With
    the same version of ALE the same spec gives the same frames (those of an agent, as far as its
    network rounds alike). Raises `UserError` for a game, a run or a number that makes none.
    """
    assert spec.path is not None
    found = envs.resolve(spec.path)
    if found.kind != "atari" or found.game is None:
        raise UserError(f"atari:{spec.path} is no Atari game; `playfield list envs` shows them.")
    frames, every = spec.whole("frames", FRAMES, least=2), spec.whole("every", EVERY)
    seed = spec.whole("seed", 0, least=0)
    size, channels = _size(options), _channels(options)
    agent = _agent(spec, found.game)
    if agent is None:
        rules = find_protocol(found.protocol or MACHADO2018.name)
        player = {"policy": RANDOM}
    else:
        rules = stored.stored_protocol(agent.run)
        player = {
            "policy": agent.run.argument,
            "checkpoint": str(agent.checkpoint.progress),
        }
    numbers = {"frames": frames, "every": every, "seed": seed, "size": size}
    name = DataSpec(
        spec.kind,
        spec.path,
        {key: str(value) for key, value in numbers.items()} | {"channels": channels} | player,
    )
    collection = Collection(
        game=found.game,
        rules=replace(rules, frame_size=size, grey=channels == "grey"),
        frames=frames,
        every=every,
        seed=seed,
        policy=RANDOM if agent is None else _identity(agent.checkpoint),
        epsilon=0.0 if agent is None else EPSILON,
        num_envs=NUM_ENVS,
        ale_py=metadata.version("ale-py"),
    )
    return _kept(collection, agent, str(name), options)


KIND = Kind(
    "frames of an Atari game, collected here by a random or a trained player",
    open_atari,
    path="GAME",
    is_file=False,
    options=("frames", "policy", "checkpoint", "every", "seed"),
)


def _kept(
    collection: Collection, agent: Agent | None, name: str, options: DataOptions
) -> ImageData:
    place = data_folder() / "atari" / f"{collection.game}-{collection.key[:16]}"
    prepare(place)
    with exclusive(place):
        if (place / STORE_MANIFEST).is_file():
            try:
                store = FrameStore.load(place, options.placement, read_only=True)
                return ImageData(name, store)
            except DamagedFileError as error:
                stored.report(f"Collecting the frames anew: {error}")
        for leftover in place.iterdir():  # of a collection that was killed, or is damaged
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        _check_room(collection, place)
        data = collect(collection, agent, name, options)
        try:
            data.store.save(place)
        except OSError as error:
            raise no_room(place, error) from None
    return data


def collect(
    collection: Collection, agent: Agent | None, name: str, options: DataOptions
) -> ImageData:
    """Play, and keep each environment's frame at every so manieth step, if there is none like it.

    A screen that waits would otherwise be a large part of the data. Raises `UserError` where
    nothing new is shown any more.
    """
    total, seen, newest = collection.frames, set[bytes](), 0
    writer = new_writer(name, total, collection.shape, options)
    with (
        closing(
            envs.make(collection.game, collection.num_envs, protocol=collection.rules)
        ) as camera,
        progress_bar(f"atari: {collection.game}", total, "frames") as show,
        closing(_actions(collection, camera, agent)) as actions,
    ):
        step = camera.reset(collection.seed)
        for looked in itertools.count():
            for frame in step.frames:
                digest = hashlib.blake2b(frame.tobytes(), digest_size=16).digest()
                if digest not in seen:
                    seen.add(digest)
                    writer.add(frame)
                    newest = looked
                if len(seen) == total:
                    return ImageData(name, writer.store)
            show(len(seen))
            if looked - newest > PATIENCE:
                raise UserError(
                    f"{name} shows nothing new after {len(seen):,} different frames: ask for "
                    "fewer, or for another policy."
                )
            for _ in range(collection.every):
                step = camera.step(next(actions))
    raise AssertionError("play has no end")


def _actions(
    collection: Collection, camera: VectorEnv, agent: Agent | None
) -> Generator[NDArray[np.int64], None, None]:
    """Actions `[E]` for each moment in turn, from the reset on, without end.

    An agent sees frames of its own kind, in emulators of its own. They start from the same seeds as
    the camera's and get the same actions, so they play the same games.
    """
    if agent is None:
        rng = np.random.default_rng([collection.seed, 0xA7A21])
        while True:
            yield rng.integers(camera.spec.num_actions, size=camera.num_envs)
    with closing(stored.stored_env(agent.run, collection.num_envs)) as env:
        policy = stored.stored_policy(agent.run, agent.checkpoint, env.spec, torch.device("cpu"))
        for moment in moments(env, policy, seed=collection.seed, epsilon=collection.epsilon):
            yield moment.actions


def _agent(spec: DataSpec, game: str) -> Agent | None:
    """Who plays, if somebody has to be fetched for it."""
    wanted = spec.options.get("policy", RANDOM)
    if wanted == RANDOM:
        if "checkpoint" in spec.options:
            raise UserError("atari: checkpoint=… wants the run that it is of, as in policy=RUN.")
        return None
    run = Run.open(wanted, runs_root())
    stored.stored_algorithm(run)  # told before the checkpoint is read, which can take a while
    env_id = run.manifest["env"]
    if envs.resolve(env_id).game != game:
        raise UserError(f"atari:{spec.path}: run {run.name!r} plays {env_id}, another game.")
    return Agent(run, stored.stored_checkpoint(run, spec.options.get("checkpoint"), stores=False))


def _identity(checkpoint: Checkpoint) -> str:
    """What its weights are: the manifest holds the checksum of every file."""
    return hashlib.sha256((checkpoint.path / CHECKPOINT_MANIFEST).read_bytes()).hexdigest()


def _size(options: DataOptions) -> int:
    height, width = options.size or (SIZE, SIZE)
    if height != width or height not in SIZES:
        raise UserError(
            f"atari: frames are squares of {SIZES.start} to {SIZES.stop - 1} pixels a side, "
            f"not {height}x{width}."
        )
    return height


def _channels(options: DataOptions) -> str:
    if options.channels == "rgba":
        raise UserError("atari: frames are grey or rgb; a screen has no rgba.")
    return "grey" if options.channels == "grey" else "rgb"


def _check_room(collection: Collection, place: Path) -> None:
    """Refuse what no disk could keep, before a memory is filled with it."""
    needed, free = collection.frames * math.prod(collection.shape), shutil.disk_usage(place).free
    if needed > free:
        raise UserError(
            f"atari: {collection.frames:,} frames of this size are {needed / 1e9:,.1f} GB, and "
            f"{place} has room for {free / 1e9:,.1f} GB: ask for fewer."
        )
