"""What the pages show is what the program does."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from playfield.agents.presets import PRESETS
from playfield.agents.registry import ALGORITHMS
from playfield.generative.presets import PRESETS as PAINTING_PRESETS

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


EXAMPLES = [(page, code) for page in PAGES for code in blocks(page, "python")]


@pytest.mark.parametrize(
    ("page", "code"), EXAMPLES, ids=[f"{p.name}-{i}" for i, (p, _) in enumerate(EXAMPLES)]
)
def test_a_python_example_runs_as_printed(page, code, tmp_path):
    script = tmp_path / "example.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr


def test_the_readme_has_examples():
    assert [page.name for page, _ in EXAMPLES].count("README.md") >= 2


def commands():
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.splitlines():
                command = line.partition("#")[0].split()
                if command[:1] == ["playfield"]:
                    yield pytest.param(command[1:], id=f"{page.name}: {' '.join(command[1:])}")


@pytest.mark.parametrize("command", list(commands()))
def test_a_command_on_a_page_has_the_options_it_shows(command, capsys, monkeypatch, tmp_path):
    from playfield.cli import main

    monkeypatch.setenv("PLAYFIELD_RUNS", str(tmp_path))
    # What learns from images takes settings of the run that it begins with, and no run is here.
    begun = command[0] == "train" and command[1] not in ALGORITHMS and "--init-from" in command
    if command[0] == "train" and not begun:
        assert main([*command, *([] if "--help" in command else ["--dry-run"])]) == 0
        return
    options = {word for word in command if word.startswith("--")}
    assert main([*command[: 2 if begun else 1], "--help"]) == 0
    assert options <= set(re.findall(r"--[a-z-]+", capsys.readouterr().out))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_on_its_algorithms_page(name):
    page = ROOT / "docs" / "algorithms" / f"{PRESETS[name].algorithm}.md"
    assert f"| `{name}` |" in page.read_text()


@pytest.mark.parametrize("name", PAINTING_PRESETS)
def test_every_painting_preset_is_on_its_algorithms_page(name):
    algorithm = PAINTING_PRESETS[name].algorithm
    page = {"reflow": "flow"}.get(algorithm, algorithm)
    assert f"| `{name}` |" in (ROOT / "docs" / "algorithms" / f"{page}.md").read_text()


def test_every_kind_of_data_is_on_its_page():
    from playfield.commands.data_sets import ALL_KINDS

    page = (ROOT / "docs" / "data.md").read_text()
    for name, kind in ALL_KINDS.items():
        assert f"`{name}:{kind.path}`" in page if kind.path else f"`{name}`" in page


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_field_of_an_algorithm_says_what_it_is(name):
    config = ALGORITHMS[name].load_config_type()
    (body,) = (
        node.body
        for node in ast.parse(inspect.getsource(config)).body
        if isinstance(node, ast.ClassDef)
    )
    for field, after in pairwise(body):
        if isinstance(field, ast.AnnAssign):
            said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            assert said, ast.unparse(field.target)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target
