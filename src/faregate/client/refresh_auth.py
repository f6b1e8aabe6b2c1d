"""Sends access tokens with requests, and renews them with a refresh token.

Users of refresh tokens repeat the same mistakes, so each is prevented here: the file is written
before its tokens are used, by one process at a time, whole or not at all. An exchange whose answer
was lost is repeated while the gate still gives the same answer. No token is sent to an unknown
origin.
"""

# The state machine of a client
# =============================
#
# RefreshAuth is two machines. Neither is stored as a name: each follows from the tokens in memory,
# the file and the clock.
#
# 1) The access token:
#
#             exchange, or another
#             process's exchange                time >= renew_at
#        NONE ─────────────► FRESH ─────────────────────────────► DUE
#        ▲  ▲                ▲   │                               │ │ │
#        │  └────────────────┼───┴── rejected, or file changed ──┘ │ │
#        │                   └────────────── exchange ─────────────┘ │
#        └─────────────────────────────── time >= expires_at ────────┘
#
#    NONE   No token is usable. Callers wait for the lock of the file. A failed exchange is raised.
#    FRESH  The token is sent. Nothing is locked, read or exchanged.
#    DUE    The token is still usable, but old enough to be renewed. Nobody waits for the lock. If
#           the exchange fails, the token is sent, and the next attempt comes PAUSE seconds later.
#
# 2) The newest tokens:
#
#                   the write failed
#        SAVED ──────────────────────────────────────────► UNSAVED
#          ▲                                                  │
#          └── written, or the file has another refresh token ┘
#
#    SAVED    The file holds the newest tokens.
#    UNSAVED  Memory alone holds them. They are sent, and each request tries to write them again.
#
# The law:
#
# - Exchange, read and write happen under the lock of the file, held by one thread of one process.
# - The file is read again under the lock: another process may have renewed the tokens meanwhile.
# - The disk is probed before a refresh token is spent. New tokens are written before they are sent;
#   only if the write fails, they are sent from memory.
# - Another process's newer tokens win over unsaved ones.

from __future__ import annotations

import logging
import time
from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import anyio.to_thread
import httpx2
from anyio.lowlevel import RunVar

from faregate.client.token_endpoint import (
    ExchangeRefused,
    ExchangeUnanswered,
    TokenEndpoint,
    check_url,
)
from faregate.client.token_file import StoredTokens, TokenFile
from faregate.errors import InvalidInput

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, Generator, Sequence

_logger = logging.getLogger("faregate")

# An access token is renewed 60 seconds before its end, or after four fifths of a shorter life.
EARLY = 60.0  # seconds
PAUSE = 5.0  # seconds between attempts while the old access token is usable

# Exchanges have threads of their own, so that they do not exhaust those of the application.
_EXCHANGE_THREADS = 40
_LIMITER: RunVar[anyio.CapacityLimiter] = RunVar("faregate.client")

Request = TypeVar("Request")


class _Loaded(NamedTuple):
    """The tokens in memory, and the fingerprint of the file when they were read or written."""

    tokens: StoredTokens
    fingerprint: tuple[int, ...] | None


class _Unsaved(NamedTuple):
    """Tokens that could not be written, and the refresh token that the file holds instead."""

    in_file: str
    tokens: StoredTokens

    def __repr__(self) -> str:
        return f"_Unsaved({self.tokens!r})"


class _Failure(NamedTuple):
    """A failed exchange: its time by the monotonic clock, its refresh token and its error."""

    at: float
    refresh_token: str
    error: ExchangeRefused | ExchangeUnanswered

    def __repr__(self) -> str:
        return f"_Failure({self.error!r})"


