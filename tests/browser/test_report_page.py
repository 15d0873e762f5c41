"""The page of `playfield report` in a real browser, as wide as a phone and by night."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from playfield.cli import main

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

RUNS = ("dqn", "ppo", "gan", "diffusion")

#: What sticks out of the page to the right, boxes that scroll by themselves excepted.
STICKING_OUT = """() => [...document.body.querySelectorAll("*")].filter(element => {
    if (element.getBoundingClientRect().right <= document.documentElement.clientWidth + 1)
        return false;
    for (let box = element.parentElement; box; box = box.parentElement)
        if (["auto", "scroll", "hidden"].includes(getComputedStyle(box).overflowX)) return false;
    return true;
}).map(element => element.outerHTML.slice(0, 200))"""

BROKEN_PICTURES = """() => [...document.images].filter(
    image => !(image.complete && image.naturalWidth > 0)).map(image => image.alt)"""


@pytest.fixture(scope="module")
def report(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    chosen = ("--root", str(runs), "-o", str(path), "--film", "2")
    assert main(["report", *RUNS, *chosen]) == 0
    return path


@pytest.fixture
def opened(phone: Page, report: Path) -> Iterator[Page]:
    """The report on a phone's screen; that it asks for nothing from anywhere is seen at the end."""
    asked: list[str] = []
    phone.on("request", lambda request: asked.append(request.url))
    phone.goto(report.as_uri())
    yield phone
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]


def test_nothing_sticks_out_of_a_phones_screen(opened: Page) -> None:
    assert opened.evaluate("window.innerWidth") == 390
    for unfold in (False, True):
        opened.locator("details").evaluate_all(
            "(all, open) => all.forEach(one => one.open = open)", unfold
        )
        assert opened.evaluate(STICKING_OUT) == []
        assert opened.evaluate("document.documentElement.scrollWidth") <= 390


def test_its_words_are_large_enough_to_read_on_a_phone(opened: Page) -> None:
    sizes = opened.locator("p, li, td, th").evaluate_all(
        "all => all.map(element => parseFloat(getComputedStyle(element).fontSize))"
    )
    assert sizes and min(sizes) >= 12


def test_its_pictures_and_films_are_shown(opened: Page) -> None:
    opened.wait_for_function("[...document.images].every(image => image.complete)")
    assert opened.evaluate(BROKEN_PICTURES) == []
    films = opened.locator('img[src^="data:image/gif"], img[src^="data:image/apng"], video')
    assert films.count() == 2  # of the two agents
    charts = opened.locator('svg, img[src^="data:image/svg"]')
    assert charts.count() >= 4
    for run in RUNS:
        opened.get_by_text(run, exact=True).first.wait_for()


def test_a_film_in_it_moves(opened: Page, moves: Callable[[Locator], bool]) -> None:
    film = opened.locator('img[src^="data:image/gif"]').first
    film.scroll_into_view_if_needed()
    assert moves(film)


def test_by_night_it_is_dark(opened: Page) -> None:
    shades = []
    for scheme in ("light", "dark"):
        opened.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        shown = opened.locator("body").evaluate(
            """body => {
                const paint = document.createElement("canvas").getContext("2d");
                const shade = colour => {
                    paint.fillStyle = colour;
                    paint.fillRect(0, 0, 1, 1);
                    const [red, green, blue] = paint.getImageData(0, 0, 1, 1).data;
                    return (red + green + blue) / 3;
                };
                const page = getComputedStyle(document.documentElement).backgroundColor;
                const own = getComputedStyle(body).backgroundColor;
                const transparent = "rgba(0, 0, 0, 0)";
                const ground = own !== transparent ? own : page !== transparent ? page : "white";
                return [shade(ground), shade(getComputedStyle(body).color)];
            }"""
        )
        shades.append(shown)
    (day, ink), (night, chalk) = shades
    assert day - ink > 128 and chalk - night > 128
