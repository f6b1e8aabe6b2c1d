"""Every row of ``tests/cases``, against the core: values in, a principal or a reason out."""

from __future__ import annotations

import pytest
from case_rows import Row, Scene, rows, stage
from conftest import Clock

from faregate import Denied, Gate
from faregate.credentials.answers import challenge_of
from faregate.credentials.presented import RequestValues
from faregate.rules import Rules


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_core_decides_as_the_row_says(row: Row, clock: Clock) -> None:
    """The reason, and where the row names it the challenge, are those of the row; an explanation agrees."""
    gate = Gate("sqlite://", clock=clock, **row.gate)
    scene = stage(row, gate, clock)
    texts = RequestValues(
        scene.authorization,
        row.peer or None,
        forwarded=row.forwarded,
        query=scene.query,
        header=scene.header,
        cookies=[scene.cookie] if scene.cookie else [],
        unsafe=row.method != "GET",
        origin=row.origin,
    )
    for _ in ("uncached", "cached"):
        check(row, scene, texts)
        scene.warm(row)
    scene.forget()
    check_explanation(
        row, scene, RequestValues(scene.authorization, row.peer or None, forwarded=row.forwarded)
    )


def check(row: Row, scene: Scene, texts: RequestValues) -> None:
    """Judge the request, and compare."""
    gate = scene.gate
    found, challenge = "ok", None
    try:
        visit = Rules(scene.rules, row.default).enter(
            gate.requests, row.path.removeprefix(row.root), row.raw or row.path, texts
        )
        if row.identified:
            principal = visit.identified()
            if row.rules is None and scene.needs:
                principal.require(*scene.needs, on=row.on)
            assert principal.id == scene.record_id
            assert visit.elsewhere == row.private
        else:
            assert visit.principal is None
    except Denied as denied:
        found, challenge = denied.reason, challenge_of(denied, "faregate")
    assert found == row.expect
    if row.challenge is not None:
        assert challenge == row.challenge


def check_explanation(row: Row, scene: Scene, texts: RequestValues) -> None:
    """Of whatever presents one credential: the reason that a request gets, and steps that agree with it."""
    gate = scene.gate
    try:
        credential = gate.requests.resolver.resolve(texts).credential
    except Denied:
        return
    expected = "ok"
    try:
        principal = gate.requests.identify(texts)[0]
        if scene.needs:
            principal.require(*scene.needs, on=row.on)
    except Denied as denied:
        expected = denied.reason
    if expected == "store_unavailable":
        with pytest.raises(Denied, match="store_unavailable"):
            gate.explain(
                credential, peer=row.peer, forwarded=row.forwarded, needs=scene.needs, on=row.on
            )
        return
    told = gate.explain(
        credential, peer=row.peer, forwarded=row.forwarded, needs=scene.needs, on=row.on
    )
    assert (told.reason or "ok", told.allowed) == (expected, expected == "ok")
    assert [step.number for step in told.steps] == [1, 2, 3, 4, 5, 6, 7]
    assert all((step.passed is False) == (step.reason is not None) for step in told.steps)
    assert not credential or credential not in repr(told)


def test_there_are_enough_rows() -> None:
    """The tables hold at least 250 rows, each with a name of its own."""
    names = [row.name for row in rows()]
    assert len(names) >= 250
    assert len(set(names)) == len(names)
