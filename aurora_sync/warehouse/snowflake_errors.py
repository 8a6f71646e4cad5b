"""The meaning of errors of Snowflake's connector."""

from __future__ import annotations

import re
from typing import Any

from aurora_sync.errors import Kind, WarehouseError
from aurora_sync.model import foreign_text

_KEY = (
    "the user must have the public key of this private key: compare RSA_PUBLIC_KEY_FP in DESCRIBE USER;"
    " aurora-sync setup snowflake prints the statement. The clock of this machine must be right, too"
)
_TOKEN = "request a new token, and set SNOWFLAKE_TOKEN_FILE or SNOWFLAKE_TOKEN"

# Hints by error numbers of Snowflake and of its connector.
_HINTS = {
    606: "set SNOWFLAKE_WAREHOUSE to a warehouse that the role may use",
    630: "use a larger warehouse (SNOWFLAKE_WAREHOUSE), or raise SNOWFLAKE_STATEMENT_TIMEOUT and the"
    " STATEMENT_TIMEOUT_IN_SECONDS of the warehouse",
    2003: "the object is missing or the role has no privilege on it: check the grants and the names",
    2043: "the object is missing or the role has no privilege on it: check the grants and the names",
    3001: "grant the privilege to the role (SNOWFLAKE_ROLE); aurora-sync setup snowflake prints the grants",
    250001: "check account, user, password or key, and role",
    250006: "the identity provider sent no token: check SNOWFLAKE_OAUTH_CLIENT_ID, SNOWFLAKE_OAUTH_CLIENT_SECRET and"
    " SNOWFLAKE_OAUTH_SCOPE",
    251018: "run the program under an IAM role, with AWS_REGION set",
    290403: "check the account name (SNOWFLAKE_ACCOUNT)",
    290404: "check the account name (SNOWFLAKE_ACCOUNT)",
    390100: "check SNOWFLAKE_USER and SNOWFLAKE_PASSWORD; a key pair (SNOWFLAKE_PRIVATE_KEY_PATH) lasts longer",
    390144: _KEY,
    390189: "grant the role to the user: GRANT ROLE <SNOWFLAKE_ROLE> TO USER <SNOWFLAKE_USER>",
    390303: _TOKEN,
    390318: _TOKEN,
    390422: "a network policy refuses the address of this machine: add it to the policy",
    394300: _KEY,
    394304: _KEY,
}
_MISSING = (2003, 2043)
_TRANSIENT = {
    603,  # an internal error of Snowflake
    604,  # the statement was cancelled
    625,  # a lock was not released in time
    2002,  # the object already exists: a rival created it between our check and our CREATE
    250003,  # a request failed, such as the one to the identity provider
    *range(390110, 390116),  # the session or its token expired: the next session has a new one
}
# Not transient, in spite of its SQLSTATE: another attempt is billed as long as this one, and ends in the same way.
_TIMED_OUT = 630


# Errors with these numbers repeat a value.
_ABOUT_VALUES = range(100_000, 101_000)


class MissingObjectError(WarehouseError):
    """The object does not exist, or the role may not use it: Snowflake does not say which."""


def warehouse_error(error: Any, where: str) -> WarehouseError:
    """Convert an error of the connector, with its kind. An error that Snowflake decided is refused; a request that did
    not reach it or was cut off is transient."""
    from snowflake.connector import errors

    errno = error.errno or 0
    # For a refused login the connector raises DatabaseError itself, not a subclass.
    refused = isinstance(error, errors.ProgrammingError | errors.DataError | errors.IntegrityError)
    refused = refused or isinstance(error, errors.NotSupportedError | errors.ForbiddenError)
    refused = refused or type(error) is errors.DatabaseError or errno in (290403, 290404)
    # The connector raises Error itself for an unknown name of a connection.
    refused = refused or (type(error) is errors.Error and errno <= 0)
    transient = not refused or errno in _TRANSIENT or (error.sqlstate or "").startswith(("40", "57014"))
    transient = transient and errno != _TIMED_OUT
    hint = _HINTS.get(errno, "")
    full = " ".join(f"{error.msg or error}".split())
    said = _without_values(f"{error.msg or error}") if errno in _ABOUT_VALUES else full
    return (MissingObjectError if errno in _MISSING else WarehouseError)(
        said,
        where=where,
        hint="" if transient else hint,
        kind=Kind.TRANSIENT if transient else Kind.REFUSED,
        values="" if said == full else full,
    )


def _without_values(message: str) -> str:
    """Return the message without values. Its first line says what is wrong with a value; a later line names file and
    line."""
    place = re.search(r"File '[^']*', line \d+(, character \d+)?", message)
    first = foreign_text.without_quotations(message.partition("File '")[0].partition("\n")[0]).strip()
    return f"{first}, {place[0]}" if place else first
