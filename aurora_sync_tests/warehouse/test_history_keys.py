"""The history names a row that a scan did not find by its key, in PostgreSQL's text, like the rows that it staged."""

from __future__ import annotations

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.model.manifest import Disposition
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.types import NATURAL
from aurora_sync_tests.warehouse.increments import Folder, apply, column

# Values of one key in the text that PostgreSQL prints, of every type that a merge key keeps in the warehouse.
KEYS: dict[str, tuple[str, ...]] = {
    "int2": ("-32768", "0"),
    "int4": ("7",),
    "int8": ("9223372036854775807",),
    "oid": ("4294967295",),
    "float4": ("0.1", "3.4028235e+38"),
    "float8": ("1", "-0.5", "0.1", "1e-05", "1e+16", "1.2345678901234567", "NaN", "Infinity", "-Infinity"),
    "bool": ("t", "f"),
    "date": ("2024-02-29", "0001-01-01"),
    "time": ("06:30:00", "23:59:59.999999", "06:30:00.5"),
    "timestamp": ("2024-01-01 00:00:00", "2024-01-01 10:20:30.25"),
    "timestamptz": ("2024-01-01 00:00:00+00", "2024-01-01 10:20:30.25+00"),
    "bytea": ("\\x", "\\x00ff"),
    "numeric": ("0.50", "-12345678.90"),
    "text": ("", "it's"),
}


def test_all_types_that_a_key_keeps_are_tried() -> None:
    assert {*KEYS} == {*NATURAL, "numeric", "text"} - {"jsonb"}  # which is text in a key


@pytest.mark.parametrize("type_", KEYS)
def test_key_of_a_row_that_a_scan_did_not_find_is_printed_as_postgresql_prints_it(
    session: Session, folder: Folder, type_: str
) -> None:
    config = TableConfig(table_name="orders", watermark_type="logical", history=True)
    columns = (column("id", type_, modifier=((10 << 16) | 2) + 4 if type_ == "numeric" else -1), column("name"))
    first = folder.increment(
        columns, [(value, "a", "5") for value in KEYS[type_]], disposition=Disposition.REPLACE, log_position=1
    )
    apply(session, config, first, folder)
    kept = folder.increment(
        columns,
        [],
        disposition=Disposition.REPLACE,
        log_position=2,
        expected=1,
        expected_load_id=first.load_id,
    )
    apply(session, config, kept, folder, allow_deletes=True)
    rows = session.query('SELECT "_OP", "ID", "NAME" FROM "PUBLIC"."ORDERS_HISTORY"')
    assert len(rows) == 2 * len(KEYS[type_])
    assert set(rows) == {(op, value, name) for op, name in (("R", "a"), ("D", None)) for value in KEYS[type_]}
