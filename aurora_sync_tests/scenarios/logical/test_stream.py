"""A slot's changes in the target: every kind of change, one transaction for all tables, and the slot is advanced
last."""

from __future__ import annotations

from typing import Any

import pytest

from aurora_sync.engine.runners import slot as runner
from aurora_sync.engine.runners.member import apply_changes
from aurora_sync.errors import ConfigError, Kind, SourceError
from aurora_sync.model.watermark import Token
from aurora_sync.source import reading
from aurora_sync.source.fences import slot as slot_fence
from aurora_sync.source.logical import slot
from aurora_sync_tests.scenarios.logical.conftest import Streamed
from aurora_sync_tests.scenarios.world import config

LONG = "repeat(md5('{}'), 1000)"  # 32 kB that hardly compress, so they are stored out of line


def test_a_scan_comes_first_and_then_the_stream(streamed: Streamed) -> None:
    world, table = streamed.world, streamed.table()
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, doc text, n int)",
        "ALTER TABLE t ALTER doc SET STORAGE EXTERNAL",
        f"INSERT INTO t SELECT g, {LONG.format('a')}, 0 FROM generate_series(1, 100) g",
    )
    assert streamed.setup(table) == [f"create publication {streamed.name}", f"create replication slot {streamed.name}"]
    assert streamed.setup(table) == []
    first = streamed.one(table)
    assert (first.method, first.inserted) == ("whole table", 100)
    world.execute(
        "UPDATE t SET n = 1 WHERE id <= 10",  # does not repeat doc
        "UPDATE t SET id = id + 1000 WHERE id <= 5",  # nor does this
        "UPDATE t SET n = 2 WHERE id > 1000",
        "DELETE FROM t WHERE id = 50",
        "INSERT INTO t VALUES (50, '', NULL), (51000, NULL, 7)",
        "DELETE FROM t WHERE id BETWEEN 60 AND 69",
        "INSERT INTO t VALUES (2000, 'gone again', 1)",
        "DELETE FROM t WHERE id = 2000",
    )
    second = streamed.one(table)
    assert second.method == f"stream of slot {streamed.name}"
    assert (second.deleted, second.target_rows) == (15, 91)
    world.assert_equal(table)
    third = streamed.one(table)
    assert not third.changed
    assert third.run_sequence == second.run_sequence
    assert streamed.world.assert_verified(table) == 91


def test_tables_of_a_slot_land_in_one_transaction(streamed: Streamed) -> None:
    world, parents, children = streamed.world, streamed.table("parents"), streamed.table("children")
    world.execute(
        "CREATE TABLE parents (id int PRIMARY KEY)",
        "CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents)",
    )
    streamed.setup(parents, children)
    streamed.run(parents, children)
    world.execute(
        "INSERT INTO parents SELECT generate_series(1, 50)",
        "INSERT INTO children SELECT g, g FROM generate_series(1, 50) g",
        "TRUNCATE parents CASCADE",
        "INSERT INTO parents VALUES (7)",
        "INSERT INTO children VALUES (1, 7)",
    )
    sessions = world.warehouse.sessions
    receipts = streamed.run(parents, children)
    assert world.warehouse.sessions == sessions + 1
    assert [receipt.target_rows for receipt in receipts.values()] == [1, 1]
    for table in (parents, children):
        world.assert_equal(table)


