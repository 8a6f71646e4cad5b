"""Cases of the rules about cost (rules 9 to 16)."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aurora_sync.engine import gc
from aurora_sync.model.column import Column
from aurora_sync.model.names import fold
from aurora_sync.warehouse.base import Row
from aurora_sync.warehouse.bounds import Bound
from aurora_sync.warehouse.ddl import NO_COLLATION, TargetColumn, target_name
from aurora_sync.warehouse.types import type_rule
from aurora_sync_tests.live.cases import Found, case, one_line, said
from aurora_sync_tests.live.ground import Ground, Live

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "statements.md"
UPDATE = "UPDATE counted SET v = v || 'x' WHERE id <= 10"
# The kinds of run in the table of the page, in this order: what changes at the source, and the options of the run.
KINDS: dict[str, tuple[tuple[str, ...], dict[str, bool]]] = {
    "first load": ((), {}),
    "increment of ten rows": ((UPDATE,), {}),
    "run without a change": ((), {}),
    "reconcile, nothing to repair": ((), {"reconcile": True}),
    "reconcile, two rows deleted": (("DELETE FROM counted WHERE id IN (1, 2)",), {"reconcile": True}),
    "increment with a new column": (("ALTER TABLE counted ADD COLUMN w int DEFAULT 1", UPDATE), {}),
    "full reload": ((), {"full": True}),
}
_HISTORY = (
    "SELECT QUERY_TYPE, WAREHOUSE_SIZE, QUERY_TEXT, QUERY_ID FROM TABLE(INFORMATION_SCHEMA.QUERY_HISTORY_BY_USER("
    "RESULT_LIMIT => 10000)) WHERE CONTAINS(QUERY_TAG, ?) ORDER BY START_TIME"
)
_PRUNED = (
    "SELECT SUM(OPERATOR_STATISTICS:pruning:partitions_scanned::NUMBER),"
    " SUM(OPERATOR_STATISTICS:pruning:partitions_total::NUMBER)"
    " FROM TABLE(GET_QUERY_OPERATOR_STATS('{}')) WHERE OPERATOR_TYPE = 'TableScan'"
)


def of_the_page() -> dict[str, tuple[int, int]]:
    """Return the statements of each kind of run, and those on a virtual warehouse, from the reference."""
    lines = [line.strip("|").split("|") for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:2] == "| "]
    return {kind.strip(): (int(sent), int(needing)) for kind, sent, needing in lines[1:]}


@case(10, "Each kind of run sends as many statements as docs/reference/statements.md says", Ground.FAKE, Ground.SMALL)
def statements_of_the_page(live: Live) -> Found:
    """On Snowflake they are counted on the server as well, by the query tag."""
    live.at_source("CREATE TABLE counted (id int PRIMARY KEY, v text, n numeric(10,2))")
    live.at_source("INSERT INTO counted SELECT i, 'v', i FROM generate_series(1, 100) i")
    # The first load of the page makes the schemas of the target and of the log as well.
    live = dataclasses.replace(live, places=dataclasses.replace(live.places, log_schema=live.further_schema("LOG")))
    config = live.config("counted", target_schema=live.further_schema("COUNTED"))
    page, found, before = of_the_page(), dict[str, tuple[int, int | None]](), list[Row]()
    for kind, (changes, options) in KINDS.items():
        live.run(config, *changes, **options)
        found[kind] = (len(live.sent), None)
        if live.on_snowflake:
            history = live.query(_HISTORY, (config.qualified_name,))
            new, before = history[len(before) :], history
            found[kind] = (len(new), sum(size is not None for _, size, _, _ in new))
    # Snowflake may answer a count from metadata.
    differ = {
        kind: f"{sent, needing} instead of {page[kind]}"
        for kind, (sent, needing) in found.items()
        if sent != page[kind][0] or (needing or 0) > page[kind][1]
    }
    if differ:
        return said(False, f"differ: {differ}")
    if live.on_snowflake:
        listed = ", ".join(f"{kind}: {sent}/{needing}" for kind, (sent, needing) in found.items())
        return said(True, f"counted on the server (all/on a warehouse): {listed}")
    listed = ", ".join(f"{kind}: {sent}" for kind, (sent, _) in found.items())
    return said(True, f"counted at the client; which need a warehouse was not tried: {listed}")


@case(9, "DESCRIBE, SHOW and DDL use no virtual warehouse", cannot="it has no virtual warehouses")
def metadata_needs_no_warehouse(live: Live) -> Found:
    live.at_source("CREATE TABLE cheap (id int PRIMARY KEY)")
    live.run(live.config("cheap"))
    live.run(live.config("cheap"), "INSERT INTO cheap VALUES (1)")
    rows = live.query(_HISTORY, (f"{live.name}.cheap",))
    free = ("DESCRIBE", "SHOW", "BEGIN", "COMMIT", "CREATE SCHEMA", "CREATE TABLE IF", "CREATE OR REPLACE TEMPORARY")
    metadata = [(text, size) for _, size, text, _ in rows if text.startswith(free)]
    billed = [one_line(text, 60) for text, size in metadata if size is not None]
    return said(
        not billed and bool(metadata), f"{len(metadata)} statements, of which on a warehouse: {billed or 'none'}"
    )


@case(9, "Neither a first load nor an increment queries INFORMATION_SCHEMA", Ground.FAKE, Ground.SMALL)
def no_information_schema(live: Live) -> Found:
    live.at_source("CREATE TABLE looked_at (id int PRIMARY KEY, v text)")
    config, sent = live.config("looked_at"), list[str]()
    for changes in ((), ("INSERT INTO looked_at VALUES (1, 'a')",), ("ALTER TABLE looked_at ADD COLUMN w int",)):
        live.run(config, *changes)
        sent += live.sent
    asked = [one_line(statement, 80) for statement in sent if "INFORMATION_SCHEMA" in statement]
    return said(not asked, f"{len(sent)} statements, of which query it: {asked or 'none'}")


@case(9, "SHOW TABLES reports other rows or bytes after each change of a table", Ground.FAKE, Ground.SMALL)
def size_changes(live: Live) -> Found:
    """hints.py reads an idle target again only if these numbers changed."""
    table = live.table("SIZED")
    live.query(f'CREATE TABLE {table.sql} ("A" NUMBER(10,0), "B" VARCHAR){NO_COLLATION}')
    live.query(f"INSERT INTO {table.sql} VALUES (1, 'a'), (2, 'b')")
    sizes = [live.session.size(table.schema, table.name)]
    for statement in (
        f'UPDATE {table.sql} SET "B" = \'longer than before\' WHERE "A" = 1',
        f'UPDATE {table.sql} SET "A" = 3 WHERE "A" = 2',
        f"INSERT INTO {table.sql} VALUES (4, 'd')",
        f'DELETE FROM {table.sql} WHERE "A" = 4',
    ):
        live.session.modify(statement)
        sizes.append(live.session.size(table.schema, table.name))
    same = [place for place in range(1, len(sizes)) if sizes[place] == sizes[place - 1]]
    return said(not same, f"(rows, bytes) in turn: {', '.join(map(str, sizes))}")


@case(11, "A MERGE with the bounds of its keys scans fewer micro-partitions", cannot="it has no micro-partitions")
def bounds_prune(live: Live) -> Found:
    """The bounds are those of warehouse/bounds.py: ten keys, as a range and as a list."""
    table = live.table("PRUNED").sql
    live.query(
        f'CREATE TABLE {table} ("ID" NUMBER(19,0), "V" VARCHAR){NO_COLLATION} AS'
        ' SELECT ROW_NUMBER() OVER (ORDER BY SEQ8()) AS "ID", RANDSTR(400, RANDOM()) AS "V"'
        f' FROM TABLE(GENERATOR(ROWCOUNT => {live.rows})) ORDER BY "ID"'
    )
    middle = live.rows // 2
    source = Column("id", 1, "bigint", "int8")
    column = TargetColumn(source, type_rule(source), fold(source.name))
    keys = ", ".join(str(middle + place) for place in range(10))
    bounds = {
        "without": "",
        "BETWEEN": f" AND {Bound(column, f'BETWEEN {middle} AND {middle + 9}').on('t')}",
        "IN": f" AND {Bound(column, f'IN ({keys})').on('t')}",
    }
    scanned: dict[str, tuple[int, int]] = {}
    for name, bound in bounds.items():
        live.session.merge(
            f'MERGE INTO {table} AS t USING (SELECT {middle} + SEQ4() AS "ID"'
            " FROM TABLE(GENERATOR(ROWCOUNT => 10))) AS s"
            f' ON t."ID" = s."ID"{bound} WHEN MATCHED THEN UPDATE SET "V" = \'{name}\''
            ' WHEN NOT MATCHED THEN INSERT ("ID") VALUES (s."ID")'
        )
        ((some, total),) = live.query(_PRUNED.format(live.value("SELECT LAST_QUERY_ID()")))
        scanned[name] = (int(some), int(total))
    fewer = all(scanned[name][0] < scanned["without"][0] for name in ("BETWEEN", "IN"))
    return said(fewer, ", ".join(f"{name}: {some} of {total}" for name, (some, total) in scanned.items()))


@case(12, "MERGE reports inserted, updated and deleted rows, and deletes in the same statement", Ground.FAKE,
      Ground.SMALL)  # fmt: skip
def merge_counts(live: Live) -> Found:
    table = live.table("MERGED").sql
    live.query(f'CREATE TABLE {table} ("ID" NUMBER(5,0), "V" VARCHAR){NO_COLLATION}')
    live.query(f"INSERT INTO {table} VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    merged = live.session.merge(
        f"MERGE INTO {table} AS t USING (SELECT 1 AS \"ID\", 'D' AS \"OP\" UNION ALL SELECT 2, 'U'"
        " UNION ALL SELECT 4, 'U' UNION ALL SELECT 5, 'U') AS s ON t.\"ID\" = s.\"ID\""
        " WHEN MATCHED AND s.\"OP\" = 'D' THEN DELETE WHEN MATCHED THEN UPDATE SET \"V\" = 'new'"
        ' WHEN NOT MATCHED THEN INSERT ("ID", "V") VALUES (s."ID", \'new\')'
    )
    counts = (merged.inserted, merged.updated, merged.deleted)
    return said(counts == (2, 1, 1), f"inserted, updated, deleted: {counts}")


@case(12, "IS DISTINCT FROM compares ARRAY values by content, also NULL elements", Ground.FAKE, Ground.SMALL)
def distinct_arrays(live: Live) -> Found:
    live.at_source("CREATE TABLE listed (id int PRIMARY KEY, tags text[])")
    live.at_source(
        "INSERT INTO listed VALUES (1, ARRAY['a', NULL]), (2, ARRAY['a', 'b']), (3, ARRAY['a', NULL]), (4, NULL)"
    )
    config = live.config("listed")
    live.run(config)
    target = target_name(config).sql
    found = live.query(
        f'SELECT a."ID", b."ID" FROM {target} AS a JOIN {target} AS b ON a."ID" < b."ID"'
        ' WHERE a."TAGS" IS DISTINCT FROM b."TAGS" ORDER BY 1, 2'
    )
    pairs = [(int(a), int(b)) for a, b in found]
    live.run(config, "UPDATE listed SET tags = ARRAY['a', 'c'] WHERE id = 2")
    updated = json.loads(live.value(f'SELECT TO_JSON("TAGS") FROM {target} WHERE "ID" = 2'))
    held = pairs == [(1, 2), (1, 4), (2, 3), (2, 4), (3, 4)] and updated == ["a", "c"]
    return said(held, f"of ['a', NULL], ['a', 'b'], ['a', NULL], NULL differ: {pairs}; an update arrived as {updated}")


@case(13, "The compaction of the sync log keeps its entries, and leaves fewer micro-partitions", Ground.FAKE,
      Ground.SMALL)  # fmt: skip
def compaction(live: Live) -> Found:
    live.at_source("CREATE TABLE logged (id int PRIMARY KEY, v int)")
    config = live.config("logged")
    for number in range(6):
        live.run(config, f"INSERT INTO logged VALUES ({number}, 0)")
    log = f'"{live.places.log_schema}"."SYNC_LOG"'
    entries = f'SELECT COUNT(*), SUM("RUN_SEQUENCE"), COUNT(DISTINCT "LOAD_ID") FROM {log}'
    partitions = f"SELECT SYSTEM$CLUSTERING_INFORMATION('{log}', '(\"RUN_SEQUENCE\")')"
    before, many = live.query(entries), _partitions(live, partitions)
    gc.compact_log(live.places, datetime.now(UTC) + gc.LOG_AT_REST + timedelta(hours=1))
    after, few = live.query(entries), _partitions(live, partitions)
    shrunk = few < many or not live.on_snowflake
    counted = f"; micro-partitions: {many}, then {few}" if live.on_snowflake else "; micro-partitions: not tried"
    return said(before == after and shrunk, f"{int(before[0][0])} entries before, {int(after[0][0])} after{counted}")


def _partitions(live: Live, statement: str) -> int:
    return int(json.loads(live.value(statement))["total_partition_count"]) if live.on_snowflake else 0


@case(14, "The staging table is temporary: no other session sees it, and it ends with its session", Ground.SMALL)
def temporary_staging(live: Live) -> Found:
    live.at_source("CREATE TABLE staged (id int PRIMARY KEY)")
    live.run(live.config("staged"), "INSERT INTO staged VALUES (1)")
    made = [statement for statement in live.sent if statement.startswith("CREATE OR REPLACE TEMPORARY")]
    tables = live.session.tables(live.places.log_schema, "STAGING")
    left = [name for name in tables if name.startswith("STAGING")]  # the small Snowflake shows them all
    return said(bool(made) and not left, f"the run made {len(made)}; afterwards another session sees {left or 'none'}")


@case(15, "Each statement has a query id", Ground.FAKE)
def query_ids(live: Live) -> Found:
    with live.session._execute("SELECT 1", ()) as cursor:  # type: ignore[attr-defined]
        id_ = cursor.sfqid
    return said(bool(id_), f"an id of {len(id_ or '')} characters")


@case(15, "The role may read credits by query tag from QUERY_ATTRIBUTION_HISTORY", cannot="it has no ACCOUNT_USAGE",
      optional="the database role SNOWFLAKE.GOVERNANCE_VIEWER")  # fmt: skip
def attribution(live: Live) -> Found:
    rows = live.query(
        "SELECT COUNT(*), COUNT(CREDITS_ATTRIBUTED_COMPUTE), COUNT_IF(QUERY_TAG LIKE '%aurora_sync%')"
        " FROM SNOWFLAKE.ACCOUNT_USAGE.QUERY_ATTRIBUTION_HISTORY"
        " WHERE START_TIME > DATEADD(DAY, -2, CURRENT_TIMESTAMP())"
    )
    total, _, tagged = rows[0]
    return said(True, f"{total} queries of the last two days, {tagged} with a tag of aurora_sync; it lags by hours")


@case(16, "A first load sends no DELETE and no MERGE", Ground.FAKE, Ground.SMALL)
def first_load_only_inserts(live: Live) -> Found:
    live.at_source("CREATE TABLE loaded (id int PRIMARY KEY, v text)")
    config = live.config("loaded")
    live.run(config, "INSERT INTO loaded SELECT i, 'v' FROM generate_series(1, 50) i")
    verbs = [statement.split()[0] for statement in live.sent]
    found = [verb for verb in verbs if verb in ("DELETE", "MERGE")]
    rows = int(live.value(f"SELECT COUNT(*) FROM {target_name(config).sql}"))
    return said(not found, f"{len(verbs)} statements for {rows} rows, of which: {', '.join(found) or 'neither'}")
