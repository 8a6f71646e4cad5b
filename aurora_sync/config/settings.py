"""What the environment says: where the source, the stage and the warehouse are, and how to get in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from psycopg2 import ProgrammingError
from psycopg2.extensions import parse_dsn

from aurora_sync.errors import ConfigError

Needed = Literal["always", "for snowflake", "optional"]


@dataclass(frozen=True)
class Variable:
    """One environment variable. Errors and the table of the README are made from these."""

    name: str
    purpose: str
    needed: Needed = "optional"
    default: str = ""
    secret: bool = False


VARIABLES = (
    Variable(
        "AURORA_DSN",
        "the source: a libpq string (`host=... dbname=... user=...`) or URL (`postgresql://...`), of the writer "
        "endpoint",
        "always",
        secret=True,
    ),
    Variable(
        "AURORA_OWNER_DSN", "for `triggers`: the login that owns the tables, where AURORA_DSN does not", secret=True
    ),
    Variable("AURORA_SYNC_STAGE", "where files are staged: `s3://bucket/prefix`", "always"),
    Variable("AURORA_SYNC_WAREHOUSE", "the target: `snowflake`, or `duckdb:PATH` for a local file", "always"),
    Variable("AURORA_SYNC_TABLES", "the file that names the tables", default="tables.yaml"),
    Variable("AURORA_SYNC_SCHEMA", "schema of the sync log in the warehouse", default="_AURORA_SYNC"),
    Variable("SNOWFLAKE_ACCOUNT", "account identifier, such as `myorg-account1`", "for snowflake"),
    Variable("SNOWFLAKE_USER", "user who loads and merges", "for snowflake"),
    Variable("SNOWFLAKE_WAREHOUSE", "virtual warehouse that runs the statements", "for snowflake"),
    Variable("SNOWFLAKE_DATABASE", "database of the target tables", "for snowflake"),
    Variable(
        "SNOWFLAKE_STAGE",
        "the external stage that points at AURORA_SYNC_STAGE: `database.schema.name`",
        "for snowflake",
    ),
    Variable(
        "SNOWFLAKE_DMS_STAGE", "for `watermark_type: dms`: the external stage that points at the folder of the task"
    ),
    Variable("SNOWFLAKE_ROLE", "role to use; the user's default role otherwise"),
    Variable("SNOWFLAKE_PRIVATE_KEY", "to log in: a private key, as PEM text", secret=True),
    Variable("SNOWFLAKE_PRIVATE_KEY_PATH", "to log in: a file with a private key"),
    Variable("SNOWFLAKE_PRIVATE_KEY_PASSPHRASE", "passphrase of the private key", secret=True),
    Variable("SNOWFLAKE_PASSWORD", "to log in: a password", secret=True),
    Variable("SNOWFLAKE_AUTHENTICATOR", "to log in: another method, such as `externalbrowser`"),
    Variable("SNOWFLAKE_HOST", "host of a private link or a local server"),
    Variable("SNOWFLAKE_PORT", "port of that host"),
    Variable("SNOWFLAKE_PROTOCOL", "`https` or `http`, for that host"),
    Variable("KAFKA_BOOTSTRAP_SERVERS", "for `watermark_type: debezium`: brokers, `host:port,host:port`"),
    Variable("KAFKA_PROPERTIES", "a file of further settings of librdkafka, a `name=value` in each line"),
    Variable("AWS_REGION", "region of the bucket; this and all other `AWS_*` variables are read by boto3"),
    Variable("AWS_ENDPOINT_URL_S3", "another S3 server than Amazon's"),
)
LOGINS = ("SNOWFLAKE_PASSWORD", "SNOWFLAKE_PRIVATE_KEY", "SNOWFLAKE_PRIVATE_KEY_PATH")


@dataclass(frozen=True)
class DuckDBSettings:
    path: Path
    kind: Literal["duckdb"] = "duckdb"


@dataclass(frozen=True)
class SnowflakeSettings:
    """At most one of password, private_key and private_key_path is set, and one of them or authenticator is."""

    account: str
    user: str
    warehouse: str
    database: str
    stage: str
    dms_stage: str | None = None
    role: str | None = None
    password: str | None = field(default=None, repr=False)
    private_key: str | None = field(default=None, repr=False)
    private_key_path: Path | None = None
    private_key_passphrase: str | None = field(default=None, repr=False)
    authenticator: str | None = None
    host: str | None = None
    port: int | None = None
    protocol: str | None = None
    kind: Literal["snowflake"] = "snowflake"


@dataclass(frozen=True)
class Settings:
    """The settings of one environment, checked in form only: nothing is connected to, no file is opened."""

    dsn: str = field(repr=False)
    stage: str  # s3://bucket or s3://bucket/prefix, no slash at the end
    warehouse: DuckDBSettings | SnowflakeSettings
    tables: Path = Path("tables.yaml")
    log_schema: str = "_AURORA_SYNC"
    brokers: str = ""
    broker_properties: Path | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """A variable that is empty counts as missing. Raises ConfigError with everything missing or malformed;
        no text of it holds a secret."""
        given = {v.name: environ.get(v.name, "").strip() or v.default for v in VARIABLES}
        problems = _unreadable(given) or _problems(given)
        if problems:
            raise ConfigError(problems)
        kind, _, path = given["AURORA_SYNC_WAREHOUSE"].partition(":")
        return cls(
            dsn=given["AURORA_DSN"],
            stage=given["AURORA_SYNC_STAGE"].rstrip("/"),
            warehouse=DuckDBSettings(Path(path)) if kind == "duckdb" else _snowflake(given),
            tables=Path(given["AURORA_SYNC_TABLES"]),
            log_schema=given["AURORA_SYNC_SCHEMA"],
            brokers=given["KAFKA_BOOTSTRAP_SERVERS"],
            broker_properties=Path(given["KAFKA_PROPERTIES"]) if given["KAFKA_PROPERTIES"] else None,
        )


def source_of(environ: Mapping[str, str]) -> str:
    """AURORA_DSN alone, for what reads the source and nothing else. Raises ConfigError, which shows no secret."""
    dsn = environ.get("AURORA_DSN", "").strip()
    given = {"AURORA_DSN": dsn}
    if problems := _unreadable(given) or _dsn_problems(dsn):
        raise ConfigError(problems)
    if not dsn:
        raise ConfigError(f"AURORA_DSN is not set; it is {VARIABLES[0].purpose}")
    return dsn


def owner_of(environ: Mapping[str, str]) -> str:
    """Who may change tables: AURORA_OWNER_DSN, or else AURORA_DSN. Raises ConfigError, which shows no secret."""
    owner = environ.get("AURORA_OWNER_DSN", "").strip()
    if problems := _unreadable({"AURORA_OWNER_DSN": owner}) or _dsn_problems(owner, "AURORA_OWNER_DSN"):
        raise ConfigError(problems)
    return owner or source_of(environ)


def _snowflake(given: Mapping[str, str]) -> SnowflakeSettings:
    def value(name: str) -> str | None:
        return given[f"SNOWFLAKE_{name}"] or None

    return SnowflakeSettings(
        account=given["SNOWFLAKE_ACCOUNT"],
        user=given["SNOWFLAKE_USER"],
        warehouse=given["SNOWFLAKE_WAREHOUSE"],
        database=given["SNOWFLAKE_DATABASE"],
        stage=given["SNOWFLAKE_STAGE"],
        dms_stage=value("DMS_STAGE"),
        role=value("ROLE"),
        password=value("PASSWORD"),
        private_key=value("PRIVATE_KEY"),
        private_key_path=Path(given["SNOWFLAKE_PRIVATE_KEY_PATH"]) if value("PRIVATE_KEY_PATH") else None,
        private_key_passphrase=value("PRIVATE_KEY_PASSPHRASE"),
        authenticator=value("AUTHENTICATOR"),
        host=value("HOST"),
        port=int(given["SNOWFLAKE_PORT"]) if value("PORT") else None,
        protocol=value("PROTOCOL"),
    )


def _unreadable(given: Mapping[str, str]) -> list[str]:
    """What no server, file or library takes; Python shows bytes that are no UTF-8 as surrogates."""
    return [
        f"{name}: found a NUL or bytes that are no UTF-8 (not shown, it may be a secret); allowed: a text in UTF-8"
        for name, value in given.items()
        if re.search("[\0\ud800-\udfff]", value)
    ]


def _problems(given: Mapping[str, str]) -> list[str]:
    snowflake = given["AURORA_SYNC_WAREHOUSE"] == "snowflake"
    missing = [
        f"{variable.name} is not set; it is {variable.purpose}"
        for variable in VARIABLES
        if not given[variable.name]
        and (variable.needed == "always" or (snowflake and variable.needed == "for snowflake"))
    ]
    return missing + _malformed(given) + (_login_problems(given) if snowflake else [])


def _malformed(given: Mapping[str, str]) -> list[str]:
    forms = {
        # the bucket names that S3 allows
        "AURORA_SYNC_STAGE": (r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#]*)?", "s3://bucket/prefix"),
        "AURORA_SYNC_WAREHOUSE": (r"snowflake|duckdb:.+", "snowflake, or duckdb:PATH such as duckdb:warehouse.duckdb"),
        "SNOWFLAKE_PORT": (r"(?!6553[6-9]|655[4-9].|65[6-9]..|6[6-9]...|[7-9]....)[1-9][0-9]{0,4}", "1 to 65535"),
        "SNOWFLAKE_PROTOCOL": (r"https?", "https or http"),
    }
    problems = [
        f"{name}: found {_without_login(given[name])!r}; allowed: {allowed}"
        for name, (pattern, allowed) in forms.items()
        if given[name] and not re.fullmatch(pattern, given[name])
    ]
    return _dsn_problems(given["AURORA_DSN"]) + problems


def _without_login(text: str) -> str:
    """Someone may have written user:password@ or password=... where none belongs."""
    text = re.sub(r"(?s)^([a-z0-9+]*://)?.*@", r"\1***@", text)
    return re.sub(r"(?is)(pass\w*\s*=).*", r"\1***", text)


def _dsn_problems(dsn: str, name: str = "AURORA_DSN") -> list[str]:
    try:
        if not dsn or _keeps_its_password(dsn, parse_dsn(dsn)):
            return []
    except ProgrammingError:  # its text quotes the string, password included
        pass
    return [
        f"{name}: found a text that libpq cannot read (not shown, it may hold a password); allowed: "
        "host=... dbname=... user=... password=..., in single quotes where a value holds spaces, or "
        "postgresql://user:password@host:5432/dbname, with special characters written as %XX"
    ]


def _keeps_its_password(dsn: str, parts: Mapping[str, str]) -> bool:
    """False for a DSN without parts, and where libpq ends the password of a URL at a '/' or '@' in it, which may be
    its first letter: the rest becomes a port, host or database, which errors show."""
    spilled = "://" in dsn and not re.fullmatch("(?s)[a-z]+://([^/@]*[^/@:]@|@)?[^@]*", dsn)
    return bool(parts) and not spilled and re.fullmatch("[0-9,]*", parts.get("port", "")) is not None


def _login_problems(given: Mapping[str, str]) -> list[str]:
    problems = []
    logins = [name for name in LOGINS if given[name]]
    if not logins and not given["SNOWFLAKE_AUTHENTICATOR"]:
        problems.append(
            f"none of {', '.join(LOGINS)} and SNOWFLAKE_AUTHENTICATOR is set; one of them says how to log in"
        )
    if len(logins) > 1:
        problems.append(f"{' and '.join(logins)} are both set; allowed: one of them")
    if given["SNOWFLAKE_PRIVATE_KEY_PASSPHRASE"] and not any("KEY" in name for name in logins):
        problems.append("SNOWFLAKE_PRIVATE_KEY_PASSPHRASE is set without SNOWFLAKE_PRIVATE_KEY or its _PATH")
    return problems


def markdown_table() -> str:
    """All variables, for the README."""
    lines = ["| variable | what it is | needed |", "|---|---|---|"]
    for variable in VARIABLES:
        needed = f"default `{variable.default}`" if variable.default else variable.needed
        lines.append(f"| `{variable.name}` | {variable.purpose}{' (secret)' * variable.secret} | {needed} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown_table())  # noqa: T201 - what the command is for
