"""A role with SELECT only can run every strategy. Warnings name what it cannot see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import preflight
from aurora_sync.errors import SourceError
from aurora_sync.model.manifest import Disposition
from aurora_sync.source.database import Source
from aurora_sync.strategies import strategy_for
from aurora_sync.strategies.base import Since
from aurora_sync_tests.scenarios.random_writers.replicas import Replica
from aurora_sync_tests.source.test_catalogue import execute

TABLE = """
CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text, updated_at timestamptz NOT NULL);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch();
INSERT INTO t (v) VALUES ('first');
"""
STRATEGIES: dict[str, dict[str, Any]] = {
    "xmin": {"watermark_type": "xmin"},
    "append": {"watermark_type": "xmin", "append_only": True},
    "integer": {"watermark_type": "integer", "watermark_col": "id"},
    "timestamp": {"watermark_type": "timestamp", "watermark_col": "updated_at"},
    "composite": {"watermark_type": "composite", "watermark_cols": ["updated_at", "id"]},
    "full_snapshot": {"watermark_type": "full_snapshot"},
}


@pytest.fixture
def reader(dsn: str) -> Iterator[str]:
    """The DSN of a role that may SELECT from t."""
    execute(dsn, TABLE + "CREATE ROLE reader LOGIN PASSWORD 'reader'; GRANT SELECT ON t TO reader")
    try:
        yield make_dsn(dsn, user="reader", password="reader")
    finally:
        execute(dsn, "DROP OWNED BY reader; DROP ROLE reader")


def config(strategy: str) -> TableConfig:
    return TableConfig.model_validate({"table_name": "t", **STRATEGIES[strategy]})


def problems(dsn: str, strategy: str = "xmin") -> str:
    (table,) = Source(dsn).catalogue([("public", "t")]).values()
    chosen = config(strategy)
    return " ".join(preflight.problems(chosen, table, strategy_for(chosen.watermark_type.value)))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_select_on_the_table_is_enough(dsn: str, reader: str, strategy: str) -> None:
    if strategy == "append":  # append_only requires a table without a key
        execute(dsn, "ALTER TABLE t DROP CONSTRAINT t_pkey")
    replica = Replica(config(strategy), Source(reader))
    late = psycopg2.connect(dsn)
    try:
        late.cursor().execute("INSERT INTO t (v) VALUES ('late')")
        execute(dsn, "INSERT INTO t (v) VALUES ('early')")
        replica.sync()
        late.commit()
    finally:
        late.close()
    replica.sync()
    kept = {v for _, v in replica.appended} if strategy == "append" else set(replica.rows.values())
    assert kept == {"first", "early", "late"}


def test_timestamp_falls_back_to_the_horizon_where_transactions_hide_when_they_began(dsn: str, reader: str) -> None:
    execute(dsn, "INSERT INTO t (v) VALUES ('second')")
    held = psycopg2.connect(dsn)
    try:
        held.cursor().execute("SELECT 1")
        assert _plan(reader, "timestamp") == ("horizon scan", "GRANT pg_read_all_stats")
        execute(dsn, "GRANT pg_read_all_stats TO reader")
        assert _plan(reader, "timestamp") == ("clock fence", "")
    finally:
        held.close()


def test_integer_falls_back_to_the_horizon_where_the_sequence_is_hidden(dsn: str, reader: str) -> None:
    assert _plan(reader, "integer") == ("horizon scan", "GRANT SELECT ON SEQUENCE")
    execute(dsn, "GRANT SELECT ON SEQUENCE t_id_seq TO reader")
    assert _plan(reader, "integer") == ("lock fence", "")


def test_grants_on_single_columns_are_refused_for_a_table_and_do_for_a_materialized_view(dsn: str, reader: str) -> None:
    execute(dsn, "REVOKE SELECT ON t FROM reader; GRANT SELECT (id, v, updated_at) ON t TO reader")
    assert "on the whole table, not on single columns" in problems(reader)
    execute(dsn, "CREATE MATERIALIZED VIEW seen AS SELECT id, v FROM t; GRANT SELECT (id, v) ON seen TO reader")
    chosen = TableConfig.model_validate({"table_name": "seen", "watermark_type": "full_snapshot"})
    (table,) = Source(reader).catalogue([("public", "seen")]).values()
    assert preflight.problems(chosen, table, strategy_for("full_snapshot")) == []
    replica = Replica(chosen, Source(reader))
    replica.sync()
    assert set(replica.rows.values()) == {"first"}


def test_no_grant_at_all_is_refused(dsn: str, reader: str) -> None:
    execute(dsn, "REVOKE SELECT ON t FROM reader")
    assert "may not SELECT" in problems(reader)
    execute(dsn, "GRANT SELECT ON t TO reader; REVOKE USAGE ON SCHEMA public FROM PUBLIC")
    assert "USAGE" in problems(reader)


def test_row_level_security_is_refused_before_it_hides_rows(dsn: str, reader: str) -> None:
    execute(dsn, "ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON t USING (id > 1)")
    assert "row-level security" in problems(reader)
    with Source(reader).reading("public", "t") as reading:
        reading.observe(None, max_minutes=1)
        with pytest.raises(SourceError, match="row-level security"):
            reading.count(None)
    assert problems(dsn) == ""  # a superuser, or any role with BYPASSRLS, sees all rows


def _plan(dsn: str, strategy: str) -> tuple[str, str]:
    """Return the method of a second run, and the grants that its warnings ask for."""
    replica = Replica(config(strategy), Source(dsn))
    replica.sync()
    assert replica.watermark is not None
    chosen = strategy_for(replica.config.watermark_type.value)
    with Source(dsn).reading("public", "t") as reading:
        at = reading.observe(chosen.fence(replica.config), max_minutes=1)
        plan = chosen.plan(replica.config, reading.table, Since(replica.watermark), at)
    assert plan.disposition is Disposition.UPSERT
    text = " ".join(plan.reasons + plan.warnings)
    asked = [grant for grant in ("GRANT pg_read_all_stats", "GRANT SELECT ON SEQUENCE") if grant in text]
    return plan.method, " ".join(asked)
