"""Every row of ``tests/cases``, against the core: values in, a principal or a reason out."""

from __future__ import annotations

import pytest
from conftest import Clock
from table import Row, rows, stage

from faregate import Denied, Gate


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_core_decides_as_the_row_says(row: Row, clock: Clock) -> None:
    """The reason, and where the row names it the challenge, are those of the row."""
    gate = Gate("sqlite://", clock=clock, **row.gate)
    scene = stage(row, gate, clock)
    found, challenge = "ok", None
    try:
        principal, elsewhere = gate.identify(
            authorization=scene.authorization,
            peer=row.peer or None,
            forwarded=row.forwarded,
            query=scene.query,
            header=scene.header,
            cookies=[scene.cookie] if scene.cookie else [],
            unsafe=row.method != "GET",
            origin=row.origin,
        )
        if scene.needs:
            principal.require(*scene.needs, on=row.on)
        assert principal.id == scene.token_id
        assert elsewhere == row.private
    except Denied as denied:
        found, challenge = denied.reason, gate.bearer.challenge(denied)
    assert found == row.expect
    if row.challenge is not None:
        assert challenge == row.challenge


def test_there_are_enough_rows() -> None:
    """The tables hold at least 120 rows, each with a name of its own."""
    names = [row.name for row in rows()]
    assert len(names) >= 120
    assert len(set(names)) == len(names)
