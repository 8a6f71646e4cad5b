"""How a session of Snowflake is opened: the arguments of the connector, session parameters, keys and tokens."""

from __future__ import annotations

import base64
import functools
from pathlib import Path
from typing import Any

from aurora_sync.config.backends.snowflake import SnowflakeSettings
from aurora_sync.errors import Kind, WarehouseError
from aurora_sync.model import foreign_text

_log = foreign_text.logger(__name__)

# The statements of merge.py rely on these, whatever the defaults of the account are.
SESSION_PARAMETERS: dict[str, str | int | bool] = {
    "TRANSACTION_ABORT_ON_ERROR": True,  # else COMMIT keeps the statements before one that failed
    "ABORT_DETACHED_QUERY": True,  # else the MERGE of a killed run goes on, and is billed
    "ERROR_ON_NONDETERMINISTIC_MERGE": True,
    "ERROR_ON_NONDETERMINISTIC_UPDATE": True,
    "LOCK_TIMEOUT": 600,  # s; with the default of 12 hours, a run would wait for the transaction of a killed rival
    "TIMEZONE": "UTC",
    "DATE_INPUT_FORMAT": "AUTO",
    "TIME_INPUT_FORMAT": "AUTO",
    "TIMESTAMP_INPUT_FORMAT": "AUTO",
    "BINARY_INPUT_FORMAT": "HEX",
    "DATE_OUTPUT_FORMAT": "YYYY-MM-DD",  # these are for verify and for history, which compare and keep texts
    "TIME_OUTPUT_FORMAT": "HH24:MI:SS.FF6",
    "TIMESTAMP_NTZ_OUTPUT_FORMAT": "YYYY-MM-DD HH24:MI:SS.FF6",
    "TIMESTAMP_TZ_OUTPUT_FORMAT": "YYYY-MM-DD HH24:MI:SS.FF6TZH:TZM",
    "BINARY_OUTPUT_FORMAT": "HEX",
    "QUOTED_IDENTIFIERS_IGNORE_CASE": False,
}


def session_parameters(settings: SnowflakeSettings) -> dict[str, str | int | bool]:
    return SESSION_PARAMETERS | {"STATEMENT_TIMEOUT_IN_SECONDS": settings.statement_timeout}


def arguments(settings: SnowflakeSettings, query_tag: str) -> dict[str, Any]:
    """Return the arguments of the connector. Those that are not set are absent, so that a named connection of
    connections.toml can supply them. Raises WarehouseError for a key or a token that cannot be read."""
    given = {
        "account": settings.account,
        "user": settings.user,
        "database": settings.database,
        "warehouse": settings.warehouse,
        "role": settings.role,
        "host": settings.host,
        "port": settings.port,
        "protocol": settings.protocol,
        "network_timeout": settings.network_timeout,
        "login_timeout": settings.login_timeout,
        "autocommit": True,
        "paramstyle": "qmark",
        "application": "aurora_sync",
        "session_parameters": session_parameters(settings) | {"QUERY_TAG": query_tag},
        # Else the connector queries the metadata services of three clouds at each login, only for its telemetry,
        # and waits until their names are resolved: 5 s when a resolver does not answer.
        "platform_detection_timeout_seconds": 0.0,
    }
    return _credentials(settings) | {name: value for name, value in given.items() if value is not None}


def _credentials(settings: SnowflakeSettings) -> dict[str, Any]:
    """Return the arguments that log in: keys as unencrypted DER, and tokens without the line break of their file."""
    login = dict(settings.login)
    path, token_file = login.pop("private_key_path", None), login.pop("token_file", None)
    if path is not None or isinstance(login.get("private_key"), str):
        content = _content(path, "private key") if path is not None else login["private_key"].encode()
        place = f"the file {path}" if path is not None else "SNOWFLAKE_PRIVATE_KEY"
        login["private_key"] = _der(content, login.pop("private_key_passphrase", None), place)
    if token_file is not None:
        login["token"] = _content(token_file, "token").decode("utf-8", "replace").strip()
    if "password" in login and "authenticator" not in login:
        _warn_of_the_end_of_passwords(str(settings.user))
    return login


def public_key(settings: SnowflakeSettings) -> str | None:
    """Return the public key of the settings' private key as Snowflake stores it: PEM without its first and last line.
    None when there is no private key, or its file does not exist yet."""
    from cryptography.hazmat.primitives import serialization

    path = settings.login.get("private_key_path")
    if path is not None and not Path(path).exists():
        return None
    private = _credentials(settings).get("private_key")
    if private is None:
        return None
    public = serialization.load_der_private_key(private, None).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return base64.b64encode(public.public_bytes(serialization.Encoding.DER, form)).decode()


@functools.cache
def _warn_of_the_end_of_passwords(user: str) -> None:
    """Warn once in each process."""
    _log.warning(
        "the user %s logs in by a password alone, which Snowflake no longer accepts from 2026 on; use a key pair"
        " (SNOWFLAKE_PRIVATE_KEY_PATH): aurora-sync setup snowflake prints the statements for it",
        user,
    )


def _content(path: str, what: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        why, hint = str(error.strerror), "name a file that exists and may be read"
        raise _unreadable(what, f"the file {path}", why, hint) from None


def _unreadable(what: str, place: str, why: str, hint: str) -> WarehouseError:
    return WarehouseError(f"the {what} cannot be read: {why}", where=place, hint=hint, kind=Kind.USER)


_FORM = "a private key in PKCS#8 form begins with -----BEGIN PRIVATE KEY----- or -----BEGIN ENCRYPTED PRIVATE KEY-----"


def _der(text: bytes, passphrase: str | None, place: str) -> bytes:
    """Convert PEM, which may be base64-encoded as a whole, to unencrypted DER."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    if b"-----BEGIN" not in text:
        try:
            text = base64.b64decode(text, validate=False)
        except ValueError:
            text = b""
    if b"PRIVATE KEY-----" not in text:
        found = "a public key" if b"PUBLIC KEY-----" in text else "no PEM text"
        raise _unreadable("private key", place, f"found {found}", _FORM)
    encrypted = b"ENCRYPTED" in text
    if encrypted != (passphrase is not None):
        found = "encrypted, and no passphrase is set" if encrypted else "not encrypted, but a passphrase is set"
        raise _unreadable(
            "private key", place, f"it is {found}", f"{'' if encrypted else 'un'}set SNOWFLAKE_PRIVATE_KEY_PASSPHRASE"
        )
    try:
        key = serialization.load_pem_private_key(text, None if passphrase is None else passphrase.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if encrypted:
            why, hint = "the passphrase does not fit, or the key is damaged", "correct SNOWFLAKE_PRIVATE_KEY_PASSPHRASE"
        else:
            why, hint = f"the PEM text is damaged ({type(error).__name__})", _FORM
        raise _unreadable("private key", place, why, hint) from None
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
