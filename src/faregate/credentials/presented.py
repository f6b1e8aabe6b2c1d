"""What a request presents, and how a denial is answered (RFC 6750, RFC 9110 section 11, RFC 9457).

Values in, values out: an adapter takes the texts from its framework's request and hands the answer on.
"""

from __future__ import annotations

import logging
import re
from base64 import b64decode
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, unquote

import msgspec

from faregate.errors import REASONS, Denied, InvalidInput, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

_logger = logging.getLogger("faregate")

QUERY_PARAMETER = "access_token"  # RFC 6750 section 2.3
MOST_SCOPES = 20  # that a challenge names
_LONGEST_SCOPE = 2000  # characters; many a proxy has 4 KiB for all headers of an answer
_LONGEST_IN_LOG = 200  # characters of what a client may choose
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
Headers = list[tuple[str, str]]

_TCHAR = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_SCHEME = re.compile(rf"{_TCHAR}*")
# A quote that does not end goes to the end of the line: each character is looked at once.
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL)
# After a comma, a word that no "=" follows is no parameter but a second scheme: WSGI joined two lines.
_SECOND = re.compile(rf",[ \t]*{_TCHAR}+(?!{_TCHAR})(?![ \t]*=)")
_FIELD_NAME = re.compile(rf"{_TCHAR}+")
_REALM = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]{1,200}")  # quoted-string content that needs no escape
_ORIGIN = re.compile(r"https?://[a-z0-9.\-]+(?::[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](?::[0-9]{1,5})?")


class Answer(NamedTuple):
    """An HTTP answer for an adapter to hand on."""

    status: int
    headers: Headers
    body: bytes


class Texts(msgspec.Struct, frozen=True, gc=False):
    """The texts of a request by which its caller is identified; an adapter takes them out of it.

    ``authorization``, ``forwarded``, ``header`` and ``cookies`` are the values of all lines of those names, in
    their order: ``Authorization``, the configured forwarded header, the configured header, ``Cookie``. ``peer`` is
    the other end of the connection, ``query`` the raw query string. ``unsafe`` says that the request may change
    something, as a handshake of a WebSocket does.
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
        return "Texts(<hidden>)"


class Presented(NamedTuple):
    """The one credential of a request; ``elsewhere`` says that it was not in ``Authorization``."""

    credential: str
    elsewhere: bool

    def __repr__(self) -> str:
        return f"Presented(credential=<hidden>, elsewhere={self.elsewhere})"


class Bearer:
    """Where credentials are read from, and the realm that challenges name.

    ``query``, ``header`` and ``cookie`` switch on the places beside ``Authorization``: the parameter
    ``access_token``, the header of that name, the cookie of that name (``__Host-…``). A cookie comes by itself, so it
    is looked at only where nothing else was presented, and on unsafe methods only together with an ``Origin`` of
    ``origins``. ``authorization`` switches off ``Authorization``, which a proxy may need for itself.
    """

    def __init__(
        self,
        *,
        realm: str,
        authorization: bool,
        query: bool,
        header: str | None,
        cookie: str | None,
        origins: Sequence[str],
    ) -> None:
        if not isinstance(realm, str) or not _REALM.fullmatch(realm):
            raise InvalidInput("realm: printable ASCII without quotation mark and backslash (RFC 6750 section 3)")
        for member, switch in (("query", query), ("authorization", authorization)):
            if not isinstance(switch, bool):
                raise InvalidInput(f"{member}: True or False itself; a text such as 'False' would count as true")
        if not (authorization or query or header or cookie):
            raise InvalidInput("authorization: without it another place has to be switched on: header, cookie or query")
        if header is not None and not isinstance(header, str):
            raise InvalidInput("header: the name of a header, or None")
        if cookie is not None and not isinstance(cookie, str):
            raise InvalidInput("cookie: the name of a cookie, or None")
        if header is not None and (not _FIELD_NAME.fullmatch(header) or header.lower() in ("authorization", "cookie")):
            raise InvalidInput("header: the name of a header of its own, such as X-API-Key")
        if cookie is not None and (not _FIELD_NAME.fullmatch(cookie) or not cookie.startswith("__Host-")):
            raise InvalidInput("cookie: a name that starts with __Host-, so that no other host or path can set it")
        if not isinstance(origins, list | tuple | set | frozenset) or not all(
            isinstance(origin, str) and _ORIGIN.fullmatch(origin) for origin in origins
        ):
            raise InvalidInput(
                "origins: a list of origins such as https://app.example.com, in lower case, without path"
            )
        self.realm = realm
        self.authorization = authorization
        self.query = query
        self.header = header
        self.cookie = cookie
        self.origins = frozenset(origins)
        self.elsewhere = query or bool(header) or bool(cookie)  # whether other places than the one are looked at

    def read(self, texts: Texts) -> Presented:
        """Return the one credential that a request presents; places that are not switched on are not looked at.

        Whether it is a well-formed text is for the verifier to say. Raises Denied: ``multiple_credentials`` or
        ``missing_credential``.
        """
        lines = list(texts.authorization) if self.authorization else []
        if len(lines) > 1 or any(_SECOND.search(_QUOTED.sub('""', line)) for line in lines if "," in line):
            raise Denied("multiple_credentials")
        found = [text for line in lines if (text := _after_bearer(line)) is not None]
        bearers = len(found)
        found += [value for name, value in pairs(texts.query) if name == QUERY_PARAMETER] if self.query else ()
        found += _keys(texts.header) if self.header else ()
        explicit = bool(found)
        if not explicit and self.cookie:
            found = _cookies(texts.cookies, self.cookie)
        if len(found) > 1:
            raise Denied("multiple_credentials")
        if not found:
            raise Denied("missing_credential", None if self.authorization else self._way)
        if not explicit and texts.unsafe and texts.origin not in self.origins:
            raise Denied("missing_credential", "The cookie counts only beside an Origin that is configured here.")
        return Presented(found[0], elsewhere=not bearers)

    @property
    def _way(self) -> str:
        """How to present a credential where ``Authorization`` is a proxy's."""
        if self.header:
            return f"Send one credential in the header {self.header}."
        return f"Send one credential as the parameter {QUERY_PARAMETER}." if self.query else "Send the cookie."

    def challenge(self, denied: Denied) -> str | None:
        """Return the value of ``WWW-Authenticate`` for a denial, or None (RFC 6750 section 3)."""
        if denied.error is None and denied.status != 401:
            return None
        scope = _first(denied.scope) if denied.scope else ""
        challenge = _challenge(self.realm, denied.error, denied.reason)
        return f'{challenge}, scope="{scope}"' if scope else challenge

    def answer(self, denied: Denied, *, route: str) -> Answer:
        """Return the answer to a denial, and leave its one record in the log."""
        log_denial(denied, route)
        headers: Headers = []
        challenge = self.challenge(denied)
        if challenge is not None:
            headers.append(("WWW-Authenticate", challenge))
        if denied.status == 503:
            headers.append(("Retry-After", "1"))
        body = _refused(denied.status, denied.reason, denied.title, denied.detail)
        return Answer(denied.status, [*_FIXED, *headers], body)