def test_an_idle_slot_wakes_no_warehouse(streamed: Streamed) -> None:
    world, table = streamed.world, streamed.table()
    world.execute("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    streamed.setup(table)
    streamed.one(table)
    sessions = world.warehouse.sessions
    for _ in range(3):
        assert not streamed.one(table).changed
    assert world.warehouse.sessions == sessions


def test_partitions_stream_under_the_name_of_their_table(streamed: Streamed) -> None:
    world, table = streamed.world, streamed.table()
    world.execute(
        "CREATE TABLE t (id int, half int, v text, PRIMARY KEY (id, half)) PARTITION BY LIST (half)",
        "CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1)",
        "CREATE TABLE t2 (v text, half int NOT NULL, id int NOT NULL, PRIMARY KEY (id, half))",
        "ALTER TABLE t ATTACH PARTITION t2 FOR VALUES IN (2)",
        "INSERT INTO t SELECT g, 1 + g % 2, 'a' FROM generate_series(1, 20) g",
    )
    streamed.setup(table)
    streamed.one(table)
    world.execute(
        "UPDATE t SET half = 3 - half WHERE id < 5",  # moves rows between partitions
        "UPDATE t2 SET v = 'b' WHERE id = 11",
        "DELETE FROM t WHERE id = 20",
        "INSERT INTO t VALUES (30, 1, 'new')",
    )
    assert streamed.one(table).method.startswith("stream")
    world.assert_equal(table)
    # A change of one partition's definition is not a change of the table: a scan finds it.
    world.execute("TRUNCATE t1", "INSERT INTO t VALUES (40, 1, 'later')")
    receipt = streamed.one(table)
    assert receipt.method == "horizon scan"
    world.assert_equal(table)
    world.execute(
        "CREATE TABLE t3 (id int NOT NULL, half int NOT NULL, v text, PRIMARY KEY (id, half))",
        "INSERT INTO t3 VALUES (50, 3, 'older than the partition')",
        "ALTER TABLE t ATTACH PARTITION t3 FOR VALUES IN (3)",
    )
    streamed.one(table)
    world.assert_equal(table)
    world.execute("UPDATE t SET v = 'after' WHERE half = 3")
    assert streamed.one(table).method.startswith("stream")
    world.assert_equal(table)


@pytest.mark.parametrize("strategy", ["xmin", "full_snapshot"])
def test_a_table_changes_to_the_stream_and_back_without_a_reload(streamed: Streamed, strategy: str) -> None:
    world, cursor, table = streamed.world, config("t", strategy), streamed.table()
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t SELECT g, 0 FROM generate_series(1, 1000) g"
    )
    world.sync(cursor)
    streamed.setup(table)
    for round_ in range(2):
        world.execute(f"UPDATE t SET v = {round_ + 1} WHERE id = 1", f"DELETE FROM t WHERE id = {round_ + 10}")
        scanned = streamed.one(table)
        if strategy == "xmin":
            assert (scanned.method, scanned.disposition.value) == ("horizon scan", "upsert")
        world.assert_equal(table)
        world.execute(f"UPDATE t SET v = {round_ + 5} WHERE id = 2", f"DELETE FROM t WHERE id = {round_ + 20}")
        assert streamed.one(table).method.startswith("stream")
        world.assert_equal(table)
        world.execute(f"UPDATE t SET v = {round_ + 7} WHERE id = 3")
        back = world.sync(cursor)
        if strategy == "xmin":
            assert (back.method, back.disposition.value) == ("horizon scan", "upsert")
        world.assert_equal(table)


def test_columns_may_change_in_the_middle_of_the_stream(streamed: Streamed) -> None:
    world, table = streamed.world, streamed.table()
    world.execute("CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 1), (2, 2)")
    streamed.setup(table)
    streamed.one(table)
    world.execute(
        "UPDATE t SET v = 3 WHERE id = 1",
        "ALTER TABLE t ADD w text DEFAULT 'x'",
        "INSERT INTO t VALUES (3, 3, 'y')",
        "ALTER TABLE t RENAME v TO u",
        "DELETE FROM t WHERE id = 2",
    )
    streamed.one(table)
    world.assert_equal(table)
    world.execute("UPDATE t SET w = 'z' WHERE id = 3", "INSERT INTO t VALUES (4, 4, 'w')")
    assert streamed.one(table).method.startswith("stream")
    world.assert_equal(table)
    world.execute("ALTER TABLE t DROP u, ADD v2 bigint", "INSERT INTO t VALUES (5, 'a', 5)")
    streamed.one(table)
    world.execute("INSERT INTO t VALUES (6, 'a', 5)")
    assert streamed.one(table).method.startswith("stream")
    assert world.assert_verified(table) == 5


