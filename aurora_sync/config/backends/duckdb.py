"""The settings of a DuckDB file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aurora_sync.config.backend import Backend, Variable, WarehouseSettings


@dataclass(frozen=True)
class DuckDBSettings(WarehouseSettings):
    path: Path
    memory_limit: str = ""

    kind = "duckdb"
    one_process = True


def _read(given: Mapping[str, str]) -> DuckDBSettings:
    return DuckDBSettings(Path(given["AURORA_SYNC_WAREHOUSE"].removeprefix("duckdb:")), given["DUCKDB_MEMORY_LIMIT"])


DUCKDB = Backend(
    "duckdb",
    form="duckdb:.+",
    allowed="duckdb:PATH such as duckdb:warehouse.duckdb",
    purpose="`duckdb:PATH` for a local file",
    read=_read,
    variables=(
        Variable(
            "DUCKDB_MEMORY_LIMIT",
            "memory of DuckDB, such as `2GB`; by default 200 MB, and 1 GB for long rows and for updates of many rows",
            form=r"[1-9][0-9]*(MB|GB)",
            allowed="a number of MB or GB, such as 2GB",
        ),
    ),
)
