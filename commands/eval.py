"""`playfield eval RUN...`: whole games on the raw reward, and what they say of one run or several.

A classifier's run is measured on its held-out images instead (`classifier_evaluation`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from playfield.atomic import write_atomically
from playfield.commands import arguments
from playfield.commands.played_runs import RESULTS, GameOptions, play_runs
from playfield.errors import UserError
from playfield.generative.judges import JUDGES
from playfield.training.places import runs_root

if TYPE_CHECKING:
    import torch

    from playfield.evaluation.run_groups import Group, PlayedRun
    from playfield.training.run import Run

#: Formats of a picture of profiles.
PICTURES = (".png", ".svg")


@dataclass(frozen=True)
class Options:
    """Play whole games with runs' agents; print the scores and add them to each evaluation.json.

    Scores are raw, lost lives do not end a game, and the games are others than those of training.
    Of several runs, those that differ by seed and game alone are one group, and groups are compared
    with 95 % intervals. The run of a classifier is measured on its held-out images: see its
    classification.json.
    """

    runs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names or folders of the runs."""
    games: GameOptions = field(default_factory=GameOptions)
    """How many games, by which agent, and how it plays."""
    against: tuple[str, ...] = ()
    """Further runs, that the others are held against: how likely is one of those better than one of
    these? Without them groups are held against one another."""
    force: bool = False
    """Put runs together although they play by different rules; the output says so."""
    out: Path | None = None
    """JSON file to write everything to: games, groups, statistics, intervals."""
    profile_picture: Path | None = None
    """PNG or SVG file to draw performance profiles in: the share of runs above every score."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    threads: int | None = None
    """Threads to compute with; None: as many as there are cores to use."""
    root: Path = field(default_factory=runs_root)
    """Folder that runs are kept in."""


def run(args: Sequence[str]) -> int:
    options = arguments.parse(Options, args, command="eval")
    _check(options)

    from playfield.training.devices import resolve_device, set_threads
    from playfield.training.run import Run

    device = resolve_device(options.device)
    set_threads(options.threads)
    runs = [Run.open(name, options.root) for name in options.runs]
    others = [Run.open(name, options.root) for name in options.against]
    everyone = [*runs, *others]
    if len(everyone) == 1 and runs[0].manifest["algorithm"] in JUDGES:
        return _classifier(options, runs[0], device)
    forced = _check_runs(everyone, options)
    if options.profile_picture is not None:
        _check_profile(runs, others)
    played, trouble = play_runs(everyone, options.games, device)
    _tell(played[: len(runs)], played[len(runs) :], options, forced)
    if trouble:
        raise trouble[0]
    where = str(everyone[0].folder / RESULTS)
    print(f"written to    {where if len(everyone) == 1 else f'{RESULTS} of every run'}")
    return 0


def _classifier(options: Options, run: Run, device: torch.device) -> int:
    """Measure a classifier again; what only games have is refused."""
    from playfield.commands.classifier_evaluation import measure_again

    for name in _changed(options):
        if name not in FOR_CLASSIFIERS:
            raise UserError(
                f"Run {run.name!r} is of a classifier, which plays no games: leave "
                f"--{name.replace('_', '-')} out."
            )
    measure_again(run, options.games.checkpoint, device)
    return 0


#: Fields of `Options` that a classifier's run takes too.
FOR_CLASSIFIERS = ("runs", "checkpoint", "device", "threads", "root")


def _changed(options: Options) -> list[str]:
    """The options that are not what they are by default."""

    def flat(given: Options) -> dict[str, object]:
        return asdict(given.games) | {k: v for k, v in asdict(given).items() if k != "games"}

    usual = flat(Options())
    return [name for name, value in flat(options).items() if value != usual[name]]


# --- telling ---


def _tell(
    runs: Sequence[PlayedRun],
    others: Sequence[PlayedRun],
    options: Options,
    forced: Sequence[str],
) -> None:
    """Print what the games say and write the files that were asked for."""
    from playfield.commands.evaluation_table import group_lines, run_lines
    from playfield.evaluation.aggregates import aggregate, document
    from playfield.evaluation.run_groups import group_runs

    groups, against = group_runs(runs, others)
    found = aggregate(groups, against)
    every = [*groups, *against]
    if len(runs) == 1 and not others:
        print("\n".join(run_lines(runs[0].name, runs[0].evaluations)))
    else:
        print("\n".join(group_lines(every, found, forced, options.games.checkpoint)))
    if options.out is not None:
        conditions = asdict(options.games) | {"forced": [*forced]}
        encoded = json.dumps(document(found, every, conditions), indent=1, allow_nan=False)
        _write(options.out, f"{encoded}\n".encode())
    if options.profile_picture is not None:
        _draw(every, options.profile_picture)


def _draw(groups: Sequence[Group], path: Path) -> None:
    """Write the profiles of what played; or say why there is none, with some runs left out."""
    from playfield.evaluation.run_groups import finite_only, unlike_games

    groups, _ = finite_only(groups)
    clause: str | None = "no run has finite scores"
    if groups:
        clause = unlike_games([(each.name, [run.game for run in each.runs]) for each in groups])
    if clause is None:
        _write(path, _picture(groups, path))
    else:
        print(f"not drawn     {path}: {clause}")


def _picture(groups: Sequence[Group], path: Path) -> bytes:
    """The profiles of `groups`: human-normalised where their games have human scores, else raw."""
    from playfield.evaluation.score_profiles import profile_picture

    games = groups[0].games
    scored = _human_scored(games)
    return profile_picture(
        {
            each.name: each.normalised(each.games) if scored else each.scores(games[0])
            for each in groups
        },
        score="human-normalised score" if scored else f"raw score on {games[0]}",
        format="svg" if path.suffix == ".svg" else "png",
    )


def _human_scored(games: Sequence[str]) -> bool:
    from playfield.evaluation.human_scores import atari_game

    return all(atari_game(game) is not None for game in games)


def _write(path: Path, encoded: bytes) -> None:
    try:
        write_atomically(path, encoded)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}): name another file."
        ) from None
    print(f"written to    {path}")


# --- what is refused before a game is played ---


def _check(options: Options) -> None:
    if not options.runs:
        raise UserError("eval wants a run, as in `playfield eval RUN`: see `playfield runs`.")
    picture = options.profile_picture
    if picture is not None and picture.suffix not in PICTURES:
        raise UserError(f"--profile-picture wants a .png or .svg file, not {picture}.")
    for path in (options.out, picture):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise UserError(f"{path} cannot be written: name a file in a folder that exists.")


def _check_runs(runs: Sequence[Run], options: Options) -> list[str]:
    """Raises `UserError` for runs that can't be played, or not together; what --force allowed."""
    from playfield.commands import stored
    from playfield.evaluation.results import read_evaluations
    from playfield.evaluation.run_groups import unlike_rules
    from playfield.training.run_checkpoint import wanted_checkpoint

    folders = [each.folder.resolve() for each in runs]
    for each, folder in zip(runs, folders, strict=True):
        if folders.count(folder) > 1:
            raise UserError(f"Run {each.name!r} is named twice: name every run once.")
        if len(runs) > 1 and each.manifest["algorithm"] in JUDGES:
            raise UserError(
                f"Run {each.name!r} is of a classifier, which plays no games: measure it alone, by "
                f"`playfield eval {each.argument}`."
            )
        stored.stored_algorithm(each)
        read_evaluations(each.folder / RESULTS)
    clauses = unlike_rules(runs)
    if clauses and not options.force:
        raise UserError(
            f"These runs can't be put together: {clauses[0]}, and scores compare under one set of "
            "rules only. Leave some out, or --force it."
        )
    if len(runs) > 1:
        for each in runs:  # a damaged one is told now, not after hours of the others' games
            wanted_checkpoint(each, options.games.checkpoint, lambda sentence: None, stores=False)
    return clauses


def _check_profile(runs: Sequence[Run], others: Sequence[Run]) -> None:
    """Raises `UserError` where the games of runs can't be drawn in one picture of profiles."""
    from playfield.evaluation.run_groups import alike, game_of, unlike_games

    games = {game_of(each.world) for each in [*runs, *others]}
    if len(games) > 1 and not _human_scored([*games]):
        raise UserError(
            "A profile takes scores on one scale, and not all of these games have a human score: "
            f"{', '.join(sorted(games))}. Leave --profile-picture or some of the runs out."
        )
    clause = unlike_games(
        [
            (" + ".join(run.name for run in group), [game_of(run.world) for run in group])
            for group in [*alike(runs), *alike(others)]
        ]
    )
    if clause is not None:
        raise UserError(
            f"These runs have no picture of profiles: {clause}. Leave --profile-picture or some of "
            "the runs out."
        )
