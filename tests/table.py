"""The rows of ``tests/cases``: read, and brought to life in a gate. Every adapter's test runs the same rows."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
from conftest import START, Clock

from faregate import Gate, Permission, Role, any_of
from faregate.credentials import mint
from faregate.management import wire
from faregate.scopes import Need


class Row(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One row: a request, the record behind its credential, an instant, and what comes of it."""

    name: str
    expect: str
    gate: dict[str, Any] = {}
    token: dict[str, Any] = msgspec.field(default_factory=lambda: {"scopes": ["docs:read"]})
    after: list[str] = []
    now: float = 0.0
    method: str = "GET"
    peer: str = "127.0.0.1"
    forwarded: list[str] = []
    authorization: list[str] = msgspec.field(default_factory=lambda: ["Bearer {secret}"])
    query: str = ""
    header: list[str] = []
    cookie: str = ""
    origin: str | None = None
    long: int = 0
    needs: list[Any] = []
    on: str | None = None
    challenge: str | None = None
    private: bool = False


class Scene(msgspec.Struct, kw_only=True):
    """A row brought to life: the gate, and the texts of the request with the credentials filled in."""

    gate: Gate
    token_id: str
    authorization: list[str]
    query: str
    header: list[str]
    cookie: str
    needs: tuple[Need, ...]


def rows() -> list[Row]:
    """Return every row of every table."""
    found: list[Row] = []
    for file in sorted(Path(__file__).parent.glob("cases/*.toml")):
        table = msgspec.convert(tomllib.loads(file.read_text())["case"], list[Row])
        found += [msgspec.structs.replace(row, name=f"{file.stem}: {row.name}") for row in table]
    return found


def stage(row: Row, gate: Gate, clock: Clock) -> Scene:
    """Make the row's token, let happen to it what the row says, and fill in the request."""
    body = msgspec.convert({"name": "case", **row.token}, wire.CreateToken)
    issued = gate.tokens.create(**wire.given(body))
    texts = {"secret": issued.secret, "rotated": ""}
    for step in row.after:
        action, *grace = step.split()
        made = getattr(gate.tokens, action)(issued.token.id, **({"grace": float(grace[0])} if grace else {}))
        if action == "rotate":
            texts["rotated"] = made.secret
    texts["other"] = gate.tokens.create(name="other").secret
    texts["stranger"] = mint("fg", "tok")
    texts["rft"], texts["shr"] = mint("fg", "rft"), mint("fg", "shr")
    texts["upper"] = issued.secret.upper()
    clock.now = START + row.now
    lines = [line.format(**texts) for line in row.authorization] if not row.long else [f"Bearer {'a' * row.long}"]
    return Scene(
        gate=gate,
        token_id=issued.token.id,
        authorization=lines,
        query=row.query.format(**texts),
        header=[line.format(**texts) for line in row.header],
        cookie=row.cookie.format(**texts),
        needs=tuple(map(_need, row.needs)),
    )


def _need(text: Any) -> Need:
    match text:
        case {"permission": name}:
            return Permission(name, service=text.get("service"))
        case {"role": name}:
            return Role(name, service=text.get("service"))
        case {"any_of": needs}:
            return any_of(*map(_need, needs))
        case _:
            return str(text)
