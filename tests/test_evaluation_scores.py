"""Human-normalised scores and the record of an evaluation."""

from __future__ import annotations

import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from playfield.envs.contract import EnvSpec
from playfield.envs.names import atari_games
from playfield.errors import DamagedFileError, UserError
from playfield.evaluation.games import Game
from playfield.evaluation.human_scores import RANDOM_AND_HUMAN, human_normalised
from playfield.evaluation.results import Evaluation, add_evaluation, read_evaluations, summarise

#: Human and random scores as printed, rounded, by others: Badia et al. 2020 (Agent57), quoted in
#: Cuccu et al. 2021 (doi:10.1007/s10458-021-09497-8), Table 3.
PUBLISHED = {
    "berzerk": (2630, 124),
    "bowling": (161, 23),
    "demon_attack": (1971, 152),
    "enduro": (861, 0),
    "fishing_derby": (-39, -92),
    "frostbite": (4335, 65),
    "gravitar": (3351, 173),
    "kangaroo": (3035, 52),
    "name_this_game": (8049, 2292),
    "phoenix": (7243, 761),
    "qbert": (13455, 164),
    "seaquest": (42055, 68),
    "space_invaders": (1669, 148),
    "star_gunner": (10250, 664),
    "time_pilot": (5229, 3568),
}


@pytest.mark.parametrize("game", PUBLISHED)
def test_the_table_agrees_with_another_publication(game: str) -> None:
    random, human = RANDOM_AND_HUMAN[game]
    published_human, published_random = PUBLISHED[game]
    assert abs(human - published_human) <= 0.5 and abs(random - published_random) <= 0.5


@pytest.mark.parametrize("game", ["pong", "breakout", "montezuma_revenge", "skiing"])
def test_random_play_is_zero_and_human_play_one(game: str) -> None:
    random, human = RANDOM_AND_HUMAN[game]
    assert human_normalised(game, random) == 0.0
    assert human_normalised(game, human) == 1.0


def test_the_table_holds_the_57_games_and_no_other_names() -> None:
    assert len(RANDOM_AND_HUMAN) == 57
    assert set(RANDOM_AND_HUMAN) <= set(atari_games())


def test_people_beat_random_play_in_every_game() -> None:
    assert all(human > random for random, human in RANDOM_AND_HUMAN.values())


@pytest.mark.parametrize(
    ("spelling", "game"),
    [
        ("ALE/MsPacman-v5", "ms_pacman"),
        ("MsPacmanNoFrameskip-v4", "ms_pacman"),
        ("ms_pacman", "ms_pacman"),
        ("ALE/UpNDown-v5", "up_n_down"),
        ("ALE/Jamesbond-v5", "jamesbond"),
    ],
)
def test_every_spelling_of_a_game_finds_its_scores(spelling: str, game: str) -> None:
    assert human_normalised(spelling, RANDOM_AND_HUMAN[game][1]) == 1.0


@pytest.mark.parametrize("env", ["CartPole-v1", "playfield/Catch-v0", "ALE/Adventure-v5"])
def test_environments_without_published_scores_have_none(env: str) -> None:
    assert human_normalised(env, 100.0) is None


def test_scores_above_human_play_are_not_clipped() -> None:
    score = human_normalised("breakout", 401.2)
    assert score is not None and score > 13


def evaluation(**changes: object) -> Evaluation:
    games = [Game(0, 10.0, 100, False), Game(0, 20.0, 50, True), Game(1, 60.0, 70, False)]
    spec = EnvSpec("ALE/Pong-v5", (1, 84, 84), "uint8", 6, (), 4, {"name": "machado2018"})
    record = summarise(
        games,
        spec,
        checkpoint="000000001000",
        progress=1000,
        num_envs=2,
        seed=9,
        epsilon=0.0,
        finished_at="2026-01-01T00:00:00+00:00",
    )
    return replace(record, **changes)  # type: ignore[arg-type]


