"""Downloads: fetched once, checked, gone on with, and every way in which they fail."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request

import numpy as np
import pytest
from file_server import FileServer, serving
from rich.console import Console

from playfield.cache import data_folder, exclusive
from playfield.errors import DamagedFileError, UserError
from playfield.generative.datasets import download
from playfield.generative.datasets.download import PublicFile, addresses, fetch
from playfield.training.progress_bar import progress_bar

CONTENT = np.random.default_rng(0).bytes(300_000)
NOBODY = "http://127.0.0.1:9"  # the port of "discard", where nobody listens


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that data is kept in, for this test alone, and no mirror or proxy."""
    monkeypatch.setenv("PLAYFIELD_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("PLAYFIELD_MIRROR", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE", 0.0)
    return tmp_path / "data"


@pytest.fixture
def server(data: Path) -> Iterator[FileServer]:
    with serving({"/set/numbers.bin": CONTENT}) as running:
        yield running


def public(*bases: str, content: bytes = CONTENT) -> PublicFile:
    digest = hashlib.sha256(content).hexdigest()
    return PublicFile("set", "numbers.bin", len(content), digest, bases)


def at(server: FileServer) -> PublicFile:
    return public(f"{server.address}/set/")


def kept(data: Path) -> list[str]:
    return sorted(path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file())


# --- what goes well ---


def test_a_file_is_fetched_once_and_needs_no_network_afterwards(
    server: FileServer, data: Path
) -> None:
    path = fetch(at(server))
    assert path == data / "set" / "numbers.bin" and path.read_bytes() == CONTENT
    assert fetch(at(server)) == path
    assert fetch(public(NOBODY)) == path
    assert server.asked == [("/set/numbers.bin", None)]
    assert kept(data) == ["set/numbers.bin"]


def test_a_connection_that_was_cut_goes_on_where_it_stopped(server: FileServer, data: Path) -> None:
    server.cuts = [100_000, 50_000]
    assert fetch(at(server)).read_bytes() == CONTENT
    ranges = [wanted for _, wanted in server.asked]
    assert ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_what_an_earlier_process_fetched_is_not_fetched_again(
    server: FileServer, data: Path
) -> None:
    (data / "set").mkdir(parents=True)
    (data / "set" / "numbers.bin.part").write_bytes(CONTENT[:200_000])
    assert fetch(at(server)).read_bytes() == CONTENT
    assert server.asked == [("/set/numbers.bin", "bytes=200000-")]
    assert kept(data) == ["set/numbers.bin"]


def test_a_part_that_is_whole_already_needs_no_server(data: Path) -> None:
    (data / "set").mkdir(parents=True)
    (data / "set" / "numbers.bin.part").write_bytes(CONTENT)
    assert fetch(public(NOBODY)).read_bytes() == CONTENT


def test_a_server_that_knows_no_ranges_begins_at_the_beginning(
    server: FileServer, data: Path
) -> None:
    server.ranges, server.cuts = False, [120_000]
    assert fetch(at(server)).read_bytes() == CONTENT
    assert len(server.asked) == 2


@pytest.mark.parametrize("length", [1000, 300_000, 400_000])
def test_a_part_of_another_file_is_dropped(server: FileServer, data: Path, length: int) -> None:
    (data / "set").mkdir(parents=True)
    (data / "set" / "numbers.bin.part").write_bytes(bytes(length))
    assert fetch(at(server)).read_bytes() == CONTENT
    assert server.asked[-1] == ("/set/numbers.bin", None)


def test_a_server_in_trouble_is_asked_again(server: FileServer, data: Path) -> None:
    server.statuses = [503, 429, 500]
    assert fetch(at(server)).read_bytes() == CONTENT
    assert len(server.asked) == 4


def test_the_next_address_is_asked_where_the_first_has_nothing(
    server: FileServer, data: Path
) -> None:
    file = public(NOBODY, f"{server.address}/missing", f"{server.address}/set")
    assert fetch(file).read_bytes() == CONTENT
    assert [path for path, _ in server.asked] == ["/missing/numbers.bin", "/set/numbers.bin"]


def test_a_mirror_takes_the_place_of_the_public_addresses(
    server: FileServer, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAYFIELD_MIRROR", f"{server.address}/")
    assert addresses(public(NOBODY)) == [f"{server.address}/set/numbers.bin"]
    assert fetch(public(NOBODY)).read_bytes() == CONTENT


def test_a_redirect_to_another_web_address_is_followed(server: FileServer, data: Path) -> None:
    server.redirects = {"/old/numbers.bin": f"{server.address}/set/numbers.bin"}
    assert fetch(public(f"{server.address}/old")).read_bytes() == CONTENT


def test_a_file_put_there_by_hand_is_taken(data: Path) -> None:
    (data / "set").mkdir(parents=True)
    (data / "set" / "numbers.bin").write_bytes(CONTENT)
    assert fetch(public(NOBODY)).read_bytes() == CONTENT


def test_of_several_that_want_a_file_at_once_one_fetches_it(server: FileServer, data: Path) -> None:
    server.stall.clear()  # until all of them are on their way
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(fetch(at(server)).read_bytes()))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    server.stall.set()
    for thread in threads:
        thread.join()
    assert found == [CONTENT] * 4
    assert len(server.asked) == 1


