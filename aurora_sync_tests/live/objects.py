"""Cases of the rules about tables, schemas, policies and collations (rules 1 to 5)."""

from __future__ import annotations

import re
from typing import Any

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.sync import verify
from aurora_sync.warehouse.base import Trial
from aurora_sync.warehouse.ddl import DELETED, described, identifier, literal, target_name
from aurora_sync_tests.live.cases import Found, case, not_tried, one_line, said
from aurora_sync_tests.live.ground import Ground, Live

ENTERPRISE = "the Enterprise edition and CREATE MASKING POLICY"
_REPLACES = re.compile(r"CREATE OR REPLACE (?!TEMPORARY)|DROP TABLE|SWAP WITH")


def _loaded(live: Live, table: str, **keys: Any) -> TableConfig:
    """Create a table of 20 rows at the source and sync it."""
    live.at_source(f"CREATE TABLE {table} (id int PRIMARY KEY, v text, n numeric(10,2))")
    live.at_source(f"INSERT INTO {table} SELECT i, 'v' || i, i FROM generate_series(1, 20) i")
    config = live.config(table, **keys)
    live.run(config)
    return config


@case(1, "No run replaces or drops a target: increment, full reload, reconcile, new column", Ground.FAKE, Ground.SMALL)
def target_is_never_replaced(live: Live) -> Found:
    config = _loaded(live, "kept")
    sent: list[str] = []
    for changes, options in (
        (("UPDATE kept SET v = 'w' WHERE id < 5",), {}),
        ((), {"full": True}),
        (("DELETE FROM kept WHERE id = 7",), {"reconcile": True}),
        (("ALTER TABLE kept ADD COLUMN added int DEFAULT 1",), {"reconcile": True}),
    ):
        live.run(config, *changes, **options)
        sent += live.sent
    harmful = [one_line(statement, 80) for statement in sent if _REPLACES.search(statement)]
    return said(not harmful, f"{len(sent)} statements, of which replace or drop: {harmful or 'none'}")


@case(1, "A change of type keeps the target: an added column replaces the old one", Ground.FAKE, Ground.SMALL)
def type_change_keeps_the_target(live: Live) -> Found:
    config = _loaded(live, "retyped")
    live.run(config, "ALTER TABLE retyped ALTER COLUMN n TYPE text USING n::text")
    harmful = [one_line(statement, 80) for statement in live.sent if _REPLACES.search(statement)]
    return said(not harmful, f"numeric became text; statements that replace the target: {harmful or 'none'}")


@case(
    1, "A stream on a target stays readable after a full reload", cannot="it has no streams", optional="CREATE STREAM"
)
def stream_survives(live: Live) -> Found:
    config = _loaded(live, "streamed")
    stream = live.table("STREAMED_STREAM").sql
    live.query(f"CREATE STREAM {stream} ON TABLE {target_name(config).sql}")
    live.run(config, "UPDATE streamed SET v = 'w' WHERE id < 5")
    live.run(config, full=True)
    return said(True, f"{live.value(f'SELECT COUNT(*) FROM {stream}')} changes were read from the stream")


@case(1, "SHOW STREAMS names the table of a stream", cannot="it has no streams", optional="CREATE STREAM")
def streams_are_shown(live: Live) -> Found:
    live.query(f"CREATE TABLE {live.table('BASE').sql} (\"A\" NUMBER(5,0)) DEFAULT_DDL_COLLATION = ''")
    live.query(f"CREATE STREAM {live.table('SHOWN').sql} ON TABLE {live.table('BASE').sql}")
    rows = live.labelled(f"SHOW STREAMS IN SCHEMA {identifier(live.schema)}")
    found = [row for row in rows if row["name"] == "SHOWN"]
    return said(
        bool(found) and str(found[0]["table_name"]).endswith("BASE"),
        f"{len(found)} stream; columns: {', '.join(found[0]) if found else 'none'}",
    )


