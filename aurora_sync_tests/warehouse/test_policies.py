"""What somebody set on a target, and what a run says of it: masking and row access policies, streams, collations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from snowflake.connector.errors import ProgrammingError

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import WarehouseError
from aurora_sync.model.manifest import Disposition, Part
from aurora_sync.model.receipt import Applied
from aurora_sync.warehouse import policies, resume
from aurora_sync.warehouse.base import Session
from aurora_sync_tests.warehouse.increments import Folder, apply, column
from aurora_sync_tests.warehouse.snowflake_semantics import Server, SnowflakeLike

COLUMNS = (column("id", "int8"), column("name"), column("mail"))


@pytest.fixture
def server(tmp_path: Path, folder: Folder) -> Server:
    return Server(tmp_path / "warehouse.duckdb", folder)


@pytest.fixture
def session(server: Server) -> Iterator[Session]:
    with SnowflakeLike.on(server).session() as session:
        yield session


def config(policies: Literal["refuse", "exempt"] = "refuse") -> TableConfig:
    return TableConfig(table_name="orders", watermark_type="xmin", policies=policies)


def sync(session: Session, folder: Folder, table: TableConfig, columns: Any = COLUMNS, **options: Any) -> Applied:
    state = resume.read_state(session, table)
    changes = options.get("disposition") is Disposition.CHANGES
    row = ("1", "a", "a@b.c", "5", "U", "110" if changes else None, "0", "1") if changes else ("1", "a", "a@b.c", "5")
    manifest = folder.increment(columns, [row], expected=state.run_sequence, expected_load_id=state.load_id, **options)
    return apply(session, table, manifest, folder)


PARTIAL = {"disposition": Disposition.CHANGES, "parts": (Part(partial=1),)}


def test_masked_column_that_no_statement_reads_back_is_loaded(session: Session, server: Server, folder: Folder) -> None:
    sync(session, folder, config())
    server.masks["MAIL"] = "PII"
    assert sync(session, folder, config()).run_sequence == 2


@pytest.mark.parametrize("name", ["ID", "_RUN_SEQ", "_SRC_XMIN"])
def test_masked_merge_key_or_column_of_ours_is_refused(
    session: Session, server: Server, folder: Folder, name: str
) -> None:
    sync(session, folder, config())
    server.masks[name] = "PII"
    with pytest.raises(WarehouseError, match=rf"{name} \(PII\)") as raised:
        sync(session, folder, config())
    unset = f'ALTER TABLE "PUBLIC"."ORDERS" MODIFY COLUMN "{name}" UNSET MASKING POLICY'
    assert unset in raised.value.hint
    assert "policies: exempt" in raised.value.hint
    assert sync(session, folder, config("exempt")).run_sequence == 2


def test_masked_column_is_not_copied_from_row_to_row(session: Session, server: Server, folder: Folder) -> None:
    sync(session, folder, config())
    server.masks["MAIL"] = "PII"
    with pytest.raises(WarehouseError, match=r"MAIL \(PII\)"):
        sync(session, folder, config(), **PARTIAL)
    assert sync(session, folder, config("exempt"), **PARTIAL).run_sequence == 2


@pytest.mark.parametrize("by_tag", [False, True], ids=["on the column", "by a tag"])
@pytest.mark.parametrize("allowed", ["refuse", "exempt"])
def test_masked_column_keeps_its_type(
    session: Session, server: Server, folder: Folder, allowed: Literal["refuse", "exempt"], *, by_tag: bool
) -> None:
    numbers = (*COLUMNS[:2], column("mail", "int8"))
    rows = [("1", "a", "7", "5")]
    apply(session, config(allowed), folder.increment(numbers, rows), folder)
    if by_tag:
        server.policies = [("PII", "MASKING_POLICY", "MAIL")]
    else:
        server.masks["MAIL"] = "PII"
    with pytest.raises(WarehouseError, match="has the masking policy PII") as raised:
        sync(session, folder, config(allowed))
    assert 'MODIFY COLUMN "MAIL" UNSET MASKING POLICY`, sync, and set the policy again' in raised.value.hint
    assert session.query('SELECT "MAIL" FROM "PUBLIC"."ORDERS"') == [(7,)]


def test_column_is_not_converted_where_rows_are_hidden(session: Session, server: Server, folder: Folder) -> None:
    numbers = (*COLUMNS[:2], column("mail", "int8"))
    apply(session, config(), folder.increment(numbers, [("1", "a", "7", "5")]), folder)
    server.policies = [("EUROPE", "ROW_ACCESS_POLICY", None)]
    with pytest.raises(WarehouseError, match="row access policy EUROPE"):
        sync(session, folder, config())
    assert sync(session, folder, config("exempt")).run_sequence == 2
    assert session.query('SELECT "MAIL" FROM "PUBLIC"."ORDERS"') == [("a@b.c",)]


def test_mask_by_tag_and_row_access_policy_are_found(session: Session, server: Server, folder: Folder) -> None:
    sync(session, folder, config())
    server.policies = [("PII", "MASKING_POLICY", "MAIL")]
    (found,) = policies.look(session, config())
    assert "column MAIL of PUBLIC.ORDERS has the masking policy PII" in found.text
    server.policies = [("PII", "MASKING_POLICY", "ID")]
    with pytest.raises(WarehouseError, match=r"ID \(PII\)"):
        policies.look(session, config())
    server.policies = [("EUROPE", "ROW_ACCESS_POLICY", None)]
    with pytest.raises(WarehouseError, match="row access policy EUROPE") as raised:
        policies.look(session, config())
    assert 'ALTER TABLE "PUBLIC"."ORDERS" DROP ROW ACCESS POLICY EUROPE' in raised.value.hint
    assert policies.look(session, config("exempt")) == ()


def test_stream_is_a_finding(session: Session, server: Server, folder: Folder) -> None:
    sync(session, folder, config())
    server.streams = [("ORDERS_CHANGES", "DB.PUBLIC.ORDERS"), ("OTHER", "DB.PUBLIC.OTHERS")]
    (found,) = policies.look(session, config())
    assert found.text.startswith("the stream ORDERS_CHANGES reads PUBLIC.ORDERS: do not replace or drop the table")


def test_what_the_role_may_not_see_is_a_finding(session: Session, server: Server, folder: Folder) -> None:
    sync(session, folder, config())
    server.policies = server.streams = ProgrammingError(msg="Insufficient privileges", errno=3001, sqlstate="42501")
    found = [finding.text for finding in policies.look(session, config())]
    assert len(found) == 2
    assert all("the role may not run" in text and "Insufficient privileges" in text for text in found)


def test_first_load_into_an_existing_table_looks_at_all_of_it(session: Session, server: Server, folder: Folder) -> None:
    sync(session, folder, config())
    session.modify('DELETE FROM "PUBLIC"."ORDERS"')
    session.modify('DELETE FROM "_AURORA_SYNC"."SYNC_LOG"')
    (fence,) = [name for name in session.tables("_AURORA_SYNC", "FENCE") if name.startswith("FENCE")]
    session.query(f'DROP TABLE "_AURORA_SYNC"."{fence}"')
    server.policies = [("EUROPE", "ROW_ACCESS_POLICY", None)]
    with pytest.raises(WarehouseError, match="row access policy EUROPE"):
        sync(session, folder, config())
    server.policies, server.streams = [], [("S", "DB.PUBLIC.ORDERS")]
    assert [finding.event for finding in sync(session, folder, config()).changes] == ["stream"]


@pytest.mark.parametrize("name", ["NAME", "ID"])
def test_collated_column_is_refused_with_the_statements_that_mend_it(
    session: Session, server: Server, folder: Folder, name: str
) -> None:
    sync(session, folder, config(), columns=(column("id"), *COLUMNS[1:]))
    server.collations[name] = "utf8"
    sync(session, folder, config(), columns=(column("id"), *COLUMNS[1:]))
    server.collations[name] = "en-ci"
    with pytest.raises(WarehouseError, match=rf"have a collation.*: {name} \(en-ci\); expected none") as raised:
        sync(session, folder, config(), columns=(column("id"), *COLUMNS[1:]))
    statements = raised.value.hint.partition("`")[2].partition("`")[0]
    for statement in filter(None, statements.split(";")):
        session.query(statement.strip().replace(f"COLLATE(\"{name}\", '')", f'"{name}"'))  # DuckDB lacks COLLATE()
    server.collations.clear()
    assert session.query(f'SELECT "{name}" FROM "PUBLIC"."ORDERS"') == [("a" if name == "NAME" else "1",)]


def test_collation_of_a_column_that_is_not_synced_is_accepted(session: Session, server: Server, folder: Folder) -> None:
    sync(session, folder, config())
    session.query('ALTER TABLE "PUBLIC"."ORDERS" ADD COLUMN "NOTE" VARCHAR')
    server.collations["NOTE"] = "en-ci"
    assert sync(session, folder, config()).run_sequence == 2
