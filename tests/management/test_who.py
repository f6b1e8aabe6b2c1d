"""Who may do what: every cell of ``tests/cases/who.toml``, over HTTP in each framework."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import Clock
from openapi_check import OPENAPI_CHECK
from test_http import Api

from faregate import Org, Owner
from faregate.credentials.opaque import mint
from faregate.management.operations import OPERATIONS

TABLE = tomllib.loads((Path(__file__).parent.parent / "cases" / "who.toml").read_text())
EVERY = ["gate:tokens:*", "gate:shares:*", "docs:*"]
PLAIN = ["docs:read"]
SCOPES = {"self": EVERY}  # of the target, where it is the one that calls
CODES = {400: "invalid_input", 404: "not_found", 409: "conflict"}


class Cells(msgspec.Struct, forbid_unknown_fields=True):
    """One call, and what each principal is answered."""

    name: str
    call: str
    expect: str
    body: Any = None
    form: dict[str, str] | None = None
    before: list[str] = []

    @property
    def answers(self) -> dict[str, str]:
        """The answer to each principal."""
        return dict(zip(TABLE["principals"], self.expect.split(), strict=True))


CALLS = msgspec.convert(TABLE["call"], list[Cells])


Picture = tuple[bytes, float]  # what is stored, and what time it is


class World:
    """The principals and targets of the table, in a store of their own."""

    def __init__(self, framework: str, itself: Sequence[str]) -> None:
        self.clock = Clock()
        self.api = Api("sqlite://", self.clock, framework)
        gate, acme = self.api.gate, Org("acme")
        usage: Any = gate._usage
        usage.note = lambda *_: (
            None
        )  # a time of last use, written meanwhile, would pass for a trace

        def token(owner: str | None, scopes: Sequence[str], org: Org = acme, **more: Any) -> Any:
            whose = Owner(owner, idp_id="other" if more.pop("other", None) else None)
            return gate.tokens.create(
                name="x", scopes=scopes, owner=whose, org=org, expires_in=100, **more
            )

        target = token("u1", itself)
        maker = token(None, EVERY)
        by = gate.verify(maker.secret)
        orphan = gate.tokens.create(name="x", scopes=itself, by=by)
        owner = token("u1", EVERY)
        share = gate.shares.create(
            "x", scopes=["docs:read"], expires_in=60, by=gate.verify(owner.secret)
        )
        lent = gate.shares.create("x", scopes=["docs:read"], expires_in=60, by=by)
        dead = token("u1", EVERY)
        gate.tokens.deactivate(dead.token.id)
        self.secrets = {
            "none": None, "self": target.secret, "plain": target.secret, "owner": owner.secret, "narrow": token("u1", ["gate:tokens:*", "gate:shares:*"]).secret,
            "reader": token("u1", ["gate:tokens:read", "gate:shares:read"]).secret, "other": token("u2", EVERY).secret,
            "elsewhere": token("u1", EVERY, other=True).secret, "ownerless": token(None, EVERY).secret, "maker": maker.secret,
            "admin": token("boss", [*EVERY, "gate:admin"]).secret, "rank": token("boss", ["gate:admin"]).secret,
            "foreign": token("u1", [*EVERY, "gate:admin"], Org("globex")).secret, "root": self.api.admin, "share": share.secret, "dead": dead.secret,
            "kind": mint("fg", "rft"),
        }  # fmt: skip
        self.texts = {
            "target": target.token.id, "orphan": orphan.token.id, "share": share.share.id, "lent": lent.share.id, "secret": share.secret,
            "wrong": mint("fg", "shr"), "asked": orphan.secret, "refresh": token("u1", PLAIN, type="REFRESH").secret,
        }  # fmt: skip
        self.orphan = orphan.secret

    def picture(self) -> Picture:
        """A picture of the store, to come back to."""
        database: Any = self.api.gate._store.database
        memory = database._memory
        return memory.serialize(), self.clock.now

    def recall(self, picture: Picture) -> None:
        """Have everything be as it was in the picture: making it anew takes ten times as long."""
        gate, (stored, self.clock.now) = self.api.gate, picture
        database: Any = gate._store.database
        memory = database._memory
        memory.deserialize(stored)
        gate._records.close()  # whose cache is of what is gone

    def prepare(self, step: str) -> None:
        """Let happen what a row says."""
        gate, target, share = self.api.gate, self.texts["target"], self.texts["share"]
        match step.split():
            case ["deactivate", "by", who]:
                by = gate.verify(str(self.secrets[who]))
                for one in (target, self.texts["orphan"]):
                    if who != "owner" or one == target:
                        gate.tokens.deactivate(one, by=by)
            case ["revoke"]:
                gate.shares.revoke(share)
            case ["expire"]:
                gate.shares.update(share, expires_in=1)
                self.clock.now += 1

    def answer(self, cells: Cells, principal: str) -> str:
        """What the principal is answered, in the words of the table; and what is wrong about it besides."""
        method, path = cells.call.split()
        body = None if cells.body is None else json.loads(fill(json.dumps(cells.body), self.texts))
        itself = principal in ("self", "plain") and "orphan" in path
        secret = self.orphan if itself else self.secrets[principal]
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        before = self.api.everything()
        sent: dict[str, Any] = {"json": body}
        if cells.form is not None:
            sent = {"data": {name: fill(text, self.texts) for name, text in cells.form.items()}}
        answer = self.api.client.open(
            f"/auth{fill(path, self.texts)}", method=method, headers=headers, **sent
        )
        content_type = answer.headers.get("Content-Type", "")
        OPENAPI_CHECK.check(
            method,
            fill(path, self.texts).partition("?")[0],
            answer.status_code,
            content_type,
            answer.data,
        )
        found = str(answer.status_code)
        if answer.status_code < 300:
            members = answer.get_json(silent=True) or {}
            counted = members.get("items", members.get("successes"))
            return found if counted is None else f"{found}={len(counted)}"
        if self.api.everything() != before:
            found += " and a trace"
        told = answer.get_json()
        codes = CODES if cells.form is None else CODES | {400: "invalid_request"}
        if answer.status_code in codes and told["code"] != codes[answer.status_code]:
            found += f" and {told['code']}"
        if answer.status_code == 403 and told["code"] != "insufficient_scope":
            found += f" and {told['code']}"
        if answer.status_code == 401 and not answer.headers["WWW-Authenticate"].startswith(
            "Bearer realm="
        ):
            found += " and no challenge"
        return found if len(told["detail"]) > 10 else f"{found} and no word"


@cache
def world_of(framework: str, itself: tuple[str, ...]) -> tuple[World, Picture]:
    """A world, and how it begins."""
    world = World(framework, itself)
    return world, world.picture()


def fill(text: str, texts: dict[str, str]) -> str:
    """A text with the names in braces replaced."""
    for name, value in texts.items():
        text = text.replace(f"{{{name}}}", value)
    return text


@pytest.mark.parametrize("framework", ["flask", "starlette"])
@pytest.mark.parametrize("cells", CALLS, ids=lambda cells: cells.name)
def test_each_principal_is_answered_as_the_table_says(cells: Cells, framework: str) -> None:
    """The status of every cell; a refusal says what was wrong and leaves no trace."""
    found: dict[str, str] = {}
    worlds: dict[World, Picture] = {}
    for principal in TABLE["principals"]:
        world, begin = world_of(framework, tuple(SCOPES.get(principal, PLAIN)))
        if world not in worlds:
            world.recall(begin)
            for step in cells.before:
                world.prepare(step)
            worlds[world] = world.picture()
        found[principal] = world.answer(cells, principal)
        if found[principal].startswith("2") and not cells.call.startswith("GET"):
            world.recall(
                worlds[world]
            )  # who comes next finds it as it was; what is refused leaves no trace
    assert found == cells.answers


def test_every_operation_is_in_the_table() -> None:
    """None is forgotten."""
    named = {cells.call.partition("?")[0] for cells in CALLS}
    for operation in OPERATIONS:
        paths = {operation.path.replace("{id}", name) for name in ("{target}", "{share}")}
        assert named & {f"{operation.method} {path}" for path in paths}, operation