def _masking(live: Live, name: str) -> str:
    policy = live.table(name).sql
    live.query(f"CREATE MASKING POLICY {policy} AS (val VARCHAR) RETURNS VARCHAR -> '***'")
    return policy


@case(2, "DESCRIBE TABLE names the masking policy of a column", cannot="it has no policies", optional=ENTERPRISE)
def policy_is_described(live: Live) -> Found:
    policy = _masking(live, "MASK_DESCRIBED")
    live.query(f'CREATE TABLE {live.table("MASKED").sql} ("ID" NUMBER(5,0), "V" VARCHAR) DEFAULT_DDL_COLLATION = \'\'')
    live.query(f'ALTER TABLE {live.table("MASKED").sql} MODIFY COLUMN "V" SET MASKING POLICY {policy}')
    found = described(live.session, live.table("MASKED"))
    named = found["V"].policy
    return said("MASK_DESCRIBED" in named and not found["ID"].policy, f"policy name of the masked column: {named!r}")


@case(2, "A masking policy on a target's column stays through an increment and a full reload",
      cannot="it has no policies", optional=ENTERPRISE)  # fmt: skip
def policy_survives(live: Live) -> Found:
    config = _loaded(live, "kept_masked")
    target = target_name(config)
    live.query(f'ALTER TABLE {target.sql} MODIFY COLUMN "V" SET MASKING POLICY {_masking(live, "MASK_KEPT")}')
    live.run(config, "UPDATE kept_masked SET v = 'w' WHERE id < 5")
    live.run(config, full=True)
    policy, shown = described(live.session, target)["V"].policy, live.value(f'SELECT MAX("V") FROM {target.sql}')
    return said("MASK_KEPT" in policy and shown == "***", f"policy {policy!r}; a reader sees {shown!r}")


@case(2, "A masked column is masked for its owner, and an UPDATE writes masked values", cannot="it has no policies",
      optional=ENTERPRISE)  # fmt: skip
def owner_reads_masked_values(live: Live) -> Found:
    table = live.table("OWNED").sql
    live.query(f'CREATE TABLE {table} ("A" VARCHAR, "B" VARCHAR) DEFAULT_DDL_COLLATION = \'\'')
    live.query(f"INSERT INTO {table} VALUES ('secret', '')")
    live.query(f'ALTER TABLE {table} MODIFY COLUMN "A" SET MASKING POLICY {_masking(live, "MASK_OWNED")}')
    live.query(f'UPDATE {table} SET "B" = "A"')
    ((read, copied),) = live.query(f'SELECT "A", "B" FROM {table}')
    return said((read, copied) == ("***", "***"), f"SELECT returned {read!r}, the UPDATE wrote {copied!r}")


@case(2, "POLICY_REFERENCES lists the policies of a table", cannot="it has no policies", optional=ENTERPRISE)
def policy_references(live: Live) -> Found:
    table = live.table("REFERRED")
    live.query(f"CREATE TABLE {table.sql} (\"A\" VARCHAR) DEFAULT_DDL_COLLATION = ''")
    live.query(f'ALTER TABLE {table.sql} MODIFY COLUMN "A" SET MASKING POLICY {_masking(live, "MASK_REFERRED")}')
    name = literal(f"{identifier(live.value('SELECT CURRENT_DATABASE()'))}.{table.sql}")
    rows = live.query(
        "SELECT POLICY_KIND, REF_COLUMN_NAME FROM TABLE(INFORMATION_SCHEMA.POLICY_REFERENCES("
        f"REF_ENTITY_NAME => {name}, REF_ENTITY_DOMAIN => 'TABLE'))"
    )
    return said(rows == [("MASKING_POLICY", "A")], f"found {rows}")


@case(2, "A row access policy limits what COUNT and DELETE see", cannot="it has no policies",
      optional="the Enterprise edition and CREATE ROW ACCESS POLICY")  # fmt: skip
