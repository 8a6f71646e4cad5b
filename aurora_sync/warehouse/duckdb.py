"""DuckDB as the warehouse: a file on this machine, with the same statements that Snowflake runs.

Only one process at a time may write a DuckDB file. The file is therefore opened for one session and closed after it; a
second session waits.
"""

from __future__ import annotations

import csv
import gzip
import random
import re
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import sqlglot
from sqlglot import exp

from aurora_sync.errors import Kind, WarehouseError
from aurora_sync.model import foreign_text
from aurora_sync.model.manifest import Disposition, Manifest, TakenFile
from aurora_sync.warehouse import duckdb_merge
from aurora_sync.warehouse.base import Folder, Merged, Objects, ReportedColumn, Row, Session, Warehouse
from aurora_sync.warehouse.ddl import identifier
from aurora_sync.warehouse.dialect import Dialect
from aurora_sync.warehouse.duckdb_errors import REFUSALS, duckdb_error
from aurora_sync.warehouse.duckdb_staging import StagedFiles, longest_row, rows_of
from aurora_sync.warehouse.query_tag import NO_TAG, QueryTag
from aurora_sync.warehouse.types import MAX_VALUE_BYTES

_log = foreign_text.logger(__name__)

# A session of another run holds the file while it loads and merges.
LOCK_WAIT_SECONDS = 120.0

# DuckDB's default is 80 % of the machine's memory and one thread per core, each with its own buffers.
SETTINGS = {
    "memory_limit": "200MB",  # what exceeds the limit is spilled to a file beside the database
    "threads": "2",
    "preserve_insertion_order": "false",  # else an insert of many rows is buffered as a whole
}
# The limit for what cannot be spilled: the former values of updated rows, and the buffers of long rows.
MORE_MEMORY = "1GB"
_MANY_ROWS = 500_000
_LONG_ROW_BYTES = 8 * 2**20
# Each part of the changes is read by a statement of its own, and a history is only copied.
_READ_OFTEN = (Disposition.CHANGES, Disposition.HISTORY)
_ADDS = re.compile(r'(?:INSERT INTO|UPDATE) ("(?:[^"]|"")+"\."(?:[^"]|"")+")')
_UPDATE = re.compile(r'UPDATE ("(?:[^"]|"")+"\."(?:[^"]|"")+") SET')

# CSV with a header; the file name shows the compression.
_READ_OTHERS_CSV = (
    "read_csv(?, all_varchar = true, header = true, delim = ',', quote = '\"', escape = '\"', nullstr = ?,"
    " allow_quoted_nulls = false, strict_mode = true, null_padding = false, ignore_errors = false, parallel = false,"
    " auto_detect = true, sample_size = 1)"
)

# CSV that _even wrote.
_READ_EVEN_CSV = (
    "read_csv(?, columns = {columns}, auto_detect = false, header = false, delim = ',', quote = '\"', escape = '\"',"
    " new_line = '\\n', nullstr = ?, allow_quoted_nulls = false, strict_mode = true, parallel = false)"
)

# One writer at a time within this process too. The thread that holds the lock may open a second session.
_locks: dict[Path, threading.RLock] = {}
_locks_guard = threading.Lock()


# The load id in the quoted name of a staging table, and its placeholder while a statement is translated.
_LOAD_ID = re.compile(r'(?<=_)[0-9a-f]{12}(?=")')
_ANY_LOAD_ID = "0" * 12


def to_duckdb(statement: str) -> str:
    """Translate a statement into DuckDB's dialect. Statements that differ only in the load id of their staging table
    are translated once."""
    load_ids = set(_LOAD_ID.findall(statement))
    if len(load_ids) != 1 or _ANY_LOAD_ID in statement:
        return _translated(statement)
    return _LOAD_ID.sub(load_ids.pop(), _translated(_LOAD_ID.sub(_ANY_LOAD_ID, statement)))


@lru_cache(maxsize=2048)
def _translated(statement: str) -> str:
    """Translate one statement. Raises an error for anything that DuckDB's dialect cannot express; omits only
    properties of tables.

    Handles what sqlglot does not: DuckDB has no properties of tables, no collation '' and no length for BLOB. A comment
    in the definition of a table or a column becomes a statement of its own. A primary key would be an index. Its
    temporary tables have no schema, so a staging table becomes a lasting one. Its VARIANT and its JSON() round long
    numbers, so VARIANT and ARRAY become JSON, by a cast, which keeps the text of numbers.
    """
    (tree,) = sqlglot.parse(statement, read="snowflake")
    if tree is None:
        raise WarehouseError(f"not a statement: {statement!r}", kind=Kind.DEFECT)
    comments = take_comments(tree)
    if isinstance(tree, exp.Create) and tree.kind == "TABLE":
        tree.set("properties", None)
    _adapt_columns(tree)
    _adapt_values(tree)
    trees = [tree, *comments]
    return "; ".join(
        each.sql(dialect="duckdb", copy=False, unsupported_level=sqlglot.ErrorLevel.RAISE) for each in trees
    )


