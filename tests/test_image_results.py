"""The file of image evaluations: conditions keep results apart, and damage is told."""

from __future__ import annotations

import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_trainer import manifest

from playfield.errors import DamagedFileError, UserError
from playfield.evaluation.image_results import (
    ImageEvaluation,
    add_image_evaluation,
    read_image_evaluations,
)
from playfield.evaluation.images import ImageMetrics
from playfield.training.run import Run

METRICS = ImageMetrics(
    n=300, n_real=1797, features="random", features_sha256="ab", width=256,
    preprocessing="bytes / 127.5 - 1", data="cd", frechet_distance=1.5,
    class_diversity={0: 0.5, 7: 1.0}, memorisation_ratio=math.inf,
)  # fmt: skip
FIRST = ImageEvaluation(
    painted={"run": "mine", "progress": 50_000, "first_seed": 0},
    real={"data": "digits", "n": 1797},
    held_out=None,
    classifier={"run": "judge", "sha256": "ef"},
    accuracy_score=None,
    metrics=METRICS,
    finished_at="2026-01-31T14:25:01+00:00",
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "image_evaluation.json"
    assert read_image_evaluations(path) == []
    add_image_evaluation(path, FIRST)
    assert read_image_evaluations(path) == [FIRST]
    assert json.loads(path.read_text())["evaluations"][0]["metrics"]["n"] == 300
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_repetition_takes_the_place_of_the_old_result(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    add_image_evaluation(path, FIRST)
    again = replace(
        FIRST, metrics=replace(METRICS, frechet_distance=2.0), finished_at="2026-02-01T00:00:00"
    )
    add_image_evaluation(path, again)
    assert read_image_evaluations(path) == [again]


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": replace(METRICS, n=301)},
        {"metrics": replace(METRICS, n_real=1000)},
        {"metrics": replace(METRICS, features_sha256="00")},
        {"metrics": replace(METRICS, preprocessing="none")},
        {"painted": {**FIRST.painted, "progress": 60_000}},
        {"painted": {**FIRST.painted, "first_seed": 300}},
        {"held_out": {"data": "digits,split=test"}},
        {"classifier": None},
        {"accuracy_score": {"n": 300}},
    ],
)
def test_results_under_other_conditions_stand_beside_each_other(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    path = tmp_path / "results.json"
    other = replace(FIRST, **change)
    add_image_evaluation(path, FIRST)
    add_image_evaluation(path, other)
    add_image_evaluation(path, FIRST)
    assert read_image_evaluations(path) == [other, FIRST]


def test_of_those_who_add_at_the_same_time_none_loses_anothers(tmp_path: Path) -> None:
    path, count, rounds = tmp_path / "results.json", 4, 5
    barrier = threading.Barrier(count, timeout=20)  # where one fails, the others are not kept

    def add(writer: int) -> None:
        for number in range(rounds):
            barrier.wait()
            seed = {"first_seed": rounds * writer + number}
            add_image_evaluation(path, replace(FIRST, painted={**FIRST.painted, **seed}))

    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(add, writer) for writer in range(count)]:
            done.result()
    seeds = sorted(each.painted["first_seed"] for each in read_image_evaluations(path))
    assert seeds == list(range(count * rounds))
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_run_that_is_being_trained_can_be_evaluated(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "mine", manifest())
    with run.hold():
        add_image_evaluation(run.folder / "image_evaluation.json", FIRST)
    assert read_image_evaluations(run.folder / "image_evaluation.json") == [FIRST]


SCORED = {"n": 300, "seed": 0, "config": {"epochs": 8}}
ALL = replace(
    FIRST,
    held_out={"fingerprint": "12", "n": 299},
    accuracy_score=SCORED,
    metrics=replace(METRICS, agreement=0.5, accuracy_score=0.6),
)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metrics": replace(ALL.metrics, n=301)}, "the number of painted images being 300"),
        ({"classifier": {"sha256": "00"}}, "their agreement, the hash of the classifier's weights"),
        ({"held_out": {"fingerprint": "34", "n": 299}}, "their memorisation ratio, the held-out"),
        ({"held_out": {"fingerprint": "12", "n": 200}}, "number of held-out images being 299 in"),
        ({"accuracy_score": {**SCORED, "n": 280}}, "their accuracy score, the number"),
        ({"accuracy_score": {**SCORED, "config": {}}}, "settings of its classifiers"),
    ],
)
def test_what_was_judged_otherwise_is_not_compared(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        ALL.require_comparable(replace(ALL, **change))


def test_held_out_images_matter_to_the_accuracy_score_alone_too() -> None:
    one = replace(ALL, metrics=replace(ALL.metrics, memorisation_ratio=None))
    with pytest.raises(UserError, match="their accuracy score, the held-out images' fingerprint"):
        one.require_comparable(replace(one, held_out={"fingerprint": "34", "n": 299}))


def test_only_numbers_that_both_have_are_asked_for_their_conditions() -> None:
    ALL.require_comparable(replace(ALL, painted={"run": "another"}))
    fewer = replace(METRICS, memorisation_ratio=None)
    ALL.require_comparable(
        replace(ALL, held_out=None, classifier=None, accuracy_score=None, metrics=fewer)
    )


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[:-9], "it is no JSON"),
        (lambda text: "[]", '"format" is not 1'),
        (lambda text: '{"format": 2}', '"format" is not 1'),
        (lambda text: '{"format": 1}', '"evaluations" is not a list'),
        (lambda text: '{"format": 1, "evaluations": [3]}', "evaluation 0 is not an object"),
        (lambda text: text.replace('"n": 300', '"n": "300"'), 'evaluation 0: "n" is not a whole'),
        (lambda text: text.replace('"real"', '"reel"'), '"real" of evaluation 0 is not an object'),
        (lambda text: text.replace('"classifier": {', '"classifier": 7, "x": {'), '"classifier"'),
        (lambda text: text.replace('"finished_at": "2026', '"finished": "2026'), '"finished_at"'),
    ],
)
def test_damage_is_told_and_nothing_written_over_it(tmp_path: Path, damage: Any, said: str) -> None:
    path = tmp_path / "results.json"
    add_image_evaluation(path, FIRST)
    damaged = damage(path.read_text())
    path.write_text(damaged)
    for touch in (read_image_evaluations, lambda path: add_image_evaluation(path, FIRST)):
        with pytest.raises(DamagedFileError, match=f"results.json is damaged.*{said}"):
            touch(path)
    assert path.read_text() == damaged


def test_where_nothing_can_be_written_the_result_is_said_to_be_lost(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the result above is not saved"):
        add_image_evaluation(tmp_path / "absent" / "results.json", FIRST)
