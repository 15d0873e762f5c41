"""From the first command to the last, on a built-in world and on real Atari."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import TINY, CommandLine, playfield
from PIL import Image

from playfield.evaluation.human_scores import human_normalised
from playfield.evaluation.results import read_evaluations
from playfield.training.logs import read_metrics

__all__ = ["playfield"]  # a fixture

#: Real frames, a real Nature CNN and real updates, but few of them.
PONG = (
    *("--num-envs", "2", "--hidden", "16", "--buffer-size", "1000", "--learning-starts", "60"),
    *("--batch-size", "8", "--update-every", "8", "--threads", "1", "--device", "cpu"),
    *("--evaluate-episodes", "0", "--log-every", "40"),
)


def test_catch_from_training_to_watching(playfield: CommandLine, tmp_path: Path) -> None:
    trained = playfield(
        *("train", "dqn", *TINY, "--steps", "200", "--run", "first", "--seed", "3"),
        *("--evaluate-episodes", "4", "--evaluate-every", "100"),
    )
    assert trained.code == 0, trained
    for hint in ("playfield eval first", "playfield watch first", "playfield tensorboard"):
        assert hint in trained.out
    folder = playfield.root / "first"
    manifest = json.loads((folder / "run.json").read_text())
    assert (manifest["algorithm"], manifest["env"]) == ("dqn", "playfield/Catch-v0")
    assert (manifest["seed"], manifest["config"]["hidden"]) == (3, 8)
    assert list(folder.glob("events.out.tfevents.*"))
    points = read_metrics(folder / "metrics.jsonl")
    assert [p["progress"] for p in points if "eval/return" in p] == [100, 200]
    assert any("train/loss" in point for point in points)
    assert any("episode/return" in point for point in points)

    resumed = playfield("resume", "first", "--steps", "300", "--threads", "1")
    assert resumed.code == 0, resumed
    assert json.loads((folder / "run.json").read_text())["progress"] == 300
    assert "300" in playfield("runs").out

    scored = playfield("eval", "first", "--episodes", "6", "--threads", "1")
    assert scored.code == 0, scored
    assert "checkpoint of step 300" in scored.out and "protocol      catch" in scored.out
    (evaluation,) = read_evaluations(folder / "evaluation.json")
    assert (evaluation.progress, evaluation.episodes) == (300, 6)
    assert set(evaluation.scores) <= {-1.0, 1.0}

    film = tmp_path / "film.gif"
    assert playfield("watch", "first", "--video", str(film)).code == 0
    with Image.open(film) as pictures:
        assert pictures.n_frames == 10


def test_an_evaluation_repeated_scores_the_same(playfield: CommandLine) -> None:
    playfield("train", "dqn", *TINY, "--steps", "80", "--run", "twice")
    path = playfield.root / "twice" / "evaluation.json"
    scores = []
    for _ in range(2):
        assert playfield("eval", "twice", "--episodes", "10", "--epsilon", "0.5").code == 0
        (evaluation,) = read_evaluations(path)
        scores.append(evaluation.scores)
    assert scores[0] == scores[1]


def test_vector_observations_train_as_well(playfield: CommandLine) -> None:
    result = playfield("train", "dqn", *TINY, "--env", "CartPole-v1", "--steps", "80")
    assert result.code == 0, result
    assert "CartPole-v1" in playfield("runs").out


def test_the_training_and_the_reported_games_have_seeds_of_their_own() -> None:
    from playfield.commands.agent_evaluation import report_seed
    from playfield.training.seeding import derive_seed

    training = {derive_seed(0, "train", "env", segment) for segment in range(100)}
    evaluation = {report_seed(0), derive_seed(0, "evaluation", "during training")}
    assert len(evaluation) == 2
    assert not training & evaluation


@pytest.mark.parametrize(
    ("env", "protocol", "sticky"),
    [("ALE/Pong-v5", "machado2018", 0.25), ("PongNoFrameskip-v4", "nature", 0.0)],
)
def test_pong_trains_resumes_and_is_filmed_under_its_protocol(
    playfield: CommandLine, tmp_path: Path, env: str, protocol: str, sticky: float
) -> None:
    trained = playfield("train", "dqn", "--env", env, *PONG, "--steps", "120", "--run", "pong")
    assert trained.code == 0, trained
    manifest = json.loads((playfield.root / "pong" / "run.json").read_text())
    assert manifest["env"] == env
    assert manifest["protocol"]["name"] == protocol
    assert manifest["protocol"]["repeat_action_probability"] == sticky
    points = read_metrics(playfield.root / "pong" / "metrics.jsonl")
    assert any("train/loss" in point for point in points)

    resumed = playfield("resume", "pong", "--steps", "160", "--threads", "1")
    assert resumed.code == 0, resumed

    film = tmp_path / "pong.png"
    filmed = playfield("watch", "pong", "--video", str(film), "--steps", "20")
    assert filmed.code == 0, filmed
    with Image.open(film) as pictures:
        assert pictures.n_frames > 5
        pictures.seek(pictures.n_frames - 1)
        colours = pictures.convert("RGB").getcolors(1 << 16)
    # The colours of the screen, not the grey that the agent sees.
    assert colours is not None and any(len(set(rgb)) > 1 for _, rgb in colours)


def test_a_whole_game_of_pong_is_evaluated_on_the_raw_score(playfield: CommandLine) -> None:
    chosen = ("--protocol", "atari100k", "--full-action-space")
    args = ("train", "dqn", "--env", "pong", *PONG, *chosen, "--steps", "80", "--run", "pong")
    assert playfield(*args).code == 0
    result = playfield("eval", "pong", "--episodes", "1", "--threads", "1", "--epsilon", "1")
    assert result.code == 0, result
    assert "atari100k: sticky actions 0, up to 30 no-ops, all 18 actions" in result.out
    (evaluation,) = read_evaluations(playfield.root / "pong" / "evaluation.json")
    # Random play loses 21 points in a game of about 900 steps and wins few.
    assert -21 <= evaluation.mean <= -15
    assert 700 < evaluation.steps[0] < 1500
    assert evaluation.protocol["full_action_space"] is True
    normalised = human_normalised("pong", evaluation.mean)
    assert normalised is not None
    assert f"human score   {100 * normalised:.1f} %" in result.out
