"""TensorBoard's page as its reader finds his way through it, driven by playwright.

The elements have the names that TensorBoard 2.18 to 2.21 gives them. Nothing here sleeps: each step
waits for what the page itself shows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

#: Milliseconds to wait for what has to come: the page is six megabytes of script, and the machine
#: may have much else to do.
PATIENCE = 600_000

#: A table's rows as the texts of their cells, header first, for vaadin-grid keeps cells elsewhere.
GRID_ROWS = """grid => [...grid.shadowRoot.querySelectorAll("thead tr, tbody tr")]
    .map(row => [...row.querySelectorAll("slot")].map(
        slot => slot.assignedNodes().map(node => node.textContent.trim()).join(" ")))"""


class TensorBoardPage:
    """One tab of TensorBoard at a time. Methods return what is shown, once it is."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self._address = address

    def open(self, tab: str, tags: str = "") -> None:
        """Show `tab`, as named in the address, cut down to the tags that match `tags`."""
        # A page that is open already would take a new fragment for a click within it.
        self.page.goto("about:blank")
        chosen = f"&tagFilter={quote(tags, safe='')}" if tags else ""
        self.page.goto(f"{self._address}#{tab}{chosen}", wait_until="commit")

    def card(self, element: str, title: str, run: str | None = None) -> Locator:
        """The card of one tag (of one `run`): of the custom element's name and the title it has."""
        whole = re.compile(rf"^\s*{re.escape(title)}\s*$")
        found = self.page.locator(element).filter(
            has=self.page.locator(".heading-label.name", has_text=whole)
        )
        if run is not None:
            name = re.compile(rf"^\s*{re.escape(run)}\s*$")
            found = found.filter(has=self.page.locator("#heading-run", has_text=name))
        return found.first

    def lines(self, card: Locator, least: int) -> list[list[float]]:
        """Where the points of each line in `card` lie, from the left, once so many are drawn."""
        drawn = card.locator('.line-plot:not(.ghost):not(.area-plot) path[d*="L"]')
        drawn.nth(least - 1).wait_for(state="attached")
        paths = drawn.evaluate_all("paths => paths.map(path => path.getAttribute('d'))")
        return [[float(x) for x in re.findall(r"[ML]([^,]+),", path)] for path in paths]

    def picture(self, card: Locator) -> Locator:
        """The picture of a card, once the browser has decoded it."""
        shown = card.locator("#main-image-container img")
        shown.wait_for()
        self.page.wait_for_function(
            "image => image.complete && image.naturalWidth > 0", arg=shown.element_handle()
        )
        shown.scroll_into_view_if_needed()
        return shown

    def frames(self, shown: Locator) -> dict[str, Any]:
        """What the browser's own decoder finds in a picture: `type`, `frames`, `animated`."""
        return dict(
            shown.evaluate(
                """async image => {
                    const reply = await fetch(image.src);
                    const type = reply.headers.get("content-type");
                    const decoder = new ImageDecoder({data: await reply.arrayBuffer(), type});
                    await decoder.tracks.ready;
                    const {frameCount, animated} = decoder.tracks.selectedTrack;
                    return {type, frames: frameCount, animated};
                }"""
            )
        )

    def grid(self, named: str) -> list[list[str]]:
        """The table of the page once a row of it begins with `named`: its rows, header first."""
        cell = re.compile(rf"^\s*{re.escape(named)}\s*$")
        self.page.locator("vaadin-grid-cell-content", has_text=cell).first.wait_for()
        return list(self.page.locator("vaadin-grid").first.evaluate(GRID_ROWS))

    def show_metric(self, name: str) -> None:
        """Have the table of settings show the metric `name`, which it does only with the first."""
        whole = re.compile(rf"^\s*{re.escape(name)}\s*$")
        self.page.locator(".metric-checkbox", has_text=whole).click()
        self.page.locator("vaadin-grid-cell-content", has_text=whole).first.wait_for()
