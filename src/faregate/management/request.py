"""Requests to the HTTP API as values, and the answers to them.

A request passes three steps, in this order: its caller is identified and authorized, its body is
read, and its operation answers. An operation takes its values from :class:`ManagementRequest`, and
builds its answer with the functions below. No framework is imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import parse_qsl, quote, urlencode

from faregate.credentials.answers import Answer
from faregate.credentials.presented import QUERY_PARAMETER, from_client_password, query_pairs
from faregate.decision.principal import Principal
from faregate.errors import Denied, InvalidInput, Misconfigured, Refused
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

JSON = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]

_JSON_TYPE = r"application/json\s*(;.*)?"
_FORM_TYPE = r"application/x-www-form-urlencoded\s*(;.*)?"
_MAX_FORM_PARAMETERS = 100


# Errors of the HTTP API alone; the lifecycles raise the others.


class NotJson(Refused):
    """The body is not declared to be JSON."""

    status = 415
    code = "not_json"
    title = "Media type not supported"


class BodyTooLarge(Refused):
    """The body exceeds the limit of its operation."""

    status = 413
    code = "body_too_large"
    title = "Body too large"


class NotForm(Refused):
    """The body is not declared to be a form."""

    status = 415
    code = "not_form"
    title = "Media type not supported"


class InvalidRequest(InvalidInput):
    """A parameter of a form is missing, repeated or malformed (RFC 6749 section 5.2)."""

    code = "invalid_request"
    title = "Request invalid"


class UnsupportedGrantType(InvalidRequest):
    """The grant type is not supported (RFC 6749 section 5.2)."""

    code = "unsupported_grant_type"
    oauth = "unsupported_grant_type"


class InvalidScope(InvalidRequest):
    """The requested scopes are malformed (RFC 6749 section 5.2)."""

    code = "invalid_scope"
    oauth = "invalid_scope"


class ManagementRequest(NamedTuple):
    """The values of one request.

    ``values`` identify the caller. ``route`` is the application's name of the route, for the log.
    ``path`` is the path with all prefixes, ``record_id`` the parameter of the route,
    ``content_type`` and ``if_match`` are the headers of these names.

    ``login`` replaces the credential: the application's own function that returns the principal,
    or None if nobody is logged in. ``principal`` is set once the caller is authorized, ``body``
    after that.
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

    def authorized(self, gate: Gate, call: str) -> ManagementRequest:
        """Return the request with its principal.

        Raises :class:`Denied` unless the caller may make the lifecycle's ``call``, as in
        ``"token.create"``.
        """
        values = self.values
        if call == "token.introspect":
            # The client libraries of resource servers send a secret as a password.
            values = from_client_password(values)

        if self.login is None:
            principal = gate.requests.identify(values)[0]
        else:
            principal = self._logged_in(self.login, gate)

        Actor.of(principal).permit(cast("Call", call), self.record_id)
        return self._replace(principal=principal)

    def _logged_in(self, login: Login, gate: Gate) -> Principal:
        """Return the principal of the application's own login."""
        # A browser adds its session to requests that another site starts, so a request that may
        # change something must come from a configured origin.
        if self.values.unsafe and self.values.origin not in gate.requests.resolver.origins:
            raise Denied("origin_not_allowed")

        principal = login()
        if principal is None:
            raise Denied("missing_credential", "Log in to the application first.")
        if not isinstance(principal, Principal):
            raise Misconfigured(
                "management(principal=…): the function must return a Principal, as "
                "gate.session() does, or None"
            )

        if principal.kind == "session":
            return gate.requests.with_owner_rights(principal)
        return principal

    def address(self, gate: Gate) -> str | None:
        """Return the client's IP address, or None if it is unknown."""
        return gate.requests.client_address(self.values)

    def query(self, gate: Gate) -> list[tuple[str, str]]:
        """Return the parameters of the query, without the credential."""
        pairs = query_pairs(self.values.query)
        if not gate.requests.resolver.query:
            return pairs
        return [(name, value) for name, value in pairs if name != QUERY_PARAMETER]

    def json(self, body_type: type[payloads.T], *, optional: bool = False) -> payloads.T:
        """Return the JSON body as an instance of ``body_type``.

        An empty body is accepted if it is ``optional``, and gives the defaults. Raises
        :class:`NotJson` for another media type, and :class:`InvalidInput` for a body that does not
        fit.
        """
        if optional and not self.body:
            return body_type()
        if not re.fullmatch(_JSON_TYPE, self.content_type, re.IGNORECASE):
            raise NotJson("Send the body as JSON, with 'Content-Type: application/json'.")
        return payloads.read(self.body, body_type)

    def form(self) -> dict[str, str]:
        """Return the parameters of a form.

        A parameter without a value counts as omitted (RFC 6749 section 3.2). Raises
        :class:`NotForm` for another media type, and :class:`InvalidRequest` for a malformed form.
        """
        # No body and no media type: a form without parameters.
        if not self.body and not self.content_type:
            return {}

        if not re.fullmatch(_FORM_TYPE, self.content_type, re.IGNORECASE):
            raise NotForm("Send a form, with 'Content-Type: application/x-www-form-urlencoded'.")
        try:
            pairs = parse_qsl(
                self.body.decode(), keep_blank_values=True, max_num_fields=_MAX_FORM_PARAMETERS
            )
        except ValueError:
            raise InvalidRequest(
                f"The body must be a form in UTF-8 with at most {_MAX_FORM_PARAMETERS} parameters."
            ) from None

        if len(dict(pairs)) < len(pairs):
            raise InvalidRequest("A parameter is given more than once.")
        return {name: value for name, value in pairs if value}

    def with_gate_headers(self, gate: Gate, answer: Answer) -> Answer:
        """Return the answer with the headers that the gate adds for an authorized caller."""
        if self.principal is None:
            return answer

        present = [name for name, _ in answer.headers]
        added = gate.requests.response_headers(
            self.principal, elsewhere=False, status=answer.status, present=present
        )
        return answer._replace(headers=[*answer.headers, *added])

    def __repr__(self) -> str:
        return f"ManagementRequest(route={self.route!r}, values=<hidden>, body=<hidden>)"


