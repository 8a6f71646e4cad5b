from __future__ import annotations

import json
from pathlib import Path

import pytest

from aurora_sync.config.loader import SyncConfig, expand, from_mapping, load
from aurora_sync.config.tables import TableConfig
from aurora_sync.config.watermark_types import WatermarkType
from aurora_sync.errors import ConfigError


@pytest.fixture
def tables_yaml(tmp_path: Path) -> Path:
    return tmp_path / "tables.yaml"


def read(path: Path, text: str | bytes) -> SyncConfig:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(path)


def problems(path: Path, text: str | bytes) -> list[str]:
    """Return the problems of a text, without the name of the file."""
    with pytest.raises(ConfigError) as caught:
        read(path, text)
    assert all(problem.startswith(str(path)) for problem in caught.value.problems)
    return [problem.removeprefix(f"{path}:").strip() for problem in caught.value.problems]


def only_table(path: Path, entry: str) -> TableConfig:
    (found,) = read(path, f"tables:\n  - {entry}\n").tables
    return found.table


# Valid configurations


def test_every_configuration_of_the_source_document_is_read(tables_yaml: Path) -> None:
    document = {
        "tables": [
            {
                "table_name": "legacy_orders",
                "watermark_type": "integer",
                "watermark_col": "order_id",
                "primary_key": "order_id",
            },
            {"table_name": "customers", "watermark_col": "updated_at"},
            {
                "table_name": "orders",
                "watermark_type": "composite",
                "watermark_cols": ["updated_at", "order_id"],
                "primary_key": "order_id",
            },
            {"table_name": "stock", "watermark_type": "xmin"},
            {"table_name": "countries", "watermark_type": "full_snapshot"},
        ]
    }
    tables = [entry.table for entry in read(tables_yaml, json.dumps(document, indent="\t")).tables]
    assert [table.qualified_name for table in tables] == [
        "public.legacy_orders",
        "public.customers",
        "public.orders",
        "public.stock",
        "public.countries",
    ]
    assert tables[0].primary_key == ["order_id"]
    assert tables[1].watermark_type is WatermarkType.timestamp
    assert tables[2].watermark_columns == ("updated_at", "order_id")


def test_defaults_hold_for_every_table_and_mappings_are_merged_key_by_key(tables_yaml: Path) -> None:
    config = read(
        tables_yaml,
        """
defaults:
  schema: legacy
  schedule: "*/15 * * * *"
  tags: {team: core}
  checks: {row_count: {tolerance: 0.1, every: 3}}
tables:
  - {table_name: a, watermark_type: xmin}
  - {table_name: b, watermark_type: xmin, schedule: null, tags: {tier: gold}, checks: {row_count: {every: 1}}}
  - {table_name: other.c, watermark_type: xmin}
""",
    )
    a, b, c = (entry.table for entry in config.tables)
    assert (a.schedule, a.tags, a.checks.row_count.every) == ("*/15 * * * *", {"team": "core"}, 3)
    assert (b.schedule, b.tags) == (None, {"team": "core", "tier": "gold"})
    assert (b.checks.row_count.every, b.checks.row_count.tolerance) == (1, 0.1)
    assert [t.qualified_name for t in (a, b, c)] == ["legacy.a", "legacy.b", "other.c"]


def test_anchors_aliases_and_merge_keys_may_be_used(tables_yaml: Path) -> None:
    config = read(
        tables_yaml,
        """
tables:
  - &first {table_name: a, watermark_type: xmin, owners: &us [team:data], group: one}
  - {table_name: b, watermark_type: full_snapshot, owners: *us}
  - {<<: *first, table_name: c, group: two}
""",
    )
    assert [entry.table.owners for entry in config.tables] == [["team:data"]] * 3
    assert (config.tables[2].table.watermark_type, config.tables[2].table.group) == (WatermarkType.xmin, "two")


