"""Short real runs, TensorBoard on them, and a real browser before it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tensorboard_page import PATIENCE, TensorBoardPage

from playfield.cli import main

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

#: Seconds until a film that shows the same picture stands still; the longest pause in one is short,
#: but a browser on busy cores draws late.
STILL = 120.0

#: What each family trains with for a second or two, evaluations included.
AGENT = ("--env", "playfield/Catch-v0", "--num-envs", "2", "--hidden", "8")
GAMES = ("--evaluate-episodes", "2")
DIGITS = (
    *("--data", "digits", "--batch-size", "32", "--precision", "float32"),
    *("--evaluate-images", "257"),
)
SHORT = ("--threads", "1", "--device", "cpu")
RUNS = {
    "dqn": (
        *("dqn", *AGENT, *GAMES, "--buffer-size", "400", "--learning-starts", "40"),
        *("--batch-size", "8", "--update-every", "8", "--log-every", "20"),
        *("--steps", "200", "--evaluate-every", "100", "--checkpoint-every", "100"),
    ),
    "ppo": (
        *("ppo", *AGENT, *GAMES, "--num-steps", "16", "--log-every", "64"),
        *("--steps", "256", "--evaluate-every", "128", "--checkpoint-every", "128"),
    ),
    "gan": (
        *("gan", *DIGITS, "--generator-channels", "8", "--discriminator-channels", "8"),
        *("--group-channels", "8", "--latent", "8", "--class-features", "8"),
        *("--steps", "320", "--log-every", "96", "--evaluate-every", "160"),
    ),
    "diffusion": (
        *("diffusion", *DIGITS, "--base-channels", "8", "--channel-mult", "1", "2"),
        *("--blocks", "1", "--heads", "1"),
        *("--steps", "320", "--log-every", "96", "--evaluate-every", "160"),
    ),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(3600))  # the first test waits for all that it needs


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the runs dqn, ppo, gan and diffusion; dqn was resumed once."""
    root = tmp_path_factory.mktemp("runs")
    for name, args in RUNS.items():
        assert main(["train", *args, *SHORT, "--run", name, "--root", str(root)]) == 0
    assert main(["resume", "dqn", "--steps", "300", "--threads", "1", "--root", str(root)]) == 0
    return root


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    api = pytest.importorskip(
        "playwright.sync_api", reason="no playwright here: make test-browser installs it"
    )
    found = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if found is None:
        pytest.skip("no Chromium here: make test-browser installs it where apt-get can")
    with api.sync_playwright() as playwright:
        # As root Chromium starts only without its sandbox; it sees nothing but our own pages.
        chromium = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox"], timeout=PATIENCE
        )
        yield chromium
        chromium.close()


@contextmanager
def opened(browser: Browser, **screen: Any) -> Iterator[Page]:
    """An empty page on a screen; what goes wrong in its scripts fails the test."""
    context = browser.new_context(**screen)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert not errors


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page on a desk."""
    with opened(browser, viewport={"width": 1400, "height": 1000}) as fresh:
        yield fresh


@pytest.fixture
def phone(browser: Browser) -> Iterator[Page]:
    """An empty page in a hand: a page says itself that it fits, or is shown 980 pixels wide."""
    screen = {"width": 390, "height": 844}
    with opened(browser, viewport=screen, is_mobile=True, has_touch=True) as fresh:
        yield fresh


@pytest.fixture(scope="session")
def address(runs: Path) -> Iterator[str]:
    """Where `playfield tensorboard` serves `runs`, read from what it prints."""
    program = "import sys; from playfield.cli import main; sys.exit(main(sys.argv[1:]))"
    command = ["tensorboard", "--port", "0", "--root", str(runs)]
    with subprocess.Popen(
        [sys.executable, "-c", program, *command], stdout=subprocess.PIPE, text=True
    ) as served:
        assert served.stdout is not None
        found = None
        while found is None:
            line = served.stdout.readline()
            assert line, "playfield tensorboard has ended"
            found = re.search(r"http://localhost:\d+/", line)
        yield found.group()
        served.terminate()


@pytest.fixture
def moves() -> Callable[[Locator], bool]:
    """Whether what an element shows changes within `STILL` seconds."""

    def changes(shown: Locator) -> bool:
        first, deadline = shown.screenshot(), time.monotonic() + STILL
        while time.monotonic() < deadline:
            if shown.screenshot() != first:
                return True
        return False

    return changes


@pytest.fixture
def tensorboard(page: Page, address: str) -> TensorBoardPage:
    return TensorBoardPage(page, address)
