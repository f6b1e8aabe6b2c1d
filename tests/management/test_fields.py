"""The fields of tokens and shares: each is declared once, and everything that speaks of it follows."""

from __future__ import annotations

import json
from typing import Any

import click
import msgspec
import pytest
from conftest import reason_of
from test_http import Api

from faregate import Gate, InvalidInput, Owner, Token
from faregate.cli.token_commands import create, update
from faregate.fields.field import Field
from faregate.fields.share_fields import PARAM_FIELDS, SHARE_FIELDS, ShareFields
from faregate.fields.token_fields import MAX_METADATA, TOKEN_FIELDS, TokenFields
from faregate.management.descriptions import MEMBERS
from faregate.management.openapi import document
from faregate.management.operations import OPERATIONS
from faregate.model import Share, ShareParams
from faregate.stores.schema import shares, tokens

# Fields that stand in for another one have neither a column nor a member of a record.
SHORTHANDS = {field.name for field in TOKEN_FIELDS if field.instead_of is not None}


def members_of(schema: str) -> dict[str, Any]:
    """The members of a schema of the API's document."""
    resolver = Gate("sqlite://").requests.resolver
    described = document(OPERATIONS, resolver, "/", by_credential=True)
    properties: dict[str, Any] = described["components"]["schemas"][schema]["properties"]
    return properties


@pytest.mark.parametrize("field", TOKEN_FIELDS, ids=[field.name for field in TOKEN_FIELDS])
def test_a_field_of_a_token_is_everywhere(field: Field) -> None:
    """In Python's types, in the record, in its table, in the bodies, and with words in the document."""
    assert field.name in TokenFields.__optional_keys__
    assert field.name in SHORTHANDS or field.name in Token.__struct_fields__
    assert field.name in SHORTHANDS or field.columns
    for column in field.columns:
        assert tokens.c[column.name].nullable is not column.required
    for body in ("CreateToken", "PatchToken", "PutToken"):
        assert members_of(body)[field.json_name]["description"]
    assert MEMBERS[field.json_name]["description"] == field.words
    if field.option is not None:
        flags = set(field.option.flag.split("/"))
        for command in (create, update):
            known = {
                flag
                for option in command.params
                if isinstance(option, click.Option)
                for flag in (*option.opts, *option.secondary_opts)
            }
            assert flags <= known


def test_no_field_of_a_token_is_declared_elsewhere() -> None:
    """The types of Python know the declared fields, and no others."""
    assert {field.name for field in TOKEN_FIELDS} == TokenFields.__optional_keys__


def test_the_fields_of_a_share_are_everywhere() -> None:
    """As those of tokens."""
    for field in SHARE_FIELDS:
        assert field.name in ShareFields.__optional_keys__
        assert field.instead_of is not None or field.name in Share.__struct_fields__
    names = {field.encode_name for field in msgspec.structs.fields(ShareParams)}
    assert {field.json_name for field in PARAM_FIELDS} == names
    for field in (*SHARE_FIELDS, *PARAM_FIELDS):
        for column in field.columns:
            assert column.name in shares.c


def test_metadata_is_kept_merged_and_removed(gate: Gate) -> None:
    """As RFC 7396 says; null removes a member, and None the whole object."""
    made = gate.tokens.create(name="a", metadata={"team": "build", "tags": ["x"], "n": {"a": 1}})
    assert made.token.metadata == {"team": "build", "tags": ["x"], "n": {"a": 1}}

    changed = gate.tokens.update(made.token.id, metadata={"team": None, "n": {"b": 2}})
    assert changed.metadata == {"tags": ["x"], "n": {"a": 1, "b": 2}}
    assert gate.tokens.get(made.token.id) == changed
    assert gate.audit(subject=made.token.id).items[-1].details == {"members": ["metadata"]}

    again = gate.tokens.update(made.token.id, metadata=changed.metadata)
    assert again.version == changed.version

    assert gate.tokens.update(made.token.id, metadata=None).metadata is None
    assert gate.tokens.create(name="b").token.metadata is None


