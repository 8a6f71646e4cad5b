"""Each login method on a real Snowflake account: those whose variables are in the environment.

The address (SNOWFLAKE_ACCOUNT, _WAREHOUSE, _DATABASE, _STAGE) is that of the other live tests. The variables of a
method have the prefix LIVE_, so that several methods can be set together, such as LIVE_SNOWFLAKE_TOKEN_FILE. Where the
user of the method is another one, it is LIVE_<METHOD>_USER, such as LIVE_TOKEN_USER.
"""

from __future__ import annotations

import os

import pytest

from aurora_sync.config.backends.snowflake import LOGIN_METHODS, LoginMethod
from aurora_sync.config.settings import Settings
from aurora_sync.engine.places import Places
from aurora_sync.errors import WarehouseError
from aurora_sync.warehouse.base import Trial
from aurora_sync.warehouse.query_tag import QueryTag
from aurora_sync.warehouse.snowflake import SnowflakeWarehouse
from aurora_sync.warehouse.snowflake_login import session_parameters

pytestmark = pytest.mark.live


def environment(method: LoginMethod) -> dict[str, str]:
    """Return the environment with the login of this method only. Skips the test where it is not set."""
    login = {
        f"SNOWFLAKE_{name}": value
        for name in (*method.variables, "AUTHENTICATOR")
        if (value := os.environ.get(f"LIVE_SNOWFLAKE_{name}"))
    }
    if "SNOWFLAKE_AUTHENTICATOR" in login and not method.accepts(login["SNOWFLAKE_AUTHENTICATOR"]):
        del login["SNOWFLAKE_AUTHENTICATOR"]
    if not login:
        pytest.skip(f"no LIVE_SNOWFLAKE_{' or '.join(method.variables) or 'AUTHENTICATOR'} in the environment")
    others = {f"SNOWFLAKE_{name}" for each in LOGIN_METHODS for name in (*each.variables, "AUTHENTICATOR")}
    user = os.environ.get(f"LIVE_{method.name.split()[0].upper()}_USER", os.environ.get("SNOWFLAKE_USER", ""))
    return {name: value for name, value in os.environ.items() if name not in others} | login | {"SNOWFLAKE_USER": user}


@pytest.mark.parametrize("method", LOGIN_METHODS, ids=lambda method: method.name)
def test_the_login_opens_a_session_with_our_parameters(method: LoginMethod) -> None:
    warehouse = Places.from_settings(Settings.from_environment(environment(method))).warehouse
    assert isinstance(warehouse, SnowflakeWarehouse)
    with warehouse.session(query_tag=QueryTag("check")) as session:
        shown = {key: value for key, value, *_ in session.query("SHOW PARAMETERS IN SESSION")}
    wanted = {name: str(value) for name, value in session_parameters(warehouse.settings).items()}
    assert {name: shown.get(name, "").lower() for name in wanted} == {name: v.lower() for name, v in wanted.items()}


def test_the_account_is_ready() -> None:
    """`check` on the account of the environment: the stage's URL, a copied object, the right to create and to merge."""
    places = Places.from_settings(Settings.from_environment(os.environ))
    assert places.warehouse.problems(Trial(places.stage.store, places.log_schema, ("PUBLIC",))) == []


def test_a_statement_that_takes_too_long_is_cancelled_by_snowflake_and_not_retried() -> None:
    """Snowflake's error 630 must arrive, and not the connector's own cancellation."""
    environ = {**os.environ, "SNOWFLAKE_STATEMENT_TIMEOUT": "5", "SNOWFLAKE_NETWORK_TIMEOUT": "60"}
    warehouse = Places.from_settings(Settings.from_environment(environ)).warehouse
    with warehouse.session() as session, pytest.raises(WarehouseError) as caught:
        session.query("CALL SYSTEM$WAIT(30)")
    assert "630" in caught.value.what
    assert not caught.value.kind.retry
