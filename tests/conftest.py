"""What all tests share: the same examples each time, and GPU tests that say why they skip."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported, and for the processes that tests start: toy networks gain nothing from a
# second thread, and two threads that wait for each other crawl where the cores are shared.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# What a shell starts in the background ignores Ctrl-C, and so would all processes that tests start
# and interrupt: they inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run and no clock: a slow machine is not a failure.
settings.register_profile("playfield", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("playfield")

ROOT = Path(__file__).resolve().parent.parent
NO_GPU = "needs a CUDA device, and torch sees none here"


class PlainRoot:
    """The root has an __init__.py, and pytest would import it a second time, by its folder's name.

    A plugin of its own, because a conftest is not asked about the directory above it.
    """

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(
        self, path: Path, parent: pytest.Collector
    ) -> pytest.Collector | None:
        return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(PlainRoot())


@pytest.fixture(autouse=True)
def torch_as_it_started() -> Iterator[None]:
    """A command run in this process gives torch all cores and flushes subnormals; undo both."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        torch.set_flush_denormal(False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none; it stays collected and is reported."""
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_items:
        return
    import torch  # seconds to import, so only for those who need it

    if not torch.cuda.is_available():
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason=NO_GPU))
