"""The sync log: one row for each applied increment, inserted in the transaction of the merge.

The newest row of a target is the only state to resume from. Rows are only inserted, which does not serialise in
Snowflake. Two runs of one table are serialised by its fence: a table with one row, the run sequence, which the
transaction of the merge advances from n to n+1 before anything else. The UPDATE waits for a rival's lock, sees what the
rival committed, and then changes no row.
"""

# ruff: noqa: S608 - every name went through identifier(), every value is a parameter

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime

from aurora_sync.errors import DefectError, RivalRunError
from aurora_sync.model.manifest import Manifest, TakenFile
from aurora_sync.warehouse.base import Row, Session
from aurora_sync.warehouse.ddl import (
    DELETED,
    NO_COLLATION,
    RUN_SEQ,
    SRC_XMIN,
    Layout,
    TableName,
    create_table,
    existing_columns,
    literal,
    make_schema,
)
from aurora_sync.warehouse.merge import count_target

SCHEMA = "_AURORA_SYNC"
# Rows of one INSERT.
_LEDGER_ROWS = 200


@dataclass(frozen=True)
class LogEntry:
    """One row of the log. The fields are its columns, in this order."""

    source_table: str
    target: str
    run_sequence: int
    load_id: str
    applied_at: datetime  # UTC, naive in the warehouse
    strategy: str
    disposition: str
    watermark: str  # JSON
    staged_rows: int
    inserted: int
    updated: int
    deleted: int
    target_rows: int
    source_rows: int | None
    manifest_prefix: str
    snapshot_xmin: int
    snapshot_xmax: int
    certificate: str  # JSON: what the increment guarantees, the conditions of that, and the findings at the source


_TYPES = {
    "str": "VARCHAR",
    "int": "NUMBER(20,0)",  # transaction ids are unsigned 64-bit numbers
    "int | None": "NUMBER(20,0)",
    "datetime": "TIMESTAMP_NTZ(6)",
}
COLUMNS = ", ".join(f'"{field.name.upper()}"' for field in fields(LogEntry))


def log_table(log_schema: str) -> TableName:
    return TableName(log_schema, "SYNC_LOG")


def _fence(log_schema: str, target: TableName) -> TableName:
    return target.companion(log_schema, "FENCE")


def create_log(log_schema: str) -> str:
    return create_table(
        log_table(log_schema), {field.name.upper(): _TYPES[str(field.type)] for field in fields(LogEntry)}
    )


def create_fence(log_schema: str, target: TableName) -> str:
    """Return the statement that creates the table with its row. It fails if the table exists, so there is never a
    second row. The values come from the log, so a dropped fence is restored as it was."""
    return (
        f"CREATE TABLE {_fence(log_schema, target).sql}{NO_COLLATION} AS"
        f' SELECT CAST(COALESCE(MAX("RUN_SEQUENCE"), 0) AS NUMBER(19,0)) AS "RUN_SEQUENCE",'
        f' CAST({literal(target.key)} AS VARCHAR) AS "TARGET",'
        f""" CAST(COALESCE(MAX_BY("LOAD_ID", "RUN_SEQUENCE"), '') AS VARCHAR) AS "LOAD_ID" """
        f'FROM {log_table(log_schema).sql} WHERE "TARGET" = {literal(target.key)}'
    )


def move_fence(log_schema: str, target: TableName) -> str:
    """Return the statement that advances the fence. Parameters: n + 1, load id, n, the load id of run n."""
    fence = _fence(log_schema, target).sql
    return f'UPDATE {fence} SET "RUN_SEQUENCE" = ?, "LOAD_ID" = ? WHERE "RUN_SEQUENCE" = ? AND "LOAD_ID" = ?'


def hold_fence(log_schema: str, target: TableName) -> str:
    """Return the statement that locks the fence until the end of the transaction, and changes nothing. It waits for the
    open transaction of another run."""
    return f'UPDATE {_fence(log_schema, target).sql} SET "RUN_SEQUENCE" = "RUN_SEQUENCE"'


def insert_entry(log_schema: str) -> str:
    return f"INSERT INTO {log_table(log_schema).sql} ({COLUMNS}) VALUES ({', '.join('?' for _ in fields(LogEntry))})"


def insert_with_sums(log_schema: str, target: TableName) -> str:
    """Return the INSERT of an entry whose watermark has the target's sums in the middle, if the target has the
    expected number of rows. Parameters: the fields, the watermark as two texts, and the number of rows."""
    given = {field.name: f"CAST(? AS {_TYPES[str(field.type)]})" for field in fields(LogEntry)}
    run_sequences, xmins = (f'CAST(COALESCE(SUM("{name}"), 0) AS VARCHAR)' for name in (RUN_SEQ, SRC_XMIN))
    given["watermark"] = f"CAST(? AS VARCHAR) || {run_sequences} || '/' || {xmins} || CAST(? AS VARCHAR)"
    return (
        f"INSERT INTO {log_table(log_schema).sql} ({COLUMNS}) SELECT {', '.join(given.values())} FROM {target.sql}"
        " HAVING COUNT(*) = ?"
    )


