"""What the settings of a Snowflake account say about missing, doubled and contradicting variables."""

from __future__ import annotations

from typing import Any

import pytest

from aurora_sync.config.backends.snowflake import SNOWFLAKE, SnowflakeSettings
from aurora_sync.config.settings import Settings
from aurora_sync.errors import ConfigError

ENVIRON = {
    "AURORA_DSN": "host=db.example dbname=app",
    "AURORA_SYNC_STAGE": "s3://bucket/some/prefix/",
    "AURORA_SYNC_WAREHOUSE": "snowflake",
    "SNOWFLAKE_ACCOUNT": "org-account",
    "SNOWFLAKE_USER": "loader",
    "SNOWFLAKE_WAREHOUSE": "load_wh",
    "SNOWFLAKE_DATABASE": "app",
    "SNOWFLAKE_STAGE": "app.public.aurora_stage",
}


def environ(variables: dict[str, str]) -> dict[str, str]:
    return ENVIRON | {f"SNOWFLAKE_{name}": value for name, value in variables.items()}


def settings(variables: dict[str, str]) -> SnowflakeSettings:
    found = Settings.from_environment(environ(variables)).warehouse
    assert isinstance(found, SnowflakeSettings)
    return found


OAUTH = {"OAUTH_CLIENT_ID": "id", "OAUTH_CLIENT_SECRET": "geheim", "OAUTH_TOKEN_REQUEST_URL": "https://idp/token"}


