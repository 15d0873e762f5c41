"""A run's folder, and `run.json`: everything needed to know what it was and to go on with it."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from playfield.atomic import write_atomically
from playfield.errors import DamagedFileError, UserError
from playfield.training.machine import git_commit, hardware, versions
from playfield.training.places import runs_root

FORMAT = 1
MANIFEST = "run.json"

#: The fields of `run.json`: what each must be. Those in `OPTIONAL` may be missing.
FIELDS: dict[str, tuple[type, ...]] = {
    "format": (int,),
    "created": (str,),  # UTC, ISO 8601
    "command": (list,),  # argv
    "algorithm": (str,),
    "preset": (str, type(None)),
    "env": (str,),  # canonical id, of an agent's run
    "protocol": (dict,),  # every setting that changes a score
    "data": (dict,),  # of a run that learns from images: what opens them, and what they were
    "held_out": (dict,),  # of a classifier's run: which images it is measured on
    "config": (dict,),  # the algorithm's
    "training": (dict,),  # TrainingConfig
    "init": (dict, type(None)),  # `transfer.Origin`; null: all weights were random, and all learn
    "seed": (int,),
    "device": (str,),
    "threads": (int,),  # that torch computes with; sums may differ by them in the last bit
    "versions": (dict,),
    "hardware": (dict,),
    "git": (dict, type(None)),
    "status": (str,),  # running, finished, stopped or failed
    "progress": (int,),  # steps at the newest checkpoint or at the end
    "checkpoints": (dict,),  # which one is the best, by what, and which is last: `KeptCheckpoints`
    "minutes": (int, float),
    "energy_wh": (int, float, type(None)),  # of the whole machine's processors: `EnergyMeter`
}
OPTIONAL = frozenset(
    {
        "env",
        "protocol",
        "data",
        "held_out",
        "init",
        "threads",
        "status",
        "progress",
        "checkpoints",
        "minutes",
        "energy_wh",
    }
)


def new_manifest(
    *,
    command: Sequence[str],
    algorithm: str,
    preset: str | None,
    env: str | None = None,
    protocol: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    held_out: Mapping[str, Any] | None = None,
    config: Mapping[str, Any],
    training: Mapping[str, Any],
    init: Mapping[str, Any] | None = None,
    seed: int,
    device: str,
) -> dict[str, Any]:
    """What `run.json` holds at the start: the arguments, and when, where and on what it runs.

    An agent's run has `env` and `protocol`; one that learns from images has `data`, whose "name"
    is the spec that opens them, and a classifier's `held_out` besides.
    """
    import torch  # here, because who only reads runs should not wait seconds for it

    world = {"env": env, "protocol": protocol, "data": data, "held_out": held_out}
    return {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": list(command),
        "algorithm": algorithm,
        "preset": preset,
        **{name: value for name, value in world.items() if value is not None},
        "config": dict(config),
        "training": dict(training),
        "init": None if init is None else dict(init),
        "seed": seed,
        "device": device,
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "hardware": hardware(),
        "git": git_commit(),
    }


class Run:
    """One run: its folder and its manifest. Make one with `create` or `open`."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest

    @classmethod
    def create(cls, root: Path, name: str | None, manifest: dict[str, Any]) -> Run:
        """A new run in `root`, named `name` or, say, `dqn-pong-20260131-142501`.

        Nothing is ever overwritten. Raises `UserError` for a name that exists or is no plain folder
        name, and where nothing can be written.
        """
        _check_fields(manifest, Path(MANIFEST))
        if name is not None:
            _check_name(name)
        stem = name if name is not None else _default_name(manifest)
        try:
            root.mkdir(parents=True, exist_ok=True)
            folder = _make_new(root, stem, numbered=name is None)
            encoded = _encode(manifest)
            write_atomically(folder / MANIFEST, encoded)
            (folder / "checkpoints").mkdir()
        except FileExistsError:
            if not root.is_dir():
                raise UserError(f"{root} is a file, and runs need a folder there.") from None
            raise UserError(
                f"Run {stem!r} exists already: resume it with `playfield resume "
                f"{cls(root / stem, {}).argument}` or choose another name."
            ) from None
        except OSError as error:
            raise UserError(
                f"Can't write the run to {root / stem} ({error.strerror}): choose another folder."
            ) from None
        return cls(folder, json.loads(encoded))

    @classmethod
    def open(cls, name_or_path: str, root: Path) -> Run:
        """The run named so in `root`, or the one in that folder.

        Raises `UserError` with the nearest names if there is none, and `DamagedFileError` naming
        the field if its `run.json` is not what was written.
        """
        by_path = Path(name_or_path)
        candidates = [by_path] if by_path.is_absolute() else [root / by_path, by_path]
        for folder in candidates:
            if name_or_path.strip() and (folder / MANIFEST).is_file():
                return cls(folder, _read(folder / MANIFEST))
        names = [folder.name for folder in _run_folders(root)]
        near = difflib.get_close_matches(name_or_path, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "see `playfield runs`."
        raise UserError(f"There is no run {name_or_path!r} in {root}: {hint}")

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def world(self) -> str:
        """What it learns from: the id of its environment, or the spec of its data."""
        return _world(self.manifest)

    @property
    def argument(self) -> str:
        """What names this run on the command line: its name in the usual place, else its folder."""
        usual = self.folder.resolve().parent == runs_root().resolve()
        return self.name if usual else str(self.folder)

    @property
    def checkpoints_folder(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def metrics_path(self) -> Path:
        return self.folder / "metrics.jsonl"

    def update_manifest(self, **fields: Any) -> None:
        """Set fields of `run.json`; raises `OSError` if it can't be written, which changes none."""
        manifest = {**self.manifest, **fields}
        _check_fields(manifest, self.folder / MANIFEST)
        encoded = _encode(manifest)
        write_atomically(self.folder / MANIFEST, encoded)
        self.manifest = json.loads(encoded)  # as a reader finds it, with lists for tuples

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep other processes from training in this folder; the lock dies with the process.

        Raises `UserError` if another one holds it. Two writers would shuffle the curves and prune
        each other's checkpoints.
        """
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"Run {self.name!r} is being trained by another process: "
                    "wait for it or stop it."
                ) from None
            except OSError:
                pass  # a file system without locks (some network ones): train all the same
            yield
        finally:
            os.close(descriptor)

    @property
    def status(self) -> str:
        """ "running", "finished", "stopped", "failed", or "interrupted" where the process died."""
        status = str(self.manifest.get("status", "running"))
        if status == "running":
            try:
                with self.hold():
                    return "interrupted"  # nobody else holds it
            except (UserError, OSError):
                return "running"
        return status


def list_runs(root: Path, report: Callable[[str], None]) -> list[Run]:
    """The runs in `root`, newest first; damaged ones are told to `report` and left out."""
    runs = []
    for folder in _run_folders(root):
        try:
            runs.append(Run(folder, _read(folder / MANIFEST)))
        except DamagedFileError as error:
            report(str(error))
    return sorted(runs, key=lambda run: (run.manifest["created"], run.name), reverse=True)


def _run_folders(root: Path) -> list[Path]:
    try:
        return sorted(f for f in root.iterdir() if (f / MANIFEST).is_file())
    except OSError:
        return []


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[\w.+=-]{1,100}", name) or name.startswith((".", "-")):
        raise UserError(
            f"Run name {name!r} can't be a folder's: use letters, digits and - _ . + = only, "
            "with no - or . in front."
        )


def _default_name(manifest: Mapping[str, Any]) -> str:
    game = re.sub(r"^.*/|-v\d+$|NoFrameskip|,.*$", "", _world(manifest))
    game = re.sub(r"[^a-z0-9]+", "-", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", game).lower())
    return f"{manifest['algorithm']}-{game.strip('-')}-{datetime.now():%Y%m%d-%H%M%S}"


def _make_new(root: Path, stem: str, *, numbered: bool) -> Path:
    """A folder that this call made; `stem-2` and so on where `numbered` and the name is taken."""
    for number in range(1, 1000):
        folder = root / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            if not numbered:
                raise
    raise FileExistsError(root / stem)


def _encode(manifest: Mapping[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=2, allow_nan=False) + "\n").encode()


def _read(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"Can't read {path}: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path} is damaged: it is no JSON ({error}).") from None
    if not isinstance(manifest, dict):
        raise DamagedFileError(f"{path} is damaged: it should hold one JSON object.")
    if isinstance(manifest.get("format"), int) and manifest["format"] > FORMAT:
        raise UserError(
            f"{path} has format {manifest['format']}, and this playfield reads up to {FORMAT}: "
            "update playfield."
        )
    _check_fields(manifest, path)
    return manifest


def _world(manifest: Mapping[str, Any]) -> str:
    return str(manifest["env"] if "env" in manifest else manifest["data"]["name"])


def _check_fields(manifest: Mapping[str, Any], path: Path) -> None:
    for field, types in FIELDS.items():
        if field not in manifest:
            if field in OPTIONAL:
                continue
            raise DamagedFileError(f"{path} is damaged: the field {field!r} is missing.")
        value = manifest[field]
        # JSON's true is no number, though Python's True is an int.
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            expected = " or ".join("null" if t is type(None) else t.__name__ for t in types)
            raise DamagedFileError(
                f"{path} is damaged: the field {field!r} should be {expected}, "
                f"not {type(value).__name__}."
            )
    if "data" in manifest:
        if not isinstance(manifest["data"].get("name"), str):
            raise DamagedFileError(f"{path} is damaged: the field 'data' has no name.")
        return
    for field in ("env", "protocol"):
        if field not in manifest:
            raise DamagedFileError(f"{path} is damaged: the field {field!r} is missing.")