def test_the_line_of_every_table_is_known(tables_yaml: Path) -> None:
    config = read(
        tables_yaml,
        """tables:
  - table_name: orders
    watermark_type: xmin
  - table_name: audit_*
    watermark_type: xmin

  - {table_name: audit_old, watermark_type: full_snapshot}
""",
    )
    tables = expand(config, [("public", "audit_2024"), ("public", "audit_old")])
    assert {table.table_name: config.line_of(table) for table in tables} == {
        "orders": 2,
        "audit_2024": 4,
        "audit_old": 7,
    }


def test_a_mapping_that_is_no_file_is_read_alike_and_its_errors_have_no_line() -> None:
    mapping = {"tables": [{"table_name": "audit_*", "watermark_type": "xmin"}]}
    assert from_mapping(mapping, Path("defs.yaml")).tables[0].line is None
    with pytest.raises(ConfigError, match=r"^defs\.yaml: table public\.a: watermark_type: found 'xmim'"):
        from_mapping({"tables": [{"table_name": "a", "watermark_type": "xmim"}]}, Path("defs.yaml"))


def test_a_byte_order_mark_is_no_part_of_the_first_key(tables_yaml: Path) -> None:
    assert read(tables_yaml, b"\xef\xbb\xbftables: [{table_name: a, watermark_type: xmin}]").tables


# Errors: all at once, each with file, line, table, key, what was found and what was expected


