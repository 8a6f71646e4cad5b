"""Features of the Snowflake warehouse only: COPY INTO, the end of a session, the meaning of errors."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from unittest import mock

import pytest
from snowflake.connector import errors

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import ConfigError, Kind, WarehouseError
from aurora_sync.model.manifest import Disposition, TakenFile
from aurora_sync.objects.store import Store
from aurora_sync.warehouse import resume, snowflake
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.snowflake import SnowflakeWarehouse
from aurora_sync.warehouse.snowflake_errors import warehouse_error
from aurora_sync_tests.warehouse.forms import problems
from aurora_sync_tests.warehouse.increments import Folder, apply, column

COLUMNS = (column("id", "int8"), column("name"))


def test_importing_it_imports_neither_snowflake_nor_dagster() -> None:
    heavy = {"snowflake.connector", "dagster_snowflake", "dagster", "pyarrow", "pandas"}
    program = f"import sys, aurora_sync.warehouse.snowflake; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_connection_is_closed_also_when_something_fails(snowflake_warehouse: SnowflakeWarehouse) -> None:
    def fail() -> None:
        with snowflake_warehouse.session():
            raise RuntimeError("stop")

    with mock.patch("snowflake.connector.SnowflakeConnection.close") as close:
        with pytest.raises(RuntimeError, match="stop"):
            fail()
        close.assert_called()


def test_more_files_than_one_copy_may_name_are_loaded_by_several(
    snowflake_warehouse: SnowflakeWarehouse, folder: Folder, orders: TableConfig
) -> None:
    rows = [(str(i), "a", "5") for i in range(5)]
    manifest = folder.increment(COLUMNS, rows, disposition=Disposition.REPLACE, files=5)
    with mock.patch.object(snowflake, "FILES_PER_COPY", 2), snowflake_warehouse.session() as session:
        assert apply(session, orders, manifest, folder).inserted == 5


def test_parquet_and_csv_files_of_others_are_copied_by_statements_of_their_own(
    snowflake_warehouse: SnowflakeWarehouse,
) -> None:
    store = Store("bucket", "dms/")
    settings = dataclasses.replace(snowflake_warehouse.settings, dms_stage="landing.dms")
    warehouse = dataclasses.replace(snowflake_warehouse, settings=settings)
    keys = ["public/t/LOAD00000001.csv.gz", "public/t/20260101-0000000000.parquet"]
    files = [TakenFile(f"{store.prefix}{key}", "etag", 1) for key in keys]
    sent: list[str] = []

    def copied(_session: Session, statement: str) -> list[dict[str, object]]:
        sent.append(statement)
        return [{"status": "LOADED", "rows_loaded": 2}]

    with warehouse.session() as session, mock.patch.object(snowflake.SnowflakeSession, "_labelled", copied):
        assert session.copy_files('"L"."STAGING_T_RAW"', ["id"], store, files, "NULL") == 4
    csv, parquet = sent
    assert keys[0] in csv
    assert "MATCH_BY_COLUMN_NAME" in csv
    assert keys[1] in parquet
    assert """("id") FROM (SELECT $1:"id"::VARCHAR FROM '@"LANDING"."DMS"/')""" in parquet
    assert [problem for statement in sent for problem in problems(statement)] == []


def test_objects_outside_the_stage_are_refused(
    snowflake_warehouse: SnowflakeWarehouse, folder: Folder, orders: TableConfig
) -> None:
    warehouse = dataclasses.replace(snowflake_warehouse, stage_prefix="other/")
    manifest = folder.increment(COLUMNS, [("1", "a", "5")], disposition=Disposition.REPLACE)
    with warehouse.session() as session, pytest.raises(ConfigError, match="must be the same S3 prefix"):
        apply(session, orders, manifest, folder)


def test_a_missing_stage_is_refused_with_a_hint(
    snowflake_warehouse: SnowflakeWarehouse, folder: Folder, orders: TableConfig
) -> None:
    warehouse = dataclasses.replace(
        snowflake_warehouse, settings=dataclasses.replace(snowflake_warehouse.settings, stage="landing.nowhere")
    )
    manifest = folder.increment(COLUMNS, [("1", "a", "5")], disposition=Disposition.REPLACE)
    with warehouse.session() as session:
        with pytest.raises(WarehouseError, match=r"NOWHERE.*check the grants and the names") as caught:
            apply(session, orders, manifest, folder)
        assert caught.value.kind is Kind.REFUSED
        assert resume.read_state(session, orders).run_sequence == 0


def test_a_server_that_is_not_there_is_worth_another_try(snowflake_warehouse: SnowflakeWarehouse) -> None:
    failure = errors.OperationalError("250001 could not connect", errno=250001)
    with (
        mock.patch("snowflake.connector.connect", side_effect=failure),
        pytest.raises(WarehouseError) as caught,
        snowflake_warehouse.session(),
    ):
        pass
    assert caught.value.kind is Kind.TRANSIENT


@pytest.mark.parametrize(
    ("error", "kind", "hint"),
    [
        (errors.DatabaseError("Incorrect username or password", errno=250001, sqlstate="08001"), "refused", "user"),
        (errors.ProgrammingError("Object does not exist", errno=2003, sqlstate="02000"), "refused", "grants"),
        (errors.ProgrammingError("No active warehouse", errno=606, sqlstate="57P03"), "refused", "WAREHOUSE"),
        (errors.ProgrammingError("Insufficient privileges", errno=3001, sqlstate="42501"), "refused", "ROLE"),
        (errors.HttpError(msg="404 Not Found", errno=290404, sqlstate="08001"), "refused", "ACCOUNT"),
        (errors.ProgrammingError("syntax error", errno=1003, sqlstate="42000"), "refused", ""),
        (errors.ProgrammingError("reached its timeout", errno=630, sqlstate="57014"), "refused", "larger warehouse"),
        (errors.ProgrammingError("internal error", errno=603, sqlstate="XX000"), "transient", ""),
        (errors.ProgrammingError("token has expired", errno=390114, sqlstate="08001"), "transient", ""),
        (errors.Error("Invalid connection_name 'x'"), "refused", ""),
        (errors.ProgrammingError("has locked table", errno=625, sqlstate="57014"), "transient", ""),
        (errors.ProgrammingError("Object already exists", errno=2002, sqlstate="42710"), "transient", ""),
        (errors.OperationalError("connection reset", errno=250003), "transient", ""),
        (errors.ServiceUnavailableError(), "transient", ""),
        (errors.TooManyRequests(), "transient", ""),
        (errors.InternalServerError(), "transient", ""),
    ],
)
def test_errors_say_whether_to_try_again_and_what_to_mend(error: errors.Error, kind: str, hint: str) -> None:
    mended = warehouse_error(error, "snowflake:a/d")
    assert (mended.kind.value, hint in mended.hint, bool(hint) == bool(mended.hint)) == (kind, True, True)
