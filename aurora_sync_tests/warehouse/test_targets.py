"""The table that a first load makes: what Snowflake is told about it besides its columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import pytest

from aurora_sync.errors import GuardError, WarehouseError
from aurora_sync.model.buckets import Buckets
from aurora_sync.model.column import Column
from aurora_sync.model.comments import digest
from aurora_sync.model.manifest import Disposition, Evolution
from aurora_sync.model.receipt import Applied
from aurora_sync.warehouse import types
from aurora_sync.warehouse.apply import apply_all
from aurora_sync.warehouse.base import ReportedColumn, Session, TableProperties
from aurora_sync.warehouse.prepare import StagedIncrement
from aurora_sync_tests.scenarios.world import config
from aurora_sync_tests.warehouse.increments import Folder, apply, column, watermark
from aurora_sync_tests.warehouse.test_golden import Recorder
from aurora_sync_tests.warehouse.through import Killed, Through

COLUMNS = (column("id", "int8", comment="The customer's number"), column("name", comment="back\\slash"), column("v"))


class Target:
    """A target, with the DDL that its last run sent."""

    def __init__(self, session: Session, folder: Folder, **keys: Any) -> None:
        self.session, self.folder, self.config = session, folder, config("orders", **keys)
        self.comments, self.sequence, self.load_id = "", 0, ""
        self.after = watermark()
        self.sent: list[str] = []

    def replace(
        self,
        columns: Iterable[Column] = COLUMNS,
        *,
        comment: str | None = None,
        digest: str = "",
        **others: Any,
    ) -> None:
        """Load one row as a full read does. ``digest`` is that of the comments after the run."""
        columns = tuple(columns)
        manifest = self.folder.increment(
            columns,
            [("1", *(["a"] * (len(columns) - 1)), "5")],
            disposition=Disposition.REPLACE,
            expected=self.sequence,
            expected_load_id=self.load_id,
            comment=comment,
            **others,
        )
        after = dataclasses.replace(manifest.watermark_after, comments=digest)
        before = dataclasses.replace(self.after, comments=self.comments) if self.sequence else None
        manifest = dataclasses.replace(manifest, watermark_before=before, watermark_after=after)
        recorder = Recorder(self.session)
        self.sequence = apply(recorder, self.config, manifest, self.folder).run_sequence
        self.load_id, self.comments, self.after = manifest.load_id, digest, after
        self.sent = [sent for sent in recorder.statements if sent.startswith(("CREATE T", "ALTER", "COMMENT"))]

    def shown(self) -> dict[str, str]:
        """Return the comments of its columns."""
        described = self.session.describe("PUBLIC", "ORDERS")
        return {name: found.comment for name, found in described.items() if not name.startswith("_")}


class TestComments:
    def test_comments_of_the_source_are_in_the_create_table(self, duckdb_session: Session, folder: Folder) -> None:
        target = Target(duckdb_session, folder)
        target.replace(comment="It's ours")
        *_, made = target.sent
        assert "\"ID\" NUMBER(19,0) NOT NULL COMMENT 'The customer''s number', \"NAME\"" in made
        assert "COMMENT 'back\\\\slash'" in made
        assert made.endswith(" COMMENT = 'It''s ours\nSynced from public.orders by aurora_sync'")
        assert target.shown() == {"ID": "The customer's number", "NAME": "back\\slash", "V": ""}

    def test_comments_follow_when_the_digest_of_the_run_changed(self, session: Session, folder: Folder) -> None:
        target = Target(session, folder)
        target.replace(digest=digest(None, COLUMNS))
        assert not [sent for sent in target.sent if sent.startswith("COMMENT")]
        changed = (COLUMNS[0], column("name"), column("v", comment="new"))
        target.replace(changed, digest=digest(None, changed))
        assert """COMMENT ON COLUMN "PUBLIC"."ORDERS"."V" IS 'new'""" in target.sent

    def test_comment_that_the_source_removed_is_removed(self, duckdb_session: Session, folder: Folder) -> None:
        target = Target(duckdb_session, folder)
        target.replace(digest=digest(None, COLUMNS))
        changed = (COLUMNS[0], column("name"), column("v", comment="new"))
        target.replace(changed, digest=digest(None, changed))
        assert target.shown() == {"ID": "The customer's number", "NAME": "", "V": "new"}
        target.replace(changed, digest=digest(None, changed))
        assert target.sent == []

    def test_comments_of_a_target_of_an_earlier_release_stay(self, duckdb_session: Session, folder: Folder) -> None:
        target = Target(duckdb_session, folder)
        target.replace()
        target.replace([column("id", "int8"), column("name"), column("v")])
        assert target.sent == []

    def test_added_column_brings_its_comment(self, duckdb_session: Session, folder: Folder) -> None:
        target = Target(duckdb_session, folder)
        target.replace(COLUMNS[:2])
        target.replace([*COLUMNS[:2], column("v", comment="new")])
        assert target.shown()["V"] == "new"


class TestOptions:
    def test_target_has_a_primary_key_that_is_not_relied_on(self, duckdb_session: Session, folder: Folder) -> None:
        target = Target(duckdb_session, folder)
        target.replace([column("id", "int8"), column("tenant")], key=("id", "tenant"))
        assert ', PRIMARY KEY ("ID", "TENANT") NORELY) DEFAULT_DDL_COLLATION' in target.sent[-1]
        keys = "SELECT COUNT(*) FROM duckdb_constraints() WHERE constraint_type = 'PRIMARY KEY'"
        assert duckdb_session.query(keys) == [(0,)]

    def test_target_without_a_key_has_no_primary_key(self, duckdb_session: Session, folder: Folder) -> None:
        target = Target(duckdb_session, folder, rely=True)
        target.replace(key=())
        assert "PRIMARY KEY" not in target.sent[-1]

    def test_options_of_tables_yaml_are_in_the_create_table(self, session: Session, folder: Folder) -> None:
        target = Target(
            session,
            folder,
            rely=True,
            transient=True,
            retention_days=1,
            cluster_by=["name", "id"],
            object_tags={"governance.cost_center": "it's 7"},
        )
        target.replace()
        made = target.sent[-1]
        assert made.startswith('CREATE TRANSIENT TABLE IF NOT EXISTS "PUBLIC"."ORDERS" ("ID" NUMBER(19,0) NOT NULL')
        assert made.endswith(
            ', PRIMARY KEY ("ID") RELY) CLUSTER BY ("NAME", "ID") DATA_RETENTION_TIME_IN_DAYS = 1'
            " DEFAULT_DDL_COLLATION = '' COMMENT = 'Synced from public.orders by aurora_sync'"
            """ WITH TAG ("GOVERNANCE"."COST_CENTER" = 'it\'\'s 7')"""
        )
        assert session.query('SELECT "NAME" FROM "PUBLIC"."ORDERS"') == [("a",)]

    def test_existing_target_stays_when_the_options_change(self, duckdb_session: Session, folder: Folder) -> None:
        target = Target(duckdb_session, folder)
        target.replace()
        target.config = config("orders", transient=True, rely=True, cluster_by=["id"], object_tags={"t": "v"})
        target.replace()
        assert target.sent == []

    @pytest.mark.parametrize(
        ("columns", "changed"),
        [
            (COLUMNS, {"key": ("name",), "evolution": Evolution(former_key=("id",), rekeyed=True)}),
            ((column("id"), *COLUMNS[1:]), {"evolution": Evolution(retyped=("id",))}),
        ],
        ids=["another key", "another type"],
    )
    def test_primary_key_is_dropped_before_a_column_of_it_changes(
        self, duckdb_session: Session, folder: Folder, columns: tuple[Column, ...], changed: dict[str, Any]
    ) -> None:
        class Keyed(Through):
            """A session that reports a primary key, which DuckDB does not have."""

            def describe(self, schema: str, name: str) -> dict[str, ReportedColumn]:
                found = self.inner.describe(schema, name)
                return {name: dataclasses.replace(c, in_key=name == "ID") for name, c in found.items()}

            def before(self, statement: str) -> None:
                assert "DROP NOT NULL" not in statement
                assert "RENAME COLUMN" not in statement
                if statement.endswith("DROP PRIMARY KEY"):
                    raise Killed(statement)

        target = Target(Keyed(duckdb_session), folder)
        target.replace()
        with pytest.raises(Killed, match=r'ALTER TABLE "PUBLIC"\."ORDERS" DROP PRIMARY KEY'):
            target.replace(columns, **changed)


class TestMergePredicate:
    COLUMNS = (column("id", "int8"), column("made", "int4"), column("v"))

    def _loaded(self, session: Session, folder: Folder, predicate: str) -> tuple[Any, Any]:
        """Return the configuration, and the state after a first load."""
        table = config("orders", merge_predicate=predicate)
        rows = [("1", "2001", "a", "5"), ("2", "2024", "a", "5")]
        manifest = folder.increment(self.COLUMNS, rows, disposition=Disposition.REPLACE)
        apply(session, table, manifest, folder)
        return table, {"expected": 1, "expected_load_id": manifest.load_id}

    def test_predicate_is_a_condition_of_the_merge(self, duckdb_session: Session, folder: Folder) -> None:
        table, state = self._loaded(duckdb_session, folder, 't."MADE" >= 2020')
        recorder = Recorder(duckdb_session)
        rows = [("2", "2024", "b", "6"), ("3", "2024", "b", "6")]
        applied = apply(recorder, table, folder.increment(self.COLUMNS, rows, **state), folder)
        assert (applied.inserted, applied.updated) == (1, 1)
        (merged,) = [sent for sent in recorder.statements if sent.startswith("MERGE")]
        assert ' ON t."ID" = s."ID" AND (t."MADE" >= 2020) WHEN MATCHED' in merged

    def test_wrong_predicate_fails_the_run_and_doubles_no_row(self, duckdb_session: Session, folder: Folder) -> None:
        table, state = self._loaded(duckdb_session, folder, 't."MADE" >= 2020')
        rows = [("1", "2001", "b", "6"), ("2", "2024", "b", "6")]
        with pytest.raises(GuardError, match=r"merge_predicate .* it is not true for 1 rows of PUBLIC\.ORDERS"):
            apply(duckdb_session, table, folder.increment(self.COLUMNS, rows, **state), folder)
        assert duckdb_session.query('SELECT "ID", "V" FROM "PUBLIC"."ORDERS" ORDER BY 1') == [(1, "a"), (2, "a")]

    @pytest.mark.parametrize("copy", ["", """, "V" = 'b'"""])
    def test_keys_that_somebody_doubled_in_the_target_are_named(
        self, duckdb_session: Session, folder: Folder, copy: str
    ) -> None:
        """One of the two rows may equal the row of the increment, so that only the other one is written."""
        table, state = self._loaded(duckdb_session, folder, 't."MADE" >= 2020')
        doubled = 'INSERT INTO "PUBLIC"."ORDERS" SELECT * FROM "PUBLIC"."ORDERS" WHERE "ID" = 2'
        duckdb_session.query(doubled)
        duckdb_session.query(f'UPDATE "PUBLIC"."ORDERS" SET "_SYNCED_AT" = "_SYNCED_AT"{copy} WHERE rowid = 2')
        rows = [("2", "2024", "b", "6"), ("3", "2024", "b", "6")]
        # A verification applies its increment to a target that was edited.
        increment = StagedIncrement(table, folder.increment(self.COLUMNS, rows, **state), "xmin", as_found=True)
        with pytest.raises(
            GuardError, match=r"keys of this increment are doubled in PUBLIC\.ORDERS: it has 1 more rows"
        ) as caught:
            apply_all(duckdb_session, [increment], folder)
        assert "aurora-sync sync --full" in caught.value.hint
        assert "merge_predicate" not in str(caught.value)

    def test_reconcile_and_full_read_do_not_use_the_predicate(self, duckdb_session: Session, folder: Folder) -> None:
        table, state = self._loaded(duckdb_session, folder, "FALSE")
        rows = [("1", "2001", "b", "6"), ("2", "2024", "b", "6")]
        whole = folder.increment(self.COLUMNS, rows, disposition=Disposition.REPLACE, **state)
        assert apply(duckdb_session, table, whole, folder).updated == 2
        some = folder.increment(
            self.COLUMNS,
            [("1", "2001", "c", "7")],
            repaired=Buckets(1, (1,)),
            source_rows=2,
            expected=2,
            expected_load_id=whole.load_id,
        )
        assert apply(duckdb_session, table, some, folder).updated == 1


class Reporting(Through):
    """A session that reports lengths of texts, as Snowflake does and DuckDB does not."""

    def __init__(self, inner: Session, **lengths: int) -> None:
        super().__init__(inner)
        self.lengths = lengths

    def describe(self, schema: str, name: str) -> dict[str, ReportedColumn]:
        found = self.inner.describe(schema, name)
        return {name: dataclasses.replace(c, length=self.lengths.get(name)) for name, c in found.items()}


def text(name: str, length: int | None = None, type_: str = "varchar", policy: str = "exact") -> Column:
    return column(name, type_ if length else "text", modifier=length + 4 if length else -1, policy=policy)


ID = column("id", "int8")


class TestTextLengths:
    def _made(self, session: Session, folder: Folder, **keys: Any) -> str:
        target = Target(session, folder, **keys)
        target.replace([ID, text("code", 20), text("pad", 5, "bpchar"), text("note"), column("u", "uuid")])
        return target.sent[-1]

    def test_texts_have_the_length_of_the_source_or_16_mb(self, session: Session, folder: Folder) -> None:
        made = self._made(session, folder)
        assert '"CODE" VARCHAR(20), "PAD" VARCHAR(5), "NOTE" VARCHAR(16777216), "U" VARCHAR(16777216)' in made

    def test_texts_have_the_maximum_length_where_it_is_asked_for(self, duckdb_session: Session, folder: Folder) -> None:
        made = self._made(duckdb_session, folder, text_length="max")
        assert '"CODE" VARCHAR(134217728), "PAD" VARCHAR(134217728), "NOTE" VARCHAR(134217728)' in made

    def test_existing_texts_keep_their_lengths(self, duckdb_session: Session, folder: Folder) -> None:
        target = Target(Reporting(duckdb_session, CODE=134217728, NOTE=134217728), folder)
        target.replace([ID, text("code", 20), text("note")])
        target.replace([ID, text("code", 20), text("note")])
        assert target.sent == []

    def test_existing_texts_get_the_maximum_length_where_it_is_asked_for(
        self, duckdb_session: Session, folder: Folder
    ) -> None:
        target = Target(Reporting(duckdb_session, CODE=20), folder)
        target.replace([ID, text("code", 20)])
        target.config = config("orders", text_length="max")
        target.replace([ID, text("code", 20)])
        assert target.sent == ['ALTER TABLE "PUBLIC"."ORDERS" ALTER COLUMN "CODE" SET DATA TYPE VARCHAR(134217728)']

    def test_text_that_grows_at_the_source_follows_by_alter(self, duckdb_session: Session, folder: Folder) -> None:
        target = Target(Reporting(duckdb_session, CODE=20), folder)
        target.replace([ID, text("code", 20)])
        target.replace([ID, text("code", 40)])
        altered = 'ALTER TABLE "PUBLIC"."ORDERS" ALTER COLUMN "CODE" SET DATA TYPE VARCHAR({})'
        assert target.sent == [altered.format(40)]
        target.replace([ID, text("code")])
        assert target.sent == [altered.format(16777216)]
        target.replace([ID, text("code", 10)])
        assert target.sent == []

    @pytest.mark.parametrize(
        ("policy", "kept"), [("exact", "12345678901"), ("text", "12345678901"), ("null", None), ("clamp", "12")]
    )
    def test_longer_value_is_treated_by_the_policy_of_its_column(
        self, session: Session, folder: Folder, monkeypatch: pytest.MonkeyPatch, policy: str, kept: str | None
    ) -> None:
        monkeypatch.setattr(types, "DEFAULT_LENGTH", 10)
        applied = self._long(session, folder, policy)
        assert session.query('SELECT "NOTE" FROM "PUBLIC"."ORDERS" ORDER BY "ID"') == [("1234567890",), (kept,)]
        adjusted = [] if kept == "12345678901" else [("note", policy, 1)]
        assert [(found.column, found.policy, found.values) for found in applied.adjusted] == adjusted

    def test_longer_value_fails_the_run(
        self, duckdb_session: Session, folder: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(types, "DEFAULT_LENGTH", 10)
        with pytest.raises(GuardError, match=r"1 values of column note: VARCHAR\(10\) cannot hold them"):
            self._long(duckdb_session, folder, "fail")

    def test_column_gets_the_maximum_length_for_a_longer_value(
        self, duckdb_session: Session, folder: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(types, "DEFAULT_LENGTH", 10)
        recorder = Recorder(duckdb_session)
        self._long(recorder, folder, "exact")
        (made,) = [sent for sent in recorder.statements if sent.startswith('CREATE TABLE IF NOT EXISTS "PUBLIC"')]
        assert '"NOTE" VARCHAR(134217728)' in made
        altering = Recorder(Reporting(duckdb_session, NOTE=10))
        manifest = folder.increment(
            [ID, text("note")], [("1", "x" * 11, "6")], expected=1, expected_load_id=self.load_id
        )
        apply(altering, config("orders"), manifest, folder)
        assert (
            'ALTER TABLE "PUBLIC"."ORDERS" ALTER COLUMN "NOTE" SET DATA TYPE VARCHAR(134217728)' in altering.statements
        )

    def _long(self, session: Session, folder: Folder, policy: str) -> Applied:
        rows = [("1", "1234567890", "5"), ("2", "12345678901", "5")]
        manifest = folder.increment([ID, text("note", policy=policy)], rows, disposition=Disposition.REPLACE)
        self.load_id = manifest.load_id
        return apply(session, config("orders"), manifest, folder)


def test_existing_iceberg_table_is_refused_before_anything_is_loaded(duckdb_session: Session, folder: Folder) -> None:
    class Iceberg(Recorder):
        def properties(self, schema: str, name: str) -> TableProperties | None:
            return TableProperties(comment="", iceberg=True)

    duckdb_session.query('CREATE SCHEMA "PUBLIC"')
    duckdb_session.query("""CREATE TABLE "PUBLIC"."ORDERS" ("ID" NUMBER(19,0)) DEFAULT_DDL_COLLATION = ''""")
    session = Iceberg(duckdb_session)
    with pytest.raises(
        WarehouseError, match=r"PUBLIC\.ORDERS is an Iceberg table, and aurora_sync only writes standard"
    ):
        Target(session, folder).replace()
    assert "COPY" not in [sent[:4] for sent in session.statements]