def logs_denials() -> bool:
    """Tell whether the records of denials are written anywhere; if not, a route need not be named for them."""
    return _logger.isEnabledFor(logging.INFO)


def log_denial(denied: Denied, route: str) -> None:
    """Write the one INFO record of a denial. No value in it was chosen freely by the caller."""
    if denied.logged:
        return
    denied.logged = True
    if not logs_denials():
        return
    _logger.info(
        "denied: reason=%s record=%s address=%s route=%s",
        denied.reason,
        denied.record_id or "-",
        ascii(denied.address)[:_LONGEST_IN_LOG] if denied.address else "-",
        ascii(route)[:_LONGEST_IN_LOG],
        exc_info=denied.__cause__,
    )


@lru_cache(maxsize=64)
def _challenge(realm: str, error: str | None, reason: str) -> str:
    """Return a challenge as far as no scopes are named."""
    parameters = [f'realm="{realm}"']
    if error is not None:
        parameters.append(f'error="{error}"')
    if error == "invalid_token":
        parameters.append(f'error_description="{REASONS[reason].detail}"')
    return "Bearer " + ", ".join(parameters)


def _first(scopes: Sequence[str]) -> str:
    """Return the first scopes, as many as a header can hold that proxies hand on."""
    text = ""
    for scope in scopes[:MOST_SCOPES]:
        longer = f"{text} {scope}" if text else scope
        if len(longer) > _LONGEST_SCOPE:
            break
        text = longer
    return text


def problem(status: int, code: str, title: str, detail: str, headers: Sequence[tuple[str, str]] = ()) -> Answer:
    """Return an answer of RFC 9457: ``type``, ``title``, ``status``, ``detail``, and ``code``."""
    return Answer(status, [*_FIXED, *headers], _body(status, code, title, detail))


_FIXED = (("Content-Type", "application/problem+json"), ("Cache-Control", "no-store"))


def _body(status: int, code: str, title: str, detail: str) -> bytes:
    members = {
        "type": f"urn:faregate:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
    }
    return msgspec.json.encode(members)


# Most denials have the words of their reason. Of an application's own few are kept: each has 2,000 characters at most.
_refused = lru_cache(maxsize=64)(_body)


def refusal(refused: Refused) -> Answer:
    """Return the answer to a management call that could not be carried out."""
    return problem(refused.status, refused.code, refused.title, str(refused))


def pairs(query: str) -> list[tuple[str, str]]:
    """Return the decoded pairs of a raw query string, in their order."""
    return parse_qsl(query, keep_blank_values=True)


def of_client(texts: Texts) -> Texts:
    """Return the texts of a client that may send its credential as a password (RFC 7617, RFC 6749 section 2.3.1)."""
    if len(texts.authorization) != 1:
        return texts
    scheme, _, encoded = texts.authorization[0].strip(" ").partition(" ")
    if scheme.lower() != "basic":
        return texts
    try:
        _, colon, password = b64decode(encoded.strip(" "), validate=True).decode().partition(":")
    except ValueError:
        return texts
    # Decoded as a form is, but for the plus sign, which a credential may hold.
    return msgspec.structs.replace(texts, authorization=[f"Bearer {unquote(password)}"]) if colon else texts


def _keys(lines: Sequence[str]) -> list[str]:
    """Return all credentials of a header of one's own, before which the scheme may stand."""
    parts = (part.strip(" \t") for line in lines for part in line.split(","))
    return [part if (text := _after_bearer(part)) is None else text for part in parts]


def _cookies(lines: Sequence[str], name: str) -> list[str]:
    """Return all values of the cookie of this name that are not empty (RFC 6265 sections 4.2.1 and 5.4)."""
    crumbs = (crumb.partition("=") for line in lines for crumb in line.split(";"))
    values = (
        value.strip(" \t").removeprefix('"').removesuffix('"') for key, _, value in crumbs if key.strip(" \t") == name
    )
    return [value for value in values if value]


def _after_bearer(line: str) -> str | None:
    """Return what follows ``Bearer``, None for another scheme or none (RFC 9110 section 11.4, RFC 6750 2.1)."""
    line = line.strip(" ")
    scheme = _SCHEME.match(line)
    if scheme is None or scheme[0].lower() != "bearer":
        return None
    rest = line[scheme.end() :]
    return rest.lstrip(" ") if rest.startswith(" ") else ""
