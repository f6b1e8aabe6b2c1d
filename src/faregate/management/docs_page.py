"""The OpenAPI document as a page of HTML.

The page is one file. It has no script and fetches nothing, so :data:`POLICY` forbids both. Every
value of the document is escaped where it enters the page; names that end in ``html`` are escaped.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Json = dict[str, Any]

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #888; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 13px/1.5 ui-monospace, monospace; }
h2 { margin-top: 2.5rem; text-transform: capitalize; }
details {
  border: 1px solid var(--line); border-radius: 6px; margin: .4rem 0; padding: .4rem .8rem;
}
summary { cursor: pointer; }
summary b { display: inline-block; min-width: 4.2rem; font: 600 13px ui-monospace, monospace; }
summary span { color: var(--soft); margin-left: .6rem; }
table { border-collapse: collapse; width: 100%; margin: .4rem 0 1rem; }
th, td {
  border-bottom: 1px solid var(--line); padding: .25rem .6rem .25rem 0;
  text-align: left; vertical-align: top;
}
th { font-weight: 600; } td:first-child { white-space: nowrap; }
.note { color: var(--soft); }
"""
_STYLE_DIGEST = b64encode(sha256(_STYLE.encode()).digest()).decode()

# The page's ``Content-Security-Policy``: its own style and nothing else.
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page(document: Json) -> str:
    """Return the HTML page that shows an OpenAPI document."""
    info = document["info"]
    title = escape(info["title"])
    server = escape(document["servers"][0]["url"])
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{title}</title>"
        f"<meta name=viewport content='width=device-width'><style>{_STYLE}</style></head><body>"
        f"<h1>{title}</h1><p>{_text(info['summary'])} {_text(info['description'])}</p>"
        f"<p>Paths are below <code>{server}</code>. "
        f"For programs: <a href=openapi.json>openapi.json</a>.</p>"
        f"<h2>Authentication</h2><ul>{_security_schemes(document)}</ul>"
        f"{_sections(document)}<h2>Schemas</h2>{_schemas(document)}</body></html>"
    )


def _security_schemes(document: Json) -> str:
    """Return a list item for each place in which a request may present a credential."""
    schemes = document["components"].get("securitySchemes", {})
    if not schemes:
        return "<li>A user must be logged in to the application.</li>"
    return "".join(_security_scheme(scheme) for scheme in schemes.values())


def _security_scheme(scheme: Json) -> str:
    name = escape(scheme.get("name", "Authorization"))
    return f"<li>{_text(scheme['description'])} <span class=note>{name}</span></li>"


# Operations


def _sections(document: Json) -> str:
    """Return a section for each tag, with the operations of the tag."""
    operations = [
        (path, method, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]

    sections: list[str] = []
    for tag, tagged in groupby(operations, key=lambda entry: entry[2]["tags"][0]):
        sections.append(f"<h2>{escape(tag)}</h2>")
        sections.extend(_operation(*entry) for entry in tagged)
    return "".join(sections)


def _operation(path: str, method: str, operation: Json) -> str:
    parts: list[str] = []

    if operation.get("security") == []:
        parts.append("<p class=note>No credential is needed.</p>")

    if "parameters" in operation:
        rows = (
            (parameter["name"], _type(parameter["schema"]), parameter["description"])
            for parameter in operation["parameters"]
        )
        parts.append(_table(("Parameter", "Type", "Meaning"), rows))

    if "requestBody" in operation:
        parts.append(_request_body(operation["requestBody"]))

    parts.append(_table(("Status", "Answer", "Meaning"), _answers(operation["responses"])))

    identifier = escape(operation["operationId"])
    summary = (
        f"<b>{method.upper()}</b> <code>{escape(path)}</code> "
        f"<span>{_text(operation['summary'])}</span>"
    )
    return f"<details id='{identifier}'><summary>{summary}</summary>{''.join(parts)}</details>"


def _request_body(body: Json) -> str:
    ((media_type, content),) = body["content"].items()
    note = escape(media_type)
    if not body["required"]:
        note += ", optional"
    return f"<p>Body: {_type(content['schema'])} <span class=note>{note}</span></p>"


def _answers(responses: Json) -> Iterator[tuple[str, str, str]]:
    """Yield status, type as HTML, and description of each answer."""
    for status, response in responses.items():
        types = [_type(content["schema"]) for content in response.get("content", {}).values()]
        yield status, ", ".join(types) or "nothing", response["description"]


# Schemas


def _schemas(document: Json) -> str:
    schemas = document["components"]["schemas"]
    return "".join(_schema(name, schema) for name, schema in schemas.items())


def _schema(name: str, schema: Json) -> str:
    required = schema.get("required", ())
    rows = (
        (member if member in required else f"{member} ?", _type(property_), _meaning(property_))
        for member, property_ in schema.get("properties", {}).items()
    )
    members_html = _table(("Member", "Type", "Meaning"), rows)

    # A schema without members is a choice or a plain type.
    if "properties" not in schema:
        members_html = f"<p>{_type(schema)}</p>{members_html}"

    name_html = escape(name)
    summary = f"<code>{name_html}</code> <span>{_text(schema['description'])}</span>"
    return f"<details id='schema-{name_html}'><summary>{summary}</summary>{members_html}</details>"


def _meaning(schema: Json) -> str:
    """Return the description of a schema, and its examples."""
    examples = [
        f" Example: `{msgspec.json.encode(example).decode()}`."
        for example in schema.get("examples", ())
    ]
    return str(schema["description"]) + "".join(examples)


def _type(schema: Json) -> str:
    """Return the type of a schema in words, as HTML."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f"<a href='#schema-{name}'>{name}</a>"
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(map(_type, choices))
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    if "enum" in schema:
        return " or ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    return escape(str(schema.get("format") or schema.get("type", "anything")))


# HTML


def _table(titles: Iterable[str], rows: Iterable[tuple[str, str, str]]) -> str:
    """Return a table of names, types and texts, or nothing without rows.

    Types are HTML already; names and texts are escaped here.
    """
    body = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{type_html}</td><td>{_text(text)}</td></tr>"
        for name, type_html, text in rows
    )
    if not body:
        return ""

    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    return f"<table><tr>{head}</tr>{body}</table>"


def _text(text: str) -> str:
    """Return text as HTML, with code for the words between backticks."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))
