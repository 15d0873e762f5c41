"""Command lines read into dataclasses: fields are the options, their docstrings the help."""

from __future__ import annotations

import contextlib
import difflib
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import docstring_parser
import tyro

from playfield.errors import UserError

T = TypeVar("T")


def parse(kind: type[T], args: Sequence[str], *, command: str, default: T | None = None) -> T:
    """Read `args` into a `kind`, starting from `default`; `command` is what the user typed so far.

    Options are flat: the fields of a nested dataclass need no prefix. `--help` prints the help from
    the field docstrings and raises SystemExit(0), as everywhere. Raises `UserError` in one
    sentence for an option that does not exist, with the nearest that does, and for a wrong value.
    """
    options: dict[str, Any] = {} if default is None else {"default": default}
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), _flowing_paragraphs():
            parsed, unknown = tyro.cli(
                kind,
                prog=f"playfield {command}",
                args=list(args),
                return_unknown_args=True,
                config=(tyro.conf.OmitArgPrefixes,),
                **options,
            )
    except SystemExit as exit_:
        if exit_.code in (0, None):
            raise
        raise UserError(f"{_sentence(errors.getvalue())} {_help(command)}") from None
    if unknown:
        raise UserError(_unknown(unknown[0], kind, default, command))
    return parsed


def nearest(name: str, names: Iterable[str]) -> str:
    """The clause that suggests what `name` was meant to be, or nothing if nothing is near."""
    matches = difflib.get_close_matches(name, list(names), n=3, cutoff=0.6)
    return f" (did you mean {' or '.join(matches)}?)" if matches else ""


def flags(kind: type[T], default: T | None = None) -> list[str]:
    """Every option that `parse` takes for `kind`, as the user types it."""
    options: dict[str, Any] = {} if default is None else {"default": default}
    text = io.StringIO()
    with (
        contextlib.redirect_stdout(text),
        contextlib.suppress(SystemExit),
        _flowing_paragraphs(),
    ):
        tyro.cli(kind, args=["--help"], config=(tyro.conf.OmitArgPrefixes,), **options)
    return sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text.getvalue())))


def value_of(flag: str, args: Sequence[str]) -> str | None:
    """The value of `--flag VALUE` or `--flag=VALUE` in `args` (the last one counts); else None.

    For an option that decides which other options there are and so has to be known first.
    """
    value = None
    for position, arg in enumerate(args):
        if arg == flag and position + 1 < len(args):
            value = args[position + 1]
        elif arg.startswith(f"{flag}="):
            value = arg.removeprefix(f"{flag}=")
    return value


def wants_help(args: Sequence[str]) -> bool:
    return "-h" in args or "--help" in args


@contextlib.contextmanager
def _flowing_paragraphs() -> Iterator[None]:
    """Have tyro read the docstrings of fields as paragraphs.

    It takes a line that begins with anything but a letter for a list's, and breaks before it. The
    lines of a field's docstring after the first one begin with the class's indentation.
    """
    original = docstring_parser.parse_from_object

    def parse_from_object(*args: Any, **keywords: Any) -> docstring_parser.Docstring:
        found = original(*args, **keywords)
        for field in found.params:
            if field.description is not None:
                paragraphs = re.split(r"\n\s*\n", field.description)
                field.description = "\n\n".join(" ".join(each.split()) for each in paragraphs)
        return found

    docstring_parser.parse_from_object = parse_from_object  # unittest.mock would import asyncio
    try:
        yield
    finally:
        docstring_parser.parse_from_object = original


def _unknown(arg: str, kind: type[T], default: T | None, command: str) -> str:
    if arg.startswith("--"):
        name = arg.split("=")[0].replace("_", "-")
        return f"{name} is not an option{nearest(name, flags(kind, default))}; {_help(command)}"
    return f"{arg!r} is one argument too many; {_help(command)}"


def _help(command: str) -> str:
    return f"`playfield {command} --help` lists the options."


def _sentence(box: str) -> str:
    """The first paragraph in tyro's error box, as one sentence: the rest is help text.

    The box is a title, a rule (not always), the message, a rule, help; drawn in lines or in ASCII.
    """
    paragraph: list[str] = []
    for line in [line for line in box.splitlines() if line.strip()][1:]:
        if not line.strip(" │╭╮╰╯─-"):
            if paragraph:
                break
        else:
            paragraph.append(line.strip(" │"))
    sentence = " ".join(paragraph).removeprefix("Error parsing ").rstrip(".;")
    return f"{sentence or 'The command line is not understood'}."
