"""What a wheel and an sdist hold, that they work elsewhere, and that the lock suits everybody."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

#: Directories of Python files that stay in the repository.
NOT_SHIPPED = {"benchmarks", "docs", "examples", "runs", "tests"}


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """The command's output; a failure shows all that it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **env},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}"
    return done.stdout


def source_files() -> list[str]:
    """What git would commit, relative to the root; nothing that was built or downloaded."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    return sorted(name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file())


def shipped_sources() -> set[str]:
    """Every Python file, stub and page that is not left in the repository on purpose; py.typed."""
    files = {
        name
        for name in source_files()
        if name.endswith((".py", ".pyi", ".html"))
        and name.partition("/")[0] not in NOT_SHIPPED
        and not name.startswith(".")
    }
    return files - {"setup.py"} | {"py.typed"}


def kernel_names() -> set[str]:
    return {path.stem for path in (ROOT / "_ext").glob("*.pyx")}


@dataclass(frozen=True)
class SetupCall:
    """What setup.py hands to setuptools."""

    packages: set[str]
    extensions: dict[str, list[str]]  # name: sources


@pytest.fixture(scope="module")
def setup_call() -> SetupCall:
    program = (
        "from setuptools import Distribution\n"
        "from distutils.core import run_setup\n"
        "import json\n"
        "made = run_setup('setup.py', stop_after='init')\n"
        "extensions = {extension.name: extension.sources for extension in made.ext_modules}\n"
        "print(json.dumps([made.packages, extensions]))\n"
    )
    packages, extensions = json.loads(
        run(sys.executable, "-W", "ignore", "-c", program, cwd=ROOT).splitlines()[-1]
    )
    return SetupCall(set(packages), extensions)


def test_no_directory_of_the_package_is_forgotten(setup_call: SetupCall) -> None:
    parents = {Path(name).parent for name in shipped_sources() if name.endswith(".py")}
    assert setup_call.packages == {".".join(("playfield", *parent.parts)) for parent in parents}
    for parent in parents:
        assert (ROOT / parent / "__init__.py").is_file(), f"{parent} has no __init__.py"


def test_every_kernel_is_compiled(setup_call: SetupCall) -> None:
    expected = {f"playfield._ext.{name}": [f"_ext/{name}.pyx"] for name in kernel_names()}
    assert setup_call.extensions == expected


def test_kernels_are_built_for_any_processor_and_without_openmp() -> None:
    for name in ("setup.py", "pyproject.toml", "Makefile"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not re.search(r"-march|-mtune|-mcpu|-ffast-math|openmp", text.replace("OpenMP", ""))
    for path in sorted((ROOT / "_ext").glob("*.pyx")):
        assert not re.search(r"\bprange\b|cython\.parallel", path.read_text(encoding="utf-8"))


def test_no_kernel_links_an_openmp_runtime() -> None:
    """The names of the libraries a module needs stand in it as plain bytes, whatever its format."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for name in sorted(kernel_names()):
        binary = ROOT / "_ext" / f"{name}{suffix}"
        assert binary.is_file(), f"{binary.name} is not built here: make venv"
        found = re.findall(rb"libi?g?omp[\w.]*|vcomp\d*|GOMP_\w+|__kmpc_\w+", binary.read_bytes())
        assert not found, f"{binary.name}: {found}"


@pytest.mark.parametrize("name", sorted(kernel_names()))
def test_a_stub_says_what_its_kernel_offers(name: str) -> None:
    kernel = importlib.import_module(f"playfield._ext.{name}")
    stub = ast.parse((ROOT / "_ext" / f"{name}.pyi").read_text(encoding="utf-8"))
    functions = {
        node.name: [argument.arg for argument in node.args.args]
        for node in stub.body
        if isinstance(node, ast.FunctionDef)
    }
    constants = {node.target.id for node in stub.body if isinstance(node, ast.AnnAssign)}
    public = {key: value for key, value in vars(kernel).items() if not key.startswith("_")}
    assert functions == {
        key: list(inspect.signature(value).parameters)
        for key, value in public.items()
        if type(value).__name__ in ("cython_function_or_method", "fused_cython_function")
    }
    assert constants == {key for key, value in public.items() if isinstance(value, int)}


