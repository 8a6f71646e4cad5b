"""What `check` proves in a Snowflake account, and the statement that it prints for each step that fails."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from snowflake.connector.errors import ProgrammingError

from aurora_sync.errors import StageError
from aurora_sync.objects.store import Store
from aurora_sync.warehouse.base import Trial
from aurora_sync.warehouse.snowflake import SnowflakeSession, SnowflakeWarehouse
from aurora_sync_tests.fixtures.fakesnow_server import FakeSnowflake

Rows = Sequence[tuple[Any, ...]]


class Cursor:
    """A cursor of the connector, except for statements that match a pattern of ``said``: a refusal, or rows."""

    def __init__(self, cursor: Any, said: Mapping[str, str | Rows]) -> None:
        self._cursor = cursor
        self._said = said
        self._rows: Rows | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *_: object) -> None:
        self._cursor.close()

    def execute(self, statement: str, parameters: Any, **options: Any) -> None:
        answer = next((said for pattern, said in self._said.items() if re.match(pattern, statement)), None)
        if isinstance(answer, str):
            raise ProgrammingError(msg=answer, errno=3001, sqlstate="42501")
        self._rows = answer
        if answer is None:
            self._cursor.execute(statement, parameters, **options)

    @property
    def sfqid(self) -> str | None:
        return str(self._cursor.sfqid)

    def fetchall(self) -> Rows:
        return self._cursor.fetchall() if self._rows is None else self._rows


@dataclass(frozen=True)
class Account(SnowflakeWarehouse):
    """The fake, which refuses nothing by itself."""

    said: Mapping[str, str | Rows] = field(default_factory=dict)

    def _connect(self, given: dict[str, Any]) -> Any:
        connection = super()._connect(given)
        cursor = connection.cursor
        connection.cursor = lambda: Cursor(cursor(), self.said)
        return connection


@pytest.fixture
def store(stage_url: str, store_environment: dict[str, str]) -> Store:
    return Store.from_url(stage_url)


@pytest.fixture
def trial(store: Store) -> Trial:
    return Trial(store, "_AURORA_SYNC", ("PUBLIC", "SALES"))


@pytest.fixture
def account(fakesnow_server: FakeSnowflake, snowflake_database: str, store: Store) -> Account:
    account = Account(fakesnow_server.settings(snowflake_database, f"{snowflake_database}.landing.files"))
    with account.session() as session:
        session.query("CREATE SCHEMA LANDING")
        session.query(f"CREATE STAGE LANDING.FILES URL = '{store.uri(store.prefix)}'")
        session.query("USE SCHEMA LANDING")
    return account


def refusing(account: Account, said: Mapping[str, str | Rows]) -> Account:
    return replace(account, said=said)


def test_an_account_that_is_ready_passes_and_nothing_is_left(account: Account, trial: Trial) -> None:
    assert account.problems(trial) == []
    assert trial.store.list(trial.store.prefix) == []
    with account.session() as session:
        for schema in ("_AURORA_SYNC", "PUBLIC", "SALES"):
            assert session.tables(schema, "") == []


def test_a_stage_that_shows_another_place_is_named_and_not_read(account: Account, trial: Trial) -> None:
    elsewhere = replace(trial, store=Store(trial.store.bucket, f"{trial.store.prefix}elsewhere/"))
    url = trial.store.uri(trial.store.prefix)
    stage = account.settings.stage.upper().split(".")
    assert account.problems(elsewhere) == [
        f"the stage {account.settings.stage} has the URL {url}, expected {url}elsewhere/ (AURORA_SYNC_STAGE); run:"
        f' ALTER STAGE "{stage[0]}"."LANDING"."FILES" SET URL = \'{url}elsewhere/\';'
    ]


DENIED = "Insufficient privileges to operate on"


@pytest.mark.parametrize(
    ("pattern", "answer", "problem", "mend"),
    [
        (
            r"SELECT CURRENT_ROLE",
            [("R", None, "DB")],
            "the warehouse any is missing, or the role R may not use it",
            'GRANT USAGE ON WAREHOUSE "ANY" TO ROLE "R";',
        ),
        (
            r"SELECT CURRENT_ROLE",
            [("R", "ANY", None)],
            "the database <db> is missing, or the role R may not use it",
            'GRANT USAGE ON DATABASE "<db>" TO ROLE "R";',
        ),
        (
            r"DESCRIBE STAGE",
            DENIED,
            f"the stage <db>.landing.files is missing, or the role may not use it: 003001 (42501): {DENIED}",
            'CREATE STAGE IF NOT EXISTS "<db>"."LANDING"."FILES" URL = \'<url>\' STORAGE_INTEGRATION = "AURORA_SYNC";'
            ' GRANT USAGE ON SCHEMA "<db>"."LANDING" TO ROLE "R";'
            ' GRANT USAGE ON STAGE "<db>"."LANDING"."FILES" TO ROLE "R";',
        ),
        (
            r"CREATE SCHEMA .*SALES",
            DENIED,
            f"the schema SALES is missing, or the role may not use it: 003001 (42501): {DENIED}",
            'CREATE SCHEMA IF NOT EXISTS "<db>"."SALES";'
            ' GRANT USAGE, CREATE TABLE ON SCHEMA "<db>"."SALES" TO ROLE "R";',
        ),
        (
            r'CREATE TABLE "_AURORA_SYNC"',
            DENIED,
            f"the role may not create tables in _AURORA_SYNC: 003001 (42501): {DENIED}",
            'GRANT USAGE, CREATE TABLE ON SCHEMA "<db>"."_AURORA_SYNC" TO ROLE "R";',
        ),
        (
            r"MERGE INTO",
            DENIED,
            f"the role may not merge into a table that it created in _AURORA_SYNC: 003001 (42501): {DENIED}",
            'GRANT OWNERSHIP ON FUTURE TABLES IN SCHEMA "<db>"."_AURORA_SYNC" TO ROLE "R";',
        ),
        (
            r'CREATE TABLE "PUBLIC"',
            DENIED,
            f"the role may not create tables in PUBLIC: 003001 (42501): {DENIED}",
            'GRANT USAGE, CREATE TABLE ON SCHEMA "<db>"."PUBLIC" TO ROLE "R";',
        ),
        (
            r'ALTER TABLE "PUBLIC"',
            DENIED,
            f"the role may not change a table that it created in PUBLIC: 003001 (42501): {DENIED}",
            'GRANT OWNERSHIP ON FUTURE TABLES IN SCHEMA "<db>"."PUBLIC" TO ROLE "R";',
        ),
        (
            r"SHOW PARAMETERS LIKE",
            [("STATEMENT_TIMEOUT_IN_SECONDS", "600", "172800")],
            "the warehouse any cancels a statement after 600 s, before SNOWFLAKE_STATEMENT_TIMEOUT (21600 s) ends; set"
            " SNOWFLAKE_STATEMENT_TIMEOUT=600",
            'ALTER WAREHOUSE "ANY" SET STATEMENT_TIMEOUT_IN_SECONDS = 21600;',
        ),
    ],
)
def test_a_step_that_fails_has_the_statement_that_mends_it(
    account: Account, trial: Trial, pattern: str, answer: str | Rows, problem: str, mend: str
) -> None:
    database, url = account.settings.database, trial.store.uri(trial.store.prefix)
    (found,) = refusing(account, {pattern: answer}).problems(trial)
    said, _, mends = found.replace(", or run: ", "; run: ").partition("; run: ")
    assert said == problem.replace("<db>", database)
    assert mends == mend.replace("<db>", database).replace("<url>", url)
    assert trial.store.list(trial.store.prefix) == []


def test_a_session_whose_parameters_are_others_is_named(account: Account, trial: Trial) -> None:
    shown = [("TIMEZONE", "Europe/Berlin", ""), ("ABORT_DETACHED_QUERY", "false", ""), ("LOCK_TIMEOUT", "600", "")]
    assert refusing(account, {"SHOW PARAMETERS IN SESSION": shown}).problems(trial) == [
        "the session has ABORT_DETACHED_QUERY = false, expected true: the login did not set it",
        "the session has TIMEZONE = Europe/Berlin, expected UTC: the login did not set it",
    ]


def test_a_bucket_that_snowflake_may_not_read_is_named(account: Account, trial: Trial) -> None:
    (found,) = refusing(account, {"COPY INTO": "Access Denied"}).problems(trial)
    assert f"an object under {trial.store.uri(trial.store.prefix)} cannot be copied from the stage" in found
    assert "let the AWS role of the storage integration read the bucket" in found
    assert trial.store.list(trial.store.prefix) == []


def test_a_bucket_that_may_not_be_written_is_named(
    account: Account, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: Store, key: str, body: bytes) -> None:
        raise StageError("AccessDenied", where=key)

    monkeypatch.setattr(Store, "put_new", refuse)
    assert account.problems(trial) == [
        f"no object can be written to {trial.store.uri(trial.store.prefix)}: AccessDenied; allow s3:PutObject on it"
    ]


def test_a_target_that_is_an_iceberg_table_is_a_problem(
    account: Account, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"name": "ORDERS", "comment": "", "is_iceberg": "Y"}
    monkeypatch.setattr(SnowflakeSession, "_shown", lambda self, schema, prefix: [row])
    (problem,) = account.problems(replace(trial, targets=(("SALES", "ORDERS"), ("SALES", "OTHERS"))))
    assert problem.startswith("SALES.ORDERS is an Iceberg table, and aurora_sync only writes standard tables; rename")


def test_a_warehouse_whose_limits_may_not_be_seen_passes(account: Account, trial: Trial) -> None:
    assert refusing(account, {"SHOW PARAMETERS LIKE": DENIED}).problems(trial) == []


def test_what_was_found_before_an_error_is_kept(account: Account, trial: Trial) -> None:
    said: dict[str, str | Rows] = {"SHOW PARAMETERS IN SESSION": [("LOCK_TIMEOUT", "43200", "")], 'SELECT "A"': DENIED}
    (first, second) = refusing(account, said).problems(trial)
    assert first == "the session has LOCK_TIMEOUT = 43200, expected 600: the login did not set it"
    assert DENIED in second


def test_a_table_that_cannot_be_dropped_is_named_with_its_drop(account: Account, trial: Trial) -> None:
    (found,) = refusing(account, {'DROP TABLE "SALES"': DENIED}).problems(trial)
    assert re.search(
        r"the table SALES\.CHECK_AURORA_SYNC_\w{12} of this check could not be dropped: .*; run:"
        rf' DROP TABLE "{account.settings.database}"\."SALES"\."CHECK_AURORA_SYNC_\w{{12}}";',
        found,
    )
