"""The file with a client's newest tokens.

- No other user reads it: mode 0600 in a folder of 0700.
- One thread of one process at a time changes it, under the lock of a file beside it.
- It is replaced whole or not at all, and is on the disk before its tokens are used.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from faregate.errors import InvalidInput
from faregate.values import forks

if TYPE_CHECKING:
    from collections.abc import Generator

_LOCK_TIMEOUT = 60.0  # seconds to wait for another thread or process
_LOCK_PAUSE = 0.02  # seconds between attempts to lock the file
_ROOM = 16_384  # bytes that have to be free on the disk

# Raised for a file or an answer that is not the expected JSON. UnicodeDecodeError holds the whole
# text, tokens included, so it must never be passed on.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class StoredTokens(msgspec.Struct, frozen=True):
    """The content of the file.

    ``url`` is the only endpoint for ``refresh_token``, ``scope`` the scope of the last request for
    an access token. ``renew_at`` and ``expires_at`` are epoch seconds.
    """

    refresh_token: str
    url: str
    access_token: str = ""
    scope: str = ""
    renew_at: float = 0.0
    expires_at: float = 0.0

    def __repr__(self) -> str:
        return f"StoredTokens(expires_at={self.expires_at!r})"


# Made at import, while a single thread runs, as the decoders of faregate.model.
_decoder = msgspec.json.Decoder(StoredTokens)


class TokenFile:
    """Reads, writes and locks the file at ``path``.

    A child process that is forked under the lock does not hold it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # A symbolic link and its target are the same file, with the same lock.
        self.path = Path(path).expanduser().resolve()
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        forks.register(self)

    @contextmanager
    def locked(self, *, wait: bool = True) -> Generator[None]:
        """Lock the file among all threads and processes for the block.

        Raises BlockingIOError if another thread or process holds the lock: at once unless
        ``wait``, else after 60 seconds. Raises OSError if the lock's file cannot be opened.
        """
        forks.look()

        deadline = time.monotonic()
        if wait:
            deadline += _LOCK_TIMEOUT

        # A fork replaces self._lock in the child; the block releases the lock that it took.
        lock = self._lock
        if not lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise self._busy()

        try:
            flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(f"{self.path}.lock", flags, 0o600)
            self._descriptor = descriptor
            try:
                if not _flock(descriptor, deadline):
                    raise self._busy()
                yield
            finally:
                self._unlock(descriptor)
        finally:
            lock.release()

    def _unlock(self, descriptor: int) -> None:
        # A child that was forked in the block has closed its copy already.
        if self._descriptor != descriptor:
            return

        self._descriptor = None
        # Closing alone would leave the lock to a child that still has the descriptor open.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)

    def make_folder(self) -> None:
        """Create the folder of the file with mode 0700 if it does not exist."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def fingerprint(self) -> tuple[int, ...] | None:
        """Return a fingerprint that changes with every write; None without a file."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_ctime_ns

    def read(self) -> StoredTokens:
        """Return the stored tokens.

        Raises InvalidInput if there are none, or if the file is another user's or readable by
        other users.
        """
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                content = file.read()
        except FileNotFoundError:
            raise self.not_logged_in() from None

        if status.st_mode & 0o077:
            raise InvalidInput(
                f"{self.path}: readable by other users; set mode 0600, or log in again"
            )
        # Root could read it, but writing it would lock its user out.
        if status.st_uid != os.geteuid():
            raise InvalidInput(
                f"{self.path}: another user's file; run as that user, or log in to another file"
            )

        with suppress(*UNREADABLE):
            return _decoder.decode(content)
        raise InvalidInput(f"{self.path}: holds no refresh token; log in again and call keep()")

    def not_logged_in(self) -> InvalidInput:
        """Return the error for a file that does not exist yet."""
        return InvalidInput(f"{self.path}: no refresh token yet; log in and call keep()")

    def probe(self) -> None:
        """Raise OSError if the file could not be written.

        Called before a refresh token is spent: its successor cannot be had again.
        """
        self._write_draft(bytes(_ROOM))

    def write(self, tokens: StoredTokens) -> None:
        """Replace the content of the file; raises OSError and leaves it unchanged on failure."""
        self._write_draft(msgspec.json.encode(tokens)).replace(self.path)

        # Some file systems cannot sync a directory.
        with suppress(OSError):
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def _write_draft(self, content: bytes) -> Path:
        """Write ``content`` to a new file beside the file, and return its path.

        A new file: another process may have opened an existing file before its mode was set.
        """
        draft = Path(f"{self.path}.new")
        # A killed process may have left a draft.
        draft.unlink(missing_ok=True)

        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(draft, flags, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            # A nearly full disk may take a part at a time.
            while content:
                written = os.write(descriptor, content)
                content = content[written:]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return draft

    def _busy(self) -> BlockingIOError:
        words = "another thread or process is exchanging, and takes too long; try again"
        return BlockingIOError(errno.EAGAIN, words, str(self.path))

    def hold(self) -> None:
        """Do nothing: a fork must not wait for an exchange, which may take a minute."""

    def before_fork(self) -> None:
        """Do nothing: the parent keeps its lock."""

    def after_fork(self, *, child: bool) -> None:
        """Release the lock in the child, which would hold it for as long as it lives."""
        if child:
            self.renew(child=True)

    def renew(self, *, child: bool) -> None:
        """Replace the lock of the threads, and in a child close its copy of the lock's file."""
        self._lock = threading.Lock()
        if child and self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _flock(descriptor: int, deadline: float) -> bool:
    """Lock a file; return False if another process held the lock until the deadline."""
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True

        if time.monotonic() >= deadline:
            return False
        time.sleep(_LOCK_PAUSE)
