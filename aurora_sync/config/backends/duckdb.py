"""The settings of a DuckDB file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aurora_sync.config.backend import Backend, WarehouseSettings


@dataclass(frozen=True)
class DuckDBSettings(WarehouseSettings):
    path: Path

    kind = "duckdb"
    one_process = True


def _read(given: Mapping[str, str]) -> DuckDBSettings:
    return DuckDBSettings(Path(given["AURORA_SYNC_WAREHOUSE"].removeprefix("duckdb:")))


DUCKDB = Backend(
    "duckdb",
    form="duckdb:.+",
    allowed="duckdb:PATH such as duckdb:warehouse.duckdb",
    purpose="`duckdb:PATH` for a local file",
    read=_read,
)
