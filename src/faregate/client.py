"""A client's half of refresh tokens: keeps the newest one in a file, and gives each request an access credential.

What users of refresh tokens get wrong is here, once: the file is written before what it holds is used, by one process
at a time, whole or not at all; an answer that was lost is asked for again while the gate still gives the same one; and
nothing is sent where it does not belong. It works with httpx2, and with requests.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import anyio.to_thread
import httpx2
import msgspec

from faregate.errors import FaregateError, InvalidInput
from faregate.keeper import Keeper, Kept

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, Generator, Sequence

_logger = logging.getLogger("faregate")

TIMEOUT = 5.0  # seconds for one attempt to get somewhere
PATIENCE = 28.0  # seconds in which attempts begin: hardly less than an exchange may be repeated
EARLY = 60.0  # seconds before its end at which an access credential is replaced, or a fifth of its life if that is less
PAUSE = 5.0  # seconds between attempts while the old one still works

_UNSENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_UNDONE = frozenset({408, 429, 503})  # of those, the ones that say that nothing was exchanged
_HERE = frozenset({"localhost", "127.0.0.1", "::1"})

Request = TypeVar("Request")
Credential = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._~+/-]+=*$")]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]  # 0: its last second


class ExchangeRefused(FaregateError):
    """The gate does not exchange the refresh token: ``error`` is its code, ``description`` its words.

    The codes are those of RFC 6749 section 5.2. ``invalid_grant`` says that the refresh token is dead, or may not be
    used from here: whoever it was given to has to log in again.
    """

    def __init__(self, error: str, description: str) -> None:
        self.error = error
        self.description = description
        super().__init__(f"{error}: {description}")


class ExchangeUnanswered(FaregateError):
    """The gate could not be asked, or its answer did not come.

    Try again, and soon: if an exchange was made whose answer was lost, it can be repeated for 30 seconds and no longer.
    """


class _Answer(msgspec.Struct):
    """The answer of RFC 6749 section 5.1."""

    access_token: Credential
    expires_in: Seconds
    refresh_token: Credential | None = None

    def __repr__(self) -> str:
        return f"_Answer(expires_in={self.expires_in!r})"


class _Refusal(msgspec.Struct):
    """The answer of RFC 6749 section 5.2."""

    error: str
    error_description: str = "no reason was given"


class RefreshAuth(httpx2.Auth):
    """Sends an access credential along with each request, and exchanges the refresh token for a new one in time.

    ``url`` is that of the gate's ``POST /token``, https or on this machine. ``path`` is the file that keeps the newest
    refresh token, of mode 0600; :meth:`keep` writes the first one into it. Several processes may share it. ``scopes``
    narrows what is asked for. The credential goes to the origin of ``url`` and to ``origins``, and nowhere else.
    ``http`` is the client that asks for exchanges, for the sake of its certificates and proxies.

    Use it as ``auth`` of an ``httpx2.Client`` or ``AsyncClient``, or of ``requests``. A request raises ExchangeRefused
    when its user has to log in again, ExchangeUnanswered when the gate cannot be reached, InvalidInput for a file that
    is missing, or that others can read, OSError for one that cannot be written.
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
        self._url = httpx2.URL(url)
        self._origins = {_safe(one) for one in (url, *origins)}
        self._scope = "" if scopes is None else " ".join(scopes)
        if scopes is not None and not self._scope:
            raise InvalidInput("scopes: name one or more, or leave them out for all")
        self._http = http
        self._keeper = Keeper(path)
        self._kept: Kept | None = None
        self._unsaved: tuple[str, Kept] | None = None  # what could not be written, and instead of which refresh token
        self._rejected: str | None = None
        self._look_at = 0.0

    def keep(self, refresh_token: str) -> None:
        """Keep a new refresh token, in place of what was kept before: call it once, after a login."""
        if not isinstance(refresh_token, str) or not refresh_token:
            raise InvalidInput("refresh_token: expected a text")
        self._keeper.make_room()
        with self._keeper.turn():
            self._keeper.write(Kept(refresh_token))
            self._kept = self._unsaved = None

    def access_token(self, rejected: str | None = None) -> str:
        """Return an access credential that is good now; not the one that was ``rejected``. Exchanges if need be."""
        if rejected is not None:
            self._rejected = rejected
        kept, now = self._kept, time.time()
        spare = kept.access_token if kept is not None and self._is_good(kept, now) else None
        if spare is not None and now < self._look_at:
            return spare
        try:
            with self._keeper.turn(wait=spare is None):
                return self._renewed(now, hurry=spare is not None)
        except (OSError, ExchangeUnanswered, ExchangeRefused) as error:
            if spare is not None:  # somebody else is about it, or it cannot be now; if it is dead, so is this one
                self._look_at = now + PAUSE
                return spare
            if isinstance(error, BlockingIOError):
                raise ExchangeUnanswered("Another process is about the exchange, and takes too long.") from None
            if isinstance(error, FileNotFoundError):
                raise self._keeper.nothing() from None
            raise

    def sync_auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Send the request with an access credential; once more with a new one where that was rejected."""
        self._check(request.url)
        used = self.access_token()
        response = yield _dressed(request, used)
        if _rejected(response) and _again(request):
            yield _dressed(request, self.access_token(used))

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Do the same, on an event loop: what may wait is done in a worker thread."""
        self._check(request.url)
        used = await anyio.to_thread.run_sync(self.access_token)
        response = yield _dressed(request, used)
        if _rejected(response) and _again(request):
            yield _dressed(request, await anyio.to_thread.run_sync(self.access_token, used))

    def __call__(self, request: Request) -> Request:
        """Give a request of ``requests`` an access credential. After one that was rejected, the next is a new one."""
        prepared: Any = request
        self._check(prepared.url)
        used = self.access_token()

        def notice(response: Any, **_: Any) -> None:
            if _rejected(response):
                self._rejected = used

        _dressed(prepared, used).register_hook("response", notice)
        return request

    def __repr__(self) -> str:
        return f"RefreshAuth({str(self._url)!r}, {str(self._keeper.path)!r})"

    def _check(self, url: httpx2.URL | str) -> None:
        if _origin(url) not in self._origins:
            raise InvalidInput(f"origins: {_origin(url)} is not one to which the credential goes; name it if it is")

    def _is_good(self, kept: Kept, now: float) -> bool:
        usable = bool(kept.access_token) and kept.access_token != self._rejected
        return usable and kept.scope == self._scope and now < kept.expires_at

    def _renewed(self, now: float, *, hurry: bool) -> str:
        """Return the access credential that another process has got meanwhile, or else exchange."""
        kept = self._keeper.read()
        if self._unsaved is not None and kept.refresh_token != self._unsaved[0]:
            self._unsaved = None  # another process has come further
        if self._unsaved is not None:
            kept = self._unsaved[1]
        if not self._is_good(kept, now) or now >= kept.renew_at:
            self._keeper.probe()
            before, kept = kept, self._exchanged(kept, hurry=hurry)
            replaced = self._unsaved[0] if self._unsaved is not None else before.refresh_token
            self._unsaved = replaced, kept
        self._kept, self._look_at = kept, kept.renew_at
        if self._unsaved is not None:
            self._save(now)
        return kept.access_token

    def _save(self, now: float) -> None:
        """Write what is newest. What cannot be written is in memory alone, and is tried again with each request."""
        if self._unsaved is None:
            return
        try:
            self._keeper.write(self._unsaved[1])
        except OSError:
            _logger.exception("the newest refresh token could not be written to %s", self._keeper.path)
            self._look_at = now
        else:
            self._unsaved = None

    def _exchanged(self, kept: Kept, *, hurry: bool) -> Kept:
        """Exchange a refresh token. Until it is answered the same is asked again, which has the same outcome.

        In a ``hurry`` only what may have been exchanged already is asked again.
        """
        deadline, pause, done = time.monotonic() + PATIENCE, 0.1, False
        form = {"grant_type": "refresh_token", "refresh_token": kept.refresh_token}
        form |= {"scope": self._scope} if self._scope else {}
        while True:
            began = time.time()
            try:
                answer = self._post(form)
            except httpx2.RequestError as error:
                done = done or not isinstance(error, _UNSENT)
                trouble = f"{type(error).__name__}: {error}"
            else:
                if answer.status_code not in _AGAIN:
                    return _taken(answer, kept, self._scope, began)
                done = done or answer.status_code not in _UNDONE
                trouble = f"the answer is {answer.status_code}"
            if time.monotonic() + pause > deadline or (hurry and not done):
                raise ExchangeUnanswered(f"{self._url} did not answer: {trouble}")
            time.sleep(pause)
            pause = min(2 * pause, 2.0)

    def _post(self, form: dict[str, str]) -> httpx2.Response:
        if self._http is not None:
            return self._http.post(self._url, data=form, timeout=TIMEOUT, follow_redirects=False, auth=httpx2.Auth())
        with httpx2.Client() as http:
            return http.post(self._url, data=form, timeout=TIMEOUT)


