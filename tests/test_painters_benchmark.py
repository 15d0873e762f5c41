"""The comparison of painters: equal minutes, runs trained once, no average of things unlike."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from benchmark_scripts import FOLDER, quick, script
from exact_models import painting
from painted_runs import painted_run
from PIL import Image

from playfield.cli import main
from playfield.errors import UserError
from playfield.evaluation.images import ImageMetrics
from playfield.generative.sampling import SamplerConfig, plan
from playfield.training.run import Run, new_manifest

ROOT = FOLDER.parent


@pytest.fixture(scope="module")
def painters() -> ModuleType:
    return script("painters")


@pytest.fixture(scope="module")
def runs(painters: ModuleType) -> ModuleType:
    return _imported("painter_runs")


@pytest.fixture(scope="module")
def table(painters: ModuleType) -> ModuleType:
    return _imported("painter_table")


def _imported(name: str) -> ModuleType:
    return sys.modules[name]  # the module that `painters` itself has


# --- what is compared -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "family", "calls"),
    [
        ("diffusion", "edm", [2, 9, 18, 35]),
        ("flow", "flow", [2, 8, 32]),
        ("consistency", "consistency", [1, 2]),
    ],
)
def test_painters_call_their_network_as_often_as_the_tables_say(
    runs: ModuleType, name: str, family: Any, calls: list[int]
) -> None:
    model = painting(family, shape=(1, 3, 2), classes=("a", "b"))
    plans = [plan(model, way) for way in runs.PAINTERS[name].ways]
    assert [planned.network_calls for planned in plans] == calls
    usual = plan(model, SamplerConfig())
    assert (plans[-1].sampler, plans[-1].network_calls) == (usual.sampler, usual.network_calls)


def test_gans_paint_in_one_way_and_every_painter_learns_from_all_images(runs: ModuleType) -> None:
    assert list(runs.PAINTERS) == [
        "dcgan", "wgan-gp", "sngan", "r3gan", "diffusion", "flow", "consistency"
    ]  # fmt: skip
    for painter in runs.PAINTERS.values():
        assert set(painter.train) == set(runs.DATA)
        if painter.train["digits"][0] == "gan":
            assert painter.ways == (SamplerConfig(),)


@pytest.mark.parametrize("name", ["dcgan", "wgan-gp", "sngan", "r3gan", "diffusion", "flow"])
def test_what_is_trained_is_what_the_command_line_knows(
    runs: ModuleType, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*runs.PAINTERS[name].train["digits"], "--data", runs.DATA["digits"].train]
    assert main(["train", *words, *runs.QUICK_OPTIONS, *runs.PAINTERS[name].tiny, "--dry-run"]) == 0
    settings = json.loads(capsys.readouterr().out)
    assert settings["training"]["evaluate_every"] == 0
    assert settings["preset"] == (name if settings["algorithm"] == "gan" else None)


# --- learning -------------------------------------------------------------------------------------


class Asked:
    """Stands in for `playfield train`: makes the run's folder, and notes what was asked."""

    def __init__(self, rate: float, fails: str = "") -> None:
        self.rate, self.fails = rate, fails
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.commands.append(command[2:])
        name, root = self.value(-1, "--run"), Path(self.value(-1, "--root"))
        run = Run.create(
            root, name, new_manifest(
                command=command, algorithm=command[2], preset=None,
                data={"name": "digits"}, config={},
                training={}, seed=0, device="cpu",
            ),
        )  # fmt: skip
        if name == self.fails:
            return subprocess.CompletedProcess(command, 130, "", "")
        minutes = 0.5
        run.update_manifest(progress=round(self.rate * 60 * minutes), status="finished")
        lines = [{"progress": 1, "time/minutes": minutes}, {"progress": 1, "paint/diversity": 1.0}]
        run.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return subprocess.CompletedProcess(command, 0, "", "")

    def value(self, number: int, flag: str) -> str:
        command = self.commands[number]
        return command[command.index(flag) + 1]

    def named(self, name: str) -> list[str]:
        (found,) = [c for c in self.commands if c[c.index("--run") + 1] == name]
        return found


