"""The grounds that need no account: the real connector before fakesnow, and the small Snowflake."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

from aurora_sync.config.settings import Settings
from aurora_sync.embedded.stack import BUCKET, Stack
from aurora_sync.engine.places import Places
from aurora_sync.stage.writer import Stage
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.query_tag import NO_TAG, QueryTag
from aurora_sync.warehouse.snowflake import SnowflakeWarehouse
from aurora_sync_tests.fixtures import fakesnow_server
from aurora_sync_tests.fixtures.fakesnow_server import FakeSnowflake
from aurora_sync_tests.fixtures.source_database import fresh_database
from aurora_sync_tests.live.ground import Ground, opened
from aurora_sync_tests.live.suite import Open
from aurora_sync_tests.warehouse.snowflake_semantics import Server, SnowflakeLike


class InASchema(SnowflakeWarehouse):
    """fakesnow's MERGE makes a temporary table, for which the session must have a current schema."""

    @contextmanager
    def session(self, *, query_tag: QueryTag = NO_TAG) -> Iterator[Session]:
        with super().session(query_tag=query_tag) as session:
            session.query("USE SCHEMA LANDING")
            yield session


# Unlike any word of a report, so that a test can look for it there.
ACCOUNT, USER, ROLE = "zorgtest-ac77", "quibble", "frobber"


@contextmanager
def fake_grounds(
    stack: Stack, *, rows: int, server: FakeSnowflake | None = None
) -> Iterator[tuple[dict[Ground, Open], Mapping[str, str]]]:
    """Yield the grounds, and the settings that lead to the fake. ``server`` is one that runs already."""
    with mock.patch.dict(os.environ, stack.environment()), fresh_database(stack.superuser_dsn()) as dsn:
        if server is None:
            with fakesnow_server.serve(stack.environment()) as server, _grounds(server, stack, dsn, rows) as found:
                yield found
        else:
            with _grounds(server, stack, dsn, rows) as found:
                yield found


@contextmanager
def _grounds(
    server: FakeSnowflake, stack: Stack, dsn: str, rows: int
) -> Iterator[tuple[dict[Ground, Open], Mapping[str, str]]]:
    token = secrets.token_hex(6)
    database, stage = f"TEST_{token.upper()}", f"s3://{BUCKET}/live-{token}"
    environment = {
        **stack.environment(),
        "AURORA_DSN": dsn,
        "AURORA_SYNC_STAGE": stage,
        "AURORA_SYNC_WAREHOUSE": "snowflake",
        "SNOWFLAKE_ACCOUNT": ACCOUNT,
        "SNOWFLAKE_USER": USER,
        "SNOWFLAKE_ROLE": ROLE,
        "SNOWFLAKE_PASSWORD": "secret",
        "SNOWFLAKE_WAREHOUSE": "any",
        "SNOWFLAKE_DATABASE": database,
        "SNOWFLAKE_STAGE": f"{database}.landing.files",
        "SNOWFLAKE_HOST": server.host,
        "SNOWFLAKE_PORT": str(server.port),
        "SNOWFLAKE_PROTOCOL": "http",
    }
    places = Places.from_settings(Settings.from_environment(environment))
    assert isinstance(places.warehouse, SnowflakeWarehouse)
    # An internal error of fakesnow is a 500, which the connector would repeat for ever.
    settings = replace(places.warehouse.settings, network_timeout=1)
    fake = InASchema(settings, places.warehouse.stage_prefix)
    with SnowflakeWarehouse(settings).session() as session:
        session.query("CREATE SCHEMA LANDING")
        session.query(f"CREATE STAGE LANDING.FILES URL = '{stage}/'")
    places = replace(places, warehouse=fake)
    with tempfile.TemporaryDirectory() as folder:
        small = SnowflakeLike.on(Server(Path(folder) / "small.duckdb", places.stage.store))
        others = replace(places, warehouse=small, stage=Stage(places.stage.store, target=small.describe()))
        yield (
            {
                Ground.FAKE: partial(opened, Ground.FAKE, places, rows=rows),
                Ground.SMALL: partial(opened, Ground.SMALL, others, rows=rows),
            },
            environment,
        )
