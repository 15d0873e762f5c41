"""How pytest meets this tree: markers, skips, and a root that is a package."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

ONE_GPU_TEST = """
    import pytest

    @pytest.mark.gpu
    def test_on_the_device():
        raise AssertionError("ran")

    def test_anywhere():
        pass
"""

STAND_IN = """
    class cuda:
        is_available = staticmethod(lambda: {device})

    def set_num_threads(threads): pass
    def set_flush_denormal(mode): pass
"""


def run_under_our_conftest(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, device: bool
) -> pytest.RunResult:
    """A pytest of its own on `ONE_GPU_TEST`, in a process where `torch` is a stand-in."""
    pytester.makeini("[pytest]\nmarkers =\n    gpu: needs a device")
    pytester.makeconftest((ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"))
    pytester.makepyfile(ONE_GPU_TEST)
    pytester.makepyfile(torch=STAND_IN.format(device=device))
    monkeypatch.setenv("PYTHONPATH", str(pytester.path))
    return pytester.runpytest_subprocess("-rs", "-p", "no:cacheprovider")


def test_gpu_tests_are_collected_and_skipped_with_a_reason_where_there_is_no_gpu(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run_under_our_conftest(pytester, monkeypatch, device=False)
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*SKIPPED*needs a CUDA device*"])


def test_gpu_tests_run_where_there_is_a_gpu(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run_under_our_conftest(pytester, monkeypatch, device=True)
    result.assert_outcomes(passed=1, failed=1)


def test_pytest_imports_the_root_only_as_playfield() -> None:
    import playfield

    root_init = ROOT / "__init__.py"
    names = [
        name
        for name, module in list(sys.modules.items())
        if (file := getattr(module, "__file__", None)) and Path(file) == root_init
    ]
    assert names == ["playfield"]
    assert Path(playfield.__file__).samefile(root_init)
    assert str(ROOT) not in sys.path, "start tests by `pytest`, not `python -m pytest`"


def test_tests_are_not_a_package() -> None:
    """With an __init__.py, pytest would climb to the root and import it under its folder's name."""
    assert not list((ROOT / "tests").rglob("__init__.py"))


@pytest.mark.parametrize("turn", ["first", "second"])
def test_a_test_does_not_inherit_what_the_one_before_told_torch(turn: str) -> None:
    import torch

    assert torch.get_num_threads() == int(os.environ["OMP_NUM_THREADS"])
    assert torch.tensor(1e-310, dtype=torch.float64) * 1 > 0
    torch.set_num_threads(3)
    torch.set_flush_denormal(True)
