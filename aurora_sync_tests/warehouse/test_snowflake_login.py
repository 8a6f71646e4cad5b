"""Each login method up to the request of the real connector, and what a user reads when a login fails."""

from __future__ import annotations

import base64
import logging
import threading
import urllib.request
import webbrowser
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from aurora_sync.config.backends.snowflake import SnowflakeSettings
from aurora_sync.config.settings import Settings
from aurora_sync.errors import Kind, WarehouseError
from aurora_sync.warehouse import snowflake_login
from aurora_sync.warehouse.connect import warehouse_from
from aurora_sync.warehouse.query_tag import QueryTag
from aurora_sync_tests.fixtures.fakesnow_server import FakeSnowflake
from aurora_sync_tests.fixtures.login_server import LoginServer, login_server


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def pem(key: rsa.RSAPrivateKey, passphrase: str | None = None) -> str:
    encryption: Any = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, encryption).decode()


@pytest.fixture
def server() -> Iterator[LoginServer]:
    with login_server() as server:
        yield server


def environment(port: int, login: Mapping[str, str]) -> dict[str, str]:
    return {
        "AURORA_DSN": "host=nowhere",
        "AURORA_SYNC_STAGE": "s3://bucket/prefix",
        "AURORA_SYNC_WAREHOUSE": "snowflake",
        "SNOWFLAKE_ACCOUNT": "myorg-account1",
        "SNOWFLAKE_USER": "loader",
        "SNOWFLAKE_ROLE": "LOADER",
        "SNOWFLAKE_WAREHOUSE": "WH",
        "SNOWFLAKE_DATABASE": "DB",
        "SNOWFLAKE_STAGE": "db.landing.files",
        "SNOWFLAKE_HOST": "127.0.0.1",
        "SNOWFLAKE_PORT": str(port),
        "SNOWFLAKE_PROTOCOL": "http",
        "SNOWFLAKE_LOGIN_TIMEOUT": "5",
    } | {f"SNOWFLAKE_{name}": value for name, value in login.items()}


def log_in(port: int, login: Mapping[str, str]) -> None:
    with warehouse_from(Settings.from_environment(environment(port, login))).session(
        query_tag=QueryTag("load", "public.orders")
    ):
        pass


def sent(server: LoginServer, login: Mapping[str, str]) -> dict[str, Any]:
    log_in(server.port, login)
    (data,) = server.logins
    return data


@pytest.mark.parametrize("way", ["path", "path with passphrase", "text", "base64"])
def test_a_key_pair_sends_a_token_that_the_key_has_signed(
    server: LoginServer, key: rsa.RSAPrivateKey, tmp_path: Path, way: str
) -> None:
    passphrase = "geheim" if "passphrase" in way else None
    path = tmp_path / "key.p8"
    path.write_text(pem(key, passphrase))
    login = {
        "path": {"PRIVATE_KEY_PATH": str(path)},
        "path with passphrase": {"PRIVATE_KEY_PATH": str(path), "PRIVATE_KEY_PASSPHRASE": "geheim"},
        "text": {"PRIVATE_KEY": pem(key)},
        "base64": {"PRIVATE_KEY": base64.b64encode(pem(key).encode()).decode()},
    }[way]
    data = sent(server, login)
    claims = jwt.decode(data["TOKEN"], key.public_key(), algorithms=["RS256"])
    assert (data["AUTHENTICATOR"], claims["sub"]) == ("SNOWFLAKE_JWT", "MYORG-ACCOUNT1.LOADER")


