"""Snowflake records the query tag of each statement. fakesnow has no query history."""

from __future__ import annotations

import os

import pytest

from aurora_sync.config.settings import Settings
from aurora_sync.engine.places import Places
from aurora_sync.warehouse.query_tag import QueryTag

pytestmark = pytest.mark.live

_HISTORY = 'SELECT "QUERY_ID", "QUERY_TAG" FROM TABLE(INFORMATION_SCHEMA.QUERY_HISTORY_BY_SESSION(RESULT_LIMIT => 100))'


def test_statement_has_the_tag_of_its_table_in_the_history() -> None:
    warehouse = Places.from_settings(Settings.from_environment(os.environ)).warehouse
    tags = [QueryTag("load"), QueryTag("load", "public.orders", "PUBLIC.ORDERS", "5f0c"), QueryTag("merge", "größe")]
    with warehouse.session(query_tag=tags[0]) as session:
        for tag in tags:
            session.about(tag)
            session.query("SELECT COUNT(*) FROM TABLE(GENERATOR(ROWCOUNT => 10))")
        sent = session.queries()
        history: dict[str, str] = dict(session.query(_HISTORY))
    assert [history[query.id] for query in sent] == [str(tag) for tag in tags]


def test_history_of_the_account_has_what_cost_reads() -> None:
    """Fails with the GRANT to run when the role may not read the history."""
    found = Places.from_settings(Settings.from_environment(os.environ)).warehouse.usage(1)
    assert found is not None
    assert all(each.statements and each.seconds >= 0 for each in found)
