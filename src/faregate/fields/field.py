"""How a field is declared, and the reading of values that several fields share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from faregate.errors import InvalidInput
from faregate.model import Org, Owner
from faregate.values.instants import parse_instant, parse_span
from faregate.values.names import MAX_ID, MAX_NAME, check_name, json_name
from faregate.values.networks import MAX_BLOCKS, Networks

Row = Mapping[str, Any]
Columns = dict[str, Any]
Read = Callable[[Any, float, "Row | None"], Columns]

# What faregate.values.names takes, as far as a pattern of JSON Schema can say it.
LINE_PATTERN = r"^[^\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]*$"
TEXT_PATTERN = (
    r"^[^\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]*$"
)
NAME_SCHEMA = {"minLength": 1, "maxLength": MAX_NAME, "pattern": LINE_PATTERN}
SCOPE_PATTERN = r"^(\*|[\u0021\u0023-\u0029\u002b-\u005b\u005d-\u007e]+(:\*)?)$"
CIDR_SCHEMA: dict[str, Any] = {
    "maxItems": MAX_BLOCKS,
    "items": {"maxLength": 49, "pattern": r"^[0-9a-fA-F:.]+(/[0-9]{1,3})?$"},
}
DATE_SCHEMA = {"format": "date-time"}

SentInstant = str | float | None  # an instant as JSON may hold it


class Column(NamedTuple):
    """A column of the table that keeps a field."""

    name: str
    kind: Literal["text", "instant", "bytes", "boolean", "integer"]
    required: bool = False


class Option(NamedTuple):
    """The option of the command line that sets a field; ``kind`` says how its text is read."""

    flag: str
    kind: Literal["text", "instant", "switch", "json"]
    metavar: str | None
    help: str


class Field(NamedTuple):
    """A field that callers may set.

    ``name`` is the name in Python; in JSON it is written in camel case. ``sent`` is the type of its
    value in a request's body. ``read`` checks a given value and returns its columns; it takes the
    value, the instant of the call, and the stored row if there is one. ``words``, ``example`` and
    ``schema`` are for the API's document, ``option`` for the command line. ``instead_of`` names the
    field that this field stands in for: a call gives either. ``required`` fields have to be
    given at creation.
    """

    name: str
    sent: Any
    read: Read
    words: str
    example: Any = None
    schema: Mapping[str, Any] = {}
    columns: tuple[Column, ...] = ()
    option: Option | None = None
    instead_of: str | None = None
    required: bool = False

    @property
    def json_name(self) -> str:
        """The name of the field in JSON."""
        return json_name(self.name)


def columns_of(
    fields: Sequence[Field], given: Mapping[str, Any], now: float, row: Row | None
) -> Columns:
    """Return the columns of the fields that were given.

    Raises InvalidInput, which names the field, for a value that cannot be taken.
    """
    columns: Columns = {}
    for field in fields:
        if field.name not in given:
            continue
        if field.instead_of in given:
            pair = (field.name, field.instead_of)
            names = [other.json_name for other in fields if other.name in pair]
            raise InvalidInput(f"{', '.join(names)}: give one of them")
        columns |= field.read(given[field.name], now, row)
    return columns


def as_list(value: Any, name: str, most: int | None = None) -> list[Any]:
    """Return a given list. A text is refused, though Python would take it apart.

    ``most`` bounds the number of items; equal items count each.
    """
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise InvalidInput(f"{name}: expected a list")
    items: list[Any] = list(value)  # pyright: ignore[reportUnknownArgumentType]  checked one by one
    if most is not None and len(items) > most:
        raise InvalidInput(f"{name}: at most {most} items")
    return items


def read_expires_at(value: Any, now: float, row: Row | None) -> Columns:
    """Read an expiry, None for never."""
    del now, row
    return {"expires_at": None if value is None else parse_instant(value, "expiresAt")}


def read_expires_in(value: Any, now: float, row: Row | None) -> Columns:
    """Read the time until the expiry, from now on."""
    del row
    span = parse_span(value, "expiresIn")
    if not span:
        raise InvalidInput("expiresIn: must be more than 0")
    return {"expires_at": parse_instant(now + span, "expiresIn")}


def network_columns(networks: Networks | None) -> Columns:
    """Return the columns of an allow-list; None and the empty set allow every address."""
    blocks = networks.blocks if networks else ()
    packed = networks.packed() if networks and blocks else None
    return {"allowed_cidr_blocks": msgspec.json.encode(blocks).decode(), "networks": packed}


def read_networks(value: Any, name: str) -> Columns:
    """Read a list of CIDR blocks; None is the empty list."""
    blocks = [] if value is None else as_list(value, name)
    return network_columns(Networks.parse(blocks, name))


def owner_columns(owner: Owner) -> Columns:
    """Return the columns of an owner."""
    return {
        "owner_id": owner.id,
        "owner_name": owner.name,
        "owner_acct": owner.acct,
        "owner_domain": owner.domain,
        "owner_idp_id": owner.idp_id,
    }


def org_columns(org: Org) -> Columns:
    """Return the columns of an organization."""
    return {"org_id": org.id, "org_name": org.name}


def owner_of(row: Row) -> Owner:
    """Return the owner of a row."""
    return Owner(
        row["owner_id"],
        row["owner_name"],
        row["owner_acct"],
        row["owner_domain"],
        row["owner_idp_id"],
    )


def read_owner(value: Any, now: float, row: Row | None) -> Columns:
    """Read an Owner."""
    del now, row
    return owner_columns(_checked_party(value, Owner, "owner"))


def read_org(value: Any, now: float, row: Row | None) -> Columns:
    """Read an Org."""
    del now, row
    return org_columns(_checked_party(value, Org, "org"))


def _checked_party(value: object, kind: type[Owner | Org], name: str) -> Any:
    """Return an owner or an organization, the parties of a record, if its texts can be taken."""
    if not isinstance(value, kind):
        raise InvalidInput(f"{name}: expected {kind.__name__}(id=…)")

    for field in msgspec.structs.fields(kind):
        text = getattr(value, field.name)
        longest = MAX_NAME if field.name == "name" else MAX_ID
        if text is not None:
            check_name(text, f"{name}.{field.encode_name}", longest)
    return value


def names_of(columns: Iterable[str]) -> list[str]:
    """Return the names in JSON of the fields that columns hold, for the audit."""
    names: set[str] = set()
    for column in columns:
        party, _, part = column.partition("_")
        if party in ("owner", "org") and part:
            names.add(f"{party}.{json_name(part)}")
        # The packed form of the networks is no field of its own.
        elif column != "networks":
            names.add(json_name(column))
    return sorted(names)