def test_a_workload_identity_sends_a_signed_request_of_the_iam_role(
    server: LoginServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ACCESS_KEY_ID": "AKIDROLE", "SECRET_ACCESS_KEY": "geheim", "REGION": "eu-west-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    # The connector sends the identity of AWS only to hosts of Snowflake, and to those that this variable allows.
    monkeypatch.setenv("SNOWFLAKE_WIF_ALLOWED_HOST_SUFFIXES", "127.0.0.1")
    data = sent(server, {"WORKLOAD_IDENTITY_PROVIDER": "AWS", "USER": ""})
    assert (data["AUTHENTICATOR"], data["PROVIDER"]) == ("WORKLOAD_IDENTITY", "AWS")
    attested = base64.b64decode(data["TOKEN"]).decode()
    assert "sts.eu-west-1.amazonaws.com" in attested
    assert "Credential=AKIDROLE/" in attested


def test_oauth_client_credentials_send_the_token_of_the_identity_provider(server: LoginServer) -> None:
    login = {
        "OAUTH_CLIENT_ID": "aurora",
        "OAUTH_CLIENT_SECRET": "geheim",
        "OAUTH_TOKEN_REQUEST_URL": f"http://127.0.0.1:{server.port}/token",
        "OAUTH_SCOPE": "session:role:LOADER",
        "USER": "",
    }
    data = sent(server, login)
    assert (data["AUTHENTICATOR"], data["TOKEN"]) == ("OAUTH", "token of the identity provider")
    (asked,) = server.tokens
    assert asked == {
        "authorization": ["Basic " + base64.b64encode(b"aurora:geheim").decode()],
        "grant_type": ["client_credentials"],
        "scope": ["session:role:LOADER"],
    }


@pytest.mark.parametrize(
    ("login", "authenticator"),
    [
        ({"TOKEN": "pat"}, "PROGRAMMATIC_ACCESS_TOKEN"),
        ({"TOKEN_FILE": "token.txt"}, "PROGRAMMATIC_ACCESS_TOKEN"),
        ({"TOKEN": "pat", "AUTHENTICATOR": "oauth"}, "OAUTH"),
    ],
)
def test_a_token_is_sent_without_the_line_break_of_its_file(
    server: LoginServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, login: dict[str, str], authenticator: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("token.txt").write_text("pat\n")
    data = sent(server, login)
    assert (data["AUTHENTICATOR"], data["TOKEN"]) == (authenticator, "pat")


def test_a_connection_of_connections_toml_supplies_account_and_login(
    server: LoginServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The connector reads this variable in place of the file.
    monkeypatch.setenv("SNOWFLAKE_CONNECTIONS", '[prod]\naccount = "other"\nuser = "robot"\npassword = "geheim"\n')
    data = sent(server, {"CONNECTION_NAME": "prod", "ACCOUNT": "", "USER": ""})
    assert (data["ACCOUNT_NAME"], data["LOGIN_NAME"], data["PASSWORD"]) == ("other", "robot", "geheim")
    with pytest.raises(WarehouseError, match="Invalid connection_name 'prd'") as caught:
        log_in(server.port, {"CONNECTION_NAME": "prd", "ACCOUNT": "", "USER": ""})
    assert caught.value.kind is Kind.REFUSED


def test_a_browser_sends_the_token_that_the_person_brought(
    server: LoginServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    persons = []

    def person(url: str, *_: object, **__: object) -> bool:
        callback = f"http://localhost:{url.rpartition('=')[2]}/?token=brought"
        persons.append(threading.Thread(target=lambda: urllib.request.urlopen(callback).read()))
        persons[-1].start()
        return True

    monkeypatch.setattr(webbrowser, "open_new", person)
    data = sent(server, {"AUTHENTICATOR": "externalbrowser"})
    persons[0].join()
    assert (data["AUTHENTICATOR"], data["TOKEN"]) == ("EXTERNALBROWSER", "brought")


def test_a_password_is_sent_with_a_warning_that_it_will_end(
    server: LoginServer, caplog: pytest.LogCaptureFixture
) -> None:
    snowflake_login._warn_of_the_end_of_passwords.cache_clear()
    with caplog.at_level(logging.WARNING, logger="aurora_sync"):
        data = sent(server, {"PASSWORD": "geheim"})
        log_in(server.port, {"PASSWORD": "geheim"})
    assert data["PASSWORD"] == "geheim"
    (warned,) = [record.getMessage() for record in caplog.records if record.name.startswith("aurora_sync")]
    assert "which Snowflake no longer accepts from 2026 on; use a key pair" in warned
    assert "geheim" not in warned


def test_a_password_with_a_second_factor_is_sent_without_a_warning(
    server: LoginServer, caplog: pytest.LogCaptureFixture
) -> None:
    snowflake_login._warn_of_the_end_of_passwords.cache_clear()
    with caplog.at_level(logging.WARNING, logger="aurora_sync"):
        data = sent(server, {"PASSWORD": "geheim", "AUTHENTICATOR": "username_password_mfa"})
    assert (data["PASSWORD"], data.get("AUTHENTICATOR")) == ("geheim", None)
    assert not [record for record in caplog.records if record.name.startswith("aurora_sync")]


def test_session_parameters_are_sent_with_the_login(server: LoginServer) -> None:
    data = sent(server, {"TOKEN": "pat", "STATEMENT_TIMEOUT": "3600"})
    parameters = data["SESSION_PARAMETERS"]
    wanted = {
        "QUERY_TAG": str(QueryTag("load", "public.orders")),
        "AUTOCOMMIT": True,
        "TRANSACTION_ABORT_ON_ERROR": True,
        "ABORT_DETACHED_QUERY": True,
        "STATEMENT_TIMEOUT_IN_SECONDS": 3600,
        "LOCK_TIMEOUT": 600,
        "TIMESTAMP_TZ_OUTPUT_FORMAT": "YYYY-MM-DD HH24:MI:SS.FF6TZH:TZM",
        "BINARY_OUTPUT_FORMAT": "HEX",
    }
    assert {name: parameters[name] for name in wanted} == wanted


def test_every_time_limit_is_finite() -> None:
    given = snowflake_login.arguments(SnowflakeSettings("WH", "DB", "S", login={"token": "pat"}), "")
    limit = given["session_parameters"]["STATEMENT_TIMEOUT_IN_SECONDS"]
    assert (limit, given["login_timeout"]) == (21_600, 120)
    # The connector cancels a statement at its network timeout, with an error that does not name the cause.
    assert given["network_timeout"] > limit


@pytest.mark.parametrize(
    "login", [{"TOKEN": "pat"}, {"PASSWORD": "x"}, {"TOKEN": "t", "AUTHENTICATOR": "oauth"}, {"PRIVATE_KEY": "key"}]
)
def test_the_fake_accepts_the_login_and_answers(
    fakesnow_server: FakeSnowflake, snowflake_database: str, key: rsa.RSAPrivateKey, login: dict[str, str]
) -> None:
    login = login | {"DATABASE": snowflake_database} | ({"PRIVATE_KEY": pem(key)} if "PRIVATE_KEY" in login else {})
    settings = Settings.from_environment(environment(fakesnow_server.port, login))
    with warehouse_from(settings).session() as session:
        assert session.query("SELECT 1") == [(1,)]


@pytest.mark.parametrize(
    ("content", "passphrase", "said", "hint"),
    [
        (None, None, "No such file or directory", "name a file that exists"),
        ("no key", None, "found no PEM text", "BEGIN PRIVATE KEY"),
        ("", None, "found no PEM text", "BEGIN PRIVATE KEY"),
        ("public", None, "found a public key", "BEGIN PRIVATE KEY"),
        ("cut", None, "the PEM text is damaged", "BEGIN PRIVATE KEY"),
        ("encrypted", "other", "the passphrase does not fit", "correct SNOWFLAKE_PRIVATE_KEY_PASSPHRASE"),
        ("encrypted", None, "it is encrypted, and no passphrase is set", "set SNOWFLAKE_PRIVATE_KEY_PASSPHRASE"),
        ("open", "other", "it is not encrypted, but a passphrase is set", "unset SNOWFLAKE_PRIVATE_KEY_PASSPHRASE"),
    ],
)
def test_a_key_that_cannot_be_read_is_named_with_the_reason(
    key: rsa.RSAPrivateKey, tmp_path: Path, content: str | None, passphrase: str | None, said: str, hint: str
) -> None:
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    known = {"public": public.decode(), "cut": pem(key)[:300], "encrypted": pem(key, "geheim"), "open": pem(key)}
    path = tmp_path / "key.p8"
    if content is not None:
        path.write_text(known.get(content, content))
    login = {"PRIVATE_KEY_PATH": str(path)} | ({"PRIVATE_KEY_PASSPHRASE": passphrase} if passphrase else {})
    with pytest.raises(WarehouseError) as caught:
        log_in(1, login)
    assert str(caught.value).startswith(f"the file {path}: the private key cannot be read: {said}")
    assert caught.value.hint.startswith(hint) or hint in caught.value.hint
    assert caught.value.kind is Kind.USER


def test_a_token_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match=r"token.txt: the token cannot be read: No such file or directory"):
        log_in(1, {"TOKEN_FILE": str(tmp_path / "token.txt")})


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        ("390144", "JWT token is invalid", "compare RSA_PUBLIC_KEY_FP in DESCRIBE USER"),
        ("390100", "Incorrect username or password was specified.", "SNOWFLAKE_PASSWORD"),
        ("390189", "Role 'LOADER' specified in the connect string is not granted", "GRANT ROLE"),
        ("390422", "Incoming request with IP/Token 10.0.0.1 is not allowed", "network policy"),
        ("390303", "Invalid OAuth access token.", "request a new token"),
    ],
)
def test_a_refused_login_says_what_to_mend(server: LoginServer, code: str, message: str, hint: str) -> None:
    server.refusal = (code, message)
    with pytest.raises(WarehouseError, match=message.rstrip(".")) as caught:
        log_in(server.port, {"TOKEN": "geheim", "AUTHENTICATOR": "oauth"})
    assert (caught.value.kind, hint in caught.value.hint) == (Kind.REFUSED, True)
    assert "geheim" not in f"{caught.value}"


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (("000603", "SQL execution internal error", "XX000"), Kind.TRANSIENT),
        (("390114", "Authentication token has expired. The user must authenticate again.", "08001"), Kind.TRANSIENT),
        (("000630", "Statement reached its statement or warehouse timeout of 5 second(s)", "57014"), Kind.REFUSED),
    ],
)
def test_a_failed_statement_says_whether_the_next_session_may_succeed(
    server: LoginServer, failure: tuple[str, str, str], kind: Kind
) -> None:
    server.failure = failure
    warehouse = warehouse_from(Settings.from_environment(environment(server.port, {"TOKEN": "pat"})))
    with warehouse.session() as session, pytest.raises(WarehouseError) as caught:
        session.query("SELECT 1")
    assert caught.value.kind is kind
    with warehouse.session():
        pass
    assert len(server.logins) == 2
