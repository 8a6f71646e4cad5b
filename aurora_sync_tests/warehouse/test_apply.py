"""Applying a manifest, the same suite for every warehouse: DuckDB, Snowflake's real connector and PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from aurora_sync.config.tables import DeleteGuard, TableConfig
from aurora_sync.errors import (
    ConfigError,
    DefectError,
    GuardError,
    Kind,
    RivalRunError,
    TargetChangedError,
    WarehouseError,
)
from aurora_sync.model.manifest import Disposition, Manifest
from aurora_sync.model.receipt import Applied
from aurora_sync.warehouse import resume, sync_log
from aurora_sync.warehouse.apply import apply_all
from aurora_sync.warehouse.base import Session, Warehouse
from aurora_sync.warehouse.ddl import target_name
from aurora_sync.warehouse.prepare import StagedIncrement
from aurora_sync.warehouse.recent_runs import recent_runs
from aurora_sync_tests.warehouse.increments import Folder, apply, column, csv

REPLACE, UPSERT, APPEND = Disposition.REPLACE, Disposition.UPSERT, Disposition.APPEND
COLUMNS = (column("id", "int8"), column("name"))


def counts(applied: Applied) -> tuple[int, int, int, int]:
    return applied.inserted, applied.updated, applied.deleted, applied.target_rows


class Table:
    """A table under test, to which rows are applied one increment after the other."""

    def __init__(
        self, session: Session, folder: Folder, config: TableConfig, columns: Any = COLUMNS, key: Any = ("id",)
    ) -> None:
        self.session, self.folder, self.config, self.columns, self.key = session, folder, config, columns, key
        self.sequence, self.load_id = 0, ""

    def manifest(self, rows: Any, disposition: Disposition, **more: Any) -> Manifest:
        state = {"expected": self.sequence, "expected_load_id": self.load_id}
        more = {"key": self.key, "table": self.config.qualified_name} | state | more
        return self.folder.increment(self.columns, rows, disposition=disposition, **more)

    def apply(self, manifest: Manifest, **options: Any) -> Applied:
        applied = apply(self.session, self.config, manifest, self.folder, **options)
        self.sequence, self.load_id = applied.run_sequence, manifest.load_id
        return applied

    def replace(self, *rows: Any, **options: Any) -> tuple[int, int, int, int]:
        return counts(self.apply(self.manifest(rows, REPLACE), **options))

    def upsert(self, *rows: Any) -> tuple[int, int, int, int]:
        return counts(self.apply(self.manifest(rows, UPSERT)))

    def append(self, *rows: Any) -> tuple[int, int, int, int]:
        return counts(self.apply(self.manifest(rows, APPEND)))

    def rows(self, what: str = '"ID", "NAME"') -> list[Any]:
        return sorted(self.session.query(f'SELECT {what} FROM "PUBLIC"."ORDERS"'), key=repr)


@pytest.fixture
def table(session: Session, folder: Folder, orders: TableConfig) -> Table:
    return Table(session, folder, orders)


@pytest.fixture
def keyless(session: Session, folder: Folder, orders: TableConfig) -> Table:
    return Table(session, folder, orders, key=())


class TestDispositions:
    def test_upsert_inserts_new_rows_and_updates_only_changed_ones(self, table: Table) -> None:
        assert table.upsert(("1", "a", "5"), ("2", None, "5")) == (2, 0, 0, 2)
        assert table.upsert(("1", "a", "5"), ("2", "", "5"), ("3", "c", "6")) == (1, 1, 0, 3)
        assert table.rows('"ID", "NAME", "_RUN_SEQ"') == [(1, "a", 1), (2, "", 2), (3, "c", 2)]

    def test_files_may_be_compressed_or_not(self, table: Table) -> None:
        manifest = table.manifest([("1", "a", "5"), ("2", "b", "5")], REPLACE, files=2)
        plain = table.folder.put(f"{manifest.prefix}part-00002.csv", csv([("3", "c", "5")]))
        manifest = replace(manifest, files=(*manifest.files, replace(plain, rows=1)))
        assert [file.compression for file in manifest.files] == ["zstd", "zstd", ""]
        assert counts(table.apply(manifest)) == (3, 0, 0, 3)
        assert table.rows() == [(1, "a"), (2, "b"), (3, "c")]

    def test_a_row_with_a_new_xmin_and_the_old_values_is_written_again(self, table: Table) -> None:
        table.upsert(("1", "a", "5"))
        assert table.upsert(("1", "a", "4294967295")) == (0, 1, 0, 1)
        assert table.rows('"_SRC_XMIN"') == [(4294967295,)]

    def test_replace_removes_what_was_not_exported(self, table: Table) -> None:
        table.replace(("1", "a", "5"), ("2", "b", "5"))
        assert table.replace(("2", "b", "5"), ("3", "c", "6")) == (1, 0, 1, 2)
        assert table.rows() == [(2, "b"), (3, "c")]

    def test_append_inserts(self, table: Table) -> None:
        table.replace(("1", "a", "5"))
        assert table.append(("2", "b", "6"), ("3", "c", "6")) == (2, 0, 0, 3)

    def test_an_empty_increment_only_moves_the_watermark(self, table: Table) -> None:
        table.replace(("1", "a", "5"))
        assert table.upsert() == (0, 0, 0, 1)
        assert resume.read_state(table.session, table.config).run_sequence == 2

    def test_an_increment_of_a_verification_is_applied_to_an_empty_target(self, table: Table) -> None:
        table.replace()
        manifest = table.manifest([("1", "a", "5")], UPSERT)
        increment = StagedIncrement(table.config, manifest, "xmin", as_found=True)
        (applied,) = apply_all(table.session, [increment], table.folder)
        assert counts(applied) == (1, 0, 0, 1)
        state = resume.read_state(table.session, table.config)
        assert (state.target_rows, state.edited) == (1, "")

    def test_an_empty_table_is_replaced_by_an_empty_table(self, table: Table) -> None:
        assert table.replace() == (0, 0, 0, 0)

    def test_a_key_of_several_columns_decides_which_row_is_which(
        self, session: Session, folder: Folder, orders: TableConfig
    ) -> None:
        columns = (column("id", "int8"), column("name"), column("at", "timestamptz"))
        table = Table(session, folder, orders, columns, key=("id", "at"))
        noon, one = "2024-01-01 12:00:00+00", "2024-01-01 13:00:00.5+00"
        table.replace(("1", "a", noon, "5"), ("1", "b", one, "5"))
        assert table.replace(("1", "c", noon, "5"), ("2", "b", one, "5")) == (1, 1, 1, 2)

    def test_an_upsert_without_a_key_is_a_defect(self, keyless: Table) -> None:
        with pytest.raises(DefectError, match="merge key"):
            keyless.upsert(("1", "a", "5"))


class TestSoftDeletes:
    @pytest.fixture
    def orders(self) -> TableConfig:
        return TableConfig(table_name="orders", watermark_type="xmin", deletes="soft")

    def test_a_deleted_row_is_marked_once_and_comes_back(self, table: Table) -> None:
        table.replace(("1", "a", "5"), ("2", "b", "5"))
        assert table.replace(("2", "b", "5")) == (0, 0, 1, 1)
        assert table.replace(("2", "b", "5")) == (0, 0, 0, 1)
        assert table.rows('"ID", "_DELETED", "_RUN_SEQ"') == [(1, True, 2), (2, False, 1)]
        assert table.upsert(("1", "a", "5")) == (0, 1, 0, 2)
        assert table.rows('"ID", "_DELETED"') == [(1, False), (2, False)]

    def test_without_a_key_too(self, keyless: Table) -> None:
        keyless.replace(("1", "a", "5"), ("1", "a", "5"), ("2", "b", "5"))
        assert keyless.replace(("1", "a", "5"), ("2", "b", "5")) == (0, 0, 1, 2)
        assert keyless.replace(("1", "a", "5"), ("1", "a", "5")) == (0, 1, 1, 2)

    def test_turned_on_later_it_keeps_what_is_deleted_from_then_on(self, table: Table) -> None:
        table.config = table.config.model_copy(update={"deletes": "hard"})
        table.replace(("1", "a", "5"), ("2", "b", "5"), ("3", "c", "5"))
        table.replace(("2", "b", "5"), ("3", "c", "5"))
        table.config = table.config.model_copy(update={"deletes": "soft"})
        assert table.replace(("3", "c", "5")) == (0, 1, 1, 1)  # the mark of the third row becomes FALSE
        table.config = table.config.model_copy(update={"deletes": "hard"})
        assert table.replace(("4", "d", "5"), ("3", "c", "5")) == (1, 0, 1, 2)
        assert table.rows('"ID", "_DELETED"') == [(3, False), (4, False)]

    def test_turned_off_the_rows_marked_before_are_no_loss_to_guard_against(self, table: Table) -> None:
        table.replace(("1", "a", "5"), ("2", "b", "5"), ("3", "c", "5"))
        table.replace(("3", "c", "5"), allow_deletes=True)
        table.config = table.config.model_copy(
            update={"deletes": "hard", "delete_guard": DeleteGuard(max_rows=0, max_share=0)}
        )
        assert table.replace(("3", "c", "5"))[3] == 1
        assert table.rows('"ID"') == [(3,)]


class TestWithoutAKey:
    def test_replace_makes_the_multisets_equal_and_leaves_equal_rows_alone(self, keyless: Table) -> None:
        assert keyless.replace(("1", "a", "5"), ("1", "a", "5"), ("1", None, "5"), ("1", "", "5")) == (4, 0, 0, 4)
        assert keyless.replace(("1", "a", "5"), ("1", "", "5"), ("1", "", "5")) == (1, 0, 2, 3)
        assert keyless.rows('"NAME", "_ROW_NO", "_RUN_SEQ"') == [("", 1, 1), ("", 2, 2), ("a", 1, 1)]

    def test_rows_that_differ_only_in_where_a_field_ends_are_different(
        self, session: Session, folder: Folder, orders: TableConfig
    ) -> None:
        table = Table(session, folder, orders, (column("name"), column("other")), key=())
        assert table.replace(("a", "b1:c", "5"), ("a1:b", "c", "5"), (None, "N", "5"), ("N", None, "5"))[0] == 4
        assert len(set(table.rows('"_ROW_MD5"'))) == 4

    def test_rows_appended_twice_are_there_twice_and_a_later_replace_counts_them(self, keyless: Table) -> None:
        keyless.replace(("1", "a", "5"))
        assert keyless.append(("1", "a", "6"), ("1", "a", "6")) == (2, 0, 0, 3)
        assert keyless.append(("1", "a", "7")) == (1, 0, 0, 4)
        assert keyless.replace(*[("1", "a", "5")] * 3)[2:] == (1, 3)
        assert keyless.rows('"_ROW_NO"') == [(1,), (2,), (3,)]


class TestRefusals:
    """Nothing is lost, rounded or removed silently: after a refusal the target is unchanged."""

    def refused(
        self,
        table: Table,
        manifest: Manifest,
        error: type[Exception],
        text: str,
        values: str = "",
        **options: Any,
    ) -> None:
        before = table.rows("*"), resume.read_state(table.session, table.config)
        with pytest.raises(error, match=text) as raised:
            table.apply(manifest, **options)
        assert values in getattr(raised.value, "values", "")
        assert (table.rows("*"), resume.read_state(table.session, table.config)) == before
        if not table.session.dialect.temporary_tables:
            assert not [name for name in tables(table.session) if name.startswith("STAGING")]

    def test_an_empty_export_never_empties_the_target(self, table: Table) -> None:
        table.replace(("1", "a", "5"))
        self.refused(table, table.manifest([], REPLACE), GuardError, "would empty PUBLIC.ORDERS, .*--allow-deletes")
        assert table.replace(allow_deletes=True) == (0, 0, 1, 0)

    @pytest.mark.parametrize("key", [("id",), ()])
    def test_more_deletes_than_the_guard_allows(self, table: Table, key: Any) -> None:
        table.key = key
        table.config = table.config.model_copy(update={"delete_guard": DeleteGuard(max_rows=1, max_share=0.5)})
        table.replace(*((str(i), "a", "5") for i in range(5)))
        manifest = table.manifest([("0", "a", "5"), ("1", "a", "5")], REPLACE)
        text = "this run would remove 3 of the 5 rows of PUBLIC.ORDERS, but delete_guard allows 2 .*`aurora-sync sync"
        self.refused(
            table, manifest, GuardError, text + r" --allow-deletes public.orders`.*delete_guard \(max_rows, max_share\)"
        )
        assert table.replace(*((str(i), "a", "5") for i in range(3)))[2] == 2

    def test_a_changed_row_without_a_key_is_no_loss(self, keyless: Table) -> None:
        keyless.config = keyless.config.model_copy(update={"delete_guard": DeleteGuard(max_rows=0, max_share=0)})
        keyless.replace(("1", "a", "5"), ("2", "b", "5"))
        assert keyless.replace(("1", "A", "6"), ("2", "B", "6")) == (2, 0, 2, 2)

    def test_a_key_that_is_not_unique(self, table: Table) -> None:
        table.replace(("1", "a", "5"))
        manifest = table.manifest([("7", "a", "5"), ("7", "b", "5"), ("8", "c", "5")], UPSERT)
        self.refused(table, manifest, GuardError, r"merge key \(id\) is not unique.* HAVING count", "7 (2 rows)")

    def test_a_key_that_is_null(self, table: Table) -> None:
        table.replace(("1", "a", "5"))
        self.refused(table, table.manifest([(None, "a", "5")], UPSERT), GuardError, "1 rows have no value in ID")

    def test_two_columns_of_a_key_that_are_null_are_both_named(
        self, session: Session, folder: Folder, orders: TableConfig
    ) -> None:
        table = Table(session, folder, orders, (column("id", "int8"), column("part", "int8")), key=("id", "part"))
        table.replace(("1", "1", "5"))
        manifest = table.manifest([(None, "1", "5"), ("1", None, "5")], UPSERT)
        self.refused(table, manifest, GuardError, "1 rows have no value in ID and 1 rows have no value in PART of")

    def test_an_export_shorter_than_the_sources_count(self, table: Table) -> None:
        table.replace(("1", "a", "5"))
        manifest = table.manifest([("1", "a", "5")], REPLACE, source_rows=2)
        self.refused(
            table, manifest, GuardError, "the export has 1 rows, but the source counted 2 rows in the same snapshot"
        )

    def test_an_object_that_holds_fewer_rows_than_its_manifest_says(self, table: Table) -> None:
        table.replace(("1", "a", "5"))
        manifest = table.manifest([("2", "b", "5"), ("3", "c", "5")], UPSERT)
        table.folder.put(manifest.prefix + manifest.files[0].name, b'"2","b","5"\n')
        self.refused(
            table,
            manifest,
            WarehouseError,
            "the manifest counts 2 rows, but (1 were loaded, and )?the staging table has 1",
        )

    @pytest.mark.parametrize("content", [b'"2","b"\n', b'"2","b","5","6"\n', b'"2","b\n'])
    def test_an_object_with_a_malformed_row(self, table: Table, content: bytes) -> None:
        table.replace(("1", "a", "5"))
        manifest = table.manifest([("2", "b", "5")], UPSERT)
        table.folder.put(manifest.prefix + manifest.files[0].name, content)
        self.refused(table, manifest, WarehouseError, ".")

    def test_a_missing_object(self, table: Table) -> None:
        table.replace(("1", "a", "5"))
        manifest = table.manifest([("2", "b", "5")], UPSERT)
        (table.folder.path / manifest.prefix / manifest.files[0].name).unlink()
        self.refused(table, manifest, (WarehouseError, FileNotFoundError), ".")  # type: ignore[arg-type]

    def test_a_value_that_the_natural_type_cannot_hold(
        self, session: Session, folder: Folder, orders: TableConfig
    ) -> None:
        columns = (column("id", "int8"), column("born", "date", policy="fail"))
        table = Table(session, folder, orders, columns)
        table.replace(("1", "2024-02-29", "5"))
        manifest = table.manifest([("2", "0044-03-15 BC", "5"), ("3", "infinity", "5"), ("4", None, "5")], UPSERT)
        text = r"orders: 2 values of column born: DATE cannot hold them \(.*exact\}.*SELECT ctid, \* FROM "
        self.refused(table, manifest, GuardError, text, "'0044-03-15 BC' of 2, 'infinity' of 3")

    def test_two_columns_that_cannot_hold_a_value_are_both_named(
        self, session: Session, folder: Folder, orders: TableConfig
    ) -> None:
        columns = (column("id", "int8"), *(column(name, "date", policy="fail") for name in ("born", "died")))
        table = Table(session, folder, orders, columns)
        table.replace(("1", "2024-02-29", "2024-02-29", "5"))
        manifest = table.manifest([("2", "infinity", "-infinity", "5")], UPSERT)
        text = r"of column born: .*; 1 values of column died: .*column_types: {born: exact, died: exact}"
        self.refused(table, manifest, GuardError, text, "'infinity' of 2; '-infinity' of 2")

    def test_two_columns_that_do_not_convert_are_both_named(self, table: Table) -> None:
        table.columns = (column("id", "int8"), column("name", "text"), column("other", "text"))
        table.replace(("1", "a", "b", "5"))
        table.columns = (column("id", "int8"), *(column(name, "int4", policy="fail") for name in ("name", "other")))
        self.refused(
            table, table.manifest([("1", "7", "8", "5")], UPSERT), WarehouseError, "column NAME .*column OTHER "
        )

    def test_two_arrays_that_become_text_are_both_named(
        self, session: Session, folder: Folder, orders: TableConfig
    ) -> None:
        arrays = [replace(column(name, "_int4"), type_category="A") for name in ("a", "b")]
        table = Table(session, folder, orders, (column("id", "int8"), *arrays))
        table.replace(("1", "[1]", "[2]", "5"))
        manifest = table.manifest([("2", "[0:1]={7,8}", "[0:1]={7,8}", "5")], UPSERT)
        self.refused(table, manifest, TargetChangedError, "because an ARRAY cannot hold some of their values: a, b")

    def test_a_table_that_was_not_made_by_us(self, table: Table) -> None:
        table.session.query('CREATE SCHEMA IF NOT EXISTS "PUBLIC"')
        table.session.query('CREATE TABLE "PUBLIC"."ORDERS" ("ID" NUMBER(19,0))')
        manifest = table.manifest([("1", "a", "5")], REPLACE)
        self.refused(table, manifest, WarehouseError, "was not created by aurora_sync: it has no column _RUN_SEQ")

    def test_rows_of_which_the_sync_log_knows_nothing(self, table: Table) -> None:
        table.replace(("1", "a", "5"))
        table.session.query('DROP TABLE "_AURORA_SYNC"."SYNC_LOG"')
        table.session.query(sync_log.create_log(sync_log.SCHEMA))
        manifest = table.manifest([("1", "a", "5")], REPLACE, expected=0)
        self.refused(table, manifest, WarehouseError, "the sync log in _AURORA_SYNC has no run that wrote them")

    def test_a_target_that_another_source_table_fills(self, table: Table) -> None:
        table.replace(("1", "a", "5"))
        other = TableConfig(
            table_name="orders", schema_="archive", target_schema="public", watermark_type="full_snapshot"
        )
        assert (
            resume.read_state(table.session, other).source_table == "public.orders"
        )  # strategies/schema_changes.py refuses

    def test_a_column_that_changed_its_type(self, table: Table) -> None:
        table.replace(("1", "a", "5"))
        table.columns = (column("id", "int8"), column("name", "int4", policy="fail"))
        manifest = table.manifest([("1", "7", "5")], UPSERT)
        text = r"column NAME of PUBLIC.ORDERS is VARCHAR, and some of its values cannot be converted to NUMBER\(10,0\)"
        self.refused(table, manifest, WarehouseError, text)

    @pytest.mark.parametrize("name", ["ID", "_src_xmin", "_Deleted"])
    def test_columns_that_would_get_one_name(self, table: Table, name: str) -> None:
        table.columns = (*COLUMNS, column(name))
        with pytest.raises(ConfigError, match="exclude one of the columns"):
            table.replace(("1", "a", "b", "5"))


class TestExactness:
    NASTY = (
        *("", None, 'quote"in', '"', '""', "a\r\nb", "\n", "\r", "\\", "tail\\", "\\.", "\\N", "NULL", "null", "a,b"),
        *(" lead and trail ", "\t", "ünï😀", "'", "''; DROP TABLE x; --", "${x} {0} %s ?", "\x01\x7f", "\u2028"),
        "x" * 5_000_000,
    )

    def test_every_text_arrives_as_it_was(self, table: Table) -> None:
        table.replace(*((str(i), text, "5") for i, text in enumerate(self.NASTY)))
        arrived: dict[int, str] = dict(table.session.query('SELECT "ID", "NAME" FROM "PUBLIC"."ORDERS"'))
        assert [arrived[i] for i in range(len(self.NASTY))] == list(self.NASTY)

    def test_many_files_are_all_loaded(self, table: Table) -> None:
        manifest = table.manifest([(str(i), "a", "5") for i in range(25)], REPLACE, files=25)
        assert counts(table.apply(manifest)) == (25, 0, 0, 25)

    def test_only_the_files_of_the_manifest_are_loaded(self, table: Table) -> None:
        manifest = table.manifest([("1", "a", "5")], REPLACE)
        table.folder.put(f"{manifest.prefix}part-00001.csv.zst", b'"2","b","5"\n')
        assert table.replace(("1", "a", "5")) == (1, 0, 0, 1)
        assert table.rows() == [(1, "a")]


class TestTheTarget:
    @pytest.mark.parametrize("warehouse", ["duckdb", "snowflake"], indirect=True)  # PostgreSQL's names are short
    def test_hostile_names_are_only_names(self, session: Session, folder: Folder, warehouse: Warehouse) -> None:
        name = "Or\"d'er; DROP TABLE x; -- \\ größe ${x} {0} ?"
        schema = "S'c\"h" if warehouse.kind == "duckdb" else "s c-h"  # fakesnow puts schemas into text unquoted
        target = name.translate(str.maketrans("", "", "{}"))  # braces hold the parts of a template
        config = TableConfig(table_name=name, schema_=schema, watermark_type="xmin", target_table=target)
        columns = (column('i"d; --', "int8"), column("n'ame\\"), column("select"), column("größe"), column("s"))
        for key in (('i"d; --',), ()):
            chosen = config.model_copy(update={"target_table": f"{name}{len(key)}"})
            table = Table(session, folder, chosen, columns, key=key)
            assert table.replace(("1", "a", "b", "c", "d", "5"), ("2", "a", "b", "c", "d", "5"))[0] == 2
            assert table.append(("3", "a", "b", "c", "d", "5"))[0] == 1
            assert table.replace(("1", "A", "b", "c", "d", "5"), ("2", "a", "b", "c", "d", "5"))[3] == 2
            assert resume.read_state(session, chosen).target_rows == 2
            folded = "OR\"D'ER; DROP TABLE X; -- \\ GRößE ${X} {0} ?"
            assert f"{folded}{len(key)}" in tables(session)

    @pytest.mark.parametrize("name", ["s", "t", "r"])
    @pytest.mark.parametrize("key", [("id",), ()])
    def test_a_table_may_be_called_as_our_aliases(
        self, duckdb_session: Session, folder: Folder, name: str, key: Any
    ) -> None:
        table = Table(duckdb_session, folder, TableConfig(table_name=name, watermark_type="xmin"), key=key)
        table.replace(("1", "a", "5"), ("2", "b", "5"))
        table.append(("3", "c", "5"))
        assert table.replace(("1", "a", "5"), ("3", "c", "5"))[2:] == (1, 2)

    def test_a_new_column_of_the_source_is_added(self, table: Table) -> None:
        table.replace(("1", "a", "5"))
        table.columns = (*COLUMNS, column("price", "numeric", modifier=((10 << 16) | 2) + 4))
        assert table.upsert(("2", "b", "1.50", "6")) == (1, 0, 0, 2)
        assert [float(price or 0) for (price,) in table.rows('"PRICE"')] == [1.5, 0]

    def test_it_says_where_it_comes_from(self, table: Table, warehouse: Warehouse) -> None:
        table.replace(("1", "a", "5"))
        catalogue = {
            "duckdb": "SELECT comment FROM duckdb_tables() WHERE table_name = 'ORDERS'",
            "snowflake": "SELECT COMMENT FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_NAME = 'ORDERS'",
            "postgres": """SELECT description FROM pg_description WHERE objoid = TO_REGCLASS('"PUBLIC"."ORDERS"')""",
        }
        assert table.session.query(catalogue[warehouse.kind]) == [("Synced from public.orders by aurora_sync",)]

    def test_a_target_that_was_dropped_is_loaded_again_and_the_sequence_goes_on(self, table: Table) -> None:
        table.replace(("1", "a", "5"))
        table.session.query('DROP TABLE "PUBLIC"."ORDERS"')
        state = resume.read_state(table.session, table.config)
        assert (state.run_sequence, state.watermark) == (1, None)
        assert table.replace(("1", "a", "5")) == (1, 0, 0, 1)
        assert table.sequence == 2


def tables(session: Session) -> list[str]:
    return [name for (name,) in session.query("SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES")]


class TestTheSyncLog:
    def test_nothing_was_ever_applied(self, session: Session, orders: TableConfig) -> None:
        assert resume.read_state(session, orders).run_sequence == 0
        assert sync_log.newest(session) == []

    def test_the_newest_row_is_the_state(self, table: Table) -> None:
        table.replace(("1", "a", "5"))
        manifest = table.manifest([("2", "b", "6")], UPSERT, source_rows=2)
        applied = table.apply(manifest)
        state = resume.read_state(table.session, table.config)
        assert (state.run_sequence, state.target_rows) == (2, 2)
        assert state.watermark == manifest.watermark_after
        (entry,) = sync_log.newest(table.session)
        assert (entry.load_id, entry.disposition, entry.staged_rows, entry.source_rows) == (
            manifest.load_id,
            "upsert",
            1,
            2,
        )
        assert entry.applied_at == state.applied_at
        assert applied.seconds.keys() == {"load", "merge"}

    def test_the_last_runs_have_the_rows_that_they_changed(self, table: Table) -> None:
        table.replace(("1", "a", "5"))
        for number in ("2", "3"):
            table.apply(table.manifest([(number, "b", "6"), ("1", number, "5")], UPSERT, source_rows=int(number)))
        (found,) = recent_runs(table.session, sync_log.SCHEMA, 2).values()
        assert [(run.run_sequence, run.changed) for run in found] == [(2, 2), (3, 2)]
        assert found[0].applied_at < found[1].applied_at
        assert len(recent_runs(table.session, sync_log.SCHEMA, 9)[target_name(table.config).key]) == 3

    def test_transaction_ids_up_to_64_bits_are_kept(self, table: Table) -> None:
        fields: tuple[Any, ...] = (
            *("public.x", "x", 1, "l", datetime(2026, 1, 1, tzinfo=UTC), "xmin", "upsert", "{}"),
            *(0, 0, 0, 0, 0, None, "p/", 2**63 - 2, 2**63 - 1, "{}"),
        )
        entry = sync_log.LogEntry(*fields)
        table.replace()
        sync_log.record(table.session, entry, target_name(table.config), sync_log.SCHEMA)
        assert entry in sync_log.newest(table.session)

    def test_a_watermark_of_a_newer_release_is_refused(self, table: Table) -> None:
        table.replace(("1", "a", "5"))
        table.session.modify("""UPDATE "_AURORA_SYNC"."SYNC_LOG" SET "WATERMARK" = '{"version": 3}'""")
        with pytest.raises(WarehouseError, match="watermark has version 3"):
            resume.read_state(table.session, table.config)

    def test_its_schema_can_be_chosen(self, table: Table) -> None:
        table.apply(table.manifest([("1", "a", "5")], REPLACE), log_schema="OPS")
        assert resume.read_state(table.session, table.config, "OPS").run_sequence == 1
        assert resume.read_state(table.session, table.config).run_sequence == 0

    def test_a_fence_that_was_dropped_comes_back_from_the_log(self, table: Table) -> None:
        table.replace(("1", "a", "5"))
        for name in tables(table.session):
            if name.startswith("FENCE"):
                table.session.query(f'DROP TABLE "_AURORA_SYNC"."{name}"')
        table.upsert(("2", "b", "5"))
        with pytest.raises(RivalRunError):
            table.apply(table.manifest([("3", "c", "5")], UPSERT, expected=1))


class TestRivals:
    def test_a_statement_that_fails_inside_a_transaction_takes_the_others_with_it(self, table: Table) -> None:
        table.replace(("1", "a", "5"))

        def fail() -> None:
            with table.session.transaction():
                table.session.modify('DELETE FROM "PUBLIC"."ORDERS"')
                table.session.modify('INSERT INTO "PUBLIC"."ORDERS" ("ID") VALUES (\'x\')')

        with pytest.raises(WarehouseError):
            fail()
        assert table.rows() == [(1, "a")]

    def test_of_two_runs_from_one_state_the_second_is_refused(self, table: Table) -> None:
        table.replace(("1", "a", "5"))
        older = table.manifest([("1", "old", "6")], UPSERT)
        table.upsert(("1", "new", "7"))
        with pytest.raises(RivalRunError, match="run sequence 1") as caught:
            table.apply(older)
        assert caught.value.kind is Kind.TRANSIENT
        assert table.rows() == [(1, "new")]

    def test_the_right_sequence_of_another_history_is_refused(self, table: Table) -> None:
        """A restored target reaches the same run sequence again, with another watermark."""
        table.replace(("1", "a", "5"))
        with pytest.raises(RivalRunError):
            table.apply(table.manifest([("2", "b", "6")], UPSERT, expected_load_id="of the other history"))
        assert table.rows() == [(1, "a")]

    def test_the_same_manifest_applied_again_changes_nothing(self, table: Table) -> None:
        manifest = table.manifest([("1", "a", "5")], APPEND)
        first = table.apply(manifest)
        again = table.apply(manifest)
        assert (counts(again), again.run_sequence) == (counts(first), 1)
        assert table.rows() == [(1, "a")]

    @pytest.mark.parametrize("warehouse", ["duckdb", "snowflake"], indirect=True)  # PostgreSQL waits for the rival
    def test_a_run_that_overtakes_another_inside_its_transaction_wins_or_loses_whole(
        self, warehouse: Warehouse, folder: Folder, orders: TableConfig
    ) -> None:
        """The rival has advanced the fence in an open transaction when this run reaches the same statement."""
        with warehouse.session() as one, warehouse.session() as two:
            first = Table(one, folder, orders)
            first.replace(("1", "a", "5"))
            rival = Table(two, folder, orders)
            rival.sequence, rival.load_id = 1, first.load_id
            with one.transaction():
                fence = sync_log.move_fence(sync_log.SCHEMA, target_name(orders))
                assert one.modify(fence, (2, "rival", 1, first.load_id)) == 1
                with pytest.raises(WarehouseError) as caught:
                    rival.upsert(("2", "b", "6"))
            assert caught.value.kind is Kind.TRANSIENT
            assert rival.rows() == [(1, "a")]


def test_columns_of_the_source_that_are_named_like_those_of_a_conversion_stay(
    session: Session, folder: Folder, orders: TableConfig
) -> None:
    names = ("total", "_former_2023_total", "_converted_2024_total", "_former_2022_price")
    table = Table(session, folder, orders, (column("id", "int8"), *map(column, names)))
    table.replace(("1", "a", "b", "c", "d", "5"))
    table.upsert(("2", "a", "b", "c", "d", "6"))
    found = table.rows(", ".join(f'"{name.upper()}"' for name in names))
    assert found == [("a", "b", "c", "d")] * 2