def test_a_source_that_is_not_prepared_is_refused_with_all_that_is_missing(streamed: Streamed) -> None:
    world, table, other = streamed.world, streamed.table(), streamed.table("u", primary_key=["id"])
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY)",
        "CREATE TABLE u (id int NOT NULL UNIQUE, v int)",
        "INSERT INTO t VALUES (1)",
    )
    with pytest.raises(ConfigError, match="cdc setup") as error:
        streamed.run(table, other)
    missing = ["index u_id_key", f"create publication {streamed.name}", f"create replication slot {streamed.name}"]
    assert all(text in str(error.value) for text in missing)
    assert len(streamed.setup(table, other)) == 3
    streamed.run(table, other)
    world.execute(
        "INSERT INTO u VALUES (1, 1)", "UPDATE u SET v = 2", "INSERT INTO u VALUES (2, 2)", "DELETE FROM u WHERE id = 2"
    )
    streamed.run(table, other)
    world.assert_equal(other)


def test_a_slot_that_was_lost_or_read_by_others_is_answered_by_a_scan(streamed: Streamed) -> None:
    world, table = streamed.world, streamed.table()
    world.execute("CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 1), (2, 2)")
    streamed.setup(table)
    streamed.one(table)
    world.execute("INSERT INTO t VALUES (3, 3)", "DELETE FROM t WHERE id = 1")
    world.execute(f"SELECT pg_replication_slot_advance('{streamed.name}', pg_current_wal_lsn())")
    assert streamed.one(table).method == "horizon scan"
    world.assert_equal(table)
    world.execute("INSERT INTO t VALUES (4, 4)")
    assert streamed.one(table).method.startswith("stream")
    world.execute("DELETE FROM t WHERE id = 2", f"SELECT pg_drop_replication_slot('{streamed.name}')")
    with pytest.raises(ConfigError, match="create replication slot"):
        streamed.one(table)
    world.execute("INSERT INTO t VALUES (5, 5)")
    streamed.setup(table)
    world.execute("INSERT INTO t VALUES (6, 6)")
    assert streamed.one(table).method == "horizon scan"
    world.assert_equal(table)


def test_a_table_joins_and_leaves_without_the_others_noticing(streamed: Streamed) -> None:
    world, table, late = streamed.world, streamed.table(), streamed.table("late")
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY)",
        "CREATE TABLE late (id int PRIMARY KEY, v int)",
        "INSERT INTO t VALUES (1)",
    )
    streamed.setup(table)
    streamed.one(table)
    with world.open_transaction("INSERT INTO late VALUES (1, 1)") as writer:
        assert streamed.setup(table, late) == [f"add public.late to publication {streamed.name}"]
        receipts = streamed.run(table, late)
        assert receipts["public.t"].method.startswith("stream")
        assert receipts["public.late"].method == "whole table"
        # The writer began before its table was published, so the stream has only its later changes.
        writer.cursor().execute("UPDATE late SET v = 2; INSERT INTO late VALUES (2, 2)")
        assert streamed.run(table, late)["public.late"].method == "horizon scan"
        writer.commit()
    receipts = streamed.run(table, late)
    assert receipts["public.late"].method == "horizon scan"
    world.assert_equal(late)
    world.execute("INSERT INTO late VALUES (3, 3)", "INSERT INTO t VALUES (2)")
    assert all(receipt.method.startswith("stream") for receipt in streamed.run(table, late).values())
    world.execute("INSERT INTO late VALUES (4, 4)", "INSERT INTO t VALUES (3)")
    assert streamed.one(table).method.startswith("stream")  # late is removed from tables.yaml, and added again
    receipts = streamed.run(table, late)
    assert receipts["public.t"].method.startswith("stream")
    for each in (table, late):
        world.assert_equal(each)


