"""HTTP answers to denials and refusals (RFC 6750 section 3, RFC 9110 section 11, RFC 9457).

They are values. An adapter hands them to its framework. Each denial leaves one record in the log.
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from faregate.errors import REASONS, Denied, InvalidInput, Reason, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

_logger = logging.getLogger("faregate")

Headers = list[tuple[str, str]]

MOST_SCOPES = 20  # named in a challenge
_LONGEST_SCOPE = 2000  # characters; many proxies have 4 KiB for all headers of an answer
_LONGEST_IN_LOG = 200  # characters of a value that a client may choose
_REALM = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]{1,200}")  # a quoted-string without escapes
_PROBLEM = (("Content-Type", "application/problem+json"), ("Cache-Control", "no-store"))


class Answer(NamedTuple):
    """An HTTP answer for an adapter to hand on."""

    status: int
    headers: Headers
    body: bytes


def check_realm(realm: str) -> str:
    """Return ``realm`` if a challenge can name it; raise InvalidInput otherwise."""
    if not isinstance(realm, str) or not _REALM.fullmatch(realm):
        raise InvalidInput(
            "realm: printable ASCII without quotation mark and backslash (RFC 6750 section 3)"
        )
    return realm


def answer_denial(denied: Denied, *, realm: str, route: str) -> Answer:
    """Return the answer to a denial on ``route``, and log it."""
    log_denial(denied, route)

    headers: Headers = []
    challenge = challenge_of(denied, realm)
    if challenge is not None:
        headers.append(("WWW-Authenticate", challenge))
    if denied.retry_after is not None:
        headers.append(("Retry-After", str(denied.retry_after)))

    body = _denial_body(denied.status, denied.reason, denied.title, denied.detail)
    return Answer(denied.status, [*_PROBLEM, *headers], body)


def answer_refusal(refused: Refused) -> Answer:
    """Return the answer to a management call that could not be carried out."""
    return problem(refused.status, refused.code, refused.title, str(refused))


def problem(
    status: int, code: str, title: str, detail: str, headers: Sequence[tuple[str, str]] = ()
) -> Answer:
    """Return an answer of RFC 9457: ``type``, ``title``, ``status``, ``detail``, and ``code``."""
    return Answer(status, [*_PROBLEM, *headers], _body(status, code, title, detail))


def challenge_of(denied: Denied, realm: str) -> str | None:
    """Return the value of ``WWW-Authenticate`` for a denial, or None (RFC 6750 section 3)."""
    if denied.error is None and denied.status != 401:
        return None
    challenge = _challenge(realm, denied.error, denied.reason)
    scope = _first_scopes(denied.scope)
    return f'{challenge}, scope="{scope}"' if scope else challenge


def logs_denials() -> bool:
    """Return True if denials are logged. If not, the route need not be worked out for the log."""
    return _logger.isEnabledFor(logging.INFO)


def log_denial(denied: Denied, route: str) -> None:
    """Write the one INFO record of a denial. The caller chose none of its values freely."""
    if denied.logged:
        return
    denied.logged = True
    if not logs_denials():
        return

    address = "-"
    if denied.address:
        address = ascii(denied.address)[:_LONGEST_IN_LOG]
    _logger.info(
        "denied: reason=%s record=%s address=%s route=%s",
        denied.reason,
        denied.record_id or "-",
        address,
        ascii(route)[:_LONGEST_IN_LOG],
        exc_info=denied.__cause__,
    )


@lru_cache(maxsize=64)
def _challenge(realm: str, error: str | None, reason: Reason) -> str:
    """Return a challenge that names no scope."""
    parameters = [f'realm="{realm}"']
    if error is not None:
        parameters.append(f'error="{error}"')
    if error == "invalid_token":
        parameters.append(f'error_description="{REASONS[reason].detail}"')
    return "Bearer " + ", ".join(parameters)


def _first_scopes(scopes: Sequence[str] | None) -> str:
    """Return the first scopes, as many as a header can hold that proxies pass on."""
    text = ""
    for scope in (scopes or ())[:MOST_SCOPES]:
        longer = f"{text} {scope}" if text else scope
        if len(longer) > _LONGEST_SCOPE:
            break
        text = longer
    return text


def _body(status: int, code: str, title: str, detail: str) -> bytes:
    document = {
        "type": f"urn:faregate:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
    }
    return msgspec.json.encode(document)


# Most denials have the words of their reason. An application's own words may take some places:
# they are short, 2,000 characters at most.
_denial_body = lru_cache(maxsize=64)(_body)