def make(session: Session, target: TableName, log_schema: str) -> bool:
    """Create the schema, log and fence of a target that are missing, and return whether any was. Idempotent. Call it
    outside of a transaction."""
    log, fence = log_table(log_schema), _fence(log_schema, target)
    no_log, no_fence = not existing_columns(session, log), not existing_columns(session, fence)
    if no_log:
        make_schema(session, log_schema)
        session.query(create_log(log_schema))
    if no_fence:
        session.query(create_fence(log_schema, target))
    return no_log or no_fence


def advance(session: Session, layout: Layout, manifest: Manifest, log_schema: str) -> tuple[LogEntry | None, Count]:
    """Advance the run sequence by compare-and-set. Call it first in the transaction. Returns the newest entry of the
    target and the counts of the target before this run.

    The UPDATE waits for a rival's transaction. A statement that waited may continue with the state from before the
    wait; the query after it sees what the rival committed, and the transaction ends if that is a newer run.

    Raises RivalRunError when the run sequence is no longer ``manifest.expected_sequence``, or another attempt than
    ``manifest.expected_load_id`` set it: a hint from before the target was restored may have the right number and the
    wrong watermark.
    """
    target, expected = layout.target, manifest.expected_sequence
    parameters = (expected + 1, manifest.load_id, expected, manifest.expected_load_id)
    moved = session.modify(move_fence(log_schema, target), parameters)
    newest, count = newest_of(session, target, log_schema, marks=layout.marks)
    if moved != 1 or (newest and newest.run_sequence > expected):
        raise RivalRunError(
            f"another run was applied to {target} after this one had started from run sequence {expected}",
            where=str(target),
            hint="this run applied nothing, and no row is lost: run again. If the error repeats while no other run is"
            f" active, the sync log was restored without its fence: DROP TABLE {_fence(log_schema, target).sql}",
        )
    return newest, count


def advance_any(session: Session, target: TableName, load_id: str, log_schema: str) -> LogEntry:
    """Advance the run sequence by one, whatever it is, and return the newest entry of the target. Call it first in the
    transaction. For increments that may be applied in any order, such as the chunks of a load.

    Raises RivalRunError when the fence does not follow the entry: in Snowflake an UPDATE that waited for a rival's
    transaction may have counted from the state before the wait.
    """
    fence = _fence(log_schema, target).sql
    session.modify(f'UPDATE {fence} SET "RUN_SEQUENCE" = "RUN_SEQUENCE" + 1, "LOAD_ID" = ?', (load_id,))
    rows = session.query(
        f'SELECT f."RUN_SEQUENCE", e.* FROM {fence} AS f CROSS JOIN ({_select_newest(log_schema)}) AS e', (target.key,)
    )
    entry = _entry(rows[0][1:]) if rows else None
    if entry is None or int(rows[0][0]) != entry.run_sequence + 1:
        raise RivalRunError(
            f"the fence of {target} and the sync log have different run sequences",
            where=str(target),
            hint="this run applied nothing, and no row is lost: run again",
        )
    return entry


def sums_of(load_id: str) -> str:
    """Return the place of ``Left.sums`` in a watermark whose sums :func:`record` computes."""
    return f"sums of {load_id}"


def record(session: Session, entry: LogEntry, target: TableName, log_schema: str) -> None:
    """Insert the entry. If its watermark holds :func:`sums_of` the load id, insert it with the sums of the target, and
    raise DefectError unless the target has as many rows as the entry says."""
    values = asdict(entry) | {"applied_at": as_text(entry.applied_at)}
    before, computed, after = entry.watermark.rpartition(sums_of(entry.load_id))
    if not computed:
        session.modify(insert_entry(log_schema), list(values.values()))
        return
    given = [text for name, value in values.items() for text in ((before, after) if name == "watermark" else (value,))]
    if session.modify(insert_with_sums(log_schema, target), [*given, entry.target_rows]) != 1:
        raise DefectError(
            f"{target} does not have the {entry.target_rows} rows that the counts of this run give",
            where=entry.source_table,
            hint="nothing was applied: run again",
        )


def prepare_taken(session: Session, log_schema: str) -> None:
    """Create the ledger of external files. Idempotent. Call it before the transaction."""
    if not existing_columns(session, _taken(log_schema)):
        make_schema(session, log_schema)
        columns = {"TARGET": "VARCHAR", "RUN_SEQUENCE": "NUMBER(20,0)", "KEY": "VARCHAR", "ETAG": "VARCHAR"}
        session.query(create_table(_taken(log_schema), columns | {"BYTES": "NUMBER(20,0)"}))


