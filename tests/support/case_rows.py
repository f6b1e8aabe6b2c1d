"""Reads the rows of ``tests/cases``, and stages each in a gate.

A :class:`Row` is a row as it is written; ``tests/README.md`` explains its columns. :func:`stage`
makes the row's credential, replays its ``after`` steps and fills in the request. The result is a
:class:`Scene`. The core and every adapter run the same rows.
"""

from __future__ import annotations

import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import identity_provider as provider
import msgspec
from conftest import START, Clock

from faregate import (
    AUTHENTICATED,
    PUBLIC,
    Denied,
    Gate,
    Issued,
    Issuer,
    Owner,
    Permission,
    Policy,
    Principal,
    Role,
    any_of,
)
from faregate.credentials.opaque import mint
from faregate.management import payloads
from faregate.values.needs import Need

# The words that a step of ``after`` may begin with; ``tests/README.md`` explains them.
STEPS = {
    "activate", "deactivate", "delete", "end", "exchange", "expire", "gone", "hand", "leak", "params", "redeem", "reuse",
    "revoke", "rights", "rotate", "subject", "update",
}  # fmt: skip


class Rights:
    """Rights of owners, as an ``owner_rights`` hook returns them.

    None means that the owner is gone. A text is the message of a failing hook.
    """

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        self.now = dict(told)

    def __call__(self, owner: Owner) -> Any:
        """Answer for an owner, as an application would."""
        rights = self.now.get(str(owner.id))
        if isinstance(rights, str):
            raise TimeoutError(rights)
        return {"generalScopes": rights} if isinstance(rights, list) else rights


