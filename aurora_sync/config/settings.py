"""The settings from environment variables: addresses and logins of the source, the stage and the warehouse."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from psycopg2 import ProgrammingError
from psycopg2.extensions import parse_dsn

from aurora_sync.config.backend import Backend, Variable, WarehouseSettings
from aurora_sync.config.backends import BACKENDS
from aurora_sync.errors import ConfigError

VARIABLES = (
    Variable(
        "AURORA_DSN",
        "the source: a libpq string (`host=... dbname=... user=...`) or URL (`postgresql://...`), of the writer "
        "endpoint",
        "always",
        secret=True,
    ),
    Variable(
        "AURORA_OWNER_DSN",
        "for `triggers`: a login that owns the tables, if the one of AURORA_DSN does not",
        secret=True,
    ),
    Variable(
        "AURORA_SYNC_STAGE",
        "where files are staged: `s3://bucket/prefix`",
        "always",
        form=r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#]*)?",  # the bucket names that S3 allows
        allowed="s3://bucket/prefix",
    ),
    Variable(
        "AURORA_SYNC_WAREHOUSE",
        f"the target: {', or '.join(backend.purpose for backend in BACKENDS)}",
        "always",
        form="|".join(backend.form for backend in BACKENDS),
        allowed=", or ".join(backend.allowed for backend in BACKENDS),
    ),
    Variable("AURORA_SYNC_TABLES", "the file that names the tables", default="tables.yaml"),
    Variable(
        "AURORA_SYNC_DEFAULT_STATUS",
        "for Dagster: whether schedules and change sensor run (`RUNNING`) until someone turns them on or off in the UI",
        default="STOPPED",
        form="RUNNING|STOPPED",
        allowed="RUNNING or STOPPED",
    ),
    Variable("AURORA_SYNC_SCHEMA", "schema of the sync log in the warehouse", default="_AURORA_SYNC"),
    *(variable for backend in BACKENDS for variable in backend.variables),
    Variable("KAFKA_BOOTSTRAP_SERVERS", "for `watermark_type: debezium`: brokers, `host:port,host:port`"),
    Variable("KAFKA_PROPERTIES", "a file with further settings of librdkafka, one `name=value` in each line"),
    Variable(
        "AURORA_EXPORT_KMS_KEY",
        "for `export: aurora`: ARN of the customer managed KMS key of the bucket; default: `aws/s3` of the account",
        form=r"arn:[a-z-]+:kms:[a-z0-9-]+:\d{12}:(key|alias)/\S+",
        allowed="arn:aws:kms:region:account:key/id",
    ),
    Variable("AWS_REGION", "region of the bucket; this and all other `AWS_*` variables are read by boto3"),
    Variable("AWS_ENDPOINT_URL_S3", "address of an S3 server other than Amazon's"),
)


@dataclass(frozen=True)
class Settings:
    """The settings of one environment. Only their form is checked: nothing is connected to, no file is opened."""

    dsn: str = field(repr=False)
    stage: str  # s3://bucket or s3://bucket/prefix, no slash at the end
    warehouse: WarehouseSettings
    tables: Path = Path("tables.yaml")
    log_schema: str = "_AURORA_SYNC"
    brokers: str = ""
    broker_properties: Path | None = None
    export_kms_key: str = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings from ``environ``. An empty variable counts as missing. Raises ConfigError with everything
        that is missing or malformed; its message contains no secret."""
        given = {v.name: environ.get(v.name, "").strip() or v.default for v in VARIABLES}
        backend = next((each for each in BACKENDS if re.fullmatch(each.form, given["AURORA_SYNC_WAREHOUSE"])), None)
        problems = _unreadable(given) or _problems(given, backend)
        if problems or backend is None:
            raise ConfigError(problems)
        return cls(
            dsn=given["AURORA_DSN"],
            stage=given["AURORA_SYNC_STAGE"].rstrip("/"),
            warehouse=backend.read(given),
            tables=Path(given["AURORA_SYNC_TABLES"]),
            log_schema=given["AURORA_SYNC_SCHEMA"],
            brokers=given["KAFKA_BOOTSTRAP_SERVERS"],
            broker_properties=Path(given["KAFKA_PROPERTIES"]) if given["KAFKA_PROPERTIES"] else None,
            export_kms_key=given["AURORA_EXPORT_KMS_KEY"],
        )