@pytest.mark.parametrize(
    ("variables", "login"),
    [
        ({"PRIVATE_KEY_PATH": "k.p8"}, {"private_key_path": "k.p8"}),
        ({"PRIVATE_KEY_PATH": "k.p8", "AUTHENTICATOR": "snowflake_jwt"}, {"private_key_path": "k.p8"}),
        (
            {"WORKLOAD_IDENTITY_PROVIDER": "AWS", "USER": ""},
            {"workload_identity_provider": "AWS", "authenticator": "WORKLOAD_IDENTITY"},
        ),
        (OAUTH, {name.lower(): value for name, value in OAUTH.items()} | {"authenticator": "OAUTH_CLIENT_CREDENTIALS"}),
        ({"TOKEN_FILE": "t", "USER": ""}, {"token_file": "t", "authenticator": "PROGRAMMATIC_ACCESS_TOKEN"}),
        ({"TOKEN": "geheim", "AUTHENTICATOR": "oauth"}, {"token": "geheim", "authenticator": "oauth"}),
        ({"CONNECTION_NAME": "prod", "ACCOUNT": "", "USER": ""}, {"connection_name": "prod"}),
        ({"AUTHENTICATOR": "externalbrowser"}, {"authenticator": "externalbrowser"}),
        ({"PASSWORD": "geheim"}, {"password": "geheim"}),
        ({"PASSWORD": "geheim", "AUTHENTICATOR": "snowflake"}, {"password": "geheim"}),
        (
            {"PASSWORD": "geheim", "AUTHENTICATOR": "https://my.okta.com"},
            {"password": "geheim", "authenticator": "https://my.okta.com"},
        ),
    ],
)
def test_each_login_is_read(variables: dict[str, str], login: dict[str, Any]) -> None:
    found = settings(variables)
    assert found.login == login
    assert "geheim" not in f"{found} {found!r}"


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        (
            {},
            "no login is set; set SNOWFLAKE_PRIVATE_KEY_PATH or SNOWFLAKE_PRIVATE_KEY (key pair), or one of:"
            " SNOWFLAKE_WORKLOAD_IDENTITY_PROVIDER (workload identity); SNOWFLAKE_OAUTH_CLIENT_ID and"
            " SNOWFLAKE_OAUTH_CLIENT_SECRET and SNOWFLAKE_OAUTH_TOKEN_REQUEST_URL (OAuth client credentials);"
            " SNOWFLAKE_TOKEN_FILE or SNOWFLAKE_TOKEN (token); SNOWFLAKE_CONNECTION_NAME (connection of"
            " connections.toml); SNOWFLAKE_AUTHENTICATOR=externalbrowser (browser); SNOWFLAKE_PASSWORD (password)",
        ),
        (
            {"PASSWORD": "geheim", "PRIVATE_KEY": "geheim"},
            "SNOWFLAKE_PRIVATE_KEY (key pair) and SNOWFLAKE_PASSWORD (password) are set, but one login is allowed;"
            " keep the first with: unset SNOWFLAKE_PASSWORD",
        ),
        (
            {"PRIVATE_KEY_PATH": "k", "PRIVATE_KEY": "geheim"},
            "SNOWFLAKE_PRIVATE_KEY_PATH and SNOWFLAKE_PRIVATE_KEY are both set, but one is allowed; keep the first"
            " with: unset SNOWFLAKE_PRIVATE_KEY",
        ),
        (
            {"PRIVATE_KEY_PASSPHRASE": "geheim"},
            "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE is set without SNOWFLAKE_PRIVATE_KEY_PATH or SNOWFLAKE_PRIVATE_KEY; set"
            " it, or unset SNOWFLAKE_PRIVATE_KEY_PASSPHRASE",
        ),
        (
            {"OAUTH_CLIENT_ID": "id", "OAUTH_TOKEN_REQUEST_URL": "https://idp/token"},
            "SNOWFLAKE_OAUTH_CLIENT_ID and SNOWFLAKE_OAUTH_TOKEN_REQUEST_URL are set without"
            " SNOWFLAKE_OAUTH_CLIENT_SECRET; set it, or unset SNOWFLAKE_OAUTH_CLIENT_ID"
            " SNOWFLAKE_OAUTH_TOKEN_REQUEST_URL",
        ),
        (
            {"PASSWORD": "geheim", "AUTHENTICATOR": "externalbrowser"},
            "SNOWFLAKE_AUTHENTICATOR is 'externalbrowser', but SNOWFLAKE_PASSWORD (password) needs SNOWFLAKE or"
            " USERNAME_PASSWORD_MFA or the URL of an Okta account; unset SNOWFLAKE_AUTHENTICATOR, or unset"
            " SNOWFLAKE_PASSWORD",
        ),
        (
            {"PASSWORD": "geheim", "AUTHENTICATOR": "snowflake_jwt"},
            "SNOWFLAKE_AUTHENTICATOR is 'snowflake_jwt', but SNOWFLAKE_PASSWORD (password) needs SNOWFLAKE or"
            " USERNAME_PASSWORD_MFA or the URL of an Okta account; unset SNOWFLAKE_AUTHENTICATOR, or unset"
            " SNOWFLAKE_PASSWORD",
        ),
        (
            {"CONNECTION_NAME": "prod", "AUTHENTICATOR": "oauth"},
            "SNOWFLAKE_AUTHENTICATOR is 'oauth', but SNOWFLAKE_CONNECTION_NAME (connection of connections.toml) has its"
            " own; unset SNOWFLAKE_AUTHENTICATOR, or unset SNOWFLAKE_CONNECTION_NAME",
        ),
        (
            {"AUTHENTICATOR": "workload_identity"},
            "SNOWFLAKE_AUTHENTICATOR is 'workload_identity', which needs SNOWFLAKE_WORKLOAD_IDENTITY_PROVIDER; set it",
        ),
        (
            {"AUTHENTICATOR": "kerberos"},
            "SNOWFLAKE_AUTHENTICATOR: found 'kerberos'; expected SNOWFLAKE_JWT, WORKLOAD_IDENTITY,"
            " OAUTH_CLIENT_CREDENTIALS, PROGRAMMATIC_ACCESS_TOKEN, OAUTH, EXTERNALBROWSER, SNOWFLAKE,"
            " USERNAME_PASSWORD_MFA, the URL of an Okta account",
        ),
        (
            {"WORKLOAD_IDENTITY_PROVIDER": "GCP"},
            "SNOWFLAKE_WORKLOAD_IDENTITY_PROVIDER: found 'GCP'; expected AWS",
        ),
        ({"PASSWORD": "geheim", "USER": ""}, "SNOWFLAKE_USER is not set; it is the user who loads and merges"),
        (
            {"TOKEN": "geheim", "ACCOUNT": ""},
            "SNOWFLAKE_ACCOUNT is not set; it is the account identifier, such as `myorg-account1`",
        ),
        (
            {"TOKEN": "geheim", "STATEMENT_TIMEOUT": "0"},
            "SNOWFLAKE_STATEMENT_TIMEOUT: found '0'; expected 1 to 599999 (seconds)",
        ),
        (
            {"TOKEN": "geheim", "NETWORK_TIMEOUT": "600"},
            "SNOWFLAKE_NETWORK_TIMEOUT is 600, but must be more than SNOWFLAKE_STATEMENT_TIMEOUT (21600): the connector"
            " cancels a statement at its network timeout; unset SNOWFLAKE_NETWORK_TIMEOUT, or set"
            " SNOWFLAKE_STATEMENT_TIMEOUT lower",
        ),
    ],
)
def test_a_wrong_login_names_the_variables_and_what_to_unset(variables: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(variables)
    assert caught.value.problems == [problem]
    assert "geheim" not in f"{caught.value}"


def test_the_network_timeout_follows_the_statement_timeout() -> None:
    found = settings({"TOKEN": "t", "STATEMENT_TIMEOUT": "60"})
    assert (found.statement_timeout, found.network_timeout, found.login_timeout) == (60, 360, 120)
    found = settings({"TOKEN": "t", "STATEMENT_TIMEOUT": "60", "NETWORK_TIMEOUT": "90", "LOGIN_TIMEOUT": "10"})
    assert (found.statement_timeout, found.network_timeout, found.login_timeout) == (60, 90, 10)


def test_every_secret_is_marked_in_the_documentation() -> None:
    marked = {variable.name.removeprefix("SNOWFLAKE_") for variable in SNOWFLAKE.variables if variable.secret}
    assert marked == {"PRIVATE_KEY", "PRIVATE_KEY_PASSPHRASE", "OAUTH_CLIENT_SECRET", "TOKEN", "PASSWORD"}