def test_all_problems_are_named_at_once_in_the_order_of_the_file(tables_yaml: Path) -> None:
    found = problems(
        tables_yaml,
        """defaults:
  delets: soft
tables:
  - table_name: legacy.orders
    watermark_type: timestam
  - table_name: legacy.stock
    watermark_type: xmin
    watermark_col: id
    lookback: many
    checks:
      row_count: {tolerance: 2, evry: 3}
  - watermark_type: xmin
  - orders
tabels: []
""",
    )
    having_column = " or ".join(kind for kind in WatermarkType if "watermark_col" in kind.keys.all)
    assert found == [
        "2: defaults: delets: unknown key (did you mean 'deletes'?)",
        f"5: table legacy.orders: watermark_type: found 'timestam'; expected one of {', '.join(WatermarkType)} "
        "(did you mean 'timestamp'?)",
        f"8: table legacy.stock: watermark_col: found 'id'; the key belongs to watermark_type {having_column}, and "
        "this table has xmin",
        "9: table legacy.stock: lookback: found 'many'; expected a whole number",
        "11: table legacy.stock: checks.row_count.tolerance: found 2; expected 1.0 or less",
        "11: table legacy.stock: checks.row_count.evry: unknown key (did you mean 'every'?)",
        "12: table 3 of the list: table_name: missing",
        "13: table 4 of the list: found 'orders'; expected a mapping, such as - table_name: orders",
        "14: tabels: unknown key (did you mean 'tables'?)",
    ]


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("{table_name: t}", "watermark_col: missing; watermark_type timestamp (the default) requires it"),
        ("{table_name: t, watermark_type: integer}", "watermark_col: missing; watermark_type integer requires it"),
        (
            "{table_name: t, watermark_type: composite, watermark_cols: [a]}",
            "watermark_cols: found a list of 1; expected a list of 2 or more",
        ),
        (
            "{table_name: t, watermark_type: composite, watermark_cols: [a, a]}",
            "watermark_cols: found ['a', 'a']; expected each column once",
        ),
        (
            "{table_name: t, watermark_col: a, lookback: 5}",
            "lookback: found 5; the key belongs to watermark_type integer, and this table has timestamp (the default)",
        ),
        (
            "{table_name: t, watermark_type: xmin, watermark_set_by: database}",
            "watermark_set_by: found 'database'; the key belongs to watermark_type timestamp or integer or composite, "
            "and this table has xmin",
        ),
        (
            "{table_name: t, watermark_type: full_snapshot, append_only: true}",
            "append_only: found True; the key belongs to watermark_type xmin, and this table has full_snapshot",
        ),
        (
            "{table_name: t, watermark_type: xmin, schedule: 5 4 * *}",
            "schedule: found '5 4 * *'; expected five fields (minute hour day month weekday) such as '*/15 * * * *'",
        ),
        (
            "{table_name: t, watermark_type: xmin, schedule: 0 24 * * *}",
            "schedule: found '0 24 * * *'; the hour is '24'; expected * or 0 to 23, with -, comma and /",
        ),
        (
            "{table_name: t, watermark_type: xmin, freshness: 2 hours}",
            "freshness.fail_after: found '2 hours'; expected a number of minutes, hours or days such as 30m, 2h or 1d",
        ),
        (
            "{table_name: t, watermark_type: xmin, freshness: {fail_after: 60m, warn_after: 1h}}",
            "freshness: warn_after (1h) must be shorter than fail_after (60m)",
        ),
        (
            "{table_name: t, watermark_type: xmin, freshness: 5}",
            "freshness: found 5; expected a duration such as 2h, or a mapping with fail_after and warn_after",
        ),
        (
            "{table_name: t, watermark_type: xmin, owners: [joe]}",
            "owners[0]: found 'joe'; expected an e-mail address, or team:name",
        ),
        (
            "{table_name: t, watermark_type: xmin, tags: {a b: c}}",
            "tags.a b: found 'a b'; expected up to 63 letters, digits, '_', '-' or '.', optionally after a prefix "
            "and '/'",
        ),
        (
            "{table_name: t, watermark_type: xmin, primary_key: [a, b, a]}",
            "primary_key: found a list of 3; a is listed twice; expected each name once",
        ),
        (
            "{table_name: t, watermark_type: xmin, primary_key: []}",
            "primary_key: found a list of 0; expected a list of 1 or more",
        ),
        (
            "{table_name: t, watermark_type: xmin, primary_key: {a: b}}",
            "primary_key: found a mapping; expected a name or a list of names",
        ),
        (
            "{table_name: t, watermark_type: xmin, exclude: u*}",
            "exclude: found 'u*'; the key belongs to a glob, and table_name is not a glob",
        ),
        ("{table_name: '', watermark_type: xmin}", "table_name: found ''; expected a string that is not empty"),
        (
            "{table_name: t, schema_: legacy, watermark_type: xmin}",
            "schema_: unknown key (did you mean 'schema'?)",
        ),
    ],
)
def test_keys_that_are_wrong_or_do_not_go_together_are_refused_with_the_reason(
    tables_yaml: Path, entry: str, problem: str
) -> None:
    (found,) = problems(tables_yaml, f"tables:\n  - {entry}\n")
    assert found.split(": ", 2)[2] == problem
    assert found.startswith("2: table public.")


def test_a_key_of_tables_under_defaults_is_told_where_it_belongs(tables_yaml: Path) -> None:
    text = "defaults: {append_only: true}\ntables: [{table_name: t, watermark_type: xmin}]"
    assert problems(tables_yaml, text) == [
        "1: defaults: append_only: cannot be a default; set it in the entry of a table"
    ]


def test_tables_have_their_strategy_in_common_but_for_those_that_say_another(tables_yaml: Path) -> None:
    text = """\
defaults: {watermark_type: timestamp, watermark_col: updated_at, watermark_set_by: database, slot: cdc}
tables:
  - table_name: a
  - {table_name: b, watermark_col: changed}
  - {table_name: c, watermark_type: xmin}
  - {table_name: d, watermark_type: integer, watermark_col: id}
  - {table_name: e, watermark_type: logical}
"""
    tables_yaml.write_text(text, encoding="utf-8")
    found = [entry.table for entry in load(tables_yaml).tables]
    assert [(t.watermark_type, t.watermark_col, t.watermark_set_by, t.slot) for t in found] == [
        ("timestamp", "updated_at", "database", None),
        ("timestamp", "changed", "database", None),
        ("xmin", None, None, None),
        ("integer", "id", "database", None),
        ("logical", None, None, "cdc"),
    ]
    wrong = "defaults: {watermark_type: timestamp}\ntables: [{table_name: t, lookback: 5, watermark_col: c}]"
    assert problems(tables_yaml, wrong) == [
        "2: table public.t: lookback: found 5; the key belongs to watermark_type integer, and this table has timestamp"
    ]


