"""Every example in a docstring of the packages runs, and shows its output.

An example starts with ``>>>`` and runs with a fresh in-memory gate and these names:

- ``gate``, and ``clock``, its clock, which stands at 2026-01-01T00:00:00Z: ``clock.now += 3600`` moves it an hour on
- ``token``, a record of type API with ``docs:read``; ``secret``, its credential; ``principal``, its principal
- ``refresh``, a record of type REFRESH with ``docs:read``; ``refresh_secret``, its credential
- ``share``, a record that opens ``plan`` for ``docs:read``; ``share_secret``, its secret
- ``ann``, the owner of both tokens; ``datetime``, ``timedelta``, ``UTC``
- every name in ``faregate.__all__``

Examples of one docstring share their names; no docstring sees those of another. ``...`` in the output stands for any
text. A denial is written as a traceback without the module: ``Denied: insufficient_scope: ...``.
"""

from __future__ import annotations

import ast
import doctest
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import Clock

import faregate
from faregate import Gate, Owner
from faregate_flask import Faregate

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
FOLDERS = (ROOT / "src", ROOT / "adapters")
MIDNIGHT = 1_767_225_600.0  # 2026-01-01T00:00:00Z

# The names of each file that users call, and that need an example.
EXAMPLES = {
    "faregate/decision/principal.py": (
        "Principal Principal.require Principal.allows Principal.allowed_objects path"
    ),
    "faregate/gate.py": (
        "Gate Gate.verify Gate.introspect Gate.revoke Gate.explain Gate.audit Gate.purge Gate.session "
        "Gate.owner_changed Gate.flush Gate.close"
    ),
    "faregate/lifecycles/jwt_revocations.py": (
        "JwtRevocations.revoke JwtRevocations.revoke_subject"
    ),
    "faregate/lifecycles/shares.py": (
        "Shares.create Shares.get Shares.list Shares.update Shares.revoke Shares.redeem"
    ),
    "faregate/lifecycles/tokens.py": (
        "Tokens.create Tokens.get Tokens.list Tokens.update Tokens.rotate Tokens.exchange "
        "Tokens.deactivate Tokens.activate Tokens.deactivate_many Tokens.activate_many Tokens.delete"
    ),
    "faregate/policy.py": "Policy",
    "faregate_asgi/middleware.py": "GateMiddleware",
    "faregate_flask/extension.py": (
        "Faregate Faregate.init_app Faregate.requires Faregate.management"
    ),
    "faregate_starlette/guard.py": "requires",
    "faregate_starlette/management.py": "management",
    "faregate_wsgi/middleware.py": "GateMiddleware",
}

Docstring = tuple[str, str, str, int]  # file, name, text, line
_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def docstrings(file: Path) -> Iterator[Docstring]:
    """Yield the docstrings of a file, with the dotted names of their owners in it."""
    module = str(file.relative_to(next(folder for folder in FOLDERS if folder in file.parents)))

    def walk(node: ast.AST, prefix: str) -> Iterator[Docstring]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, _Documented):
                name = f"{prefix}{getattr(child, 'name', '')}"
                text = ast.get_docstring(child)
                if text is not None:
                    yield module, name, text, getattr(child, "lineno", 1)
                yield from walk(child, f"{name}.")

    tree = ast.parse(file.read_text())
    text = ast.get_docstring(tree)
    if text is not None:
        yield module, "", text, 1
    yield from walk(tree, "")


SHOWN = [
    docstring
    for folder in FOLDERS
    for file in sorted(folder.rglob("*.py"))
    for docstring in docstrings(file)
    if ">>>" in docstring[2]
]


class Checker(doctest.OutputChecker):
    """Compares exceptions by the names under which users import them."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        """Tell whether the output is the promised one."""
        return super().check_output(want, got.replace("faregate.errors.", ""), optionflags)


@pytest.fixture
def names() -> Iterator[dict[str, Any]]:
    """The names that an example may use."""
    clock = Clock(MIDNIGHT)
    gate = Gate("sqlite://", clock=clock)
    ann = Owner(id="ann", name="Ann")
    issued = gate.tokens.create(name="reader", owner=ann, scopes=["docs:read"])
    family = gate.tokens.create(name="app", type="REFRESH", owner=ann, scopes=["docs:read"])
    shared = gate.shares.create("plan", scopes=["docs:read"], expires_in=timedelta(days=7))
    yield {
        **{name: getattr(faregate, name) for name in faregate.__all__},
        "gate": gate,
        "clock": clock,
        "ann": ann,
        "token": issued.token,
        "secret": issued.secret,
        "principal": gate.verify(issued.secret),
        "refresh": family.token,
        "refresh_secret": family.secret,
        "share": shared.share,
        "share_secret": shared.secret,
        "datetime": datetime,
        "timedelta": timedelta,
        "UTC": UTC,
    }
    gate.close()


@pytest.mark.parametrize("docstring", SHOWN, ids=lambda shown: f"{shown[0]}:{shown[1]}")
def test_examples_run(docstring: Docstring, names: dict[str, Any]) -> None:
    """As they are shown, with the output that they show."""
    module, name, text, line = docstring
    # A function of a module is called by its own name, too.
    own = vars(
        import_module(module.removesuffix(".py").replace("/", ".").removesuffix(".__init__"))
    )
    known = {**own, **names}
    example = doctest.DocTestParser().get_doctest(text, known, name, module, line)
    runner = doctest.DocTestRunner(Checker(), optionflags=doctest.ELLIPSIS)
    output: list[str] = []
    runner.run(example, out=output.append, clear_globs=False)
    for value in list(example.globs.values()):
        if isinstance(value, Gate):
            value.close()
        elif isinstance(value, Faregate):
            value.gate.close()
    assert not output, "".join(output)


def test_what_users_call_has_an_example() -> None:
    """Each of the names that are listed above."""
    shown = {(module, name) for module, name, _, _ in SHOWN}
    listed = {(file, name) for file, named in EXAMPLES.items() for name in named.split()}
    assert not listed - shown
