"""Source and target are proven equal by content as of one snapshot, and every kind of difference is shown."""

from __future__ import annotations

from typing import Any

import pytest

from aurora_sync.model.verification import HIDDEN, Verification
from aurora_sync_tests.scenarios.world import World, config

COLUMNS = """
 i2 smallint, i8 bigint, n numeric(12,3), nn numeric, t text, c char(5), vc varchar(9), b boolean, d date, ti time,
 ts timestamp, tz timestamptz, by bytea, u uuid, j json, iv interval, a oidvector, en public.mood, ip inet
"""
VALUES = {
    1: ", ".join(["NULL"] * 19),
    101: "-32768, 9223372036854775807, -0.5, 1e40, '', 'a', '', true, '0044-03-15', '00:00', '0044-03-15 00:00:00',"
    " '2024-02-29 12:00:00.1+02', '', md5('')::uuid, '{\"b\": 1, \"a\": 1}', '1 mon', '', 'sad', '::1'",
    201: "7, -1, 123456789.125, 'NaN', E'Gr\\u00f6\\u00dfe \\U0001F600\\n\"quoted\", \\\\N', 'abcde', 'N', false,"
    " '9999-12-31', '23:59:59.999999', '2024-01-01 00:00:00.5', '1970-01-01 00:00:00.000001+00', '\\x00ff',"
    " md5('a')::uuid, '[1.50]', '-1 day', '1 2', 'glad', '10.0.0.0/8'",
}
MOOD = "CREATE TYPE public.mood AS ENUM ('sad', 'glad')"


def verified(world: World, **keys: Any) -> Verification:
    found = world.verify(config(**keys)).verification
    assert found is not None
    assert world.staging_tables() == []
    return found


def make(world: World, key: str = "id int PRIMARY KEY", more: str = "", **keys: Any) -> None:
    """Create a hundred rows for each of VALUES, and sync them."""
    world.execute(MOOD, f"CREATE TABLE t ({key}, {COLUMNS}{more})")
    for first, row in VALUES.items():
        world.execute(f"INSERT INTO t SELECT series, {row} FROM generate_series({first}, {first + 99}) series")
    world.execute("ANALYZE t")
    world.sync(config(**keys))


def test_rows_that_were_exchanged_by_hand_are_shown_and_not_repaired(world: World) -> None:
    make(world)
    world.query('DELETE FROM "PUBLIC"."T" WHERE "ID" = 205')
    world.query('INSERT INTO "PUBLIC"."T" ("ID") VALUES (7000)')
    world.execute("UPDATE t SET t = 'new' WHERE id = 1")
    for _ in range(2):  # the increment that was applied first does not hide the edit from later verifications
        found = verified(world)
        assert (found.missing, found.different, found.ghosts, found.repair) == (1, 0, 1, "reconcile")
    receipt = world.sync(config())
    assert receipt.repair
    assert (receipt.repair.lost, receipt.repair.ghosts) == (1, 1)
    assert receipt.because.startswith("rows of the target were modified outside of aurora_sync after run 2")
    assert verified(world).equal


@pytest.mark.parametrize("key", ["id int PRIMARY KEY", "id text PRIMARY KEY", "id numeric(9,2) PRIMARY KEY"])
def test_equal_tables_of_every_portable_type_are_proved_equal_without_moving_a_row(world: World, key: str) -> None:
    make(world, key)
    found = verified(world)
    assert (found.equal, found.method, found.rows_moved) == (True, "content sums", 0)
    assert (found.source_rows, found.target_rows) == (300, 300)


def test_rows_changed_since_the_last_run_arrive_before_they_are_compared(world: World) -> None:
    make(world)
    world.execute("UPDATE t SET t = 'new' WHERE id < 10", "INSERT INTO t (id) VALUES (999)")
    assert verified(world).equal