def row_access_policy(live: Live) -> Found:
    table, policy = live.table("LIMITED").sql, live.table("ROWS_BELOW_3").sql
    live.query(f"CREATE TABLE {table} (\"A\" NUMBER(5,0)) DEFAULT_DDL_COLLATION = ''")
    live.query(f"INSERT INTO {table} VALUES (1), (2), (3), (4)")
    live.query(f"CREATE ROW ACCESS POLICY {policy} AS (a NUMBER) RETURNS BOOLEAN -> a < 3")
    live.query(f'ALTER TABLE {table} ADD ROW ACCESS POLICY {policy} ON ("A")')
    counted = int(live.value(f"SELECT COUNT(*) FROM {table}"))
    deleted = live.session.modify(f"DELETE FROM {table}")
    live.query(f"ALTER TABLE {table} DROP ROW ACCESS POLICY {policy}")
    left = int(live.value(f"SELECT COUNT(*) FROM {table}"))
    return said((counted, deleted, left) == (2, 2, 2), f"of 4 rows: counted {counted}, deleted {deleted}, left {left}")


@case(3, "A table inherits en-ci from its schema: 'a' = 'A', and IS DISTINCT FROM misses 'abc' to 'ABC'",
      cannot="it has no collations")  # fmt: skip
def collation_is_inherited(live: Live) -> Found:
    schema = live.make_schema("INHERITS", " DEFAULT_DDL_COLLATION = 'en-ci'")
    table = f'"{schema}"."T"'
    live.query(f'CREATE TABLE {table} ("A" VARCHAR, "B" VARCHAR)')
    live.query(f"INSERT INTO {table} VALUES ('abc', 'ABC')")
    found = live.query(f'SELECT "A" = "B", "A" IS DISTINCT FROM "B" FROM {table}')
    return said(found == [(True, False)], f"equal, distinct: {found}")


@case(3, "A target in a schema with en-ci keeps keys and values that differ in case", cannot="it has no collations")
def target_has_no_collation(live: Live) -> Found:
    schema = live.make_schema("CI", " DEFAULT_DDL_COLLATION = 'en-ci'")
    live.at_source("CREATE TABLE cased (k text PRIMARY KEY, v text)")
    live.at_source("INSERT INTO cased VALUES ('a', 'abc'), ('A', 'abc')")
    config = live.config("cased", target_schema=schema)
    live.run(config)
    live.run(config, "UPDATE cased SET v = 'ABC' WHERE k = 'a'", "ALTER TABLE cased ADD COLUMN w text DEFAULT 'x'")
    live.run(config, "UPDATE cased SET w = 'X' WHERE k = 'A'")
    rows = live.rows_of(config, '"K", "V", "W"')
    collations = {name: c.collation for name, c in described(live.session, target_name(config)).items() if c.collation}
    held = rows == [("A", "abc", "X"), ("a", "ABC", "x")] and not collations
    return said(held, f"rows {rows}; collated columns: {collations or 'none'}")


@case(4, "`aurora-sync check` finds nothing that a run would lack", Ground.FAKE)
def check_finds_nothing(live: Live) -> Found:
    trial = Trial(live.places.stage.store, live.places.log_schema, (live.schema,))
    problems = live.places.warehouse.problems(trial)
    return said(not problems, one_line("; ".join(problems)) or "stage, COPY, MERGE and DDL were tried")


@case(4, "A run into existing schemas sends no CREATE SCHEMA", Ground.FAKE, Ground.SMALL)
def existing_schema_is_used(live: Live) -> Found:
    _loaded(live, "in_schema")  # the schema of the sync log may be created by this one
    live.at_source("CREATE TABLE in_schema_too (id int PRIMARY KEY)")
    live.run(live.config("in_schema_too"))
    made = [one_line(statement, 80) for statement in live.sent if statement.startswith("CREATE SCHEMA")]
    return said(not made, f"a first load sent {len(live.sent)} statements, of which CREATE SCHEMA: {made or 'none'}")


@case(5, "A target has the key, comments, clustering, retention and text lengths of tables.yaml and the source",
      cannot="it ignores them")  # fmt: skip
