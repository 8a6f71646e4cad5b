"""Every strategy through real places and back, from settings alone; leaves nothing behind on either side."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
from psycopg2 import sql

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.places import Places
from aurora_sync.engine.sync import run, verify
from aurora_sync.model.certificate import Level
from aurora_sync.warehouse.ddl import target_name

TABLES = """
CREATE TABLE items (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, price numeric(12,2), exact numeric,
    flag boolean, day date, at timestamptz, raw bytea, doc jsonb, tags text[], ratio double precision,
    updated_at timestamptz NOT NULL
);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.updated_at := clock_timestamp(); RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON items FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TABLE lines (a int, b text);
CREATE TABLE codes (code text, part char(3), PRIMARY KEY (code, part), n int, at time);
"""
ROWS = """
INSERT INTO items (name, price, exact, flag, day, at, raw, doc, tags, ratio)
SELECT CASE i % 5 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN E'two\\nlines, "quoted" \\\\ \\\\N'
                  ELSE 'größe 名 ' || i END,
       i / 3.0, (i * 1.000000000000000000000000000001)::numeric, i % 2 = 0, date '2020-02-29' + i,
       timestamptz '2021-03-04 05:06:07.890123+00' + i * interval '1 hour', decode(md5(i::text), 'hex'),
       jsonb_build_object('i', i, 'text', 'é"'), ARRAY['a', NULL, 'b,c'], i / 7.0
  FROM generate_series(1, 200) i;
INSERT INTO lines SELECT i % 10, NULLIF('x' || i % 3, 'x0') FROM generate_series(1, 60) i;
INSERT INTO codes SELECT 'größe ' || i, i % 7, i, '06:30:00.25' FROM generate_series(1, 300) i;
"""
CHANGES = """
UPDATE items SET name = 'changed', price = NULL WHERE id % 20 = 0;
INSERT INTO items (name) VALUES ('new');
INSERT INTO lines VALUES (1, 'x1'), (99, NULL);
UPDATE codes SET n = -n WHERE n % 50 = 0;
"""
ROWS_AT_FIRST = {"items": 200, "lines": 60, "codes": 300}
ROWS_THEN = {"items": 201, "lines": 62, "codes": 300}
# Nothing of this but the new rows is found by a cursor: deletes, and a column that no row was written for.
AT_LAST = """
DELETE FROM items WHERE id IN (7, 77);
DELETE FROM codes WHERE n IN (7, 77);
DELETE FROM lines WHERE a = 99;
ALTER TABLE codes ADD COLUMN added numeric(6,2) DEFAULT 1.5;
INSERT INTO codes VALUES ('new', 'x', 0, NULL, NULL);
"""
STRATEGIES: dict[str, tuple[str, dict[str, Any]]] = {
    "by_xmin": ("items", {"watermark_type": "xmin"}),
    "by_id": ("items", {"watermark_type": "integer", "watermark_col": "id"}),
    "by_time": ("items", {"watermark_type": "timestamp", "watermark_col": "updated_at"}),
    "by_both": ("items", {"watermark_type": "composite", "watermark_cols": ["updated_at", "id"]}),
    "whole": ("items", {"watermark_type": "full_snapshot", "deletes": "soft"}),
    "codes": ("codes", {"watermark_type": "xmin"}),
    "lines_whole": ("lines", {"watermark_type": "full_snapshot"}),
    "lines_appended": ("lines", {"watermark_type": "xmin", "append_only": True}),
}


def roundtrip(places: Places, *, without: Collection[str] = (), **more: Any) -> None:
    """Create, sync, change, sync, compare. The source's role must be allowed to create a schema. ``without`` are names
    of STRATEGIES, ``more`` are keys of all tables."""
    name = f"aurora_sync_live_{secrets.token_hex(4)}"
    places = dataclasses.replace(places, log_schema=f"_{name}".upper())
    configs = [
        TableConfig.model_validate({"schema": name, "table_name": table, "target_table": target, **keys, **more})
        for target, (table, keys) in STRATEGIES.items()
        if target not in without
    ]
    with scratch(places, configs, name) as connection:
        execute(connection, TABLES + ROWS)
        for config in configs:
            first = run(config, places)
            assert first.changed
            assert first.source_rows == first.target_rows == ROWS_AT_FIRST[config.table_name]
        execute(connection, CHANGES)
        for config in configs:
            second = run(config, places)
            assert second.source_rows == second.target_rows == ROWS_THEN[config.table_name]
            assert second.run_sequence == 2
            _assert_equal(connection, places, config)
            if not second.sees_deletes and config.watermark_type in ("integer", "xmin"):
                assert not run(config, places).changed
        execute(connection, "DELETE FROM items WHERE id = 1")
        (whole,) = [config for config in configs if config.target_table == "whole"]
        assert run(whole, places).deleted == 1
        with places.warehouse.session() as session:
            marked = session.query(f'SELECT "ID" FROM {target_name(whole).sql} WHERE "_DELETED"')
        assert [int(id_) for (id_,) in marked] == [1]
        execute(connection, AT_LAST)
        for config in configs:
            last = run(config, places, reconcile=True)
            assert last.certificate.level is Level.CERTIFIED
            found = verify(config, places).verification
            assert found is not None
            assert found.equal, found


def _assert_equal(connection: Any, places: Places, config: TableConfig) -> None:
    """Ids, texts, numbers and times agree, as both sides print them."""
    if config.table_name == "codes":
        source, target = "code, concat(part), n::text", '"CODE", "PART", CAST("N" AS VARCHAR)'
    elif config.table_name == "lines":
        source, target = "a::text, b", 'CAST("A" AS VARCHAR), "B"'
    else:
        source = (
            "id::text, name, price::text, exact::text, (extract(epoch FROM at) * 1000000)::bigint::text,"
            " to_json(tags)::text"
        )
        target = (
            'CAST("ID" AS VARCHAR), "NAME", CAST("PRICE" AS VARCHAR), "EXACT",'
            ' CAST(DATE_PART(EPOCH_MICROSECOND, "AT") AS VARCHAR), TO_JSON("TAGS")'
        )
        if config.watermark_type == "integer":  # it claims no updates
            source, target = "id::text", 'CAST("ID" AS VARCHAR)'
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("SELECT {} FROM {}").format(sql.SQL(source), sql.Identifier(config.table_name)))
        expected = sorted(cursor.fetchall(), key=repr)
    with places.warehouse.session() as session:
        found = sorted(session.query(f"SELECT {target} FROM {target_name(config).sql}"), key=repr)
    assert found == expected, [pair for pair in zip(found, expected, strict=False) if pair[0] != pair[1]][:2]


@contextmanager
def scratch(places: Places, configs: list[TableConfig], name: str) -> Iterator[Any]:
    with closing(psycopg2.connect(places.source.dsn)) as connection:
        connection.autocommit = True
        schema = sql.Identifier(name)
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
            cursor.execute(sql.SQL("SET search_path TO {}").format(schema))
        try:
            yield connection
        finally:
            with connection.cursor() as cursor:
                cursor.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(schema))
            with places.warehouse.session() as session:
                for left in (target_name(configs[0]).schema, places.log_schema):
                    session.query(f'DROP SCHEMA IF EXISTS "{left}" CASCADE')
            for table in {config.qualified_name for config in configs}:
                prefix = f"{places.stage.store.prefix}{table}/"
                places.stage.store.delete(list(places.stage.store.list(prefix)))


def execute(connection: Any, statements: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statements)
