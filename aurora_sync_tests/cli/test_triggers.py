"""``aurora-sync triggers``: plans, installation as the owner, and error messages."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from aurora_sync.cli.main import main
from aurora_sync_tests.cli.running import Command, execute

_TRIGGERS = Command("triggers")
said, document = _TRIGGERS.said, _TRIGGERS.document

OUTBOX = "tables: [{table_name: t, watermark_type: outbox}]"


@pytest.fixture
def tables(dsn: str, tables_file: Path) -> Path:
    """Create a table t with three rows. Return the path of tables.yaml, which does not exist yet."""
    execute(dsn, "CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t SELECT generate_series(1, 3), 'v'")
    return tables_file


@pytest.fixture
def roles(dsn: str, tables: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """Set AURORA_DSN to a role that may read, and AURORA_OWNER_DSN to the owner of the table. Return both names."""
    reader, owner = (f"{what}_{uuid.uuid4().hex[:8]}" for what in ("reader", "owner"))
    execute(
        dsn,
        *(f"CREATE ROLE {role} LOGIN PASSWORD 'x'" for role in (reader, owner)),
        f"GRANT pg_read_all_stats TO {reader}",
        f"GRANT USAGE, CREATE ON SCHEMA public TO {owner}",
        f"ALTER TABLE t OWNER TO {owner}",
        f"DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO {owner}', current_database()); END $$",
        f"GRANT SELECT ON t TO {reader}",
    )
    monkeypatch.setenv("AURORA_DSN", make_dsn(dsn, user=reader, password="x"))
    monkeypatch.setenv("AURORA_OWNER_DSN", make_dsn(dsn, user=owner, password="x"))
    yield reader, owner
    execute(dsn, "DROP SCHEMA IF EXISTS aurora_sync CASCADE")
    for role in (reader, owner):
        execute(dsn, f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")


def error(capsys: pytest.CaptureFixture[str], status: int, *arguments: str) -> str:
    assert main(["triggers", *arguments]) == status
    return capsys.readouterr().err


def test_from_a_plan_to_a_sync_and_back(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables.write_text(OUTBOX)
    assert main(["sync"]) == 1
    assert "no trigger records which rows of public.t change: `aurora-sync triggers plan`" in capsys.readouterr().err
    text = said(capsys, 1, "plan")
    assert 'CREATE TABLE "aurora_sync"."public.t" ("id" text' in text
    assert "lock: SHARE ROW EXCLUSIVE on public.t: writers wait, readers do not" in text
    assert 'undo: DROP TRIGGER "zzz_aurora_sync_row" ON "public"."t";' in text
    assert "if a column of the key (id) is renamed or dropped, every write of public.t fails" in text
    assert text.endswith("Nothing was changed; `aurora-sync triggers apply` runs these statements.\n")
    text = said(capsys, 0, "apply")
    assert "no other session waited longer than" in text
    assert text.endswith("next: `aurora-sync triggers verify public.t`; in tables.yaml watermark_type: outbox\n")
    assert said(capsys, 0, "plan") == "public.t: outbox\n  nothing is missing\n"
    assert said(capsys, 0, "apply").startswith("public.t: nothing is missing\n")
    text = said(capsys, 0, "verify")
    assert "fired         DELETE of public.t, by replication" in text
    assert text.endswith("All these writes were rolled back.\n")
    assert main(["sync"]) == 0
    assert main(["status"]) == 0
    capsys.readouterr()
    assert "DROP TRIGGER" in said(capsys, 0, "remove", "t", "--dry-run")
    assert "no other session waited" in said(capsys, 0, "remove", "t")
    assert said(capsys, 0, "remove", "t") == "public.t: it has no triggers of aurora_sync\n"


def test_publications_that_would_take_it_to_their_subscribers(
    tables: Path, dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(dsn, "CREATE PUBLICATION every FOR ALL TABLES", "CREATE PUBLICATION one FOR TABLE t")
    outbox = said(capsys, 1, "plan", "t")
    assert "every, FOR ALL TABLES, publishes the outbox as well: create the outbox at subscribers first" in outbox
    columns = said(capsys, 1, "plan", "t", "--kind", "audit_columns")
    assert "the table is published by every, one: add the new columns at each subscriber first" in columns


def test_json_documents(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = document(capsys, 1, "plan", "t", "--kind", "audit_columns")["public.t"]
    assert (table["kind"], len(table["steps"]), table["backfill_rows"], table["in_use"]) == ("audit_columns", 3, 1, [])
    assert set(table["steps"][0]) == {"what", "statements", "lock", "undo"}
    done = document(capsys, 0, "apply", "t", "--kind", "audit_columns")["public.t"]
    assert (len(done["steps"]), done["backfilled"]) == (4, 3)
    assert {step["attempts"] for step in done["steps"]} == {1}
    trials = document(capsys, 0, "verify", "t")["public.t"]["audit_columns"]
    assert {(trial["fired"], trial["why"]) for trial in trials} == {(True, "")}
    assert len(document(capsys, 0, "remove", "t", "--dry-run")["public.t"]["steps"]) == 2
    assert len(document(capsys, 0, "remove", "t")["public.t"]["steps"]) == 2


def test_trigger_that_does_not_fire_is_the_exit_status(
    tables: Path, dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, 0, "apply", "t")
    execute(dsn, "ALTER TABLE t DISABLE TRIGGER zzz_aurora_sync_row")
    assert "DID NOT FIRE  UPDATE of public.t, by the application" in said(capsys, 1, "verify", "t")
    assert "create the triggers, which also fire for replicated writes" in said(capsys, 1, "plan", "t")
    said(capsys, 0, "apply", "t")
    said(capsys, 0, "verify", "t")


def test_owner_makes_what_the_reader_may_use(
    tables: Path, roles: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], dsn: str
) -> None:
    tables.write_text(OUTBOX)
    reader, _ = roles
    ours = '"aurora_sync_emptied"'
    granted = f'GRANT SELECT, DELETE, INSERT ({ours}), UPDATE ({ours}) ON "aurora_sync"."public.t" TO "{reader}";'
    assert granted in said(capsys, 1, "plan")
    said(capsys, 0, "apply")
    said(capsys, 0, "plan")
    text = said(capsys, 0, "verify")
    assert (
        "this role may not set session_replication_role to replica; in the catalogue, all triggers are ENABLE ALWAYS"
        in text
    )
    assert main(["sync"]) == 0
    execute(dsn, "UPDATE t SET v = 'new' WHERE id = 1", "DELETE FROM t WHERE id = 2")
    capsys.readouterr()
    assert main(["sync", "--json"]) == 0
    (receipt,) = json.loads(capsys.readouterr().out)["receipts"]
    assert (receipt["method"], receipt["updated"], receipt["deleted"]) == ("outbox", 1, 1)
    execute(dsn, f'REVOKE DELETE ON aurora_sync."public.t" FROM {reader}')
    assert main(["sync"]) == 1
    assert "this role may not read and empty its outbox: `aurora-sync triggers plan`" in capsys.readouterr().err
    said(capsys, 0, "apply")
    assert main(["sync"]) == 0
    execute(dsn, f'GRANT INSERT, UPDATE ON aurora_sync."public.t" TO {reader}')  # as older releases did
    assert main(["sync"]) == 0
    assert granted in said(capsys, 1, "plan")
    said(capsys, 0, "apply")
    said(capsys, 0, "plan")
    for forged in ("INSERT INTO {} (id) VALUES ('7')", "UPDATE {} SET id = '7'"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            execute(make_dsn(dsn, user=reader, password="x"), forged.format('aurora_sync."public.t"'))
    monkeypatch.delenv("AURORA_OWNER_DSN")
    found = error(capsys, 1, "remove", "t")
    assert "must be owner of relation t" in found
    assert "only the owner of a table may do this: set AURORA_OWNER_DSN to a login of the owner" in found


def test_login_of_the_owner_that_is_wrong(
    tables: Path, roles: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], dsn: str
) -> None:
    monkeypatch.setenv("AURORA_OWNER_DSN", make_dsn(dsn, user=roles[1], password="geheim"))
    found = error(capsys, 1, "plan", "t")
    assert "check host, port, user, password and database in AURORA_OWNER_DSN" in found
    assert "geheim" not in found
    monkeypatch.setenv("AURORA_OWNER_DSN", "postgresql//geheim")
    found = error(capsys, 2, "plan", "t")
    assert found.startswith("error: AURORA_OWNER_DSN: found a string that libpq cannot read")
    assert "geheim" not in found


def test_tables_that_cannot_have_it_keep_it_from_no_other(
    tables: Path, dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(dsn, "CREATE TABLE a (v text)", "CREATE VIEW w AS SELECT 1", "CREATE TABLE z (id int PRIMARY KEY)")
    assert main(["triggers", "plan", "a", "t", "w"]) == 1
    printed = capsys.readouterr()
    assert "error: public.a: the table has no primary key" in printed.err
    assert "error: public.w: only a table without foreign partitions can have the row triggers" in printed.err
    assert 'CREATE TABLE "aurora_sync"."public.t"' in printed.out
    done = document(capsys, 1, "apply", "a", "t", "w", "z")
    assert [len(done[name]["steps"]) for name in ("public.t", "public.z")] == [5, 4]
    assert "the table has no primary key" in done["public.a"]["error"]
    assert said(capsys, 0, "plan", "t", "z").count("nothing is missing") == 2
    assert "public.a: it has no triggers of aurora_sync" in error(capsys, 1, "verify", "a", "t")
    tables.write_text("tables: [{table_name: gone, watermark_type: outbox}, {table_name: t, watermark_type: outbox}]")
    assert main(["triggers", "plan"]) == 1
    printed = capsys.readouterr()
    assert (printed.err, printed.out) == (
        "error: the database has no table public.gone\n",
        "public.t: outbox\n  nothing is missing\n",
    )


def test_table_whose_lock_is_not_to_be_had_keeps_the_triggers_from_no_other(
    tables: Path, dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(dsn, "CREATE TABLE z (id int PRIMARY KEY)")
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE t SET v = 'open'")
        found = document(capsys, 1, "apply", "t", "z", "--lock-timeout", "50ms", "--attempts", "1")
    assert "the lock was not granted in 1 attempts of 50ms" in found["public.t"]["error"]
    assert "nothing is missing" in said(capsys, 0, "plan", "z")


@pytest.mark.parametrize(
    ("arguments", "because"),
    [
        (["plan"], "no table has watermark_type: outbox (name the tables that get an outbox)"),
        (["apply", "--kind=audit_columns"], "--kind audit_columns needs the names of tables"),
        (["plan", "missing"], "the database has no table 'missing' that is visible to this role"),
    ],
)
def test_what_names_no_table_or_one_without_triggers(
    tables: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], because: str
) -> None:
    assert because in error(capsys, 2, *arguments)


@pytest.mark.parametrize(
    ("option", "because"),
    [
        ("--lock-timeout=2", "expected a time such as 500ms, 2s or 1min; found '2'"),
        ("--busy=0", "expected a share such as 0.5 or 1; found '0'"),
        ("--busy=x", "expected a share such as 0.5 or 1; found 'x'"),
        ("--batch=0", "expected a whole number of at least 1; found '0'"),
        ("--attempts=-1", "expected a whole number of at least 1; found '-1'"),
        ("--kind=both", "invalid choice: 'both'"),
    ],
)
def test_option_that_says_nothing(capsys: pytest.CaptureFixture[str], option: str, because: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["triggers", "apply", "t", option])
    assert exit_.value.code == 2
    assert because in capsys.readouterr().err
