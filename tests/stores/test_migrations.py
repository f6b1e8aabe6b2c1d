"""The tables: made in one go or by migration they are the same, and other versions are refused."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
from conftest import reason_of

from faregate import Gate, InvalidInput, Org, Owner
from faregate.stores.migrations import upgrade
from faregate.stores.schema import VERSION


def schema_of(path: Path) -> dict[str, list[str]]:
    """The statements that made the tables and indices, white space folded, Alembic's own table aside."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"
        ).fetchall()
    connection.close()
    return {name: _definitions(sql) for name, sql in rows if name != "faregate_schema"}


def _definitions(sql: str) -> list[str]:
    """The parts of a statement in one order: a migration adds a column at the end of its table."""
    head, _, body = re.sub(r"\s+", " ", sql).partition(" (")
    return [head, *sorted(re.split(r", (?![^(]*\))", body.removesuffix(")").strip()))]


def version_of(path: Path) -> list[tuple[str]]:
    """The version that is stamped."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT version_num FROM faregate_schema").fetchall()
    connection.close()
    return rows


def test_migrating_and_creating_make_the_same_tables(tmp_path: Path) -> None:
    """Table by table, index by index, with the same stamp; and both serve."""
    made, migrated = tmp_path / "made.db", tmp_path / "migrated.db"
    Gate(f"sqlite:///{made}").close()
    upgrade(f"sqlite:///{migrated}")
    assert schema_of(made) == schema_of(migrated)
    assert version_of(made) == version_of(migrated)
    for path in (made, migrated):
        gate = Gate(f"sqlite:///{path}")
        assert gate.verify(gate.tokens.create(name="a").secret).kind == "token"
        gate.close()


def test_upgrading_twice_changes_nothing(tmp_path: Path) -> None:
    """And keeps what is there."""
    url = f"sqlite:///{tmp_path / 'gate.db'}"
    gate = Gate(url)
    token = gate.tokens.create(name="a").token
    gate.close()
    upgrade(url)
    upgrade(url)
    assert gate.tokens.get(token.id) == token
    gate.close()


def test_tables_of_another_version_are_refused(tmp_path: Path) -> None:
    """With a word on what to do."""
    path = tmp_path / "gate.db"
    Gate(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE faregate_schema SET version_num = '9999'")
    connection.close()
    with pytest.raises(InvalidInput, match="faregate db upgrade"):
        Gate(f"sqlite:///{path}")


def test_tables_join_those_of_an_application(tmp_path: Path) -> None:
    """A database that has tables of its own gets these beside them."""
    path = tmp_path / "app.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE users (id INTEGER PRIMARY KEY)")
    connection.close()
    gate = Gate(f"sqlite:///{path}")
    assert gate.tokens.list().total == 0
    gate.close()
    assert "users" in schema_of(path)


def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path: Path) -> None:
    """The cause is chained, and the file is left as it was."""
    path = tmp_path / "gate.db"
    path.write_bytes(b"not a database, " * 100)
    with pytest.raises(InvalidInput, match="is not a SQLite database") as raised:
        Gate(f"sqlite:///{path}")
    assert "not a database" in str(raised.value.__cause__)
    assert path.read_bytes() == b"not a database, " * 100


@pytest.mark.parametrize(
    "url",
    [
        "",
        "gate.db",
        "sqlite:///gate.db?mode=ro",
        "sqlite:///file:gate.db",
        "sqlite://host/gate.db",
        "mysql://x/y",
        "sqlite:////no/such/dir/gate.db",
    ],
)
def test_urls_that_cannot_be_are_refused(url: str) -> None:
    """Each with a word on what is expected."""
    with pytest.raises(InvalidInput, match="store"):
        Gate(url)


def test_a_relative_path_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later change of directory moves no database; a symbolic link leads to one page."""
    monkeypatch.chdir(tmp_path)
    gate = Gate("sqlite:///gate.db")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link.db").symlink_to("gate.db")
    monkeypatch.chdir(tmp_path / "elsewhere")
    issued = gate.tokens.create(name="a")
    linked = Gate(f"sqlite:///{tmp_path / 'link.db'}")
    assert linked.verify(issued.secret).id == issued.token.id
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert not (tmp_path / "link.db-page").exists()
    gate.close()
    linked.close()