def test_a_wrong_default_is_reported_once_and_not_for_every_table(tables_yaml: Path) -> None:
    text = "defaults: {deletes: maybe}\ntables:\n" + "".join(
        f"- {{table_name: t{n}, watermark_type: xmin}}\n" for n in range(5)
    )
    assert problems(tables_yaml, text) == ["1: defaults: deletes: found 'maybe'; expected one of hard, soft"]


@pytest.mark.parametrize("default", ["watermark_type: xmni", "watermark_type: timestamp, watermark_col: 5"])
def test_what_a_wrong_default_leaves_open_is_no_problem_of_the_tables(tables_yaml: Path, default: str) -> None:
    text = f"defaults: {{{default}}}\ntables: [{{table_name: a}}, {{table_name: b, watermark_col: c}}]"
    (found,) = problems(tables_yaml, text)
    assert found.startswith("1: defaults: watermark_")


@pytest.mark.parametrize(
    ("written", "kind"), [("no", "boolean"), ("on", "boolean"), ("2024", "number"), ("1_000", "number"), ("1e3", None)]
)
def test_a_name_that_yaml_takes_for_something_else_is_to_be_quoted(
    tables_yaml: Path, written: str, kind: str | None
) -> None:
    text = f"tables:\n- {{table_name: {written}, watermark_type: xmin}}"
    if kind is None:
        assert read(tables_yaml, text).tables[0].table.table_name == written
    else:
        assert problems(tables_yaml, text) == [
            f"2: table 1 of the list: table_name: found {written}, which YAML reads as a {kind}; "
            f'put it in quotes: "{written}"'
        ]
    assert only_table(tables_yaml, f'{{table_name: "{written}", watermark_type: xmin}}').table_name == written


def test_dates_and_keys_that_yaml_takes_for_something_else_are_to_be_quoted(tables_yaml: Path) -> None:
    text = "tables:\n- {table_name: t, watermark_col: 2024-01-31, column_types: {on: text, 7: text, ~: text}}"
    assert problems(tables_yaml, text) == [
        "2: table public.t: watermark_col: found 2024-01-31, which YAML reads as a date; "
        'put it in quotes: "2024-01-31"',
        '2: table public.t: column_types: YAML reads the key on as a boolean; put it in quotes: "on"',
        '2: table public.t: column_types: YAML reads the key 7 as a number; put it in quotes: "7"',
        '2: table public.t: column_types: YAML reads the key ~ as nothing; put it in quotes: "~"',
    ]


def test_duplicate_keys_are_refused_at_every_level(tables_yaml: Path) -> None:
    text = "tables:\n- table_name: a\n  watermark_type: xmin\n  tags: {x: a, x: b}\n  watermark_type: xmin\ntables: []"
    assert problems(tables_yaml, text) == [
        "4: table public.a: tags: the key x is repeated; it is set in line 4 already",
        "5: table public.a: the key watermark_type is repeated; it is set in line 3 already",
        "6: the key tables is repeated; it is set in line 1 already",
    ]


def test_duplicate_tables_are_refused_also_where_one_of_them_is_wrong(tables_yaml: Path) -> None:
    text = """tables:
- {table_name: a, watermark_type: xmin, group: "x y"}
- {table_name: public.a, watermark_type: xmin}
- {table_name: a_b, watermark_type: xmin}
- {table_name: "a[_]b", watermark_type: xmin}
"""
    assert problems(tables_yaml, text) == [
        "2: table public.a: group: found 'x y'; expected letters, digits and '_', in segments joined by '/'",
        "3: table public.a: already has an entry in line 2",
        "5: table public.a_b: already has an entry in line 4",
    ]


