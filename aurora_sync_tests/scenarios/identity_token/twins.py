"""One source table in two targets: one is synced by the product as it is, the other with a guard removed."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from psycopg2 import sql

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import AuroraSyncError
from aurora_sync.model.certificate import Action
from aurora_sync.model.names import fold
from aurora_sync.model.receipt import Receipt
from aurora_sync.model.watermark import Token
from aurora_sync.strategies import horizon, identity
from aurora_sync.strategies import schema_changes as schema
from aurora_sync.strategies.base import Since
from aurora_sync.warehouse.ddl import DELETED, identifier, target_name
from aurora_sync_tests.scenarios.world import Rows, World, config

TABLE = """
CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text, updated_at timestamptz);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch();
INSERT INTO t (v) SELECT 'old ' || n FROM generate_series(1, 10) n;
"""
PARTITIONED = """
CREATE TABLE t (id int PRIMARY KEY, updated_at timestamptz) PARTITION BY RANGE (id);
CREATE TABLE one PARTITION OF t FOR VALUES FROM (1) TO (100);
CREATE TABLE two PARTITION OF t FOR VALUES FROM (100) TO (200);
INSERT INTO t SELECT n * 10, now() FROM generate_series(1, 12) n;
"""
STRATEGIES: dict[str, dict[str, Any]] = {
    "xmin": {},
    "integer": {"watermark_type": "integer", "watermark_col": "id"},
    "timestamp": {"watermark_type": "timestamp", "watermark_col": "updated_at"},
    "composite": {"watermark_type": "composite", "watermark_cols": ["updated_at", "id"]},
}
CLOCKS = {"timestamp", "composite"}
each_strategy = pytest.mark.parametrize("strategy", STRATEGIES)

Removal = Callable[[pytest.MonkeyPatch], None]  # removes a guard from the product


class Twins:
    """Two targets that equal the source at first. After a change of the source, a test compares their results."""

    def __init__(self, world: World, strategy: str = "xmin", **keys: Any) -> None:
        self.world = world
        self._keys = {"target_table": strategy} | STRATEGIES[strategy] | keys
        for target in ("guarded", "unguarded"):
            world.sync(self.config(target))

    def config(self, target: str) -> TableConfig:
        return config(**self._keys | {"target_table": f"{target}_{self._keys['target_table']}"})

    def now(self, world: World | None = None, **keys: Any) -> Twins:
        """Return the same targets with another source, or other keys of tables.yaml."""
        changed = copy.copy(self)
        changed.world, changed._keys = world or self.world, self._keys | keys
        return changed

    def assert_equal(self, *expected: tuple[str, Action], **options: bool) -> Receipt:
        """Assert that a run finds the source's change, reacts, and makes the target equal to the source; and that the
        next run finds nothing and keeps it so."""
        table = self.config("guarded")
        receipt = self.world.sync(table, **options)
        assert [(f.event, f.action) for f in receipt.certificate.findings] == list(expected)
        assert self.difference("guarded") == ""
        assert self.world.sync(table).certificate.findings == ()
        assert self.difference("guarded") == ""
        return receipt

    def assert_refused(self, error: type[AuroraSyncError], match: str, **options: bool) -> None:
        """Assert that the run fails, and the target is unchanged."""
        table = self.config("guarded")
        before, sequences = self.target_rows("guarded"), self.world.run_sequences(table)
        with pytest.raises(error, match=match):
            self.world.sync(table, **options)
        assert (self.target_rows("guarded"), self.world.run_sequences(table)) == (before, sequences)

    def assert_unequal_without(self, *guards: Removal, **options: bool) -> None:
        """Assert that without these guards a run succeeds, but its target differs from the source."""
        with pytest.MonkeyPatch.context() as patch:
            for remove in guards:
                remove(patch)
            self.world.sync(self.config("unguarded"), **options)
        assert self.difference("unguarded") != ""

    def difference(self, target: str) -> str:
        """Return how the target differs from the source; empty when it does not."""
        source, held = self.source_rows(), self.target_rows(target)
        return f"lost {source - held}, surplus {held - source}" if source != held else ""

    def source_rows(self) -> Rows:
        with self.world.session() as connection, connection.cursor() as cursor:
            cursor.execute("SET TimeZone = 'UTC'")
            cursor.execute(sql.SQL("SELECT {} FROM t").format(sql.SQL(", ").join(map(sql.Identifier, self._names()))))
            return Counter(cursor.fetchall())

    def target_rows(self, target: str, *, as_text: bool = False) -> Rows:
        """Return the rows that are not marked as deleted, in the columns that the source has."""
        names = ", ".join(identifier(fold(name)) for name in self._names())
        present = f'WHERE "{DELETED}" IS DISTINCT FROM TRUE' if self._keys.get("deletes") == "soft" else ""
        rows = self.world.query(f"SELECT {names} FROM {target_name(self.config(target)).sql} {present}")
        return Counter(tuple(map(str, row)) if as_text else row for row in rows)

    def _names(self) -> list[str]:
        wanted = "attrelid = 't'::regclass AND attnum > 0 AND NOT attisdropped"
        found = self.world.execute(f"SELECT attname FROM pg_attribute WHERE {wanted} ORDER BY attnum")
        left_out = self._keys.get("columns", {}).get("exclude", [])
        return [name for (name,) in found if name not in left_out]


def reasons(*events: str) -> Removal:
    """Remove the guards that read the whole table again after these events."""

    def remove(patch: pytest.MonkeyPatch) -> None:
        judged = identity._reseed_reasons
        patch.setattr(
            identity, "_reseed_reasons", lambda *at: [found for found in judged(*at) if found[0] not in events]
        )

    return remove


def canaries(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(identity, "_other_history", lambda *_: False)


def reconcile(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(identity, "_LEAVE_ROWS_BEHIND", set())


def restart(patch: pytest.MonkeyPatch) -> None:
    """Remove the guard of a restart: fences are not trusted, the read goes back by a margin, and the target is
    compared."""
    patch.setattr(identity, "Since", lambda stored, *_: Since(stored))
    reconcile(patch)


def margin(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(horizon, "RESTART_MARGIN", 0)


def rewritten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Token, "rewritten", lambda *_: False)


def reattached(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Token, "reattached", lambda *_: False)


def new_members(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(horizon, "new_members", lambda *_: [])


def columns(patch: pytest.MonkeyPatch) -> None:
    """Remove the comparison of the columns with those of the watermark."""
    patch.setattr(schema, "compare", lambda *_, **__: schema.UNCHANGED)
    canaries(patch)
