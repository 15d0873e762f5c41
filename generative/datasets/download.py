"""Public files, fetched once: checked, gone on with after an interruption, kept for good.

A file on its way is `NAME.part` beside its place. It gets its name when its SHA-256 is right, so
what bears the name was whole when it came.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from playfield.atomic import sync_folder
from playfield.cache import DATA_VARIABLE, data_folder, exclusive, no_room
from playfield.cache import prepare as prepare_folder
from playfield.errors import DamagedFileError, UserError
from playfield.training.progress_bar import progress_bar

#: An address that holds `DATA SET/FILE` for all of them, in place of the public ones.
MIRROR_VARIABLE = "PLAYFIELD_MIRROR"
#: Seconds without a single byte after which a connection is given up.
TIMEOUT = 30.0
#: How often an address that breaks off is asked to go on, and the seconds between.
ATTEMPTS, PAUSE = 5, 0.5

_CHUNK = 1 << 18
_SCHEMES = ("http", "https")


@dataclass(frozen=True)
class PublicFile:
    """A file that anyone can fetch, and how to know that it is the right one."""

    data_set: str  # its folder, here and on a mirror
    name: str
    size: int  # bytes
    sha256: str
    bases: tuple[str, ...]  # public addresses of folders that it lies in, the first one first


class _Failed(Exception):
    """An address can't give the file; says why."""


class _BrokenOff(_Failed):
    """It might, asked again."""


def fetch(file: PublicFile, *, timeout: float = TIMEOUT) -> Path:
    """Where `file` lies on this machine, downloaded if it is not there yet.

    Needs no network once it is there. Raises `DamagedFileError` if what is there is another file,
    and `UserError`, saying where the file can be put by hand, if no address gives it.
    """
    folder = data_folder() / file.data_set
    path = folder / file.name
    if not path.is_file():
        prepare_folder(folder)
        with exclusive(folder):
            if not path.is_file():
                _download(file, path, timeout)
                return path
    _check_kept(path, file)
    return path


def addresses(file: PublicFile) -> list[str]:
    """Where to ask for `file`, in order: the user's mirror alone, if there is one."""
    mirror = os.environ.get(MIRROR_VARIABLE, "").strip()
    if not mirror:
        return [f"{base.rstrip('/')}/{file.name}" for base in file.bases]
    parts = urlsplit(mirror)
    if parts.scheme not in _SCHEMES or not parts.netloc:
        raise UserError(
            f"{MIRROR_VARIABLE}={mirror} is no address to fetch data from: it begins with "
            "http:// or https://."
        )
    return [f"{mirror.rstrip('/')}/{file.data_set}/{file.name}"]


def _check_kept(path: Path, file: PublicFile) -> None:
    if path.stat().st_size != file.size or (found := _sha256(path)) != file.sha256:
        what = f"{path.stat().st_size:,} bytes where {file.size:,} belong"
        if path.stat().st_size == file.size:
            what = f"SHA-256 {found[:12]}… where {file.sha256[:12]}… belongs"
        raise DamagedFileError(
            f"{path} is not the {file.name} of {file.data_set} ({what}): remove it, and it will be "
            "downloaded again."
        )


def _download(file: PublicFile, path: Path, timeout: float) -> None:
    part = path.with_name(f"{file.name}.part")
    reasons = []
    with progress_bar(f"{file.data_set}: {file.name}", file.size, "bytes") as show:
        for address in addresses(file):
            try:
                _complete(part, address, file, timeout, show)
                break
            except _Failed as error:
                reasons.append(f"{address}: {error}")
        else:
            raise UserError(
                f"{file.name} of {file.data_set} can't be downloaded ({'; '.join(reasons)}): "
                f"connect to a network, name another address in {MIRROR_VARIABLE}, or put the file "
                f"into {path.parent} by hand. {DATA_VARIABLE} chooses that folder."
            )
    try:
        with open(part, "rb") as whole:
            os.fsync(whole.fileno())
        os.replace(part, path)
        sync_folder(path.parent)
    except OSError as error:
        raise no_room(path, error) from None


