"""How DuckDB reads staged files: those of a change stream from a staging table, all others without a copy."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from aurora_sync.errors import Kind, WarehouseError
from aurora_sync.model.manifest import Disposition
from aurora_sync.warehouse import ddl, duckdb
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.ddl import TableName
from aurora_sync.warehouse.duckdb import DuckDBWarehouse
from aurora_sync_tests.warehouse.increments import Folder, column, csv

STAGING = TableName("L", "STAGING_T")
COLUMNS = (column("id"), column("v"))
ROWS = [(str(number), f"line\n{number}", "7") for number in range(10)]


@pytest.fixture
def staging(duckdb_session: Session) -> Session:
    """A session with an empty staging table."""
    duckdb_session.query('CREATE SCHEMA "L"')
    duckdb_session.query(ddl.create_staging_table(STAGING, ("ID", "V", "_SRC_XMIN")))
    return duckdb_session


def stored(session: Session) -> Any:
    """Return the number of rows that the staging table itself has."""
    return session._connection.execute(f"SELECT COUNT(*) FROM {STAGING.sql}").fetchall()[0][0]  # type: ignore[attr-defined]


def copies(path: Path) -> list[Path]:
    return [found for found in path.rglob("*.csv") if ".duckdb.staged_" in str(found)]


@pytest.mark.parametrize("disposition", [Disposition.REPLACE, Disposition.HISTORY])
def test_rows_of_all_files_are_read(staging: Session, tmp_path: Path, disposition: Disposition) -> None:
    folder = Folder(tmp_path / "objects")
    manifest = folder.increment(COLUMNS, ROWS, disposition=disposition, files=3)
    assert staging.load(STAGING.sql, manifest, folder) == len(ROWS)
    assert sorted(staging.query(f"SELECT * FROM {STAGING.sql}")) == sorted(ROWS)
    assert stored(staging) == (0 if disposition is Disposition.REPLACE else len(ROWS))


def test_file_that_is_not_compressed_is_read_beside_others(staging: Session, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "objects")
    manifest = folder.increment(COLUMNS, ROWS, disposition=Disposition.REPLACE)
    plain = dataclasses.replace(folder.put(f"{manifest.prefix}plain.csv", csv([("10", None, "7")])), rows=1)
    manifest = dataclasses.replace(manifest, files=(plain, *manifest.files))
    staging.load(STAGING.sql, manifest, folder)
    assert sorted(staging.query(f"SELECT * FROM {STAGING.sql}")) == sorted([*ROWS, ("10", None, "7")])


def test_malformed_row_is_refused_when_the_rows_are_counted(staging: Session, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "objects")
    manifest = folder.increment(COLUMNS, ROWS, disposition=Disposition.REPLACE)
    (broken,) = manifest.files
    folder.put(f"{manifest.prefix}{broken.name}", csv([*ROWS, ("10", "7")]))
    staging.load(STAGING.sql, manifest, folder)
    with pytest.raises(WarehouseError, match="CSV Error") as caught:
        staging.query(f"SELECT COUNT(*) FROM {STAGING.sql}")
    assert caught.value.kind is Kind.TRANSIENT


def test_rows_of_later_loads_and_statements_are_read_too(staging: Session, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "objects")
    for some in (ROWS[:4], ROWS[4:]):
        staging.load(STAGING.sql, folder.increment(COLUMNS, some), folder)
    staging.modify(f'INSERT INTO {STAGING.sql} SELECT \'10\', "V", "_SRC_XMIN" FROM {STAGING.sql} WHERE "ID" = \'3\'')
    assert sorted(staging.query(f"SELECT * FROM {STAGING.sql}")) == sorted([*ROWS, ("10", "line\n3", "7")])
    staging.query(ddl.create_staging_table(STAGING, ("ID", "V", "_SRC_XMIN")))
    assert staging.query(f"SELECT * FROM {STAGING.sql}") == []
    staging.load(STAGING.sql, folder.increment(COLUMNS, ROWS), folder)
    assert sorted(staging.query(f"SELECT * FROM {STAGING.sql}")) == sorted(ROWS)
    staging.query(ddl.drop_table(STAGING))


@pytest.mark.parametrize("disposition", [Disposition.REPLACE, Disposition.HISTORY])
def test_copies_lie_beside_the_database_until_the_session_ends(tmp_path: Path, disposition: Disposition) -> None:
    """The name of the folder looks like a pattern, and like the value of a column. A killed process left a folder."""
    place, folder = tmp_path / "a[1]*" / "env=prod", Folder(tmp_path / "objects")
    place.mkdir(parents=True)
    (place / "w.duckdb.staged_killed").mkdir()
    (place / "other.duckdb.staged_").mkdir()
    with DuckDBWarehouse(place / "w.duckdb").session() as session:
        session.query('CREATE SCHEMA "L"')
        session.query(ddl.create_staging_table(STAGING, ("ID", "V", "_SRC_XMIN")))
        session.load(STAGING.sql, folder.increment(COLUMNS, ROWS, disposition=disposition, files=2), folder)
        assert sorted(session.query(f"SELECT * FROM {STAGING.sql}")) == sorted(ROWS)
        assert len(copies(place)) == (2 if disposition is Disposition.REPLACE else 0)
    assert [found.name for found in place.iterdir() if found.is_dir()] == ["other.duckdb.staged_"]


class FullDisk(Folder):
    def download(self, key: str, path: Path) -> None:
        super().download(key, path)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_disk_without_room_for_the_files_is_named(
    staging: Session, duckdb_warehouse: DuckDBWarehouse, tmp_path: Path
) -> None:
    folder = FullDisk(tmp_path / "objects")
    with pytest.raises(WarehouseError, match=r"No space left on device \(free space on the disk") as caught:
        staging.load(STAGING.sql, folder.increment(COLUMNS, ROWS), folder)
    assert caught.value.kind is Kind.TRANSIENT
    assert copies(duckdb_warehouse.path.parent) == []


def limit(session: Session) -> str:
    ((found,),) = session.query("SELECT CURRENT_SETTING('memory_limit')")
    return str(found)


def test_memory_is_limited(duckdb_session: Session) -> None:
    assert limit(duckdb_session) == "190.7 MiB"


@pytest.mark.parametrize(("given", "now"), [("", "953.6 MiB"), ("300MB", "286.1 MiB")])
def test_update_of_many_rows_gets_more_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, now: str
) -> None:
    monkeypatch.setattr(duckdb, "_MANY_ROWS", 2)
    with DuckDBWarehouse(tmp_path / "own.duckdb", memory_limit=given).session() as session:
        before = limit(session)
        session.query('CREATE SCHEMA "A"')
        session.query('CREATE TABLE "A"."T" ("V" NUMBER(5,0))')
        session.modify('INSERT INTO "A"."T" VALUES (1), (2)')
        session.modify('UPDATE "A"."T" SET "V" = 3')
        assert limit(session) == before
        session.modify('INSERT INTO "A"."T" VALUES (3)')
        session.modify('UPDATE "A"."T" SET "V" = 3')
        assert limit(session) == now


def test_long_rows_get_more_memory(staging: Session, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "objects")
    manifest = folder.increment(COLUMNS, ROWS)
    for longest, expected in ((1_000_000, "190.7 MiB"), (100_000_000, "953.6 MiB")):
        files = tuple(dataclasses.replace(file, row_bytes=longest) for file in manifest.files)
        staging.load(STAGING.sql, dataclasses.replace(manifest, files=files), folder)
        assert limit(staging) == expected
