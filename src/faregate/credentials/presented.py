"""The credential that a request presents (RFC 6750 section 2).

An adapter takes the values out of its framework's request. A request with several credentials is
refused: two readers of it might see two different callers.
"""

from __future__ import annotations

import re
from base64 import b64decode
from typing import TYPE_CHECKING, NamedTuple, cast
from urllib.parse import parse_qsl, unquote

import msgspec

from faregate.errors import Denied, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

QUERY_PARAMETER = "access_token"  # RFC 6750 section 2.3
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110 section 9.2.1

_TCHAR = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_SCHEME = re.compile(rf"{_TCHAR}*")
# A quote without an end goes to the end of the line: each character is looked at once.
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL)
# A word after a comma, with no "=" behind it, is a second scheme: WSGI has joined two lines.
_SECOND_SCHEME = re.compile(rf",[ \t]*{_TCHAR}+(?!{_TCHAR})(?![ \t]*=)")
_FIELD_NAME = re.compile(rf"{_TCHAR}+")
_ORIGIN = re.compile(
    r"https?://[a-z0-9.\-]+(?::[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](?::[0-9]{1,5})?"
)


class RequestValues(msgspec.Struct, frozen=True, gc=False):
    """The values of a request that identify its caller. An adapter takes them out of its request.

    ``authorization``, ``forwarded``, ``header`` and ``cookies`` hold the values of all lines of a
    header, in their order: ``Authorization``, the configured forwarded header, the application's
    own header, ``Cookie``. ``peer`` is the other end of the connection, ``query`` the raw query
    string. ``unsafe`` is True for a request that may change something, and for the handshake of a
    WebSocket.
    """

    authorization: Sequence[str]
    peer: str | None
    forwarded: Sequence[str] = ()
    query: str = ""
    header: Sequence[str] = ()
    cookies: Sequence[str] = ()
    unsafe: bool = False
    origin: str | None = None

    def __repr__(self) -> str:
        return "RequestValues(<hidden>)"


class Presented(NamedTuple):
    """The credential of a request; ``elsewhere`` is True if ``Authorization`` did not hold it."""

    credential: str
    elsewhere: bool

    def __repr__(self) -> str:
        return f"Presented(credential=<hidden>, elsewhere={self.elsewhere})"


class CredentialResolver:
    """Finds the credential of a request in the places that are switched on.

    ``authorization`` is the header ``Authorization``; a proxy may need that for itself. ``query``
    is the parameter ``access_token``, ``header`` the name of another header, ``cookie`` the name of
    a cookie (``__Host-…``). A browser sends a cookie by itself. So a cookie counts only where
    nothing else was presented, and on an unsafe method only beside an ``Origin`` of ``origins``.
    """

    def __init__(
        self,
        *,
        authorization: bool,
        query: bool,
        header: str | None,
        cookie: str | None,
        origins: Sequence[str],
    ) -> None:
        for name, switch in (("query", query), ("authorization", authorization)):
            if not isinstance(switch, bool):
                raise InvalidInput(
                    f"{name}: True or False itself; a text such as 'False' would count as true"
                )
        if not (authorization or query or header or cookie):
            raise InvalidInput(
                "authorization: without it another place has to be switched on: "
                "header, cookie or query"
            )
        _check_header(header)
        _check_cookie(cookie)
        _check_origins(origins)

        self.authorization = authorization
        self.query = query
        self.header = header
        self.cookie = cookie
        self.origins = frozenset(origins)
        # Whether a place beside Authorization is looked at.
        self.elsewhere = query or bool(header) or bool(cookie)

    def resolve(self, values: RequestValues) -> Presented:
        """Return the credential of a request.

        Raises Denied: ``multiple_credentials``, or ``missing_credential``. Whether the text is
        well-formed is judged later.
        """
        bearers = self._in_authorization(values)
        explicit = [*bearers, *self._in_query(values), *self._in_header(values)]
        credentials = explicit or self._in_cookie(values)

        if len(credentials) > 1:
            raise Denied("multiple_credentials")
        if not credentials and self.authorization:
            raise Denied("missing_credential")
        if not credentials:
            raise Denied("missing_credential", self._instruction)
        if not explicit and values.unsafe and values.origin not in self.origins:
            raise Denied(
                "missing_credential",
                "The cookie counts only beside an Origin that is configured here.",
            )
        return Presented(credentials[0], elsewhere=not bearers)

    def _in_authorization(self, values: RequestValues) -> list[str]:
        if not self.authorization:
            return []

        lines = list(values.authorization)
        if len(lines) > 1 or any(_has_second_scheme(line) for line in lines):
            raise Denied("multiple_credentials")
        return [text for line in lines if (text := _after_bearer(line)) is not None]

    def _in_query(self, values: RequestValues) -> list[str]:
        if not self.query:
            return []
        return [value for name, value in query_pairs(values.query) if name == QUERY_PARAMETER]

    def _in_header(self, values: RequestValues) -> list[str]:
        """Return all credentials of the configured header, each with or without the scheme."""
        if not self.header:
            return []
        parts = (part.strip(" \t") for line in values.header for part in line.split(","))
        return [part if (text := _after_bearer(part)) is None else text for part in parts]

    def _in_cookie(self, values: RequestValues) -> list[str]:
        """Return all values of the configured cookie (RFC 6265 sections 4.2.1 and 5.4)."""
        if not self.cookie:
            return []
        pairs = (pair.partition("=") for line in values.cookies for pair in line.split(";"))
        cookies = [
            value.strip(" \t").removeprefix('"').removesuffix('"')
            for name, _, value in pairs
            if name.strip(" \t") == self.cookie
        ]
        return [value for value in cookies if value]

    @property
    def _instruction(self) -> str:
        """How to present a credential where ``Authorization`` belongs to a proxy."""
        if self.header:
            return f"Send one credential in the header {self.header}."
        if self.query:
            return f"Send one credential as the parameter {QUERY_PARAMETER}."
        return "Send the cookie."