@pytest.fixture
def learning(
    runs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Any, Asked]]:
    def begin(minutes: float = 4.0, fails: str = "", **more: Any) -> tuple[Any, Asked]:
        asked = Asked(rate=100.0, fails=fails)
        monkeypatch.setattr(runs, "subprocess", SimpleNamespace(run=asked))
        school = runs.School(runs.DATA["digits"], minutes, 1, tmp_path, **more)
        return school, asked

    return begin


def of(command: list[str], flag: str) -> float:
    return float(command[command.index(flag) + 1])


def test_every_painter_gets_the_images_of_the_same_minutes_from_its_start(
    runs: ModuleType, learning: Callable[..., tuple[Any, Asked]]
) -> None:
    school, asked = learning(minutes=4.0)
    chosen = [runs.PAINTERS[name] for name in ("r3gan", "diffusion", "consistency")]
    assert [each.painter for each in school.learn(chosen, 7)] == chosen
    alone = [asked.named(f"painters-digits-{name}-seed7") for name in ("r3gan", "diffusion")]
    shared = [asked.named(f"painters-digits-{name}-seed7") for name in ("teacher", "consistency")]
    # 100 images a second were seen on trial; a process takes `STARTING` minutes before its first.
    assert [of(c, "--steps") for c in alone] == [6_000 * (4 - runs.STARTING)] * 2
    assert [of(c, "--steps") for c in shared] == [6_000 * (2 - runs.STARTING)] * 2
    for command in (*alone, *shared):
        assert "--minutes" not in command
        assert of(command, "--evaluate-every") == 0 and of(command, "--seed") == 7
    assert shared[1][shared[1].index("--init-from") + 1] == "painters-digits-teacher-seed7"
    assert shared[0][0] == "diffusion" and "digits,split=train" in shared[0]


def test_what_has_ended_is_not_trained_again_and_trials_are_shared_by_seeds(
    runs: ModuleType, learning: Callable[..., tuple[Any, Asked]]
) -> None:
    school, asked = learning()
    school.learn([runs.PAINTERS["consistency"]], 0)
    names = [c[c.index("--run") + 1].removeprefix("painters-digits-") for c in asked.commands]
    assert names == [
        "speed-diffusion-1", "teacher-seed0", "speed-consistency-1", "consistency-seed0"
    ]  # fmt: skip
    school.learn([runs.PAINTERS["consistency"]], 0)
    assert len(asked.commands) == 4
    school.learn([runs.PAINTERS["consistency"]], 1)
    assert len(asked.commands) == 6
    learnt = school.learnt(runs.PAINTERS["consistency"], 0)
    assert learnt.minutes == 1.0 and learnt.teacher.name == "painters-digits-teacher-seed0"
    assert school.learnt(runs.PAINTERS["flow"], 0) is None


