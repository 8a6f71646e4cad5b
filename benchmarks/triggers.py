"""Measure writes with triggers: pgbench on a table with none, with an outbox, and with audit columns.

::

    python benchmarks/triggers.py --seconds 10 --pairs 5

It runs on the embedded stack in a temporary directory, in alternating rounds. It prints medians of ratios to the table
without triggers, with their range: the time of a transaction that updates one row, and of a statement that updates
10,000 rows. It also prints the time of the backfill of ``updated_at``, as a ratio to one UPDATE of the whole table.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path

import psycopg2

from aurora_sync.embedded.stack import Stack
from aurora_sync.provisioning.triggers.backfill import backfill
from aurora_sync.provisioning.triggers.installed import TriggerKind
from aurora_sync.provisioning.triggers.plan import missing_steps
from aurora_sync.provisioning.triggers.steps import run_steps
from aurora_sync.source import catalogue
from aurora_sync.source.connection import connect

KINDS: dict[str, TriggerKind | None] = {
    "none": None,
    "outbox": TriggerKind.outbox,
    "audit_columns": TriggerKind.audit_columns,
}
ONE = "\\set id random(1, {rows})\nUPDATE bench.{table} SET balance = balance + 1 WHERE id = :id;\n"
MANY = "UPDATE bench.{table} SET balance = balance + 1 WHERE id BETWEEN {first} AND {first} + 9999"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=5, help="of pgbench, in each round")
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    taken: dict[str, dict[str, list[float]]] = {"one": {}, "many": {}}
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder) / "stack") as stack:
        dsn = stack.environment()["AURORA_DSN"]
        whole, filled = make(dsn, arguments.rows)
        pgbench = str(stack.postgres_bin / "pgbench")
        for _ in range(arguments.pairs):
            for kind in KINDS:
                script = Path(folder) / "script.sql"
                script.write_text(ONE.format(rows=arguments.rows, table=kind), encoding="utf-8")
                run = [pgbench, "-n", "-f", str(script), "-T", str(arguments.seconds), dsn]
                output = subprocess.run(run, check=True, capture_output=True, text=True).stdout
                latency = re.search(r"latency average = ([0-9.]+) ms", output)
                assert latency, output
                taken["one"].setdefault(kind, []).append(float(latency[1]))
                taken["many"].setdefault(kind, []).append(statement(dsn, MANY.format(table=kind, first=1)))
    for what, text in (("one", "one row in a transaction"), ("many", "10,000 rows in a statement")):
        print(f"{text}: {statistics.median(taken[what]['none']):.2f} ms without triggers")
        for kind in list(KINDS)[1:]:
            ratios = [mine / bare for mine, bare in zip(taken[what][kind], taken[what]["none"], strict=True)]
            print(f"  {kind:<15} {statistics.median(ratios):.2f}  ({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"backfill of {arguments.rows:,} rows, busy 1: {arguments.rows / filled:,.0f} rows per second")
    print(f"  / one UPDATE    {filled / whole:.2f}")


def make(dsn: str, rows: int) -> tuple[float, float]:
    """Create the three tables. Return the seconds of one UPDATE of a whole table, and of the backfill."""
    whole = filled = 0.0
    statement(dsn, "CREATE SCHEMA bench")
    for name, kind in KINDS.items():
        create = f"CREATE TABLE bench.{name} (id int PRIMARY KEY, balance int, filler char(84))"
        for each in (create, f"INSERT INTO bench.{name} SELECT n, 0, '' FROM generate_series(1, {rows}) n"):
            statement(dsn, each)
        statement(dsn, f"VACUUM ANALYZE bench.{name}")
        if kind is None:
            whole = statement(dsn, f"UPDATE bench.{name} SET filler = 'x'") / 1000
        else:
            with connect(dsn) as connection:
                (table,) = catalogue.load(connection, [("bench", name)]).values()
                list(run_steps(connection, missing_steps(connection, table, kind, reader="")))
                if kind is TriggerKind.audit_columns:
                    began = time.perf_counter()
                    list(backfill(connection, table, busy=1))
                    filled = time.perf_counter() - began
        statement(dsn, f"VACUUM (FULL, ANALYZE) bench.{name}")
    return whole, filled


def statement(dsn: str, text: str) -> float:
    """Run a statement. Return its time in milliseconds."""
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        began = time.perf_counter()
        cursor.execute(text)
        return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
