"""Runs whose agents were played, in groups that nothing but the seed and the game tells apart."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from playfield.envs.protocols import AtariProtocol
from playfield.evaluation.human_scores import atari_game
from playfield.evaluation.results import Evaluation, pooled
from playfield.training.run import Run
from playfield.training.run_card import flattened

T = TypeVar("T")

#: The fields of an Atari protocol that are rules; what is recorded beside them (the game, its
#: actions, ale-py's version) is for reading.
_RULES = frozenset(field.name for field in fields(AtariProtocol))


@dataclass(frozen=True)
class PlayedRun:
    """A run of training and the games that its agent played. The run counts as one sample."""

    name: str
    algorithm: str
    seed: int  # of training
    settings: Mapping[str, Any]  # what it learned with, by dotted names
    evaluations: tuple[Evaluation, ...]  # by one checkpoint, one for each seed of the games

    @property
    def games(self) -> Evaluation:
        """All of them as one evaluation."""
        return pooled(self.evaluations)

    @property
    def game(self) -> str:
        return game_of(self.evaluations[0].env)


@dataclass(frozen=True)
class Group:
    """Runs of one algorithm with the same settings."""

    name: str
    settings: Mapping[str, Any]  # those in which groups of its algorithm differ
    runs: tuple[PlayedRun, ...]

    @property
    def games(self) -> list[str]:
        return sorted({run.game for run in self.runs})

    def of(self, game: str) -> list[PlayedRun]:
        """Its runs of `game`."""
        return [run for run in self.runs if run.game == game]

    def scores(self, game: str) -> NDArray[np.float64]:
        """Raw scores `[runs, 1]` of its runs of `game`: the means of the games they played."""
        return np.array([[run.games.mean] for run in self.of(game)], np.float64)

    def normalised(self, games: Sequence[str]) -> NDArray[np.float64]:
        """Human-normalised scores `[runs, games]`.

        Raises ValueError where a game has no human score, or other numbers of runs than the rest.
        """
        columns = []
        for game in games:
            scores = [run.games.human_normalised for run in self.of(game)]
            if None in scores:
                raise ValueError(f"{game} has no human score")
            columns.append(scores)
        if len({len(column) for column in columns}) != 1:
            raise ValueError("games have different numbers of runs")
        return np.array(columns, np.float64).T


def game_of(env: str) -> str:
    """The game's short name, the same in all spellings; other environments' own ids."""
    return atari_game(env) or env


def settings_of(run: Run) -> dict[str, Any]:
    """What `run` learned with, by dotted names; neither its seed nor its environment."""
    manifest = run.manifest
    settings = dict(flattened(manifest["config"]))
    settings["steps"] = manifest["training"].get("steps")
    origin = manifest.get("init")
    if origin is not None:
        # Not whose weights they were: every run may have begun with those of one with its seed.
        settings["init"] = None if origin.get("run") is None else origin.get("parts")
        settings["freeze"] = origin.get("freeze")
    return settings


def group_runs(runs: Sequence[PlayedRun], others: Sequence[PlayedRun] = ()) -> list[list[Group]]:
    """The groups of `runs` and of `others`, apart: two lists, in the order of their first runs.

    A group is called by its algorithm, with a number where there are more of that algorithm.
    """
    sides = [
        _by_settings(side, lambda run: (run.algorithm, run.settings)) for side in (runs, others)
    ]
    every = [members for side in sides for members in side]
    of_algorithm = Counter(members[0].algorithm for members in every)
    numbers: Counter[str] = Counter()
    groups: list[list[Group]] = [[], []]
    for side, named in zip(sides, groups, strict=True):
        for members in side:
            algorithm = members[0].algorithm
            numbers[algorithm] += 1
            alone = of_algorithm[algorithm] == 1
            rivals = [each[0].settings for each in every if each[0].algorithm == algorithm]
            named.append(
                Group(
                    name=algorithm if alone else f"{algorithm} {numbers[algorithm]}",
                    settings=_distinct(members[0].settings, rivals),
                    runs=tuple(members),
                )
            )
    return groups


def finite_only(groups: Sequence[Group]) -> tuple[list[Group], list[PlayedRun]]:
    """`groups` without the runs that have a score which is not finite; and those runs.

    A group of nothing else is left out.
    """
    kept = [
        replace(group, runs=tuple(run for run in group.runs if run.games.finite))
        for group in groups
    ]
    out = [run for group in groups for run in group.runs if not run.games.finite]
    return [group for group in kept if group.runs], out


def alike(runs: Sequence[Run]) -> list[list[Run]]:
    """`runs` as `group_runs` will put them together, before their agents have played."""
    return _by_settings(runs, lambda run: (run.manifest["algorithm"], settings_of(run)))


def unlike_games(groups: Sequence[tuple[str, Sequence[str]]]) -> str | None:
    """Why groups can't share a performance profile: a clause, or None where they can.

    A group is its name and the game of each of its runs. A profile counts every game alike, and
    those of groups compare on the same games.
    """
    counted = [(name, Counter(sorted(games))) for name, games in groups]
    for name, counts in counted:
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{count} of {game}" for game, count in counts.items())
            return f"the runs of {name} are {told}, and a profile takes as many of each"
    (first, wanted), *rest = counted
    for name, counts in rest:
        if counts.keys() != wanted.keys():
            return (
                f"{first} has runs of {', '.join(wanted)} and {name} of {', '.join(counts)}, and "
                "profiles compare on the same games"
            )
    return None


def unlike_rules(runs: Sequence[Run]) -> list[str]:
    """Which of `runs` play under other rules than the first of their kind, a clause for each.

    Scores of Atari games compare under one protocol. Other environments have each their own, so
    only those of one id are held against one another.
    """
    clauses = []
    firsts: dict[str, Run] = {}
    for run in runs:
        first = firsts.setdefault(_kind(run), run)
        ours, theirs = _rules(first), _rules(run)
        other = [
            f"{name} {theirs.get(name)}, not {ours.get(name)}"
            for name in dict.fromkeys([*ours, *theirs])
            if ours.get(name) != theirs.get(name)
        ]
        if other:
            clauses.append(
                f"run {run.name!r} plays by other rules than {first.name!r} ({'; '.join(other)})"
            )
    return clauses


def _kind(run: Run) -> str:
    """What shares its rules: all of Atari, or one environment."""
    return "Atari" if run.manifest["protocol"].keys() >= _RULES else run.world


def _rules(run: Run) -> dict[str, Any]:
    protocol = run.manifest["protocol"]
    if protocol.keys() >= _RULES:
        return {name: value for name, value in protocol.items() if name in _RULES}
    return dict(protocol)


def _by_settings(
    runs: Sequence[T], settings: Callable[[T], tuple[str, Mapping[str, Any]]]
) -> list[list[T]]:
    """`runs` in lists of one algorithm and the same settings, in the order of their firsts."""
    groups: dict[str, list[T]] = {}
    for run in runs:
        groups.setdefault(json.dumps(settings(run), sort_keys=True), []).append(run)
    return list(groups.values())


def _distinct(settings: Mapping[str, Any], rivals: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Those of `settings` that not all `rivals` have."""
    names = dict.fromkeys(name for each in rivals for name in each)
    return {
        name: settings.get(name)
        for name in names
        if any(each.get(name) != settings.get(name) for each in rivals)
    }
