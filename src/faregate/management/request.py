"""One request to the HTTP API, in the values that operations read of it, and the answers that they give."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import parse_qsl, quote, urlencode

from faregate.credentials.answers import Answer
from faregate.credentials.presented import QUERY_PARAMETER, from_client_password, query_pairs
from faregate.decision.principal import Principal
from faregate.errors import Denied, InvalidInput, Misconfigured, Refused, UnsupportedTokenType
from faregate.lifecycles.authority import Actor
from faregate.management import payloads

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from faregate.credentials.answers import Headers
    from faregate.credentials.presented import RequestValues
    from faregate.gate import Gate
    from faregate.lifecycles.authority import Call
    from faregate.model import AuditPage, Page

Login = Callable[[], Principal | None]
_FIELDS = 100
JSON = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]


class NotJson(Refused):
    """The body is declared to be something else than JSON."""

    status = 415
    code = "not_json"
    title = "Media type not supported"


class BodyTooLarge(Refused):
    """The body is longer than any sound one."""

    status = 413
    code = "body_too_large"
    title = "Body too large"


class NotForm(Refused):
    """The body is declared to be something else than a form."""

    status = 415
    code = "not_form"
    title = "Media type not supported"


class InvalidRequest(InvalidInput):
    """A parameter of a form is missing or given twice (RFC 6749 section 5.2)."""

    code = "invalid_request"
    title = "Request invalid"


class UnsupportedGrantType(InvalidRequest):
    """The grant is not one that is exchanged here (RFC 6749 section 5.2)."""

    code = "unsupported_grant_type"


class InvalidScope(InvalidRequest):
    """The scopes that are asked for are none (RFC 6749 section 5.2)."""

    code = "invalid_scope"


OAUTH_ERRORS = frozenset(
    error.code for error in (UnsupportedTokenType, UnsupportedGrantType, InvalidScope)
)


class ManagementRequest(NamedTuple):
    """The values of one request.

    ``values`` are those by which the caller is identified, ``route`` the application's name of the route, for the
    log, ``path`` the path of the request with all prefixes, ``record_id`` the parameter of the route. ``login`` is
    the application's own way to know the caller, in place of a credential: it returns a principal, or None for
    nobody. The caller is known once the call is admitted, the body after that.
    """

    values: RequestValues
    route: str
    path: str
    record_id: str
    content_type: str
    if_match: str | None
    login: Login | None = None
    principal: Principal | None = None
    body: bytes = b""

    def admitted(self, gate: Gate, call: str) -> ManagementRequest:
        """Return this with its principal, or raise Denied unless that one may make the call of this name."""
        # A resource server sends its credential as its client library does.
        values = from_client_password(self.values) if call == "token.introspect" else self.values
        principal = (
            gate.requests.identify(values)[0]
            if self.login is None
            else self._logged_in(self.login, gate)
        )
        Actor.of(principal).permit(cast("Call", call), self.record_id)
        return self._replace(principal=principal)

    def _logged_in(self, login: Login, gate: Gate) -> Principal:
        """Return who is logged in to the application.

        A browser sends a session along with whatever another site has it ask for, so what may change something
        counts only from a configured origin.
        """
        if self.values.unsafe and self.values.origin not in gate.requests.resolver.origins:
            raise Denied("origin_not_allowed")
        principal = login()
        if principal is None:
            raise Denied("missing_credential", "Log in to the application first.")
        if not isinstance(principal, Principal):
            raise Misconfigured(
                "management(principal=…): the function returns a Principal, as of gate.session(), or None"
            )
        return (
            gate.requests.with_owner_rights(principal) if principal.kind == "session" else principal
        )

    def address(self, gate: Gate) -> str | None:
        """Return the client's address, None where it is unknown."""
        return gate.requests.client_address(self.values)

    def query(self, gate: Gate) -> list[tuple[str, str]]:
        """Return the parameters of the query, without a credential that may be presented there."""
        given = query_pairs(self.values.query)
        return [
            pair
            for pair in given
            if not (gate.requests.resolver.query and pair[0] == QUERY_PARAMETER)
        ]

    def dressed(self, gate: Gate, answer: Answer) -> Answer:
        """Return the answer with what the gate has to tell the caller besides."""
        if self.principal is None:
            return answer
        present = [name for name, _ in answer.headers]
        added = gate.requests.response_headers(
            self.principal, elsewhere=False, status=answer.status, present=present
        )
        return answer._replace(headers=[*answer.headers, *added])

    def __repr__(self) -> str:
        return f"Call(route={self.route!r}, values=<hidden>, body=<hidden>)"

    def read(self, wanted: type[payloads.T], *, optional: bool = False) -> payloads.T:
        """Return the body as ``wanted``; of an ``optional`` one that is not there, an empty one."""
        if optional and not self.body:
            return wanted()
        if not re.fullmatch(r"application/json\s*(;.*)?", self.content_type, re.IGNORECASE):
            raise NotJson("Send the body as JSON, with 'Content-Type: application/json'.")
        return payloads.read(self.body, wanted)

    def form(self) -> dict[str, str]:
        """Return the parameters of a form; one without a value counts as left out (RFC 6749 section 3.2)."""
        if not self.body and not self.content_type:  # nothing was sent, of no type
            return {}
        if not re.fullmatch(
            r"application/x-www-form-urlencoded\s*(;.*)?", self.content_type, re.IGNORECASE
        ):
            raise NotForm("Send a form, with 'Content-Type: application/x-www-form-urlencoded'.")
        try:
            given = parse_qsl(self.body.decode(), keep_blank_values=True, max_num_fields=_FIELDS)
        except ValueError:
            raise InvalidRequest(
                f"The body is no form of at most {_FIELDS} parameters in UTF-8."
            ) from None
        if len(dict(given)) < len(given):
            raise InvalidRequest("A parameter is given more than once.")
        return {name: value for name, value in given if value}


