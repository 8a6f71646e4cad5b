"""The forms of statements that would harm a target or a user's table in Snowflake: no statement of the product has one.

fixtures/sent_statements.py checks every statement that the product sends during a test.
"""

from __future__ import annotations

from collections.abc import Iterator

import sqlglot
from sqlglot import exp

# Tables that aurora_sync replaces and drops: those of one attempt, and those of `aurora-sync check`.
STAGING = ("STAGING", "CHECK_AURORA_SYNC_")
# Columns that convert.py drops.
CONVERTED = ("_CONVERTED_", "_FORMER_")
_DDL = (exp.Create, exp.Alter, exp.Drop, exp.Comment, exp.TruncateTable, exp.Undrop)
_HARMLESS = (exp.Describe, exp.Show, exp.Transaction, exp.Commit, exp.Rollback, exp.Query)
_DML = (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Copy)
_ALTERS = (exp.ColumnDef, exp.RenameColumn, exp.AlterColumn, exp.Drop)
# sqlglot does not know these.
_SHOWS = ("SHOW STREAMS ", "SHOW PARAMETERS ", "DESCRIBE STAGE ")
_COPY = {"ON_ERROR": "ABORT_STATEMENT", "FORCE": "TRUE"}


def problems(statement: str, *, in_transaction: bool = False) -> list[str]:
    """Return what is harmful in a statement of Snowflake SQL; empty when nothing is."""
    trees = sqlglot.parse(statement, read="snowflake")
    if len(trees) != 1 or trees[0] is None:
        return [f"{len(trees)} statements in one text"]
    tree = trees[0]
    found = [*_names(tree)]
    if in_transaction and isinstance(tree, _DDL):
        found.append("DDL commits the open transaction")
    match tree:
        case exp.Create():
            found += _create(tree)
        case exp.Drop():
            found += _drop(tree)
        case exp.Alter():
            found += _alter(tree)
        case exp.Merge():
            found += _merge(tree)
        case exp.Copy():
            found += _copy(tree)
        case exp.Command() if statement.startswith(_SHOWS):
            pass
        case exp.Comment():
            pass
        case exp.Command() if tree.name.upper() == "SHOW":  # SHOW PARAMETERS, which sqlglot does not know
            pass
        case _ if not isinstance(tree, _HARMLESS + _DML):
            found.append(f"{type(tree).__name__} is not a kind of statement that the product needs")
    return found


def _names(tree: exp.Expr) -> Iterator[str]:
    """Names must be quoted and have a schema: else they depend on the session, and are folded."""
    aliases = {cte.alias for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier | None) or table.name in aliases:
            continue  # a stage, or a function
        if table.db == "INFORMATION_SCHEMA":
            continue
        parts = [part for part in (table.args.get("db"), table.this) if part is not None]
        is_schema = isinstance(tree, exp.Show) or (isinstance(tree, exp.Create) and table.this is None)
        if len(parts) < (1 if is_schema else 2):
            yield f"the name {table.name} has no schema"
        if not all(part.quoted for part in parts):
            yield f"the name {table.sql()} is not quoted"


def _create(tree: exp.Create) -> Iterator[str]:
    if tree.kind == "SCHEMA":
        if not tree.args.get("exists"):
            yield "CREATE SCHEMA without IF NOT EXISTS"
        return
    if tree.kind != "TABLE":
        yield f"CREATE {tree.kind}"
        return
    properties = tree.args["properties"].expressions if tree.args.get("properties") else []
    named = {each.this.name: each.args["value"].this for each in properties if type(each) is exp.Property}
    if named.get("DEFAULT_DDL_COLLATION") != "":
        yield "a CREATE TABLE without DEFAULT_DDL_COLLATION = ''"
    table = tree.find(exp.Table)
    assert table is not None
    temporary = any(isinstance(each, exp.TemporaryProperty) for each in properties)
    if tree.args.get("replace") and not (temporary and table.name.startswith(STAGING)):
        yield "CREATE OR REPLACE of a table that is not a temporary staging table"


