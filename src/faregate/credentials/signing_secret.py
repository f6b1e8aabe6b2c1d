"""The secret that the gate signs with: given, or made once beside the database.

A list, newest first: the first signs, all verify, so that a secret can be replaced while tokens that the old
one signed are still alive. It is never in the database.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from hmac import digest
from pathlib import Path
from typing import cast

from faregate.errors import InvalidInput, StoreUnavailable
from faregate.values.file_owner import make_alike

SHORTEST = 32  # bytes, as long as the hash of HS256 (RFC 7518 section 3.2)
ENVIRONMENT = "FAREGATE_SECRET"
_HASHES = ("sha256", "sha384", "sha512")
_SEPARATORS = re.compile(rb"[,\s]+")
_TELLING = 20  # bytes

Secret = str | bytes | Sequence[str | bytes]


class SigningSecret:
    """Where the secrets come from: ``given``, the environment, the file ``<database>.key``, or this process.

    ``database`` is the path of the database's file, None for memory. In a text, commas and white space stand
    between secrets. ``others`` are secrets that somebody else signs with: whoever has the gate's could make shares.
    Raises InvalidInput for a secret that is too short, is a key of another kind, or one of those.
    """

    def __init__(
        self, given: Secret | None, database: str | None, others: Sequence[bytes] = ()
    ) -> None:
        member = "secret" if given is not None else ENVIRONMENT
        source = given if given is not None else os.environ.get(ENVIRONMENT)
        self._path = None if database is None else Path(f"{database}.key")
        self._identity: tuple[int, ...] | None = None
        self._fixed = source is not None or self._path is None
        self._secrets: tuple[bytes, ...] = ()
        self._others = tuple(others)
        if source is not None:
            self._secrets = self._parse(source, member)
        elif self._path is None:
            self._secrets = (secrets.token_bytes(SHORTEST),)
        elif others:
            with suppress(OSError):
                self._parse(_read(self._path), str(self._path))

    @property
    def given(self) -> tuple[bytes, ...]:
        """The secrets that were given as such, not those of the file."""
        return self._secrets if self._fixed else ()

    def newest(self) -> bytes:
        """Return the secret to sign with, and make it if there is none yet. StoreUnavailable if that fails."""
        if not self.known():
            self._create()
        for secret in self.known():
            return secret
        raise StoreUnavailable  # somebody took the file away in the same instant

    def known(self) -> tuple[bytes, ...]:
        """Return the secrets to verify with, newest first; none where nothing was ever signed."""
        if self._fixed or self._path is None:
            return self._secrets
        try:
            found = self._path.stat()
            identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
            if identity != self._identity:
                self._secrets = self._parse(_read(self._path), str(self._path))
                self._identity = identity
        except FileNotFoundError:
            return ()
        except (OSError, ValueError) as error:
            raise StoreUnavailable from error
        return self._secrets

    def _parse(self, source: object, member: str) -> tuple[bytes, ...]:
        found = _parse(source, member)
        if any(same_key(secret, other) for secret in found for other in self._others):
            raise InvalidInput(
                f"{member}: is the HMAC secret of one of the issuers, who could sign shares with it; "
                "give the gate a secret of its own"
            )
        return found

    def _create(self) -> None:
        """Write a new secret under another name and link it into place: whoever comes second takes the first's."""
        if self._path is None:
            return
        database = str(self._path).removesuffix(".key")
        text = secrets.token_urlsafe(SHORTEST).encode() + b"\n"
        draft = Path(f"{self._path}.{secrets.token_hex(8)}")
        try:
            _write(draft, text, database)
            try:
                os.link(draft, self._path)
            except FileExistsError:
                pass
            except OSError:  # a file system without hard links
                with suppress(FileExistsError):
                    _write(self._path, text, database)
        except OSError as error:
            raise StoreUnavailable from error
        finally:
            draft.unlink(missing_ok=True)


def same_key(one: bytes, other: bytes) -> bool:
    """Tell whether two secrets sign alike, or one is the other in another spelling, which whoever has it can read.

    HMAC fills up short ones and hashes long ones (RFC 2104 section 2). A file's line feed, a list that a secret is in,
    Base64 (with which a JWK writes it) and hexadecimal digits are other spellings.
    """
    return not _signatures(one).isdisjoint(_signatures(other))


def _signatures(secret: bytes) -> frozenset[bytes]:
    return frozenset(digest(one, b"", name) for one in _spellings(secret) for name in _HASHES)


def _spellings(secret: bytes) -> set[bytes]:
    texts = {secret, secret.strip(), *_SEPARATORS.split(secret)}
    decoded: set[bytes] = set()
    for text in texts:
        for decode in (base64.b64decode, base64.urlsafe_b64decode, binascii.unhexlify):
            with suppress(ValueError):
                decoded.add(
                    decode(text if decode is binascii.unhexlify else text.rstrip(b"=") + b"==")
                )
    # What is shorter is a word that two may have in common.
    return {secret} | {one for one in texts | decoded if len(one) >= _TELLING}


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:  # which would quote a part of it
        raise InvalidInput(f"{path}: a secret is a text that can be read as UTF-8") from None


def _write(path: Path, text: bytes, database: str) -> None:
    """Make a file that the database's users read, and nobody else. FileExistsError if there is one."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        make_alike(database, descriptor, most=0o660)  # whoever reads it signs: never for everybody
        os.write(descriptor, text)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _parse(source: object, member: str) -> tuple[bytes, ...]:
    listed: Sequence[object] = ()
    if isinstance(source, str):
        listed = [one for one in re.split(_SEPARATORS.pattern.decode(), source) if one]
    elif isinstance(source, bytes):
        listed = [source]
    elif isinstance(source, list | tuple):
        listed = cast("Sequence[object]", source)
    if not listed:
        raise InvalidInput(f"{member}: a text or a list of texts, newest first")
    return tuple(_check(one, member) for one in listed)


def _check(secret: object, member: str) -> bytes:
    if not isinstance(secret, str | bytes):
        raise InvalidInput(f"{member}: a secret is a text or bytes")
    try:
        raw = secret.encode() if isinstance(secret, str) else secret
    except UnicodeEncodeError:
        raise InvalidInput(f"{member}: a secret is a text that can be written as UTF-8") from None
    if len(raw) < SHORTEST:
        raise InvalidInput(
            f"{member}: {SHORTEST} bytes or more each; make one with 'openssl rand -base64 33'"
        )
    return raw
