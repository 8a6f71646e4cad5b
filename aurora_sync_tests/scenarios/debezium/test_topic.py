"""A table follows its topic, whatever happens to connector, source and target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aurora_sync.engine.runners import runner_of, topic
from aurora_sync.errors import ConfigError
from aurora_sync.source.debezium.kafka import Kafka
from aurora_sync.source.debezium.modes import Modes
from aurora_sync_tests.scenarios.debezium.conftest import Connected
from aurora_sync_tests.scenarios.world import config, opened


def test_a_scan_comes_first_and_then_the_topic(connected: Connected) -> None:
    world, table = connected.world, connected.table()
    world.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    connected.setup(table)
    first = connected.run(table)
    assert first.method == "whole table"
    assert first.warnings[0] == "scanned, not streamed: the watermark has no position in the stream yet"
    idle = connected.run(table)
    assert not idle.changed
    assert idle.warnings == (
        f"topic {connected.name}.public.t does not exist yet; check topic_prefix and the state of the connector",
    )
    connected.start(table)
    world.execute(
        "INSERT INTO t VALUES (3, 'c')",
        "UPDATE t SET v = 'A' WHERE id = 1",
        "UPDATE t SET id = 20 WHERE id = 2",
        "INSERT INTO t VALUES (4, 'd')",
        "DELETE FROM t WHERE id = 4",
    )
    receipt = connected.synced(table)
    assert receipt.method == f"topic {connected.name}.public.t"
    assert receipt.consumed
    assert (receipt.consumed.messages, receipt.consumed.behind) == (8, 0)  # two deletes with a tombstone each
    assert receipt.certificate.level.value == "bounded"
    world.assert_equal(table)
    assert not connected.run(table).changed
    world.execute("TRUNCATE t", "INSERT INTO t VALUES (5, 'e')")
    assert connected.synced(table).deleted == 3
    world.assert_equal(table)
    world.assert_verified(table)


def test_no_snapshot_is_open_while_the_connector_is_looked_at(
    connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, table = connected.world, connected.table()
    world.execute("CREATE TABLE t (id int PRIMARY KEY)")
    connected.setup(table)
    connected.run(table)
    connections, modes = opened(monkeypatch), topic._modes
    held: list[int] = []

    def looking(*arguments: Any) -> Modes:
        held.append(sum(not connection.closed for connection in connections))
        return modes(*arguments)

    monkeypatch.setattr(topic, "_modes", looking)
    connected.run(table)
    assert held == [0]


def test_values_that_did_not_change_stay_as_the_target_has_them(connected: Connected) -> None:
    world, table = connected.world, connected.table()
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, n int, long text)",
        "ALTER TABLE t ALTER long SET STORAGE EXTERNAL",
        "INSERT INTO t SELECT g, 0, repeat(md5(g::text), 200) FROM generate_series(1, 4) g",
    )
    connected.setup(table)
    connected.run(table)
    connected.start(table)
    world.execute(
        "UPDATE t SET n = 1 WHERE id = 1",
        "UPDATE t SET id = 20 WHERE id = 2",
        "UPDATE t SET id = 30 WHERE id = 3",
        "UPDATE t SET n = 3 WHERE id = 30",
        "UPDATE t SET n = 4 WHERE id = 4",
        "DELETE FROM t WHERE id = 4",
    )
    assert connected.synced(table).method.startswith("topic")
    world.assert_equal(table)


def test_what_was_open_during_the_scan_comes_with_the_topic_and_nothing_comes_twice(connected: Connected) -> None:
    """The scan begins before a transaction ends, and records which transactions it has not seen."""
    world, table = connected.world, connected.table()
    world.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a')")
    connected.setup(table)
    connected.start(table)
    world.execute("UPDATE t SET v = 'b' WHERE id = 1")
    connected.catch_up()
    with world.open_transaction("INSERT INTO t VALUES (2, 'open')") as writer:
        assert connected.run(table).inserted == 1
        world.execute("DELETE FROM t WHERE id = 1")
        writer.commit()
    receipt = connected.synced(table)
    assert (receipt.inserted, receipt.deleted) == (1, 1)
    world.assert_equal(table)


def test_a_reconcile_hands_over_to_the_topic(connected: Connected) -> None:
    world, table = connected.world, connected.table(reconcile={"every": 2})
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t SELECT g, 'a' FROM generate_series(1, 9) g"
    )
    connected.setup(table)
    connected.start(table)
    connected.run(table)
    world.execute("UPDATE t SET v = 'b' WHERE id < 5")
    assert connected.synced(table).method.startswith("topic")
    world.execute("UPDATE t SET v = 'c' WHERE id < 4", "DELETE FROM t WHERE id = 1")
    scan = connected.synced(table)
    assert scan.warnings[0] == "scanned, not streamed: a reconcile is due"
    assert scan.deleted == 1
    world.assert_equal(table)
    world.execute("INSERT INTO t VALUES (1, 'again')")
    receipt = connected.synced(table)
    assert (receipt.inserted, receipt.updated, receipt.deleted) == (1, 0, 0)  # changes that the scan read are skipped
    world.assert_equal(table)


def test_a_copy_that_the_connector_made_is_scanned_instead(connected: Connected) -> None:
    """After a lost slot, a connector may begin with a copy, which does not show what was deleted before."""
    world, table = connected.world, connected.table()
    world.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    connected.setup(table)
    connected.run(table)
    connected.start(table, **{"snapshot.mode": "initial"})
    world.execute("DELETE FROM t WHERE id = 1")
    receipt = connected.synced(table)
    assert receipt.warnings[0].startswith("scanned, not streamed: the connector made a snapshot of its own")
    world.assert_equal(table)
    world.execute("UPDATE t SET v = 'B'")
    assert connected.synced(table).method.startswith("topic")
    world.assert_equal(table)


def test_a_table_comes_from_xmin_and_goes_back_without_being_read_whole(connected: Connected) -> None:
    world, table, before = connected.world, connected.table(), config("t", "xmin")
    world.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t SELECT g FROM generate_series(1, 99) g")
    connected.setup(table)
    world.sync(before)
    world.execute("UPDATE t SET v = 'a' WHERE id = 1")
    assert connected.run(table).rows_exported == 1
    connected.start(table)
    world.execute("UPDATE t SET v = 'b' WHERE id = 2", "DELETE FROM t WHERE id = 3")
    connected.synced(table)
    world.assert_equal(table)
    world.execute("UPDATE t SET v = 'c' WHERE id = 4", "INSERT INTO t VALUES (100)")
    assert world.sync(before).rows_exported < 10
    world.assert_equal(table)


def test_a_topic_that_was_made_anew_or_has_lost_messages_leads_to_a_scan(
    connected: Connected, other_servers: str
) -> None:
    world, table = connected.world, connected.table()
    world.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a')")
    connected.setup(table)
    connected.run(table)
    connected.start(table)
    world.execute("INSERT INTO t VALUES (2, 'b'), (3, 'c')")
    assert connected.synced(table).inserted == 2
    connected.reach(Kafka(other_servers))
    world.execute("DELETE FROM t WHERE id = 1")
    scan = connected.run(table)
    assert (
        scan.warnings[0]
        == "scanned, not streamed: the topic, the slot, or the publication, has changed since the last run"
    )
    world.assert_equal(table)


def test_an_array_is_refused_until_somebody_says_that_all_are_plain(connected: Connected) -> None:
    world, table = connected.world, connected.table()
    world.execute("CREATE TABLE t (id int PRIMARY KEY, v int[])", "INSERT INTO t VALUES (1, '{1}')")
    connected.setup(table)
    connected.run(table)
    connected.start(table)
    world.execute("INSERT INTO t VALUES (2, '{2,NULL}')")
    with pytest.raises(ConfigError, match="plain_arrays"):
        connected.synced(table)
    plain = connected.table(connector={"plain_arrays": True})
    assert connected.run(plain).inserted == 1
    world.assert_verified(plain)


def test_brokers_that_are_not_named_or_not_there_are_clear_errors(connected: Connected, tmp_path: Path) -> None:
    world, table = connected.world, connected.table()
    world.execute("CREATE TABLE t (id int PRIMARY KEY)")
    connected.setup(table)
    connected.reach(Kafka())
    with pytest.raises(ConfigError, match="KAFKA_BOOTSTRAP_SERVERS is not set"):
        connected.run(table)
    wrong = tmp_path / "client.properties"
    wrong.write_text("# ours\nsasl.username=me\nsecret word\n")
    for file, what in (
        (wrong, "line 3 does not have the form name=value"),
        (tmp_path / "none", "the file cannot be read"),
    ):
        connected.reach(Kafka(connected.servers, file))
        with pytest.raises(ConfigError, match=what):
            connected.run(table)


def test_what_was_committed_while_the_slot_was_gone_is_scanned(connected: Connected) -> None:
    world, table = connected.world, connected.table()
    world.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    connected.setup(table)
    connected.run(table)
    connected.start(table)
    world.execute("INSERT INTO t VALUES (3, 'c')")
    connected.synced(table)
    connected.stop()
    world.execute(f"SELECT pg_drop_replication_slot('{connected.name}')", "UPDATE t SET v = 'gap' WHERE id = 1")
    for _ in range(2):
        assert connected.run(table).warnings[0].startswith("scanned, not streamed: the topic, the slot")
    world.execute("DELETE FROM t WHERE id = 2", "UPDATE t SET v = 'gap' WHERE id = 3")
    connected.setup(table)
    (connected.folder / "offsets").unlink()
    connected.start(table)
    world.execute("INSERT INTO t VALUES (4, 'd')")
    lost = f"scanned, not streamed: the connector's slot {connected.name} is lost"
    assert connected.synced(table).warnings[0] == lost
    world.assert_equal(table)
    world.execute("INSERT INTO t VALUES (5, 'e')")
    assert connected.synced(table).method.startswith("topic")
    world.assert_equal(table)
    world.assert_verified(table)


WITH_DEFAULTS = (
    "CREATE TABLE t (id int PRIMARY KEY, v text DEFAULT 'x', n int DEFAULT 5, at timestamptz DEFAULT now(),"
    " must int NOT NULL DEFAULT 9)"
)


def test_a_null_is_no_default(connected: Connected) -> None:
    world, table = connected.world, connected.table()
    world.execute(WITH_DEFAULTS, "INSERT INTO t VALUES (1)")
    connected.setup(table)
    connected.run(table)
    connected.start(table)
    world.execute("INSERT INTO t VALUES (2, NULL, NULL, NULL)", "UPDATE t SET v = NULL, n = NULL WHERE id = 1")
    assert connected.synced(table).method.startswith("topic")
    world.assert_equal(table)


def test_a_connector_that_sends_defaults_for_nulls_is_refused(connected: Connected) -> None:
    """Kafka's converter does so by default, and the event does not show the difference."""
    world, table = connected.world, connected.table()
    world.execute(WITH_DEFAULTS, "INSERT INTO t VALUES (1)")
    connected.setup(table)
    connected.run(table)
    connected.start(table, **{"value.converter.replace.null.with.default": "true"})
    world.execute("INSERT INTO t VALUES (2, NULL, NULL, NULL)")
    with pytest.raises(ConfigError, match=r"public\.t\.v\b.*replace\.null\.with\.default=false"):
        connected.synced(table)
    connected.stop()
    connected.start(table)
    connected.catch_up()
    world.sync(table, full=True)
    world.execute("UPDATE t SET v = NULL WHERE id = 1")
    assert connected.synced(table).method.startswith("topic")
    world.assert_equal(table)


