"""The state of all tables of a project at one moment: what ``aurora-sync report`` shows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cached_property
from typing import Any

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.newest import entries_of
from aurora_sync.engine.places import Places
from aurora_sync.engine.report import guarantee, load_line
from aurora_sync.model.certificate import Level
from aurora_sync.model.load import Load
from aurora_sync.warehouse import sync_log
from aurora_sync.warehouse.ddl import target_name
from aurora_sync.warehouse.query_tag import QueryTag
from aurora_sync.warehouse.recent_runs import Run, recent_runs
from aurora_sync.warehouse.sync_log import LogEntry

RUNS = 30  # of a table's trend


class Standing(Enum):
    """The standing of a table. The order is that of the report: what a person should look at comes first."""

    FAILING = "failing"  # the last run failed
    DIFFERENT = "different"  # the last verification found differences
    UNCERTIFIED = "uncertified"
    NEVER_SYNCED = "never synced"
    LOADING = "loading"
    BOUNDED = "bounded"
    CERTIFIED = "certified"


@dataclass(frozen=True)
class Failed:
    """The failure of a table's last run."""

    at: datetime
    error: str
    run: str = ""  # how to find the run


@dataclass(frozen=True)
class Verdict:
    """The last verification of a table. ``differences`` is empty if source and target were equal."""

    as_of: datetime
    differences: str = ""


@dataclass(frozen=True)
class Noted:
    """What an orchestrator knows about a table; the sync log has applied runs only. ``checked_at`` is the time of the
    last run, or look at the source, that found the target up to date or made it so."""

    failed: Failed | None = None
    verdict: Verdict | None = None
    checked_at: datetime | None = None


@dataclass(frozen=True)
class TableState:
    table: TableConfig
    entry: LogEntry | None
    runs: Sequence[Run] = ()
    noted: Noted = Noted()

    @property
    def standing(self) -> Standing:
        if self.noted.failed:
            return Standing.FAILING
        if self.noted.verdict and self.noted.verdict.differences:
            return Standing.DIFFERENT
        if self.entry is None:
            return Standing.NEVER_SYNCED
        return Standing.LOADING if self.load else Standing(self._certificate["level"])

    @cached_property
    def load(self) -> Load | None:
        """The load in chunks that is not finished."""
        found = self._watermark.get("load")
        return Load.from_json(found) if found else None

    @property
    def snapshot_at(self) -> datetime | None:
        """The time of the snapshot that the target has, by the source's clock."""
        return datetime.fromisoformat(self._watermark["snapshot"]["taken_at"]) if self.entry else None

    @property
    def reconciled_at(self) -> datetime | None:
        found = self._certificate.get("reconciled")
        return datetime.fromisoformat(found["as_of"]) if found else None

    @property
    def sentence(self) -> str:
        """The guarantee of the target in one sentence."""
        if self.snapshot_at is None:
            return "Nothing was synced to this target yet"
        if self.load:
            return f"Loading: {load_line(self.load)}"
        given = self._certificate
        return guarantee(Level(given["level"]), given["changes"], given["text"], self.snapshot_at)

    @cached_property
    def _watermark(self) -> dict[str, Any]:
        return dict(json.loads(self.entry.watermark)) if self.entry else {}

    @cached_property
    def _certificate(self) -> dict[str, Any]:
        return dict(json.loads(self.entry.certificate)) if self.entry else {}


@dataclass(frozen=True)
class Overview:
    """``noted``: an orchestrator gave what it knows, so that a table without a failure did not fail."""

    source: str
    warehouse: str
    taken_at: datetime
    tables: Sequence[TableState]
    noted: bool = False

    @cached_property
    def by_standing(self) -> dict[Standing, list[TableState]]:
        found: dict[Standing, list[TableState]] = {standing: [] for standing in Standing}
        for state in self.tables:
            found[state.standing].append(state)
        return found


def overview(
    tables: Sequence[TableConfig],
    places: Places,
    noted: Mapping[tuple[str, str], Noted] | None = None,
    runs: int = RUNS,
) -> Overview:
    """Return the state of the tables, by two queries of the sync log. ``noted`` has what an orchestrator knows, by
    target. Raises WarehouseError."""
    with places.warehouse.reading(query_tag=QueryTag("report")) as session:
        newest = sync_log.newest(session, places.log_schema)
        recent = recent_runs(session, places.log_schema, runs) if newest else {}
    states = [
        TableState(
            table,
            entry,
            recent.get(target_name(table).key, ()) if entry else (),
            (noted or {}).get(table.target, Noted()),
        )
        for table, entry in zip(tables, entries_of(tables, newest), strict=True)
    ]
    return Overview(
        places.source.database, places.warehouse.describe(), datetime.now(UTC), states, noted=noted is not None
    )