def source_of(environ: Mapping[str, str]) -> str:
    """Return AURORA_DSN alone, for commands that only read the source. Raises ConfigError when it is missing or
    malformed; the message contains no secret."""
    dsn = environ.get("AURORA_DSN", "").strip()
    given = {"AURORA_DSN": dsn}
    if problems := _unreadable(given) or _dsn_problems(dsn):
        raise ConfigError(problems)
    if not dsn:
        raise ConfigError(f"AURORA_DSN is not set; it is {VARIABLES[0].purpose}")
    return dsn


def owner_of(environ: Mapping[str, str]) -> str:
    """Return the DSN of the role that may alter tables: AURORA_OWNER_DSN, or AURORA_DSN when it is not set. Raises
    ConfigError when it is missing or malformed; the message contains no secret."""
    owner = environ.get("AURORA_OWNER_DSN", "").strip()
    if problems := _unreadable({"AURORA_OWNER_DSN": owner}) or _dsn_problems(owner, "AURORA_OWNER_DSN"):
        raise ConfigError(problems)
    return owner or source_of(environ)


def _unreadable(given: Mapping[str, str]) -> list[str]:
    """Return a problem for each value with a NUL or with bytes that are not UTF-8, which Python represents as
    surrogates: no server, file or library accepts such a value."""
    return [
        f"{name}: found a NUL, or bytes that are not UTF-8 (not shown: the value may be a secret); expected a string "
        "in UTF-8"
        for name, value in given.items()
        if re.search("[\0\ud800-\udfff]", value)
    ]


def _problems(given: Mapping[str, str], backend: Backend | None) -> list[str]:
    needed = ["always", *([f"for {backend.kind}"] if backend else [])]
    missing = [
        f"{variable.name} is not set; it is {variable.purpose}"
        for variable in VARIABLES
        if not given[variable.name] and variable.needed in needed
    ]
    malformed = [
        f"{variable.name}: found {_without_login(given[variable.name])!r}; expected {variable.allowed}"
        for variable in VARIABLES
        if variable.form and given[variable.name] and not re.fullmatch(variable.form, given[variable.name])
    ]
    contradictions = backend.problems(given) if backend else []
    return missing + _dsn_problems(given["AURORA_DSN"]) + malformed + contradictions


def _without_login(text: str) -> str:
    """Replace user:password@ and password=... by asterisks: a user may have put them into the wrong variable."""
    text = re.sub(r"(?s)^([a-z0-9+]*://)?.*@", r"\1***@", text)
    return re.sub(r"(?is)(pass\w*\s*=).*", r"\1***", text)


def _dsn_problems(dsn: str, name: str = "AURORA_DSN") -> list[str]:
    try:
        if not dsn or _keeps_its_password(dsn, parse_dsn(dsn)):
            return []
    except ProgrammingError:  # its text quotes the string, password included
        pass
    return [
        f"{name}: found a string that libpq cannot read (not shown: it may contain a password); expected "
        "host=... dbname=... user=... password=..., with single quotes around a value that contains spaces, or "
        "postgresql://user:password@host:5432/dbname, with special characters written as %XX"
    ]


def _keeps_its_password(dsn: str, parts: Mapping[str, str]) -> bool:
    """Return whether the whole password is parsed as a password. libpq ends the password of a URL at its first '/' or
    '@', even at the first character; the rest becomes a port, host or database, which error messages show. Return False
    also for a DSN without parts."""
    spilled = "://" in dsn and not re.fullmatch("(?s)[a-z]+://([^/@]*[^/@:]@|@)?[^@]*", dsn)
    return bool(parts) and not spilled and re.fullmatch("[0-9,]*", parts.get("port", "")) is not None


def markdown_table() -> str:
    """Return a Markdown table of all variables, for the documentation."""
    lines = ["| variable | what it is | needed |", "|---|---|---|"]
    for variable in VARIABLES:
        needed = f"default `{variable.default}`" if variable.default else variable.needed
        lines.append(f"| `{variable.name}` | {variable.purpose}{' (secret)' * variable.secret} | {needed} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown_table())  # noqa: T201 - what the command is for
