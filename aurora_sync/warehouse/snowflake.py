"""Snowflake as the warehouse, through its own connector.

The connector is imported only when a session is opened, because the import takes 0.7 s of CPU.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from operator import methodcaller
from typing import Any

from aurora_sync.config.backends.snowflake import SnowflakeSettings
from aurora_sync.errors import ConfigError, WarehouseError
from aurora_sync.model import foreign_text
from aurora_sync.model.manifest import Manifest, TakenFile
from aurora_sync.model.names import fold
from aurora_sync.model.receipt import QueryRef
from aurora_sync.model.usage import LoadStatements, Usage
from aurora_sync.warehouse import snowflake_usage
from aurora_sync.warehouse.base import (
    Attached,
    Folder,
    Merged,
    Objects,
    ReportedColumn,
    Row,
    Session,
    TableProperties,
    Trial,
    Warehouse,
)
from aurora_sync.warehouse.ddl import identifier, literal
from aurora_sync.warehouse.dialect import Dialect
from aurora_sync.warehouse.kept import Kept
from aurora_sync.warehouse.query_tag import NO_TAG, QueryTag
from aurora_sync.warehouse.snowflake_check import account_problems
from aurora_sync.warehouse.snowflake_errors import MissingObjectError, warehouse_error
from aurora_sync.warehouse.snowflake_grants import quoted_name
from aurora_sync.warehouse.snowflake_login import arguments
from aurora_sync.warehouse.types import MAX_VALUE_BYTES, length_of

_log = foreign_text.logger(__name__)

FILES_PER_COPY = 1000  # Snowflake's limit for FILES
# The least and the most statements of a first load besides the COPY of its rows; and of those that need a virtual
# warehouse. aurora_sync_tests/scenarios/statements counts them.
_FIRST_LOAD = (19, 28), (6, 9)

# PostgreSQL's CSV, read as it was written: NULL is an empty field without quotes, the empty text is "". Two options
# have defaults that would change a value: NULL_IF (\N) and ESCAPE_UNENCLOSED_FIELD (backslash).
FILE_FORMAT = (
    "TYPE = CSV COMPRESSION = {compression} ENCODING = 'UTF8' RECORD_DELIMITER = '\\n' FIELD_DELIMITER = ','"
    " FIELD_OPTIONALLY_ENCLOSED_BY = '\"' EMPTY_FIELD_AS_NULL = TRUE NULL_IF = () ESCAPE = NONE"
    " ESCAPE_UNENCLOSED_FIELD = NONE MULTI_LINE = TRUE SKIP_HEADER = 0 SKIP_BLANK_LINES = FALSE"
    " TRIM_SPACE = FALSE ERROR_ON_COLUMN_COUNT_MISMATCH = TRUE REPLACE_INVALID_CHARACTERS = FALSE"
    " SKIP_BYTE_ORDER_MARK = FALSE"
)

# The format of external files.
OTHERS_CSV = (
    "TYPE = CSV COMPRESSION = AUTO ENCODING = 'UTF8' FIELD_DELIMITER = ','"
    " FIELD_OPTIONALLY_ENCLOSED_BY = '\"' EMPTY_FIELD_AS_NULL = FALSE ESCAPE = NONE ESCAPE_UNENCLOSED_FIELD = NONE"
    " MULTI_LINE = TRUE TRIM_SPACE = FALSE ERROR_ON_COLUMN_COUNT_MISMATCH = FALSE"
    " REPLACE_INVALID_CHARACTERS = FALSE"
)

# The statements that need a virtual warehouse. The others are answered from metadata.
_COMPUTES = re.compile(r"(COPY|MERGE|INSERT|UPDATE|DELETE|SELECT|WITH|CREATE(?=.* AS SELECT ))\b", re.DOTALL)


def copy_into(staging_table: str, stage: str, path: str, files: Sequence[str], *, compression: str = "zstd") -> str:
    """Return the COPY of staged files. ``stage`` is a quoted name; ``path`` is below it and ends with /."""
    form = FILE_FORMAT.format(compression=compression.upper() or "NONE")
    names = ", ".join(literal(name) for name in files)
    return (
        f"COPY INTO {staging_table} FROM {literal(f'@{stage}/{path}')} FILES = ({names})"
        f" FILE_FORMAT = ({form}) ON_ERROR = ABORT_STATEMENT TRUNCATECOLUMNS = FALSE FORCE = TRUE"
    )


def copy_by_name(raw_table: str, stage: str, files: Sequence[str], *, null: str) -> str:
    """Return the COPY of CSV files by the names in their headers. ``files`` are paths below the URL of the stage."""
    names = ", ".join(literal(name) for name in files)
    form = f"{OTHERS_CSV} PARSE_HEADER = TRUE NULL_IF = ({literal(null)})"
    return (
        f"COPY INTO {raw_table} FROM {literal(f'@{stage}/')} FILES = ({names}) FILE_FORMAT = ({form})"
        " MATCH_BY_COLUMN_NAME = CASE_SENSITIVE ON_ERROR = ABORT_STATEMENT FORCE = TRUE"
    )


def copy_parquet(raw_table: str, stage: str, files: Sequence[str], *, columns: Sequence[str]) -> str:
    """Return the COPY of Parquet files by column name.

    A query over the stage casts each field: MATCH_BY_COLUMN_NAME does not validate conversions, and may fail for an
    empty text. Without BINARY_AS_TEXT = FALSE, bytes would be read as UTF-8 text.
    """
    names = ", ".join(literal(name) for name in files)
    into = ", ".join(identifier(name) for name in columns)
    fields = ", ".join(f"$1:{identifier(name)}::VARCHAR" for name in columns)
    return (
        f"COPY INTO {raw_table} ({into}) FROM (SELECT {fields} FROM {literal(f'@{stage}/')}) FILES = ({names})"  # noqa: S608
        " FILE_FORMAT = (TYPE = PARQUET USE_LOGICAL_TYPE = TRUE BINARY_AS_TEXT = FALSE)"
        " ON_ERROR = ABORT_STATEMENT FORCE = TRUE"
    )


def copy_by_place(raw_table: str, stage: str, files: Sequence[str], *, null: str, width: int) -> str:
    """Return the COPY of CSV files without a header. A query over the stage returns NULL for missing fields."""
    names = ", ".join(literal(name) for name in files)
    fields = ", ".join(f"${place}" for place in range(1, width + 1))
    form = f"{OTHERS_CSV} SKIP_HEADER = 0 NULL_IF = ({literal(null)})"
    return (
        f"COPY INTO {raw_table} FROM (SELECT {fields} FROM {literal(f'@{stage}/')}) FILES = ({names})"  # noqa: S608
        f" FILE_FORMAT = ({form}) ON_ERROR = ABORT_STATEMENT FORCE = TRUE"
    )


def quoted(stage: str) -> str:
    return ".".join(identifier(fold(part)) for part in stage.split("."))


SNOWFLAKE = Dialect(
    translate=str, type_names={"TEXT": "VARCHAR"}, temporary_tables=True, prunes=True, longest_value=MAX_VALUE_BYTES
)


class SnowflakeSession(Session):
    dialect = SNOWFLAKE

    def __init__(self, connection: Any, warehouse: SnowflakeWarehouse, query_tag: QueryTag) -> None:
        self._connection = connection
        self._warehouse = warehouse
        self.query_tag = query_tag
        self._queries: list[tuple[str, QueryRef]] = []  # with the load id of each

    def queries(self, load_id: str = "") -> tuple[QueryRef, ...]:
        return tuple(query for of_load, query in self._queries if load_id in ("", of_load))

    def query(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        with self._execute(statement, parameters) as cursor:
            return [tuple(row) for row in cursor.fetchall()]

    def modify(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        with self._execute(statement, parameters) as cursor:
            return int(cursor.rowcount)

    def merge(self, statement: str, parameters: Sequence[Any] = ()) -> Merged:
        """MERGE answers with one row: the numbers of the rows that its clauses can have changed."""
        (counts,) = self._labelled(statement, parameters)
        return Merged(*(int(counts.get(f"number of rows {done}", 0)) for done in ("inserted", "updated", "deleted")))

    def describe(self, schema: str, name: str) -> dict[str, ReportedColumn]:
        """DESCRIBE needs no virtual warehouse. Source: Snowflake's documentation, "DESCRIBE TABLE"."""
        try:
            rows = self._labelled(f"DESCRIBE TABLE {identifier(schema)}.{identifier(name)}")
        except MissingObjectError:
            return {}
        return {row["name"]: _reported(row) for row in rows}

    def tables(self, schema: str, prefix: str) -> list[str]:
        return [row["name"] for row in self._shown(schema, prefix)]

    def spellings(self, name: str) -> list[tuple[str, str]]:
        """LIKE ignores case; the characters % and _ of a name only find more tables. A backslash would escape."""
        pattern = name.replace("\\", "_")
        rows = self._labelled(f"SHOW TABLES LIKE {literal(pattern)} IN DATABASE")
        return [(row["schema_name"], row["name"]) for row in rows]

    def properties(self, schema: str, name: str) -> TableProperties | None:
        row = next((row for row in self._shown(schema, name) if row["name"] == name), None)
        return None if row is None else TableProperties(row.get("comment") or "", row.get("is_iceberg") == "Y")

    def size(self, schema: str, name: str) -> tuple[int | str, ...] | None:
        row = next((row for row in self._shown(schema, name) if row["name"] == name), None)
        return None if row is None else (int(row["rows"]), int(row["bytes"]), str(row["created_on"]))

    def has_schema(self, name: str) -> bool:
        return any(row["name"] == name for row in self._labelled(f"SHOW SCHEMAS STARTS WITH {literal(name)}"))

    def attached(self, schema: str, name: str) -> Attached:
        """Snowflake shows policies that the role may apply, and streams that it has a privilege on."""
        table = f"{identifier(schema)}.{identifier(name)}"
        references = f"REF_ENTITY_NAME => {literal(table)}, REF_ENTITY_DOMAIN => 'TABLE'"
        unseen: list[str] = []
        policies = self._visible(
            "SELECT POLICY_NAME, POLICY_KIND, REF_COLUMN_NAME"  # noqa: S608 -- a quoted literal
            f" FROM TABLE(INFORMATION_SCHEMA.POLICY_REFERENCES({references}))",
            unseen,
        )
        streams = self._visible("SHOW STREAMS IN ACCOUNT", unseen)
        kinds = [(row["policy_kind"], row["policy_name"], row["ref_column_name"]) for row in policies]
        qualified = f"{quoted_name(self._warehouse.settings.database)}.{table}".replace('"', "")
        return Attached(
            {column: policy for kind, policy, column in kinds if kind == "MASKING_POLICY"},
            tuple(policy for kind, policy, _ in kinds if kind == "ROW_ACCESS_POLICY"),
            tuple(row["name"] for row in streams if str(row["table_name"]).replace('"', "") == qualified),
            tuple(unseen),
        )

    def _visible(self, statement: str, unseen: list[str]) -> list[dict[str, Any]]:
        """Return the rows of a statement; none if the role may not run it, which is then added to ``unseen``."""
        try:
            return self._labelled(statement)
        except WarehouseError as error:
            if error.kind.retry:
                raise
            unseen.append(f"the role may not run `{statement}`: {error.what}")
            return []

    def arrow(self, statement: str) -> Any:
        with self._execute(statement, ()) as cursor:
            return cursor.fetch_arrow_all(force_return_table=True).to_reader()

    def load(self, staging_table: str, manifest: Manifest, objects: Objects) -> int:
        """Snowflake reads the objects itself; ``objects`` is not used."""
        stage, path = self._warehouse.quoted_stage, self._warehouse.stage_path(manifest)
        loaded = 0
        for compression in dict.fromkeys(file.compression for file in manifest.files):
            names = [file.name for file in manifest.files if file.compression == compression]
            statement = partial(copy_into, staging_table, stage, path, compression=compression)
            loaded += self._copy(names, statement, f"{stage}/{path}")
        return loaded

    def copy_files(
        self, raw_table: str, columns: Sequence[str], folder: Folder, files: Sequence[TakenFile], null: str
    ) -> int:
        stage = self._stage_of_others()
        names = [file.key.removeprefix(folder.prefix) for file in files]
        parquet = [name for name in names if ".parquet" in name]
        csv = [name for name in names if ".parquet" not in name]
        return self._copy(csv, partial(copy_by_name, raw_table, stage, null=null), stage) + self._copy(
            parquet, partial(copy_parquet, raw_table, stage, columns=columns), stage
        )

    def copy_ragged(self, raw_table: str, folder: Folder, files: Sequence[TakenFile], width: int, null: str) -> int:
        stage = self._stage_of_others()
        names = [file.key.removeprefix(folder.prefix) for file in files]
        return self._copy(names, partial(copy_by_place, raw_table, stage, null=null, width=width), stage)

    def _stage_of_others(self) -> str:
        if self._warehouse.dms_stage is None:
            raise ConfigError(
                "SNOWFLAKE_DMS_STAGE is not set", hint="set it to the external stage on the folder of the task"
            )
        return quoted(self._warehouse.dms_stage)

    def _copy(self, files: Sequence[str], statement: Callable[[Sequence[str]], str], where: str) -> int:
        loaded, names = 0, iter(files)
        while batch := list(itertools.islice(names, FILES_PER_COPY)):
            results = self._labelled(statement(batch))
            missed = len(batch) - sum(result.get("status") == "LOADED" for result in results)
            if missed:
                shown = [{name: said for name, said in each.items() if name != "first_error"} for each in results[:3]]
                raise WarehouseError(
                    f"COPY INTO did not load {missed} of {len(batch)} files: {shown}",
                    values=str(results[:3]),
                    where=f"@{where}",
                    hint="the URL of the Snowflake stage must be the S3 prefix under which the objects are written",
                )
            loaded += sum(int(result["rows_loaded"]) for result in results)
        return loaded

    def close(self) -> None:
        self._connection.close()

    def _shown(self, schema: str, prefix: str) -> list[dict[str, Any]]:
        """SHOW needs no virtual warehouse. Source: Snowflake's documentation, "SHOW TABLES"."""
        try:
            return self._labelled(f"SHOW TABLES IN SCHEMA {identifier(schema)} STARTS WITH {literal(prefix)}")
        except MissingObjectError:
            return []

    def _labelled(self, statement: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Run a statement and return its rows as dictionaries, with names in lower case."""
        with self._execute(statement, parameters) as cursor:
            labels = [column.name.lower() for column in cursor.description]
            return [dict(zip(labels, row, strict=True)) for row in cursor.fetchall()]

    @contextmanager
    def _execute(self, statement: str, parameters: Sequence[Any]) -> Iterator[Any]:
        from snowflake.connector.errors import Error

        began = time.monotonic()
        try:
            with self._connection.cursor() as cursor:
                # The tag of a statement needs no statement of its own, as ALTER SESSION would be.
                cursor.execute(
                    statement, tuple(parameters) or None, _statement_params={"QUERY_TAG": str(self.query_tag)}
                )
                _log.debug("snowflake: query %s", cursor.sfqid)  # not its text, which may hold keys
                if word := _COMPUTES.match(statement):
                    query = QueryRef(cursor.sfqid, word[1], self.query_tag.phase, time.monotonic() - began)
                    self._queries.append((self.query_tag.load_id, query))
                yield cursor
        except Error as error:
            raise warehouse_error(error, self._warehouse.describe()) from None


def _reported(row: Mapping[str, Any]) -> ReportedColumn:
    """Return a column from a row of DESCRIBE TABLE.

    >>> row = {"type": "VARCHAR(20) COLLATE 'en-ci'", "null?": "N", "primary key": "Y"}
    >>> _reported(row) == ReportedColumn("VARCHAR", "en-ci", nullable=False, in_key=True, length=20)
    True
    """
    name, _, collation = row["type"].partition(" COLLATE ")
    declared = name if name.startswith("NUMBER") else name.partition("(")[0]
    policy, comment = row.get("policy name") or "", row.get("comment") or ""
    nullable, in_key = row.get("null?") != "N", row.get("primary key") == "Y"
    return ReportedColumn(declared, collation.strip("'"), policy, nullable, comment, in_key, length_of(name))


def _kept() -> Kept[Any]:
    """Return a place for a connection: shorter than a firewall keeps an idle one, and than a token is valid."""
    return Kept(methodcaller("close"), idle_seconds=60.0, most_seconds=1800.0)


@dataclass(frozen=True)
class SnowflakeWarehouse(Warehouse):
    """A database of a Snowflake account.

    ``stage_prefix`` is the object key prefix in the URL of ``settings.stage``: ``s3://bucket/prefix/`` → ``prefix/``.
    """

    settings: SnowflakeSettings
    stage_prefix: str = ""
    _kept: Kept[Any] = field(default_factory=lambda: _kept(), init=False, compare=False, repr=False)

    kind = "snowflake"
    dialect = SNOWFLAKE

    def describe(self) -> str:
        return (
            f"snowflake:{self.settings.account or self.settings.login.get('connection_name')}/{self.settings.database}"
        )

    @property
    def quoted_stage(self) -> str:
        return quoted(self.settings.stage)

    @property
    def dms_stage(self) -> str | None:
        return self.settings.dms_stage

    def stage_path(self, manifest: Manifest) -> str:
        if not manifest.prefix.startswith(self.stage_prefix):
            raise ConfigError(
                f"the objects are under {manifest.prefix!r}, but the prefix of {self.settings.stage} is"
                f" {self.stage_prefix!r}",
                hint="the URL of the Snowflake stage and AURORA_SYNC_STAGE must be the same S3 prefix",
            )
        return manifest.prefix.removeprefix(self.stage_prefix)

    @contextmanager
    def session(self, *, query_tag: QueryTag = NO_TAG) -> Iterator[Session]:
        from snowflake.connector.errors import Error

        connection, opened_at = self._kept.take() or (None, time.monotonic())
        try:
            connection = connection or self._connect(arguments(self.settings, str(query_tag)))
        except Error as error:
            raise warehouse_error(error, self.describe()) from None
        try:
            yield SnowflakeSession(connection, self, query_tag)
        except BaseException:
            connection.close()
            raise
        self._kept.leave(connection, opened_at)

    def keep_connections(self) -> None:
        self._kept.keep()

    def close(self) -> None:
        self._kept.end()

    def usage(self, days: int) -> list[Usage]:
        with self.session(query_tag=QueryTag("cost")) as session:
            return snowflake_usage.usage(session, days)

    def statements_of_first_load(self, files: int) -> LoadStatements:
        copies = -(-files // FILES_PER_COPY)
        (least, most), (computing, at_most) = _FIRST_LOAD
        return LoadStatements(copies, (least + copies, most + copies), (computing + copies, at_most + copies))

    def problems(self, trial: Trial) -> list[str]:
        found: list[str] = []
        with self.session(query_tag=QueryTag("check")) as session:
            try:
                for problem in account_problems(session, self.settings, trial, copy_into):
                    found.append(problem)
            except WarehouseError as error:
                found.append(str(error))
        return found

    def _connect(self, given: dict[str, Any]) -> Any:
        import snowflake.connector

        return snowflake.connector.connect(**given)
