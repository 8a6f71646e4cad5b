"""Prove that a Snowflake account is ready: each step is tried, and each failure has the statement that mends it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import zstandard

from aurora_sync.config.backends.snowflake import SnowflakeSettings
from aurora_sync.errors import AuroraSyncError
from aurora_sync.warehouse import targets
from aurora_sync.warehouse.base import Row, Session, Trial
from aurora_sync.warehouse.ddl import NO_COLLATION, TableName, add, make_schema
from aurora_sync.warehouse.located import located
from aurora_sync.warehouse.snowflake_grants import Grants, terminated
from aurora_sync.warehouse.snowflake_login import session_parameters

# A row that only a correct file format reads: quotes, a line break, NULL, and letters that are not ASCII.
_CSV = b'"a ""quoted"" gr\xc3\xb6\xc3\x9fe\nand a line",\n'
_ROW = ('a "quoted" größe\nand a line', None)
_MERGE = (
    'MERGE INTO {} AS t USING (SELECT \'x\' AS "A") AS s ON t."A" = s."A"'
    ' WHEN MATCHED THEN UPDATE SET "B" = s."A" WHEN NOT MATCHED THEN INSERT ("A", "B") VALUES (s."A", NULL)'
)


# (table, stage, path below the stage, files) -> COPY INTO
CopyInto = Callable[[str, str, str, Sequence[str]], str]


def account_problems(session: Session, settings: SnowflakeSettings, trial: Trial, copy_into: CopyInto) -> Iterator[str]:
    """Yield a problem for each step that fails. Missing schemas are created, as the first run would do; tables and
    objects of the trial are removed."""
    ((role, warehouse, database),) = session.query("SELECT CURRENT_ROLE(), CURRENT_WAREHOUSE(), CURRENT_DATABASE()")
    grants = Grants(settings, trial.store.uri(trial.store.prefix), role or "")
    if database is None:
        yield _mended(
            f"the database {settings.database} is missing, or the role {role} may not use it", grants.on_database()
        )
    elif warehouse is None:
        yield _mended(
            f"the warehouse {settings.warehouse} is missing, or the role {role} may not use it", grants.on_warehouse()
        )
    else:
        yield from _Check(session, settings, trial, grants, copy_into).problems()


def _mended(problem: str, *statements: str) -> str:
    return f"{problem}; run: {terminated(statements)}"


def _failed(step: Callable[[], object]) -> str:
    """Return the error of a step, without its hint; empty when it succeeds."""
    try:
        step()
    except AuroraSyncError as error:
        return error.what
    return ""


@dataclass(frozen=True)
class _Check:
    session: Session
    settings: SnowflakeSettings
    trial: Trial
    grants: Grants
    copy_into: CopyInto

    def problems(self) -> Iterator[str]:
        yield from self._parameters()
        of_stage = [*self._stage()]
        yield from of_stage
        if of_schema := [*self._schema(self.trial.log_schema)]:
            yield from of_schema
        else:
            yield from self._load(copies=not of_stage)
        # A target that exists may be in a schema whose name tables.yaml would write in another case.
        existing = [located(self.session, TableName(*target))[0] for target in self.trial.targets]
        for schema in dict.fromkeys(table.schema for table in existing) or self.trial.schemas:
            yield from self._target(schema)
        for table in existing:
            if found := _failed(partial(targets.refuse_iceberg, self.session, table)):
                yield f"{found}; {targets.NO_ICEBERG}"

    def _parameters(self) -> Iterator[str]:
        found = {key: value for key, value, *_ in self.session.query("SHOW PARAMETERS IN SESSION")}
        for name, wanted in session_parameters(self.settings).items():
            expected = str(wanted).lower() if isinstance(wanted, bool) else str(wanted)
            if name in found and found[name] != expected:
                yield f"the session has {name} = {found[name]}, expected {expected}: the login did not set it"
        name, limit = "STATEMENT_TIMEOUT_IN_SECONDS", self.settings.statement_timeout
        shown: list[Row] = []
        statement = f"SHOW PARAMETERS LIKE '{name}' IN WAREHOUSE {self.grants.warehouse}"
        _failed(lambda: shown.extend(self.session.query(statement)))  # a refusal does not stop a sync
        for _, value, *_ in shown:
            if 0 < int(value) < limit:
                yield (
                    f"the warehouse {self.settings.warehouse} cancels a statement after {value} s, before"
                    f" SNOWFLAKE_STATEMENT_TIMEOUT ({limit} s) ends; set SNOWFLAKE_STATEMENT_TIMEOUT={value}, or run:"
                    f" {self.grants.limit_statements()};"
                )

    def _stage(self) -> Iterator[str]:
        name, expected = self.settings.stage, self.grants.stage_url
        rows: list[Row] = []
        statement = f"DESCRIBE STAGE {self.grants.stage(name)[1]}"
        if found := _failed(lambda: rows.extend(self.session.query(statement))):
            yield _mended(
                f"the stage {name} is missing, or the role may not use it: {found}",
                self.grants.create_stage(),
                *self.grants.on_stage(name),
            )
            return
        urls = [str(row[3]).strip('[]"') for row in rows if row[1] == "URL"]
        if [_bare(url) for url in urls] != [_bare(expected)]:
            yield _mended(
                f"the stage {name} has the URL {' '.join(urls) or 'of no bucket'}, expected {expected}"
                " (AURORA_SYNC_STAGE)",
                self.grants.move_stage(),
            )

    def _schema(self, name: str) -> Iterator[str]:
        if found := _failed(lambda: make_schema(self.session, name)):
            yield _mended(
                f"the schema {name} is missing, or the role may not use it: {found}",
                self.grants.create_schema(name),
                self.grants.on_schema(name),
            )

    def _load(self, *, copies: bool) -> Iterator[str]:
        """Try what an increment does: create a table, copy an object into it, merge, drop it. ``aurora-sync gc``
        removes the table by its name if this process is killed."""
        token, schema, store = uuid.uuid4().hex, self.trial.log_schema, self.trial.store
        table = TableName(schema, f"STAGING_CHECK_{token[:16]}_{token[16:28]}")
        create = f'CREATE TABLE {table.sql} ("A" VARCHAR, "B" VARCHAR){NO_COLLATION}'
        if found := _failed(lambda: self.session.query(create)):
            yield _mended(f"the role may not create tables in {schema}: {found}", self.grants.on_schema(schema))
            return
        key = f"{store.prefix}check/{token}.csv.zst"
        try:
            if copies:
                if found := _failed(lambda: store.put_new(key, zstandard.compress(_CSV))):
                    yield f"no object can be written to {self.grants.stage_url}: {found}; allow s3:PutObject on it"
                else:
                    yield from self._copied(table, f"{token}.csv.zst")
            if found := _failed(lambda: self.session.merge(_MERGE.format(table.sql))):
                yield _mended(
                    f"the role may not merge into a table that it created in {schema}: {found}",
                    self.grants.keep_ownership(schema),
                )
        finally:
            undeleted = _failed(lambda: store.delete([key])) if copies else ""
            dropped = _failed(lambda: self.session.query(f"DROP TABLE {table.sql}"))
        if undeleted:
            yield f"the object {store.uri(key)} cannot be deleted: {undeleted}; allow s3:DeleteObject on it"
        if dropped:
            yield self._not_dropped(table, dropped)

    def _copied(self, table: TableName, file: str) -> Iterator[str]:
        name = self.settings.stage
        statement = self.copy_into(table.sql, self.grants.stage(name)[1], "check/", [file])
        if found := _failed(lambda: self.session.query(statement)):
            yield (
                f"an object under {self.grants.stage_url} cannot be copied from the stage {name}: {found}; let the AWS"
                " role of the storage integration read the bucket, and let it trust the user that DESC INTEGRATION"
                " <integration>; shows"
            )
            return
        rows = self.session.query(f'SELECT "A", "B" FROM {table.sql}')  # noqa: S608 -- a quoted name
        if rows != [_ROW]:
            yield f"an object that was copied from the stage {name} has {rows!r}, expected [{_ROW!r}]"

    def _target(self, schema: str) -> Iterator[str]:
        """Try to create, change and drop a table. Only the owner may change it, and a future grant moves ownership."""
        if of_schema := [*self._schema(schema)]:
            yield from of_schema
            return
        table = TableName(schema, f"CHECK_AURORA_SYNC_{uuid.uuid4().hex[:12]}")
        create = f'CREATE TABLE {table.sql} ("A" VARCHAR){NO_COLLATION}'
        if found := _failed(lambda: self.session.query(create)):
            yield _mended(f"the role may not create tables in {schema}: {found}", self.grants.on_schema(schema))
            return
        if found := _failed(lambda: self.session.query(add(table, "B", "VARCHAR"))):
            yield _mended(
                f"the role may not change a table that it created in {schema}: {found}",
                self.grants.keep_ownership(schema),
            )
        if found := _failed(lambda: self.session.query(f"DROP TABLE {table.sql}")):
            yield self._not_dropped(table, found)

    def _not_dropped(self, table: TableName, found: str) -> str:
        return _mended(
            f"the table {table} of this check could not be dropped: {found}",
            f"DROP TABLE {self.grants.database}.{table.sql}",
            self.grants.keep_ownership(table.schema),
        )


def _bare(url: str) -> str:
    """Return a URL without its scheme, which depends on the region (s3gov), and without a slash at its end."""
    return re.sub("^s3[a-z]*://", "", url).rstrip("/")