def test_a_trial_that_others_on_the_host_disturbed_is_repeated(
    runs: ModuleType,
    learning: Callable[..., tuple[Any, Asked]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    school, asked = learning()
    taken = iter([0.0, 1e6, 1e6, 1e6, 1e6, 2e6])  # before and after the first trial, the second, …
    monkeypatch.setattr(runs, "stolen_seconds", lambda: next(taken))
    (learnt,) = school.learn([runs.PAINTERS["flow"]], 0)
    names = [c[c.index("--run") + 1].removeprefix("painters-digits-") for c in asked.commands]
    assert names == ["speed-flow-1", "speed-flow-2", "flow-seed0"]
    # The run itself may be disturbed: it has learned from as many images all the same.
    assert runs.note(learnt.run)["stolen"] > 0.05
    kept = sorted(path.name for path in school.root.iterdir())
    assert kept == ["painters-digits-flow-seed0", "painters-digits-speed-flow"]


def test_where_every_trial_is_disturbed_the_least_disturbed_counts(
    runs: ModuleType,
    learning: Callable[..., tuple[Any, Asked]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    school, asked = learning()
    steps = iter([3e6, 1e6, 2e6, 3e6, 3e6, 0.0])  # the fifth trial is the last
    clock = iter(value for step in steps for value in (0.0, step))
    monkeypatch.setattr(runs, "stolen_seconds", lambda: next(clock))
    school.learn([runs.PAINTERS["flow"]], 0)
    assert len(asked.commands) == runs.TRIES + 1
    kept = school._ended("speed-flow")
    assert 0.05 < runs.note(kept)["stolen"] < float("inf")
    created = {c[c.index("--run") + 1] for c in asked.commands}
    assert "painters-digits-speed-flow-2" in created


def test_an_interrupted_run_is_set_aside_and_trained_anew(
    runs: ModuleType, learning: Callable[..., tuple[Any, Asked]], tmp_path: Path
) -> None:
    name = "painters-digits-flow-seed0"
    school, _ = learning(fails=name)
    with pytest.raises(SystemExit):
        school.learn([runs.PAINTERS["flow"]], 0)
    assert school.learnt(runs.PAINTERS["flow"], 0) is None
    school, asked = learning()
    (learnt,) = school.learn([runs.PAINTERS["flow"]], 0)
    assert learnt.run.name == name and len(asked.commands) == 1  # the trial had ended
    aside = [path.name for path in tmp_path.iterdir() if "interrupted" in path.name]
    assert len(aside) == 1 and aside[0].startswith(name)


def test_runs_of_other_minutes_or_options_are_refused(
    runs: ModuleType,
    learning: Callable[..., tuple[Any, Asked]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    learning(minutes=4.0)[0].learn([runs.PAINTERS["flow"]], 0)
    for others, what in (({"minutes": 5.0}, "minutes 4.0, and 5.0"), ({"more": ("--flip",)}, "")):
        with pytest.raises(SystemExit):
            learning(**others)[0].learn([runs.PAINTERS["flow"]], 0)
        assert what in (said := capsys.readouterr().err) and "another --root" in said


def test_one_that_fails_keeps_others_from_beginning(
    runs: ModuleType, learning: Callable[..., tuple[Any, Asked]]
) -> None:
    school, asked = learning(fails="painters-digits-speed-dcgan-1")
    with pytest.raises(SystemExit):
        school.learn(list(runs.PAINTERS.values()), 0)
    assert len(asked.commands) == 1


# --- results --------------------------------------------------------------------------------------


def metrics(n: int = 1_498, features: str = "classifier", **found: Any) -> dict[str, Any]:
    numbers = {
        "frechet_distance": 2.0, "kernel_distance": 0.004, "kernel_distance_error": 0.001,
        "precision": 0.9, "recall": 0.8, "density": 1.0, "coverage": 0.9, "diversity": 1.0,
    }  # fmt: skip
    return ImageMetrics(
        n=n, n_real=1_498, features=features, features_sha256="a" * 8, width=128,
        preprocessing="none", data="d" * 8, **(numbers | found),
    ).record()  # fmt: skip


def row(nfe: int, *, usual: bool = True, n: int = 1_498, **found: Any) -> dict[str, Any]:
    seen = {name: metrics(n, name, **found) for name in ("classifier", "random")}
    few = {name: metrics(299, name, frechet_distance=9.0) for name in ("classifier", "random")}
    return {
        "nfe": nfe, "sampler": "heun" if nfe > 1 else "generator", "steps": nfe, "usual": usual,
        "images_per_second": 1234.5, "agreement": 0.96, "accuracy_score": 0.9,
        "memorisation_ratio": 1.0, "metrics": seen, "few": few,
    }  # fmt: skip


def run_of(painter: str, seed: int, *rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    found = {
        "painter": painter, "title": painter.upper(), "seed": seed, "minutes": 3.9,
        "process_minutes": 4.2, "images_seen": 100_000, "images_per_second": 420.0,
        "parameters": {"paints": 250_000, "discriminator": 150_000}, "diagnosis": [], "rows": rows,
    }  # fmt: skip
    return found | more


def result(*found: dict[str, Any], labelled: bool = True) -> dict[str, Any]:
    names = ("classifier", "random") if labelled else ("random",)
    tested = 299 if labelled else 1_498
    real = {
        "agreement": 0.98, "accuracy_score": 0.97, "memorisation_ratio": 1.0,
        "metrics": {name: metrics(tested, name) for name in names},
    }  # fmt: skip
    return {
        "quick": False, "title": "8×8 digits", "minutes": 4.0, "threads": 1, "options": [],
        "hardware": {"cpu": "a processor"},
        "conditions": {
            "train": {"data": "digits,split=train", "n": 1_498, "of": 1_498},
            "test": {"data": "digits,split=test", "n": tested}, "number": 1_498,
            "features": {name: {} for name in names}, "judge": "j" if labelled else None,
            "best_coverage": 0.969,
        },
        "real": real,
        "runs": {f"{run['painter']}, seed {run['seed']}": run for run in found},
    }  # fmt: skip


def cells(page: str, first: str, number: int = 0) -> list[str]:
    """The cells of the rows that begin with `first`, those of the `number`th."""
    lines = [line for line in page.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in lines[number].strip("|").split("|")]


def test_numbers_of_seeds_are_their_mean_and_deviation(table: ModuleType) -> None:
    seeds = [
        run_of("r3gan", k, row(1, frechet_distance=value)) for k, value in enumerate((1, 2, 6))
    ]
    found = table.Result(result(*seeds))
    made = table.scores_table(found, "classifier")
    line = dict(zip(made.columns, made.rows[1], strict=True))
    assert line["FD"] == "3.00 ± 2.65"  # sqrt((4 + 1 + 9) / 2)
    assert line["KID · 10³"] == "4.00 ± 0.00" and line["standard error"] == "1"
    assert line["agreement"] == "96.0 ± 0.0" and line["sampler × steps"] == "one call"
    alone = table.scores_table(table.Result(result(seeds[2])), "classifier")
    assert dict(zip(alone.columns, alone.rows[1], strict=True))["FD"] == "6.00"


@pytest.mark.parametrize(
    "other",
    [
        pytest.param([run_of("r3gan", 1, row(1, n=1_000))], id="number, another seed"),
        pytest.param([run_of("dcgan", 0, row(1, n=1_000))], id="number, another painter"),
    ],
)
def test_nothing_unlike_is_averaged_or_compared(table: ModuleType, other: Any) -> None:
    with pytest.raises(UserError, match="number of painted images"):
        _ = table.Result(result(run_of("r3gan", 0, row(1)), *other)).lines


def test_features_of_other_weights_are_not_averaged(table: ModuleType) -> None:
    changed = run_of("r3gan", 1, row(1))
    changed["rows"][0]["metrics"]["random"]["features_sha256"] = "b" * 8
    with pytest.raises(UserError, match="hash of the features"):
        _ = table.Result(result(run_of("r3gan", 0, row(1)), changed)).lines


def test_the_readme_has_one_row_for_each_painter_in_its_usual_way(table: ModuleType) -> None:
    found = {
        "digits": table.Result(
            result(
                run_of("r3gan", 0, row(1)),
                run_of("diffusion", 0, row(2, usual=False), row(35, frechet_distance=1.5)),
            )
        ),
        "breakout": table.Result(result(run_of("r3gan", 0, row(1)), labelled=False)),
    }
    page = table.readme_part(found, Path("nowhere"))
    assert len(re.findall(r"^\| [A-Z0-9]+ \|", page, re.MULTILINE)) == 2
    assert cells(page, "DIFFUSION")[1:3] == ["35", "1.50"]
    # Breakout has no labels, and no diffusion model yet: FD, recall, coverage, images/s.
    assert cells(page, "DIFFUSION")[-4:] == ["–"] * 4
    assert cells(page, "R3GAN")[-4:] == ["2.00", "0.80", "0.90", "1,230"]
    assert page.count("agreement, %") == 1 and "painters-digits.png" not in page


def test_what_depends_on_how_many_there_are_stands_apart_for_new_real_images(
    table: ModuleType,
) -> None:
    found = table.Result(result(run_of("r3gan", 0, row(1))))
    made = table.scores_table(found, "classifier")
    real = dict(zip(made.columns, made.rows[0], strict=True))
    assert real["FD"] == real["recall"] == real["coverage"] == "–"
    assert (real["precision"], real["KID · 10³"], real["agreement"]) == ("0.900", "4.00", "98.0")
    few = table.few_table(found)
    assert dict(zip(few.columns, few.rows[0], strict=True))["FD, classifier"] == "2.00"
    assert dict(zip(few.columns, few.rows[1], strict=True))["FD, classifier"] == "9.00"


def test_images_without_labels_have_no_agreement_and_the_page_says_so(table: ModuleType) -> None:
    found = table.Result(result(run_of("r3gan", 0, row(1)), labelled=False))
    assert found.few is None
    made = table.scores_table(found, "random")
    assert "agreement" not in made.columns and "accuracy score" not in made.columns
    assert dict(zip(made.columns, made.rows[0], strict=True))["FD"] == "2.00"  # as many of each
    page = table.page_part({"breakout": found}, Path("nowhere"))
    assert "no labels" in page and "classifier features" not in page


def test_a_page_says_what_training_found_wrong_and_what_it_cost(table: ModuleType) -> None:
    collapsed = run_of("dcgan", 0, row(1), diagnosis=["The discriminator has collapsed."])
    page = table.page_part({"digits": table.Result(result(collapsed))}, Path("nowhere"))
    assert "- DCGAN, seed 0: The discriminator has collapsed." in page
    assert "0.25M (+ 0.15M)" in page and "| 4.2 |" in page


def test_pages_are_written_between_their_marks(table: ModuleType) -> None:
    page = f"before\n{table.BEGIN}\nold\n{table.END}\nafter"
    assert table.page_with(page, "new") == f"before\n{table.BEGIN}\nnew\n{table.END}\nafter"
    with pytest.raises(ValueError, match="no place"):
        table.page_with("text", "new")
    assert table.readme_part({}) == table.page_part({}) == table.NOT_YET


@pytest.mark.parametrize("name", ["README.md", "docs/painters.md"])
def test_the_pages_tables_are_those_of_the_committed_results(table: ModuleType, name: str) -> None:
    part = {"README.md": table.readme_part, "docs/painters.md": table.page_part}[name]
    page = (ROOT / name).read_text()
    assert page == table.page_with(page, part(table.read_results())), (
        "run .venv/bin/python benchmarks/painter_table.py"
    )


def test_targets_are_for_the_weakest_and_the_slowest_seed(painters: ModuleType) -> None:
    seeds = [
        run_of("r3gan", 0, row(1, coverage=0.9) | {"agreement": 0.94}, process_minutes=4.5),
        run_of("r3gan", 1, row(1, coverage=0.86), process_minutes=10.5),
        run_of("dcgan", 0, row(1, coverage=0.1), process_minutes=99.0),
    ]
    known, *found = painters.targets(result(*seeds))
    assert (known.measured, known.reached) == (0.98, True)
    assert [target.measured for target in found] == [0.94, 0.86, 10.5]
    assert [target.reached for target in found] == [False, True, False]
    assert painters.targets(result(*seeds, labelled=False)) == []


def test_results_are_added_to_their_like_only(
    painters: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = result(run_of("flow", 0, row(32)))
    assert painters.earlier(None, "x", before) == painters.earlier(tmp_path, "x", before) == {}
    (tmp_path / "x.json").write_text(json.dumps(before))
    assert list(painters.earlier(tmp_path, "x", before)) == ["flow, seed 0"]
    # A file has six digits of a number.
    nearly = before | {"conditions": before["conditions"] | {"best_coverage": 0.9690000001}}
    assert painters.earlier(tmp_path, "x", nearly)
    for what, other in (
        ("minutes", 5.0), ("conditions", before["conditions"] | {"number": 1_000})
    ):  # fmt: skip
        with pytest.raises(SystemExit):
            painters.earlier(tmp_path, "x", before | {what: other})
        assert f"other {what}" in capsys.readouterr().err


def test_runs_stand_in_the_order_of_painters_and_seeds(painters: ModuleType) -> None:
    pairs = [("flow", 0), ("r3gan", 2), ("dcgan", 1), ("r3gan", 0)]
    found = {f"{p}, seed {s}": run_of(p, s) for p, s in pairs}
    assert list(painters.in_order(found)) == [
        "dcgan, seed 1", "r3gan, seed 0", "r3gan, seed 2", "flow, seed 0"
    ]  # fmt: skip


# --- pictures -------------------------------------------------------------------------------------


def test_a_sheet_has_a_named_row_for_each_painter_below_a_megabyte(
    runs: ModuleType, painters: ModuleType, tmp_path: Path
) -> None:
    known, shape = runs.DATA["breakout"], (3, 32, 32)
    count = 1 + sum(len(painter.ways) for painter in runs.PAINTERS.values())
    # The worst that there is: noise.
    noise = np.random.default_rng(0).integers(0, 256, (count, known.columns, *shape), np.uint8)
    path = tmp_path / "x.png"
    painters.write_sheet(path, [(f"row {k}", noise[k]) for k in range(count)], known.scale)
    assert path.stat().st_size < 1_000_000
    with Image.open(path) as opened:
        picture = np.asarray(opened.convert("RGB"))
    side, cell = 32 * known.scale, 32 * known.scale + 2
    margin = picture.shape[1] - known.columns * cell - 2
    top, left = 2 * (cell + 2) + 2, margin + 2 + 3 * cell  # row 2, column 3
    shown = picture[top : top + side : known.scale, left : left + side : known.scale]
    np.testing.assert_array_equal(shown, np.moveaxis(noise[2, 3], 0, -1))
    assert picture[:, :margin].std() > 0  # something is written there


# --- measuring ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_painters_are_measured_as_by_the_command(
    painters: ModuleType, runs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAYFIELD_DATA", str(tmp_path / "cache"))
    train, test, number = "digits,split=train", "digits,split=test", 1_498
    scores = painters.Scores(train, test, number, None, painters.QUICK_CLASSIFIER)
    folder = painted_run("flow")
    way = SamplerConfig("flow-euler", 1)
    learnt = runs.Learnt(
        runs.Painter("flow", "flow", {}, (way,)), Run.open(str(folder), folder.parent), None
    )
    (found,) = scores.of(learnt)
    out = tmp_path / "out.json"
    command = ["evaluate-images", str(folder), "--data", train, "--test-data", test, "-n", "1498"]
    command += ["--sampler", "flow-euler", "--steps", "1", "--out", str(out), "--device", "cpu"]
    assert main([*command, "--threads", "1"]) == 0
    (told,) = json.loads(out.read_text())["evaluations"]
    for name in ("n", "n_real", "frechet_distance", "kernel_distance", "recall", "coverage"):
        assert found["metrics"]["random"][name] == pytest.approx(told["metrics"][name]), name
    assert found["few"]["random"]["n"] == 299 and found["images_per_second"] > 0
    assert (found["nfe"], found["usual"], found["agreement"]) == (1, True, None)
    real = scores.of_test_images()
    assert real["memorisation_ratio"] == 1 and real["metrics"]["random"]["n"] == 299
    assert scores.real_examples(12).shape == (12, 1, 8, 8)


@pytest.mark.slow
def test_painters_are_trained_measured_and_shown(tmp_path: Path) -> None:
    chosen = ("--only", "r3gan", "consistency")
    found = quick("painters", tmp_path, *chosen, result="painters-digits")
    assert list(found["runs"]) == ["r3gan, seed 0", "consistency, seed 0"]
    for run in found["runs"].values():
        assert run["images_seen"] >= 128 and "--root" not in run["command"]
        assert run["process_minutes"] > run["minutes"] > 0 and run["images_per_second"] > 0
    ways = [[each["nfe"] for each in run["rows"]] for run in found["runs"].values()]
    assert ways == [[1], [1, 2]]
    gan, tuned = found["runs"].values()
    assert gan["teacher"] is None and gan["parameters"]["discriminator"] > 0
    assert tuned["init"]["run"] == tuned["teacher"]["run"]
    assert tuned["minutes"] > tuned["teacher"]["learned_minutes"] > 0
    assert found["real"]["memorisation_ratio"] == 1
    assert (tmp_path / "painters-digits.png").read_bytes().startswith(b"\x89PNG")
