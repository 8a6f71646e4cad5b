"""Features of the DuckDB warehouse only: one file, one writer, and the translation."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlglot

from aurora_sync.errors import Kind, WarehouseError
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.duckdb import DuckDBWarehouse, to_duckdb

pytestmark = pytest.mark.closes_warehouse

HOLD = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.readline()"


def hold(path: Path) -> subprocess.Popen[str]:
    """Start another process that keeps the file open until a line is written to it."""
    command = [sys.executable, "-c", HOLD, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def test_a_session_waits_until_another_process_has_closed_the_file(duckdb_warehouse: DuckDBWarehouse) -> None:
    with hold(duckdb_warehouse.path) as holder:
        release = threading.Timer(0.3, holder.communicate, ("\n",))
        release.start()
        with duckdb_warehouse.session() as session:
            assert session.query("SELECT 1") == [(1,)]
        release.join()


def test_a_file_that_stays_in_use_is_a_clear_error(tmp_path: Path) -> None:
    warehouse = DuckDBWarehouse(tmp_path / "w.duckdb", lock_wait_seconds=0.2)
    with hold(warehouse.path) as holder:
        with pytest.raises(WarehouseError, match="in use") as caught, warehouse.session():
            pass
        holder.communicate("\n")
    assert caught.value.kind is Kind.TRANSIENT


def test_sessions_of_two_threads_wait_for_each_other(duckdb_warehouse: DuckDBWarehouse) -> None:
    inside = threading.Lock()
    overlaps = []

    def work() -> None:
        with duckdb_warehouse.session() as session:
            overlaps.append(not inside.acquire(blocking=False))
            session.query("SELECT 1")
            inside.release()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == [False] * 4


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.duckdb").write_text("something else, and long enough to be looked at" * 100)
    with pytest.raises(WarehouseError, match="cannot be opened"), DuckDBWarehouse(tmp_path / "w.duckdb").session():
        pass


def test_a_corrupt_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    path.write_bytes(bytes(8) + b"DUCK" + bytes(5000))  # DuckDB's magic number with a wrong checksum
    with (
        pytest.raises(WarehouseError, match=r"w\.duckdb: the file cannot be opened: .*checksum"),
        DuckDBWarehouse(path).session(),
    ):
        pass
    assert path.read_bytes()[8:12] == b"DUCK"


def test_a_file_with_the_name_of_a_schema_is_to_be_renamed(tmp_path: Path) -> None:
    with DuckDBWarehouse(tmp_path / "crm.duckdb").session() as session:
        session.query('CREATE SCHEMA "CRM"')
        with pytest.raises(WarehouseError, match="rename the DuckDB file: a schema in it has the same name"):
            session.query('CREATE TABLE "CRM"."T" ("A" VARCHAR)')


def test_a_failed_statement_ends_the_transaction(duckdb_session: Session) -> None:
    duckdb_session.query('CREATE TABLE "T" ("A" NUMBER(5,0))')

    def fail() -> None:
        with duckdb_session.transaction():
            duckdb_session.modify('INSERT INTO "T" VALUES (1)')
            duckdb_session.modify("INSERT INTO \"T\" VALUES ('x')")

    with pytest.raises(WarehouseError, match="duckdb:"):
        fail()
    assert duckdb_session.query('SELECT * FROM "T"') == []


def test_both_texts_of_a_statement_are_logged(duckdb_session: Session, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "aurora_sync")
    duckdb_session.query('CREATE TRANSIENT TABLE "T" ("A" VARIANT)')
    assert 'snowflake: CREATE TRANSIENT TABLE "T" ("A" VARIANT)' in caplog.text
    assert 'duckdb: CREATE TABLE "T" ("A" JSON)' in caplog.text


def test_a_statement_that_duckdb_cannot_say_fails_rather_than_losing_a_part() -> None:
    with pytest.raises(sqlglot.errors.UnsupportedError):
        to_duckdb("CREATE VIEW v TAG (a = 'b') AS SELECT 1")


def test_a_zoned_time_is_read_in_utc(duckdb_session: Session) -> None:
    assert duckdb_session.query("SELECT CAST(CAST('2024-01-01 00:00:00+00' AS TIMESTAMP_TZ(6)) AS VARCHAR)") == [
        ("2024-01-01 00:00:00+00",)
    ]


def test_long_numbers_in_json_keep_their_digits(duckdb_session: Session) -> None:
    """DuckDB's json() rounds such numbers to doubles; the cast used instead does not."""
    text = '{"a": 12345678901234567890.12}'
    assert duckdb_session.query("SELECT PARSE_JSON(?)", (text,)) == [(text,)]


@pytest.mark.parametrize("value", ["No space left on device", "Data corruption detected", "TransactionContext Error"])
def test_a_value_that_reads_like_an_error_of_a_file_is_none(duckdb_warehouse: DuckDBWarehouse, value: str) -> None:
    with duckdb_warehouse.session() as session, pytest.raises(WarehouseError) as caught:
        session.query("SELECT CAST(? AS INT)", (value,))
    assert (caught.value.kind, caught.value.hint) == (Kind.REFUSED, "")


def test_error_whose_message_is_not_utf8_is_an_error_of_the_warehouse(duckdb_session: Session) -> None:
    """DuckDB repeats the first byte of the letter."""
    with pytest.raises(WarehouseError, match="hex digit") as raised:
        duckdb_session.query("SELECT TO_BINARY(?, 'HEX')", ("Æ",))
    assert raised.value.kind is Kind.REFUSED
    assert duckdb_session.query("SELECT 1") == [(1,)]