def target_options(live: Live) -> Found:
    live.at_source("CREATE TABLE described (id int PRIMARY KEY, v varchar(20), w text)")
    live.at_source("COMMENT ON COLUMN described.v IS 'it''s'")
    config = live.config("described", transient=True, retention_days=0, cluster_by=["id"])
    live.run(config, "INSERT INTO described VALUES (1, 'a', 'b')")
    target = target_name(config)
    columns = {row["name"]: (row["type"], row["comment"]) for row in live.labelled(f"DESCRIBE TABLE {target.sql}")}
    keys = live.labelled(f"SHOW PRIMARY KEYS IN TABLE {target.sql}")
    shown = live.labelled(f"SHOW TABLES IN SCHEMA {identifier(target.schema)} STARTS WITH {literal(target.name)}")[0]
    options = {name: str(shown[name]) for name in ("kind", "retention_time", "cluster_by")}
    held = columns["V"] == ("VARCHAR(20)", "it's") and columns["W"][0] == "VARCHAR(16777216)"
    held = held and [key["column_name"] for key in keys] == ["ID"] and options["kind"] == "TRANSIENT"
    held = held and options["retention_time"] == "0" and '"ID"' in options["cluster_by"]
    return said(held, f"V {columns['V']}, W {columns['W']}, keys {len(keys)}, rely {keys[0].get('rely')}, {options}")


@case(5, "names: preserve writes the names of PostgreSQL, and a target keeps its names when the option changes",
      Ground.FAKE, Ground.SMALL)  # fmt: skip
def names_of_the_source(live: Live) -> Found:
    live.at_source('CREATE TABLE "orderLines" ("lineId" int PRIMARY KEY, "Note" text)')
    config = live.config("orderLines", names="preserve", target_schema=live.schema)
    live.run(config, """INSERT INTO "orderLines" VALUES (1, 'a')""")
    receipt = live.run(live.config("orderLines"), """INSERT INTO "orderLines" VALUES (2, 'b')""")
    rows = live.rows_of(config, '"lineId", "Note"')
    found = live.session.spellings("orderlines")
    held = found == [(live.schema, "orderLines")] and [int(key) for key, _ in rows] == [1, 2]
    return said(held and receipt.rows_exported == 1, f"targets {found}, {len(rows)} rows, {receipt.rows_exported} read")


@case(5, "Under names: preserve, columns that differ only by case are two columns", cannot="it ignores case")
def columns_of_both_cases(live: Live) -> Found:
    live.at_source('CREATE TABLE cases (id int PRIMARY KEY, note text, "Note" text)')
    config = live.config("cases", names="preserve", target_schema=live.schema)
    live.run(config, "INSERT INTO cases VALUES (1, 'a', 'b')")
    live.run(config, "UPDATE cases SET note = 'c'")
    rows = live.rows_of(config, '"note", "Note"')
    return said(rows == [("c", "b")], f"rows {rows}")


@case(5, "Soft deletes mark rows, and the target keeps them", Ground.FAKE, Ground.SMALL)
def soft_deletes(live: Live) -> Found:
    config = _loaded(live, "marked", deletes="soft")
    live.run(config, "DELETE FROM marked WHERE id = 3", reconcile=True)
    marked = live.query(f'SELECT "ID" FROM {target_name(config).sql} WHERE {identifier(DELETED)}')
    return said([int(row[0]) for row in marked] == [3], f"marked rows: {[int(row[0]) for row in marked]}")


@case(1, "Content agrees on both sides after all of this", Ground.FAKE, Ground.SMALL)
def content_agrees(live: Live) -> Found:
    config = _loaded(live, "agreed")
    live.run(config, "UPDATE agreed SET n = n + 1 WHERE id < 9", "DELETE FROM agreed WHERE id = 20", reconcile=True)
    found = verify(config, live.places).verification
    if found is None:
        return not_tried("the run compared nothing")
    return said(found.equal, f"{found.source_rows} rows compared by content")
