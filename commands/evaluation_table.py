"""What whole games said of agents, for people: one run's report, and the tables of several."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from playfield.commands.table import aligned
from playfield.evaluation.aggregates import Aggregates, Estimate
from playfield.evaluation.results import Evaluation, pooled
from playfield.evaluation.run_groups import Group
from playfield.evaluation.statistics import RESAMPLES

#: Columns that prose is wrapped to.
WIDTH = 80
#: What the statistics over games are called.
STATISTICS = {
    "mean": "mean",
    "median": "median",
    "iqm": "IQM",
    "optimality_gap": "optimality gap",
}


def run_lines(run_name: str, evaluations: Sequence[Evaluation]) -> list[str]:
    """One run: every condition that decides what its score can be compared with, and the score.

    `evaluations` differ by the seed of their games alone.
    """
    games = pooled(evaluations)
    spread = ""
    if not math.isnan(games.standard_error):
        spread = f" ± {games.standard_error:.2f} (standard error)"
    cut = f", {games.truncated} cut by the time limit" if games.truncated else ""
    normalised = games.human_normalised
    human = "no human score is published for this environment"
    if not games.finite:
        human = "none"
    elif normalised is not None:
        human = f"{100 * normalised:.1f} % (0 % is random play, 100 % a professional game tester)"
    raw = "none: a score is not finite"
    if games.finite:
        low, high = min(games.scores), max(games.scores)
        raw = f"{games.mean:.2f}{spread}; median {games.median:g}, from {low:g} to {high:g}"
    lines = [
        f"run           {run_name}, checkpoint of step {games.progress:,} ({games.checkpoint})",
        f"environment   {games.env}",
        f"protocol      {_protocol(games.protocol)}",
        f"games         {_quota(evaluations)}, "
        f"{sum(games.steps) / games.episodes:,.0f} steps on average{cut}",
        f"agent         {_acting(games.epsilon)}; {_seeds(evaluations)}",
        f"raw score     {raw}",
        f"human score   {human}",
    ]
    if len(evaluations) > 1:
        means = ", ".join(f"{each.mean:.2f}" for each in evaluations)
        lines.insert(-1, f"by seed       {means}")
    return [line for each in lines for line in _wrapped(each, indent=14)]


def group_lines(
    groups: Sequence[Group],
    aggregates: Aggregates,
    forced: Sequence[str],
    checkpoint: str | None = None,
) -> list[str]:
    """Several runs: how they played, each of them, their groups, and what there is to know of it.

    `forced` tells what would have been refused, `checkpoint` which one was asked for; None: the
    newest intact one.
    """
    first = groups[0].runs[0].evaluations
    protocols = dict.fromkeys(
        _protocol(each.protocol)
        for group in groups
        for run in group.runs
        for each in run.evaluations
    )
    lines = [
        *(line for each in protocols for line in _wrapped(f"protocol      {each}", indent=14)),
        f"games         {_quota(first)} for each run",
        f"agent         {_acting(first[0].epsilon)}",
        *_wrapped(f"checkpoint    {_which(checkpoint)}, at the step below", indent=14),
        *_wrapped(f"game seeds    {_game_seeds(groups)}", indent=14),
        *(line for clause in forced for line in _wrapped(f"FORCED        {clause}", indent=14)),
        "",
        *aligned([RUNS, *_run_rows(groups)], (3, 4, 5, 6)),
        "",
    ]
    differing = [group for group in groups if group.settings]
    for group in differing:
        settings = ", ".join(_setting(setting) for setting in group.settings.items())
        lines += _wrapped(f"{group.name} has {settings}", indent=4)
    lines += [""] if differing else []
    lines += [*aligned([ON_GAMES, *_game_rows(aggregates)], (2, 3, 5, 6)), ""]
    if aggregates.over_games:
        lines.append("human-normalised: 0 is random play, 1 a professional game tester")
        lines += [*aligned([OVER_GAMES, *_statistic_rows(aggregates)], (1, 2, 4)), ""]
    if aggregates.improvements:
        lines += [*aligned([IMPROVEMENTS, *_improvement_rows(aggregates)], (2, 3)), ""]
    notes = [BOOTSTRAP, *aggregates.notes]
    return [*lines, *(line for note in notes for line in _wrapped(note)), ""]


BOOTSTRAP = (
    f"Intervals: a stratified bootstrap over runs, {RESAMPLES:,} resamples. Each run counts once."
)
RUNS = ("run", "group", "game", "seed", "at step", "mean", "± of games")
ON_GAMES = ("game", "group", "runs", "mean", "95 % interval", "IQM", "human")
OVER_GAMES = ("group", "games", "runs", "statistic", "value", "95 % interval")
IMPROVEMENTS = ("a run of", "scores more than of", "games", "probability", "95 % interval")


def _run_rows(groups: Sequence[Group]) -> Iterator[tuple[str, ...]]:
    for group in groups:
        for run in group.runs:
            games = run.games
            error = games.standard_error
            yield (
                run.name,
                group.name,
                run.game,
                str(run.seed),
                f"{games.progress:,}",
                _raw(games.mean),
                "-" if math.isnan(error) else f"{error:.2g}",
            )


def _game_rows(aggregates: Aggregates) -> Iterator[tuple[str, ...]]:
    for each in aggregates.on_games:
        human = each.human_normalised
        yield (
            each.game,
            each.group,
            str(each.runs),
            _raw(each.mean.value),
            _interval(each.mean, _raw),
            _raw(each.iqm.value),
            "-" if human is None else f"{100 * human:.1f} %",
        )


def _statistic_rows(aggregates: Aggregates) -> Iterator[tuple[str, ...]]:
    for each in aggregates.over_games:
        for name, called in STATISTICS.items():
            found: Estimate = getattr(each, name)
            yield (
                each.group,
                str(len(each.games)),
                str(each.runs),
                called,
                _share(found.value),
                _interval(found, _share),
            )


def _improvement_rows(aggregates: Aggregates) -> Iterator[tuple[str, ...]]:
    for each in aggregates.improvements:
        yield (
            each.group,
            each.than,
            str(len(each.games)),
            _share(each.probability.value),
            _interval(each.probability, _share),
        )


def _interval(found: Estimate, show: Callable[[float], str]) -> str:
    if found.interval is None:
        return "-"
    return f"{show(found.interval.low)} to {show(found.interval.high)}"


def _raw(score: float) -> str:
    if math.isnan(score):
        return "not finite"
    return f"{score:,.0f}" if abs(score) >= 1000 else f"{score:.2f}"


def _share(value: float) -> str:
    return f"{value:.3f}"


def _wrapped(text: str, indent: int = 0) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)


def _setting(setting: tuple[str, Any]) -> str:
    name, value = setting
    shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return f"{name} {shown}"


def _quota(evaluations: Sequence[Evaluation]) -> str:
    first = evaluations[0]
    seeds = f" for each of {len(evaluations)} seeds" if len(evaluations) > 1 else ""
    several = "s" if first.num_envs > 1 else ""
    return f"{first.episodes} whole ones{seeds} in {first.num_envs} environment{several}"


def _acting(epsilon: float) -> str:
    return f"{100 * epsilon:g} % random actions" if epsilon else "no random actions"


def _seeds(evaluations: Sequence[Evaluation]) -> str:
    seeds = ", ".join(str(each.seed) for each in evaluations)
    return f"seed {seeds}" if len(evaluations) == 1 else f"seeds {seeds}"


def _game_seeds(groups: Sequence[Group]) -> str:
    """The first of each run; `--seed` with it and as many `--seeds` play the same games again."""
    runs = [run for group in groups for run in group.runs]
    firsts = [run.evaluations[0].seed for run in runs]
    more = len(runs[0].evaluations) - 1
    if len({*firsts}) == 1:
        told, source = f"{firsts[0]} for each run", "it"
    else:
        pairs = zip(runs, firsts, strict=True)
        told, source = ", ".join(f"{run.name} {first}" for run, first in pairs), "each"
    return f"{told}, and {more} more made from {source}" if more else told


def _which(checkpoint: str | None) -> str:
    if checkpoint in (None, "last"):
        return "the newest intact one of each run"
    return f"{'the best' if checkpoint == 'best' else checkpoint} of each run"


def _protocol(protocol: dict[str, Any]) -> str:
    """Its name, and for Atari the settings that are argued about.

    Whatever a protocol makes of a lost life in training, games of an evaluation go on after it.
    """
    name = str(protocol.get("name", "its own"))
    if "repeat_action_probability" not in protocol:
        return name
    return (
        f"{name}: sticky actions {protocol['repeat_action_probability']:g}, "
        f"up to {protocol['noop_max']} no-ops, "
        f"{'all 18' if protocol['full_action_space'] else 'minimal'} actions, "
        f"frame skip {protocol['frame_skip']}, lost lives end no game, "
        f"{protocol['max_frames']:,} frames at most"
    )
