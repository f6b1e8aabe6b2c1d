"""A store in a storm: two writers, three readers, kills, and pages and companions that are taken away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.processes, pytest.mark.slow]

SOAK = "SOAK" in os.environ
SECONDS = 150 if SOAK else 4


def test_no_answer_is_stale_and_no_change_is_lost(tmp_path: Path) -> None:
    """Real processes; a million answers and more in the soak. Refusals while files are missing are no answers."""
    script = Path(__file__).parent.parent / "support" / "store_kills.py"
    done = subprocess.run(
        [sys.executable, script, tmp_path, str(SECONDS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-20_000:]
    print(done.stdout)
    told = json.loads(done.stdout)
    assert (told["stale"], told["lost"], told["ended early"]) == (0, 0, 0), (
        done.stdout + done.stderr[-2000:]
    )
    assert told["judged"] >= (1_000_000 if SOAK else 1000)
    assert told["changed"] >= (1000 if SOAK else 10)
