"""Where things are kept that were downloaded, collected or worked out once, for all runs; and who
may write there now."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from playfield.atomic import make_folder
from playfield.errors import UserError

DATA_VARIABLE = "PLAYFIELD_DATA"


def data_folder(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """The folder that `PLAYFIELD_DATA` names, or the user's cache where the platform keeps it.

    That is `$XDG_CACHE_HOME/playfield` or `~/.cache/playfield`, `~/Library/Caches/playfield` on
    macOS and `%LOCALAPPDATA%/playfield/Cache` on Windows. Raises `UserError` for a user without a
    home. The folder may not exist yet.
    """
    if named := environment.get(DATA_VARIABLE):
        return Path(named)
    local = environment.get("LOCALAPPDATA", "")
    if platform == "win32" and local:
        return Path(local) / "playfield" / "Cache"
    cache = environment.get("XDG_CACHE_HOME", "")
    if os.path.isabs(cache):  # the specification ignores any other
        return Path(cache) / "playfield"
    try:
        home = Path.home()
    except RuntimeError:
        raise UserError(
            f"There is no home folder to keep data in: name one in {DATA_VARIABLE}."
        ) from None
    if platform == "darwin":
        return home / "Library" / "Caches" / "playfield"
    return home / ".cache" / "playfield"


def prepare(folder: Path) -> None:
    """Make `folder` where it is missing; `UserError` where nothing can be kept there."""
    try:
        make_folder(folder)
    except OSError as error:
        raise no_room(folder, error) from None


def no_room(path: Path, error: OSError) -> UserError:
    """The sentence for data that can't be kept."""
    return UserError(
        f"{path} can't be written ({error.strerror or error}): make room there, or name another "
        f"folder in {DATA_VARIABLE}."
    )


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Wait until no other process is in this context for `folder`; the lock dies with the process.

    Of two that want the same data, the second finds what the first has fetched.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks (some network ones)
        yield
    finally:
        os.close(descriptor)