def test_the_record_names_the_conditions_and_summarises_the_scores() -> None:
    record = evaluation()
    assert (record.env, record.protocol["name"]) == ("ALE/Pong-v5", "machado2018")
    assert (record.episodes, record.truncated, record.scores) == (3, 1, (10.0, 20.0, 60.0))
    assert (record.mean, record.median) == (30.0, 20.0)
    # Sample variance of 10, 20, 60 is 700.
    assert record.standard_error == pytest.approx(math.sqrt(700 / 3))
    assert record.human_normalised == pytest.approx((30 + 20.7) / (14.6 + 20.7))


def test_evaluations_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    assert read_evaluations(path) == []
    first, second = evaluation(), evaluation(checkpoint="000000002000", progress=2000)
    add_evaluation(path, first)
    add_evaluation(path, second)
    assert read_evaluations(path) == [first, second]
    assert json.loads(path.read_text())["evaluations"][0]["mean"] == 30.0


def test_a_repeated_evaluation_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    add_evaluation(path, evaluation())
    add_evaluation(path, evaluation(finished_at="2026-01-02T00:00:00+00:00"))
    add_evaluation(path, evaluation(seed=10))
    read = read_evaluations(path)
    assert [(e.seed, e.finished_at[:10]) for e in read] == [(9, "2026-01-02"), (10, "2026-01-01")]


def test_a_single_game_is_written_as_plain_json(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    add_evaluation(path, evaluation(episodes=1, scores=(5.0,), steps=(3,)))

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    json.loads(path.read_text(), parse_constant=refuse)
    assert read_evaluations(path)[0].scores == (5.0,)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_null_and_leaves_no_mean(
    tmp_path: Path, score: float
) -> None:
    path = tmp_path / "evaluation.json"
    add_evaluation(path, evaluation(scores=(5.0, score, -score)))

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    (written,) = json.loads(path.read_text(), parse_constant=refuse)["evaluations"]
    assert written["scores"] == [5.0, None, None]
    derived = ("mean", "median", "standard_error", "human_normalised")
    assert [written[name] for name in derived] == [None] * 4
    (read,) = read_evaluations(path)
    assert read.scores[0] == 5.0 and all(map(math.isnan, read.scores[1:]))
    assert not read.finite and math.isnan(read.mean) and read.human_normalised is None


def test_of_those_who_add_at_the_same_time_none_loses_anothers(tmp_path: Path) -> None:
    path, count, rounds = tmp_path / "evaluation.json", 4, 5
    barrier = threading.Barrier(count, timeout=20)  # where one fails, the others are not kept

    def add(writer: int) -> None:
        for number in range(rounds):
            barrier.wait()
            add_evaluation(path, evaluation(seed=rounds * writer + number))

    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(add, writer) for writer in range(count)]:
            done.result()
    assert sorted(each.seed for each in read_evaluations(path)) == list(range(count * rounds))
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "byte 0"),
        (b"[]", "format"),
        (b'{"format": 99, "evaluations": []}', "format"),
        (b'{"format": 1, "evaluations": 3}', "evaluations"),
        (b'{"format": 1, "evaluations": [{"env": 3}]}', '"env" of evaluation 0'),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(
    tmp_path: Path, content: bytes, named: str
) -> None:
    path = tmp_path / "evaluation.json"
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"evaluation\.json is damaged") as caught:
        read_evaluations(path)
    assert named in str(caught.value)


def test_scores_that_are_not_one_per_game_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    add_evaluation(path, evaluation())
    path.write_text(path.read_text().replace('"episodes": 3', '"episodes": 4'))
    with pytest.raises(DamagedFileError, match='"scores" of evaluation 0'):
        read_evaluations(path)


def test_a_failed_write_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    add_evaluation(path, evaluation())
    (tmp_path / ".evaluation.json.lock").mkdir()  # nobody can have it to themselves
    with pytest.raises(UserError, match="cannot be written"):
        add_evaluation(path, evaluation(seed=11))
    assert read_evaluations(path) == [evaluation()]
