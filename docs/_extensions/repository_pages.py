"""Shows files of the repository as pages of the site, and leads links between them to each other.

A link on a page is written as it works in the repository, such as ``../../CONTRIBUTING.md``. On the
site it leads to the page that shows the file. A link to a file that the site does not show becomes
plain text.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).parent.parent
ROOT = DOCS.parent
SHOWN = {
    "project/changelog": ROOT / "CHANGELOG.md",
    "project/contributing": ROOT / "CONTRIBUTING.md",
    "project/security": ROOT / "SECURITY.md",
    "project/tests": ROOT / "tests/README.md",
}
_PAGES = {file: f"/{name}.md" for name, file in SHOWN.items()} | {ROOT / "README.md": "/index.md"}
# Navigation that would be noise to readers of the repository.
_NAVIGATION = {"design/decisions/README": "\n```{toctree}\n:hidden:\n:glob:\n\n0*\n```\n"}
_LINK = re.compile(r"(?<!!)\[([^\]\n]+(?:\n[^\]\n]+)?)\]\((?!\w+:)([^()#\s]+)(#[^()\s]*)?\)")


def show(app: Sphinx, name: str, source: list[str]) -> None:
    """Replace the source of a page that shows a file, and lead the links of any page."""
    del app
    file = SHOWN.get(name)
    if file is not None:
        source[0] = file.read_text()
    folder = (file or DOCS / f"{name}.md").parent

    def led(link: re.Match[str]) -> str:
        text, path, fragment = link[1], link[2], link[3] or ""
        target = (folder / path).resolve()
        if target == ROOT / "README.md":
            return f"[{text}](/index.md)"
        if target in _PAGES:
            return f"[{text}]({_PAGES[target]}{fragment})"
        if target.is_relative_to(DOCS):
            return f"[{text}](/{target.relative_to(DOCS)}{fragment})"
        return text if target.exists() else link[0]

    source[0] = _LINK.sub(led, source[0]) + _NAVIGATION.get(name, "")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("source-read", show)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
