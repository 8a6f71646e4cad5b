"""Values longer than a VARCHAR of Snowflake, and rows longer than any usual buffer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aurora_sync.errors import GuardError
from aurora_sync.warehouse import types
from aurora_sync.warehouse.base import ReportedColumn
from aurora_sync.warehouse.duckdb import DuckDBSession
from aurora_sync.warehouse.duckdb_staging import ROW_BYTES
from aurora_sync_tests.scenarios.world import World, config

# Compresses badly, and COPY doubles its quotes.
LONG = "(SELECT string_agg(md5(i::text) || '\"é', '') FROM generate_series(1, {}) i)"


def limit(world: World, longest: int) -> None:
    """Set the longest value of the warehouse to this limit."""
    world.warehouse.dialect = replace(world.warehouse.dialect, longest_value=longest)
    world.places = replace(world.places)


def size(world: World, column: str = "V") -> dict[int, int | None]:
    return {
        int(key): length and int(length)
        for key, length in world.query(f'SELECT "ID", LENGTH("{column}") FROM "PUBLIC"."T"')
    }


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        pytest.param(1_100_000, 8_000_000, id="70 MB"),
        pytest.param(3_000_000, 25_000_000, id="200 MB", marks=pytest.mark.long),
    ],
)
def test_row_that_is_longer_than_the_buffer_arrives(world: World, texts: int, words: int) -> None:
    assert 34 * texts + 4 * words > ROW_BYTES
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text, w bytea)",
        "INSERT INTO t SELECT i, 'short', '' FROM generate_series(1, 100000) i",
        f"UPDATE t SET v = {LONG.format(texts)}, w = decode(repeat('00ff', {words}), 'hex') WHERE id = 50000",
    )
    table = config()
    world.sync(table)
    assert size(world)[50_000] == texts * 34
    ((same,),) = world.query('SELECT COUNT(*) FROM "PUBLIC"."T" WHERE LENGTH("V") = 5')
    assert same == 99_999
    world.assert_verified(table)


def test_value_over_the_limit_fails_with_table_column_key_and_size(world: World) -> None:
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "INSERT INTO t VALUES (1, 'a')",
    )
    world.sync(config())
    world.execute("INSERT INTO t VALUES (7, repeat('0123456789', 13500000))")
    with pytest.raises(GuardError, match=r"^public\.t: column v has values longer .*: 135,000,000 bytes of 7 \("):
        world.sync(config(show_values=True))
    assert size(world) == {1: 1}
    world.execute("UPDATE t SET v = 'b' WHERE id = 7")
    world.sync(config())
    assert size(world) == {1: 1, 7: 1}


@pytest.mark.parametrize(
    ("type_", "value", "clamped"),
    [("text", "repeat('x', 1001)", 1000), ("text", "repeat('é', 501)", 250), ("varchar", "repeat('x', 2000)", 1000)],
)
def test_policies(world: World, type_: str, value: str, clamped: int) -> None:
    limit(world, 1000)
    world.execute(
        f"CREATE TABLE t (id int PRIMARY KEY, v {type_})",
        f"INSERT INTO t VALUES (1, repeat('x', 1000)), (2, {value}), (3, NULL)",
    )
    for policy, expected in (("null", None), ("clamp", clamped)):
        table = config(column_types={"v": policy}, show_values=True)
        receipt = world.sync(table)
        assert size(world) == {1: 1000, 2: expected, 3: None}
        (adjusted,) = receipt.adjusted
        assert (adjusted.column, adjusted.policy, adjusted.values) == ("v", policy, 1)
        assert adjusted.examples[0].endswith(" bytes of 2")
        world.assert_verified(table)
        found = world.verify(table).verification
        assert found is not None
        assert found.rows_moved == 0  # the sums agree, so no row is compared by itself


@pytest.mark.parametrize(("policy", "lengths"), [("null", (None, None)), ("clamp", (250, 250))])
def test_text_that_is_too_long_for_its_column_is_equal_by_its_sums(
    world: World, monkeypatch: pytest.MonkeyPatch, policy: str, lengths: tuple[int | None, int | None]
) -> None:
    monkeypatch.setattr(types, "DEFAULT_LENGTH", 1000)
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "INSERT INTO t VALUES (1, repeat('x', 1000)), (2, repeat('x', 1001)), (3, repeat('é', 501)), (4, NULL)",
    )
    table = config(column_types={"v": policy})
    world.sync(table)
    assert size(world) == {1: 1000, 2: lengths[0], 3: lengths[1], 4: None}
    found = world.verify(table).verification
    assert found is not None
    assert (found.equal, found.rows_moved) == (True, 0)
    world.query("""UPDATE "PUBLIC"."T" SET "V" = 'y' WHERE "ID" = 2""")
    found = world.verify(table).verification
    assert found is not None
    assert found.different == 1


def test_text_that_only_a_longer_existing_column_holds_is_equal(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Snowflake, which reports the length of a column; DuckDB has none."""
    describe = DuckDBSession.describe

    def longer(session: DuckDBSession, schema: str, name: str) -> dict[str, ReportedColumn]:
        found = describe(session, schema, name)
        return {column: replace(has, length=5000 if column == "V" else None) for column, has in found.items()}

    monkeypatch.setattr(types, "DEFAULT_LENGTH", 1000)
    monkeypatch.setattr(DuckDBSession, "describe", longer)
    world.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
    table = config(column_types={"v": "clamp"})
    world.sync(table)
    world.execute("INSERT INTO t VALUES (1, repeat('x', 2000))")
    world.sync(table)
    assert size(world) == {1: 2000}
    world.assert_verified(table)


@pytest.mark.parametrize("type_", ["bytea", "jsonb", "int4[]", "int4range[]"])
def test_policy_of_types_that_cannot_be_cut(world: World, type_: str) -> None:
    limit(world, 1000)
    value = {
        "bytea": "decode(repeat('ff', 500), 'hex')",
        "jsonb": "to_jsonb(repeat('x', 1000))",
        "int4[]": "(SELECT array_agg(i) FROM generate_series(1, 1000) i)",
        "int4range[]": "(SELECT array_agg(int4range(i, i + 1)) FROM generate_series(1, 1000) i)",
    }[type_]
    world.execute(f"CREATE TABLE t (id int PRIMARY KEY, v {type_})", f"INSERT INTO t VALUES (1, {value}), (2, NULL)")
    receipt = world.sync(config(column_types={"v": "null"}))
    assert world.query('SELECT "ID" FROM "PUBLIC"."T" WHERE "V" IS NOT NULL') == []
    assert receipt.adjusted[0].values == 1


def test_every_column_that_is_too_long_or_was_changed_is_named(world: World) -> None:
    limit(world, 1000)
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text, w text, d date, e date)",
        "INSERT INTO t VALUES (1, repeat('x', 1001), repeat('y', 1002), 'infinity', '-infinity')",
    )
    with pytest.raises(
        GuardError, match=r"column v has values longer .*; column w .*: v: 1,001 bytes of 1; w: .*{v: null, w: null}"
    ):
        world.sync(config(show_values=True))
    for policy, became in (("null", "became NULL"), ("clamp", "were clamped")):
        receipt = world.sync(config(column_types=dict.fromkeys("vwde", policy)), full=True)
        named = [warning for warning in receipt.warnings if became in warning]
        assert [name for name in "vwde" if any(f"column {name}" in warning for warning in named)] == list("vwde")
