"""What `--data` says: `kind[:PATH][,key=value…]`.

The rule for commas and colons. The kind ends at the first colon or comma. The options are the
longest run of pieces `,key=value` at the end; all before them is the path, with whatever commas and
colons it has. A comma that would be misread, in a path that ends like an option or in a value, is
written twice.

    digits
    folder:pictures,size=32
    folder:C:\\my, holiday\\pictures
    atari:Breakout,frames=20000,policy=random
    zip:odd,,size=3.zip            the file `odd,size=3.zip`
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from playfield.errors import UserError

if TYPE_CHECKING:
    from playfield.generative.datasets.options import DataOptions
    from playfield.generative.images import ImageData

#: Options that every kind has: they are the fields `resize` and `channels` of `DataOptions`.
SIZE, CHANNELS = "size", "channels"


@dataclass(frozen=True)
class DataSpec:
    """A data set as it was asked for. `str` of it is the canonical text, which opens it again.

    In the canonical text a path is absolute, so that it means the same from any folder; links in it
    stay as they are, options are in alphabetical order.
    """

    kind: str
    path: str | None = None  # absolute where it names a file; else what follows the colon
    options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        place = "" if self.path is None else f":{_doubled(self.path)}"
        pieces = [f",{key}={_doubled(self.options[key])}" for key in sorted(self.options)]
        return "".join([self.kind, place, *pieces])

    @property
    def file(self) -> Path:
        """The path of a kind that has one."""
        if self.path is None:
            raise ValueError(f"path: {self.kind} has none")
        return Path(self.path)

    def choice(self, key: str, values: Iterable[str], default: str) -> str:
        """The option `key`, one of `values`; raises UserError for any other."""
        value, known = self.options.get(key, default), list(values)
        if value not in known:
            raise UserError(
                f"{self.kind}: {key}={value} is unknown{nearest(value, known)}; use "
                f"{' or '.join(known)}."
            )
        return value

    def whole(self, key: str, default: int, least: int = 1) -> int:
        """The option `key`, a whole number of at least `least`; raises UserError for any other."""
        value = self.options.get(key, str(default))
        if not re.fullmatch(r"\d{1,18}", value, re.ASCII) or int(value) < least:
            raise UserError(
                f"{self.kind}: {key}={value} has to be a whole number of {least} or more."
            )
        return int(value)

    def number(self, key: str, default: float, least: float, most: float) -> float:
        """The option `key`, a number from `least` to `most`; raises UserError for any other."""
        text = self.options.get(key, str(default))
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise UserError(f"{self.kind}: {key}={text} has to be a number from {least} to {most}.")
        return value

    def flag(self, key: str) -> bool:
        """The option `key`, yes or no; no where it is not given."""
        return self.choice(key, ("yes", "no"), "no") == "yes"


Opener = Callable[[DataSpec, "DataOptions"], "ImageData"]


@dataclass(frozen=True)
class Kind:
    """A kind of data set: what its spec looks like, and the function that opens it."""

    about: str  # "the pictures in a folder", for help
    open: Opener
    path: str | None = None  # what stands after the colon, such as FOLDER; None: nothing does
    is_file: bool = True  # whether that is a place on the disk
    options: tuple[str, ...] = ()  # its own; those that every kind has are not listed

    def usage(self, name: str) -> str:
        """The spec as help shows it, such as `cifar:PATH[,labels=…][,split=…]`."""
        place = f":{self.path}" if self.path else ""
        return name + place + "".join(f"[,{key}=…]" for key in (*self.options, SIZE, CHANNELS))


def parse(text: str, kinds: Mapping[str, Kind]) -> DataSpec:
    """Read a spec of one of `kinds`; values of options are judged by the kind that reads them.

    Raises UserError for a kind or an option that is unknown, naming the nearest that are known,
    for an option given twice, and for a path that is missing or one too many.
    """
    match = re.match(r"[^:,]*", text)
    name = match.group() if match else ""
    rest = text[len(name) :]
    if name not in kinds:
        raise UserError(_unknown_kind(text, name, kinds))
    kind = kinds[name]
    pieces = _pieces(rest[1:])
    options: dict[str, str] = {}
    first = len(pieces)
    lowest = 1 if rest.startswith(":") else 0  # the piece after a colon belongs to the path
    while first > lowest and (option := re.fullmatch(r"([a-z][a-z_-]*)=(.*)", pieces[first - 1])):
        first -= 1
        key, value = option.groups()
        known = (*kind.options, SIZE, CHANNELS)
        if key not in known:
            twice = ",," + pieces[first]
            raise UserError(
                f"{name} has no option {key!r}{nearest(key, known)}: it has {', '.join(known)}. "
                f"Where this is the end of a path, write its comma twice: {twice}"
            )
        if key in options:
            raise UserError(f"{text!r} gives the option {key!r} twice.")
        options[key] = value
    path = ",".join(pieces[:first])
    if not rest.startswith(":"):
        if path:
            raise UserError(
                f"{text!r}: {path!r} is no option; options look like key=value, and {name}'s spec "
                f"is {kind.usage(name)}."
            )
        if kind.path is not None:
            raise UserError(f"{name} needs a {kind.path}: {kind.usage(name)}.")
        return DataSpec(name, None, options)
    if kind.path is None:
        raise UserError(f"{name} takes nothing after a colon: its spec is {kind.usage(name)}.")
    if not path.strip() or "\0" in path:
        raise UserError(f"{name} needs a {kind.path}: {kind.usage(name)}.")
    return DataSpec(name, str(_absolute(path)) if kind.is_file else path, options)


def nearest(name: str, names: Iterable[str]) -> str:
    """The clause that suggests what `name` was meant to be, or nothing if nothing is near."""
    matches = difflib.get_close_matches(name, list(names), n=3, cutoff=0.6)
    return f" (did you mean {' or '.join(matches)}?)" if matches else ""


def _unknown_kind(text: str, name: str, kinds: Mapping[str, Kind]) -> str:
    known = f"the kinds are {', '.join(kinds)}"
    if text and "\0" not in text and (place := Path(text).expanduser()).exists():
        kind = "folder" if place.is_dir() else _kind_of_file(place)
        return f"{text!r} names no kind of data: write {kind}:{_doubled(text)}; {known}."
    near = nearest(name, kinds)
    return f"There is no kind of data {name!r}{near}; {known}."


def _kind_of_file(place: Path) -> str:
    if place.suffix in (".zip", ".npz"):
        return place.suffix[1:]
    return "idx" if "idx" in place.name or "ubyte" in place.name else "KIND"


def _absolute(path: str) -> Path:
    """The path from the root; `..` and links stay, for a link may stand before a `..`."""
    return Path(path).expanduser().absolute()


def _pieces(text: str) -> list[str]:
    """What stands between single commas, with a comma for every double one."""
    pieces = [""]
    for comma in re.finditer(r",,|,|[^,]+", text):
        if comma.group() == ",":
            pieces.append("")
        else:
            pieces[-1] += "," if comma.group() == ",," else comma.group()
    return pieces


def _doubled(text: str) -> str:
    return text.replace(",", ",,")
