"""Errors of DuckDB: their kind, their hint, and their text without values."""

from __future__ import annotations

import re

import duckdb

from aurora_sync.errors import Kind, WarehouseError
from aurora_sync.model import foreign_text

# Only staged objects are read as CSV.
_CSV_ERROR = "Invalid Input Error: CSV Error"
_DAMAGED = ("Data corruption", "match checksum", _CSV_ERROR)
_FULL = ("No space left", "Could not write")
# These errors concern our own statements, and contain no values apart from the statement itself.
_NAMES_ONLY = (
    *(duckdb.CatalogException, duckdb.BinderException, duckdb.ParserException),
    *(duckdb.PermissionException, duckdb.OutOfMemoryException, duckdb.DependencyException),
)
# A message that repeats a part of a character cannot be decoded, so that its error does not arrive.
REFUSALS = (duckdb.Error, UnicodeDecodeError)
_AMBIGUOUS = "Binder Error: Ambiguous reference to catalog or schema"
# Parts of DuckDB's messages about files, with the hint for each.
_HINTS = {
    **dict.fromkeys(_FULL, "free space on the disks of the DuckDB file and of the temporary files, then run again"),
    "Cannot open": "create the folder of AURORA_SYNC_WAREHOUSE, and allow this user to write to it",
    "Is a directory": "AURORA_SYNC_WAREHOUSE is a folder; set it to the path of a file",
    "not a valid DuckDB": "AURORA_SYNC_WAREHOUSE is not a DuckDB file; set it to another path",
    **dict.fromkeys(_DAMAGED, "the warehouse received other data than was exported; run again"),
}


def duckdb_error(error: duckdb.Error | UnicodeDecodeError, where: str, doing: str = "") -> WarehouseError:
    """Return the WarehouseError for an error of DuckDB. Only errors about files, such as a COMMIT that cannot be
    written, are classified by their text: other messages may repeat a value, which may contain any text. Raise it
    ``from None``, because values are shown only with show_values."""
    if isinstance(error, UnicodeDecodeError):
        error = duckdb.InvalidInputException(error.object.decode("utf-8", "replace"))
    full = " ".join(str(error).split())
    text = _without_values(error)
    of_files = isinstance(error, duckdb.IOException | duckdb.TransactionException) or text.startswith(_CSV_ERROR)
    said = next((said for said in _HINTS if of_files and said in text), None)
    # Transient: another session changed the same row, the disk may have room later, or the object may arrive complete.
    transient = isinstance(error, duckdb.TransactionException) or said in (*_FULL, *_DAMAGED)
    hint = _HINTS[said] if said else ""
    if isinstance(error, duckdb.OutOfMemoryException):
        hint = "set DUCKDB_MEMORY_LIMIT, for instance to 4GB, and run again"
    elif isinstance(error, duckdb.BinderException) and text.startswith(_AMBIGUOUS):
        hint = "rename the DuckDB file: a schema in it has the same name, and DuckDB cannot tell them apart"
    return WarehouseError(
        doing + text,
        where=where,
        hint=hint,
        kind=Kind.TRANSIENT if transient else Kind.REFUSED,
        values="" if text == full else full,
    )


def _without_values(error: duckdb.Error) -> str:
    """Return the message without values. Messages about files and columns stay whole; of others, the first line without
    quoted text and numbers."""
    text = " ".join(str(error).partition("Original Line:")[0].split())
    if text.startswith(_CSV_ERROR) or isinstance(error, duckdb.IOException | duckdb.TransactionException):
        return text
    if isinstance(error, _NAMES_ONLY):
        return " ".join(str(error).partition("\nLINE ")[0].split())  # the rest repeats the statement
    text = str(error).partition("\n")[0]
    return re.sub(r"(?<![A-Za-z0-9_])[-+]?[0-9][0-9.eE+-]*", "...", foreign_text.without_quotations(text))