def locked(name: str) -> dict[str, str]:
    """Package and version of each line of a lock; every line must be exactly that."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith(("#", "-r requirements.lock"))]
    for pin in pins:
        # No hash, index, address or local tag (torch's +cpu): they bind the lock to one machine.
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", pin), f"{name}: {pin}"
    assert len(pins) == len({pin.partition("==")[0] for pin in pins}), f"{name}: a name twice"
    return dict(pin.split("==") for pin in pins)


def test_the_lock_pins_torch_and_nothing_of_one_vendor() -> None:
    pins = locked("requirements.lock")
    assert pins["torch"] == "2.13.0"
    assert not [name for name in pins if name.startswith(("nvidia", "cuda", "triton"))]


@pytest.mark.parametrize(
    ("lock", "requirements"),
    [
        ("requirements.lock", PROJECT["dependencies"]),
        ("requirements.lock", PROJECT["optional-dependencies"]["dev"]),
        ("requirements-bench.lock", PROJECT["optional-dependencies"]["bench"]),
        ("requirements-browser.lock", PROJECT["optional-dependencies"]["browser"]),
    ],
)
def test_the_lock_fulfils_what_the_project_asks_for(lock: str, requirements: list[str]) -> None:
    pins = locked("requirements.lock") | locked(lock)
    for line in requirements:
        requirement = Requirement(line)
        version = pins.get(canonicalize_name(requirement.name))
        assert version, f"{lock} lacks {requirement.name}: make lock"
        assert requirement.specifier.contains(version), f"{lock}: {requirement.name}=={version}"


@pytest.fixture(scope="module")
def source_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git would commit, in a folder of another name than the package."""
    tree = tmp_path_factory.mktemp("sources") / "some-checkout"
    for name in source_files():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name)
    return tree


@pytest.fixture(scope="module")
def distributions(source_tree: Path) -> tuple[Path, Path]:
    """(sdist, wheel). `build` makes the wheel from the unpacked sdist, which must suffice."""
    run(sys.executable, "-m", "build", "--no-isolation", cwd=source_tree)
    (sdist,) = (source_tree / "dist").glob("*.tar.gz")
    (wheel,) = (source_tree / "dist").glob("*.whl")
    return sdist, wheel


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def expected_in_wheel() -> set[str]:
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    return {f"playfield/{name}" for name in shipped_sources()} | {
        f"playfield/_ext/{name}{suffix}" for name in kernel_names()
    }


@pytest.mark.slow
def test_a_wheel_holds_exactly_the_files_of_the_package(distributions: tuple[Path, Path]) -> None:
    files = contents(distributions[1])
    own = {name for name in files if ".dist-info/" not in name}
    assert own == expected_in_wheel()
    licences = {name.rpartition("/")[2] for name in files if "/licenses/" in name}
    assert licences == {"LICENSE", "NOTICE"}
    for name in own:
        if not name.endswith((".so", ".pyd")):
            assert files[name] == (ROOT / name.removeprefix("playfield/")).read_bytes()