def _adapt_columns(tree: exp.Expr) -> None:
    for constraint in [*tree.find_all(exp.ColumnConstraint, exp.PrimaryKey)]:
        if isinstance(constraint, exp.PrimaryKey) or isinstance(constraint.args["kind"], exp.CollateColumnConstraint):
            constraint.pop()
    for altered in tree.find_all(exp.AlterColumn):
        if altered.args.get("allow_null") is False:  # sqlglot writes SET NOT NULL, but takes it for unsupported
            altered.set("allow_null", True)


def _adapt_values(tree: exp.Expr) -> None:
    for type_ in tree.find_all(exp.DataType):
        if type_.this in (exp.DataType.Type.VARIANT, exp.DataType.Type.ARRAY):
            type_.replace(exp.DataType.build("JSON"))
        elif type_.this is exp.DataType.Type.BINARY:
            type_.set("expressions", [])
    for length in [*tree.find_all(exp.ByteLength)]:
        length.replace(exp.func("STRLEN", length.this))
    for printed in [*tree.find_all(exp.ToChar)]:
        if printed.text("format") == "TME":  # all digits, as a cast prints them
            printed.replace(exp.cast(printed.this, exp.DataType.Type.VARCHAR))
    for parse in [*tree.find_all(exp.ParseJSON)]:
        parse.replace(exp.cast(parse.this, exp.DataType.Type.JSON))


def take_comments(tree: exp.Expr) -> list[exp.Comment]:
    """Remove the comments from the definition of a table or a column, and return them as statements ``COMMENT ON``."""
    table = tree.find(exp.Table)
    if table is None or not isinstance(tree, exp.Create | exp.Alter):
        return []
    found = [
        exp.Comment(this=table.copy(), kind="TABLE", expression=comment.pop().this)
        for comment in [*tree.find_all(exp.SchemaCommentProperty)]
    ]
    for constraint in [*tree.find_all(exp.ColumnConstraint)]:
        if isinstance(constraint.kind, exp.CommentColumnConstraint):
            definition = constraint.find_ancestor(exp.ColumnDef)
            assert definition is not None
            name = exp.column(definition.this.copy(), table.this.copy(), table.args["db"].copy())
            found.append(exp.Comment(this=name, kind="COLUMN", expression=constraint.pop().kind.this))
    return found


DUCKDB = Dialect(
    to_duckdb,
    type_names={
        "DECIMAL": "NUMBER",
        "DOUBLE": "FLOAT",
        "BLOB": "BINARY",
        "JSON": "VARIANT",
        "TIMESTAMP": "TIMESTAMP_NTZ",
        "TIMESTAMP WITH TIME ZONE": "TIMESTAMP_TZ",
    },
    temporary_tables=False,
    prunes=False,  # DuckDB finds the bounds of a join itself
    longest_value=MAX_VALUE_BYTES,  # Snowflake's limit, so that a value that fits on a laptop fits in production
    case_sensitive=False,
    reads_files=True,
)


