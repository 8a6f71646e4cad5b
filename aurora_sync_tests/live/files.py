"""Cases of the rules about files (rules 17 to 19)."""

from __future__ import annotations

import dataclasses
import io
from datetime import datetime
from typing import Any

from aurora_sync.engine import batch
from aurora_sync.engine.places import Places
from aurora_sync.errors import Kind, WarehouseError
from aurora_sync.model.dms_columns import BEFORE, OP, SEQUENCE, TIMESTAMP
from aurora_sync.warehouse.ddl import create_staging_table
from aurora_sync.warehouse.snowflake import copy_into
from aurora_sync_tests.live.cases import Found, case, one_line, said
from aurora_sync_tests.live.ground import Ground, Live
from aurora_sync_tests.live.sessions import snowflake_of


def with_files(live: Live) -> Places:
    """Return the places with the suite's stage as the one that shows the files of a DMS task."""
    warehouse = snowflake_of(live)
    settings = dataclasses.replace(warehouse.settings, dms_stage=warehouse.settings.stage)
    return dataclasses.replace(live.places, warehouse=dataclasses.replace(warehouse, settings=settings))


# NULL, and texts that a CSV reader may take for NULL, for the end of a field, or for an escape.
TEXTS = (None, "", "NULL", "\\N", "\\", '"', 'a "b"', "a,b", "a\nb", "a\r\nb", " a ", "größe 名", "%27", "'")


@case(17, "COPY reads every text as PostgreSQL wrote it: '', NULL, \\N, quotes, line breaks", Ground.FAKE, Ground.SMALL)
def texts_arrive(live: Live) -> Found:
    live.at_source("CREATE TABLE texts (id int PRIMARY KEY, v text)")
    with live.source.cursor() as cursor:
        cursor.executemany("INSERT INTO texts VALUES (%s, %s)", list(enumerate(TEXTS)))
    config = live.config("texts")
    live.run(config)
    found = {int(id_): text for id_, text in live.rows_of(config, '"ID", "V"')}
    wrong = [(text, found.get(place)) for place, text in enumerate(TEXTS) if found.get(place) != text]
    return said(not wrong and len(found) == len(TEXTS), f"{len(found)} texts, of which wrong: {wrong or 'none'}")


@case(17, "COPY fails if a file is missing", Ground.FAKE)
def missing_file(live: Live) -> Found:
    table = live.table("MISSED")
    live.query(create_staging_table(table, ["A"]))
    statement = copy_into(table.sql, snowflake_of(live).quoted_stage, f"{live.name}/", ["part-00000.csv.zst"])
    try:
        rows = live.query(statement)
    except WarehouseError as error:
        return said(error.kind is Kind.REFUSED, f"refused: {one_line(error.what, 160)}")
    return said(False, f"COPY answered {rows}")


@case(17, "COPY reads an object whose key has a literal %27", Ground.FAKE, Ground.SMALL)
def percent_in_a_key(live: Live) -> Found:
    """The folder of a table with a quote in its name."""
    live.at_source("""CREATE TABLE "it's" (id int PRIMARY KEY); INSERT INTO "it's" VALUES (1), (2)""")
    config = live.config("it's")
    receipt = live.run(config)
    store = live.places.stage.store
    keys = [key for key in store.list(f"{store.prefix}{live.name}.it%27s/") if key.endswith(".csv.zst")]
    return said(
        receipt.target_rows == 2 and bool(keys), f"{receipt.target_rows} rows from {len(keys)} object below it%27s/"
    )


def from_parquet(live: Live, name: str, type_: str, columns: dict[str, Any], shown: str) -> dict[int, Any]:
    """Load a Parquet file of three rows, with the keys 1 to 3 and the values of ``columns``, as a DMS task writes it.
    Returns by key what the target has in the column V, as the expression ``shown``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    live.at_source(f"CREATE TABLE {name} (id int PRIMARY KEY, v {type_})")
    store = live.places.stage.store
    folder = f"s3://{store.bucket}/{store.prefix}".rstrip("/")
    config = live.config(name, "dms", files=folder, primary_key="id")
    fields = {
        OP: pa.array(["I"] * 3),
        **columns,
        f"{BEFORE}id": pa.array([None] * 3, pa.string()),
        TIMESTAMP: pa.array(["2026-01-01 00:00:00.000000"] * 3),
        SEQUENCE: pa.array([""] * 3),
    }
    body = io.BytesIO()
    pq.write_table(pa.table(fields), body)
    store.put_new(f"{store.prefix}{live.name}/{name}/LOAD00000001.parquet", body.getvalue())
    batch.run_one(config, with_files(live))
    return {int(id_): value for id_, value in live.rows_of(config, f'"ID", {shown}')}


@case(18, "Parquet files of DMS keep '', NULL and numbers", cannot="its COPY reads CSV only")
def parquet(live: Live) -> Found:
    import pyarrow as pa

    columns = {"id": pa.array([1, 2, 3], pa.int32()), "v": pa.array(["", None, "größe"], pa.string())}
    found = from_parquet(live, "parquet", "text", columns, '"V"')
    return said(found == {1: "", 2: None, 3: "größe"}, f"the target has {found}")


@case(18, "A binary field of a Parquet file arrives as bytes", cannot="its COPY reads CSV only")
def parquet_binary(live: Live) -> Found:
    import pyarrow as pa

    columns = {"id": pa.array(["1", "2", "3"]), "v": pa.array([b"", None, b"\x00\xff'"], pa.binary())}
    found = from_parquet(live, "parquet_binary", "bytea", columns, 'CAST("V" AS VARCHAR)')
    return said(found == {1: "", 2: None, 3: "00FF27"}, f"the target has {found}")


@case(18, "A time of a Parquet file arrives with its microseconds", cannot="its COPY reads CSV only")
def parquet_time(live: Live) -> Found:
    import pyarrow as pa

    moments = [datetime(2026, 1, 2, 3, 4, 5, 678901), None, datetime(1970, 1, 1)]
    columns = {"id": pa.array(["1", "2", "3"]), "v": pa.array(moments, pa.timestamp("us"))}
    found = from_parquet(live, "parquet_time", "timestamp", columns, """TO_VARCHAR("V", 'YYYY-MM-DD HH24:MI:SS.FF6')""")
    wanted = {1: "2026-01-02 03:04:05.678901", 2: None, 3: "1970-01-01 00:00:00.000000"}
    return said(found == wanted, f"the target has {found}")


@case(19, "Objects of a large load have at most 250 MB", Ground.FAKE)
def sizes_of_objects(live: Live) -> Found:
    live.at_source("CREATE TABLE large (id int PRIMARY KEY, v text)")
    # md5 texts are twice as long as their content, so zstd halves them at most.
    live.at_source(
        f"INSERT INTO large SELECT i, md5(i::text) || md5((-i)::text) FROM generate_series(1, {live.rows}) i"
    )
    receipt = live.run(live.config("large"))
    store = live.places.stage.store
    pages = store.pages(f"{store.prefix}{live.name}.large/")
    sizes = [stored.bytes for page in pages for stored in page if stored.key.endswith(".csv.zst")]
    largest = max(sizes) / 1e6
    held = receipt.target_rows == live.rows and largest <= 250
    return said(held, f"{receipt.target_rows:,} rows; objects: {len(sizes)}, the largest has {largest:.1f} MB")
