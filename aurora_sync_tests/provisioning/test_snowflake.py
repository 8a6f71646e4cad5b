"""The SQL that prepares a Snowflake account, and the page that shows it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from sqlglot import exp

from aurora_sync.cli.main import main
from aurora_sync.config.backends.snowflake import SnowflakeSettings
from aurora_sync.provisioning.snowflake import Part, setup_script, setup_statements

INSTALL = Path(__file__).parents[2] / "docs/install.md"
ENVIRON = {
    "AURORA_DSN": "host=nowhere",
    "AURORA_SYNC_STAGE": "s3://my-bucket/aurora-sync",
    "AURORA_SYNC_WAREHOUSE": "snowflake",
    "SNOWFLAKE_ACCOUNT": "myorg-account1",
    "SNOWFLAKE_USER": "aurora_sync",
    "SNOWFLAKE_ROLE": "aurora_sync",
    "SNOWFLAKE_WAREHOUSE": "aurora_sync",
    "SNOWFLAKE_DATABASE": "legacy",
    "SNOWFLAKE_STAGE": "legacy.staging.aurora_sync",
    "SNOWFLAKE_PRIVATE_KEY_PATH": "key.p8",
}
TABLES = """
tables:
  - {table_name: orders, watermark_type: xmin}
  - {table_name: items, schema: sales, watermark_type: xmin}
  - {table_name: parts, target_schema: stock, watermark_type: xmin}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["setup", "snowflake"]) == 0
    return capsys.readouterr().out


def parts(**settings: Any) -> list[Part]:
    given: dict[str, Any] = {"stage": "files", "user": "loader", "login": {"private_key_path": "key.p8"}} | settings
    snowflake = SnowflakeSettings("wh", "app", account="a", **given)
    return setup_statements(snowflake, "s3://b/p/", "_LOG", {"PUBLIC"})


def statements(**settings: Any) -> list[str]:
    return [statement for part in parts(**settings) for statement in part.statements]


def test_the_page_shows_what_the_command_prints(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = INSTALL.read_text(encoding="utf-8").partition("<!-- snowflake -->\n```sql\n")[2].partition("```\n")[0]
    assert page == printed(capsys), (
        "put what aurora-sync setup snowflake prints for these settings into docs/install.md"
    )


def test_every_schema_of_a_target_has_its_grants(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "tables.yaml").write_text(TABLES)
    found = re.findall(
        r'^GRANT (.*) ON SCHEMA "LEGACY"\."(\w+)" TO ROLE "AURORA_SYNC";$', printed(capsys), re.MULTILINE
    )
    assert sorted(found, key=lambda each: each[1]) == [
        ("USAGE, CREATE TABLE", "PUBLIC"),
        ("USAGE, CREATE TABLE", "SALES"),
        ("USAGE", "STAGING"),
        ("USAGE, CREATE TABLE", "STOCK"),
        ("USAGE, CREATE TABLE", "_AURORA_SYNC"),
    ]


def test_the_public_key_belongs_to_the_private_key_of_the_settings(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = rsa.generate_private_key(65537, 2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.p8").write_bytes(key.private_bytes(*form))
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    wanted = "".join(public.decode().split("\n")[1:-2])
    text = printed(capsys)
    assert f"RSA_PUBLIC_KEY = '{wanted}';" in text
    assert "openssl" not in text


def test_json_has_the_statements_in_order(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["setup", "snowflake", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["statements"]
    assert found[0] == 'CREATE ROLE IF NOT EXISTS "AURORA_SYNC"'
    assert not [statement for statement in found if statement.startswith("--")]


def test_another_warehouse_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AURORA_SYNC_WAREHOUSE", "duckdb:w.duckdb")
    assert main(["setup", "snowflake"]) == 2
    assert "AURORA_SYNC_WAREHOUSE is duckdb, expected snowflake" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("login", "wanted"),
    [
        ({"private_key": "x"}, "RSA_PUBLIC_KEY = '<public key>'"),
        (
            {"authenticator": "WORKLOAD_IDENTITY", "workload_identity_provider": "AWS"},
            "WORKLOAD_IDENTITY = (TYPE = AWS ARN = 'arn:aws:iam::<account>:role/<role of the program>')",
        ),
        (
            {"authenticator": "PROGRAMMATIC_ACCESS_TOKEN", "token": "geheim"},
            "ALTER USER \"LOADER\" ADD PROGRAMMATIC ACCESS TOKEN AURORA_SYNC ROLE_RESTRICTION = 'AURORA_SYNC'",
        ),
        ({"authenticator": "OAUTH_CLIENT_CREDENTIALS"}, 'CREATE USER IF NOT EXISTS "LOADER" TYPE = SERVICE'),
        ({"password": "geheim"}, "RSA_PUBLIC_KEY = '<public key>'"),
        ({"connection_name": "prod"}, "RSA_PUBLIC_KEY = '<public key>'"),
        ({"authenticator": "externalbrowser"}, 'GRANT ROLE "AURORA_SYNC" TO USER "LOADER"'),
    ],
)
def test_the_user_fits_the_login(login: dict[str, str], wanted: str) -> None:
    found = statements(login=login)
    assert any(wanted in statement for statement in found)
    assert 'GRANT ROLE "AURORA_SYNC" TO USER "LOADER"' in found
    assert ("externalbrowser" in login.values()) != any("CREATE USER" in statement for statement in found)
    assert "geheim" not in setup_script(parts(login=login))


def test_names_are_quoted_as_snowflake_reads_the_settings() -> None:
    found = statements(role='"sync role"', stage="files", dms_stage="other.raw.dms")
    assert 'GRANT USAGE ON DATABASE "APP" TO ROLE "sync role"' in found
    assert 'GRANT USAGE ON STAGE "APP"."PUBLIC"."FILES" TO ROLE "sync role"' in found
    assert 'GRANT USAGE ON STAGE "OTHER"."RAW"."DMS" TO ROLE "sync role"' in found


def test_a_dms_stage_has_its_grants() -> None:
    assert 'GRANT USAGE ON STAGE "APP"."RAW"."DMS" TO ROLE "AURORA_SYNC"' in statements(dms_stage="raw.dms")


def test_only_what_a_sync_needs_is_granted() -> None:
    granted = {re.split(r" (?:\"|TO USER)", each)[0] for each in statements() if each.startswith("GRANT")}
    assert granted == {
        "GRANT ROLE",
        "GRANT USAGE ON WAREHOUSE",
        "GRANT USAGE ON DATABASE",
        "GRANT USAGE, CREATE TABLE ON SCHEMA",
        "GRANT USAGE ON SCHEMA",
        "GRANT USAGE ON STAGE",
    }


def test_grant_of_the_history_is_printed_as_a_comment() -> None:
    wanted = 'GRANT DATABASE ROLE SNOWFLAKE.GOVERNANCE_VIEWER TO ROLE "AURORA_SYNC"'
    assert f"-- {wanted};" in setup_script(parts()).splitlines()
    assert wanted not in statements()


def test_the_script_is_sql() -> None:
    """sqlglot keeps statements that it does not know as commands; a quote that is not closed is an error."""
    parsed = sqlglot.parse(setup_script(parts(dms_stage="raw.dms")), read="snowflake")
    assert len([each for each in parsed if not isinstance(each, exp.Semicolon)]) == len(statements(dms_stage="raw.dms"))
