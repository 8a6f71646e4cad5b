"""PostgreSQL as the warehouse: the example backend of docs/write-your-own-warehouse.md.

It is complete in this file, and so shows what a backend needs. It is not for production: it copies files one by one,
and supports neither files of a DMS task nor data frames.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import psycopg2
import sqlglot
import zstandard
from psycopg2 import BINARY, errors
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.extensions import make_dsn, new_type, parse_dsn, register_type
from psycopg2.extras import register_default_jsonb
from sqlglot import exp

from aurora_sync.errors import Kind, WarehouseError
from aurora_sync.model import foreign_text
from aurora_sync.model.manifest import Manifest
from aurora_sync.warehouse.base import Merged, Objects, Row, Session, Warehouse
from aurora_sync.warehouse.dialect import Dialect
from aurora_sync.warehouse.duckdb import take_comments
from aurora_sync.warehouse.query_tag import NO_TAG, QueryTag

_BYTES = new_type((17,), "BYTES", lambda value, cursor: None if value is None else bytes(BINARY(value, cursor)))
_TRANSIENT = (psycopg2.OperationalError, psycopg2.InterfaceError, errors.SerializationFailure, errors.DeadlockDetected)

# Placeholder of a parameter during translation: % is also an operator, and occurs in texts.
_PARAMETER = "_PARAMETER_"


@lru_cache(maxsize=2048)
def to_postgres(statement: str) -> str:
    """Translate one statement, with ``%s`` for a parameter. Raises an error for anything that PostgreSQL cannot
    express.

    Handles what sqlglot does not: comments in definitions become statements, properties of tables and the collation
    '' are dropped, VARIANT and ARRAY become jsonb, text and bytes lose their length, CREATE OR REPLACE TABLE and MAX_BY
    are rewritten.
    """
    (tree,) = sqlglot.parse(statement, read="snowflake")
    assert tree is not None
    for parameter in [*tree.find_all(exp.Placeholder)]:
        parameter.replace(exp.Var(this=_PARAMETER))
    comments = take_comments(tree)
    _simplify(tree)
    tree = tree.transform(_without_qualify).transform(_in_other_words)
    if isinstance(tree, exp.Create) and tree.args.get("replace"):
        tree.set("replace", False)
        return f"DROP TABLE IF EXISTS {_text(tree.find(exp.Table))}; {_text(tree)}"
    return "; ".join(map(_text, [tree, *comments]))


def _simplify(tree: exp.Expr) -> None:
    """Remove what PostgreSQL lacks."""
    if isinstance(tree, exp.Create):
        tree.set("properties", None)
    for constraint in [*tree.find_all(exp.ColumnConstraint, exp.PrimaryKey)]:
        if isinstance(constraint, exp.PrimaryKey) or isinstance(constraint.args["kind"], exp.CollateColumnConstraint):
            constraint.pop()
    for altered in tree.find_all(exp.AlterColumn):
        if altered.args.get("allow_null") is False:  # sqlglot writes SET NOT NULL, but takes it for unsupported
            altered.set("allow_null", True)
    for type_ in tree.find_all(exp.DataType):
        if type_.this in (exp.DataType.Type.VARIANT, exp.DataType.Type.ARRAY):
            type_.replace(exp.DataType.build("JSONB"))
        elif type_.this in (exp.DataType.Type.BINARY, exp.DataType.Type.VARCHAR):
            type_.set("expressions", [])
        elif type_.this is exp.DataType.Type.TIMESTAMPLTZ:
            type_.set("this", exp.DataType.Type.TIMESTAMPTZ)


def _text(tree: exp.Expr | None) -> str:
    assert tree is not None
    written = tree.sql(dialect="postgres", unsupported_level=sqlglot.ErrorLevel.RAISE)
    return written.replace("%", "%%").replace(_PARAMETER, "%s")


def _in_other_words(node: exp.Expr) -> exp.Expr:
    if isinstance(node, exp.ParseJSON):
        return exp.cast(node.this, "JSONB", dialect="postgres")
    if isinstance(node, exp.ByteLength):
        return exp.Anonymous(this="OCTET_LENGTH", expressions=[node.this])
    if isinstance(node, exp.ArgMax):
        ordered = exp.Order(this=node.this, expressions=[exp.Ordered(this=node.expression, desc=True)])
        return exp.Bracket(this=exp.paren(exp.func("ARRAY_AGG", ordered)), expressions=[exp.Literal.number(0)])
    if isinstance(node, exp.ToBinary):
        return exp.func("DECODE", node.this, exp.Literal.string("hex"))
    if isinstance(node, exp.Hex | exp.LowerHex):
        return exp.func("ENCODE", node.this, exp.Literal.string("hex"))
    if isinstance(node, exp.ToChar) and node.text("format") == "TME":
        return exp.cast(node.this, "TEXT", dialect="postgres")
    if isinstance(node, exp.JSONFormat):
        return exp.cast(node.this, "TEXT", dialect="postgres")
    return node


def _without_qualify(select: exp.Expr) -> exp.Expr:
    """Move a window filter to an outer SELECT: sqlglot's own translation confuses columns of the table with those of
    the result."""
    if not isinstance(select, exp.Select) or not select.args.get("qualify"):
        return select
    condition = select.args["qualify"].this
    select.set("qualify", None)
    names = [exp.column(name, quoted=True) for name in select.named_selects]
    window = condition.find(exp.Window)
    select.append("expressions", exp.alias_(window.copy(), "_W"))
    window.replace(exp.column("_W"))
    order = select.args.get("order")
    select.set("order", None)
    outer = exp.select(*names).from_(select.subquery("_T")).where(condition)
    outer.set("order", order)
    return outer


POSTGRES = Dialect(
    to_postgres,
    type_names={
        "TEXT": "VARCHAR",
        "CHARACTER VARYING": "VARCHAR",
        "NUMERIC": "NUMBER",
        "DOUBLE PRECISION": "FLOAT",
        "BYTEA": "BINARY",
        "JSONB": "VARIANT",
        "TIME WITHOUT TIME ZONE": "TIME",
        "TIMESTAMP WITHOUT TIME ZONE": "TIMESTAMP_NTZ",
        "TIMESTAMP WITH TIME ZONE": "TIMESTAMP_TZ",
    },
    temporary_tables=False,
    prunes=False,
    longest_value=2**28,
)


class PostgresSession(Session):
    dialect = POSTGRES

    def __init__(self, connection: Connection, where: str) -> None:
        self._connection = connection
        self._where = where

    def query(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        return self._run(self.dialect.translate(statement), parameters)

    def modify(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        with self._cursor() as cursor:
            cursor.execute(self.dialect.translate(statement), tuple(parameters))
            return cursor.rowcount

    def merge(self, statement: str, parameters: Sequence[Any] = ()) -> Merged:
        """Count the actions. PostgreSQL returns them from version 17 on."""
        counted = f"{self.dialect.translate(statement)} RETURNING merge_action()"
        done = Counter(action for (action,) in self._run(counted, parameters))
        return Merged(done["INSERT"], done["UPDATE"], done["DELETE"])

    def arrow(self, statement: str) -> Any:
        raise NotImplementedError

    def load(self, staging_table: str, manifest: Manifest, objects: Objects) -> int:
        """Load the files by COPY, which reads them unchanged because they are PostgreSQL's CSV."""
        loaded = 0
        with tempfile.TemporaryDirectory(prefix="aurora_sync_") as folder, self._cursor() as cursor:
            path = Path(folder) / "object.csv"
            for file in manifest.files:
                objects.download(manifest.prefix + file.name, path)
                with zstandard.open(path, "rb") if file.compression else path.open("rb") as rows:
                    cursor.copy_expert(f"COPY {staging_table} FROM STDIN (FORMAT csv)", rows)
                loaded += cursor.rowcount
        return loaded

    def close(self) -> None:
        self._connection.close()

    def _run(self, translated: str, parameters: Sequence[Any]) -> list[Row]:
        with self._cursor() as cursor:
            cursor.execute(translated, tuple(parameters))
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def _cursor(self) -> Iterator[Cursor]:
        try:
            with self._connection.cursor() as cursor:
                yield cursor
        except psycopg2.Error as error:
            raise _error(error, self._where) from None