class DuckDBSession(Session):
    dialect = DUCKDB

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, where: str, database: Path, more_memory: str = MORE_MEMORY
    ) -> None:
        """Files of the session lie beside the file ``database``. ``more_memory`` is the limit of statements that spill
        nothing."""
        self._connection = connection
        self._where = where
        self._more_memory = more_memory
        self._staged = StagedFiles(database)
        self._written: set[str] = set()  # tables to which the open transaction has added rows

    def query(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        if statement == "BEGIN TRANSACTION":
            self._written.clear()
        return self._run(self._translated(statement), parameters)

    def modify(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        if update := _UPDATE.match(statement):
            self._allow_memory_for(update[1])
        if added := _ADDS.match(statement):
            self._written.add(added[1])
        ((changed,),) = self.query(statement, parameters)
        return int(changed)

    def merge(self, statement: str, parameters: Sequence[Any] = ()) -> Merged:
        translated = self._translated(statement)
        target = duckdb_merge.target_of(translated)
        columns = [name for name, *_ in self._run(f"DESCRIBE {target}")]
        # DuckDB 2.0 returns wrong values after rows of a table with a primary key were deleted by their number and
        # the same transaction had added them. A column named ROWID hides the number.
        if target in self._written or "ROWID" in map(str.upper, columns):
            self._allow_memory_for(target)
            rows = self._run(f"{translated} RETURNING merge_action", parameters)
            actions = [action for (action,) in rows]
            return Merged(actions.count("INSERT"), actions.count("UPDATE"), actions.count("DELETE"))
        self._written.add(target)
        instead = duckdb_merge.replacement(translated, columns)
        self._run(instead.find, parameters)
        done: dict[str, int] = dict(self._run(duckdb_merge.COUNTS))
        merged = Merged(done.get("INSERT", 0), done.get("UPDATE", 0), done.get("DELETE", 0))
        ((removed,),) = self._run(instead.delete)
        if removed != merged.updated + merged.deleted:
            raise WarehouseError("two rows of a MERGE have the key of one target row", where=self._where)
        for insert in instead.inserts:
            self._run(insert)
        self._run(duckdb_merge.DROP)
        return merged

    def _allow_memory_for(self, table: str) -> None:
        """Raise the limit of memory before a table is updated in place: the former values of its rows stay there."""
        if self._run(f"SELECT COUNT(*) > {_MANY_ROWS} FROM {table}") == [(True,)]:  # noqa: S608
            self._run(f"SET memory_limit = '{self._more_memory}'")

    def describe(self, schema: str, name: str) -> dict[str, ReportedColumn]:
        rows = self._run(
            "SELECT column_name, is_nullable, comment, data_type, numeric_precision, numeric_scale"
            " FROM duckdb_columns() WHERE schema_name = ? AND table_name = ? AND NOT internal ORDER BY column_index",
            (schema, name),
        )
        return {
            name: ReportedColumn(self.dialect.declared(*type_), nullable=nullable, comment=comment or "")
            for name, nullable, comment, *type_ in rows
        }

    def arrow(self, statement: str) -> Any:
        try:
            return self._connection.sql(self.dialect.translate(statement)).to_arrow_reader()
        except REFUSALS as error:
            raise duckdb_error(error, self._where) from None

    def load(self, staging_table: str, manifest: Manifest, objects: Objects) -> int:
        if not manifest.files:
            return 0
        copies = self._staged.download(manifest, objects)
        if longest_row(manifest.files) > _LONG_ROW_BYTES:
            self._run(f"SET memory_limit = '{self._more_memory}'")
            self._run("SET threads = 1")
        names = [name for name, *_ in self._run(f"DESCRIBE {staging_table}")]
        if manifest.disposition in _READ_OFTEN:
            loaded: int = self._run(f"INSERT INTO {staging_table} {rows_of(copies, names)}")[0][0]
            for _, path in copies:
                path.unlink()
            return loaded
        self._run(self._staged.read_in_place(staging_table, names, copies))
        return sum(file.rows for file in manifest.files)  # COUNT(*) of the view counts what the files hold

    def copy_files(
        self, raw_table: str, columns: Sequence[str], folder: Folder, files: Sequence[TakenFile], null: str
    ) -> int:
        loaded = 0
        with tempfile.TemporaryDirectory(prefix="aurora_sync_") as temporary:
            for file in files:
                path = Path(temporary) / file.key.rpartition("/")[2]
                folder.download(file.key, path)
                if ".parquet" in path.name:
                    rows, parameters = "read_parquet(?)", [str(path)]
                else:
                    rows, parameters = _READ_OTHERS_CSV, [str(path), null]
                with _reading(file):
                    found = [name for name, *_ in self._run(f"DESCRIBE SELECT * FROM {rows}", parameters)]  # noqa: S608
                    names = [identifier(name) for name in columns if name in found]
                    texts = ", ".join(f"CAST({name} AS VARCHAR)" for name in names)
                    copy = f"INSERT INTO {raw_table} ({', '.join(names)}) SELECT {texts} FROM {rows}"  # noqa: S608
                    loaded += self._run(copy, parameters)[0][0]
                path.unlink()
        return loaded

    def copy_ragged(self, raw_table: str, folder: Folder, files: Sequence[TakenFile], width: int, null: str) -> int:
        fields = ", ".join(f"'c{i}': 'VARCHAR'" for i in range(width))
        copy = f"INSERT INTO {raw_table} SELECT * FROM {_READ_EVEN_CSV.format(columns=f'{{{fields}}}')}"  # noqa: S608
        loaded = 0
        with tempfile.TemporaryDirectory(prefix="aurora_sync_") as temporary:
            for file in files:
                path, even = Path(temporary) / file.key.rpartition("/")[2], Path(temporary) / "even"
                folder.download(file.key, path)
                with _reading(file):
                    _even(path, even, width, null)
                    loaded += self._run(copy, [str(even), null])[0][0]
                path.unlink()
        return loaded

    def close(self) -> None:
        self._connection.close()
        self._staged.close()

    def _translated(self, statement: str) -> str:
        translated = self._staged.reading(self.dialect.translate(statement))
        _log.debug("snowflake: %s\n   duckdb: %s", statement, translated)
        return translated

    def _run(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        try:
            return self._connection.execute(statement, list(parameters)).fetchall()
        except REFUSALS as error:
            raise duckdb_error(error, self._where) from None


class DuckDBWarehouse(Warehouse):
    """A DuckDB file. It is created on first use; its folder must exist."""

    kind = "duckdb"
    dialect = DUCKDB
    metered = False

    def __init__(
        self, path: Path | str, *, lock_wait_seconds: float = LOCK_WAIT_SECONDS, memory_limit: str = ""
    ) -> None:
        """``memory_limit``, such as 2GB, replaces both limits of this module."""
        self.path = Path(path).absolute()
        self._lock_wait = lock_wait_seconds
        self._memory_limit = memory_limit

    def describe(self) -> str:
        return f"duckdb:{self.path}"

    @contextmanager
    def session(self, *, query_tag: QueryTag = NO_TAG) -> Iterator[Session]:
        with _locks_guard:
            lock = _locks.setdefault(self.path, threading.RLock())
        deadline = time.monotonic() + self._lock_wait
        if not lock.acquire(timeout=self._lock_wait):
            raise self._busy("another session of this process")
        try:
            connection = self._open(deadline)
            more = self._memory_limit or MORE_MEMORY
            session = DuckDBSession(connection, self.describe(), self.path, more)
            try:
                connection.execute("SET TimeZone = 'UTC'")
                yield session
            finally:
                session.close()
        finally:
            lock.release()

    @contextmanager
    def reading(self, *, query_tag: QueryTag = NO_TAG) -> Iterator[Session]:
        if self.path.exists() or not self.path.parent.is_dir():  # without the folder, opening the file fails
            with self.session(query_tag=query_tag) as session:
                yield session
            return
        empty = DuckDBSession(duckdb.connect(config=dict(self._settings)), self.describe(), self.path, MORE_MEMORY)
        try:
            yield empty
        finally:
            empty.close()

    def _open(self, deadline: float) -> duckdb.DuckDBPyConnection:
        pause = 0.02
        while True:
            try:
                return duckdb.connect(str(self.path), config=dict(self._settings))
            except duckdb.IOException as error:
                if "Could not set lock" not in str(error):
                    raise duckdb_error(error, self.describe(), "the file cannot be opened: ") from error
                if time.monotonic() + pause > deadline:
                    raise self._busy(str(error)) from error
            except duckdb.Error as error:  # such as a corrupt file
                raise duckdb_error(error, self.describe(), "the file cannot be opened: ") from error
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, 0.2)  # a try takes 3 ms

    @property
    def _settings(self) -> dict[str, str]:
        return SETTINGS | ({"memory_limit": self._memory_limit} if self._memory_limit else {})

    def _busy(self, holder: str) -> WarehouseError:
        return WarehouseError(
            f"the file was in use for {self._lock_wait:.0f} s: {holder}",
            where=self.describe(),
            hint="one process at a time can write a DuckDB file; close the program that has it open",
            kind=Kind.TRANSIENT,
        )


def _even(path: Path, even: Path, width: int, null: str) -> None:
    """Write the file again with ``width`` fields in each row: DuckDB reads rows of different lengths only in a mode
    that also accepts malformed rows. Raises WarehouseError on a malformed row."""
    csv.field_size_limit(2**31 - 1)
    opener = gzip.open if path.suffix == ".gz" else open
    with (
        opener(path, "rt", newline="", encoding="utf-8") as source,
        even.open("w", newline="", encoding="utf-8") as target,
    ):
        rows = csv.reader(source, strict=True)
        try:
            csv.writer(target, lineterminator="\n").writerows((row + [null] * width)[:width] for row in rows)
        except (csv.Error, ValueError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise WarehouseError(f"line {rows.line_num}: {error}", kind=Kind.REFUSED) from error


@contextmanager
def _reading(file: TakenFile) -> Iterator[None]:
    """Raise errors with the name of the external file. They are not transient, because reading the same file again does
    not help."""
    try:
        yield
    except WarehouseError as error:
        raise WarehouseError(
            f"the file is malformed or incomplete: {error.what}",
            where=file.key,
            hint="this run applied nothing; run again when the file is complete, or when DMS has written it again",
            kind=Kind.REFUSED,
            values=error.values,
        ) from None
