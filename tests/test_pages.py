"""The pages of the site are true: their code runs, and does what they say; see :mod:`pages` for how."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import Page

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)
LONGEST = 35  # words of a sentence


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_the_code_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first block to the last, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("FAREGATE_SECRET", raising=False)
    Page(page, tmp_path).run()


def sentences_of(text: str) -> list[str]:
    """Return the sentences of a page; code, directives and the targets of links are left out."""
    text = re.sub(r"^(`{3,}|:{3,}).*?^\1[ ]*$", "\n\n", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^(#|:::|\[\^).*$", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    text = re.sub(r"`[^`]*`", "code", text)
    text = re.sub(r"^\s*([-*]|\d+\.) | \| |\s·\s|^\|", "\n\n", text, flags=re.MULTILINE)
    found: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        found += re.split(r"(?<=[.!?])[)*\"]*\s", " ".join(paragraph.split()))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_sentences_are_short(page: Path) -> None:
    """At most 35 words each."""
    long = [
        sentence for sentence in sentences_of(page.read_text()) if len(sentence.split()) > LONGEST
    ]
    assert not long
