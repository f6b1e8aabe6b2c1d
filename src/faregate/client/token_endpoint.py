"""A token endpoint, as its client sees it: asked for an exchange until it is known what came of that.

An exchange that was made and whose answer was lost has to be asked for again, soon, or the refresh token is gone. So
whatever does not tell what came of it counts as lost: a connection that broke, an answer that was cut or takes too
long, and each status that a proxy may send after the gate has done its work.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import Annotated, NamedTuple

import httpx2
import msgspec

from faregate.client.token_file import UNREADABLE
from faregate.errors import FaregateError, InvalidInput

TIMEOUT = 5.0  # seconds for one attempt to get somewhere, and for its answer to come to its end
PATIENCE = 28.0  # seconds in which attempts begin: hardly less than an exchange may be repeated

_UNSENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_PUT_OFF = 429  # besides those the one answer after which nothing was exchanged: a proxy's 503 may come too late
_UNKNOWN = frozenset({408, 425, _PUT_OFF})  # as is whatever is 500 or above
_LONGEST = 65_536  # bytes of an answer
_HERE = frozenset({"localhost", "127.0.0.1", "::1"})
_UNSAID = re.compile(r"[^ -~]")

Credential = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._~+/-]+=*\Z")]
Code = Annotated[str, msgspec.Meta(pattern=r"^[ !#-\[\]-~]{1,64}\Z")]
BearerType = Annotated[str, msgspec.Meta(pattern=r"^(?i:bearer)\Z")]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]  # 0: its last second


class ExchangeRefused(FaregateError):
    """The gate does not exchange the refresh token: ``error`` is its code, ``description`` its words.

    The codes are those of RFC 6749 section 5.2. ``invalid_grant`` says that the refresh token is dead, or may not be
    used from here: whoever it was given to has to log in again. ``invalid_answer`` is one that no token endpoint gives.
    """

    def __init__(self, error: str, description: str) -> None:
        self.error = error
        self.description = description
        super().__init__(error, description)

    def __str__(self) -> str:
        return f"{self.error}: {self.description}"


class ExchangeUnanswered(FaregateError):
    """The gate could not be asked, or its answer did not come.

    Try again, and soon: if an exchange was made whose answer was lost, it can be repeated for 30 seconds and no longer.
    """


class _Answer(msgspec.Struct):
    """The answer of RFC 6749 section 5.1."""

    access_token: Credential
    expires_in: Seconds
    token_type: BearerType = "Bearer"  # noqa: S105  the type's name
    refresh_token: Credential | None = None

    def __repr__(self) -> str:
        return f"_Answer(expires_in={self.expires_in!r})"


class _Refusal(msgspec.Struct):
    """The answer of RFC 6749 section 5.2."""

    error: Code
    error_description: str = "no reason was given"


# Made while one thread loads this, as those of faregate.model.
_answer, _refusal = msgspec.json.Decoder(_Answer), msgspec.json.Decoder(_Refusal)


class Granted(NamedTuple):
    """What an exchange was answered with. It was asked for at ``began``, in epoch seconds, and lives from then on."""

    access_token: str
    refresh_token: str | None
    began: float
    expires_in: float

    def __repr__(self) -> str:
        return f"Granted(expires_in={self.expires_in!r})"


class _Answered(NamedTuple):
    """What came back: the status, the body, and for how many seconds not to ask again."""

    status: int
    content: bytes
    retry_after: float

    @property
    def lost(self) -> bool:
        """Whether this does not tell what came of the exchange."""
        cut = self.content.lstrip()[:1] in (b"", b"{") and not self.content.rstrip().endswith(b"}")
        return self.status >= 500 or self.status in _UNKNOWN or (self.status == 200 and cut)

    def __repr__(self) -> str:
        return f"_Answered({self.status})"


class TokenEndpoint:
    """The endpoint at ``url``, https or on this machine; ``http`` is the client that asks it, if not one of its own."""

    def __init__(self, url: str, http: httpx2.Client | None) -> None:
        check_url(url)
        self.url = httpx2.URL(url)
        self._http = http

    def exchange(self, refresh_token: str, scope: str, *, hurry: bool) -> Granted:
        """Exchange a refresh token. Until it is answered the same is asked again, which has the same outcome.

        In a ``hurry`` only what may have been exchanged already is asked again. ExchangeRefused, ExchangeUnanswered.
        """
        deadline, pause, done = time.monotonic() + PATIENCE, 0.1, False
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        form |= {"scope": scope} if scope else {}
        while True:
            began, wait = time.time(), pause
            try:
                answer = self._post(form)
            except httpx2.RequestError as error:
                done = done or not isinstance(error, _UNSENT)
                trouble = f"{type(error).__name__}: {error}"
            else:
                granted = None if answer.lost else _told(answer, began)
                if granted is not None:
                    return granted
                if (
                    not answer.lost and not done
                ):  # nobody's word but a proxy's, if anything was exchanged before
                    words = f"{self.url} answered {answer.status}, and not as a token endpoint does"
                    raise ExchangeRefused("invalid_answer", words)
                done = done or answer.status != _PUT_OFF
                wait = max(wait, answer.retry_after)
                trouble = f"the answer is {answer.status}, and does not tell what came of it"
            if time.monotonic() + wait > deadline or (hurry and not done):
                raise ExchangeUnanswered(f"{self.url} did not answer: {trouble}")
            time.sleep(wait)
            pause = min(2 * pause, 2.0)

    def _post(self, form: dict[str, str]) -> _Answered:
        if self._http is not None:
            return self._read(self._http, form)
        # What is said in plain words stays on this machine: no proxy of the environment's hears it.
        with httpx2.Client(trust_env=self.url.scheme == "https") as http:
            return self._read(http, form)

    def _read(self, http: httpx2.Client, form: dict[str, str]) -> _Answered:
        content, deadline = b"", time.monotonic() + TIMEOUT
        no_other = httpx2.Auth()  # in place of what the client sends along by itself
        with http.stream(
            "POST", self.url, data=form, timeout=TIMEOUT, follow_redirects=False, auth=no_other
        ) as answer:
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > _LONGEST or time.monotonic() > deadline:
                    raise httpx2.ReadError("it does not come to its end", request=answer.request)
            later = answer.headers.get("Retry-After", "") if answer.status_code == _PUT_OFF else ""
            return _Answered(
                answer.status_code,
                content,
                float(later) if re.fullmatch(r"[0-9]{1,9}", later) else 0.0,
            )


def _told(answer: _Answered, began: float) -> Granted | None:
    """Return what was granted, None if this is no token endpoint's answer; ExchangeRefused if it says no."""
    with suppress(*UNREADABLE):
        if answer.status == 200:
            told = _answer.decode(answer.content)
            return Granted(told.access_token, told.refresh_token, began, told.expires_in)
        refusal = _refusal.decode(answer.content)
        raise ExchangeRefused(refusal.error, _UNSAID.sub("?", refusal.error_description[:500]))
    return None


def check_url(url: str) -> None:
    """Raise InvalidInput for a URL to which no credential may go, since others could listen there."""
    parsed = httpx2.URL(url)
    if parsed.scheme != "https" and not (parsed.scheme == "http" and parsed.host in _HERE):
        raise InvalidInput(
            "url, origins: https, unless it is on this machine: who listens would have the credential"
        )
    if parsed.userinfo:
        raise InvalidInput("url, origins: leave out user and password")
