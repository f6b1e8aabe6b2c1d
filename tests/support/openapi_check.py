"""Checks answers of the HTTP API against its OpenAPI document: status, media type and members.

Every test that calls the API through its ``Api`` helper checks each answer with this.
"""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema_rs

from faregate import Gate
from faregate.management.openapi import document
from faregate.management.operations import OPERATIONS


def closed(schema: Any) -> Any:
    """Return the schema, closed: no object may have members that it does not name."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {
        name: one if name in ("examples", "example") else closed(one)
        for name, one in schema.items()
    }
    return (
        {**inner, "additionalProperties": False}
        if isinstance(schema.get("properties"), dict) and "type" in schema
        else inner
    )


class OpenApiCheck:
    """The OpenAPI document of a gate with default settings, and its validators."""

    def __init__(self) -> None:
        gate = Gate("sqlite://")
        self.document = document(OPERATIONS, gate.requests.resolver, "/auth", by_credential=True)
        self.components = closed(self.document["components"])
        self.operations = [
            (re.compile(re.sub(r"\\\{id\\\}", "[^/]+", re.escape(path))), method.upper(), told)
            for path, item in sorted(
                self.document["paths"].items(), key=lambda one: "{id}" in one[0]
            )
            for method, told in item.items()
        ]
        self.validators: dict[str, Any] = {}

    def check(self, method: str, path: str, status: int, content_type: str, body: bytes) -> None:
        """Fail unless the document describes this answer to a call of the API."""
        told = next(
            (
                told
                for pattern, verb, told in self.operations
                if verb == method and pattern.fullmatch(path)
            ),
            None,
        )
        if told is None:
            assert status in {404, 405}
            return
        assert str(status) in told["responses"], (
            f"{method} {path} answers {status}, which is not described"
        )
        content = told["responses"][str(status)].get("content")
        if content is None:
            assert not body
            return
        media = content_type.partition(";")[0]
        assert media in content, (
            f"{method} {path} answers {status} as {media}, which is not described"
        )
        if media.endswith("json"):
            self.validator(content[media]["schema"]).validate(json.loads(body))

    def validator(self, schema: dict[str, Any]) -> Any:
        """Return the validator of a schema of the document."""
        key = json.dumps(schema)
        if key not in self.validators:
            whole = {**schema, "components": self.components}
            self.validators[key] = jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
        return self.validators[key]


OPENAPI_CHECK = OpenApiCheck()
