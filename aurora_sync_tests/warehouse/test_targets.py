"""The table that a first load makes: what Snowflake is told about it besides its columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import pytest

from aurora_sync.errors import GuardError
from aurora_sync.model.buckets import Buckets
from aurora_sync.model.column import Column
from aurora_sync.model.comments import digest
from aurora_sync.model.manifest import Disposition, Evolution
from aurora_sync.warehouse.base import ReportedColumn, Session
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
        target.replace([column("tenant", "int4"), column("id", "int8")], key=("id", "tenant"))
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

    def test_primary_key_is_dropped_before_a_former_key_column_may_be_null(
        self, duckdb_session: Session, folder: Folder
    ) -> None:
        class Keyed(Through):
            """A session that reports a primary key, which DuckDB does not have."""

            def describe(self, schema: str, name: str) -> dict[str, ReportedColumn]:
                found = self.inner.describe(schema, name)
                return {name: dataclasses.replace(c, in_key=name == "ID") for name, c in found.items()}

            def before(self, statement: str) -> None:
                assert "DROP NOT NULL" not in statement
                if statement.endswith("DROP PRIMARY KEY"):
                    raise Killed(statement)

        target = Target(Keyed(duckdb_session), folder)
        target.replace()
        with pytest.raises(Killed, match=r'ALTER TABLE "PUBLIC"\."ORDERS" DROP PRIMARY KEY'):
            target.replace(key=("name",), evolution=Evolution(former_key=("id",), rekeyed=True))


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
