"""The OpenAPI document as a page for people: one file of HTML, with no script and nothing fetched from anywhere."""

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
details { border: 1px solid var(--line); border-radius: 6px; margin: .4rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; }
summary b { display: inline-block; min-width: 4.2rem; font: 600 13px ui-monospace, monospace; }
summary span { color: var(--soft); margin-left: .6rem; }
table { border-collapse: collapse; width: 100%; margin: .4rem 0 1rem; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .6rem .25rem 0; text-align: left; vertical-align: top; }
th { font-weight: 600; } td:first-child { white-space: nowrap; }
.note { color: var(--soft); }
"""
POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page(document: Json) -> str:
    """Return the page that shows an OpenAPI document."""
    info, schemas = document["info"], document["components"]["schemas"]
    operations = [
        (path, method, told)
        for path, item in document["paths"].items()
        for method, told in item.items()
    ]
    sections = "".join(
        f"<h2>{escape(tag)}</h2>" + "".join(_operation(*one) for one in some)
        for tag, some in groupby(operations, key=lambda one: one[2]["tags"][0])
    )
    named = "".join(_schema(name, schema) for name, schema in schemas.items())
    places = "".join(
        f"<li>{_text(one['description'])} <span class=note>{escape(one.get('name', 'Authorization'))}</span></li>"
        for one in document["components"].get("securitySchemes", {}).values()
    )
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{escape(info['title'])}</title>"
        f"<meta name=viewport content='width=device-width'><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(info['title'])}</h1><p>{_text(info['summary'])} {_text(info['description'])}</p>"
        f"<p>Paths are below <code>{escape(document['servers'][0]['url'])}</code>. "
        f"For programs: <a href=openapi.json>openapi.json</a>.</p>"
        f"<h2>Who calls</h2><ul>{places or '<li>Whoever is logged in to the application.</li>'}</ul>"
        f"{sections}<h2>Shapes</h2>{named}</body></html>"
    )


def _operation(path: str, method: str, told: Json) -> str:
    parts: list[str] = []
    if told.get("security") == []:
        parts.append("<p class=note>Without a credential.</p>")
    if "parameters" in told:
        rows = (
            (one["name"], _type(one["schema"]), one["description"]) for one in told["parameters"]
        )
        parts.append(_table(("Parameter", "Type", "Meaning"), rows))
    if "requestBody" in told:
        ((media, content),) = told["requestBody"]["content"].items()
        need = "" if told["requestBody"]["required"] else ", may be left out"
        parts.append(
            f"<p>Body: {_type(content['schema'])} <span class=note>{escape(media)}{need}</span></p>"
        )
    parts.append(_table(("Status", "Answer", "Meaning"), _answers(told["responses"])))
    summary = (
        f"<b>{method.upper()}</b> <code>{escape(path)}</code> <span>{_text(told['summary'])}</span>"
    )
    return f"<details id='{escape(told['operationId'])}'><summary>{summary}</summary>{''.join(parts)}</details>"


def _answers(responses: Json) -> Iterator[tuple[str, str, str]]:
    for status, told in responses.items():
        shapes = [_type(content["schema"]) for content in told.get("content", {}).values()]
        yield status, ", ".join(shapes) or "nothing", told["description"]


def _schema(name: str, schema: Json) -> str:
    required = schema.get("required", ())
    rows = (
        (member + ("" if member in required else " ?"), _type(one), _meaning(one))
        for member, one in schema.get("properties", {}).items()
    )
    shape = "" if "properties" in schema else f"<p>{_type(schema)}</p>"
    members = shape + _table(("Member", "Type", "Meaning"), rows)
    title = f"<summary><code>{escape(name)}</code> <span>{_text(schema['description'])}</span></summary>"
    return f"<details id='schema-{escape(name)}'>{title}{members}</details>"


def _meaning(schema: Json) -> str:
    examples = "".join(
        f" Such as `{msgspec.json.encode(one).decode()}`." for one in schema.get("examples", ())
    )
    return str(schema["description"]) + examples


def _type(schema: Json) -> str:
    """Return the type of a schema in words, as HTML."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"<a href='#schema-{escape(name)}'>{escape(name)}</a>"
    if choice := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(map(_type, choice))
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    if "enum" in schema:
        return " or ".join(f"<code>{escape(str(one))}</code>" for one in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    return escape(str(schema.get("format") or schema.get("type", "anything")))


def _table(heads: Iterable[str], rows: Iterable[tuple[str, str, str]]) -> str:
    """Return a table of names, types (which are HTML already) and words."""
    head = "".join(f"<th>{escape(one)}</th>" for one in heads)
    body = "".join(
        f"<tr><td><code>{escape(a)}</code></td><td>{b}</td><td>{_text(c)}</td></tr>"
        for a, b, c in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>" if body else ""


def _text(words: str) -> str:
    """Return words as HTML, with what stands between backticks as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(words))
