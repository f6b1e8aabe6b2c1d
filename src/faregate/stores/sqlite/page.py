"""The shared page: eight bytes beside a SQLite file that tell the processes of one host of changes.

A writer sets the page to the feed's sequence under the write lock, *before* its commit. So the page
may run ahead of the file, and never behind. A reader compares it with the sequence that it has
applied, and on any difference reads the feed. A look at the page costs a memory access, and keeps
the interpreter lock.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from mmap import ACCESS_WRITE, mmap
from pathlib import Path

from faregate.stores.database import NEVER, PAGE_BYTES, never
from faregate.values.file_owner import make_alike


def read_page(database: str) -> int:
    """Return the sequence on the page of a database; OSError if the page cannot be read."""
    descriptor = os.open(
        _path_of(database), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    )
    try:
        data = os.read(descriptor, PAGE_BYTES)
    finally:
        os.close(descriptor)
    if len(data) < PAGE_BYTES:
        raise OSError("it is cut off")
    return int.from_bytes(data, sys.byteorder)


def _path_of(database: str) -> str:
    return f"{database}-page"


class MemoryPage:
    """The page of a store in memory: an integer of this process."""

    created = False
    identity = "memory"

    def __init__(self) -> None:
        self.view = memoryview(bytearray(PAGE_BYTES)).cast("Q")

    def advance(self, sequence: int) -> None:
        """Announce ``sequence``."""
        self.view[0] = sequence

    def is_current(self) -> bool:
        """Return True: nobody can replace it."""
        return True

    def publish(self) -> None:
        """Do nothing: it is in its place."""

    def retire(self) -> None:
        """Do nothing: it is never replaced."""


class FilePage:
    """The page of a SQLite file, in ``<database>-page``, with the database's mode and owner.

    Raises OSError if the page cannot be opened for writing: a process that cannot announce changes
    may not make any. If it opens but cannot be mapped, ``view`` never matches, and each request
    reads the feed. Readers never create it. A writer that does holds the write lock, and waits
    until every reader has looked (``created``).
    """

    def __init__(self, database: str, *, create: bool) -> None:
        self._path = _path_of(database)
        self.created = False
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(self._path, flags)
        except FileNotFoundError:
            if not create:
                raise
            self._descriptor = os.open(f"{self._path}.new", flags | os.O_CREAT | os.O_TRUNC, 0o600)
            self.created = True
        self._size_up(database, create=create)
        present = os.fstat(self._descriptor)
        self.identity = f"{present.st_dev}:{present.st_ino}"
        try:
            self.view = memoryview(mmap(self._descriptor, PAGE_BYTES, access=ACCESS_WRITE)).cast(
                "Q"
            )
            self._mapped = True
        except (OSError, ValueError):
            self.view = never()
            self._mapped = False

    def _size_up(self, database: str, *, create: bool) -> None:
        """Give a new page its bytes, mode and owner."""
        present = os.fstat(self._descriptor)
        if present.st_size < PAGE_BYTES:
            if not create:
                raise FileNotFoundError(self._path)
            # Written, not merely extended: on a full disk that is an error here, and no SIGBUS
            # later.
            os.pwrite(self._descriptor, bytes(PAGE_BYTES - present.st_size), present.st_size)
        if create:
            with suppress(OSError):
                make_alike(database, self._descriptor)

    def advance(self, sequence: int) -> None:
        """Announce ``sequence`` to every process of this host."""
        if self._mapped:
            self.view[0] = sequence
        else:
            os.pwrite(self._descriptor, sequence.to_bytes(PAGE_BYTES, sys.byteorder), 0)

    def is_current(self) -> bool:
        """Return True if the path still leads to the open file, and the file is whole."""
        try:
            there = os.stat(self._path)
        except OSError:
            return False
        # If the file was cut off in place, the next look at its bytes would end the process
        # (SIGBUS).
        return f"{there.st_dev}:{there.st_ino}" == self.identity and there.st_size >= PAGE_BYTES

    def publish(self) -> None:
        """Put a page that was created into its place; until then no process finds it."""
        if self.created:
            Path(f"{self._path}.new").replace(self._path)
            self.created = False

    def retire(self) -> None:
        """Invalidate a replaced page, so that processes that still map it read the feed."""
        if os.fstat(self._descriptor).st_size >= PAGE_BYTES:
            self.advance(NEVER)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)