@pytest.mark.slow
def test_a_wheel_of_the_tree_and_one_of_the_sdist_hold_the_same(
    source_tree: Path, distributions: tuple[Path, Path], tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(source_tree, tree, ignore=shutil.ignore_patterns("dist", "build", "*.egg-info"))
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", cwd=tree)
    (direct,) = (tree / "dist").glob("*.whl")
    assert set(contents(direct)) == set(contents(distributions[1]))


@pytest.mark.slow
def test_an_sdist_holds_sources_and_nothing_built(distributions: tuple[Path, Path]) -> None:
    with tarfile.open(distributions[0]) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    kernels = {f"_ext/{name}.pyx" for name in kernel_names()}
    assert {
        "setup.py",
        "pyproject.toml",
        "LICENSE",
        "NOTICE",
    } | kernels | shipped_sources() <= files
    assert not [name for name in files if name.endswith((".so", ".pyd", ".c", ".pyc"))]
    assert not {name.partition("/")[0] for name in files} & (NOT_SHIPPED | {"build", ".venv"})


def environment(folder: Path) -> Path:
    """The interpreter of a new virtual environment that shares our dependencies, but not playfield.

    A path file lists our site-packages; path files *in there*, the editable install's among them,
    are not read.
    """
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    theirs = Path(run(python, "-c", ask, cwd=folder.parent).strip())
    ours = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (theirs / "shared.pth").write_text("\n".join(sorted(ours)) + "\n", encoding="utf-8")
    return python


#: Gathers frames with a compiled kernel, steps a world, and looks for rooms at the top level.
WORK = """
import importlib.util, sys
from pathlib import Path
import numpy as np
import playfield
from playfield._ext import gather
assert Path(playfield.__file__).parent == Path(sys.argv[1]), playfield.__file__
table = np.arange(12, dtype=np.uint8).reshape(4, 3)
out = np.empty((2, 3), np.uint8)
gather.gather_rows(table, np.array([2, -1]), out)
assert out.tolist() == [[6, 7, 8], [0, 0, 0]]
env = playfield.envs.make("playfield/Catch-v0", num_envs=2)
env.reset(0)
assert env.step(np.zeros(2, np.int64)).frames.dtype == np.uint8
for room in sys.argv[2:]:
    assert importlib.util.find_spec(room) is None, room
print("works", playfield.__version__)
"""


def assert_works(python: Path, package: Path, elsewhere: Path) -> None:
    """The package does real work in `python` outside the repository, and only as `playfield`."""
    rooms = {name.partition("/")[0] for name in shipped_sources() if "/" in name}
    said = run(python, "-I", "-W", "error", "-c", WORK, package, *sorted(rooms), cwd=elsewhere)
    assert said.splitlines()[-1] == f"works {PROJECT['version']}"
    command = python.with_name("playfield")
    assert PROJECT["version"] in run(command, "--version", cwd=elsewhere)
    assert "train" in run(command, "--help", cwd=elsewhere)


@pytest.mark.slow
def test_a_wheel_works_in_a_clean_environment(
    distributions: tuple[Path, Path], tmp_path: Path
) -> None:
    python = environment(tmp_path / "clean")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    run(*pip, "--no-deps", "--no-index", distributions[1], cwd=tmp_path)
    ask = "import sysconfig; print(sysconfig.get_path('platlib'))"
    site_packages = Path(run(python, "-c", ask, cwd=tmp_path).strip())
    assert_works(python, site_packages / "playfield", tmp_path)


@pytest.mark.slow
def test_an_editable_install_builds_in_place(source_tree: Path, tmp_path: Path) -> None:
    tree = tmp_path / "any name"
    shutil.copytree(source_tree, tree, ignore=shutil.ignore_patterns("dist", "build", "*.egg-info"))
    python = environment(tmp_path / "clean")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    run(*pip, "--no-deps", "--no-index", "--no-build-isolation", "-e", tree, cwd=tmp_path)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    built = {path.name for path in (tree / "_ext").iterdir()} - {
        Path(name).name for name in source_files() if name.startswith("_ext/")
    }
    assert built == {f"{name}{suffix}" for name in kernel_names()}
    assert_works(python, tree, tmp_path)


@pytest.mark.slow
def test_a_type_checker_resolves_the_package_through_the_link(
    source_tree: Path, tmp_path: Path
) -> None:
    """`make types` finds the files; a wrong call into playfield is an error, no unknown name."""
    link = tmp_path / "typing" / "playfield"
    link.parent.mkdir()
    link.symlink_to(source_tree, target_is_directory=True)
    script = tmp_path / "script.py"
    script.write_text(
        "import playfield\n"
        "from playfield._ext import gather\n"
        "gather.gather_rows(1, 2, 3)\n"
        "reveal_type(playfield.envs.make('playfield/Catch-v0', num_envs=2))\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file=", "--cache-dir", tmp_path / "cache", script],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(link.parent)},
        text=True,
        capture_output=True,
        check=False,
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("script.py")]
    assert any('Argument 1 to "gather_rows"' in line for line in said), done.stdout
    assert any("contract.VectorEnv" in line for line in said), done.stdout
