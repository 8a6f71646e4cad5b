"""A pgbench database that is written to during the syncs, and compared row by row afterwards."""

from __future__ import annotations

import subprocess

import pytest

from aurora_sync.embedded import postgres
from aurora_sync_tests.scenarios.world import World, config

# Transactions a second. Without a limit, pgbench takes the CPU that the other tests need.
RATE = 500

# No table has a time of the last change, and pgbench_history has no key.
TABLES = [
    config("pgbench_accounts"),
    config("pgbench_tellers"),
    config("pgbench_branches", "full_snapshot"),
    config("pgbench_history", append_only=True),
    config("pgbench_history", "full_snapshot", target_table="history_as_a_multiset"),
]


# Every transaction updates one branch, and the scale is the number of branches: with fewer branches than clients,
# clients wait for each other.
@pytest.mark.parametrize(
    ("clients", "scale", "seconds"),
    [(2, 2, 2), pytest.param(4, 4, 4, marks=pytest.mark.long), pytest.param(4, 10, 10, marks=pytest.mark.long)],
)
def test_tables_that_pgbench_writes_are_equal_afterwards(world: World, clients: int, scale: int, seconds: int) -> None:
    pgbench = [str(postgres._wheel_programs() / "pgbench"), "--no-vacuum"]
    subprocess.run([*pgbench, "-i", "-q", "-s", str(scale), world.dsn], check=True, capture_output=True)
    for table in TABLES:
        world.sync(table)

    writing = [*pgbench, "-c", str(clients), "--rate", str(RATE), "-T", str(seconds), "--random-seed=1", world.dsn]
    rounds = exported = 0
    while rounds < 2:  # a second round, if one takes as long as pgbench writes
        with subprocess.Popen(writing, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pgbench_run:
            while pgbench_run.poll() is None:
                receipts = [world.sync(table) for table in TABLES]
                rounds += 1
                exported += sum(receipt.rows_exported for receipt in receipts)
            assert pgbench_run.stdout is not None
            output = pgbench_run.stdout.read()
        assert pgbench_run.returncode == 0, output
    for table in TABLES:
        receipt = world.sync(table)
        assert receipt.source_rows in (None, receipt.target_rows)  # None when there was nothing to apply

    ((transactions,),) = world.execute("SELECT count(*) FROM pgbench_history")
    print(f"{transactions} transactions during {rounds} rounds, {exported} rows exported in them")
    assert transactions > 0
    for table in TABLES:
        world.assert_equal(table)