def test_metadata_with_nulls_may_be_sent_back(gate: Gate) -> None:
    """A null that was given at creation stays, and what was read changes nothing when it is sent."""
    made = gate.tokens.create(name="a", metadata={"a": None, "b": 1})
    assert made.token.metadata == {"a": None, "b": 1}
    assert gate.tokens.update(made.token.id, metadata={"a": None, "b": 1}) == made.token


@pytest.mark.parametrize(
    "value",
    [
        "text",
        [],
        5,
        {"a": float("nan")},
        {"a": object()},
        {1: "a"},
        {"a": "\ud800"},
        {"a": "x" * MAX_METADATA},
        json.loads('{"a":' * 33 + "1" + "}" * 33),
    ],
)
def test_metadata_that_is_no_json_object_is_refused(gate: Gate, value: Any) -> None:
    """The refusal names the field, and nothing is written."""
    made = gate.tokens.create(name="a", metadata={"a": 1})
    with pytest.raises(InvalidInput, match="metadata"):
        gate.tokens.create(name="b", metadata=value)
    with pytest.raises(InvalidInput, match="metadata"):
        gate.tokens.update(made.token.id, metadata=value)
    assert [token.metadata for token in gate.tokens.list().items] == [{"a": 1}]


def test_metadata_needs_no_more_rights_than_a_name(gate: Gate) -> None:
    """It limits nothing: whoever may change a token changes it without covering the token."""
    owner = Owner("ann")
    wide = gate.tokens.create(name="wide", owner=owner, scopes=["docs:*"])
    narrow = gate.tokens.create(name="narrow", owner=owner, scopes=["gate:tokens:write"])
    by = gate.verify(narrow.secret)
    assert gate.tokens.update(wide.token.id, metadata={"a": 1}, by=by).metadata == {"a": 1}
    assert reason_of(lambda: gate.tokens.update(wide.token.id, scopes=["docs:*", "x"], by=by)) == (
        "insufficient_scope"
    )


def test_metadata_that_was_broken_by_hand_is_none(gate: Gate) -> None:
    """The token goes on, and can be mended."""
    made = gate.tokens.create(name="a", metadata={"a": 1})
    for broken in ("{", "[1]", b"\xff", b'{"a":"\xff"}', 7):
        with gate._store.changing() as change:
            change._connection.exec_driver_sql("UPDATE faregate_tokens SET metadata = ?", (broken,))
        assert gate.tokens.get(made.token.id).metadata is None
        assert gate.verify(made.secret).id == made.token.id
        assert gate.tokens.deactivate(made.token.id).deactivated
        gate.tokens.activate(made.token.id)
        assert gate.tokens.update(made.token.id, metadata={"b": 2}).metadata == {"b": 2}


@pytest.mark.parametrize("framework", ["flask", "starlette"])
def test_metadata_over_http(framework: str) -> None:
    """Created, shown, merged by PATCH and PUT, listed, and introspected."""
    api = Api("sqlite://", lambda: 1_900_000_000.0, framework=framework)  # type: ignore[arg-type]
    made = api.create(metadata={"team": "build"})
    assert made["metadata"] == {"team": "build"}
    path = f"/tokens/{made['id']}"

    def call(method: str, body: object = None) -> Any:
        answer = api.call(method, path, body)
        assert answer.status_code == 200
        return answer.json

    assert call("PATCH", {"metadata": {"n": 1}})["metadata"] == {"team": "build", "n": 1}
    whole = call("GET")
    assert whole["metadata"] == {"team": "build", "n": 1}
    assert call("PUT", whole)["metadata"] == whole["metadata"]
    assert call("PATCH", {"metadata": None})["metadata"] is None
    assert api.call("PATCH", path, {"metadata": "x"}).status_code == 400