class RefreshAuth(httpx2.Auth):
    """Sends an access token with each request, and renews it with a refresh token in time.

    Use it as ``auth`` of an ``httpx2.Client`` or ``AsyncClient``, or of ``requests``::

        auth = RefreshAuth("https://api.example.com/auth/token", "~/.config/example/token")
        auth.keep(refresh_token)  # once, after the login
        with httpx2.Client(auth=auth) as http:
            http.get("https://api.example.com/documents")

    Several processes may share the file; tokens that one process writes count for all. Without the
    file there is no login.

    :param url: The gate's ``POST /token``; https, unless it is on this machine.
    :param path: The file for the newest tokens, of mode 0600. :meth:`keep` creates it.
    :param scopes: Narrows the access tokens; all scopes of the refresh token by default.
    :param origins: Origins to which the access token is sent, besides the origin of ``url``.
    :param http: The client for exchanges, with certificates and proxies of its own.

    A request raises ExchangeRefused if the gate refuses the exchange (with ``error``
    ``invalid_grant`` the user has to log in again), ExchangeUnanswered if the gate cannot be
    reached, InvalidInput for a file that is missing, belongs to another gate or is readable by
    other users, and OSError for a file that cannot be written.
    """

    def __init__(
        self,
        url: str,
        path: str | os.PathLike[str],
        *,
        scopes: Sequence[str] | None = None,
        origins: Sequence[str] = (),
        http: httpx2.Client | None = None,
    ) -> None:
        if isinstance(origins, str) or isinstance(scopes, str):
            raise InvalidInput("origins, scopes: expected lists of strings")
        for origin in origins:
            check_url(origin)

        self._endpoint = TokenEndpoint(url, http)
        self._origins = {_origin(address) for address in (url, *origins)}

        self._scope = "" if scopes is None else " ".join(scopes)
        if scopes is not None and not self._scope:
            raise InvalidInput("scopes: at least one is required; leave scopes out for all")

        self._file = TokenFile(path)
        self._loaded: _Loaded | None = None
        self._unsaved: _Unsaved | None = None
        self._failure: _Failure | None = None
        self._rejected: str | None = None

        # Epoch seconds; until then the loaded tokens are sent without further checks of their age.
        self._check_at = 0.0

    def keep(self, refresh_token: str) -> None:
        """Write a new refresh token to the file, in place of the former tokens.

        Call it once, after a login. Raises InvalidInput if ``refresh_token`` is not a string or is
        empty, OSError if the file cannot be written or another exchange takes too long: log in
        again in this case.
        """
        if not isinstance(refresh_token, str) or not refresh_token:
            raise InvalidInput("refresh_token: expected a string that is not empty")

        self._file.make_folder()
        with self._file.locked():
            self._file.write(StoredTokens(refresh_token, str(self._endpoint.url)))
            self._loaded = None
            self._unsaved = None

    def access_token(self, rejected: str | None = None) -> str:
        """Return a usable access token; exchange the refresh token if there is none.

        An access token that an API ``rejected`` is not returned again. Raises the same errors as a
        request.
        """
        if rejected is not None:
            self._rejected = rejected

        fresh = self._fresh_token()
        if fresh is not None:
            return fresh

        began = time.monotonic()
        spare = self._usable_tokens()
        try:
            with self._file.locked(wait=spare is None):
                return self._renew(began, hurry=spare is not None)

        except (OSError, ExchangeUnanswered, ExchangeRefused) as error:
            # Another thread is renewing, or the gate does not answer. After a refusal the spare
            # token is dead as well, and the API says so.
            if spare is not None:
                self._check_at = time.time() + PAUSE
                return spare.access_token

            if isinstance(error, BlockingIOError):
                raise ExchangeUnanswered(str(error)) from None
            if isinstance(error, FileNotFoundError):
                raise self._file.not_logged_in() from None
            raise

    def sync_auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Send the request with an access token; repeat it with a new token after a rejection."""
        self._check_origin(request.url)

        token = self.access_token()
        response = yield _authorize(request, token)

        if self._record_rejection(response, token) and _is_repeatable(request):
            yield _authorize(request, self.access_token())

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Do the same on an event loop; exchanges run in a worker thread."""
        self._check_origin(request.url)

        token = self._fresh_token()
        if token is None:
            token = await self._access_token_in_thread()
        response = yield _authorize(request, token)

        if self._record_rejection(response, token) and _is_repeatable(request):
            yield _authorize(request, await self._access_token_in_thread())

    def __call__(self, request: Request) -> Request:
        """Add an access token to a request of ``requests``.

        A rejected request is not repeated, but the next request gets a new access token.
        """
        prepared: Any = request
        self._check_origin(prepared.url)
        token = self.access_token()

        def notice(response: Any, **_: Any) -> None:
            self._record_rejection(response, token)

        _authorize(prepared, token).register_hook("response", notice)
        return request

    def __repr__(self) -> str:
        return f"RefreshAuth({str(self._endpoint.url)!r}, {str(self._file.path)!r})"

    def _check_origin(self, url: httpx2.URL | str) -> None:
        origin = _origin(url)
        if origin not in self._origins:
            raise InvalidInput(
                f"origins: {origin} is not listed, so it gets no access token; list it if it should"
            )

    def _record_rejection(self, response: Any, token: str) -> bool:
        """Stop using ``token`` if the API rejected it (RFC 6750 section 3.1); return True then."""
        challenge = response.headers.get("WWW-Authenticate", "")

        # After a redirect to another origin the token was not sent, so a 401 says nothing about it.
        presented = response.request.headers.get("Authorization") == f"Bearer {token}"
        if not (response.status_code == 401 and presented and 'error="invalid_token"' in challenge):
            return False

        self._rejected = token
        return True

    async def _access_token_in_thread(self) -> str:
        return await anyio.to_thread.run_sync(self.access_token, limiter=_limiter())

    def _fresh_token(self) -> str | None:
        """Return the access token in state FRESH, None in any other; never waits."""
        tokens = self._usable_tokens()
        if tokens is None or time.time() >= self._check_at:
            return None
        return tokens.access_token

    def _usable_tokens(self) -> StoredTokens | None:
        """Return the loaded tokens if they are usable and the file has not changed since."""
        loaded = self._loaded
        if loaded is None or not self._is_usable(loaded.tokens, time.time()):
            return None
        if loaded.fingerprint != self._file.fingerprint():
            return None
        return loaded.tokens

    def _is_usable(self, tokens: StoredTokens, now: float) -> bool:
        present = bool(tokens.access_token) and tokens.access_token != self._rejected
        return present and tokens.scope == self._scope and now < tokens.expires_at

    def _renew(self, began: float, *, hurry: bool) -> str:
        """Return an access token that another process renewed meanwhile, or exchange.

        The caller holds the lock of the file, and began to wait for it at ``began``, in seconds of
        the monotonic clock.
        """
        # Taken before the file is read: so the next request notices any later write.
        fingerprint = self._file.fingerprint()
        tokens = self._read_newest()
        now = time.time()

        if not self._is_usable(tokens, now) or now >= tokens.renew_at:
            self._raise_recent_failure(tokens.refresh_token, began)
            self._file.probe()
            tokens = self._exchange(tokens, hurry=hurry)

        self._loaded = _Loaded(tokens, fingerprint)
        self._check_at = tokens.renew_at
        self._save()
        return tokens.access_token

    def _read_newest(self) -> StoredTokens:
        """Return the tokens of the file, or the unsaved tokens that are to replace them."""
        stored = self._file.read()
        if stored.url != str(self._endpoint.url):
            raise InvalidInput(
                f"{self._file.path}: belongs to the gate at {stored.url}; use a file for each gate"
            )

        if self._unsaved is not None and stored.refresh_token == self._unsaved.in_file:
            return self._unsaved.tokens

        self._unsaved = None
        return stored

    def _raise_recent_failure(self, refresh_token: str, began: float) -> None:
        """Raise the failure of the same exchange again if it failed after ``began``.

        Otherwise threads that waited for one another would each repeat it.
        """
        failure = self._failure
        if failure is None or failure.at < began:
            return
        if failure.refresh_token == refresh_token:
            raise copy(failure.error)

    def _exchange(self, tokens: StoredTokens, *, hurry: bool) -> StoredTokens:
        """Return the tokens of an exchange, which are unsaved until they are written."""
        try:
            granted = self._endpoint.exchange(tokens.refresh_token, self._scope, hurry=hurry)
        except (ExchangeRefused, ExchangeUnanswered) as error:
            self._failure = _Failure(time.monotonic(), tokens.refresh_token, copy(error))
            raise

        expires_at = granted.began + granted.expires_in
        newest = StoredTokens(
            refresh_token=granted.refresh_token or tokens.refresh_token,
            url=tokens.url,
            access_token=granted.access_token,
            scope=self._scope,
            renew_at=expires_at - min(EARLY, granted.expires_in / 5),
            expires_at=expires_at,
        )

        # After a failed write the file is some exchanges behind.
        in_file = tokens.refresh_token
        if self._unsaved is not None:
            in_file = self._unsaved.in_file
        self._unsaved = _Unsaved(in_file, newest)
        return newest

    def _save(self) -> None:
        """Write unsaved tokens. If it fails, they stay in memory, and each request tries again."""
        if self._unsaved is None:
            return

        tokens = self._unsaved.tokens
        try:
            self._file.write(tokens)
        except OSError:
            _logger.exception(
                "the newest refresh token could not be written to %s", self._file.path
            )
            self._check_at = 0.0
        else:
            self._loaded = _Loaded(tokens, self._file.fingerprint())
            self._unsaved = None


def _origin(url: httpx2.URL | str) -> str:
    """Return scheme, host and port of a URL (RFC 6454)."""
    origin = httpx2.URL(url).copy_with(path="/", query=None, fragment=None, userinfo=b"")
    return str(origin).rstrip("/")


def _authorize(request: Any, access_token: str) -> Any:
    request.headers["Authorization"] = f"Bearer {access_token}"
    return request


def _is_repeatable(request: httpx2.Request) -> bool:
    """Return True if a request can be sent twice; a streamed body is consumed by the first."""
    return isinstance(request.stream, httpx2.ByteStream)


def _limiter() -> anyio.CapacityLimiter:
    """Return the limit of this event loop for threads that exchange."""
    try:
        return _LIMITER.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(_EXCHANGE_THREADS)
        _LIMITER.set(limiter)
        return limiter
