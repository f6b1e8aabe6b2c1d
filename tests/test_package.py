"""The package: what it exports, what importing it loads, and what the wheel holds."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import faregate
import faregate_asgi
import faregate_flask
import faregate_starlette
import faregate_wsgi
from faregate.errors import REASONS

ROOT = Path(__file__).parent.parent


def test_public_names() -> None:
    """The names that applications may rely on."""
    assert faregate.__all__ == [
        "ANY", "AUTHENTICATED", "PUBLIC", "AllowedScopes", "AuditEntry", "AuditPage", "Batch", "Closed", "Conflict", "Denied", "Exchanged", "Explanation", "Failure",
        "FaregateError", "Gate", "Introspected", "InvalidInput", "Issued", "IssuedShare", "Issuer", "Misconfigured", "NotFound", "Org", "Owner", "Page",
        "Permission", "PermissionGrant", "Policy", "PreconditionFailed", "Principal", "Purged", "RealmScopes", "Redeemed", "Role", "RoleGrant",
        "ServiceScopes", "Share", "ShareParams", "Step", "StoreUnavailable", "Token", "UnsupportedTokenType", "any_of", "path",
    ]  # fmt: skip
    assert all(hasattr(faregate, name) for name in faregate.__all__)
    assert faregate_flask.__all__ == ["Faregate", "current_principal"]
    assert faregate_starlette.__all__ == ["management", "requires"]
    assert faregate_asgi.__all__ == faregate_wsgi.__all__ == ["GateMiddleware"]


@pytest.mark.processes
@pytest.mark.parametrize(
    "statement", ["import faregate", "from faregate import Gate, Denied, Owner, path"]
)
def test_importing_loads_no_framework_and_no_database_library(statement: str) -> None:
    """Neither Flask nor Starlette nor SQLAlchemy nor Alembic."""
    script = f"{statement}\nimport sys\nprint([m for m in ('flask', 'werkzeug', 'starlette', 'sqlalchemy', 'alembic') if m in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout
        == "[]\n"
    )


@pytest.mark.processes
def test_making_a_gate_loads_no_alembic() -> None:
    """It is for migrating alone."""
    script = "import sys, faregate\nfaregate.Gate('sqlite://')\nprint('alembic' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout
        == "False\n"
    )


@pytest.mark.processes
def test_the_wheel_holds_every_package_and_its_types(tmp_path: Path) -> None:
    """Each import package of both source roots, with py.typed, the migrations and the licence."""
    pytest.importorskip("hatchling", reason="the 'dev' extra builds wheels")
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    packages = [
        path for root in ("src", "adapters") for path in (ROOT / root).iterdir() if path.is_dir()
    ]
    assert {path.name for path in packages} == {
        "faregate",
        "faregate_asgi",
        "faregate_flask",
        "faregate_starlette",
        "faregate_wsgi",
    }
    for package in packages:
        assert f"{package.name}/py.typed" in names
        for module in package.rglob("*.py"):
            assert str(module.relative_to(package.parent)) in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith(("tests", "src", "adapters", "examples")) for name in names)


def test_words_of_denials_fit_into_headers() -> None:
    """RFC 6750 section 3: no quotation mark, no backslash, nothing beyond ASCII; one wording for each reason."""
    for name, reason in REASONS.items():
        assert name.replace("_", "").isalpha()
        assert all(
            0x20 <= ord(character) <= 0x7E and character not in '"\\' for character in reason.detail
        )
    assert len({reason.detail for reason in REASONS.values()}) == len(REASONS)


def test_errors_have_one_root() -> None:
    """Whatever this package raises on purpose can be caught by one name."""
    for name in (
        "Conflict",
        "Denied",
        "InvalidInput",
        "Misconfigured",
        "NotFound",
        "PreconditionFailed",
        "StoreUnavailable",
        "UnsupportedTokenType",
    ):
        assert issubclass(getattr(faregate, name), faregate.FaregateError)
    assert issubclass(faregate.InvalidInput, ValueError)
