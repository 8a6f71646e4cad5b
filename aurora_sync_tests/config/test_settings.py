from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from aurora_sync.config.backends.duckdb import DuckDBSettings
from aurora_sync.config.backends.snowflake import SnowflakeSettings
from aurora_sync.config.settings import VARIABLES, Settings
from aurora_sync.errors import ConfigError

LOCAL = {
    "AURORA_DSN": "host=db.example dbname=app user=sync password=geheim",
    "AURORA_SYNC_STAGE": "s3://bucket/some/prefix/",
    "AURORA_SYNC_WAREHOUSE": "duckdb:data/warehouse.duckdb",
}
SNOWFLAKE = LOCAL | {
    "AURORA_SYNC_WAREHOUSE": "snowflake",
    "SNOWFLAKE_ACCOUNT": "org-account",
    "SNOWFLAKE_USER": "loader",
    "SNOWFLAKE_WAREHOUSE": "load_wh",
    "SNOWFLAKE_DATABASE": "app",
    "SNOWFLAKE_STAGE": "app.public.aurora_stage",
}
KEY = "-----BEGIN PRIVATE KEY-----\ngeheim\n-----END PRIVATE KEY-----"


def problems(environ: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        Settings.from_environment(environ)
    assert "geheim" not in f"{caught.value} {caught.value!r}"
    return caught.value.problems


def test_a_local_environment_needs_three_variables() -> None:
    settings = Settings.from_environment(LOCAL)
    assert settings == Settings(
        dsn=LOCAL["AURORA_DSN"],
        stage="s3://bucket/some/prefix",
        warehouse=DuckDBSettings(Path("data/warehouse.duckdb")),
        tables=Path("tables.yaml"),
        log_schema="_AURORA_SYNC",
    )


def test_snowflake_settings_are_read_whole() -> None:
    environ = SNOWFLAKE | {
        "AURORA_DSN": "postgresql://sync:geheim@db.example:5432/app",
        "AURORA_SYNC_SCHEMA": "LOG",
        "AURORA_SYNC_TABLES": "conf/tables.json",
        "SNOWFLAKE_PRIVATE_KEY": f"{KEY}\n",
        "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE": "geheim",
        "SNOWFLAKE_ROLE": "SYNC",
        "SNOWFLAKE_HOST": "127.0.0.1",
        "SNOWFLAKE_PORT": "8080",
        "SNOWFLAKE_PROTOCOL": "http",
    }
    settings = Settings.from_environment(environ)
    assert (settings.log_schema, settings.tables) == ("LOG", Path("conf/tables.json"))
    assert settings.warehouse == SnowflakeSettings(
        account="org-account",
        user="loader",
        warehouse="load_wh",
        database="app",
        stage="app.public.aurora_stage",
        role="SYNC",
        login={"private_key": KEY, "private_key_passphrase": "geheim"},
        host="127.0.0.1",
        port=8080,
        protocol="http",
    )


@pytest.mark.parametrize(
    "login",
    [
        {"SNOWFLAKE_PASSWORD": "geheim"},
        {"SNOWFLAKE_PRIVATE_KEY": KEY},
        {"SNOWFLAKE_PRIVATE_KEY_PATH": "key.p8", "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE": "geheim"},
        {"SNOWFLAKE_AUTHENTICATOR": "externalbrowser"},
        {"SNOWFLAKE_AUTHENTICATOR": "username_password_mfa", "SNOWFLAKE_PASSWORD": "geheim"},
    ],
)
def test_secrets_do_not_show_in_what_is_printed(login: dict[str, str]) -> None:
    settings = Settings.from_environment(SNOWFLAKE | login)
    assert "geheim" not in f"{settings} {settings!r} {settings.warehouse} {settings.warehouse!r}"


def test_everything_missing_is_named_at_once_with_what_it_is_for() -> None:
    assert [problem.split(" ")[0] for problem in problems({})] == [
        "AURORA_DSN",
        "AURORA_SYNC_STAGE",
        "AURORA_SYNC_WAREHOUSE",
    ]
    found = problems({"AURORA_SYNC_WAREHOUSE": "snowflake", "AURORA_DSN": "  "})
    assert "SNOWFLAKE_STAGE is not set; it is the external stage that points at AURORA_SYNC_STAGE" in found[4]
    assert [problem.split(" ")[0] for problem in found] == [
        "AURORA_DSN",
        "AURORA_SYNC_STAGE",
        "SNOWFLAKE_WAREHOUSE",
        "SNOWFLAKE_DATABASE",
        "SNOWFLAKE_STAGE",
        "SNOWFLAKE_USER",
        "SNOWFLAKE_ACCOUNT",
        "no",
    ]


def test_everything_malformed_is_named_beside_what_is_missing() -> None:
    found = problems(
        {
            "AURORA_DSN": "db.example app sync geheim",
            "AURORA_SYNC_STAGE": "https://bucket/prefix",
            "AURORA_SYNC_WAREHOUSE": "snowflake://loader:geheim@account",
            "SNOWFLAKE_PORT": "https",
            "SNOWFLAKE_PROTOCOL": "ftp",
        }
    )
    assert [problem.split(":")[0] for problem in found] == [
        "AURORA_DSN",
        "AURORA_SYNC_STAGE",
        "AURORA_SYNC_WAREHOUSE",
        "SNOWFLAKE_PORT",
        "SNOWFLAKE_PROTOCOL",
    ]
    assert "found 'https://bucket/prefix'; expected s3://bucket/prefix" in found[1]
    assert "found 'snowflake://***@account'" in found[2]


@pytest.mark.parametrize("dsn", ["geheim", "postgresql://", "postgresql://u:ge%heim@h/d", "host=h password='geheim"])
def test_a_dsn_that_libpq_cannot_read_is_refused_without_being_shown(dsn: str) -> None:
    (found,) = problems(LOCAL | {"AURORA_DSN": dsn})
    assert found.startswith("AURORA_DSN: found a string that libpq cannot read")


@pytest.mark.parametrize("stage", ["s3://b", "s3://Bucket/x", "s3:///x", "s3://bucket/x?versionId=1", "bucket/x"])
def test_a_stage_that_is_no_bucket_is_refused(stage: str) -> None:
    assert problems(LOCAL | {"AURORA_SYNC_STAGE": stage}) == [
        f"AURORA_SYNC_STAGE: found {stage!r}; expected s3://bucket/prefix"
    ]


def test_the_table_for_the_documentation_has_a_line_for_every_variable() -> None:
    command = [sys.executable, "-m", "aurora_sync.config.settings"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split("`")[1] for line in lines[2:]] == [variable.name for variable in VARIABLES]
    assert all(line.count("|") == 4 for line in lines)