def test_a_store_of_each_older_version_keeps_what_it_holds(tmp_path: Path) -> None:
    """Tokens and entries that were written then are there afterwards, and the audit finds them by its new indices."""
    made = tmp_path / "made.db"
    gate = Gate(f"sqlite:///{made}")
    issued = gate.tokens.create(name="a", org=Org("o1"))
    gate.close()
    with sqlite3.connect(made) as connection:
        connection.execute("DROP INDEX faregate_feed_org")
        connection.execute("DROP INDEX faregate_feed_subject")
        connection.execute("DROP TABLE faregate_jwt_revocations")
        for table in ("families", "exchanges", "access"):
            connection.execute(f"DROP TABLE faregate_{table}")
        connection.execute("DROP TABLE faregate_descent")
        connection.execute(
            "CREATE TABLE faregate_deleted (id VARCHAR(36) PRIMARY KEY, made_by TEXT NOT NULL)"
        )
        for column in ("actor_kind", "actor_id"):
            connection.execute(f"ALTER TABLE faregate_feed DROP COLUMN {column}")
        connection.execute("ALTER TABLE faregate_sequence DROP COLUMN page")
        for column in ("require_rotation", "revoked_at", "leaked", "deactivated_by", "metadata"):
            connection.execute(f"ALTER TABLE faregate_tokens DROP COLUMN {column}")
        connection.execute("UPDATE faregate_schema SET version_num = '0003'")
    connection.close()
    url = f"sqlite:///{made}"
    with pytest.raises(InvalidInput, match="0003"):
        Gate(url)
    upgrade(url)
    assert version_of(made) == [(VERSION,)]
    gate = Gate(url)
    assert gate.verify(issued.secret).id == issued.token.id
    assert [one.action for one in gate.audit(subject=issued.token.id).items] == ["token.create"]
    with gate._store.reading() as reading:
        for column, index in (
            ("org_id", "faregate_feed_org"),
            ("subject", "faregate_feed_subject"),
        ):
            plan = reading._connection.exec_driver_sql(
                f"EXPLAIN QUERY PLAN SELECT * FROM faregate_feed WHERE {column} = 'x' AND sequence > 1 ORDER BY sequence"
            ).fetchall()
            assert index in str(plan)
    gate.close()


def test_who_deactivated_a_token_before_activates_it_still(tmp_path: Path) -> None:
    """An owner what the owner closed, a token what it made and closed; not what the command line or the application did."""
    path = tmp_path / "gate.db"
    url = f"sqlite:///{path}"
    gate = Gate(url)
    scopes = ["gate:tokens:*"]
    owner = Owner('ö"/u', idp_id="p")
    theirs = gate.tokens.create(name="a", owner=owner, org=Org("o"), scopes=scopes)
    nobodys = gate.tokens.create(name="n", scopes=scopes)
    cli = gate.tokens.create(name="c", owner=Owner("cli"), scopes=scopes)
    closed: dict[str, tuple[str, str]] = {}
    for maker in (theirs, nobodys, cli):
        made = gate.tokens.create(name="m", by=gate.verify(maker.secret)).token.id
        gate.tokens.deactivate(made, by=gate.verify(maker.secret))
        closed[maker.secret] = (made, gate.tokens.get(made).deactivated_updated_by or "")
    gate.close()
    with sqlite3.connect(path) as connection:
        before = connection.execute(
            "SELECT id, deactivated_by FROM faregate_tokens ORDER BY id"
        ).fetchall()
        connection.execute("DROP TABLE faregate_descent")
        connection.execute(
            "CREATE TABLE faregate_deleted (id VARCHAR(36) PRIMARY KEY, made_by TEXT NOT NULL)"
        )
        for table, column in (
            ("feed", "actor_kind"),
            ("feed", "actor_id"),
            ("sequence", "page"),
            ("tokens", "leaked"),
            ("tokens", "deactivated_by"),
            ("tokens", "metadata"),
        ):
            connection.execute(f"ALTER TABLE faregate_{table} DROP COLUMN {column}")
        connection.execute("UPDATE faregate_schema SET version_num = '0006'")
    connection.close()
    upgrade(url)
    with sqlite3.connect(path) as connection:
        after = connection.execute(
            "SELECT id, deactivated_by FROM faregate_tokens ORDER BY id"
        ).fetchall()
    connection.close()
    assert [row for row in after if row[0] != closed[cli.secret][0]] == [
        row for row in before if row[0] != closed[cli.secret][0]
    ]
    gate = Gate(url)
    for maker, outcome in ((theirs, "ok"), (nobodys, "ok"), (cli, "insufficient_scope")):
        by = gate.verify(maker.secret)
        assert (
            reason_of(
                lambda by=by, maker=maker: gate.tokens.activate(closed[maker.secret][0], by=by)
            )
            == outcome
        )
    gate.close()