def _complete(
    part: Path, address: str, file: PublicFile, timeout: float, show: Callable[[int], None]
) -> None:
    """Bring `part` to the whole of `file`, from where it stands."""
    resumed = _size(part) > 0
    _fill(part, address, file, timeout, show)
    if resumed and _sha256(part) != file.sha256:
        # It began as another file, such as that of another mirror, or a crash left holes in it.
        part.unlink()
        _fill(part, address, file, timeout, show)
    found = _sha256(part)
    if found != file.sha256:
        part.unlink()
        raise _Failed(
            f"what came is another file and was removed, its SHA-256 is {found[:12]}… and not "
            f"{file.sha256[:12]}…"
        )


def _fill(
    part: Path, address: str, file: PublicFile, timeout: float, show: Callable[[int], None]
) -> None:
    """Fetch what `part` lacks, asking again where the connection breaks off."""
    if _size(part) > file.size:
        part.unlink()
    attempt = 1
    while (have := _size(part)) < file.size:
        try:
            _transfer(part, have, address, file, timeout, show)
        except _BrokenOff as error:
            if attempt == ATTEMPTS:
                came = _size(part)
                raise _Failed(f"{error}; {came:,} of {file.size:,} bytes are kept") from None
            time.sleep(PAUSE * attempt)
            attempt += 1


def _transfer(
    part: Path,
    have: int,
    address: str,
    file: PublicFile,
    timeout: float,
    show: Callable[[int], None],
) -> None:
    """One request for what follows the first `have` bytes; returns at the end of the file."""
    with _ask(part, have, address, timeout) as answer:
        if answer.status != http.client.PARTIAL_CONTENT:
            have = 0  # a server that knows no ranges begins at the beginning
        elif not re.match(rf"bytes {have}-", answer.headers.get("Content-Range", "")):
            part.unlink()
            raise _BrokenOff("it sent another part than was asked for")
        length = answer.headers.get("Content-Length")
        if length is not None and length != str(file.size - have):
            raise _Failed(f"it has {length} bytes to send where {file.size - have} belong")
        try:
            with open(part, "r+b" if have else "wb") as out:
                out.seek(have)
                for chunk in _chunks(answer, timeout):
                    have += len(chunk)
                    if have > file.size:
                        out.truncate(0)
                        raise _Failed(f"it sends more than the {file.size} bytes of the file")
                    out.write(chunk)
                    show(have)
        except OSError as error:
            raise no_room(part, error) from None
    if have < file.size:
        raise _BrokenOff("the connection was cut")


def _ask(part: Path, have: int, address: str, timeout: float) -> http.client.HTTPResponse:
    request = Request(address, headers={"User-Agent": "playfield", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        return _opener().open(request, timeout=timeout)
    except HTTPError as error:
        with error:
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                part.unlink()  # what is here is no part of what is there
                raise _BrokenOff("it has no such part") from None
            refused = f"{error.code} {' '.join(str(error.reason).split())}"
            temporary = error.code >= 500 or error.code == http.client.TOO_MANY_REQUESTS
            raise (_BrokenOff if temporary else _Failed)(refused) from None
    except TimeoutError:
        raise _Failed(f"no answer within {timeout:g} s") from None
    except URLError as error:
        reason = error.reason
        raise _Failed(getattr(reason, "strerror", None) or str(reason) or "no answer") from None
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOff(str(error) or type(error).__name__) from None


def _chunks(answer: IO[bytes], timeout: float) -> Iterator[bytes]:
    try:
        while chunk := answer.read(_CHUNK):
            yield chunk
    except TimeoutError:
        raise _BrokenOff(f"nothing came for {timeout:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOff(str(error) or "the connection was cut") from None


class _Redirects(HTTPRedirectHandler):
    """Follows to other web addresses, and never from a protected one to an open one."""

    def redirect_request(
        self,
        req: Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme not in _SCHEMES or (req.type == "https" and scheme == "http"):
            raise _Failed(f"it leads on to {newurl}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> Any:
    """Opens web addresses only; urllib's own would open local files and FTP as well."""
    opener = OpenerDirector()
    for handler in (
        *(ProxyHandler(), HTTPHandler(), HTTPSHandler(), _Redirects()),
        *(HTTPDefaultErrorHandler(), HTTPErrorProcessor(), UnknownHandler()),
    ):
        opener.add_handler(handler)
    return opener


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
