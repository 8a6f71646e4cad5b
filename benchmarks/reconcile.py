"""Measure reconcile and verify, as ratios to ``SELECT count(*)`` and to a full sync of the same table.

::

    python benchmarks/reconcile.py --rows 2000000 --pairs 5

Everything runs on the embedded stack in a temporary directory, in alternating rounds. The medians of the ratios are
printed with their range. Then rows of the target are deleted, changed and added, and one reconcile repairs them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg2

from aurora_sync.config.settings import Settings
from aurora_sync.config.tables import TableConfig
from aurora_sync.embedded.stack import Stack
from aurora_sync.engine.places import Places
from aurora_sync.engine.sync import run, verify

# The same rows with two kinds of keys: an integer is its own bucket number, that of a text is 15 digits of its MD5.
KEYS = {"integer": "id bigint PRIMARY KEY", "text": "id text PRIMARY KEY"}
COLUMNS = "name text, price numeric(12,2), flag boolean, made timestamptz, note text"
ROWS = "n, 'name ' || n, n / 7.0, n % 2 = 0, now() - n * interval '1 s', repeat('x', 40)"
INJECTED = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder) / "stack") as stack:
        os.environ.update(stack.environment())
        places = Places.from_settings(Settings.from_environment(os.environ))
        found = {kind: measure(places, kind, arguments.rows, arguments.pairs) for kind in KEYS}
    if arguments.json:
        print(json.dumps({"rows": arguments.rows, **found}))
        return
    for kind, figures in found.items():
        print(f"{arguments.rows:,} rows, {kind} key")
        for name, value in figures.items():
            print(f"  {name:<42} {value}")


def measure(places: Places, kind: str, rows: int, pairs: int) -> dict[str, str]:
    table = TableConfig(table_name=kind, watermark_type="xmin")
    with closing(psycopg2.connect(places.source.dsn)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(f"CREATE TABLE {kind} ({KEYS[kind]}, {COLUMNS})")
        cursor.execute(f"INSERT INTO {kind} SELECT {ROWS} FROM generate_series(1, {rows}) n")
        cursor.execute(f"VACUUM ANALYZE {kind}")

        def count() -> None:
            cursor.execute(f"SELECT count(*) FROM {kind}")

        run(table, places)
        sides: dict[str, Callable[[], object]] = {
            "count(*) of the source": count,
            "full sync": lambda: run(table, places, full=True),
            "run with nothing new": lambda: run(table, places),
            "reconcile": lambda: run(table, places, reconcile=True),
            "verify": lambda: verify(table, places),
        }
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(pairs):
            for name, work in sides.items():
                began = time.perf_counter()
                work()
                seconds[name].append(time.perf_counter() - began)
    figures = {}
    for name in ("reconcile", "verify"):
        for other in ("count(*) of the source", "full sync"):
            ratios = [mine / theirs for mine, theirs in zip(seconds[name], seconds[other], strict=True)]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            figures[f"{name} / {other}"] = f"{statistics.median(ratios):.2f}  ({spread})"
    figures |= {f"seconds, {name}": f"{statistics.median(taken):.2f}" for name, taken in seconds.items()}
    return figures | {"repair of injected corruption": corrupt_and_repair(places, table, rows)}


def corrupt_and_repair(places: Places, table: TableConfig, rows: int) -> str:
    """Delete, change and add INJECTED rows each, spread over the target. Repair them, and describe the repair."""
    target = f'"PUBLIC"."{table.table_name.upper()}"'
    step = rows // (3 * INJECTED)
    ids = [[f"'{n}'" for n in range(1 + kind * step, rows, 3 * step)][:INJECTED] for kind in range(3)]
    lost, stale, ghosts = (", ".join(some) for some in ids)
    invented = '"ID" + 1000000000' if table.table_name == "integer" else "\"ID\" || 'x'"
    numbered = "" if table.table_name == "integer" else ', "_KEY_NO"'
    with places.warehouse.session() as session:
        session.query(f'DELETE FROM {target} WHERE "ID" IN ({lost})')
        session.query(f'UPDATE {target} SET "NAME" = \'old\', "_SRC_XMIN" = 3 WHERE "ID" IN ({stale})')
        session.query(
            f'INSERT INTO {target} ("ID", "NAME", "_SRC_XMIN", "_RUN_SEQ"{numbered})'
            f' SELECT {invented}, "NAME", "_SRC_XMIN", 1{numbered} FROM {target} WHERE "ID" IN ({ghosts})'
        )
    repair = run(table, places, reconcile=True).repair
    assert repair is not None
    verification = verify(table, places).verification
    assert verification is not None
    return (
        f"{repair.lost} lost, {repair.stale} stale, {repair.ghosts} ghosts; {repair.rows_moved:,} of {rows:,} rows"
        f" moved; equal afterwards: {verification.equal}"
    )


if __name__ == "__main__":
    main()
