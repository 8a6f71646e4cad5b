"""The settings of a Snowflake account."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aurora_sync.config.backend import Backend, Variable, WarehouseSettings

_NEEDED = "for snowflake"
# The longest statement is the COPY or the MERGE of the first load of a large table. Six hours is more than any of them
# should take, and less than the two days that Snowflake would bill by default for one that hangs.
STATEMENT_TIMEOUT = 6 * 3600
# The connector cancels a statement at its network timeout. Snowflake must end it first: its error names the cause.
NETWORK_MARGIN = 300
LOGIN_TIMEOUT = 120
_SECONDS = "[1-9][0-9]{0,4}|[1-5][0-9]{5}"  # Snowflake's longest statement timeout is 604800
_SECONDS_ALLOWED = "1 to 599999 (seconds)"


@dataclass(frozen=True)
class LoginMethod:
    """A way to log in. Exactly one variable of each group in ``needs`` is set. ``authenticators`` are the values of
    SNOWFLAKE_AUTHENTICATOR that go with it; the first is used when the variable is not set. Names are without
    ``SNOWFLAKE_``."""

    name: str
    needs: tuple[tuple[str, ...], ...]
    authenticators: tuple[str, ...]
    allows: tuple[str, ...] = ()
    needs_user: bool = True

    @property
    def variables(self) -> tuple[str, ...]:
        return (*(name for group in self.needs for name in group), *self.allows)

    def accepts(self, authenticator: str) -> bool:
        known = authenticator.upper()
        return not known or known in self.authenticators or (_OKTA in self.authenticators and known.startswith(_OKTA))


_OKTA = "HTTPS://"
# In the order in which people should prefer them.
LOGIN_METHODS = (
    LoginMethod("key pair", (("PRIVATE_KEY_PATH", "PRIVATE_KEY"),), ("SNOWFLAKE_JWT",), ("PRIVATE_KEY_PASSPHRASE",)),
    LoginMethod("workload identity", (("WORKLOAD_IDENTITY_PROVIDER",),), ("WORKLOAD_IDENTITY",), needs_user=False),
    LoginMethod(
        "OAuth client credentials",
        (("OAUTH_CLIENT_ID",), ("OAUTH_CLIENT_SECRET",), ("OAUTH_TOKEN_REQUEST_URL",)),
        ("OAUTH_CLIENT_CREDENTIALS",),
        ("OAUTH_SCOPE",),
        needs_user=False,
    ),
    LoginMethod("token", (("TOKEN_FILE", "TOKEN"),), ("PROGRAMMATIC_ACCESS_TOKEN", "OAUTH"), needs_user=False),
    LoginMethod("connection of connections.toml", (("CONNECTION_NAME",),), (), needs_user=False),
    LoginMethod("browser", (), ("EXTERNALBROWSER",)),
    LoginMethod("password", (("PASSWORD",),), ("SNOWFLAKE", "USERNAME_PASSWORD_MFA", _OKTA)),
)


@dataclass(frozen=True)
class SnowflakeSettings(WarehouseSettings):
    """The address and login of a Snowflake account.

    ``login`` has the arguments of the connector that log in. Of these, ``private_key`` may be PEM text, and
    ``private_key_path`` and ``token_file`` name files that are read for each session.
    """

    warehouse: str
    database: str
    stage: str
    login: Mapping[str, Any] = field(repr=False, hash=False)
    account: str | None = None
    user: str | None = None
    role: str | None = None
    dms_stage: str | None = None
    host: str | None = None
    port: int | None = None
    protocol: str | None = None
    statement_timeout: int = STATEMENT_TIMEOUT
    network_timeout: int = STATEMENT_TIMEOUT + NETWORK_MARGIN
    login_timeout: int = LOGIN_TIMEOUT

    kind = "snowflake"


def _read(given: Mapping[str, str]) -> SnowflakeSettings:
    def value(name: str) -> str | None:
        return given[f"SNOWFLAKE_{name}"] or None

    (method,) = _methods(given)
    login = {name.lower(): text for name in method.variables if (text := value(name))}
    authenticator = value("AUTHENTICATOR") or next(iter(method.authenticators), "")
    # The connector chooses key pairs and passwords by their own arguments.
    if authenticator and authenticator.upper() not in ("SNOWFLAKE", "SNOWFLAKE_JWT"):
        login["authenticator"] = authenticator
    statement_timeout = int(given["SNOWFLAKE_STATEMENT_TIMEOUT"])
    return SnowflakeSettings(
        warehouse=given["SNOWFLAKE_WAREHOUSE"],
        database=given["SNOWFLAKE_DATABASE"],
        stage=given["SNOWFLAKE_STAGE"],
        login=login,
        account=value("ACCOUNT"),
        user=value("USER"),
        role=value("ROLE"),
        dms_stage=value("DMS_STAGE"),
        host=value("HOST"),
        port=int(given["SNOWFLAKE_PORT"]) if value("PORT") else None,
        protocol=value("PROTOCOL"),
        statement_timeout=statement_timeout,
        network_timeout=int(value("NETWORK_TIMEOUT") or statement_timeout + NETWORK_MARGIN),
        login_timeout=int(given["SNOWFLAKE_LOGIN_TIMEOUT"]),
    )


def _methods(given: Mapping[str, str]) -> list[LoginMethod]:
    """Return the login methods of which a variable is set, or the one that needs none."""
    chosen = [method for method in LOGIN_METHODS if _set(given, method.variables)]
    authenticator = given["SNOWFLAKE_AUTHENTICATOR"]
    return chosen or [
        each for each in LOGIN_METHODS if authenticator and not each.needs and each.accepts(authenticator)
    ]


def _set(given: Mapping[str, str], names: tuple[str, ...]) -> list[str]:
    return [f"SNOWFLAKE_{name}" for name in names if given[f"SNOWFLAKE_{name}"]]


def _problems(given: Mapping[str, str]) -> list[str]:
    methods = _methods(given)
    problems = []
    if not methods:
        problems.append(_no_login(given["SNOWFLAKE_AUTHENTICATOR"]))
    elif len(methods) > 1:
        found = " and ".join(f"{' and '.join(_set(given, each.variables))} ({each.name})" for each in methods)
        others = [name for method in methods[1:] for name in _set(given, method.variables)]
        problems.append(f"{found} are set, but one login is allowed; keep the first with: unset {' '.join(others)}")
    else:
        problems += _problems_of(methods[0], given)
    by_name = bool(given["SNOWFLAKE_CONNECTION_NAME"])
    if not given["SNOWFLAKE_ACCOUNT"] and not by_name:
        problems.insert(0, f"SNOWFLAKE_ACCOUNT is not set; it is {_ACCOUNT.purpose}")
    if not given["SNOWFLAKE_USER"] and all(method.needs_user for method in methods):
        problems.insert(0, f"SNOWFLAKE_USER is not set; it is {_USER.purpose}")
    statement, network = given["SNOWFLAKE_STATEMENT_TIMEOUT"], given["SNOWFLAKE_NETWORK_TIMEOUT"]
    if statement.isdecimal() and network.isdecimal() and int(network) <= int(statement):
        problems.append(
            f"SNOWFLAKE_NETWORK_TIMEOUT is {network}, but must be more than SNOWFLAKE_STATEMENT_TIMEOUT ({statement}):"
            " the connector cancels a statement at its network timeout; unset SNOWFLAKE_NETWORK_TIMEOUT, or set"
            " SNOWFLAKE_STATEMENT_TIMEOUT lower"
        )
    return problems


def _no_login(authenticator: str) -> str:
    if not authenticator:
        first, *others = (f"{_words(method)} ({method.name})" for method in LOGIN_METHODS)
        return f"no login is set; set {first}, or one of: {'; '.join(others)}"
    for method in LOGIN_METHODS:
        if method.authenticators and method.accepts(authenticator):
            return f"SNOWFLAKE_AUTHENTICATOR is {authenticator!r}, which needs {_words(method)}; set it"
    known = ", ".join(_shown(name) for method in LOGIN_METHODS for name in method.authenticators)
    return f"SNOWFLAKE_AUTHENTICATOR: found {authenticator!r}; expected {known}"


def _shown(authenticator: str) -> str:
    return "the URL of an Okta account" if authenticator == _OKTA else authenticator


def _words(method: LoginMethod) -> str:
    groups = [" or ".join(f"SNOWFLAKE_{name}" for name in group) for group in method.needs]
    return " and ".join(groups) or f"SNOWFLAKE_AUTHENTICATOR={method.authenticators[0].lower()}"


def _problems_of(method: LoginMethod, given: Mapping[str, str]) -> Iterator[str]:
    present = _set(given, method.variables)
    for group in method.needs:
        found = _set(given, group)
        names = " or ".join(f"SNOWFLAKE_{name}" for name in group)
        if not found:
            are = "is" if len(present) == 1 else "are"
            yield f"{' and '.join(present)} {are} set without {names}; set it, or unset {' '.join(present)}"
        elif len(found) > 1:
            yield f"{' and '.join(found)} are both set, but one is allowed; keep the first with: unset {found[1]}"
    authenticator = given["SNOWFLAKE_AUTHENTICATOR"]
    if not method.accepts(authenticator):
        expected = (
            f"needs {' or '.join(map(_shown, method.authenticators))}" if method.authenticators else "has its own"
        )
        yield (
            f"SNOWFLAKE_AUTHENTICATOR is {authenticator!r}, but {present[0]} ({method.name}) {expected};"
            f" unset SNOWFLAKE_AUTHENTICATOR, or unset {' '.join(present)}"
        )


_ACCOUNT = Variable(
    "SNOWFLAKE_ACCOUNT",
    "the account identifier, such as `myorg-account1`",
    "for snowflake, unless SNOWFLAKE_CONNECTION_NAME is set",
)
_USER = Variable(
    "SNOWFLAKE_USER", "the user who loads and merges", "for snowflake, with a key pair, a browser or a password"
)

SNOWFLAKE = Backend(
    "snowflake",
    form="snowflake",
    allowed="snowflake",
    purpose="`snowflake`",
    read=_read,
    problems=_problems,
    variables=(
        _ACCOUNT,
        _USER,
        Variable("SNOWFLAKE_WAREHOUSE", "the virtual warehouse that runs the statements", _NEEDED),
        Variable("SNOWFLAKE_DATABASE", "the database of the target tables", _NEEDED),
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
        Variable("SNOWFLAKE_PRIVATE_KEY_PATH", "key pair: a file with a private key in PEM"),
        Variable("SNOWFLAKE_PRIVATE_KEY", "key pair: the private key itself, as PEM text", secret=True),
        Variable("SNOWFLAKE_PRIVATE_KEY_PASSPHRASE", "key pair: passphrase of the private key", secret=True),
        Variable(
            "SNOWFLAKE_WORKLOAD_IDENTITY_PROVIDER",
            "workload identity: `AWS`, the IAM role that the program runs under; no secret is needed",
            form="AWS",
            allowed="AWS",
        ),
        Variable("SNOWFLAKE_OAUTH_CLIENT_ID", "OAuth client credentials: the client"),
        Variable("SNOWFLAKE_OAUTH_CLIENT_SECRET", "OAuth client credentials: its secret", secret=True),
        Variable(
            "SNOWFLAKE_OAUTH_TOKEN_REQUEST_URL",
            "OAuth client credentials: URL of the identity provider that issues tokens",
            form=r"https?://\S+",
            allowed="a URL",
        ),
        Variable("SNOWFLAKE_OAUTH_SCOPE", "OAuth client credentials: scope; `session:role:<role>` otherwise"),
        Variable("SNOWFLAKE_TOKEN_FILE", "token: a file with a token, read for each session"),
        Variable("SNOWFLAKE_TOKEN", "token: a programmatic access token", secret=True),
        Variable("SNOWFLAKE_CONNECTION_NAME", "name of a connection in Snowflake's connections.toml"),
        Variable(
            "SNOWFLAKE_PASSWORD", "password; Snowflake no longer accepts a password alone from 2026 on", secret=True
        ),
        Variable(
            "SNOWFLAKE_AUTHENTICATOR",
            "`externalbrowser` for people; `oauth` for a token of OAuth; `username_password_mfa` for a password with a"
            " second factor; the other methods need none",
        ),
        Variable("SNOWFLAKE_HOST", "host of a private link or a local server"),
        Variable(
            "SNOWFLAKE_PORT",
            "port of that host",
            form=r"(?!6553[6-9]|655[4-9].|65[6-9]..|6[6-9]...|[7-9]....)[1-9][0-9]{0,4}",
            allowed="1 to 65535",
        ),
        Variable("SNOWFLAKE_PROTOCOL", "`https` or `http`, for that host", form=r"https?", allowed="https or http"),
        Variable(
            "SNOWFLAKE_STATEMENT_TIMEOUT",
            "seconds after which Snowflake cancels a statement",
            default=str(STATEMENT_TIMEOUT),
            form=_SECONDS,
            allowed=_SECONDS_ALLOWED,
        ),
        Variable(
            "SNOWFLAKE_NETWORK_TIMEOUT",
            "seconds after which the connector gives up a request and cancels its statement;"
            f" SNOWFLAKE_STATEMENT_TIMEOUT plus {NETWORK_MARGIN} otherwise",
            form=_SECONDS,
            allowed=_SECONDS_ALLOWED,
        ),
        Variable(
            "SNOWFLAKE_LOGIN_TIMEOUT",
            "seconds after which the connector gives up to log in",
            default=str(LOGIN_TIMEOUT),
            form=_SECONDS,
            allowed=_SECONDS_ALLOWED,
        ),
    ),
)