def test_two_tables_with_the_same_folded_target_are_refused(tables_yaml: Path) -> None:
    text = """tables:
- {table_name: Orders, watermark_type: xmin}
- {table_name: orders, watermark_type: xmin}
- {table_name: straße, watermark_type: xmin}
- {table_name: STRASSE, watermark_type: xmin}
- {table_name: x.y, target_schema: Public, target_table: ORDERS, watermark_type: xmin}
"""
    assert problems(tables_yaml, text) == [
        f"{line}: table {name}: target_table: its target PUBLIC.ORDERS is also the target of public.Orders in line 2; "
        "give one of them another target_schema or target_table"
        for line, name in ((3, "public.orders"), (6, "x.y"))
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the file is empty; expected the key tables with a list of one or more entries"),
        ("# nothing\n", "the file is empty; expected the key tables with a list of one or more entries"),
        ("- a\n", "1: found a list of 1; expected a mapping with the key tables"),
        ("defaults: {}\n", "1: tables: missing; expected a list of one or more entries"),
        ("tables:\n", "1: tables: found nothing; expected a list of one or more entries"),
        ("tables: []\n", "1: tables: found a list of 0; expected a list of one or more entries"),
        ("tables:\n\t- a\n", "2: found a tab; indent YAML with spaces"),
        ("tables: [1\n", "2: while parsing a flow sequence, did not find expected ',' or ']'"),
        ("tables: *none\n", "1: found undefined alias"),
        ("--- {}\n--- {}\n", "2: expected a single document in the stream, but found another document"),
        ("tables: \x07\n", "1: the character '\\x07' is not allowed in YAML"),
        (b"# a\ntables: [\xe9]\n", "2: not UTF-8: found the byte 0xe9"),
        ("tables:\n" + "- " * 100_000, "2: the document is nested deeper than 20 levels"),
        ("tables: &a [*a]\n", "1: the document is nested deeper than 20 levels"),
        ("tables: [&a {<<: *a}]\n", "1: the document is nested deeper than 20 levels"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_clear_error(tables_yaml: Path, text: str | bytes, problem: str) -> None:
    assert problems(tables_yaml, text) == [problem]


def test_python_tags_are_refused(tables_yaml: Path) -> None:
    text = "tables:\n- {table_name: !!python/object/apply:os.getcwd [], watermark_type: !secret xmin}"
    assert problems(tables_yaml, text)[-2:] == [
        "2: table 1 of the list: table_name: found the tag !!python/object/apply:os.getcwd; "
        "expected a value without a tag",
        "2: table 1 of the list: watermark_type: found the tag !secret; expected a value without a tag",
    ]


def test_aliases_of_aliases_are_bounded(tables_yaml: Path) -> None:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 15)]
    assert "1: with its aliases, the document has more than 200,000 values" in problems(
        tables_yaml, "\n".join(["a0: &a0 x", *levels])
    )


def test_a_missing_file_and_a_directory_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: the file does not exist"):
        load(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)


# Names and globs

EXISTING = [
    ("public", "audit_a"),
    ("public", "audit_b"),
    ("public", "audit_*"),
    ("legacy", "Orders"),
    ("legacy", "a.b"),
]


def expanded(path: Path, *entries: str) -> dict[str, str]:
    """Return the tables that the entries configure: name -> group."""
    config = read(path, "tables:\n" + "".join(f"- {{watermark_type: xmin, {entry}}}\n" for entry in entries))
    return {table.qualified_name: table.group or "" for table in expand(config, EXISTING)}


