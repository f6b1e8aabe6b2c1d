"""The examples run: the demonstration to its end, and the benchmark's two sides."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from real_servers import exchange, serving

from faregate import Gate, Owner

pytestmark = [pytest.mark.processes, pytest.mark.slow]

ROOT = Path(__file__).parent.parent


def test_the_demonstration_walks_to_its_end(tmp_path: Path) -> None:
    """With one expectation falsified, the demonstration reports exactly that one and exits with 1.

    It shows one line a step, and no secret but the operator's way.
    """
    source = (ROOT / "examples/demo.py").read_text()
    bent = source.replace('"without a token: refused", 401', '"without a token: refused", 200')
    assert bent != source
    (tmp_path / "demo.py").write_text(bent)
    for name in ("flask_app.py", "starlette_app.py"):
        (tmp_path / name).write_text((ROOT / "examples" / name).read_text())
    demo = subprocess.run(
        [sys.executable, str(tmp_path / "demo.py")],
        env={**os.environ, "DEMO_ONCE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert demo.returncode == 1
    assert demo.stdout.count("WRONG") == demo.stdout.count("WRONG, expected 200: ") == 1, (
        demo.stdout + demo.stderr
    )
    steps = [line.split() for line in demo.stdout.splitlines() if line.startswith("ok ")]
    assert [step[3] for step in steps if step[2].startswith("/docs")] == [
        *("200", "403", "403", "401", "200", "401", "200", "200", "401", "401"),
        *("200", "200", "403", "200", "403", "403", "200", "200", "401", "401", "401"),
        *("401", "200", "401"),
    ]
    codes = [step[4] for step in steps if step[3] in ("401", "403")]
    for code in (
        "object_not_shared",
        "insufficient_scope",
        "revoked",
        "redemption_required",
        "redemptions_exhausted",
    ):
        assert code in codes
    assert "6  NO  from an allowed network  127.0.0.1; allowed: 10.0.0.0/8" in demo.stdout
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
    with serving(
        command, "wsgi_app", ROOT / "examples", log=tmp_path / "log", FAREGATE_STORE=store
    ) as address:

        def status(path: str, secret: str | None = None) -> int:
            headers = [("Authorization", f"Bearer {secret}")] if secret else []
            return exchange(address, "GET", path, [*headers, ("Remote-User", "root")])[0]

        assert status("/healthz") == 200
        assert [status(path) for path in ("/docs/plan", "/other", "/docs/../x", "/docs//plan")] == [
            401
        ] * 4
        assert status("/docs/plan", reader) == 200
        assert [
            status(path, reader)
            for path in ("/docs/drafts/x", "/other", "/docs%2Fplan", "/docs/%2e%2e/x")
        ] == [403] * 4
        assert status("/docs/drafts/x", editor) == 200
        body = exchange(
            address,
            "GET",
            "/docs/plan",
            [("Authorization", f"Bearer {reader}"), ("Remote-User", "root")],
        )[2]
        assert json.loads(body)["for"] == "u1"
    gate.close()


MEASURE = """
import sys, tempfile; sys.path.insert(0, 'benchmarks')
from contextlib import ExitStack; from pathlib import Path
import bench, jwts, verification; from measure import measure_time
verification.ROWS, verification.LARGE, jwts.SIGHTS = 50, 100, 50
for group in bench.GROUPS:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as closing:
        figures = measure_time(bench.rows_of(group, Path(folder), closing, short=True), 3)
    assert all(figure.value > 0 for figure in figures), figures
    assert group != 'hits' or 1 < figures[1].value < 30, figures[1]
"""


def test_the_benchmark_measures() -> None:
    """A few slices of each row give figures that a gate can have."""
    subprocess.run([sys.executable, "-c", MEASURE], cwd=ROOT, check=True)


def test_the_benchmark_takes_the_footprint() -> None:
    """A token at hand takes some bytes, an import some time, and what exceeds its bound is told."""
    script = (
        "import sys; sys.path.insert(0, 'benchmarks'); import footprint; from measure import Figure\n"
        "footprint.ENTRIES, footprint.STARTS, footprint.TURN = 100, 1, 0.01\n"
        "for figure in (*footprint.memory(), *footprint.start(), *footprint.threads()): assert figure.value > 0, figure\n"
        "over, under = Figure('x', 2.1, 'y', 2.0), Figure('x', 0.7, 'y', 0.8, least=True)\n"
        "assert [one.holds(slack) for one in (over, under) for slack in (1.0, 1.25)] == [False, True] * 2"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("group", "row", "package"),
    [
        ("verifying", "safe-api-keys, SQLite, cached", "safe_api_keys"),
        ("verifying", "django-rest-knox, SQLite", "knox"),
        ("verifying", "keyshield, SQLite, cached, its delay off", "keyshield"),
        ("flask", "Flask-HTTPAuth, dictionary", "flask_httpauth"),
        ("flask", "Flask-JWT-Extended, HS256", "flask_jwt_extended"),
        ("starlette", "AuthenticationMiddleware, dictionary", "starlette"),
    ],
)
def test_the_benchmark_measures_a_peer(tmp_path: Path, group: str, row: str, package: str) -> None:
    """Its row stands behind its floor and is marked as a peer's; a call of it and of its floor lets the credential in."""
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed here; 'make bench-peers' installs it")
    script = (
        "import sys; sys.path.insert(0, 'benchmarks'); import peers; from contextlib import ExitStack; from pathlib import Path\n"
        "with ExitStack() as closing:\n"
        "    floor, *rows = getattr(peers, sys.argv[1])(Path(sys.argv[3]), closing)\n"
        "    (row,) = [row for row in rows if row.name == sys.argv[2]]\n"
        "    assert not floor.peer and row.peer and row.floor == floor.name and row.bound is None, (floor, row)\n"
        "    floor.calls(1), row.calls(1)"
    )
    subprocess.run([sys.executable, "-c", script, group, row, str(tmp_path)], cwd=ROOT, check=True)


PICTURE = """
import sys; sys.path.insert(0, 'benchmarks')
from pathlib import Path; import picture; from measure import Figure
figures = [Figure('peer', 1234.5, '× F', peer=True), Figure('hit', 1.9, '× F', 2.0), Figure('no panel', 7.0, 'µs')]
figures += [Figure('Flask, requires', 1.1, '× Flask', 1.2)]
"""


def test_the_figures_are_drawn(tmp_path: Path) -> None:
    """Each that has a panel is there as text, ours before a peer's; the same figures give the same bytes, undated."""
    pytest.importorskip("matplotlib", reason="the 'bench' extra draws the figures")
    files = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for file in files:
        script = f"{PICTURE}picture.draw(figures, Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", script, str(file)], cwd=ROOT, check=True)
    drawn = files[0].read_text()
    assert files[1].read_text() == drawn
    words = re.findall(">([^<>]+)</text>", drawn)
    assert [word for word in words if word in ("hit", "peer", "requires")] == [
        "hit",
        "peer",
        "requires",
    ]
    assert {"1.90", "1,234", "1.10", "faregate", "other packages"} <= set(words)
    assert "no panel" not in words
    assert "date" not in drawn


def test_without_the_library_no_picture_is_drawn(tmp_path: Path) -> None:
    """One line says so, and names the extra."""
    script = f"{PICTURE}sys.modules['matplotlib'] = None\npicture.draw(figures, Path(sys.argv[1]))"
    command = [sys.executable, "-c", script, str(tmp_path / "results.svg")]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert said == "No picture is drawn: that needs the extra 'bench'.\n"
    assert not list(tmp_path.iterdir())
