"""The meaning of errors of Snowflake's connector."""

from __future__ import annotations

import re
from typing import Any

from aurora_sync.errors import Kind, WarehouseError
from aurora_sync.model import foreign_text

# Hints by Snowflake's error numbers.
_HINTS = {
    606: "set SNOWFLAKE_WAREHOUSE to a warehouse that the role may use",
    2003: "the object is missing or the role has no privilege on it: check the grants and the names",
    2043: "the object is missing or the role has no privilege on it: check the grants and the names",
    3001: "grant the privilege to the role (SNOWFLAKE_ROLE)",
    250001: "check account, user, password or key, and role",
    290403: "check the account name (SNOWFLAKE_ACCOUNT)",
    290404: "check the account name (SNOWFLAKE_ACCOUNT)",
}
_MISSING = (2003, 2043)
_TRANSIENT = {
    604,  # the statement was cancelled: a time limit
    625,  # a lock was not released in time
    630,  # the statement reached its time limit
    2002,  # the object already exists: a rival created it between our check and our CREATE
}


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
    transient = not refused or errno in _TRANSIENT or (error.sqlstate or "").startswith(("40", "57014"))
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