@pytest.mark.parametrize("published", ["FOR TABLE t", "FOR ALL TABLES"])
def test_what_was_not_published_for_a_while_is_scanned(
    streamed: Streamed, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ALTER PUBLICATION ... SET and back leaves the same settings, but the changes in between are not in the stream."""
    world, table = streamed.world, streamed.table()
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "INSERT INTO t SELECT g, 'a' FROM generate_series(1, 5) g",
        f'CREATE PUBLICATION "{streamed.name}" {published} WITH (publish_via_partition_root = true)',
    )
    streamed.setup(table)

    def changes() -> None:
        world.execute(
            f"ALTER PUBLICATION \"{streamed.name}\" SET (publish = 'insert')",
            "UPDATE t SET v = 'unpublished' WHERE id = 1",
            "DELETE FROM t WHERE id = 2",
            f"ALTER PUBLICATION \"{streamed.name}\" SET (publish = 'insert, update, delete, truncate')",
            "INSERT INTO t VALUES (10, 'published') ON CONFLICT (id) DO NOTHING",
        )

    streamed.one(table)
    changes()
    receipt = streamed.one(table)
    assert receipt.method.startswith("horizon scan")
    world.assert_equal(table)
    world.execute("UPDATE t SET v = 'streamed' WHERE id = 3")
    assert streamed.one(table).method.startswith("stream")
    world.assert_equal(table)
    with monkeypatch.context() as patch:  # without the versions, the run would stream and lose these rows
        patch.setattr(slot_fence, "_SLOT", slot_fence._SLOT.replace("p.oid, p.xmin, r.oid, r.xmin", "p.oid, r.oid"))
        streamed.one(table)
        world.execute("UPDATE t SET v = 'again' WHERE id = 1", "INSERT INTO t VALUES (2, 'again')")
        streamed.one(table)
        changes()
        assert streamed.one(table).method.startswith("stream")
        with pytest.raises(AssertionError):
            world.assert_equal(table)


def test_rows_written_to_a_partition_while_it_was_detached_are_scanned(
    streamed: Streamed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The publication has the table, but the leaf did not belong to it meanwhile."""
    world, table = streamed.world, streamed.table()
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
        "CREATE TABLE one PARTITION OF t FOR VALUES FROM (1) TO (100)",
        "CREATE TABLE two PARTITION OF t FOR VALUES FROM (100) TO (200)",
        "INSERT INTO t SELECT g * 10, 'a' FROM generate_series(1, 15) g",
    )
    streamed.setup(table)
    detach, attach = "ALTER TABLE t DETACH PARTITION two", "ALTER TABLE t ATTACH PARTITION two {}"
    attach = attach.format("FOR VALUES FROM (100) TO (200)")
    streamed.one(table)
    world.execute(detach, "INSERT INTO two VALUES (101, 'b')", "DELETE FROM two WHERE id = 110", attach)
    assert streamed.one(table).method.startswith("horizon scan")
    world.assert_equal(table)
    world.execute("UPDATE t SET v = 'streamed' WHERE id = 101")
    assert streamed.one(table).method.startswith("stream")
    world.assert_equal(table)
    monkeypatch.setattr(Token, "reattached", lambda *_: False)
    world.execute(detach, "INSERT INTO two VALUES (102, 'b')", attach)
    assert streamed.one(table).method.startswith("stream")
    with pytest.raises(AssertionError):
        world.assert_equal(table)