def _taken(answer: httpx2.Response, kept: Kept, scope: str, began: float) -> Kept:
    """Return what is to be kept of an answer; ExchangeRefused if it is none. ``began`` is when it was asked for."""
    if answer.status_code != 200:
        raise _refusal(answer)
    try:
        told = msgspec.json.decode(answer.content, type=_Answer)
    except msgspec.MsgspecError:
        raise ExchangeRefused("invalid_answer", f"{answer.url} answered as no token endpoint does") from None
    ends = began + told.expires_in
    early = min(EARLY, told.expires_in / 5)
    return Kept(told.refresh_token or kept.refresh_token, told.access_token, scope, ends - early, ends)


def _refusal(answer: httpx2.Response) -> ExchangeRefused:
    with suppress(msgspec.MsgspecError):
        told = msgspec.json.decode(answer.content, type=_Refusal)
        return ExchangeRefused(told.error, told.error_description)
    return ExchangeRefused("invalid_answer", f"{answer.url} answered {answer.status_code}, as no token endpoint does")


def _safe(url: str) -> str:
    """Return the origin of a URL to which a credential may go; InvalidInput if others could listen there."""
    parsed = httpx2.URL(url)
    if parsed.scheme != "https" and not (parsed.scheme == "http" and parsed.host in _HERE):
        raise InvalidInput("url, origins: https, unless it is on this machine: who listens would have the credential")
    if parsed.userinfo:
        raise InvalidInput("url, origins: leave out user and password")
    return _origin(parsed)


def _origin(url: httpx2.URL | str) -> str:
    return str(httpx2.URL(url).copy_with(path="/", query=None, fragment=None, userinfo=b"")).rstrip("/")


def _dressed(request: Any, access_token: str) -> Any:
    request.headers["Authorization"] = f"Bearer {access_token}"
    return request


def _rejected(response: Any) -> bool:
    """Tell whether it was the credential that did not open (RFC 6750 section 3.1)."""
    return response.status_code == 401 and 'error="invalid_token"' in response.headers.get("WWW-Authenticate", "")


def _again(request: httpx2.Request) -> bool:
    """Tell whether a request can be sent a second time: a body that was streamed is gone."""
    return isinstance(request.stream, httpx2.ByteStream)
