"""Reading credentials: bounded work on whatever comes."""

from __future__ import annotations

import time

import pytest
from conftest import reason_of

from faregate import Gate
from faregate.credentials.presented import RequestValues

GATE = Gate("sqlite://")


@pytest.mark.parametrize(
    "line",
    [
        'Bearer ,"' + '\\"' * 32_768,
        'Bearer ,"' + '\\"' * 32_768 + "\\",
        'Digest a=",' + "x" * 65_536,
        "Bearer " + "," * 65_536,
        "Bearer " + ", " * 32_768,
        "Bearer " + ",a=" * 20_000,
        "Bearer " + " " * 65_536 + "a b",
        '"' * 65_536 + ",",
        ',"' + "\\" * 40_000,
    ],
    ids=range(9),
)
def test_hostile_lines_are_read_in_linear_time(line: str) -> None:
    """64 KB that are made to be slow take milliseconds, before anybody has proved anything."""
    begun = time.perf_counter()
    assert reason_of(lambda: GATE.requests.identify(RequestValues([line], None))) in {
        "malformed_credential",
        "multiple_credentials",
        "missing_credential",
    }
    assert time.perf_counter() - begun < 0.5