class Row(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A row: a request, the record behind its credential, an instant, and the expected reason."""

    name: str
    expect: str
    gate: dict[str, Any] = {}
    token: dict[str, Any] = msgspec.field(default_factory=lambda: {"scopes": ["docs:read"]})
    maker: dict[str, Any] | None = None
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
    share: dict[str, Any] | None = None
    rules: dict[str, Any] | None = None
    default: Literal["deny", "identify"] | None = None
    path: str = "/guarded"
    raw: str | None = None
    root: str = ""
    identified: bool = True
    websocket: str | None = None
    jwt: dict[str, Any] | None = None
    jose: dict[str, Any] = {}
    key: str = "rsa"
    issuer: dict[str, Any] = {}
    challenge: str | None = None
    private: bool = False


class Scene(msgspec.Struct, kw_only=True):
    """A staged row: its gate, and the texts of its request with the credentials filled in.

    ``record_id`` is the id of the record behind the credential. ``rules`` are the rules of the row, or
    its needs as rules.
    """

    gate: Gate
    credentials: list[str] = []
    record_id: str
    rules: dict[str, Any] | None
    authorization: list[str]
    query: str
    header: list[str]
    cookie: str
    needs: tuple[Need, ...]

    def warm(self, row: Row) -> None:
        """Verify every credential of the row, so that the next decision comes from the cache."""
        for credential in filter(None, self.credentials):
            with suppress(Denied):
                self.gate.verify(credential, address=row.peer or None)

    def forget(self) -> None:
        """Empty the cache, so that the next decision comes from the store."""
        self.gate._records.close()


def rows() -> list[Row]:
    """Return every row of every table."""
    found: list[Row] = []
    for file in sorted(Path(__file__).parent.parent.glob("cases/*.toml")):
        table = msgspec.convert(tomllib.loads(file.read_text()).get("case", []), list[Row])
        found += [msgspec.structs.replace(row, name=f"{file.stem}: {row.name}") for row in table]
    for row in found:
        for step in row.after:
            if step.split()[0] not in STEPS:
                raise ValueError(f"{row.name}: unknown step {step!r}")
        if "owner_rights" in row.gate:
            row.gate["owner_rights"] = Rights(row.gate["owner_rights"])
        if row.jwt is not None:
            row.gate["issuers"] = [_issuer(row.issuer)]
            row.gate["policy"] = Policy(max_lifetime=86_400)
    return found


def _issuer(settings: dict[str, Any]) -> Issuer:
    """Return the issuer of a row. ``resources`` names a claim; a ``typ`` of "" turns the check off."""
    given = {**settings}
    if given.get("keys") == "secret":
        given["keys"] = provider.SECRET
    if given.get("typ") == "":
        given["typ"] = None
    if "resources" in given:
        claim = given["resources"]
        given["resources"] = lambda claims: claims.get(claim)
    return provider.issuer(**given)


def stage(row: Row, gate: Gate, clock: Clock) -> Scene:
    """Make the token, share or JWT of a row, replay its ``after`` steps, and fill in the request."""
    texts = {
        "stranger": mint("fg", "tok"),
        "rft": mint("fg", "rft"),
        "shr": mint("fg", "shr"),
        "rotated": "",
    }
    if "owner_rights" in row.gate:
        row.gate["owner_rights"].now = dict(row.gate["owner_rights"].told)
    maker = None if row.maker is None else _made(gate, row.maker)
    by = None if maker is None else gate.verify(maker.secret)
    if row.jwt is not None:
        record_id = _jwt(row, gate, texts)
    else:
        record_id = (
            _share(row, gate, texts, by) if row.share is not None else _token(row, gate, texts, by)
        )
    for step in row.after:
        match step.split():
            case ["leak"] if maker is not None:
                gate.tokens.deactivate(maker.token.id, leaked=True)
            case ["hand", *whose, owner]:
                with suppress(Denied):
                    gate.tokens.update("self" if whose else record_id, owner=Owner(owner), by=by)
            case ["rights", owner, *scopes]:
                row.gate["owner_rights"].now[owner] = scopes
                gate.owner_changed(Owner(owner))
            case ["gone", owner]:
                row.gate["owner_rights"].now[owner] = None
                gate.owner_changed(Owner(owner))
    texts["other"] = gate.tokens.create(name="other").secret
    texts["upper"] = texts["secret"].upper()
    texts["tail"] = texts["secret"][:-1] + ("1" if texts["secret"].endswith("0") else "0")
    clock.now = START + row.now
    lines = (
        [line.format(**texts) for line in row.authorization]
        if not row.long
        else [f"Bearer {'a' * row.long}"]
    )
    needs = tuple(map(_need, row.needs))
    rules = None
    if row.rules is not None:
        rules = {path: _demand(demand) for path, demand in row.rules.items()}
    elif row.on is None:
        rules = {"/guarded": needs or AUTHENTICATED}
    return Scene(
        gate=gate,
        credentials=[
            texts[name]
            for name in ("secret", "rotated", "redeemed", "access", "other")
            if name in texts
        ],
        record_id=record_id,
        rules=rules,
        authorization=lines,
        query=row.query.format(**texts),
        header=[line.format(**texts) for line in row.header],
        cookie=row.cookie.format(**texts),
        needs=needs,
    )


def _made(gate: Gate, token: dict[str, Any], by: Principal | None = None) -> Issued:
    body = msgspec.convert({"name": "case", **token}, payloads.CreateToken)
    return gate.tokens.create(**payloads.given(body), by=by)


def _token(row: Row, gate: Gate, texts: dict[str, str], by: Principal | None) -> str:
    issued = _made(gate, row.token, by)
    texts["secret"] = issued.secret
    for step in row.after:
        match step.split(maxsplit=1):
            case ["exchange", *narrowed]:
                _exchange(gate, texts, narrowed[0] if narrowed else None)
            case ["reuse"]:
                with suppress(Denied):
                    gate.tokens.exchange(texts["secret"])
            case ["end", text]:
                gate.revoke(text.format(**texts))
            case ["update", members]:
                gate.tokens.update(
                    issued.token.id,
                    **payloads.given(msgspec.json.decode(members, type=payloads.PatchToken)),
                )
            case ["rotate", *grace]:
                texts["rotated"] = gate.tokens.rotate(
                    issued.token.id, grace=float(grace[0]) if grace else None
                ).secret
            case ["deactivate" | "activate" | "delete" as action]:
                getattr(gate.tokens, action)(issued.token.id)
    return issued.token.id


def _exchange(gate: Gate, texts: dict[str, str], how: str | None) -> None:
    """Exchange the newest refresh credential: narrowed to scopes, or from an address."""
    address = how if how and how[0].isdigit() else None
    scopes = how.split() if how and address is None else None
    answer = gate.tokens.exchange(texts.get("refresh", texts["secret"]), scopes, address=address)
    texts["access"], texts["refresh"] = answer.access_token, str(answer.refresh_token)


def _share(row: Row, gate: Gate, texts: dict[str, str], by: Principal | None) -> str:
    """Make the share. ``{secret}`` is its secret, ``{redeemed}`` the token of the last ``redeem`` step."""
    share = {"objectId": "x", "scopes": ["docs:read"], "expiresIn": 3600, **(row.share or {})}
    made = gate.shares.create(**payloads.given(msgspec.convert(share, payloads.CreateShare)), by=by)
    texts["secret"] = made.secret
    for step in row.after:
        match step.split():
            case ["redeem"]:
                texts["redeemed"] = gate.shares.redeem(
                    made.share.id, secret=made.secret, address=row.peer or None
                ).token
            case ["revoke"]:
                gate.shares.revoke(made.share.id)
            case ["expire", seconds]:
                gate.shares.update(made.share.id, expires_at=START + float(seconds))
            case ["params", params]:
                gate.shares.update(made.share.id, params=msgspec.json.decode(params))
    return made.share.id


def _jwt(row: Row, gate: Gate, texts: dict[str, str]) -> str:
    """Sign the JWT, replay the ``after`` steps that revoke, and return its subject."""
    claims, header = (
        {name: None if value is False else value for name, value in members.items()}
        for members in (row.jwt or {}, row.jose)
    )
    texts["secret"] = provider.token(START, key=row.key, header=header, **claims)
    for step in row.after:
        match step.split():
            case ["revoke", token_id]:
                gate.jwts.revoke(provider.ISSUER, token_id)
            case ["subject", subject, seconds]:
                gate.jwts.revoke_subject(provider.ISSUER, subject, before=START + float(seconds))
    return str(claims.get("sub", "alice"))


def _demand(demand: Any) -> Any:
    if isinstance(demand, list):
        return [_need(one) for one in demand]
    return (
        {"PUBLIC": PUBLIC, "AUTHENTICATED": AUTHENTICATED}.get(demand) or _need(demand)
        if isinstance(demand, str)
        else _need(demand)
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
