"""The clock fence, shared by ``timestamp`` and ``composite``.

W is ``min(xact_start)`` over the open transactions of the database, looked up before the snapshot. A transaction that
the snapshot does not see writes timestamps at or after its own start, so at or after W. The next run reads
``column >= W``. W comes from the database's clock and never from the data, so a wrong value in a row cannot affect it.

This is correct only if the database itself sets the column in every insert and update. If the catalogue does not show
that, if a session hides the start of its transaction, or if a clock was set since the last run, the run reads by the
horizon instead: it finds the same rows, but needs a sequential scan.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from psycopg2 import sql

from aurora_sync.config.tables import TableConfig
from aurora_sync.model import plpgsql
from aurora_sync.model.fences import ClockFence, ClockOffset
from aurora_sync.model.manifest import Disposition
from aurora_sync.model.observation import Observation
from aurora_sync.model.relation import SourceTable
from aurora_sync.strategies.base import ReadPlan, Since, or_null, scanning

METHOD = "clock fence"
TYPES = ("timestamptz", "timestamp", "date")

# Covers clock steps at a failover, rounding of timestamp(0), and the moment between the receipt of a statement and the
# publication of its xact_start.
MARGIN = timedelta(seconds=60)

# The largest allowed change of the source's clock relative to the runner's since the fence was looked up. It is half of
# the margin; the other half covers rounding and late publication. SQL shows no monotonic clock, so the source's clock
# is compared with the runner's.
MOST_STEP = timedelta(seconds=30)

# A column without zone has the writer's local time, at most 12 hours behind UTC.
ZONE_SLACK = timedelta(hours=12)

# Local time of a named zone: correct for a column without zone, and hours off after a cast to a type with zone. A
# zone with numbers, such as <x>+100, may be further behind UTC than ZONE_SLACK.
_IN_A_ZONE = re.compile(r" at time zone '[a-z_/]*'$", re.IGNORECASE)
_DECLARED = (
    "{name} is declared as set by the database, but this is not checked; to certify it, set it to the clock in a BEFORE"
    " INSERT OR UPDATE trigger and remove watermark_set_by, or run a reconcile"
)


def problems(name: str, table: SourceTable) -> list[str]:
    column = table.column(name)
    if column is None or column.base_type in TYPES:
        return []
    return [f"watermark column {name} is {column.type_name}; it must be timestamp with time zone, timestamp or date"]


def plan(config: TableConfig, name: str, table: SourceTable, since: Since | None, at: Observation) -> ReadPlan:
    objections = _objections(config, name, table, at)
    remarks = _remarks(config, name, table, at)
    if since is None:
        return ReadPlan(None, Disposition.REPLACE, "whole table", objections + remarks)
    unusable = objections or _unusable(name, table, since, at)
    if unusable:
        return ReadPlan(
            since.horizon_scan(at),
            Disposition.UPSERT,
            "horizon scan",
            reasons=scanning(unusable),
            renews=advance(config, name, table, since, at)["fence"] is not None,
        )
    fence = datetime.fromisoformat(since.watermark.value["fence"])
    where = since.with_new_members(_not_before(fence, name, table), at)
    return ReadPlan(where, Disposition.UPSERT, METHOD, remarks, doubts=doubts(config, name, table))


def advance(
    config: TableConfig, name: str, table: SourceTable, since: Since | None, at: Observation
) -> dict[str, object]:
    fence = offset = None
    step = _undecided_step(since, at)
    if not step and not _objections(config, name, table, at):
        if not at.prepared_transactions:
            seen = at.seen(ClockFence)
            fence, offset = seen.opened - MARGIN, seen.offset
        elif since and (fence := _stored_fence(name, table, since, at)):
            offset = _offset_of(since)  # the offset belongs to the moment when the old fence was looked up
    return {
        "column": name,
        "triggers": table.trigger_version,
        "fence": fence.isoformat() if fence else None,
        "clock_offset": [offset.least, offset.most] if offset else None,
        "step": step,
    }


def _undecided_step(since: Since | None, at: Observation) -> int | None:
    """Return the xmax of the snapshot that was taken after a clock was set, while a transaction that wrote before that
    may still be in progress; else None. The rows of such a transaction may have times below every fence that is looked
    up now."""
    if since is None:
        return None
    step = at.snapshot.xmax if _stepped(since, at) else since.watermark.value.get("step")
    return step if step and at.snapshot.xmin < step else None


def _not_before(fence: datetime, name: str, table: SourceTable) -> sql.Composable:
    column = table.column(name)
    assert column is not None  # preflight checked it
    if column.base_type != "timestamptz":
        fence = fence - ZONE_SLACK
    bound = {
        "timestamptz": sql.SQL("{} >= {}::timestamptz"),
        "timestamp": sql.SQL("{} >= ({}::timestamptz AT TIME ZONE 'UTC')"),
        "date": sql.SQL("{} >= ({}::timestamptz AT TIME ZONE 'UTC')::date"),
    }[column.base_type].format(sql.Identifier(name), sql.Literal(fence.isoformat()))
    return or_null(bound, name, table)


def _stored_fence(name: str, table: SourceTable, since: Since, at: Observation) -> datetime | None:
    """Return the fence of the stored watermark, or None when it may not be used."""
    return None if _unusable(name, table, since, at) else datetime.fromisoformat(since.watermark.value["fence"])


def _unusable(name: str, table: SourceTable, since: Since, at: Observation) -> tuple[str, ...]:
    """Return in words why the fence of the stored watermark may not be used; empty when it may."""
    value = since.watermark.value
    left = value.get("column") == name and value.get("fence")
    # Rows may have been written without the trigger: it was disabled or replaced, the table was rewritten, or a
    # partition was detached.
    if why := since.unusable(
        at,
        missing="" if left else f"the last run recorded no fence of {name}",
        same=value.get("triggers") == table.trigger_version,
        witnesses="triggers",
    ):
        return (why,)
    if at.snapshot.taken_at < since.watermark.snapshot.taken_at:
        return ("the clock of the source was set back since the last run",)
    if _offset_of(since) is None:
        return ("the watermark was written by an earlier release, which did not compare the clocks",)
    return _stepped(since, at)


def _offset_of(since: Since) -> ClockOffset | None:
    """Return the offset of the source's clock when the stored fence was looked up; None in watermarks of earlier
    releases."""
    stored = since.watermark.value.get("clock_offset")
    return ClockOffset(*stored) if stored else None


def _stepped(since: Since, at: Observation) -> tuple[str, ...]:
    """Return a sentence when the source's clock or the runner's was set since the fence was looked up; else empty."""
    before, now = _offset_of(since), at.offset
    if before is None or before.change(now) <= MOST_STEP:
        return ()
    return (
        f"the clock of the source was {before.most:+,.1f} s from the runner's at the last run, and is"
        f" {now.most:+,.1f} s now: one of the clocks was set, or this is another runner; times written in between may"
        " be below the fence",
    )


def _objections(config: TableConfig, name: str, table: SourceTable, at: Observation) -> tuple[str, ...]:
    """Return in words the preconditions of the clock fence that are not met."""
    found = []
    if at.token.in_recovery:
        found.append("the source is a reader, which does not show the writer's transactions")
    if hidden := at.seen(ClockFence).hidden_sessions:
        found.append(
            f"{hidden} sessions do not show when their transaction began"
            " (GRANT pg_read_all_stats to this role, and keep track_activities on)"
        )
    if config.watermark_set_by == "application":
        found.append(f"{name} is set by the application")
    if config.watermark_set_by is None:
        if table.subscribed:
            found.append(f"a subscription writes the table, and {name} is set at the publisher")
        elif not kept_by_trigger(name, table):
            unread = " and ".join(trigger.name for trigger in table.triggers if trigger.assigned(name) is None)
            but = f", or trigger {unread} may set it to something else" if unread else ""
            found.append(
                f"no BEFORE INSERT OR UPDATE row trigger of the table sets {name} to the database's clock{but}; if"
                " every write does, declare watermark_set_by: database"
            )
    return tuple(found)


def kept_by_trigger(name: str, table: SourceTable) -> bool:
    """Return whether triggers set the column to the clock at every insert and update, and no trigger sets it to another
    value."""
    column = table.column(name)
    if column is None or column.generated:  # the value of a generated column is computed after the triggers
        return False
    inserts = updates = False
    for trigger in table.triggers:
        values = trigger.assigned(name)
        if values is None:
            return False
        if column.base_type != "timestamptz":
            values = tuple(map(_without_zone, values))
        if not all(plpgsql.is_clock(value, shadowed=trigger.clock_shadowed) for value in values):
            return False
        inserts, updates = inserts or bool(values and trigger.on_insert), updates or bool(values and trigger.on_update)
    return inserts and updates


def _without_zone(value: str) -> str:
    """Return the expression without a final AT TIME ZONE. LOCALTIMESTAMP keeps it: it has no zone, so AT TIME ZONE
    would change the time."""
    return value if value.startswith("localtimestamp") else _IN_A_ZONE.sub("", value)


def is_clock(expression: str) -> bool:
    """Return whether the expression of a default is exactly the current time."""
    return plpgsql.is_clock(plpgsql.normalized(expression) or "")


def doubts(config: TableConfig, name: str, table: SourceTable) -> tuple[str, ...]:
    """Return the assumptions of the clock fence that nothing proves: a declaration of the user, triggers that do not
    fire in every session, and a column without zone whose trigger writes the time in the zone of the session."""
    if config.watermark_set_by == "database":
        return (_DECLARED.format(name=name),)
    setting = [trigger for trigger in table.triggers if trigger.may_write(name)]
    for fires in ("on_insert", "on_update"):
        if not any(trigger.always and getattr(trigger, fires) for trigger in setting):
            names = ", ".join(sorted(trigger.name for trigger in setting))
            return (
                f"sessions with session_replication_role = replica write {name} without the trigger ({names}); to"
                " certify it, use ALTER TABLE ... ENABLE ALWAYS TRIGGER, or run a reconcile",
            )
    column = table.column(name)
    assert column is not None  # preflight checked it
    values = [value for trigger in setting for value in trigger.assigned(name) or ()]
    if column.base_type != "timestamptz" and not all(_without_zone(value) != value for value in values):
        return (
            f"{name} has no time zone, and its trigger writes the time in the zone of the session: rows of sessions"
            f" whose TimeZone is more than 12 hours behind UTC (a POSIX zone) are not read again; to certify it, make"
            f" {name} timestamptz, use AT TIME ZONE 'UTC' in the trigger, or run a reconcile",
        )
    return ()


def evidence(value: Mapping[str, Any], read: ReadPlan, at: Observation) -> dict[str, str]:
    """Return the facts besides the catalogue on which the certificate is based: the fence and, for a read by the fence,
    the clocks."""
    found = {"fence": str(value["fence"])} if value.get("fence") else {}
    if read.method != METHOD:
        return found
    clocks = (
        f"the clocks of source and runner: the source's is {at.offset.most:+,.3f} s from the runner's, as at the"
        f" last run, within {MOST_STEP.total_seconds():.0f} s; a step there and back in between is not noticed"
    )
    return {**found, "clocks": clocks}


def _remarks(config: TableConfig, name: str, table: SourceTable, at: Observation) -> tuple[str, ...]:
    column = table.column(name)
    found = []
    if config.watermark_set_by == "database":
        found.append(f"{name} is declared as set by the database: this is not checked")
    if column is not None and column.base_type != "timestamptz":
        found.append(f"{name} has no time zone: 12 hours are read again, so that every zone of a writer is covered")
    if at.prepared_transactions:
        found.append(
            f"{at.prepared_transactions} prepared transactions do not show when they began: the watermark stays"
            " where it is until they end (see pg_prepared_xacts)"
        )
    return tuple(found)
