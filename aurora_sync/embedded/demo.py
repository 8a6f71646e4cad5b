"""``aurora-sync demo``: sync seven legacy tables through S3 into a warehouse, also while writers change them."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from psycopg2 import sql

from aurora_sync.config.loader import expand, load
from aurora_sync.config.settings import Settings
from aurora_sync.config.tables import TableConfig
from aurora_sync.embedded import legacy
from aurora_sync.embedded.stack import Stack
from aurora_sync.embedded.writers import Writers
from aurora_sync.engine import batch
from aurora_sync.engine.places import Places
from aurora_sync.engine.report import receipt_line
from aurora_sync.model.receipt import Receipt
from aurora_sync.provisioning import replication
from aurora_sync.warehouse import sync_log
from aurora_sync.warehouse.located import find_target
from aurora_sync.warehouse.query_tag import QueryTag

# A fixed seed makes two runs of the demo comparable.
SEED = 1


@dataclass(frozen=True)
class TableResult:
    """Numbers of rows on both sides, counted after the last sync, when the writers have stopped."""

    table: str
    strategy: str
    source_rows: int
    target_rows: int

    @property
    def equal(self) -> bool:
        return self.source_rows == self.target_rows


def demo(directory: Path, *, seconds: float, as_json: bool) -> int:
    """Run the demo on the stack in ``directory``, and start the stack. Return 0 if all row counts agree, else 1."""

    def say(text: str = "") -> None:
        if not as_json:
            print(text, flush=True)

    began = time.monotonic()
    say(f"Starting PostgreSQL, an S3 server and a DuckDB warehouse in {directory}/ ...")
    with Stack(directory) as stack:
        os.environ.update(stack.environment())
        settings = Settings.from_environment(os.environ)
        places = Places.from_settings(settings)
        made = legacy.create(settings.dsn)
        tables = expand(load(settings.tables), ())
        for step in replication.set_up_all(settings.dsn, tables):
            say(f"  {step.what}: {step.because}")
        say(
            f"The servers run after {time.monotonic() - began:.1f} s; the legacy database "
            + ("was created" if made else "exists from an earlier demo")
        )

        say("\nFirst sync: it reads whole tables" if made else "\nFirst sync: it reads the changes since the last demo")
        receipts = _sync(tables, places, say)
        say(f"\nNow four writers insert, update, delete, roll back and commit out of order for {seconds:.0f} s;")
        say("syncs run at the same time")
        with Writers(settings.dsn, SEED) as writers:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                receipts += _sync(tables, places, say)
                say()
        say("Writers stopped after " + ", ".join(f"{n} {what}" for what, n in sorted(writers.committed.items())))
        say("\nLast sync: it reads the remaining changes")
        receipts += _sync(tables, places, say)
        compared = [_compare(table, settings.dsn, places) for table in tables]

    say(f"\n{'table':<22}{'strategy':<15}{'rows in source':>15}{'rows in target':>15}")
    for each in compared:
        verdict = "equal" if each.equal else "DIFFERENT"
        say(f"{each.table:<22}{each.strategy:<15}{each.source_rows:>15,}{each.target_rows:>15,}  {verdict}")
    equal = all(each.equal for each in compared)
    if as_json:
        document = [{**vars(each), "equal": each.equal} for each in compared]
        print(json.dumps({"equal": equal, "tables": document, "runs": len(receipts)}))
    say(f"\n{len(receipts)} runs in {time.monotonic() - began:.0f} s. Next: make ui, or .venv/bin/aurora-sync status")
    return 0 if equal else 1


def _sync(tables: list[TableConfig], places: Places, say: Callable[[str], None]) -> list[Receipt]:
    receipts: list[Receipt] = []

    def keep(receipt: Receipt) -> None:
        receipts.append(receipt)
        say(f"  {receipt_line(receipt)}")

    for each in batch.batches(tables, tables):
        batch.run(each, places, keep)
    return receipts


def _compare(table: TableConfig, dsn: str, places: Places) -> TableResult:
    with contextlib.closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table.schema_, table.table_name)))
        ((source,),) = cursor.fetchall()
    with places.warehouse.session(query_tag=QueryTag.of(table, "read")) as session:
        target, columns = find_target(session, table)
        present = sync_log.count_present(session, target, columns)
    return TableResult(table.qualified_name, table.watermark_type.value, source, present)
