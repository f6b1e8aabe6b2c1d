"""The secrets that the gate signs with: given, or made once beside the database.

They are a list, newest first. The first signs and all verify, so a secret can be replaced while
tokens of the old secret are still alive. A secret is never in the database.
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
_SHORTEST_SPELLING = 20  # bytes; two secrets may have a shorter word in common

Secret = str | bytes | Sequence[str | bytes]


class SigningSecret:
    """Reads the secrets from ``given``, the environment, a file or this process, in this order.

    ``database`` is the path of the database's file, None in memory. The secret's file is
    ``<database>.key``. A text holds several secrets with commas or white space between them.
    ``others`` are the HMAC secrets of issuers: an issuer that has the gate's secret could make
    shares.

    Raises InvalidInput for a secret that is too short, or that an issuer has.
    """

    def __init__(
        self, given: Secret | None, database: str | None, others: Sequence[bytes] = ()
    ) -> None:
        self._path = None if database is None else Path(f"{database}.key")
        self._identity: tuple[int, ...] | None = None
        self._secrets: tuple[bytes, ...] = ()
        self._others = tuple(others)

        member = "secret"
        source: object = given
        if given is None:
            member = ENVIRONMENT
            source = os.environ.get(ENVIRONMENT)
        self._fixed = source is not None or self._path is None

        if source is not None:
            self._secrets = self._parse(source, member)
        elif self._path is None:
            self._secrets = (secrets.token_bytes(SHORTEST),)
        elif others:
            # A file with an issuer's secret is refused at the start, not on the first redemption.
            with suppress(OSError):
                self._parse(_read(self._path), str(self._path))

    @property
    def given(self) -> tuple[bytes, ...]:
        """The secrets that do not come from the file."""
        return self._secrets if self._fixed else ()

    def newest(self) -> bytes:
        """Return the secret to sign with; make it if there is none yet.

        Raises StoreUnavailable if that fails.
        """
        if not self.known():
            self._create()
        for secret in self.known():
            return secret
        # The file was removed in the same instant.
        raise StoreUnavailable

    def known(self) -> tuple[bytes, ...]:
        """Return the secrets to verify with, newest first; none if the gate has never signed.

        Raises StoreUnavailable if the file cannot be read.
        """
        if self._fixed or self._path is None:
            return self._secrets

        try:
            status = self._path.stat()
            identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if identity != self._identity:
                self._secrets = self._parse(_read(self._path), str(self._path))
                self._identity = identity
        except FileNotFoundError:
            return ()
        except (OSError, ValueError) as error:
            raise StoreUnavailable from error
        return self._secrets

    def _parse(self, source: object, member: str) -> tuple[bytes, ...]:
        parsed = _parse(source, member)
        if any(same_key(secret, other) for secret in parsed for other in self._others):
            raise InvalidInput(
                f"{member}: is the HMAC secret of one of the issuers, which could sign shares with "
                "it; give the gate a secret of its own"
            )
        return parsed

    def _create(self) -> None:
        """Write a new secret to a draft, then link it into place; an existing secret stays."""
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


def same_key(left: bytes, right: bytes) -> bool:
    """Return True if two secrets sign alike, or if either can be read from a spelling of the other.

    HMAC fills up short secrets and hashes long ones (RFC 2104 section 2). Other spellings are a
    trailing line feed, a list that holds the secret, Base64 (as in a JWK) and hexadecimal digits.

    >>> from faregate.credentials.signing_secret import same_key
    >>> same_key(b"x" * 32, (b"x" * 32).hex().encode())
    True
    """
    return not _signatures(left).isdisjoint(_signatures(right))


def _signatures(secret: bytes) -> frozenset[bytes]:
    spellings = _spellings(secret)
    return frozenset(digest(spelling, b"", name) for spelling in spellings for name in _HASHES)


def _spellings(secret: bytes) -> set[bytes]:
    """Return the secret, and each longer spelling of it."""
    texts = {secret, secret.strip(), *_SEPARATORS.split(secret)}

    decoded: set[bytes] = set()
    for text in texts:
        padded = text.rstrip(b"=") + b"=="
        with suppress(ValueError):
            decoded.add(base64.b64decode(padded))
        with suppress(ValueError):
            decoded.add(base64.urlsafe_b64decode(padded))
        with suppress(ValueError):
            decoded.add(binascii.unhexlify(text))

    spellings = texts | decoded
    return {secret} | {text for text in spellings if len(text) >= _SHORTEST_SPELLING}


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        # Its message would quote a part of the secret.
        raise InvalidInput(f"{path}: a secret is a text that can be read as UTF-8") from None


def _write(path: Path, text: bytes, database: str) -> None:
    """Make a file that only the database's users can read.

    Raises FileExistsError if there is a file already.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        # Its readers can sign, so it is never readable for everybody.
        make_alike(database, descriptor, most=0o660)
        os.write(descriptor, text)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _parse(source: object, member: str) -> tuple[bytes, ...]:
    listed: Sequence[object] = ()
    if isinstance(source, str):
        words = re.split(_SEPARATORS.pattern.decode(), source)
        listed = [word for word in words if word]
    elif isinstance(source, bytes):
        listed = [source]
    elif isinstance(source, list | tuple):
        listed = cast("Sequence[object]", source)

    if not listed:
        raise InvalidInput(f"{member}: a text or a list of texts, newest first")
    return tuple(_check(secret, member) for secret in listed)


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