@pytest.mark.parametrize("published", ["", "FOR TABLE t", "FOR ALL TABLES"])
def test_a_partition_beside_its_table_is_refused(streamed: Streamed, published: str) -> None:
    """The partition's changes are sent under the name of the table, so its own target would never change again."""
    world, root, leaf = streamed.world, streamed.table(), streamed.table("one")
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
        "CREATE TABLE one PARTITION OF t FOR VALUES FROM (1) TO (100)",
    )
    if published:
        options = "WITH (publish_via_partition_root = true)"
        world.execute(f'CREATE PUBLICATION "{streamed.name}" {published} {options}')
    with pytest.raises(ConfigError, match=r"sync public\.t in place of its partition public\.one"):
        streamed.setup(*((leaf,) if published else (root, leaf)))


def test_a_partition_is_refused_once_its_table_is_published_as_well(streamed: Streamed) -> None:
    world, leaf = streamed.world, streamed.table("one")
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
        "CREATE TABLE one PARTITION OF t FOR VALUES FROM (1) TO (100)",
        "INSERT INTO t VALUES (1, 'a')",
    )
    streamed.setup(leaf)
    streamed.one(leaf)
    world.execute("UPDATE t SET v = 'b'")
    assert streamed.one(leaf).method.startswith("stream")
    world.assert_equal(leaf)
    world.execute(f'ALTER PUBLICATION "{streamed.name}" ADD TABLE t', "UPDATE t SET v = 'c'")
    with pytest.raises(ConfigError, match=r"sync public\.t in place of its partition public\.one"):
        streamed.one(leaf)


def test_a_reconcile_after_a_stream_moves_only_what_differs(streamed: Streamed) -> None:
    """The ids of subtransactions in the table differ from the ids in the stream."""
    world, table = streamed.world, streamed.table()
    world.execute("CREATE TABLE t (id int PRIMARY KEY, v text, n numeric(5,2))")
    streamed.setup(table)
    streamed.one(table)
    rows = "SELECT g, 'v' || g, 1.0 FROM generate_series({}, {}) g"
    with world.open_transaction("SAVEPOINT s", f"INSERT INTO t {rows.format(1, 5000)}", "RELEASE s") as writer:
        writer.commit()
    assert streamed.one(table).inserted == 5000
    found = world.sync(table, reconcile=True)
    assert found.repair is not None
    assert (found.repair.buckets_differing, found.repair.rows_moved) == (0, 0)
    world.query('UPDATE "PUBLIC"."T" SET "V" = \'edited\' WHERE "ID" = 77')
    world.execute(
        f"INSERT INTO t {rows.format(6000, 6010)}", "UPDATE t SET v = 'new' WHERE id = 80", "DELETE FROM t WHERE id = 5"
    )
    found = world.sync(table, reconcile=True)
    assert found.repair is not None
    assert (found.repair.lost, found.repair.ghosts) == (0, 1)
    assert 0 < found.repair.rows_moved < 5000
    assert world.assert_verified(table) == 5010


def test_a_reconcile_reads_what_sums_do_not_compare(streamed: Streamed) -> None:
    world, table = streamed.world, streamed.table()
    world.execute("CREATE TABLE t (id int PRIMARY KEY, v jsonb)", "INSERT INTO t VALUES (1, '{}')")
    streamed.setup(table)
    streamed.one(table)
    world.query("""UPDATE "PUBLIC"."T" SET "V" = '"edited"'""")
    receipt = world.sync(table, reconcile=True)
    assert receipt.method == "whole table"
    assert "sums cannot compare v" in " ".join(receipt.warnings)
    assert receipt.certificate.level.value == "certified"
    world.assert_verified(table)


