"""The table that a first load makes: what Snowflake is told about it besides its columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from aurora_sync.model.column import Column
from aurora_sync.model.comments import digest
from aurora_sync.model.manifest import Disposition
from aurora_sync.warehouse.base import Session
from aurora_sync_tests.scenarios.world import config
from aurora_sync_tests.warehouse.increments import Folder, apply, column, watermark
from aurora_sync_tests.warehouse.test_golden import Recorder

COLUMNS = (column("id", "int8", comment="The customer's number"), column("name", comment="back\\slash"), column("v"))


class Target:
    """A target, with the DDL that its last run sent."""

    def __init__(self, session: Session, folder: Folder, **keys: Any) -> None:
        self.session, self.folder, self.config = session, folder, config("orders", **keys)
        self.comments, self.sequence, self.load_id = "", 0, ""
        self.after = watermark()
        self.sent: list[str] = []

    def replace(self, columns: Iterable[Column] = COLUMNS, *, comment: str | None = None, digest: str = "") -> None:
        """Load one row as a full read does. ``digest`` is that of the comments after the run."""
        columns = tuple(columns)
        manifest = self.folder.increment(
            columns,
            [("1", *(["a"] * (len(columns) - 1)), "5")],
            disposition=Disposition.REPLACE,
            expected=self.sequence,
            expected_load_id=self.load_id,
            comment=comment,
        )
        after = dataclasses.replace(manifest.watermark_after, comments=digest)
        before = dataclasses.replace(self.after, comments=self.comments) if self.sequence else None
        manifest = dataclasses.replace(manifest, watermark_before=before, watermark_after=after)
        recorder = Recorder(self.session)
        self.sequence = apply(recorder, self.config, manifest, self.folder).run_sequence
        self.load_id, self.comments, self.after = manifest.load_id, digest, after
        self.sent = [sent for sent in recorder.statements if sent.startswith(("CREATE TABLE", "ALTER", "COMMENT"))]

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