# Answers


def answer_json(
    result: payloads.Shown, status: int = 200, headers: Headers | None = None
) -> Answer:
    """Return an answer with the JSON of a lifecycle's result."""
    return Answer(status, [*JSON, *(headers or [])], payloads.show(result))


def answer_page(
    page: Page[Any], request: ManagementRequest, query: Sequence[tuple[str, str]]
) -> Answer:
    """Return an answer with a page of a list, and links to its neighbours (RFC 8288)."""
    filters = [(name, value) for name, value in query if name not in ("offset", "after")]
    links: list[str] = []

    if page.next is not None:
        # By position: with an offset, a list that changes between two pages would lose rows.
        arguments = urlencode([*filters, ("after", page.next)])
        links.append(_link(request, arguments, "next"))

    if page.offset > 0:
        arguments = urlencode([*filters, ("offset", max(0, page.offset - page.limit))])
        links.append(_link(request, arguments, "prev"))

    if not links:
        return answer_json(page)
    return answer_json(page, headers=[("Link", ", ".join(links))])


def answer_feed(
    page: AuditPage, request: ManagementRequest, query: Sequence[tuple[str, str]]
) -> Answer:
    """Return an answer with audit entries, and a link to the entries that follow."""
    if not page.more:
        return answer_json(page)

    filters = [(name, value) for name, value in query if name != "since"]
    arguments = urlencode([*filters, ("since", page.items[-1].sequence)])
    return answer_json(page, headers=[("Link", _link(request, arguments, "next"))])


def location(request: ManagementRequest, record_id: str) -> Headers:
    """Return the ``Location`` header of a record that the request created."""
    return [("Location", f"{quote(request.path)}/{record_id}")]


def _link(request: ManagementRequest, arguments: str, relation: str) -> str:
    return f'<{quote(request.path)}?{arguments}>; rel="{relation}"'


# Parameters of queries


class QueryParameter(NamedTuple):
    """A parameter of a query.

    ``read`` converts its value, given the name for errors; ``schema`` is the JSON Schema of its
    values.
    """

    read: Callable[[str, str], Any]
    schema: dict[str, Any]


def query_arguments(
    query: Sequence[tuple[str, str]], parameters: Mapping[str, QueryParameter]
) -> dict[str, Any]:
    """Return the converted values of a query, by the names of the lifecycle's arguments.

    Raises :class:`InvalidInput` for a parameter that is unknown, repeated or malformed.
    """
    arguments: dict[str, Any] = {}
    for name, value in query:
        if name not in parameters:
            raise InvalidInput(
                f"{name[:64]}: unknown parameter; expected one of {', '.join(parameters)}"
            )
        argument = payloads.python_name(name)
        if argument in arguments:
            raise InvalidInput(f"{name}: given more than once")
        arguments[argument] = parameters[name].read(name, value)
    return arguments


def _as_text(name: str, value: str) -> str:
    del name
    return value


def _as_boolean(name: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise InvalidInput(f"{name}: expected 'true' or 'false'")
    return value == "true"


def _as_number(name: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", value):
        raise InvalidInput(f"{name}: expected a whole number of at most 18 digits")
    return int(value)


def _as_instant(name: str, value: str) -> str | float:
    """Return epoch seconds as a number, and other text as it is: the lifecycle parses RFC 3339."""
    del name
    if re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,6})?", value):
        return float(value)
    return value


def _as_position(name: str, value: str) -> str | int:
    """Return a position in the audit feed: a sequence number, or an instant of RFC 3339."""
    if value.isdigit():
        return _as_number(name, value)
    return value


_DATE = {"type": "string", "format": "date-time"}
TEXT = QueryParameter(_as_text, {"type": "string"})
BOOLEAN = QueryParameter(_as_boolean, {"type": "boolean"})
NUMBER = QueryParameter(_as_number, {"type": "integer"})
INSTANT = QueryParameter(_as_instant, {"anyOf": [_DATE, {"type": "number"}]})
POSITION = QueryParameter(_as_position, {"anyOf": [{"type": "integer", "minimum": 0}, _DATE]})
