"""What an evaluation found and everything that has to be known to repeat it."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playfield.atomic import alone, write_atomically
from playfield.errors import DamagedFileError, UserError
from playfield.evaluation.human_scores import human_normalised

if TYPE_CHECKING:  # they need torch, and who only reads results should not wait for it
    from playfield.envs.contract import EnvSpec
    from playfield.evaluation.games import Game

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Raw scores of whole games, with the conditions under which they were played."""

    env: str
    protocol: dict[str, Any]  # the environment's every setting that changes a score
    checkpoint: str  # which one played
    progress: int  # its clock: environment steps of training
    episodes: int
    num_envs: int  # the games are spread over them in fixed quotas
    seed: int  # of the environments and the exploration; disjoint from training's
    epsilon: float  # share of uniformly random actions
    scores: tuple[float, ...]  # one per game, raw
    steps: tuple[int, ...]  # one per game, environment steps
    truncated: int  # games cut by the time limit
    finished_at: str  # ISO 8601, UTC

    @property
    def finite(self) -> bool:
        """Whether every score is a finite number; an environment may give rewards that are not."""
        return all(map(math.isfinite, self.scores))

    @property
    def mean(self) -> float:
        """NaN where a score is not finite, as is the median."""
        return statistics.fmean(self.scores) if self.finite else math.nan

    @property
    def median(self) -> float:
        return statistics.median(self.scores) if self.finite else math.nan

    @property
    def standard_error(self) -> float:
        """Of the mean over games; NaN for a single game and where a score is not finite."""
        if len(self.scores) < 2 or not self.finite:
            return math.nan
        return statistics.stdev(self.scores) / math.sqrt(len(self.scores))

    @property
    def human_normalised(self) -> float | None:
        """The mean score where random play is 0 and a human tester 1; None without such scores."""
        return human_normalised(self.env, self.mean) if self.finite else None

    def same_conditions(self, other: Evaluation) -> bool:
        """Whether `other` is this evaluation repeated."""

        def conditions(result: Evaluation) -> tuple[object, ...]:
            return (
                result.env,
                result.protocol,
                result.checkpoint,
                result.episodes,
                result.num_envs,
                result.seed,
                result.epsilon,
            )

        return conditions(self) == conditions(other)


def summarise(
    games: Sequence[Game],
    spec: EnvSpec,
    *,
    checkpoint: str,
    progress: int,
    num_envs: int,
    seed: int,
    epsilon: float,
    finished_at: str,
) -> Evaluation:
    """The record of `games` played in environments of `spec`."""
    return Evaluation(
        env=spec.id,
        protocol=dict(spec.protocol),
        checkpoint=checkpoint,
        progress=progress,
        episodes=len(games),
        num_envs=num_envs,
        seed=seed,
        epsilon=epsilon,
        scores=tuple(game.score for game in games),
        steps=tuple(game.steps for game in games),
        truncated=sum(game.truncated for game in games),
        finished_at=finished_at,
    )


def pooled(evaluations: Sequence[Evaluation]) -> Evaluation:
    """All games of `evaluations` as one, where nothing but the seed of the games differs.

    Its seed and its end are those of the last. Raises ValueError for other games than those.
    """
    last = evaluations[-1]
    if not all(last.same_conditions(replace(each, seed=last.seed)) for each in evaluations):
        raise ValueError("evaluations to be pooled differ in more than the seed of the games")
    return replace(
        last,
        episodes=sum(each.episodes for each in evaluations),
        scores=tuple(score for each in evaluations for score in each.scores),
        steps=tuple(steps for each in evaluations for steps in each.steps),
        truncated=sum(each.truncated for each in evaluations),
    )


def read_evaluations(path: Path) -> list[Evaluation]:
    """The evaluations in `path`, oldest first; none where there is no file.

    Raises `DamagedFileError` naming the file and what is wrong with it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise DamagedFileError(_damaged(path, f"byte {error.start} is not text")) from error
    try:
        document = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DamagedFileError(_damaged(path, f"it is not JSON ({error})")) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise DamagedFileError(_damaged(path, f'"format" is not {FORMAT}'))
    entries = document.get("evaluations")
    if not isinstance(entries, list):
        raise DamagedFileError(_damaged(path, '"evaluations" is not a list'))
    return [_evaluation(path, number, each) for number, each in enumerate(entries)]


def add_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Write `evaluation` after those already in `path`; a repetition takes the old one's place.

    The file is replaced at once, so a crash leaves the old one whole, and of two who add to it
    neither loses the other's. Raises `UserError` where it can't be written, and `DamagedFileError`
    for a file that holds something else.
    """
    try:
        with alone(path):
            kept = [old for old in read_evaluations(path) if not old.same_conditions(evaluation)]
            document = {"format": FORMAT, "evaluations": [entry(e) for e in [*kept, evaluation]]}
            text = json.dumps(document, indent=1, allow_nan=False) + "\n"
            write_atomically(path, text.encode())
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); the result above is not saved: "
            "make room or give this user the right to write there, and evaluate again."
        ) from error


def entry(evaluation: Evaluation) -> dict[str, Any]:
    """The record as JSON, and what follows from it: files can be read without this code.

    JSON has no word for a number that is not finite: it is null.
    """
    derived = {
        "scores": [finite_or_none(score) for score in evaluation.scores],
        "mean": finite_or_none(evaluation.mean),
        "median": finite_or_none(evaluation.median),
        "standard_error": finite_or_none(evaluation.standard_error),
        "human_normalised": evaluation.human_normalised,
    }
    return asdict(evaluation) | derived


def finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _evaluation(path: Path, number: int, found: object) -> Evaluation:
    where = f"evaluation {number}"
    if not isinstance(found, dict):
        raise DamagedFileError(_damaged(path, f"{where} is not an object"))
    fields: dict[str, Any] = {}
    for name, kind in _KINDS.items():
        value = found.get(name)
        # A float may have been written by other hands as 15 instead of 15.0.
        if isinstance(value, bool) or not isinstance(
            value, (int, float) if kind is float else kind
        ):
            raise DamagedFileError(_damaged(path, f'"{name}" of {where} is not a {kind.__name__}'))
        fields[name] = value
    fields["scores"] = [math.nan if score is None else score for score in fields["scores"]]
    for name in ("scores", "steps"):
        numbers = all(isinstance(v, int | float) for v in fields[name])
        if not numbers or len(fields[name]) != fields["episodes"] or not fields[name]:
            raise DamagedFileError(
                _damaged(path, f'"{name}" of {where} is not one number for each game')
            )
        fields[name] = tuple(fields[name])
    return Evaluation(**fields)


_KINDS: dict[str, type] = {
    "env": str,
    "protocol": dict,
    "checkpoint": str,
    "progress": int,
    "episodes": int,
    "num_envs": int,
    "seed": int,
    "epsilon": float,
    "scores": list,
    "steps": list,
    "truncated": int,
    "finished_at": str,
}


def _damaged(path: Path, what: str) -> str:
    return f"{path} is damaged: {what}; move it away to start a new one."