def _drop(tree: exp.Drop) -> Iterator[str]:
    table = tree.find(exp.Table)
    if tree.kind != "TABLE" or table is None or not table.name.startswith(STAGING):
        yield f"DROP {tree.kind} of something that is not a staging table"


def _alter(tree: exp.Alter) -> Iterator[str]:
    for action in tree.args["actions"]:
        if isinstance(action, exp.Command) and tree.sql().endswith(" DROP PRIMARY KEY"):
            continue
        if not isinstance(action, _ALTERS):
            yield f"ALTER with {type(action).__name__}"
        elif isinstance(action, exp.ColumnDef):
            is_text = action.kind is not None and action.kind.this in exp.DataType.TEXT_TYPES
            collations = [each.kind.this for each in action.constraints if _collates(each)]
            if is_text and [each.this for each in collations] != [""]:
                yield "ADD COLUMN of text without COLLATE ''"
        elif isinstance(action, exp.Drop):
            names = [column.name for column in action.find_all(exp.Column)]
            if not all(name.startswith(CONVERTED) for name in names):
                yield f"DROP COLUMN {', '.join(names)}"


def _collates(constraint: exp.Expr) -> bool:
    return isinstance(constraint.args.get("kind"), exp.CollateColumnConstraint)


def _merge(tree: exp.Merge) -> Iterator[str]:
    """Rows are matched by an equality with the staged rows. Rows that do not differ are not written again, and written
    rows say which run wrote them."""
    if tree.this.name.startswith(STAGING):  # a trial of `aurora-sync check`
        return
    target, source = tree.this.alias, tree.args["using"].alias
    equalities = [{column.table for column in each.find_all(exp.Column)} for each in tree.args["on"].find_all(exp.EQ)]
    if {target, source} not in equalities:
        yield "a MERGE that does not match rows by an equality of target and source"
    whens = tree.args["whens"].expressions
    is_target = not tree.this.name.startswith(STAGING)  # `aurora-sync check` merges into a table of its own
    if not whens:
        yield "a MERGE that does nothing"
    for when in whens:
        then = when.args["then"]
        if is_target and when.args.get("matched") and when.args.get("condition") is None:
            yield "a MERGE that writes every matched row"
        named = (
            {identifier.name for identifier in then.find_all(exp.Identifier)} if isinstance(then, exp.Expr) else set()
        )
        if is_target and isinstance(then, exp.Update | exp.Insert) and not {"_RUN_SEQ", "_SYNCED_AT"} <= named:
            yield "a MERGE that does not record the run"


def _copy(tree: exp.Copy) -> Iterator[str]:
    given = {each.this.name.upper(): each for each in tree.args["params"]}
    table = tree.this.find(exp.Table)
    if table is None or not table.name.startswith(STAGING):
        yield "a COPY into something that is not a staging table"
    yield from (f"a COPY without {name}" for name in ("FILES", "FILE_FORMAT") if name not in given)
    for name, value in _COPY.items():
        if name not in given or given[name].expression.sql().upper() != value:
            yield f"a COPY without {name} = {value}"
    options = given["FILE_FORMAT"].expressions if "FILE_FORMAT" in given else []
    form = {each.this.name.upper(): each.args["value"].sql().upper() for each in options if "value" in each.args}
    if form.get("TYPE") == "PARQUET":
        if "MATCH_BY_COLUMN_NAME" in given:
            yield "a COPY of Parquet files by MATCH_BY_COLUMN_NAME, which does not validate conversions"
        if form.get("BINARY_AS_TEXT") != "FALSE":
            yield "a COPY of Parquet files without BINARY_AS_TEXT = FALSE"
    yield from (f"a COPY with {name}" for name in given.keys() & {"PURGE", "VALIDATION_MODE", "PATTERN"})
