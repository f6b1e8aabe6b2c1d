"""Directives for tables that are made from the package, so that they cannot differ from it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from faregate import Gate, Policy
from faregate.errors import REASONS
from faregate.fields.share_fields import PARAM_FIELDS, SHARE_FIELDS
from faregate.fields.token_fields import TOKEN_FIELDS
from faregate.management.operations import OPERATIONS

if TYPE_CHECKING:
    from sphinx.application import Sphinx

Rows = list[Sequence[str]]


class GeneratedTable(SphinxDirective):
    """Inserts a table of Markdown."""

    make: ClassVar[Callable[[], Rows]]

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        head, *rows = type(self).make()
        lines = [_line(head), _line(["---"] * len(head)), *map(_line, rows)]
        parent = nodes.Element()
        self.state.nested_parse(StringList(lines, source="generated"), 0, parent)
        return parent.children


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def reasons() -> Rows:
    """Return the reasons of denial."""
    rows: Rows = [("reason", "status", "`error` of RFC 6750", "the caller reads")]
    for name, wording in REASONS.items():
        error = f"`{wording.error}`" if wording.error else "none"
        rows.append((f"`{name}`", str(wording.status), error, wording.detail))
    return rows


def operations() -> Rows:
    """Return the operations of the HTTP API."""
    rows: Rows = [("call", "operation", "what it does")]
    for operation in OPERATIONS:
        rows.append(
            (f"`{operation.method} {operation.path}`", f"`{operation.call}`", operation.summary)
        )
    return rows


def fields() -> Rows:
    """Return the fields of tokens and shares that callers set."""
    rows: Rows = [("record", "in JSON", "in Python", "meaning")]
    groups = (("token", TOKEN_FIELDS), ("share", SHARE_FIELDS), ("share, `params`", PARAM_FIELDS))
    for record, declared in groups:
        for field in declared:
            rows.append((record, f"`{field.json_name}`", f"`{field.name}`", field.words))
    return rows


def settings() -> Rows:
    """Return the arguments of ``Gate`` with their defaults."""
    rows: Rows = [("argument of `Gate`", "setting of Flask", "default")]
    for parameter in list(inspect.signature(Gate).parameters.values()):
        default = "required" if parameter.default is parameter.empty else f"`{parameter.default!r}`"
        rows.append((f"`{parameter.name}`", f"`FAREGATE_{parameter.name.upper()}`", default))
    return rows


def bounds() -> Rows:
    """Return the arguments of ``Policy`` with their defaults."""
    rows: Rows = [("argument of `Policy`", "default")]
    for parameter in inspect.signature(Policy).parameters.values():
        rows.append((f"`{parameter.name}`", f"`{parameter.default!r}`"))
    return rows


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    for make in (reasons, operations, fields, settings, bounds):
        name = f"generated-{make.__name__}"
        app.add_directive(name, type(name, (GeneratedTable,), {"make": staticmethod(make)}))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
