"""What groups of played runs come to: game by game, over games, and one against another."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from playfield.evaluation.human_scores import human_normalised
from playfield.evaluation.results import entry, finite_or_none
from playfield.evaluation.run_groups import Group, finite_only
from playfield.evaluation.statistics import (
    FEWEST_RUNS,
    LEVEL,
    RESAMPLES,
    Interval,
    Statistic,
    improvement_interval,
    iqm,
    mean,
    median,
    optimality_gap,
    probability_of_improvement,
    stratified_bootstrap,
)

FORMAT = 1
#: Below so many an interval is given and is known to be too narrow.
ENOUGH_RUNS = 5
#: Of all bootstraps: the same games give the same intervals.
SEED = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic, and where it lies over other runs; None where there are too few to say."""

    value: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class OnGame:
    """The raw scores of a group's runs of one game."""

    group: str
    game: str
    runs: int
    games: int  # played, by all runs together
    progress: tuple[int, int]  # of the checkpoints that played: the least, the most
    mean: Estimate
    iqm: Estimate
    human_normalised: float | None  # the mean


@dataclass(frozen=True, slots=True)
class OverGames:
    """A group's human-normalised scores on all games that have one."""

    group: str
    games: tuple[str, ...]
    runs: int  # of each game
    mean: Estimate
    median: Estimate
    iqm: Estimate
    optimality_gap: Estimate


@dataclass(frozen=True, slots=True)
class Improvement:
    """How likely a run of `group` scores more than one of `than` on a game that both played."""

    group: str
    than: str
    games: tuple[str, ...]
    probability: Estimate


@dataclass(frozen=True)
class Aggregates:
    """Everything that can be said of groups of runs together, and what can't, with the reason."""

    on_games: tuple[OnGame, ...]
    over_games: tuple[OverGames, ...]
    improvements: tuple[Improvement, ...]
    notes: tuple[str, ...]  # sentences


def aggregate(groups: Sequence[Group], against: Sequence[Group] = ()) -> Aggregates:
    """The statistics of all groups; improvements of each of `groups` over each of `against`.

    With nothing to hold them against, `groups` are held against one another. Runs with a score
    that is not finite are left out, which a note tells.
    """
    among_themselves = not against
    groups, out = finite_only(groups)
    against, also_out = finite_only(against)
    every = [*groups, *against]
    over, notes = [], []
    for run in [*out, *also_out]:
        notes.append(f"Run {run.name!r} has scores that are not finite, and counts nowhere.")
    notes += _notes(every)
    for group in every:
        try:
            found = _over_games(group)
        except ValueError as error:
            notes.append(f"{group.name} is not averaged over games: {error}.")
            continue
        if found is not None:
            over.append(found)
    if len({found.games for found in over}) > 1:
        notes.append("The groups played different games: their averages over games don't compare.")
    pairs: Iterator[tuple[Group, Group]] = itertools.product(groups, against)
    if among_themselves:
        pairs = itertools.combinations(groups, 2)
    return Aggregates(
        on_games=tuple(
            _on_game(group, game)
            for game in sorted({game for group in every for game in group.games})
            for group in every
            if group.of(game)
        ),
        over_games=tuple(over),
        improvements=tuple(_improvements(pairs, notes)),
        notes=tuple(notes),
    )


def document(
    aggregates: Aggregates, groups: Sequence[Group], conditions: dict[str, Any]
) -> dict[str, Any]:
    """Everything as JSON: the groups with each run's games, and what follows from them."""
    return {
        "format": FORMAT,
        "conditions": conditions,
        "bootstrap": {
            "kind": "stratified by game, percentile",
            "resamples": RESAMPLES,
            "level": LEVEL,
            "seed": SEED,
        },
        "groups": [
            {
                "name": group.name,
                "algorithm": group.runs[0].algorithm,
                "settings": dict(group.runs[0].settings),
                "differing": dict(group.settings),
                "runs": [
                    {
                        "name": run.name,
                        "seed": run.seed,
                        "game": run.game,
                        "mean": finite_or_none(run.games.mean),
                        "human_normalised": run.games.human_normalised,
                        "evaluations": [entry(each) for each in run.evaluations],
                    }
                    for run in group.runs
                ],
            }
            for group in groups
        ],
        **asdict(aggregates),
    }