def record_taken(
    session: Session, target: TableName, run_sequence: int, files: Sequence[TakenFile], log_schema: str
) -> None:
    """Insert files into the ledger. This is part of the transaction, so a file counts as taken only when its rows are
    in the target."""
    for start in range(0, len(files), _LEDGER_ROWS):
        rows = files[start : start + _LEDGER_ROWS]
        values = [value for file in rows for value in (target.key, run_sequence, file.key, file.etag, file.bytes)]
        places = ", ".join(["(?, ?, ?, ?, ?)"] * len(rows))
        session.modify(f"INSERT INTO {_taken(log_schema).sql} VALUES {places}", values)


def taken(session: Session, target: TableName, since: int, log_schema: str) -> set[tuple[str, str]]:
    """Return key and etag of the files that runs after ``since`` took."""
    rows = session.query(
        f'SELECT "KEY", "ETAG" FROM {_taken(log_schema).sql} WHERE "TARGET" = ? AND "RUN_SEQUENCE" > ?',
        (target.key, since),
    )
    return {(key, etag) for key, etag in rows}


def _taken(log_schema: str) -> TableName:
    return TableName(log_schema, "FILES")


def as_text(moment: datetime) -> str:
    """Return the moment in UTC without a zone, as every engine reads TIMESTAMP_NTZ."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")


def _entry(row: Row) -> LogEntry:
    entry = dict(zip((field.name for field in fields(LogEntry)), row, strict=True))
    integers = {field.name for field in fields(LogEntry) if "int" in str(field.type)}
    entry |= {name: None if entry[name] is None else int(entry[name]) for name in integers}
    return LogEntry(**{**entry, "applied_at": entry["applied_at"].replace(tzinfo=UTC)})


def _select_newest(log_schema: str) -> str:
    """Select the newest entry of one target, the parameter."""
    return f'SELECT {COLUMNS} FROM {log_table(log_schema).sql} WHERE "TARGET" = ? ORDER BY "RUN_SEQUENCE" DESC LIMIT 1'


def find(session: Session, target: TableName, run_sequence: int, log_schema: str) -> LogEntry | None:
    """Return the increment with this run sequence of the target; None when there is none."""
    rows = session.query(
        f'SELECT {COLUMNS} FROM {log_table(log_schema).sql} WHERE "TARGET" = ? AND "RUN_SEQUENCE" = ?',
        (target.key, run_sequence),
    )
    return _entry(rows[0]) if rows else None


def newest_entry(session: Session, target: TableName, log_schema: str) -> LogEntry | None:
    """Return the newest increment of the target, without a look at its rows; None when there is none."""
    rows = session.query(_select_newest(log_schema), (target.key,))
    return _entry(rows[0]) if rows else None


def newest_of(session: Session, target: TableName, log_schema: str, *, marks: bool) -> tuple[LogEntry | None, Count]:
    """Return the newest increment of a target, None when there is none, and the counts of the target: in one
    statement."""
    ((rows, present, run_sequence_sum, xmin_sum, *entry),) = session.query(
        f"SELECT c.*, e.* FROM ({count_target(target, marks)}) AS c"
        f" LEFT JOIN ({_select_newest(log_schema)}) AS e ON TRUE",
        (target.key,),
    )
    return (_entry(tuple(entry)) if entry[0] is not None else None), _count(rows, present, run_sequence_sum, xmin_sum)


def newest(session: Session, log_schema: str = SCHEMA) -> list[LogEntry]:
    """Return the newest increment of every target, by name; empty when nothing was ever applied."""
    if not existing_columns(session, log_table(log_schema)):
        return []
    # The long columns are read only in the rows that are wanted.
    rows = session.query(
        f"SELECT {COLUMNS} FROM {log_table(log_schema).sql} AS e"
        f' JOIN (SELECT "TARGET" AS T, MAX("RUN_SEQUENCE") AS R FROM {log_table(log_schema).sql} GROUP BY 1) AS n'
        ' ON e."TARGET" = n.T AND e."RUN_SEQUENCE" = n.R ORDER BY "TARGET"'
    )
    return [_entry(row) for row in rows]


@dataclass(frozen=True)
class Count:
    """The counts of a target: all rows, the rows not marked as deleted, and ``Left.sums``."""

    rows: int
    present: int
    sums: str


def count(session: Session, target: TableName, *, marks: bool) -> Count:
    return _count(*session.query(count_target(target, marks))[0])


def _count(rows: int, present: int, *sums: int) -> Count:
    return Count(int(rows), int(present), "/".join(str(int(number)) for number in sums))


def count_present(session: Session, target: TableName, columns: Collection[str]) -> int:
    """Return the number of target rows that are not marked as deleted."""
    return count(session, target, marks=DELETED in columns).present