def shown(record: payloads.Shown, status: int = 200, headers: Headers | None = None) -> Answer:
    """Return the answer that shows a record."""
    return Answer(status, [*JSON, *(headers or [])], payloads.show(record))


def listed(page: Page[Any], call: ManagementRequest, query: Sequence[tuple[str, str]]) -> Answer:
    """Return the answer that shows a page of a list, with links to its neighbours (RFC 8288)."""
    others = [(name, value) for name, value in query if name not in ("offset", "after")]
    links = [
        f'<{quote(call.path)}?{urlencode([*others, (name, place)])}>; rel="{relation}"'
        for relation, name, place, there in (
            # Not by offset: a list that changes between two pages would leave some out.
            ("next", "after", page.next, page.next is not None),
            ("prev", "offset", max(0, page.offset - page.limit), page.offset > 0),
        )
        if there
    ]
    return shown(page, headers=[("Link", ", ".join(links))] if links else [])


def audited(page: AuditPage, call: ManagementRequest, query: Sequence[tuple[str, str]]) -> Answer:
    """Return the answer that shows entries of the feed, with a link to those that follow."""
    if not page.more:
        return shown(page)
    others = [(name, value) for name, value in query if name != "since"]
    following = urlencode([*others, ("since", page.items[-1].sequence)])
    return shown(page, headers=[("Link", f'<{quote(call.path)}?{following}>; rel="next"')])


def located(call: ManagementRequest, record_id: str) -> Headers:
    """Return the headers that say where the record is that a call has made."""
    return [("Location", f"{quote(call.path)}/{record_id}")]


class Reader(NamedTuple):
    """How a parameter of a query is read: ``read`` of its name and value, and the JSON Schema of what it takes."""

    read: Callable[[str, str], Any]
    schema: dict[str, Any]


def filters(query: Sequence[tuple[str, str]], readers: Mapping[str, Reader]) -> dict[str, Any]:
    """Return the parameters of a list by their names in Python, each read by its reader."""
    found: dict[str, Any] = {}
    for name, value in query:
        if name not in readers:
            raise InvalidInput(f"{name[:64]}: no such parameter; there are {', '.join(readers)}")
        member = payloads.python_name(name)
        if member in found:
            raise InvalidInput(f"{name}: given more than once")
        found[member] = readers[name].read(name, value)
    return found


def _as_text(name: str, value: str) -> str:
    del name
    return value


def _as_boolean(name: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise InvalidInput(f"{name}: 'true' or 'false'")
    return value == "true"


def _as_number(name: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", value):
        raise InvalidInput(f"{name}: expected a whole number")
    return int(value)


def _as_instant(name: str, value: str) -> str | float:
    """Return an instant as it is given; whether it is one is for the lifecycle to say."""
    del name
    return float(value) if re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,6})?", value) else value


def _as_place(name: str, value: str) -> str | int:
    """Return a place in the feed: a sequence, or an instant of RFC 3339."""
    return _as_number(name, value) if value.isdigit() else value


_DATE = {"type": "string", "format": "date-time"}
TEXT = Reader(_as_text, {"type": "string"})
BOOLEAN = Reader(_as_boolean, {"type": "boolean"})
NUMBER = Reader(_as_number, {"type": "integer"})
INSTANT = Reader(_as_instant, {"anyOf": [_DATE, {"type": "number"}]})
PLACE = Reader(_as_place, {"anyOf": [{"type": "integer", "minimum": 0}, _DATE]})
