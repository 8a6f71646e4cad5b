"""``watermark_type: outbox``: rows by the keys that triggers of the table write to an outbox, deletes included.

For each key a run reads the row as its snapshot sees it, or finds that the row does not exist. The number and order of
earlier writes do not matter. After the rows are in the warehouse, the entries that the snapshot saw are deleted from
the outbox (source/outbox.py). An entry that is still there, or that was written again, is read again without harm.

The target must have every change whose entry was ever deleted. So the outbox stores the snapshot by which it was
emptied. If the snapshot in the target's watermark saw less, the table is scanned: the target was restored, or two
targets share an outbox. A table is also scanned, by the horizon and with a reconcile, after its triggers were recreated
or disabled, and after events that no trigger sees: TRUNCATE of a partition, ATTACH, a restart of the server.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from psycopg2 import sql

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import DefectError
from aurora_sync.model.fences import OutboxFence, OutboxRequest, Visible
from aurora_sync.model.keys import FLOATS
from aurora_sync.model.manifest import Disposition
from aurora_sync.model.observation import Observation
from aurora_sync.model.relation import Outbox, SourceTable
from aurora_sync.model.watermark import Watermark
from aurora_sync.strategies.base import ReadPlan, Since, Strategy, not_a_heap, scan

_APPLY = "`aurora-sync triggers plan` shows what is missing, and `aurora-sync triggers apply` creates it"


class ByOutbox(Strategy):
    name = "outbox"
    sees_updates = True
    sees_deletes = True
    needs_triggers = True

    def problems(self, config: TableConfig, table: SourceTable) -> list[str]:
        found = not_a_heap(table, "no row trigger fires for it")
        if found:
            return found
        key, outbox = tuple(config.primary_key or table.primary_key), table.outbox
        found = ambiguous(table, key)
        if outbox is None:
            found.append(f"no trigger records which rows of {table.qualified_name} change: {_APPLY}")
            return found
        if set(outbox.key) != set(key):
            found.append(
                f"its triggers record ({', '.join(outbox.key)}), but the merge key is ({', '.join(key)}): remove the"
                " triggers and apply them again"
            )
        if not outbox.complete:
            found.append(
                "its triggers do not fire for every row, were switched off, or write a key in a form that depends on"
                f" the session: {_APPLY}"
            )
        if not outbox.usable:
            found.append(f"this role may not read and empty its outbox: {_APPLY}")
        return found

    def fence(self, config: TableConfig) -> OutboxRequest:
        return OutboxRequest()

    def plan(self, config: TableConfig, table: SourceTable, since: Since | None, at: Observation) -> ReadPlan:
        outbox = _outbox(table)
        if since is None:
            return scan(since, at)
        if why := _why_scan(outbox, since, at):
            return scan(since, at).because(f"scanned without the outbox: {why}")
        return ReadPlan(named(table, outbox), Disposition.CHANGES, "outbox", outbox=outbox)

    def advance(
        self, config: TableConfig, table: SourceTable, since: Since | None, at: Observation
    ) -> dict[str, object]:
        """Return the version of the outbox and the snapshot that the target covers. Return nothing on a reader, whose
        snapshots do not show which transactions are in progress."""
        if at.token.in_recovery:
            return {}
        return {"outbox": _outbox(table).version, "snapshot": at.seen(OutboxFence).snapshot}

    def evidence(self, value: Mapping[str, Any], read: ReadPlan, at: Observation) -> dict[str, str]:
        if "snapshot" not in value:
            return {}
        text = f"triggers {value['outbox']}, every key that snapshot {value['snapshot']} sees"
        if read.outbox and not read.outbox.watched:
            text += "; deletes by others are not recorded: `aurora-sync triggers apply` adds this"
        return {"outbox": text}

    def acknowledgement(self, value: Mapping[str, Any]) -> str:
        return str(value.get("snapshot", ""))


def ambiguous(table: SourceTable, key: Collection[str]) -> list[str]:
    """Return a problem for each key column whose text is ambiguous: 0 and -0 are one key and two texts."""
    return [
        f"{column.name} of the merge key is {column.type_name}: a trigger would record its text, which is"
        " not unique for each value; use watermark_type: xmin"
        for column in table.columns
        if column.name in key and column.base_type in FLOATS
    ]


def named(table: SourceTable, outbox: Outbox) -> sql.Composable:
    """Return the predicate for the rows of the table whose keys are in the outbox."""
    types = {column.name: column.type_name for column in table.columns}
    keys = [sql.SQL("o.{}::{}").format(sql.Identifier(name), sql.SQL(types[name])) for name in outbox.key]
    return sql.SQL("({}) IN (SELECT {} FROM {} o)").format(
        sql.SQL(", ").join(map(sql.Identifier, outbox.key)),
        sql.SQL(", ").join(keys),
        sql.Identifier(*outbox.relation),
    )


def _why_scan(outbox: Outbox, since: Since, at: Observation) -> str:
    fence, watermark = at.seen(OutboxFence), since.watermark
    if at.token.in_recovery:
        return "AURORA_DSN connects to a reader, and the outbox can be emptied on the writer only"
    if not _seen(watermark):
        return "the last run did not read the outbox"
    if watermark.value["outbox"] != outbox.version:
        return "its triggers were recreated or altered since the last run"
    if fence.emptied is None:
        return "the outbox was emptied by hand"
    if not Visible.parse(_seen(watermark)).includes(Visible.parse(fence.emptied)):
        return (
            "entries that the target does not have were removed from the outbox: another deployment empties it too, or"
            " the source or the target was restored"
        )
    if fence.forged:
        return (
            "an entry of the outbox was not written by the triggers: revoke INSERT on"
            f" {'.'.join(outbox.relation)} from other roles; this run removes the entry"
        )
    return since.only_scan


def _seen(watermark: Watermark) -> str:
    return str(watermark.value.get("snapshot", "")) if watermark.strategy == ByOutbox.name else ""


def _outbox(table: SourceTable) -> Outbox:
    if table.outbox is None:
        raise DefectError("the table has no outbox", where=table.qualified_name)
    return table.outbox