def query_pairs(query: str) -> list[tuple[str, str]]:
    """Return the decoded pairs of a raw query string, in their order."""
    return parse_qsl(query, keep_blank_values=True)


def from_client_password(values: RequestValues) -> RequestValues:
    """Return the values with the password of a client's Basic credentials as its bearer credential.

    Client libraries authenticate so (RFC 7617, RFC 6749 section 2.3.1). Other values return
    unchanged.
    """
    if len(values.authorization) != 1:
        return values

    scheme, _, encoded = values.authorization[0].strip(" ").partition(" ")
    if scheme.lower() != "basic":
        return values

    try:
        decoded = b64decode(encoded.strip(" "), validate=True).decode()
    except ValueError:
        return values
    _, colon, password = decoded.partition(":")
    if not colon:
        return values
    # Decoded as a form is, but for the plus sign: a credential may hold one.
    return msgspec.structs.replace(values, authorization=[f"Bearer {unquote(password)}"])


def _has_second_scheme(line: str) -> bool:
    return "," in line and _SECOND_SCHEME.search(_QUOTED.sub('""', line)) is not None


def _after_bearer(line: str) -> str | None:
    """Return the text after ``Bearer``; None for another scheme or none (RFC 9110 section 11.4)."""
    line = line.strip(" ")
    scheme = _SCHEME.match(line)
    if scheme is None or scheme[0].lower() != "bearer":
        return None
    rest = line[scheme.end() :]
    return rest.lstrip(" ") if rest.startswith(" ") else ""


def _check_header(header: object) -> None:
    if header is None:
        return
    if not isinstance(header, str):
        raise InvalidInput("header: the name of a header, or None")
    if not _FIELD_NAME.fullmatch(header) or header.lower() in ("authorization", "cookie"):
        raise InvalidInput("header: the name of a header of its own, such as X-API-Key")


def _check_cookie(cookie: object) -> None:
    if cookie is None:
        return
    if not isinstance(cookie, str):
        raise InvalidInput("cookie: the name of a cookie, or None")
    if not _FIELD_NAME.fullmatch(cookie) or not cookie.startswith("__Host-"):
        raise InvalidInput(
            "cookie: a name that starts with __Host-, so that no other host or path can set it"
        )


def _check_origins(origins: object) -> None:
    wrong = InvalidInput(
        "origins: a list of origins such as https://app.example.com, in lower case, without path"
    )
    if not isinstance(origins, list | tuple | set | frozenset):
        raise wrong
    for origin in cast("Iterable[object]", origins):
        if not isinstance(origin, str) or not _ORIGIN.fullmatch(origin):
            raise wrong
