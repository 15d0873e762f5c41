"""A report as one HTML file that needs nothing else: no network, no script, no second file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources

from playfield.evaluation.media_files import Medium

TEMPLATE = "report_page.html"


@dataclass(frozen=True)
class Table:
    """A table; it scrolls by itself where the screen is narrower."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]  # each as long as `head`
    title: str = ""
    note: str = ""  # what one has to know to read it
    right: frozenset[int] = frozenset()  # columns of numbers

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.head):
                raise ValueError(f"table {self.title!r}: a row of {len(row)}, not {len(self.head)}")


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it, in the order of the fields."""

    title: str
    text: Sequence[str] = ()  # paragraphs
    media: Sequence[Medium] = ()
    tables: Sequence[Table] = ()
    commands: Sequence[tuple[str, str]] = ()  # what for, and what to type
    folded: Sequence[Section] = ()  # opened by those who want to know

    def all_media(self) -> Iterator[Medium]:
        """Those of what is folded too."""
        yield from self.media
        for section in self.folded:
            yield from section.all_media()


@dataclass(frozen=True)
class Page:
    """The whole report."""

    title: str
    made: str  # when, and by what
    damage: Sequence[str]  # what was left out, and why
    sections: Sequence[Section]

    def media(self) -> list[Medium]:
        return [medium for section in self.sections for medium in section.all_media()]


def render(page: Page) -> str:
    """`page` as HTML. All text is escaped: names of runs and files are anybody's."""
    import jinja2  # a tenth of a second, for those alone who write a page

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8")
    return environment.from_string(source).render(page=page)
