"""Every statement of every disposition in both dialects, pinned as text, and executed as pinned.

``AURORA_SYNC_WRITE_GOLDEN=1 pytest …/test_golden.py`` rewrites the files; read the diff before you commit it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.model.manifest import Disposition, Part
from aurora_sync.model.reload import OptionNames, between
from aurora_sync.warehouse import ddl, history, merge
from aurora_sync.warehouse import raw_files as dms
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.dispositions import again
from aurora_sync.warehouse.duckdb import to_duckdb
from aurora_sync.warehouse.snowflake import copy_by_name, copy_by_place, copy_into, copy_parquet
from aurora_sync_tests.warehouse.increments import Folder, apply, column
from aurora_sync_tests.warehouse.through import Through

GOLDEN = Path(__file__).parent.parent / "golden"

COLUMNS = (
    column("id", "int8"),
    column("name"),
    column("price", "numeric", modifier=((10 << 16) | 2) + 4),
    column("ratio", "float8"),
    column("active", "bool"),
    column("born", "date"),
    column("wakes", "time"),
    column("made_at", "timestamp"),
    column("changed_at", "timestamptz"),
    column("picture", "bytea"),
    column("document", "jsonb"),
)
VALUES = ("9.50", "NaN", "t", "2024-02-29", "06:30:00", "2024-01-01 00:00:00", "2024-01-01 00:00:00.5+00")
ROWS: list[tuple[str | None, ...]] = [(str(i), "a", *VALUES, "\\x00ff", '{"a": 1}', "5") for i in range(3)]


class Recorder(Through):
    """A session that runs the statements of Snowflake and records their text."""

    def __init__(self, inner: Session) -> None:
        super().__init__(inner)
        self.dialect = dataclasses.replace(inner.dialect, reads_files=False)
        self.statements: list[str] = []

    def before(self, statement: str) -> None:
        if statement != "COPY":
            self.statements.append(statement)

    def text(self, translate: Callable[[str], str]) -> list[str]:
        """Return the statements as an engine receives them. DESCRIBE and SHOW are written by each backend itself."""
        return [s if s.startswith(("DESCRIBE", "SHOW")) else translate(s) for s in self.statements]


@pytest.mark.parametrize("kind", ["keyed", "soft", "keyless"])
def test_the_statements_are_the_pinned_ones(duckdb_session: Session, folder: Folder, kind: str) -> None:
    deletes: Literal["hard", "soft"] = "soft" if kind == "soft" else "hard"
    config = TableConfig(table_name="orders", watermark_type="xmin", deletes=deletes)
    dispositions = [Disposition.REPLACE, Disposition.UPSERT, Disposition.APPEND, Disposition.REPLACE]
    dispositions += [] if kind == "keyless" else [Disposition.CHANGES]
    texts: dict[str, list[str]] = {"snowflake": [], "duckdb": []}
    state = {"expected": 0, "expected_load_id": ""}
    for number, disposition in enumerate(dispositions, 1):
        if disposition is Disposition.UPSERT and kind == "keyless":
            continue
        rows: dict[Disposition, list[tuple[str | None, ...]]] = {
            Disposition.APPEND: [("3", *ROWS[0][1:])],
            Disposition.CHANGES: [(*ROWS[0], "U", None, "0", None), (*ROWS[0], "U", "11111111110", "1", "0")],
        }
        manifest = folder.increment(
            COLUMNS,
            rows.get(disposition, ROWS),
            key=() if kind == "keyless" else ("id",),
            disposition=disposition,
            parts=(Part(truncated=True), Part(partial=1)) if disposition is Disposition.CHANGES else (),
            **state,  # type: ignore[arg-type]
        )
        manifest = dataclasses.replace(manifest, load_id=f"load{number}")
        recorder = Recorder(duckdb_session)
        applied = apply(recorder, config, manifest, folder)
        state = {"expected": applied.run_sequence, "expected_load_id": manifest.load_id}
        for dialect, text in texts.items():
            text.append(f"-- {disposition.value}, load {number}")
            text.extend(recorder.text(to_duckdb if dialect == "duckdb" else str))
    for dialect, text in texts.items():
        check(f"{kind}.{dialect}.sql", "".join(f"{line}{'' if line.startswith('--') else ';'}\n" for line in text))


def test_statements_of_a_history_and_of_the_files_of_others_are_the_pinned_ones(folder: Folder) -> None:
    """scenarios/logical/test_history.py and scenarios/dms_files execute them."""
    config = TableConfig(table_name="orders", watermark_type="logical", history=True)
    columns = (column("tenant", "int4"), column("id"), column("at", "timestamptz"), column("picture", "bytea"))
    manifest = folder.increment(columns, [], key=("tenant", "id"), disposition=Disposition.CHANGES)
    manifest = dataclasses.replace(manifest, load_id="load1", log_position=4711)
    layout = ddl.layout(config, manifest, "_AURORA_SYNC", {})
    fields = ["tenant", "id", "at", "left out", "picture", "dms_change_seq"]
    found = [
        *(dms.create_mixed(layout, 10), dms.pick(layout, ("public", "or'ders"), fields)),
        *(dms.create_raw(layout), dms.survey(layout), dms.stage_whole(layout), dms.stage_partial(layout)),
        *(dms.count_parts(layout), history.create(layout), history.create_staging(layout)),
        *(history.append_changes(layout), history.append_scanned(layout, manifest)),
        history.append_missing(layout, manifest, merge.unstaged(layout)),
    ]
    for dialect in ("snowflake", "duckdb"):
        text = [to_duckdb(each) if dialect == "duckdb" else each for each in found]
        check(f"streams.{dialect}.sql", "".join(f"{each};\n" for each in text))


def test_deletes_of_a_range_of_keys_are_the_pinned_ones(folder: Folder) -> None:
    """scenarios/partial_reload executes them."""
    keys = {
        "int8": ("1", "1000"),
        "numeric": ("1.5", "1e3"),
        "date": ("2026-01-01", ""),
        "timestamp": ("2026-01-01", "2026-01-02T03:04:05.5"),
        "timestamptz": ("", "2026-01-02T03:04:05+01:00"),
        "uuid": ("00000000-0000-0000-0000-000000000000", "F0000000-0000-0000-0000-000000000000"),
    }
    found = []
    for type_, bounds in keys.items():
        key = column("id", type_, ((10 << 16) | 2) + 4 if type_ == "numeric" else -1)
        manifest = dataclasses.replace(folder.increment([key], []), load_id="load1")
        layout = ddl.layout(TableConfig(table_name="orders", watermark_type="xmin"), manifest, "_AURORA_SYNC", {})
        within = again.condition(layout, between(*bounds, key, OptionNames()), "public.orders")
        found.append(merge.delete_unstaged(layout, within))
    for dialect in ("snowflake", "duckdb"):
        text = [to_duckdb(each) if dialect == "duckdb" else each for each in found]
        check(f"ranges.{dialect}.sql", "".join(f"{each};\n" for each in text))


def test_copies_of_the_files_of_others_are_the_pinned_ones() -> None:
    names = ["public/or'ders/LOAD00000001.csv.gz"]
    where = '"_AURORA_SYNC"."STAGING_RAW"', '"DB"."LANDING"."DMS"', names
    found = [
        copy_by_name(*where, null="NULL it's"),
        copy_parquet(*where, columns=["id", 'größe "x"', "dms_change_seq"]),
        copy_by_place(*where, null="NULL it's", width=3),
    ]
    check("copy_of_others.snowflake.sql", "".join(f"{each};\n" for each in found))


def test_copy_into_is_the_pinned_one() -> None:
    names = ["part-00000.csv.zst", "part-00001.csv.zst"]
    statement = copy_into('"_AURORA_SYNC"."STAGING"', '"DB"."LANDING"."FILES"', "public.or%27ders/run/", names)
    check("copy_into.snowflake.sql", f"{statement};\n")


def check(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("AURORA_SYNC_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
