"""The file in which a client keeps its newest credentials: nobody else reads it, and one at a time changes it.

It is written whole or not at all, and is on the disk before what it holds is used.
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

_LONGEST_TURN = 60.0  # seconds that somebody else may take before this gives up
_LOOK_EVERY = 0.02
# What reading JSON may raise; the second holds all that was read, and so is never passed on.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_ROOM = 16_384  # bytes that there must be for what is to be written


class StoredTokens(msgspec.Struct, frozen=True):
    """What the file holds. ``renew_at`` and ``expires_at`` are epoch seconds, ``scope`` is what was asked for."""

    refresh_token: str
    url: str  # where it is exchanged, and nowhere else
    access_token: str = ""
    scope: str = ""
    renew_at: float = 0.0
    expires_at: float = 0.0

    def __repr__(self) -> str:
        return f"Kept(expires_at={self.expires_at!r})"


_kept = msgspec.json.Decoder(
    StoredTokens
)  # made while one thread loads this, as those of faregate.model


class TokenFile:
    """Keeps credentials in the file at ``path``; a child that is forked in the middle of a turn has no part in it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser().resolve()  # who comes by a link means the same file
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        forks.register(self)

    @contextmanager
    def turn(self, *, wait: bool = True) -> Generator[None]:
        """Have this thread of this process alone work on the file.

        BlockingIOError if it is somebody else's turn, unless this may ``wait``, or for too long; OSError.
        """
        forks.look()
        lock, deadline = self._lock, time.monotonic() + (_LONGEST_TURN if wait else 0.0)
        if not lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise self._taken()
        try:
            descriptor = os.open(
                f"{self.path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            self._descriptor = descriptor
            try:
                if not _waited_for(descriptor, deadline):
                    raise self._taken()
                yield
            finally:
                if (
                    self._descriptor == descriptor
                ):  # and this is not a child that was forked in the middle of it
                    self._descriptor = None
                    with suppress(OSError):
                        fcntl.flock(
                            descriptor, fcntl.LOCK_UN
                        )  # at once, even if such a child still has it open
                    os.close(descriptor)
        finally:
            lock.release()

    def make_room(self) -> None:
        """Make the folder of the file, for nobody else, unless it is there."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def mark(self) -> tuple[int, ...] | None:
        """Return what is another whenever the file was written since, None if there is none."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_ctime_ns

    def read(self) -> StoredTokens:
        """Return what is kept. InvalidInput if that is nothing, or if it is not this user's alone."""
        try:
            with self.path.open("rb") as file:
                found, content = os.fstat(file.fileno()), file.read()
        except FileNotFoundError:
            raise self.nothing() from None
        if found.st_mode & 0o077:
            raise InvalidInput(
                f"{self.path}: others can read it; give it mode 0600, or log in again"
            )
        if (
            found.st_uid != os.geteuid()
        ):  # root could read it; but then the other user could no longer
            raise InvalidInput(
                f"{self.path}: is another user's; use it as that one, or log in to a file of your own"
            )
        with suppress(*UNREADABLE):
            return _kept.decode(content)
        raise InvalidInput(f"{self.path}: holds no refresh token; log in again, and keep() it")

    def nothing(self) -> InvalidInput:
        """Return the error that says that nothing is kept yet."""
        return InvalidInput(f"{self.path}: there is no refresh token yet; log in, and keep() it")

    def probe(self) -> None:
        """Raise OSError if the file could not be written: before that is needed for what cannot be had again."""
        self._draft(bytes(_ROOM))

    def write(self, kept: StoredTokens) -> None:
        """Write the file. OSError if that cannot be; then it is as it was."""
        self._draft(msgspec.json.encode(kept)).replace(self.path)
        with suppress(OSError):  # a file system that cannot sync a directory
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def _draft(self, content: bytes) -> Path:
        """Write the file under another name, as one that nobody else can have opened before."""
        draft = Path(f"{self.path}.new")
        draft.unlink(missing_ok=True)  # it is left of a turn that was cut short
        descriptor = os.open(
            draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            os.fchmod(descriptor, 0o600)
            while content:  # of a disk that is nearly full it is a part that was written
                content = content[os.write(descriptor, content) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return draft

    def _taken(self) -> BlockingIOError:
        words = "another thread or process is about an exchange, and takes too long; try again"
        return BlockingIOError(errno.EAGAIN, words, str(self.path))

    def hold(self) -> None:
        """Let the process fork at any time: a turn may take longer than who forks can wait."""

    def before_fork(self) -> None:
        """Leave everything as it is."""

    def after_fork(self, *, child: bool) -> None:
        """In the child, which would keep the file locked for as long as it lives, let go."""
        if child:
            self.renew(child=True)

    def renew(self, *, child: bool) -> None:
        """Let go of the lock, and in a child of the file."""
        self._lock = threading.Lock()
        if child and self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _waited_for(descriptor: int, deadline: float) -> bool:
    """Lock a file; say whether that could be done before the deadline."""
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK_EVERY)
