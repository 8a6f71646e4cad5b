"""The settings of a Snowflake account."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aurora_sync.config.backend import Backend, Variable, WarehouseSettings

_NEEDED = "for snowflake"
_LOGINS = ("SNOWFLAKE_PASSWORD", "SNOWFLAKE_PRIVATE_KEY", "SNOWFLAKE_PRIVATE_KEY_PATH")


@dataclass(frozen=True)
class SnowflakeSettings(WarehouseSettings):
    """The address and login of a Snowflake account. At most one of password, private_key and private_key_path is set;
    one of the three or authenticator is set."""

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

    kind = "snowflake"


def _read(given: Mapping[str, str]) -> SnowflakeSettings:
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


def _problems(given: Mapping[str, str]) -> list[str]:
    problems = []
    logins = [name for name in _LOGINS if given[name]]
    if not logins and not given["SNOWFLAKE_AUTHENTICATOR"]:
        problems.append(f"none of {', '.join(_LOGINS)} and SNOWFLAKE_AUTHENTICATOR is set; set one of them to log in")
    if len(logins) > 1:
        problems.append(f"{' and '.join(logins)} are set together; set one of them only")
    if given["SNOWFLAKE_PRIVATE_KEY_PASSPHRASE"] and not any("KEY" in name for name in logins):
        problems.append(
            "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE is set without a private key; set SNOWFLAKE_PRIVATE_KEY or "
            "SNOWFLAKE_PRIVATE_KEY_PATH as well"
        )
    return problems


SNOWFLAKE = Backend(
    "snowflake",
    form="snowflake",
    allowed="snowflake",
    purpose="`snowflake`",
    read=_read,
    problems=_problems,
    variables=(
        Variable("SNOWFLAKE_ACCOUNT", "account identifier, such as `myorg-account1`", _NEEDED),
        Variable("SNOWFLAKE_USER", "user who loads and merges", _NEEDED),
        Variable("SNOWFLAKE_WAREHOUSE", "virtual warehouse that runs the statements", _NEEDED),
        Variable("SNOWFLAKE_DATABASE", "database of the target tables", _NEEDED),
        Variable(
            "SNOWFLAKE_STAGE",
            "the external stage that points at AURORA_SYNC_STAGE: `database.schema.name`",
            _NEEDED,
        ),
        Variable(
            "SNOWFLAKE_DMS_STAGE",
            "for `watermark_type: dms`: the external stage that points at the folder of the task",
        ),
        Variable("SNOWFLAKE_ROLE", "role to use; the user's default role otherwise"),
        Variable("SNOWFLAKE_PRIVATE_KEY", "to log in: a private key, as PEM text", secret=True),
        Variable("SNOWFLAKE_PRIVATE_KEY_PATH", "to log in: a file with a private key"),
        Variable("SNOWFLAKE_PRIVATE_KEY_PASSPHRASE", "passphrase of the private key", secret=True),
        Variable("SNOWFLAKE_PASSWORD", "to log in: a password", secret=True),
        Variable("SNOWFLAKE_AUTHENTICATOR", "to log in: another method, such as `externalbrowser`"),
        Variable("SNOWFLAKE_HOST", "host of a private link or a local server"),
        Variable(
            "SNOWFLAKE_PORT",
            "port of that host",
            form=r"(?!6553[6-9]|655[4-9].|65[6-9]..|6[6-9]...|[7-9]....)[1-9][0-9]{0,4}",
            allowed="1 to 65535",
        ),
        Variable("SNOWFLAKE_PROTOCOL", "`https` or `http`, for that host", form=r"https?", allowed="https or http"),
    ),
)