def test_what_was_written_under_another_name_is_scanned(connected: Connected) -> None:
    """A connector that is started meanwhile does not know the table by its other name."""
    world, table = connected.world, connected.table()
    world.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    connected.setup(table)
    connected.run(table)
    connected.start(table)
    world.execute("UPDATE t SET v = 'A' WHERE id = 1")
    assert connected.synced(table).method.startswith("topic")
    connected.stop()
    world.execute(
        "ALTER TABLE t RENAME TO elsewhere",
        "UPDATE elsewhere SET v = 'renamed' WHERE id = 1",
        "DELETE FROM elsewhere WHERE id = 2",
        "ALTER TABLE elsewhere RENAME TO t",
    )
    connected.start(table)
    world.execute("INSERT INTO t VALUES (3, 'c')")
    assert "or the publication, has changed since the last run" in connected.synced(table).warnings[0]
    world.assert_equal(table)
    world.execute("TRUNCATE t", "INSERT INTO t VALUES (4, 'd')")
    assert connected.synced(table).method.startswith("topic")
    world.assert_equal(table)


def test_changes_of_a_table_that_had_the_name_before_are_not_applied(connected: Connected) -> None:
    """The connector sends them under the old name until it is restarted."""
    world, table = connected.world, connected.table()
    create = "CREATE TABLE {} (id int PRIMARY KEY, v text)"
    world.execute(create.format("t"), "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    connected.setup(table)
    connected.run(table)
    connected.start(table)
    world.execute("UPDATE t SET v = 'A' WHERE id = 1")
    assert connected.synced(table).method.startswith("topic")
    world.execute(create.format("made"), "INSERT INTO made SELECT * FROM t")
    world.execute("BEGIN; ALTER TABLE t RENAME TO old; ALTER TABLE made RENAME TO t; COMMIT")
    connected.setup(table)
    connected.synced(table)
    world.assert_equal(table)
    world.execute("UPDATE t SET v = 'B' WHERE id = 2", "TRUNCATE old")
    receipt = connected.synced(table)
    world.assert_equal(table)
    assert receipt.warnings[0].startswith("scanned, not streamed: public.old had the name of this table")
    world.execute(f"ALTER PUBLICATION {connected.name} DROP TABLE public.old")
    connected.synced(table)
    world.execute("DELETE FROM old", "UPDATE t SET v = 'C' WHERE id = 2")
    assert connected.synced(table).method.startswith("topic")
    world.assert_equal(table)


def test_the_sensor_sees_how_far_the_topics_go(connected: Connected) -> None:
    world, table = connected.world, connected.table()
    world.execute("CREATE TABLE t (id int PRIMARY KEY)")
    connected.setup(table)
    before = runner_of(table).marks([table], connected.places.source)
    connected.start(table)
    world.execute("INSERT INTO t VALUES (1)")
    connected.catch_up()
    after = runner_of(table).marks([table], connected.places.source)
    assert before.keys() == after.keys() == {"public.t"}
    assert before != after == runner_of(table).marks([table], connected.places.source)
    assert runner_of(config("t", "xmin")).marks([config("t", "xmin")], world.places.source) == {}


def test_changes_that_named_their_rows_by_another_index_are_left_to_a_scan(connected: Connected) -> None:
    """Events hold only the columns of the replica identity: the key of a deleted row is 0, which may belong to another
    row, and the key of an updated row is not known."""
    world, table = connected.world, connected.table()
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v int, n int NOT NULL UNIQUE)",
        "INSERT INTO t SELECT g, 0, g FROM generate_series(0, 5) g",
    )
    connected.setup(table)
    connected.run(table)
    connected.start(table)
    world.execute("UPDATE t SET v = 1 WHERE id = 5")
    assert connected.synced(table).method.startswith("topic")
    world.execute(
        "ALTER TABLE t REPLICA IDENTITY USING INDEX t_n_key",
        "UPDATE t SET id = 10 WHERE id = 1",
        "DELETE FROM t WHERE id = 2",
        "ALTER TABLE t REPLICA IDENTITY DEFAULT",
    )
    connected.catch_up()
    assert connected.run(table).method == "horizon scan"
    world.assert_equal(table)
    world.execute("UPDATE t SET v = 2 WHERE id = 3", "DELETE FROM t WHERE id = 4")
    connected.catch_up()
    assert connected.run(table).method.startswith("topic")
    world.assert_equal(table)
