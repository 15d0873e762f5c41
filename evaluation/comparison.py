"""Runs side by side: which are one line of a chart, what tells lines apart, and what can't be."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from playfield.evaluation.run_groups import game_of, settings_of, unlike_rules
from playfield.training.run import Run

#: What an algorithm logs of its own learning, which is something else in another one.
OWN = ("train/", "gan/", "loss_by_noise/", "health/", "replay/")
#: Parts of a protocol that are no rules: they say which game it is, and by what it was run.
NO_RULES = frozenset({"game", "actions", "ale_py"})
#: Settings whose value says what it is.
PLAIN = ("algorithm", "on", "protocol.name")
#: Letters of a line's label.
LABEL = 40
#: What depends on how many images an evaluation compares: the Fréchet distance is too large by some
#: 1/n, and of more images balls that reach to a neighbour are smaller.
COUNTED = ("paint/frechet_distance", "paint/precision", "paint/recall", "paint/coverage")
#: How many they were in runs whose manifest does not say it: it was no option then.
UNSAID = 512


@dataclass(frozen=True)
class Line:
    """Runs whose curves are averaged."""

    label: str
    runs: tuple[Run, ...]
    settings: Mapping[str, Any]  # of all of them; of the first where they were put together


def default_metric(run: Run) -> str:
    """What is asked first of a run of its kind."""
    if "held_out" in run.manifest:
        return "classify/accuracy"
    return "paint/frechet_distance" if "data" in run.manifest else "episode/return_mean"


def objections(runs: Sequence[Run], metric: str, *, average: bool) -> list[str]:
    """Why the curves of `metric` must not share a chart, or with `average` a line: clauses."""
    first = runs[0]
    found = [
        f"run {run.name!r} learns from {run.world}, and {first.name!r} from {first.world}"
        for run in runs
        if _world(run) != _world(first)
    ][:1]
    found += unlike_rules([run for run in runs if "protocol" in run.manifest])
    held_out = [run for run in runs if "held_out" in run.manifest]
    found += [
        f"run {run.name!r} is measured on other images than {held_out[0].name!r}"
        for run in held_out
        if run.manifest["held_out"] != held_out[0].manifest["held_out"]
    ][:1]
    if metric in COUNTED:
        found += _unlike_counts(runs, metric)
    algorithms = sorted({run.manifest["algorithm"] for run in runs})
    if len(algorithms) > 1 and average:
        found.append(f"an average of different algorithms ({', '.join(algorithms)}) is of none")
    elif len(algorithms) > 1 and metric.startswith(OWN):
        found.append(f"{metric} is something else in each algorithm ({', '.join(algorithms)})")
    return found


def lines(runs: Sequence[Run], *, average: bool, metric: str = "") -> list[Line]:
    """`runs` in groups that their seeds alone tell apart; with `average` all in one.

    How many images evaluations compare is no part of what was learned, but it tells curves apart
    where `metric` depends on it.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        key = "" if average else json.dumps(_settings(run, metric), sort_keys=True)
        groups.setdefault(key, []).append(run)
    settings = [_settings(group[0], metric) for group in groups.values()]
    telling = _telling(settings)
    return [
        Line(_label(group, own, telling), tuple(group), own)
        for group, own in zip(groups.values(), settings, strict=True)
    ]


def differences(drawn: Sequence[Line]) -> dict[str, list[Any]]:
    """The settings that lines differ in: one value for each line, None where it has none such.

    What only another algorithm has is no difference of that setting.
    """
    names = dict.fromkeys(name for line in drawn for name in line.settings)
    found = {}
    for name in names:
        values = [json.dumps(line.settings[name]) for line in drawn if name in line.settings]
        if len(set(values)) > 1:
            found[name] = [line.settings.get(name) for line in drawn]
    return found


def images_compared(run: Run) -> int:
    """How many painted images an evaluation in training compares with as many real ones; 0: none.

    There are no more than it learns from, however many were asked for.
    """
    if "data" not in run.manifest or "held_out" in run.manifest:
        return 0
    number = int(run.manifest["training"].get("evaluate_images", UNSAID))
    return min(number, int(run.manifest["data"].get("count", number)))


def _unlike_counts(runs: Sequence[Run], metric: str) -> list[str]:
    """A clause where evaluations compare different numbers of images, where they compare any."""
    counts = [(run.name, count) for run in runs if (count := images_compared(run))]
    return [
        f"run {name!r} is evaluated by {count:,} painted images, and {counts[0][0]!r} by "
        f"{counts[0][1]:,}, and {metric} depends on how many there are"
        for name, count in counts
        if count != counts[0][1]
    ][:1]


def _world(run: Run) -> str:
    """What it learns from, however that is written."""
    if "env" in run.manifest:
        return game_of(run.manifest["env"])
    return str(run.manifest["data"].get("fingerprint") or run.world)


def _settings(run: Run, metric: str) -> dict[str, Any]:
    """Everything that tells its curve from another one's, the seed and chance left out."""
    rules = run.manifest.get("protocol", {})
    return {
        "algorithm": run.manifest["algorithm"],
        "on": run.world,
        **settings_of(run),
        **{f"protocol.{name}": rule for name, rule in rules.items() if name not in NO_RULES},
        **({"evaluate_images": images_compared(run)} if metric in COUNTED else {}),
    }


def _telling(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names that are needed to tell groups apart: across algorithms, that of the algorithm."""
    names = dict.fromkeys(name for each in settings for name in each)
    telling = []
    for name in names:
        by_algorithm: dict[str, set[str]] = {}
        for each in settings:
            key = each["algorithm"] if name not in ("algorithm", "on") else ""
            by_algorithm.setdefault(key, set()).add(json.dumps(each.get(name)))
        if any(len(values) > 1 for values in by_algorithm.values()):
            telling.append(name)
    return telling


def _label(group: Sequence[Run], settings: Mapping[str, Any], telling: Sequence[str]) -> str:
    named = "protocol.name" in telling  # then the rules need not be told one by one
    parts = []
    for name in telling:
        if name in PLAIN:
            parts.append(show(settings.get(name)))
        elif name in settings and not (named and name.startswith("protocol.")):
            parts.append(f"{name.rpartition('.')[2]}={show(settings[name])}")
    if not parts:
        return group[0].name if len(group) == 1 else str(settings["algorithm"])
    label = ", ".join(parts)
    return label if len(label) <= LABEL else f"{label[: LABEL - 1]}…"


def show(value: Any) -> str:
    """A setting's value as text."""
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)
