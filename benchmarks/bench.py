"""Print the table of what the gate costs: the rows, their figures, their bounds. Exits 1 if a bound is missed."""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import frameworks
import verification
from measure import counted, marked, timed

GROUPS = {"hits": verification.hits, "refusals": verification.refusals, "misses": verification.misses, "flask": frameworks.flask, "starlette": frameworks.starlette}

def main() -> int:
    count = "--count" in sys.argv
    mark = "--marked" in sys.argv
    wanted = [a for a in sys.argv[1:] if a[0]!="-"] or GROUPS
    for name in wanted:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as closing:
            rows = GROUPS[name](Path(folder), closing)
            if mark:
                marked(rows)
                continue
            if count:
                figures = counted(rows, [sys.executable, __file__, "--marked", name])
            else:
                figures = timed(rows, 1000)
            for figure in figures:
                bound = "" if figure.bound is None else f"{figure.bound:7.2f}  {'ok' if figure.holds() else 'MISSED'}"
                print(f"{figure.name:42} {figure.value:7.2f} {figure.unit:22} {bound}")
    return 0

if __name__ == "__main__":
    sys.exit(main())
