"""Threads that become greenlets, before the gate is loaded or after it: nothing hangs, and what excludes excludes."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from real_servers import at_once, serving

from faregate import Gate

pytestmark = pytest.mark.processes

README = """
import os
from flask import Flask
from faregate import path
from faregate_flask import Faregate, current_principal

app = Flask(__name__)
app.config["FAREGATE_STORE"] = os.environ["STORE"]
faregate = Faregate(app)

@app.get("/docs/<doc_id>")
@faregate.requires("docs:read", on=path("doc_id"))
def document(doc_id):
    return {"document": doc_id, "for": current_principal.id}
"""

# A gate of its own for each step; `spawn` starts greenlets and waits for all of them.
STEPS = """
import signal, sys, threading, time
signal.alarm(30)  # what hangs, hangs for ever

def patched():
    if sys.argv[1] == "gevent":
        from gevent import joinall, monkey, spawn
        monkey.patch_all()
        return lambda calls: [done.get() for done in joinall([spawn(call) for call in calls], raise_error=True)]
    import eventlet
    eventlet.monkey_patch()
    return lambda calls: [done.wait() for done in [eventlet.spawn(call) for call in calls]]

spawn = patched() if sys.argv[2] == "before" else None
import faregate
from faregate import AllowedScopes, Conflict, Gate, Owner

def hook(owner):
    time.sleep(0.05)  # as an application that asks another service: others go on meanwhile
    return AllowedScopes(general_scopes=["docs:read", "gate:tokens:write"])

gates = [Gate(url, owner_rights=hook, owner_rights_ttl=0) for url in ("sqlite://", sys.argv[4])]
made = [gate.tokens.create(name="a", owner=Owner("alice"), scopes=["docs:read", "gate:tokens:write"]) for gate in gates]
if sys.argv[3] == "used":
    for gate, issued in zip(gates, made):
        gate.verify(issued.secret)
spawn = spawn or patched()

for gate, issued in zip(gates, made):
    found = spawn([lambda: gate.verify(issued.secret).id] * 8)
    assert found == [issued.token.id] * 8, found
    thread = gate._usage._thread
    assert thread is not None and thread.is_alive()

    # Changes, in whose middle others come, and refusals that take back what was written.
    def change(number):
        caller = gate.verify(issued.secret)
        with gate._store.changing() as change:
            inside.append(number)
            time.sleep(0.01)
            assert inside == [number], inside
            inside.remove(number)

    inside = []
    spawn([lambda number=number: change(number) for number in range(8)])
    caller = gate.verify(issued.secret)
    spawn([lambda number=number: gate.tokens.create(name=str(number), by=caller) for number in range(4)])
    assert gate.tokens.list().total == 5

    # Of rotations at once one wins, and what it answers goes on: greenlets of one thread are not each other.
    free = gate.tokens.create(name="free", scopes=["gate:tokens:write"])  # whose rights are asked of nobody
    caller = gate.verify(free.secret)
    def rotate():
        try:
            return gate.tokens.rotate("self", by=caller).secret
        except Conflict:
            return None

    [secret] = filter(None, spawn([rotate] * 8))
    assert gate.verify(secret).id == free.token.id
    gate.close()
print("done")
"""


@pytest.mark.parametrize("used", ["used", "fresh"])
@pytest.mark.parametrize("patched", ["before", "after"])
@pytest.mark.parametrize("kind", ["gevent", "eventlet"])
def test_greenlets_hang_nowhere(kind: str, patched: str, used: str, tmp_path: Path) -> None:
    """Eight at once are answered, and one changes a store at a time, whether locks were made before or after."""
    if find_spec(kind) is None:
        pytest.skip(f"{kind} is not installed")
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        STEPS,
        kind,
        patched,
        used,
        f"sqlite:///{tmp_path / 'gate.db'}",
    ]
    environment = {**os.environ, "EVENTLET_NO_GREENDNS": "yes"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "done\n", (done.returncode, done.stderr)


def test_trap_29_the_first_requests_of_a_preloaded_application(tmp_path: Path) -> None:
    """README's ten lines under ``gunicorn --preload -k gevent``: eight requests at once are answered."""
    (tmp_path / "served.py").write_text(README)
    url = f"sqlite:///{tmp_path / 'gate.db'}"
    gate = Gate(url)
    secret = gate.tokens.create(name="a", scopes=["docs:read"]).secret
    gate.close()
    command = "gunicorn --preload -k gevent --bind 127.0.0.1:{port} {module}:app"
    with serving(command, "served", tmp_path, STORE=url) as address:
        answers = at_once(8, address, "/docs/plan", ("Authorization", f"Bearer {secret}"))
    assert [status for status, _, _ in answers] == [200] * 8
