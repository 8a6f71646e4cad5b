"""Measure the assessment of many tables: its time as a ratio to ``pg_dump --schema-only``, and its queries.

::

    python benchmarks/assess.py --tables 1000 --pairs 5

It runs on the embedded stack in a temporary directory, in alternating pairs, and prints medians with their range. The
tables are empty, because an assessment reads no table.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from contextlib import closing, redirect_stdout
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extensions

from aurora_sync.advisor.evidence import collect_evidence
from aurora_sync.advisor.recommend import recommend
from aurora_sync.cli.main import main as aurora_sync
from aurora_sync.config.advisor import Advisor
from aurora_sync.embedded.stack import Stack
from aurora_sync.source import table_names
from aurora_sync.source.connection import PinnedCursor, connect

COLUMNS = ", ".join(f"c{n} text" for n in range(15))
KEYS = (
    "id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, updated_at timestamptz DEFAULT now()",
    "id serial PRIMARY KEY, modified timestamp",
    "a int, b int, PRIMARY KEY (a, b)",
    "id uuid PRIMARY KEY",
    "v text",
)


class Counting(PinnedCursor):
    queries = 0

    def execute(self, *arguments: Any) -> None:
        Counting.queries += 1
        super().execute(*arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=1_000)
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder) / "stack") as stack:
        os.environ.update(stack.environment())
        dsn = os.environ["AURORA_DSN"]
        with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute("CREATE SCHEMA many")
            for number in range(arguments.tables):
                key = KEYS[number % len(KEYS)]
                cursor.execute(f"CREATE TABLE many.t{number} ({key}, {COLUMNS})")
            cursor.execute("ANALYZE")
        page = Path(folder) / "page.html"
        dump = [str(stack.postgres_bin / "pg_dump"), "--schema-only", "--schema=many", dsn]
        seconds: dict[str, list[float]] = {"pg_dump": [], "assess": [], "command": []}
        for _ in range(arguments.pairs):
            seconds["pg_dump"].append(timed(lambda: subprocess.run(dump, check=True, capture_output=True)))
            seconds["assess"].append(timed(lambda: assess(dsn)))
            seconds["command"].append(timed(lambda: command(page)))
        size = page.stat().st_size
    ratios = [mine / theirs for mine, theirs in zip(seconds["assess"], seconds["pg_dump"], strict=True)]
    print(f"{arguments.tables:,} tables of {len(KEYS)} kinds, {arguments.pairs} pairs")
    print(f"  queries of one assessment     {Counting.queries // arguments.pairs}")
    print(f"  assess / pg_dump -s           {statistics.median(ratios):.2f}  ({min(ratios):.2f} to {max(ratios):.2f})")
    for name, taken in seconds.items():
        print(f"  seconds, {name:<20} {statistics.median(taken):.2f}")
    print(f"  bytes of the page             {size:,}")


def assess(dsn: str) -> None:
    with connect(dsn, cursor_factory=Counting) as connection:
        recommend(collect_evidence(connection, table_names.existing(connection)), Advisor())


def command(page: Path) -> None:
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        assert aurora_sync(["assess", "--html", str(page)]) == 0


def timed(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