def refused(path: Path, *entries: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        expanded(path, *entries)
    return [problem.removeprefix(f"{path}:") for problem in caught.value.problems]


def test_a_glob_stands_for_the_tables_that_exist_and_exclude_leaves_some_out(tables_yaml: Path) -> None:
    assert list(expanded(tables_yaml, "table_name: audit_?, exclude: [audit_b, '*[*]']")) == ["public.audit_a"]
    assert list(expanded(tables_yaml, "table_name: '*.*', exclude: [public.*]")) == ["legacy.Orders", "legacy.a.b"]


def test_an_explicit_entry_wins_over_a_glob_wherever_it_stands(tables_yaml: Path) -> None:
    found = expanded(tables_yaml, "table_name: audit_?, group: many", "table_name: audit_a, group: one")
    assert found == {"public.audit_a": "one", "public.audit_b": "many", "public.audit_*": "many"}


def test_escaped_metacharacters_are_a_plain_name_that_needs_no_database(tables_yaml: Path) -> None:
    config = read(tables_yaml, "tables: [{table_name: 'legacy.a[.]b[*]', watermark_type: xmin}]")
    assert not config.has_globs
    (table,) = expand(config, [])
    assert (table.schema_, table.table_name, config.line_of(table)) == ("legacy", "a.b*", 1)


def test_an_expanded_table_is_as_if_it_had_an_entry_of_its_own(tables_yaml: Path) -> None:
    glob = read(tables_yaml, "tables: [{table_name: audit_*, exclude: '*b', watermark_type: xmin}]")
    own = read(tables_yaml, "tables: [{table_name: audit_a, watermark_type: xmin}]")
    assert expand(glob, [("public", "audit_a")])[0].model_dump() == own.tables[0].table.model_dump()


def test_a_glob_that_matches_nothing_is_refused(tables_yaml: Path) -> None:
    assert refused(tables_yaml, "table_name: log_*", "table_name: audit_a*, exclude: audit_a") == [
        "2: table public.log_*: table_name: the glob matches none of the 5 tables that this role can see",
        "3: table public.audit_a*: table_name: the glob matches none of the 5 tables that this role can see "
        "without those that exclude matches: audit_a",
    ]


def test_two_globs_that_match_one_table_are_refused(tables_yaml: Path) -> None:
    assert refused(tables_yaml, "table_name: audit_?", "table_name: '*_a'") == [
        "3: table public.*_a: table_name: the glob matches public.audit_a, and so does public.audit_? in line 2; "
        "exclude the table from one of the globs, or give it an entry of its own"
    ]
    assert len(expanded(tables_yaml, "table_name: audit_?", "table_name: '*_a'", "table_name: audit_a")) == 3


def test_tables_of_a_glob_that_would_meet_in_one_target_are_refused(tables_yaml: Path) -> None:
    entries = ("table_name: legacy.O*, target_schema: x", "table_name: public.orders, target_schema: X")
    assert refused(tables_yaml, *entries) == [
        "3: table public.orders: target_table: its target X.ORDERS is also the target of legacy.Orders in line 2; "
        "give one of them another target_schema or target_table"
    ]


def test_target_names_are_made_from_templates(tables_yaml: Path) -> None:
    text = """defaults: {watermark_type: xmin, target_schema: 'RAW_{schema}'}
tables:
- table_name: sales.orders
- {table_name: sales.lines, target_table: '{schema}_{table}_{table}'}
- {table_name: sales.parts, target_schema: plain}
"""
    tables = expand(read(tables_yaml, text), ())
    assert [table.target for table in tables] == [
        ("RAW_SALES", "ORDERS"),
        ("RAW_SALES", "SALES_LINES_LINES"),
        ("PLAIN", "PARTS"),
    ]


def test_names_of_the_source_are_no_templates() -> None:
    table = TableConfig(schema_="{table}", table_name="{schema}", watermark_type="xmin", target_schema="{schema}")
    assert table.target == ("{TABLE}", "{SCHEMA}")


def test_two_tables_of_one_template_with_the_same_target_are_refused(tables_yaml: Path) -> None:
    entries = ("table_name: public.a_b, target_table: '{schema}_{table}'", "table_name: a.b, target_schema: public")
    assert refused(tables_yaml, *entries[:1], entries[1] + ", target_table: 'public_a_{table}'")[0].startswith(
        "3: table a.b: target_table: its target PUBLIC.PUBLIC_A_B is also the target of public.a_b in line 2; "
    )


def test_glob_may_have_a_template_for_its_target_tables(tables_yaml: Path) -> None:
    text = "tables: [{table_name: audit_?, watermark_type: xmin, target_table: 'x_{table}'}]"
    tables = expand(read(tables_yaml, text), EXISTING)
    assert {table.target[1] for table in tables} == {"X_AUDIT_A", "X_AUDIT_B", "X_AUDIT_*"}


def test_unknown_placeholder_is_refused(tables_yaml: Path) -> None:
    text = "tables: [{table_name: a, watermark_type: xmin, target_table: '{tabel}'}]"
    (found,) = problems(tables_yaml, text)
    assert "found '{tabel}'; expected a text without NUL characters" in found
    assert "with {schema} and {table}" in found


def test_a_glob_with_one_target_table_is_refused(tables_yaml: Path) -> None:
    (found,) = refused(tables_yaml, "table_name: audit_*, target_table: audits")
    assert "all tables of a glob would have the same target" in found


def test_a_schema_that_is_named_twice_must_be_the_same(tables_yaml: Path) -> None:
    assert list(expanded(tables_yaml, "table_name: legacy.Orders, schema: legacy")) == ["legacy.Orders"]
    assert refused(tables_yaml, "table_name: legacy.Orders, schema: public", "table_name: a.b.c") == [
        "2: table legacy.Orders: schema: found 'public', but table_name contains the schema 'legacy'; write one of the "
        "two, and write a '.' that is part of a name as [.]",
        "3: table a.b.c: table_name: found 'a.b.c'; expected name or schema.name; write a '.' that is part of a name "
        "as [.]",
    ]


def test_a_thousand_tables_are_read(tables_yaml: Path) -> None:
    entries = [
        f"- {{table_name: t{n}, watermark_type: xmin, schedule: '5 * * * *', tags: {{n: x}}}}" for n in range(1000)
    ]
    config = read(tables_yaml, "tables:\n" + "\n".join(entries))
    assert [config.line_of(table) for table in expand(config, [])] == list(range(2, 1002))


def test_two_tables_that_dots_give_the_same_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tables.yaml"
    path.write_text(
        "tables:\n"
        "  - {schema: a.b, table_name: c, watermark_type: xmin}\n"
        "  - {schema: a, table_name: 'b[.]c', watermark_type: xmin, target_table: other}\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError, match=r"tables.yaml:3: table a\.b\.c: schema 'a' and schema 'a\.b'"):
        load(path)


def test_a_slot_has_one_reader(tables_yaml: Path) -> None:
    tables_yaml.write_text(
        "tables:\n"
        "- {table_name: a, watermark_type: logical}\n"
        "- {table_name: b, watermark_type: logical}\n"
        "- {table_name: c, watermark_type: debezium, topic_prefix: x}\n"
        "- {table_name: d, watermark_type: debezium, topic_prefix: y}\n"
        "- {table_name: e, watermark_type: debezium, topic_prefix: x, slot: aurora_sync}\n"
    )
    with pytest.raises(ConfigError) as raised:
        load(tables_yaml)
    text = str(raised.value)
    assert "5: table public.d: slot: aurora_sync_debezium is also the slot of public.c in line 4, which has" in text
    assert "6: table public.e: slot: aurora_sync is also the slot of public.a in line 2, which has" in text
    assert "another topic_prefix" in text
    assert "another watermark_type" in text
    assert "public.b" not in text
