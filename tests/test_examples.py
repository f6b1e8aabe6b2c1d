"""The examples run: the demonstration to its end, and the benchmark's two sides."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_demonstration_walks_to_its_end() -> None:
    """Every answer as it should be, one line a step, and no secret but the operator's way."""
    demo = subprocess.run(
        [sys.executable, str(ROOT / "examples/demo.py")],
        env={**os.environ, "DEMO_ONCE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert demo.returncode == 0, demo.stdout + demo.stderr
    steps = [line.split() for line in demo.stdout.splitlines() if line.startswith("ok ")]
    assert "WRONG" not in demo.stdout
    assert [step[3] for step in steps if step[2].startswith("/docs")] == (
        ["401", "200", "403", "403", "401", "200", "401", "200", "200", "401", "401"]
    )
    assert "fg_tok_" not in demo.stdout


def test_a_wrong_answer_fails_the_demonstration(tmp_path: Path) -> None:
    """With one expectation bent, it says so and ends with 1."""
    source = (ROOT / "examples/demo.py").read_text()
    bent = source.replace('"without a token nobody gets in", 401', '"without a token nobody gets in", 200')
    assert bent != source
    (tmp_path / "demo.py").write_text(bent)
    (tmp_path / "flask_app.py").write_text((ROOT / "examples/flask_app.py").read_text())
    demo = subprocess.run(
        [sys.executable, str(tmp_path / "demo.py")],
        env={**os.environ, "DEMO_ONCE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert demo.returncode == 1
    assert "WRONG, expected 200" in demo.stdout


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
