"""Cases that bring whole tables from the source to the target: every strategy, every type, and many rows."""

from __future__ import annotations

import hashlib

from aurora_sync.engine.sync import verify
from aurora_sync.model.certificate import Level
from aurora_sync.warehouse.ddl import literal
from aurora_sync.warehouse.merge import digits
from aurora_sync_tests.live.cases import Found, case, not_tried, said
from aurora_sync_tests.live.files import with_files
from aurora_sync_tests.live.ground import Ground, Live
from aurora_sync_tests.live.roundtrip import STRATEGIES, roundtrip
from aurora_sync_tests.live.streams import dms_files, slot_stream
from aurora_sync_tests.live.type_matrix import type_matrix
from aurora_sync_tests.scenarios.type_matrix.cases import CASES


@case(0, "Every cursor strategy brings every row, through updates, deletes and new columns", Ground.FAKE)
def every_strategy(live: Live) -> Found:
    roundtrip(live.plain)
    return said(True, f"{len(STRATEGIES)} tables: {', '.join(STRATEGIES)}; each equal by content")


@case(0, "Every type arrives, with the values that do not fit it", Ground.FAKE)
def every_type(live: Live) -> Found:
    without = () if live.on_snowflake else ("numeric(38,0)",)  # the fake makes it an INT64
    type_matrix(live.plain, without=without)
    return said(True, f"{len(CASES) - len(without)} types; equal by content")


@case(0, "A replication slot brings changes, deletes, a history and a truncate", Ground.FAKE)
def replication_slot(live: Live) -> Found:
    if live.at_source("SHOW wal_level")[0][0] != "logical":
        return not_tried("the source has no logical replication (wal_level)")
    slot_stream(live.plain)
    return said(True, "20 rows, 5 changes, 28 rows of history, a truncate")


@case(0, "CSV files of a DMS task arrive", cannot="it has no MATCH_BY_COLUMN_NAME")
def dms_csv(live: Live) -> Found:
    dms_files(with_files(live))
    return said(True, "a full load, updates, a delete and an unchanged column")


@case(0, "Sums agree on all sides: reconcile and verify find no difference", Ground.FAKE, Ground.SMALL)
def sums_agree(live: Live) -> Found:
    """Key buckets and content, with keys that are texts, so that both sides compute MD5."""
    live.at_source(
        "CREATE TABLE summed_up (k text, p int, v text, n numeric(12,2), at timestamptz, PRIMARY KEY (k, p))"
    )
    live.at_source(
        "INSERT INTO summed_up SELECT 'größe ' || i, i % 7, NULLIF(i % 5, 0)::text, i / 3.0, '2024-02-29 12:00:00+00'"
        " FROM generate_series(1, 500) i"
    )
    config = live.config("summed_up")
    live.run(config)
    receipt = live.run(config, "DELETE FROM summed_up WHERE p = 3", reconcile=True)
    found = verify(config, live.places).verification
    equal = found is not None and found.equal
    repaired = receipt.certificate.level is Level.CERTIFIED and receipt.target_rows == receipt.source_rows
    return said(
        equal and repaired, f"{receipt.deleted} rows deleted by the reconcile; {receipt.target_rows} rows equal"
    )


@case(0, "The digits of an MD5 are the same numbers on both sides", Ground.FAKE, Ground.SMALL)
def md5_digits(live: Live) -> Found:
    """The sums of key buckets rest on them. On Snowflake also MD5_NUMBER_LOWER64, which nothing uses today."""
    text = "größe 1"
    hexadecimal = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    expected = int(hexadecimal[:15].translate(str.maketrans("abcdef", "012345")))
    found = int(live.value(f"SELECT {digits(literal(text))}"))
    evidence = f"found {found}, expected {expected}"
    if live.on_snowflake:
        lower = int(live.value(f"SELECT BITAND(MD5_NUMBER_LOWER64({literal(text)}), {2**60 - 1})"))
        evidence += f"; the lower 60 bits by MD5_NUMBER_LOWER64 are {lower}, expected {int(hexadecimal[-15:], 16)}"
    return said(found == expected, evidence)


@case(0, "A large table and an increment of it arrive", Ground.FAKE)
def many_rows(live: Live) -> Found:
    live.at_source("CREATE TABLE many (id bigint PRIMARY KEY, v text, n numeric(12,2), at timestamptz)")
    live.at_source(
        f"INSERT INTO many SELECT i, md5(i::text), i / 7.0, now() FROM generate_series(1, {live.rows}) i; ANALYZE many"
    )
    config = live.config("many")
    first = live.run(config)
    second = live.run(config, "UPDATE many SET v = 'x' WHERE id % 100000 = 7")
    third = live.run(config, reconcile=True)
    held = third.certificate.level is Level.CERTIFIED and third.target_rows == live.rows
    seconds = ", ".join(f"{r.seconds['total']:.1f} s" for r in (first, second, third))
    return said(held, f"{third.target_rows:,} rows, {second.updated} updated; load, increment, reconcile: {seconds}")
