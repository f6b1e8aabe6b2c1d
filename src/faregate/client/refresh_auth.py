"""A client's half of refresh tokens: keeps the newest one in a file, and gives each request an access credential.

What users of refresh tokens get wrong is here, once: the file is written before what it holds is used, by one process
at a time, whole or not at all; an answer that was lost is asked for again while the gate still gives the same one; and
nothing is sent where it does not belong. It works with httpx2, and with requests.
"""

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

EARLY = 60.0  # seconds before its end at which an access credential is replaced, or a fifth of its life if that is less
PAUSE = 5.0  # seconds between attempts while the old one still works

_AT_ONCE = 40  # threads in which an event loop waits for exchanges, apart from those that the application uses
_LIMITER: RunVar[anyio.CapacityLimiter] = RunVar("faregate.client")

Request = TypeVar("Request")


class _Failed(NamedTuple):
    """An exchange that failed: when, of which refresh token, and how."""

    at: float
    refresh_token: str
    error: ExchangeRefused | ExchangeUnanswered

    def __repr__(self) -> str:
        return f"_Failed({self.error!r})"


class RefreshAuth(httpx2.Auth):
    """Sends an access credential along with each request, and exchanges the refresh token for a new one in time.

    ``url`` is that of the gate's ``POST /token``, https or on this machine. ``path`` is the file that keeps the newest
    refresh token, of mode 0600; :meth:`keep` writes the first one into it. Several processes may share it, and what
    one of them writes counts for all; without the file nobody is logged in. ``scopes`` narrows what is asked for. The
    credential goes to the origin of ``url`` and to ``origins``, and nowhere else. ``http`` is the client that asks for
    exchanges, for the sake of its certificates and proxies.

    Use it as ``auth`` of an ``httpx2.Client`` or ``AsyncClient``, or of ``requests``. A request raises ExchangeRefused
    when the gate says no (of ``error`` ``invalid_grant``: its user has to log in again), ExchangeUnanswered when the
    gate cannot be reached, InvalidInput for a file that is missing, of another gate, or that others can read, OSError
    for one that cannot be written.
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
            raise InvalidInput("origins, scopes: expected lists of texts")
        for one in origins:
            check_url(one)
        self._endpoint = TokenEndpoint(url, http)
        self._origins = {_origin(one) for one in (url, *origins)}
        self._scope = "" if scopes is None else " ".join(scopes)
        if scopes is not None and not self._scope:
            raise InvalidInput("scopes: name one or more, or leave them out for all")
        self._keeper = TokenFile(path)
        self._known: tuple[StoredTokens, object] | None = (
            None  # what was kept, and the mark of the file that it was in
        )
        self._failed: _Failed | None = None
        self._unsaved: tuple[str, StoredTokens] | None = (
            None  # what could not be written, and instead of which refresh token
        )
        self._rejected: str | None = None
        self._look_at = 0.0

    def keep(self, refresh_token: str) -> None:
        """Keep a new refresh token, in place of what was kept before: call it once, after a login.

        OSError if it cannot be written, or while an exchange takes too long: then log in again.
        """
        if not isinstance(refresh_token, str) or not refresh_token:
            raise InvalidInput("refresh_token: expected a text")
        self._keeper.make_room()
        with self._keeper.turn():
            self._keeper.write(StoredTokens(refresh_token, str(self._endpoint.url)))
            self._known = self._unsaved = None

    def access_token(self, rejected: str | None = None) -> str:
        """Return an access credential that is good now; not the one that was ``rejected``. Exchanges if need be."""
        if rejected is not None:
            self._rejected = rejected
        at_hand = self._at_hand()
        if at_hand is not None:
            return at_hand
        began, spare = time.monotonic(), self._good()
        try:
            with self._keeper.turn(wait=spare is None):
                return self._renewed(began, hurry=spare is not None)
        except (OSError, ExchangeUnanswered, ExchangeRefused) as error:
            if (
                spare is not None
            ):  # somebody else is about it, or it cannot be now; if it is dead, so is this one
                self._look_at = time.time() + PAUSE
                return spare.access_token
            if isinstance(error, BlockingIOError):
                raise ExchangeUnanswered(str(error)) from None
            if isinstance(error, FileNotFoundError):
                raise self._keeper.nothing() from None
            raise

    def sync_auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Send the request with an access credential; once more with a new one where that was rejected."""
        self._check(request.url)
        used = self.access_token()
        response = yield _dressed(request, used)
        if self._notices(response, used) and _again(request):
            yield _dressed(request, self.access_token())

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Do the same, on an event loop: what may wait is done in a worker thread."""
        self._check(request.url)
        used = self._at_hand()
        if used is None:
            used = await anyio.to_thread.run_sync(self.access_token, limiter=_limiter())
        response = yield _dressed(request, used)
        if self._notices(response, used) and _again(request):
            yield _dressed(
                request, await anyio.to_thread.run_sync(self.access_token, limiter=_limiter())
            )

    def __call__(self, request: Request) -> Request:
        """Give a request of ``requests`` an access credential. After one that was rejected, the next is a new one."""
        prepared: Any = request
        self._check(prepared.url)
        used = self.access_token()

        def notice(response: Any, **_: Any) -> None:
            self._notices(response, used)

        _dressed(prepared, used).register_hook("response", notice)
        return request

    def __repr__(self) -> str:
        return f"RefreshAuth({str(self._endpoint.url)!r}, {str(self._keeper.path)!r})"

    def _check(self, url: httpx2.URL | str) -> None:
        if _origin(url) not in self._origins:
            raise InvalidInput(
                f"origins: {_origin(url)} is not one to which the credential goes; name it if it is"
            )

    def _notices(self, response: Any, used: str) -> bool:
        """Tell whether a credential was rejected (RFC 6750 section 3.1), and use it no more.

        It may have been a request that was redirected: then it went without, and its rejection says nothing.
        """
        challenge = response.headers.get("WWW-Authenticate", "")
        presented = response.request.headers.get("Authorization") == f"Bearer {used}"
        if not (response.status_code == 401 and presented and 'error="invalid_token"' in challenge):
            return False
        self._rejected = used
        return True

    def _good(self) -> StoredTokens | None:
        """Return what the file held when it was last read, if it is good still and the file is the same."""
        kept, mark = self._known or (None, None)
        good = kept is not None and self._is_good(kept, time.time()) and mark == self._keeper.mark()
        return kept if good else None

    def _at_hand(self) -> str | None:
        """Return the access credential of which nothing has to be asked now; never waits."""
        kept = self._good()
        return None if kept is None or time.time() >= self._look_at else kept.access_token

    def _is_good(self, kept: StoredTokens, now: float) -> bool:
        usable = bool(kept.access_token) and kept.access_token != self._rejected
        return usable and kept.scope == self._scope and now < kept.expires_at

    def _renewed(self, began: float, *, hurry: bool) -> str:
        """Return the access credential that another process has got meanwhile, or else exchange.

        Who has ``began`` to wait before an exchange failed need not see for himself.
        """
        mark, kept, now = self._keeper.mark(), self._newest(), time.time()
        if not self._is_good(kept, now) or now >= kept.renew_at:
            failed = self._failed
            if (
                failed is not None
                and failed.at >= began
                and failed.refresh_token == kept.refresh_token
            ):
                raise copy(failed.error)
            self._keeper.probe()
            before, kept = kept, self._exchanged(kept, hurry=hurry)
            self._unsaved = (
                (before.refresh_token if self._unsaved is None else self._unsaved[0]),
                kept,
            )
        self._known, self._look_at = (kept, mark), kept.renew_at
        self._save()
        return kept.access_token

    def _newest(self) -> StoredTokens:
        """Return what the file holds, or what could not be written into it unless another process has come further."""
        kept = self._keeper.read()
        if kept.url != str(self._endpoint.url):
            raise InvalidInput(
                f"{self._keeper.path}: is exchanged at {kept.url}; have a file for each gate"
            )
        if self._unsaved is not None and kept.refresh_token == self._unsaved[0]:
            return self._unsaved[1]
        self._unsaved = None
        return kept

    def _exchanged(self, kept: StoredTokens, *, hurry: bool) -> StoredTokens:
        try:
            granted = self._endpoint.exchange(kept.refresh_token, self._scope, hurry=hurry)
        except (ExchangeRefused, ExchangeUnanswered) as error:
            self._failed = _Failed(time.monotonic(), kept.refresh_token, copy(error))
            raise
        ends, early = granted.began + granted.expires_in, min(EARLY, granted.expires_in / 5)
        newest = granted.refresh_token or kept.refresh_token
        return StoredTokens(newest, kept.url, granted.access_token, self._scope, ends - early, ends)

    def _save(self) -> None:
        """Write what is newest. What cannot be written is in memory alone, and is tried again with each request."""
        if self._unsaved is None:
            return
        kept = self._unsaved[1]
        try:
            self._keeper.write(kept)
        except OSError:
            _logger.exception(
                "the newest refresh token could not be written to %s", self._keeper.path
            )
            self._look_at = 0.0
        else:
            self._known, self._unsaved = (kept, self._keeper.mark()), None


def _origin(url: httpx2.URL | str) -> str:
    return str(httpx2.URL(url).copy_with(path="/", query=None, fragment=None, userinfo=b"")).rstrip(
        "/"
    )


def _dressed(request: Any, access_token: str) -> Any:
    request.headers["Authorization"] = f"Bearer {access_token}"
    return request


def _again(request: httpx2.Request) -> bool:
    """Tell whether a request can be sent a second time: a body that was streamed is gone."""
    return isinstance(request.stream, httpx2.ByteStream)


def _limiter() -> anyio.CapacityLimiter:
    """Return the bound of this event loop for threads that wait for exchanges."""
    try:
        return _LIMITER.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(_AT_ONCE)
        _LIMITER.set(limiter)
        return limiter
