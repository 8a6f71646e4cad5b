"""Compaction of the sync log."""

# ruff: noqa: S608 - every name is one of ours

from __future__ import annotations

import secrets
from datetime import datetime

from aurora_sync.errors import Kind, WarehouseError
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.ddl import NO_COLLATION, TableName, existing_columns
from aurora_sync.warehouse.sync_log import COLUMNS, as_text, log_table


def compact(session: Session, log_schema: str, since: datetime, until: datetime) -> int:
    """Write the entries of a period together, and return their number. Each run inserts one row, which Snowflake keeps
    as a micro-partition of its own. Safe beside runs, which only insert and only read the newest entry, and beside
    another compaction. Raises WarehouseError if the entries changed meanwhile; then nothing is changed."""
    log, copy = log_table(log_schema), TableName(log_schema, f"STAGING_SYNC_LOG_{'0' * 16}_{secrets.token_hex(6)}")
    if not existing_columns(session, log):
        return 0
    session.query(
        f"CREATE TEMPORARY TABLE {copy.sql}{NO_COLLATION} AS SELECT {COLUMNS} FROM {log.sql}"
        f" WHERE \"APPLIED_AT\" >= '{as_text(since)}' AND \"APPLIED_AT\" < '{as_text(until)}'"
    )
    with session.transaction():
        same = " AND ".join(f"c.{name} = {log.sql}.{name}" for name in ('"TARGET"', '"RUN_SEQUENCE"', '"LOAD_ID"'))
        copied = f"FROM {log.sql} WHERE EXISTS (SELECT 1 FROM {copy.sql} AS c WHERE {same})"
        removed = session.modify(f"DELETE {copied}")
        written = session.modify(
            f'INSERT INTO {log.sql} ({COLUMNS}) SELECT {COLUMNS} FROM {copy.sql} ORDER BY "TARGET", "RUN_SEQUENCE"'
        )
        # A DELETE that waited for another compaction may have continued with the entries from before it.
        ((found,),) = session.query(f"SELECT COUNT(*) {copied}")
        if not removed == written == found:
            raise WarehouseError(
                f"{removed} entries were removed and {found} are there where {written} had been copied",
                where=str(log),
                hint="nothing was changed: run `aurora-sync gc` again",
                kind=Kind.TRANSIENT,
            )
    return written
