"""``watermark_type: outbox``: by the keys that triggers of the table write down, deletes included.

A row is read as the snapshot sees it, or is gone, however often and in whichever order it was written: there is no
order that could be got wrong. What the last run's snapshot saw is taken out of the outbox once it is in the warehouse
(source/outbox.py); whatever is still there, or there again, is read again and changes nothing.

The target must have everything that was ever taken out. So the outbox remembers what the snapshot saw that it was
emptied by, and a target whose own snapshot saw less is scanned: it was restored, or is one of two that share an
outbox. Scanned, by the horizon and with a reconcile, is also a table whose triggers were made anew or were off for a
moment, and one to which happened what no trigger sees: TRUNCATE of a partition, ATTACH, a server that restarted.
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

_APPLY = "`aurora-sync triggers plan` shows what is missing, and `apply` makes it"


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
            found.append(f"no trigger writes down which rows of {table.qualified_name} change: {_APPLY}")
            return found
        if set(outbox.key) != set(key):
            found.append(
                f"its triggers write down ({', '.join(outbox.key)}), and the merge key is ({', '.join(key)}): remove"
                " them and apply them again"
            )
        if not outbox.complete:
            found.append(
                "its triggers do not fire for every row, were switched off, or write a key of its type as the session"
                f" has it: {_APPLY}"
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
            return scan(since, at).because(f"scanned, and the outbox not used: {why}")
        return ReadPlan(named(table, outbox), Disposition.CHANGES, "outbox", outbox=outbox)

    def advance(
        self, config: TableConfig, table: SourceTable, since: Since | None, at: Observation
    ) -> dict[str, object]:
        """What the target has seen once it has these rows. Nothing on a reader, whose snapshots do not say which
        transactions are in progress."""
        if at.token.in_recovery:
            return {}
        return {"outbox": _outbox(table).version, "snapshot": at.seen(OutboxFence).snapshot}

    def evidence(self, value: Mapping[str, Any], read: ReadPlan, at: Observation) -> dict[str, str]:
        if "snapshot" not in value:
            return {}
        text = f"triggers {value['outbox']}, every key that snapshot {value['snapshot']} sees"
        if read.outbox and not read.outbox.watched:
            text += "; nothing notes what others take out of it: `aurora-sync triggers apply` does"
        return {"outbox": text}

    def acknowledgement(self, value: Mapping[str, Any]) -> str:
        return str(value.get("snapshot", ""))


def ambiguous(table: SourceTable, key: Collection[str]) -> list[str]:
    """Columns whose text does not tell all keys apart: zero and minus zero are one key and two texts."""
    return [
        f"{column.name} of the merge key is {column.type_name}: a trigger would write down its text, which does"
        " not tell all values apart; use watermark_type: xmin"
        for column in table.columns
        if column.name in key and column.base_type in FLOATS
    ]


def named(table: SourceTable, outbox: Outbox) -> sql.Composable:
    """The rows of the table that the outbox names."""
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
        return "AURORA_DSN leads to a reader, and the outbox can be emptied on the writer only"
    if not _seen(watermark):
        return "the last run did not read it"
    if watermark.value["outbox"] != outbox.version:
        return "its triggers were made anew, or touched, since the last run"
    if fence.emptied is None:
        return "it was emptied by hand"
    if not Visible.parse(_seen(watermark)).includes(Visible.parse(fence.emptied)):
        return (
            "it was emptied of more than the target has: another deployment empties it too, or the source or the target"
            " was restored"
        )
    if fence.forged:
        return (
            "an entry of it was not written by its triggers: who may INSERT into"
            f" {'.'.join(outbox.relation)} beside the table's triggers? The entry is taken out after this run"
        )
    return since.only_scan


def _seen(watermark: Watermark) -> str:
    return str(watermark.value.get("snapshot", "")) if watermark.strategy == ByOutbox.name else ""


def _outbox(table: SourceTable) -> Outbox:
    if table.outbox is None:
        raise DefectError("the table has no outbox", where=table.qualified_name)
    return table.outbox