class PostgresWarehouse(Warehouse):
    kind = "postgres"
    dialect = POSTGRES
    metered = False

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    @contextmanager
    def session(self, *, query_tag: QueryTag = NO_TAG) -> Iterator[Session]:
        try:
            name = f"{query_tag.phase} {query_tag.table}".encode()[:63].decode(errors="ignore")
            opened = psycopg2.connect(make_dsn(self._dsn, options="-c TimeZone=UTC", application_name=name))
        except psycopg2.Error as error:
            raise _error(error, self.describe()) from None
        with closing(opened) as connection:
            connection.autocommit = True
            register_default_jsonb(connection, loads=str)  # read a document as its text
            register_type(_BYTES, connection)
            yield PostgresSession(connection, self.describe())

    def describe(self) -> str:
        parts = parse_dsn(self._dsn)
        return f"postgres:{parts.get('host')}:{parts.get('port')}/{parts.get('dbname')}"


def _error(error: psycopg2.Error, where: str) -> WarehouseError:
    """Return the WarehouseError of a database error. Its message may quote values, which only show_values shows."""
    full = " ".join(str(error).split())
    text = foreign_text.without_quotations(str(error).partition("\n")[0])
    kind = Kind.TRANSIENT if isinstance(error, _TRANSIENT) else Kind.REFUSED
    return WarehouseError(text, where=where, kind=kind, values="" if text == full else full)