def estimate(scores: NDArray[np.float64], statistic: Statistic) -> Estimate:
    """`statistic` of scores `[runs, games]`, with an interval where there are runs enough."""
    interval = None
    if len(scores) >= FEWEST_RUNS:
        interval = stratified_bootstrap(scores, statistic, RESAMPLES, SEED)
    return Estimate(float(statistic(scores)), interval)


def _on_game(group: Group, game: str) -> OnGame:
    runs, scores = group.of(game), group.scores(game)
    progress = [run.games.progress for run in runs]
    average = estimate(scores, mean)
    return OnGame(
        group=group.name,
        game=game,
        runs=len(runs),
        games=sum(run.games.episodes for run in runs),
        progress=(min(progress), max(progress)),
        mean=average,
        iqm=estimate(scores, iqm),
        human_normalised=human_normalised(game, average.value),
    )


def _over_games(group: Group) -> OverGames | None:
    """Raises ValueError, with the reason, where its games can't be averaged."""
    games = _scored(group.games)
    if not games:
        return None
    counts = {game: len(group.of(game)) for game in games}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{count} of {game}" for game, count in counts.items())
        raise ValueError(f"its runs are {told}, and a bootstrap wants as many of each")
    scores = group.normalised(games)
    return OverGames(
        group=group.name,
        games=tuple(games),
        runs=len(scores),
        mean=estimate(scores, mean),
        median=estimate(scores, median),
        iqm=estimate(scores, iqm),
        optimality_gap=estimate(scores, optimality_gap),
    )


def _improvements(pairs: Iterator[tuple[Group, Group]], notes: list[str]) -> Iterator[Improvement]:
    for ours, theirs in pairs:
        names = f"{ours.name} over {theirs.name}"
        games = sorted(set(ours.games) & set(theirs.games))
        if not games:
            notes.append(f"No improvement of {names}: they have no game in common.")
            continue
        a, b = _raw(ours, games), _raw(theirs, games)
        if a is None or b is None:
            notes.append(f"No improvement of {names}: not as many runs of every game.")
            continue
        interval = None
        if min(len(a), len(b)) >= FEWEST_RUNS:
            interval = improvement_interval(a, b, RESAMPLES, SEED)
        probability = Estimate(float(probability_of_improvement(a, b)), interval)
        yield Improvement(ours.name, theirs.name, tuple(games), probability)


def _raw(group: Group, games: Sequence[str]) -> NDArray[np.float64] | None:
    """Raw scores `[runs, games]`, which tell who wins a game as well as any others."""
    columns = [group.scores(game) for game in games]
    if len({len(column) for column in columns}) > 1:
        return None
    return np.concatenate(columns, axis=1)


def _scored(games: Sequence[str]) -> list[str]:
    """Those that have a human score."""
    return [game for game in games if human_normalised(game, 0.0) is not None]


def _notes(groups: Sequence[Group]) -> Iterator[str]:
    """What a reader has to know of the runs before believing anything made of them."""
    if not groups:
        return
    games = sorted({game for group in groups for game in group.games})
    unscored = [game for game in games if game not in _scored(games)]
    if unscored and len(games) > 1:
        yield (
            f"No human score is published for {', '.join(unscored)}: averages over games leave "
            f"{'it' if len(unscored) == 1 else 'them'} out."
        )
    fewest = min(len(group.of(game)) for group in groups for game in group.games)
    if fewest < FEWEST_RUNS:
        yield (
            f"An interval takes {FEWEST_RUNS} runs or more of each game; where there is none, "
            "nothing is known of runs with other seeds."
        )
    elif fewest < ENOUGH_RUNS:
        yield f"Intervals of fewer than {ENOUGH_RUNS} runs of a game are too narrow."
    for group in groups:
        for game in group.games:
            seeds = Counter(run.seed for run in group.of(game))
            twice = sorted(seed for seed, count in seeds.items() if count > 1)
            if twice:
                yield (
                    f"Runs of {group.name} on {game} share the training seed "
                    f"{', '.join(map(str, twice))}: they may be one run twice, and intervals "
                    "then too narrow."
                )
