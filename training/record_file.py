"""A file that grows by whole records, whatever the disk does."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path


class RecordFile:
    """Appends records to the file at `path`; what can't be written is dropped, with one warning.

    The file is made with the first record, and `header` put in front of it. A record is there whole
    or not at all, so a reader never meets half of one while the disk is full.
    """

    def __init__(self, path: Path, warn: Callable[[str], None], header: bytes = b"") -> None:
        self._path = path
        self._warn = warn
        self._header = header
        self._warned = False
        self._descriptor: int | None = None
        self._torn_at: int | None = None  # where a record that was only begun has to be cut off

    def append(self, record: bytes) -> None:
        if not record:
            return
        try:
            if self._descriptor is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
                self._descriptor = os.open(self._path, flags, 0o666)
            self._mend()
            self._torn_at = os.fstat(self._descriptor).st_size
            rest = memoryview(self._header + record)
            while rest:  # a disk that fills up takes a part, and refuses the next
                rest = rest[os.write(self._descriptor, rest) :]
            self._torn_at, self._header = None, b""
        except OSError as error:
            self._report(error)

    def sync(self) -> None:
        """Wait until all that was appended is on the disk."""
        if self._descriptor is None:
            return
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a pipe or a device has nothing to wait for
                self._report(error)

    def close(self) -> None:
        if self._descriptor is None:
            return
        try:
            self._mend()
        except OSError as error:
            self._report(error)
        os.close(self._descriptor)
        self._descriptor = None

    def _mend(self) -> None:
        if self._torn_at is not None and self._descriptor is not None:
            os.ftruncate(self._descriptor, self._torn_at)
            self._torn_at = None

    def _report(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            self._warn(
                f"Can't write {self._path.name} ({error.strerror}): points are lost until it can "
                "be written again; training goes on."
            )
