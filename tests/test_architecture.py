"""Who may import whom, and what no file of the package may do, read from the syntax trees."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent

#: What each room may import of ours; `atomic`, `cache` and `errors` are rooms of one file. cli.py
#: and __init__.py load everything lazily and are held to that by the tests on sys.modules below.
MAY_IMPORT = {
    "atomic": set[str](),
    "errors": set[str](),
    "cache": {"atomic", "errors"},
    "_ext": set[str](),
    "nets": set[str](),
    "buffers": {"_ext", "atomic", "errors"},
    "envs": {"buffers", "errors"},
    "training": {"atomic", "buffers", "errors"},
    "agents": {"buffers", "envs", "errors", "nets", "training"},
    "generative": {"atomic", "buffers", "cache", "errors", "nets", "training"},
    "evaluation": {"atomic", "buffers", "cache", "envs", "errors", "nets", "training"},
}
MAY_IMPORT["commands"] = set(MAY_IMPORT)
MAY_IMPORT["__init__"] = set(MAY_IMPORT) - {"commands"}
MAY_IMPORT["cli"] = set(MAY_IMPORT) - {"__init__"}
DIRECTORIES = sorted(room for room in MAY_IMPORT if (ROOT / room).is_dir())

VAGUE_NAMES = {"common", "helper", "helpers", "misc", "util", "utils"}
UNPICKLERS = {"_pickle", "cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}


def package_files() -> list[Path]:
    at_root = [path for path in ROOT.glob("*.py") if path.name != "setup.py"]
    return sorted(at_root + [path for room in DIRECTORIES for path in (ROOT / room).rglob("*.py")])


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of every import, those by a string such as "playfield.envs" too.

    `from a import b` counts as a.b, because b may be a module; a relative import begins with a dot.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.fullmatch(r"playfield(\.\w*)+", node.value):
                yield node.lineno, node.value


def tracked_files() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def forbidden_imports(room: str, tree: ast.Module) -> list[str]:
    """What `tree`, a file of `room`, imports of ours against the rules."""
    wrong = []
    for line, name in imports(tree):
        first, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if name.startswith("."):
            wrong.append(f"{line}: a relative import; write playfield.…")
        elif first in DIRECTORIES:
            wrong.append(f"{line}: {name}; it is called playfield.{name}")
        elif first == "playfield" and target in MAY_IMPORT:
            if target not in MAY_IMPORT[room] | {room}:
                wrong.append(f"{line}: {room} must not import {target}")
    return wrong


def test_every_room_imports_only_what_the_design_allows() -> None:
    assert DIRECTORIES and len(package_files()) > len(DIRECTORIES)
    wrong = [
        f"{path.relative_to(ROOT)}:{problem}"
        for path in package_files()
        for problem in forbidden_imports(room_of(path), tree_of(path))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("agents", "from playfield.generative.gan import Gan"),
        ("agents", "from playfield import generative"),
        ("generative", "import playfield.agents.dqn as dqn"),
        ("generative", "import importlib; importlib.import_module('playfield.agents.dqn')"),
        ("training", "def later():\n    from playfield.envs import make"),
        ("nets", "from playfield.errors import UserError"),
        ("commands", "from playfield.cli import main"),
        ("envs", "from . import contract"),
        ("evaluation", "import agents"),
        ("evaluation", "from playfield.generative.images import ImageData"),
        ("evaluation", "from envs.contract import VectorStep"),
    ],
)
def test_the_import_rules_catch(room: str, line: str) -> None:
    assert forbidden_imports(room, ast.parse(line))


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("agents", "from playfield.envs.contract import VectorEnv"),
        ("agents", "from playfield.agents.presets import PRESETS"),
        ("buffers", "from playfield._ext import gather"),
        ("evaluation", "import json"),
        ("evaluation", "from playfield.nets.inception import FIDInception"),
    ],
)
def test_the_import_rules_allow(room: str, line: str) -> None:
    assert not forbidden_imports(room, ast.parse(line))


def test_nets_know_torch_and_nothing_else() -> None:
    wrong = [
        f"{path.name}:{line}: {name}"
        for path in sorted((ROOT / "nets").rglob("*.py"))
        for line, name in imports(tree_of(path))
        if name.partition(".")[0] not in {"torch", "playfield", *sys.stdlib_module_names}
    ]
    assert not wrong, wrong


def test_kernels_import_nothing_but_the_language() -> None:
    kernels = sorted((ROOT / "_ext").glob("*.pyx"))
    assert kernels
    for path in kernels:
        source = path.read_text(encoding="utf-8")
        statement = r"^\s*(?:from|import|cimport)\s+([\w.]+)(?=\s+c?import|\s*$)"
        modules = re.findall(statement, source, re.MULTILINE)
        allowed = {"cpython", "cython", "libc", *sys.stdlib_module_names}
        allowed |= {shared.stem for shared in path.parent.glob("*.pxd")}  # inline, nothing more
        assert {module.partition(".")[0] for module in modules} <= allowed, path.name


def test_what_the_package_imports_is_declared_as_a_dependency() -> None:
    declared = {
        Requirement(line).name.lower()
        for line in metadata.requires("playfield") or ()
        if "extra ==" not in line
    }
    providers = metadata.packages_distributions()
    undeclared = {
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in package_files()
        for line, name in imports(tree_of(path))
        # Type checkers have `_typeshed` within; nothing imports it at run time.
        if (first := name.partition(".")[0])
        not in {"playfield", "_typeshed", *sys.stdlib_module_names}
        and not declared & {provider.lower() for provider in providers.get(first, [])}
    }
    assert not undeclared, undeclared


def test_tests_and_scripts_import_rooms_only_through_playfield() -> None:
    for folder in ("tests", "benchmarks", "examples"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for line, name in imports(tree_of(path)):
                first = name.partition(".")[0]
                assert first not in DIRECTORIES, f"{path.relative_to(ROOT)}:{line}: {name}"


def executes_data(tree: ast.Module) -> list[str]:
    """Ways in which loading a file could run what the file says."""
    wrong = [
        f"{line}: import {name}"
        for line, name in imports(tree)
        if name.partition(".")[0] in UNPICKLERS
    ]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if called in {"eval", "exec", "compile", "torch.save", "yaml.load"}:
            wrong.append(f"{node.lineno}: {called}()")
        # Others' weights come in torch's own format; so read, it yields tensors and nothing else.
        if called == "torch.load" and options.get("weights_only") != "True":
            wrong.append(f"{node.lineno}: {called}(), not weights_only")
        if options.get("allow_pickle", "False") != "False":
            wrong.append(f"{node.lineno}: {called}(allow_pickle=...)")
    return wrong


def test_loading_never_executes_code() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{problem}"
        for path in package_files()
        for problem in executes_data(tree_of(path))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from cloudpickle import loads",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "eval(text)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_the_rule_on_executing_data_catches(line: str) -> None:
    assert executes_data(ast.parse(line))


def test_there_is_one_way_to_batch() -> None:
    """Agents and painters alike read the frame store through its samplers, and nothing else."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in package_files()
        for line, name in imports(tree_of(path))
        if name.startswith(("torch.utils.data", "torchvision", "sklearn.utils"))
        or "DataLoader" in name
    ]
    assert not wrong, wrong
    learners = {
        "agents/replay.py": {"uniform", "prioritized"},  # of the DQN family
        "agents/collector.py": {"rollout"},  # of the policy gradients and PQN
        "generative/denoiser_trainer.py": {"epochs"},
        "generative/classifier_trainer.py": {"epochs"},
    }
    for file, samplers in learners.items():
        names = {name for _, name in imports(tree_of(ROOT / file))}
        for sampler in samplers:
            assert any(name.startswith(f"playfield.buffers.{sampler}.") for name in names), file


