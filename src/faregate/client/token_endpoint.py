"""A token endpoint (RFC 6749 section 3.2), asked for exchanges until their outcome is known.

The gate repeats an exchange identically for 30 seconds; after that the refresh token is lost. So a
lost answer has to be asked for again, soon. An answer counts as lost if it leaves the outcome open:
a broken connection, a truncated or slow body, and each status that a proxy may send after the gate
has exchanged the token.
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

TIMEOUT = 5.0  # seconds for one attempt to connect, and for the whole answer to arrive

# Attempts begin within 28 seconds: a little less than the gate repeats an exchange.
PATIENCE = 28.0  # seconds

_FIRST_PAUSE = 0.1  # seconds, doubled after each attempt
_LONGEST_PAUSE = 2.0  # seconds

# After these the request has not reached the gate.
_UNSENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)

# The only status after which certainly nothing was exchanged. A proxy may send 503 after the gate
# has done its work.
_TOO_MANY_REQUESTS = 429

# These leave the outcome open, as does every status from 500 on.
_INCONCLUSIVE = frozenset({408, 425, _TOO_MANY_REQUESTS})

_LONGEST_ANSWER = 65_536  # bytes
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_UNPRINTABLE = re.compile(r"[^ -~]")

# RFC 6750 section 2.1 and RFC 6749 appendix A.7.
Credential = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._~+/-]+=*\Z")]
Code = Annotated[str, msgspec.Meta(pattern=r"^[ !#-\[\]-~]{1,64}\Z")]
BearerType = Annotated[str, msgspec.Meta(pattern=r"^(?i:bearer)\Z")]

# 0 is valid: the remaining life of a refresh token is rounded down.
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class ExchangeRefused(FaregateError):
    """The gate refuses to exchange the refresh token.

    ``error`` is a code of RFC 6749 section 5.2, ``description`` its explanation. After
    ``invalid_grant`` the refresh token is dead, or not allowed from this address: its user has to
    log in again::

        try:
            http.get("https://api.example.com/documents")
        except ExchangeRefused as refused:
            if refused.error == "invalid_grant":
                auth.keep(log_in())

    ``invalid_answer`` is this client's own code for an answer of another protocol.
    """

    def __init__(self, error: str, description: str) -> None:
        self.error = error
        self.description = description
        super().__init__(error, description)

    def __str__(self) -> str:
        return f"{self.error}: {self.description}"


class ExchangeUnanswered(FaregateError):
    """The gate could not be reached, or its answer was lost.

    Try again soon: an exchange whose answer was lost can be repeated for 30 seconds.
    """


class _TokenResponse(msgspec.Struct):
    """The answer of RFC 6749 section 5.1."""

    access_token: Credential
    expires_in: Seconds
    token_type: BearerType = "Bearer"  # noqa: S105  the type's name
    refresh_token: Credential | None = None

    def __repr__(self) -> str:
        return f"_TokenResponse(expires_in={self.expires_in!r})"


class _ErrorResponse(msgspec.Struct):
    """The answer of RFC 6749 section 5.2."""

    error: Code
    error_description: str = "no reason was given"


# Decoders are made at import, while a single thread runs, as those of faregate.model.
_token_response = msgspec.json.Decoder(_TokenResponse)
_error_response = msgspec.json.Decoder(_ErrorResponse)


class Granted(NamedTuple):
    """The tokens of an exchange.

    ``began`` is the time of the request in epoch seconds; the access token lives for
    ``expires_in`` seconds from then on. ``refresh_token`` is None if the former stays valid.
    """

    access_token: str
    refresh_token: str | None
    began: float
    expires_in: float

    def __repr__(self) -> str:
        return f"Granted(expires_in={self.expires_in!r})"


class _Answer(NamedTuple):
    """An HTTP response: its status, its body, and the seconds of its ``Retry-After``."""

    status: int
    content: bytes
    retry_after: float

    @property
    def lost(self) -> bool:
        """Whether the outcome of the exchange is still open."""
        if self.status >= 500 or self.status in _INCONCLUSIVE:
            return True
        return self.status == 200 and self._truncated

    @property
    def _truncated(self) -> bool:
        """Whether the body is empty, or JSON without its end; HTML is an answer."""
        if self.content.lstrip()[:1] not in (b"", b"{"):
            return False
        return not self.content.rstrip().endswith(b"}")

    def __repr__(self) -> str:
        return f"_Answer({self.status})"


class _Lost(NamedTuple):
    """An attempt without an outcome; ``retry_after`` is in seconds."""

    problem: str
    may_be_exchanged: bool
    retry_after: float = 0.0


class TokenEndpoint:
    """The token endpoint of a gate.

    ``url`` is https, or on this machine. Requests are made with the client ``http``, or with a new
    client each.
    """

    def __init__(self, url: str, http: httpx2.Client | None) -> None:
        check_url(url)
        self.url = httpx2.URL(url)
        self._http = http

    def exchange(self, refresh_token: str, scope: str, *, hurry: bool) -> Granted:
        """Return the answer to an exchange (RFC 6749 section 6).

        Retries until the outcome is known; the gate answers a repeated exchange identically. In a
        ``hurry`` it retries only if the gate may have exchanged the token already. Raises
        ExchangeRefused, and ExchangeUnanswered after 28 seconds.
        """
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        if scope:
            form["scope"] = scope

        deadline = time.monotonic() + PATIENCE
        pause = _FIRST_PAUSE
        may_be_exchanged = False

        while True:
            outcome = self._attempt(form, may_be_exchanged=may_be_exchanged)
            if isinstance(outcome, Granted):
                return outcome

            may_be_exchanged = may_be_exchanged or outcome.may_be_exchanged
            wait = max(pause, outcome.retry_after)

            out_of_time = time.monotonic() + wait > deadline
            if out_of_time or (hurry and not may_be_exchanged):
                raise ExchangeUnanswered(f"{self.url} did not answer: {outcome.problem}")

            time.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _attempt(self, form: dict[str, str], *, may_be_exchanged: bool) -> Granted | _Lost:
        """Return the outcome of one request; ``may_be_exchanged`` tells about those before it."""
        began = time.time()
        try:
            answer = self._post(form)
        except httpx2.RequestError as error:
            problem = f"{type(error).__name__}: {error}"
            return _Lost(problem, may_be_exchanged=not isinstance(error, _UNSENT))

        if not answer.lost:
            granted = _read(answer, began)
            if granted is not None:
                return granted

            # Once the token may be exchanged, a strange answer may come from a proxy: ask again.
            if not may_be_exchanged:
                words = f"{self.url} answered {answer.status}, not as a token endpoint does"
                raise ExchangeRefused("invalid_answer", words)

        return _Lost(
            f"status {answer.status} leaves the outcome open",
            may_be_exchanged=answer.status != _TOO_MANY_REQUESTS,
            retry_after=answer.retry_after,
        )

    def _post(self, form: dict[str, str]) -> _Answer:
        if self._http is not None:
            return self._stream(self._http, form)

        # Plain http stays on this machine: no proxy of the environment may see it.
        with httpx2.Client(trust_env=self.url.scheme == "https") as http:
            return self._stream(http, form)

    def _stream(self, http: httpx2.Client, form: dict[str, str]) -> _Answer:
        """Return the response to ``form``; ReadError if its body is too long or too slow."""
        content = b""
        deadline = time.monotonic() + TIMEOUT

        # The client's own authentication must not reach the token endpoint.
        no_auth = httpx2.Auth()
        with http.stream(
            "POST", self.url, data=form, timeout=TIMEOUT, follow_redirects=False, auth=no_auth
        ) as response:
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > _LONGEST_ANSWER or time.monotonic() > deadline:
                    raise httpx2.ReadError("the answer has no end", request=response.request)

            return _Answer(response.status_code, content, _retry_after(response))


def _retry_after(response: httpx2.Response) -> float:
    """Return the seconds of ``Retry-After`` (RFC 9110 section 10.2.3), 0.0 for dates and others."""
    if response.status_code != _TOO_MANY_REQUESTS:
        return 0.0

    seconds = response.headers.get("Retry-After", "")
    if not re.fullmatch(r"[0-9]{1,9}", seconds):
        return 0.0
    return float(seconds)


def _read(answer: _Answer, began: float) -> Granted | None:
    """Return the granted tokens, None for an answer of another protocol.

    Raises ExchangeRefused for an error response of RFC 6749 section 5.2.
    """
    with suppress(*UNREADABLE):
        if answer.status == 200:
            response = _token_response.decode(answer.content)
            return Granted(
                response.access_token, response.refresh_token, began, response.expires_in
            )

        error = _error_response.decode(answer.content)
        description = _UNPRINTABLE.sub("?", error.error_description[:500])
        raise ExchangeRefused(error.error, description)

    return None


def check_url(url: str) -> None:
    """Raise InvalidInput for a URL to which no credential may be sent.

    Others could listen there.
    """
    parsed = httpx2.URL(url)

    local = parsed.scheme == "http" and parsed.host in _LOOPBACK
    if parsed.scheme != "https" and not local:
        raise InvalidInput(
            "url, origins: https is required, except on this machine; "
            "others could read the credential"
        )
    if parsed.userinfo:
        raise InvalidInput("url, origins: leave out user and password")
