"""Resources that a Dagster project already has serve as warehouse and as stage."""

from __future__ import annotations

import warnings

import dagster as dg
import pytest
from dagster_aws.s3 import S3Resource

from aurora_sync.embedded.stack import Stack
from aurora_sync.errors import ConfigError
from aurora_sync.orchestration.existing_resources import s3_store, snowflake_settings
from aurora_sync.warehouse.query_tag import QueryTag
from aurora_sync.warehouse.snowflake import SnowflakeWarehouse
from aurora_sync_tests.fixtures.login_server import login_server

with warnings.catch_warnings():
    # The package declares a field in a way that pydantic deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    from dagster_snowflake import SnowflakeResource


def test_a_snowflake_resource_logs_in_with_its_own_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_PROJECT", "geheim")
    with login_server() as server:
        resource = SnowflakeResource(
            account="myorg-account1",
            user="robot",
            password=dg.EnvVar("OF_THE_PROJECT"),
            role="LOADER",
            warehouse="WH",
            database="APP",
            timezone="Europe/Berlin",
            additional_snowflake_connection_args={
                "host": "127.0.0.1",
                "port": server.port,
                "protocol": "http",
                "session_parameters": {"TIMEZONE": "Europe/Berlin"},
            },
        )
        settings = snowflake_settings(resource, stage="app.landing.files")
        with SnowflakeWarehouse(settings).session(query_tag=QueryTag("check")):
            pass
    (sent,) = server.logins
    assert (sent["ACCOUNT_NAME"], sent["LOGIN_NAME"], sent["PASSWORD"]) == ("myorg-account1", "robot", "geheim")
    parameters = sent["SESSION_PARAMETERS"]
    assert (parameters["TIMEZONE"], parameters["QUERY_TAG"]) == ("UTC", str(QueryTag("check")))
    assert "geheim" not in repr(settings)
    assert (settings.stage, settings.role, settings.database) == ("app.landing.files", "LOADER", "APP")


def test_a_key_pair_of_a_resource_is_taken() -> None:
    resource = SnowflakeResource(
        account="a", user="u", private_key_path="key.p8", private_key_password="x", warehouse="w", database="d"
    )
    settings = snowflake_settings(resource, stage="s", dms_stage="dms")
    assert settings.login == {"private_key_path": "key.p8", "private_key_passphrase": "x"}
    assert settings.dms_stage == "dms"


def test_a_resource_without_a_warehouse_is_refused() -> None:
    resource = SnowflakeResource(account="a", user="u", password="x", database="d")
    with pytest.raises(ConfigError, match=r"has no warehouse \(set warehouse of the resource\)"):
        snowflake_settings(resource, stage="s")


def test_an_s3_resource_reaches_the_bucket_with_its_own_credentials(
    stack: Stack, stage_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = stack.environment()
    for name in [name for name in given if name.startswith("AWS_")]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OF_THE_PROJECT", given["AWS_SECRET_ACCESS_KEY"])
    resource = S3Resource(
        region_name=given.get("AWS_REGION", "us-east-1"),
        endpoint_url=given["AWS_ENDPOINT_URL_S3"],
        aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=dg.EnvVar("OF_THE_PROJECT"),
    )
    store = s3_store(resource, stage_url)
    store.put_new(f"{store.prefix}one", b"1")
    assert store.get(f"{store.prefix}one") == b"1"