@pytest.mark.parametrize(
    ("edit", "counts"),
    [
        ('UPDATE "PUBLIC"."T" SET "ID" = 7000 WHERE "ID" = 205', (1, 0, 1)),
        ('UPDATE "PUBLIC"."T" SET "T" = \'other\' WHERE "ID" = 205', (0, 1, 0)),
        ('UPDATE "PUBLIC"."T" SET "T" = NULL WHERE "ID" = 105', (0, 1, 0)),
        ('UPDATE "PUBLIC"."T" SET "TZ" = "TZ" + INTERVAL \'1 microsecond\' WHERE "ID" = 205', (0, 1, 0)),
        ('UPDATE "PUBLIC"."T" SET "BY" = NULL, "B" = FALSE WHERE "ID" IN (105, 106)', (0, 2, 0)),
        ('UPDATE "PUBLIC"."T" SET "N" = "N" + 0.001 WHERE "ID" = 205', (0, 1, 0)),
    ],
)
def test_what_was_edited_in_the_target_is_found_and_shown(
    world: World, edit: str, counts: tuple[int, int, int]
) -> None:
    """The edit leaves _SRC_XMIN unchanged, which is all that a reconcile and the sums of the sync log compare."""
    make(world)
    world.query(edit)
    found = verified(world, show_values=True)
    assert (found.missing, found.different, found.ghosts) == counts
    assert found.same_version == counts[1]
    assert found.repair == ("sync --full" if counts[1] else "reconcile")
    assert len(found.examples) == sum(counts)
    for example in found.examples:
        assert example.source != example.target


def test_first_differing_rows_are_shown_side_by_side(world: World) -> None:
    make(world)
    world.query('UPDATE "PUBLIC"."T" SET "T" = \'edited\' WHERE "ID" BETWEEN 201 AND 220')
    found = verified(world, show_values=True)
    assert found.different == 20
    first = found.examples[0]
    assert (first.key, first.target) == (("201",), {"ID": "201", "T": "edited"})
    assert first.source is not None
    assert first.source["T"].startswith("Größe")  # type: ignore[union-attr]
    assert 201 in [row[1] for row in world.execute(first.find)]
    hidden = verified(world).examples[0]
    assert (hidden.key, hidden.source, hidden.target) == ((), {"T": HIDDEN}, {"T": HIDDEN})
    assert hidden.find == first.find


def test_values_without_a_common_text_are_compared_one_by_one(world: World) -> None:
    make(
        world,
        more=", f8 double precision DEFAULT 0.1, f4 real DEFAULT 'NaN', jb jsonb DEFAULT '{\"b\": 1.50, \"a\": [2]}'",
    )
    found = verified(world)
    assert (found.equal, found.rows_moved) == (True, 300)
    assert found.method == "content sums, and f8, f4, jb of every row"
    world.query('UPDATE "PUBLIC"."T" SET "F8" = 0.2 WHERE "ID" = 3')
    assert verified(world).different == 1


@pytest.mark.parametrize("keys", [{"watermark_type": "full_snapshot"}, {"append_only": True}])
def test_rows_without_a_key_are_compared_as_often_as_they_are_there(world: World, keys: dict[str, Any]) -> None:
    world.execute("CREATE TABLE t (v text, n int)", "INSERT INTO t SELECT 'a', n % 3 FROM generate_series(1, 30) n")
    world.sync(config(**keys))
    world.execute("INSERT INTO t VALUES ('a', 1), (NULL, NULL)")
    found = verified(world, **keys)
    if "append_only" not in keys:  # its increment is a full read, which would repair
        assert (found.missing, found.repair) == (2, "sync")
        assert found.caveat.startswith("the differences include changes at the source since ")
        world.sync(config(**keys))
        found = verified(world, **keys)
    assert (found.equal, found.method, found.source_rows) == (True, "every row", 32)
    world.query('UPDATE "PUBLIC"."T" SET "V" = \'b\' WHERE "N" = 0')
    changed = verified(world, **keys)
    assert (changed.different, changed.same_version) == (10, 0)


def test_view_is_verified_by_its_declared_key(world: World) -> None:
    world.execute("CREATE TABLE base (id int PRIMARY KEY, v text)", "INSERT INTO base VALUES (1, 'a'), (2, 'b')")
    world.execute("CREATE VIEW t AS SELECT * FROM base")
    table = config(watermark_type="full_snapshot", primary_key="id")
    world.sync(table)
    assert world.assert_verified(table) == 2


def test_rows_marked_as_deleted_are_not_in_the_target(world: World) -> None:
    make(world, deletes="soft")
    world.execute("DELETE FROM t WHERE id = 3")
    world.sync(config(deletes="soft"), reconcile=True)
    assert verified(world, deletes="soft").equal


def test_row_deleted_at_the_source_is_a_ghost_until_a_reconcile(world: World) -> None:
    make(world)
    world.execute("DELETE FROM t WHERE id = 3")
    found = verified(world)
    assert (found.missing, found.different, found.ghosts) == (0, 0, 1)
    world.sync(config(), reconcile=True)
    assert verified(world).equal
