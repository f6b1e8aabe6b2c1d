"""A client's half of refresh tokens: keeps the newest one in a file, and gives each request an access credential.

What users of refresh tokens get wrong is here, once: the file is written before what it holds is used, by one process
at a time, whole or not at all; an answer that was lost is asked for again while the gate still gives the same one; and
nothing is sent where it does not belong. It works with httpx2, and with requests.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

import anyio.to_thread
import httpx2
import msgspec

from faregate import forks
from faregate.errors import FaregateError, InvalidInput

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Sequence

TIMEOUT = 5.0  # seconds for one attempt
PATIENCE = 25.0  # seconds for all of them: less than an exchange may be repeated
EARLY = 60.0  # seconds before its end at which an access credential is replaced, or a fifth of its life if that is less
PAUSE = 10.0  # seconds between attempts while the old one still works

Request = TypeVar("Request")


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
    """The gate could not be asked, or did not answer. The refresh token that is kept is good still: try again later."""


class _Kept(msgspec.Struct, frozen=True):
    """What the file holds. ``renew_at`` and ``expires_at`` are epoch seconds, ``scope`` is what was asked for."""

    refresh_token: str
    access_token: str = ""
    scope: str = ""
    renew_at: float = 0.0
    expires_at: float = 0.0

    def __repr__(self) -> str:
        return f"_Kept(expires_at={self.expires_at!r})"


class _Answer(msgspec.Struct):
    """The answer of RFC 6749 section 5.1."""

    access_token: str
    expires_in: float
    refresh_token: str | None = None


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
    is missing, or that others can read.
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
        self._url = httpx2.URL(url)
        here = self._url.scheme == "http" and self._url.host in ("localhost", "127.0.0.1", "::1")
        if self._url.scheme != "https" and not here:
            raise InvalidInput("url: https, unless it is on this machine: who listens would have the refresh token")
        self._origins = {_origin(one) for one in (url, *origins)}
        self._path = Path(path).expanduser().absolute()
        self._scope = "" if scopes is None else " ".join(scopes)
        if scopes is not None and not self._scope:
            raise InvalidInput("scopes: name one or more, or leave them out for all")
        self._http = http
        self._turns = _Turns(Path(f"{self._path}.lock"))
        self._kept: _Kept | None = None
        self._not_before = 0.0

    def keep(self, refresh_token: str) -> None:
        """Keep a new refresh token, in place of what was kept before: call it once, after a login."""
        if not isinstance(refresh_token, str) or not refresh_token:
            raise InvalidInput("refresh_token: expected a text")
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._turns.taken():
            self._write(_Kept(refresh_token))
            self._kept = None

    def access_token(self, rejected: str | None = None) -> str:
        """Return an access credential that is good now; not the one that was ``rejected``. Exchanges if need be."""
        kept, now = self._kept, time.time()
        good = kept is not None and self._is_good(kept, rejected, now)
        if kept is not None and good and now < max(kept.renew_at, self._not_before):
            return kept.access_token
        spare = kept.access_token if kept is not None and good else None
        try:
            with self._turns.taken(wait=spare is None):
                return self._renewed(rejected)
        except FileNotFoundError:
            raise self._nothing() from None
        except (BlockingIOError, ExchangeUnanswered):  # somebody else is about it, or it cannot be now
            if spare is None:
                raise
            self._not_before = now + PAUSE
            return spare

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
        """Give a request of ``requests`` an access credential."""
        prepared: Any = request
        self._check(prepared.url)
        prepared.headers["Authorization"] = f"Bearer {self.access_token()}"
        return request

    def __repr__(self) -> str:
        return f"RefreshAuth({str(self._url)!r}, {str(self._path)!r})"

    def _check(self, url: httpx2.URL | str) -> None:
        if _origin(url) not in self._origins:
            raise InvalidInput(f"origins: {_origin(url)} is not one to which the credential goes; name it if it is")

    def _is_good(self, kept: _Kept, rejected: str | None, now: float) -> bool:
        return kept.scope == self._scope and kept.access_token != rejected and now < kept.expires_at

    def _renewed(self, rejected: str | None) -> str:
        """Return the access credential that another process has got meanwhile, or else exchange."""
        kept, now = self._read(), time.time()
        if not (kept.access_token and self._is_good(kept, rejected, now) and now < kept.renew_at):
            self._draft(kept)  # what could not be written afterwards is not asked for
            kept = self._exchanged(kept)
            self._write(kept)
        self._kept = kept
        return kept.access_token

    def _exchanged(self, kept: _Kept) -> _Kept:
        """Exchange a refresh token. Until it is answered the same is asked again, which has the same outcome."""
        deadline, pause = time.monotonic() + PATIENCE, 0.1
        form = {"grant_type": "refresh_token", "refresh_token": kept.refresh_token}
        form |= {"scope": self._scope} if self._scope else {}
        while True:
            began = time.time()
            try:
                answer = self._post(form)
                if answer.status_code < 500 and answer.status_code != 429:
                    return _taken(answer, kept, self._scope, began)
                trouble: Exception = httpx2.HTTPStatusError(
                    f"the answer is {answer.status_code}", request=answer.request, response=answer
                )
            except httpx2.TransportError as error:
                trouble = error
            if time.monotonic() + pause > deadline:
                raise ExchangeUnanswered(f"{self._url} did not answer: {trouble}") from trouble
            time.sleep(pause)
            pause = min(2 * pause, 2.0)

    def _post(self, form: dict[str, str]) -> httpx2.Response:
        if self._http is not None:
            return self._http.post(self._url, data=form, timeout=TIMEOUT, follow_redirects=False, auth=httpx2.Auth())
        with httpx2.Client() as http:
            return http.post(self._url, data=form, timeout=TIMEOUT)

    def _read(self) -> _Kept:
        try:
            with self._path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                if mode & 0o077:
                    raise InvalidInput(f"{self._path}: others can read it; give it mode 0600, or log in again")
                return msgspec.json.decode(file.read(), type=_Kept)
        except msgspec.MsgspecError:
            raise InvalidInput(f"{self._path}: holds no refresh token; log in again, and keep() it") from None

    def _write(self, kept: _Kept) -> None:
        """Write the file as a whole, and have it on the disk before what it holds is used."""
        self._draft(kept).replace(self._path)
        with suppress(OSError):  # a file system that cannot sync a directory
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def _draft(self, kept: _Kept) -> Path:
        """Write the file under another name, which nobody else can read either."""
        draft = Path(f"{self._path}.new")
        descriptor = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            os.write(descriptor, msgspec.json.encode(kept))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return draft

    def _nothing(self) -> InvalidInput:
        return InvalidInput(f"{self._path}: there is no refresh token yet; log in, and keep() it")


class _Turns:
    """Has one thread of one process at a time work on a file: the others wait, by way of a lock file beside it.

    A child that is forked in the middle of it has no part in that.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._descriptor: int | None = None
        forks.register(self)

    @contextmanager
    def taken(self, *, wait: bool = True) -> Generator[None]:
        """Take a turn. BlockingIOError if it is somebody else's, unless this may ``wait``; FileNotFoundError."""
        lock = self._lock
        if not lock.acquire(blocking=wait):
            raise BlockingIOError
        try:
            descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            self._descriptor = descriptor
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield
            finally:
                if self._descriptor == descriptor:  # and this is not a child that was forked in the middle of it
                    self._descriptor = None
                    with suppress(OSError):
                        fcntl.flock(descriptor, fcntl.LOCK_UN)  # at once, even if such a child still has it open
                    os.close(descriptor)
        finally:
            lock.release()

    def hold(self) -> None:
        """Let the process fork at any time: an exchange may take longer than who forks can wait."""

    def before_fork(self) -> None:
        """Leave everything as it is."""

    def after_fork(self, *, child: bool) -> None:
        """In the child, which would keep the file locked for as long as it lives, let go."""
        if not child:
            return
        self._lock = Lock()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _taken(answer: httpx2.Response, kept: _Kept, scope: str, began: float) -> _Kept:
    """Return what is to be kept of an answer; ExchangeRefused if it is none. ``began`` is when it was asked for."""
    if answer.status_code != 200:
        raise _refusal(answer)
    try:
        told = msgspec.json.decode(answer.content, type=_Answer)
    except msgspec.MsgspecError as error:
        raise ExchangeRefused("invalid_answer", f"{answer.url} is no token endpoint, it seems: {error}") from None
    ends = began + told.expires_in
    early = min(EARLY, told.expires_in / 5)
    return _Kept(told.refresh_token or kept.refresh_token, told.access_token, scope, ends - early, ends)


def _refusal(answer: httpx2.Response) -> ExchangeRefused:
    with suppress(msgspec.MsgspecError):
        told = msgspec.json.decode(answer.content, type=_Refusal)
        return ExchangeRefused(told.error, told.error_description)
    return ExchangeRefused("invalid_answer", f"{answer.url} answered {answer.status_code}, as no token endpoint does")


def _origin(url: httpx2.URL | str) -> str:
    return str(httpx2.URL(url).copy_with(path="/", query=None, fragment=None, userinfo=b"")).rstrip("/")


def _dressed(request: httpx2.Request, access_token: str) -> httpx2.Request:
    request.headers["Authorization"] = f"Bearer {access_token}"
    return request


def _rejected(response: httpx2.Response) -> bool:
    """Tell whether it was the credential that did not open (RFC 6750 section 3.1)."""
    return response.status_code == 401 and 'error="invalid_token"' in response.headers.get("WWW-Authenticate", "")


def _again(request: httpx2.Request) -> bool:
    """Tell whether a request can be sent a second time: a body that was streamed is gone."""
    return isinstance(request.stream, httpx2.ByteStream)
