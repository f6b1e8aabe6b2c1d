"""The examples run: the demonstration to its end, and the benchmark's two sides."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from servers import exchange, serving

from faregate import Gate, Owner

ROOT = Path(__file__).parent.parent


def test_the_demonstration_walks_to_its_end(tmp_path: Path) -> None:
    """Every answer as it should be but for one expectation that is bent here, of which it says so, and ends with 1.

    It shows one line a step, and no secret but the operator's way.
    """
    source = (ROOT / "examples/demo.py").read_text()
    bent = source.replace('"without a token nobody gets in", 401', '"without a token nobody gets in", 200')
    assert bent != source
    (tmp_path / "demo.py").write_text(bent)
    for name in ("flask_app.py", "starlette_app.py"):
        (tmp_path / name).write_text((ROOT / "examples" / name).read_text())
    demo = subprocess.run(
        [sys.executable, str(tmp_path / "demo.py")],
        env={**os.environ, "DEMO_ONCE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert demo.returncode == 1
    assert demo.stdout.count("WRONG") == demo.stdout.count("WRONG, expected 200: ") == 1, demo.stdout + demo.stderr
    steps = [line.split() for line in demo.stdout.splitlines() if line.startswith("ok ")]
    assert [step[3] for step in steps if step[2].startswith("/docs")] == [
        *("200", "403", "403", "401", "200", "401", "200", "200", "401", "401"),
        *("200", "200", "403", "200", "403", "403", "200", "200", "401", "401", "401"),
        *("401", "200", "401"),
    ]
    codes = [step[4] for step in steps if step[3] in ("401", "403")]
    for code in ("object_not_shared", "insufficient_scope", "revoked", "redemption_required", "redemptions_exhausted"):
        assert code in codes
    assert "6  NO  from an allowed network  127.0.0.1; allowed are 10.0.0.0/8" in demo.stdout
    assert demo.stdout.count("share.redeem") == 1
    for kind in ("tok", "rft", "act", "shr"):
        assert f"fg_{kind}_" not in demo.stdout


@pytest.mark.parametrize("application", ["django", "plain"])
def test_the_wsgi_example_is_gated(tmp_path: Path, application: str) -> None:
    """A Django project and a plain function behind a real server: public, guarded, and shut."""
    store = f"sqlite:///{tmp_path / 'gate.db'}"
    gate = Gate(store)
    reader = gate.tokens.create(name="a", scopes=["docs:read"], owner=Owner(id="u1")).secret
    editor = gate.tokens.create(name="b", scopes=["docs:*"]).secret
    command = "gunicorn --bind 127.0.0.1:{port} {module}:" + application
    with serving(command, "wsgi_app", ROOT / "examples", log=tmp_path / "log", FAREGATE_STORE=store) as address:

        def status(path: str, secret: str | None = None) -> int:
            headers = [("Authorization", f"Bearer {secret}")] if secret else []
            return exchange(address, "GET", path, [*headers, ("Remote-User", "root")])[0]

        assert status("/healthz") == 200
        assert [status(path) for path in ("/docs/plan", "/other", "/docs/../x", "/docs//plan")] == [401] * 4
        assert status("/docs/plan", reader) == 200
        assert [status(path, reader) for path in ("/docs/drafts/x", "/other", "/docs%2Fplan", "/docs/%2e%2e/x")] == [
            403
        ] * 4
        assert status("/docs/drafts/x", editor) == 200
        body = exchange(address, "GET", "/docs/plan", [("Authorization", f"Bearer {reader}"), ("Remote-User", "root")])[
            2
        ]
        assert json.loads(body)["for"] == "u1"
    gate.close()


def test_the_benchmark_measures(monkeypatch: object) -> None:
    """A short run of both sides gives a ratio that a gate can have."""
    del monkeypatch
    script = (
        "import sys; sys.path.insert(0, 'benchmarks'); import hit; from faregate import Gate;"
        "hit.ROUNDS, hit.CALLS = 3, 2000; ratio, floor = hit.measure(Gate('sqlite://'), 1); assert 1 < ratio < 30, ratio"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_the_benchmark_of_requests_measures() -> None:
    """A short run: in front of Starlette the gate costs no multiple of Starlette's own middleware."""
    script = (
        "import sys; sys.path.insert(0, 'benchmarks'); import request; from faregate import Gate;"
        "request.ROUNDS, request.CALLS = 5, 200; own, gate = request.measure(Gate('sqlite://')).values(); print(own, gate);"
        "assert 1 < own < gate * 1.5 and gate < own * 1.5, (own, gate)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