def test_names_say_what_things_are() -> None:
    vague = [
        str(path.relative_to(ROOT))
        for path in tracked_files()
        if VAGUE_NAMES & {part.partition(".")[0] for part in path.relative_to(ROOT).parts}
    ]
    assert not vague, vague


def test_no_tracked_file_names_a_path_of_one_machine() -> None:
    machine_path = re.compile(rb"(?<![\w.$}~-])/(home|root|work|Users|mnt|opt)/\w[^\s\"'`]*")
    found = [
        f"{path.relative_to(ROOT)}: {match.group().decode(errors='replace')}"
        for path in tracked_files()
        if b"\0" not in (content := path.read_bytes())  # pictures and the like
        for match in machine_path.finditer(content)
    ]
    assert not found, "\n".join(found)


def modules_after(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after `statement`."""
    program = f"import sys\n{statement}\nsys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT.parent
    )
    return {name.partition(".")[0] for name in done.stderr.split()}


HEAVY = {"ale_py", "gymnasium", "matplotlib", "numpy", "rich", "tensorboard", "torch", "tyro"}


@pytest.mark.parametrize(
    "statement",
    [
        "import playfield; playfield.__version__; dir(playfield)",
        "from playfield.cli import main; main(['--help'])",
        "from playfield.cli import main; main(['--version'])",
    ],
)
def test_start_up_loads_nothing_heavy(statement: str) -> None:
    loaded = modules_after(statement)
    assert "playfield" in loaded
    assert not loaded & HEAVY


def test_every_public_name_resolves() -> None:
    import playfield

    for name in playfield.__all__:
        assert getattr(playfield, name) is not None
    assert set(playfield.__all__) <= set(dir(playfield))
    with pytest.raises(AttributeError, match="no attribute 'atari'"):
        playfield.atari  # noqa: B018