def test_one_holds_a_folder_and_the_next_waits(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with exclusive(tmp_path):
            order.append("second")

    with exclusive(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


# --- what goes wrong ---


def refused(file: PublicFile, timeout: float = 10.0) -> str:
    with pytest.raises(UserError) as caught:
        fetch(file, timeout=timeout)
    return str(caught.value)


def test_offline_the_sentence_names_the_file_and_the_folder_to_put_it_in(data: Path) -> None:
    sentence = refused(public(NOBODY))
    for part in ("numbers.bin", NOBODY, "Connection refused", "PLAYFIELD_MIRROR"):
        assert part in sentence
    assert f"put the file into {data / 'set'} by hand" in sentence
    assert kept(data) == []


def test_a_file_of_another_checksum_is_removed_and_said(server: FileServer, data: Path) -> None:
    server.files["/set/numbers.bin"] = CONTENT[::-1]
    sentence = refused(at(server))
    assert "another file and was removed" in sentence
    assert hashlib.sha256(CONTENT).hexdigest()[:12] in sentence
    assert hashlib.sha256(CONTENT[::-1]).hexdigest()[:12] in sentence
    assert kept(data) == []


@pytest.mark.parametrize("content", [b"<html>Please log in.</html>", CONTENT + b"!"])
def test_a_file_of_another_length_is_refused_before_it_comes(
    server: FileServer, data: Path, content: bytes
) -> None:
    server.files["/set/numbers.bin"] = content
    assert f"{len(content)} bytes" in refused(at(server))
    assert kept(data) == []


def test_a_server_that_never_stops_sending_is_stopped(server: FileServer, data: Path) -> None:
    server.files["/set/numbers.bin"] = CONTENT * 3
    server.says_length = False
    assert "more than the 300000 bytes" in refused(at(server))
    assert all((data / name).stat().st_size == 0 for name in kept(data))


def test_a_server_that_always_breaks_off_is_given_up_and_the_part_is_kept(
    server: FileServer, data: Path
) -> None:
    server.cuts = [1000] * 20
    came = 1000 * download.ATTEMPTS
    assert f"{came:,} of 300,000 bytes are kept" in refused(at(server))
    assert len(server.asked) == download.ATTEMPTS
    assert (data / "set" / "numbers.bin.part").read_bytes() == CONTENT[:came]


def test_a_server_that_does_not_answer_is_given_up(server: FileServer, data: Path) -> None:
    server.stall.clear()
    assert "no answer within 0.1 s" in refused(at(server), timeout=0.1)


def test_a_missing_file_is_told(server: FileServer, data: Path) -> None:
    assert "404 Not Found" in refused(public(f"{server.address}/nowhere"))
    assert len(server.asked) == 1  # asking again would not help


@pytest.mark.parametrize(
    "target", ["file:///etc/hostname", "ftp://127.0.0.1/numbers.bin", "data:,x"]
)
def test_a_redirect_away_from_the_web_is_not_followed(
    server: FileServer, data: Path, target: str
) -> None:
    server.redirects = {"/set/numbers.bin": target}
    assert target in refused(at(server))
    assert kept(data) == []


def test_a_redirect_never_gives_up_encryption() -> None:
    handler = download._Redirects()
    with pytest.raises(download._Failed, match="not followed"):
        handler.redirect_request(
            Request("https://safe.example/a"),
            *(io.BytesIO(), 302, "", {}),  # type: ignore[arg-type]
            "http://safe.example/a",
        )


@pytest.mark.parametrize("mirror", ["file:///tmp", "/some/folder", "ftp://here/there", "http://"])
def test_a_mirror_that_is_no_web_address_is_refused(
    data: Path, monkeypatch: pytest.MonkeyPatch, mirror: str
) -> None:
    monkeypatch.setenv("PLAYFIELD_MIRROR", mirror)
    sentence = refused(public(NOBODY))
    assert f"PLAYFIELD_MIRROR={mirror}" in sentence and "http://" in sentence


@pytest.mark.parametrize("content", [CONTENT[:-1], b"x" + CONTENT[1:]])
def test_a_kept_file_that_was_altered_is_told_and_left(data: Path, content: bytes) -> None:
    (data / "set").mkdir(parents=True)
    path = data / "set" / "numbers.bin"
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match="remove it, and it will be downloaded again"):
        fetch(public(NOBODY))
    assert path.read_bytes() == content  # it may be the user's own


def test_a_place_that_holds_no_folder_is_told(data: Path) -> None:
    data.write_text("a file")
    assert "PLAYFIELD_DATA" in refused(public(NOBODY))


# --- where and how it is shown ---


@pytest.mark.parametrize(
    ("environment", "platform", "expected"),
    [
        ({"PLAYFIELD_DATA": "/big/disk"}, "linux", "/big/disk"),
        ({"PLAYFIELD_DATA": "/big/disk", "XDG_CACHE_HOME": "/c"}, "darwin", "/big/disk"),
        ({"XDG_CACHE_HOME": "/c"}, "linux", "/c/playfield"),
        ({"XDG_CACHE_HOME": "relative"}, "linux", "~/.cache/playfield"),
        ({}, "linux", "~/.cache/playfield"),
        ({}, "darwin", "~/Library/Caches/playfield"),
        ({"LOCALAPPDATA": "/local"}, "win32", "/local/playfield/Cache"),
    ],
)
def test_data_is_kept_where_the_platform_keeps_caches(
    environment: dict[str, str], platform: str, expected: str
) -> None:
    assert data_folder(environment, platform) == Path(expected).expanduser()


def test_a_bar_is_drawn_on_a_terminal_and_nowhere_else() -> None:
    def drawn(**kind: bool) -> str:
        stream = io.StringIO()
        with progress_bar(
            "file.gz", 2_000_000, "bytes", Console(file=stream, width=90, **kind)
        ) as show:  # type: ignore[arg-type]
            show(500_000)
            show(2_000_000)
        return stream.getvalue()

    assert drawn(force_terminal=False) == ""
    shown = drawn(force_terminal=True)
    assert "file.gz" in shown and "2.0 of 2.0 MB" in shown
