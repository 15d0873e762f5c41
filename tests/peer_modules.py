"""Single modules of other libraries, to hold ours against (extra `bench`)."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

import pytest


def torch_fidelity_module(name: str) -> ModuleType:
    """`torch_fidelity.<name>`, without what the package imports besides, such as torchvision.

    Skips the test where torch-fidelity is not installed.
    """
    spec = importlib.util.find_spec("torch_fidelity")
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("the comparison is with torch-fidelity, which is not installed (extra `bench`)")
    package = ModuleType("torch_fidelity")
    package.__path__ = list(spec.submodule_search_locations)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch_fidelity", package)
        return importlib.import_module(f"torch_fidelity.{name}")
