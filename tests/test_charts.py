"""Charts: the same bytes from the same numbers, in files; readable letters, in terminals."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from playfield.evaluation.charts import DPI, SIZE, Series, compact, line_chart, value_range
from playfield.evaluation.terminal_chart import Abilities, abilities, line_plot

PLAIN = Abilities(columns=60, colour=False, unicode=False)
BRAILLE = Abilities(columns=60, colour=False, unicode=True)
COLOURED = Abilities(columns=60, colour=True, unicode=True)
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def rising(label: str = "rising") -> Series:
    x = np.arange(101.0)
    return Series(label, x, x, x - 10, x + 10)


def falling() -> Series:
    return Series("falling", np.arange(101.0), 100 - np.arange(101.0))


# --- files ---


@pytest.mark.parametrize("format", ["png", "svg"])
def test_the_same_numbers_give_the_same_bytes_whatever_the_user_set(format: str) -> None:
    import matplotlib

    first = line_chart([rising(), falling()], title="returns", format=format)  # type: ignore[arg-type]
    with matplotlib.rc_context({"lines.linewidth": 9, "figure.dpi": 10, "svg.hashsalt": "other"}):
        again = line_chart([rising(), falling()], title="returns", format=format)  # type: ignore[arg-type]
    assert first == again


def test_a_chart_is_a_picture_of_its_size() -> None:
    picture = Image.open(io.BytesIO(line_chart([rising()], format="png")))
    assert picture.size == (round(SIZE[0] * DPI), round(SIZE[1] * DPI))


def test_an_svg_stands_alone_and_holds_its_words() -> None:
    text = line_chart([rising()], title="episode/return", x_label="steps", y_label="points")
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg")
    for word in (b"episode/return", b"steps", b"points"):
        assert word in text  # in the comment beside the letters' shapes
    links = [v for e in root.iter() for n, v in e.attrib.items() if n.endswith("href")]
    assert links and all(link.startswith("#") for link in links)


@pytest.mark.parametrize("label", ["$x^2$ and \\frac", "_hidden", "日本", "<b>&", ""])
def test_a_label_is_taken_as_it_is(label: str) -> None:
    ElementTree.fromstring(line_chart([rising(label), falling()], title=label))


def test_a_legend_names_several_lines_and_not_a_single_one() -> None:
    assert b"falling" in line_chart([rising(), falling()])
    assert b"falling" not in line_chart([falling()])


@pytest.mark.parametrize(
    "series",
    [
        [],
        [Series("empty", np.zeros(0), np.zeros(0))],
        [Series("nothing finite", np.arange(3.0), np.full(3, np.nan))],
    ],
)
def test_a_chart_of_nothing_says_so(series: list[Series]) -> None:
    assert b"no points" in line_chart(series)
    assert len(line_plot(series, PLAIN, rows=6)) == 8


def test_what_is_not_finite_is_a_gap() -> None:
    y = np.array([1.0, np.nan, 3.0, np.inf, 5.0])
    ElementTree.fromstring(line_chart([Series("gaps", np.arange(5.0), y, y - 1, y + 1)]))
    lines = line_plot([Series("gaps", np.arange(5.0), y)], PLAIN, rows=8)
    assert sum(line.count("*") for line in lines) == 3


def test_a_series_wants_arrays_of_one_length_and_both_bounds() -> None:
    with pytest.raises(ValueError, match=r"mean of series 'a' is \[3\], not \[2\]"):
        Series("a", np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="one of low and high"):
        Series("a", np.zeros(2), np.zeros(2), low=np.zeros(2))
    with pytest.raises(ValueError, match="png or svg"):
        line_chart([], format="pdf")  # type: ignore[arg-type]


def test_a_wide_band_does_not_flatten_the_lines() -> None:
    x = np.arange(11.0)
    low, high = value_range([Series("two seeds", x, x, x - 1000, x + 1000)])
    assert (low, high) == pytest.approx((-10 - 1.2, 20 + 1.2))  # a height beyond each, 4 % of air
    assert value_range([Series("a", x, x)]) == pytest.approx((-0.4, 10.4))
    flat_low, flat_high = value_range([Series("flat", x, np.zeros(11))])
    assert flat_low < 0 < flat_high


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-21, "-21"),
        (0.25, "0.25"),
        (9999, "9999"),
        (10_000, "10k"),
        (1_500_000, "1.5M"),
        (-2e9, "-2G"),
        (1e-05, "1e-05"),
        (float("nan"), "nan"),
    ],
)
def test_axes_speak_briefly(value: float, text: str) -> None:
    assert compact(value) == text


# --- terminals ---


def cells(lines: list[str]) -> list[str]:
    """What is drawn between the axes."""
    return [re.split(r"[|+│┤]", line, maxsplit=1)[1] for line in lines[:-2]]


def test_a_rising_line_goes_from_the_lower_left_to_the_upper_right() -> None:
    for shown, blank in ((PLAIN, " "), (BRAILLE, " \u2800")):
        drawn = cells(line_plot([Series("a", *(np.arange(101.0),) * 2)], shown, rows=10))
        first = [len(row) - len(row.lstrip(blank)) for row in drawn]
        assert first == sorted(first, reverse=True)
        assert first[-1] == 0 and first[0] > 40


def test_a_line_has_no_holes_however_steep() -> None:
    y = np.where(np.arange(60) % 20 < 10, 0.0, 1.0)
    drawn = cells(line_plot([Series("steps", np.arange(60.0), y)], PLAIN, rows=12))
    width = max(map(len, drawn))
    columns = ["".join(row.ljust(width)[at] for row in drawn) for at in range(width)]
    assert all("*" in column for column in columns)
    # Twelve rows, less the air above and below.
    assert sum(column.count("*") >= 5 for column in columns) >= 5


def test_lines_are_told_apart_without_colours() -> None:
    for shown in (PLAIN, BRAILLE):
        text = "\n".join(line_plot([rising(), falling()], shown))
        assert "A" in text and "B" in text
        assert not ESCAPE.search(text)
    assert "A" not in "\n".join(line_plot([rising()], BRAILLE))


def test_every_line_gets_its_letter_even_a_single_point() -> None:
    point = Series("point", np.array([50.0]), np.array([20.0]))
    assert "C" in "\n".join(line_plot([rising(), falling(), point], BRAILLE))


@pytest.mark.parametrize("columns", [10, 20, 40, 80, 200])
@pytest.mark.parametrize("shown", [PLAIN, BRAILLE, COLOURED])
def test_no_line_is_wider_than_the_terminal(shown: Abilities, columns: int) -> None:
    fitted = Abilities(columns, shown.colour, shown.unicode)
    lines = line_plot([rising(), falling()], fitted, rows=9, x_label="environment steps")
    assert len(lines) == 11
    assert max(len(ESCAPE.sub("", line)) for line in lines) <= max(columns, 15)


def test_letters_of_plain_terminals_are_ascii() -> None:
    assert "\n".join(line_plot([rising(), falling()], PLAIN, x_label="steps")).isascii()


def test_colours_are_taken_back_on_every_line() -> None:
    for line in line_plot([rising(), falling()], COLOURED):
        codes = ESCAPE.findall(line)
        assert not codes or codes[-1] == "\x1b[0m"
        assert codes.count("\x1b[0m") * 2 == len(codes)


class Stream(io.TextIOWrapper):
    """Standard output as a terminal, or a pipe, of some encoding."""

    def __init__(self, encoding: str, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize(
    ("encoding", "terminal", "environment", "expected"),
    [
        ("utf-8", True, {"TERM": "xterm"}, Abilities(90, True, True)),
        ("utf-8", True, {"TERM": "xterm", "NO_COLOR": "1"}, Abilities(90, False, True)),
        ("utf-8", True, {"TERM": "dumb"}, Abilities(90, False, True)),
        ("utf-8", False, {"TERM": "xterm"}, Abilities(90, False, True)),
        ("ascii", False, {"TERM": "xterm"}, Abilities(90, False, False)),
        ("latin-1", True, {"TERM": "xterm"}, Abilities(90, True, False)),
    ],
)
def test_a_stream_gets_what_it_can_show(
    monkeypatch: pytest.MonkeyPatch,
    encoding: str,
    terminal: bool,
    environment: dict[str, str],
    expected: Abilities,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "90")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert abilities(Stream(encoding, terminal)) == expected
