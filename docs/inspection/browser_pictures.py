"""The pictures of docs/inspection.md that a browser shows: of TensorBoard and of the report.

Run it where that page's commands were run, once report.html is written. It takes Chromium and
playwright, which `make test-browser` installs, and writes beside itself or to --out.

    python docs/inspection/browser_pictures.py
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FloatRect

RUNS = 2  # that there are
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
#: Parts of TensorBoard's page, without its title and what is empty.
SCALARS: FloatRect = {"x": 0, "y": 64, "width": 1060, "height": 696}
GAME: FloatRect = {"x": 330, "y": 126, "width": 750, "height": 374}
#: Headings that the parts of the report begin with; each is so many pixels high, and so far apart.
PARTS = ("playfield: 2 runs", "playfield/Catch-v0 (catch)", "catch-dqn")
HEIGHT, GAP = 1180, 20
#: Milliseconds to wait for what has to come, and for curves and colours to settle.
PATIENCE, SETTLED = 600_000, 5_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", type=Path, default=Path("report.html"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        # As root Chromium starts only without its sandbox; it sees nothing but our own pages.
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox"], timeout=PATIENCE
        )
        with tensorboard() as address:
            take_tensorboard(browser, address, options.out)
        take_report(browser, options.report.resolve(), options.out / "report.png")
        browser.close()


@contextmanager
def tensorboard() -> Iterator[str]:
    """The address at which TensorBoard shows the runs meanwhile."""
    command = ["playfield", "tensorboard", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served:
        assert served.stdout is not None
        try:
            yield next(
                found.group()
                for line in served.stdout
                if (found := re.search(r"http://localhost:\d+/", line))
            )
        finally:
            served.terminate()


def take_tensorboard(browser: Browser, address: str, out: Path) -> None:
    """The returns with their spread, and a frame of the game of each run."""
    page = browser.new_page(viewport=DESK)
    page.set_default_timeout(PATIENCE)
    page.goto(f"{address}#custom_scalars", wait_until="commit")
    page.locator('tf-custom-scalar-margin-chart-card .area-plot path[d*="L"]').nth(
        RUNS - 1
    ).wait_for(state="attached")
    page.wait_for_timeout(SETTLED)
    page.screenshot(path=out / "tensorboard-scalars.png", clip=SCALARS)
    page.goto("about:blank")  # or else a new fragment is taken for a click
    page.goto(f"{address}#images", wait_until="commit")
    page.locator("#main-image-container img").nth(RUNS - 1).wait_for()
    page.wait_for_timeout(SETTLED)
    page.screenshot(path=out / "tensorboard-game.png", clip=GAME)
    page.close()


def take_report(browser: Browser, report: Path, out: Path) -> None:
    """Three parts of the report, as a phone shows them, side by side."""
    context = browser.new_context(viewport=PHONE, is_mobile=True)
    page = context.new_page()
    page.goto(report.as_uri())
    page.wait_for_function("[...document.images].every(image => image.complete)")
    starts = []
    for title in PARTS:
        box = page.get_by_role("heading", name=title, exact=True).first.bounding_box()
        assert box is not None, title
        starts.append(round(max(0, box["y"] - 12)))
    whole = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    width = whole.width + GAP
    sheet = Image.new("RGB", (len(PARTS) * width - GAP, HEIGHT), (119, 119, 119))
    for number, start in enumerate(starts):
        part = whole.crop((0, start, whole.width, min(start + HEIGHT, whole.height)))
        sheet.paste(part, (number * width, 0))
    sheet.save(out)
    context.close()


if __name__ == "__main__":
    main()