@pytest.mark.parametrize("back", [True, False], ids=["there and back", "and left so"])
def test_a_label_that_an_open_transaction_wrote_is_read_again(streamed: Streamed, back: bool) -> None:
    """The stream has the name at that moment, which no later change corrects."""
    world, table = streamed.world, streamed.table()
    world.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "CREATE TABLE t (id int PRIMARY KEY, m mood)",
        "INSERT INTO t VALUES (1, 'sad')",
    )
    streamed.setup(table)
    streamed.one(table)
    rename, again = (f"ALTER TYPE mood RENAME VALUE '{a}' TO '{b}'" for a, b in (("sad", "blue"), ("blue", "sad")))
    if back:
        world.execute(rename)
    with world.open_transaction(f"INSERT INTO t VALUES (2, '{'blue' if back else 'sad'}')") as writer:
        world.execute(again if back else rename)
        streamed.one(table)
        writer.commit()
    receipt = streamed.one(table)
    assert "transactions were open" in receipt.warnings[0]
    assert receipt.certificate.level.value == "certified"
    world.assert_equal(table)
    world.execute("INSERT INTO t VALUES (3, 'ok')")
    assert streamed.one(table).method.startswith("stream")
    world.assert_equal(table)


@pytest.mark.parametrize("moment", ["_before_snapshot", "_assert_unchanged"])
def test_a_type_that_is_altered_while_writers_are_looked_up_begins_the_read_anew(
    streamed: Streamed, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    world, table = streamed.world, streamed.table()
    world.execute("CREATE TYPE mood AS ENUM ('sad')", "CREATE TABLE t (id int PRIMARY KEY, m mood)")
    streamed.setup(table)
    streamed.one(table)
    step = getattr(reading.Reading, moment)

    def altered(self: reading.Reading, *arguments: object) -> object:
        found = step(self, *arguments)
        monkeypatch.setattr(reading.Reading, moment, step)
        world.execute("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'")
        return found

    monkeypatch.setattr(reading.Reading, moment, altered)
    if moment == "_before_snapshot":
        with pytest.raises(SourceError, match="definition of the table changed at the start of the read") as raised:
            streamed.one(table)
        assert raised.value.kind is Kind.TRANSIENT
    else:  # after the snapshot, so the next run sees it
        streamed.one(table)
    assert streamed.one(table).certificate.level.value == "certified"


def test_a_slot_that_another_program_reads_is_named_with_what_to_do(
    streamed: Streamed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other program may read for ever, so running again is not enough as a hint."""
    world, table = streamed.world, streamed.table()
    world.execute("CREATE TABLE t (id int PRIMARY KEY)")
    streamed.setup(table)
    streamed.one(table)
    monkeypatch.setattr(slot, "_RELEASE_SECONDS", 0.0)
    with (
        slot._replication(world.dsn, streamed.name, streamed.name),
        pytest.raises(SourceError, match=r"is active for PID \d+.*pg_replication_slots.*another slot in tables\.yaml"),
    ):
        streamed.one(table)


@pytest.mark.parametrize(
    "edit", ['DROP COLUMN "V"', 'ALTER COLUMN "N" TYPE VARCHAR USING left("N"::VARCHAR, 1)'], ids=["dropped", "retyped"]
)
def test_a_target_that_is_edited_during_a_run_is_read_again(
    streamed: Streamed, monkeypatch: pytest.MonkeyPatch, edit: str
) -> None:
    """The first attempt adapts the columns before it notices the edit, so the second attempt does not see the edit."""
    world, table = streamed.world, streamed.table()
    world.execute("CREATE TABLE t (id int PRIMARY KEY, v text, n int)", "INSERT INTO t VALUES (1, 'a', 10)")
    streamed.setup(table)
    streamed.one(table)
    world.execute("INSERT INTO t VALUES (2, 'b', 20)")
    apply = apply_changes

    def edited(*arguments: Any) -> Any:
        monkeypatch.setattr(runner, "apply_changes", apply)
        world.query(f'ALTER TABLE "PUBLIC"."T" {edit}')
        return apply(*arguments)

    monkeypatch.setattr(runner, "apply_changes", edited)
    assert streamed.one(table).method == "whole table"
    assert world.query('SELECT "ID", "V", CAST("N" AS INTEGER) FROM "PUBLIC"."T" ORDER BY 1') == [
        (1, "a", 10),
        (2, "b", 20),
    ]
