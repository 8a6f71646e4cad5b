"""What all definitions built from one tables.yaml share: names, connections, and what runs by itself."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Literal

import dagster as dg

from aurora_sync.errors import ConfigError
from aurora_sync.orchestration.resources import Connections

DefaultStatus = Literal["RUNNING", "STOPPED"]


@dataclass(frozen=True)
class Executors:
    """The executor of our jobs, and another one for the job that loads a large table in chunks."""

    jobs: dg.ExecutorDefinition | None = None
    load: dg.ExecutorDefinition | None = None


@dataclass(frozen=True)
class Project:
    """The definitions of one tables.yaml or of one component.

    ``name`` is the prefix of all names that must be unique in a code location. ``source`` is the name of the source in
    asset keys and pools. ``warehouse`` is the kind of the warehouse. ``default_status`` is the status of schedules and
    sensor until someone turns them on or off in the UI. ``executor`` is that of our jobs; None is that of the code
    location.
    """

    name: str
    connections: Connections
    source: str
    warehouse: str
    default_status: DefaultStatus = "STOPPED"
    executor: dg.ExecutorDefinition | None = None
    load_executor: dg.ExecutorDefinition | None = None  # of the job that loads a large table; None: ``executor``

    @property
    def sync_prefix(self) -> str:
        """The prefix of jobs that sync tables: the name, with ``sync`` at its end."""
        return self.name if self.name.endswith("sync") else f"{self.name}_sync"

    @property
    def io_manager_key(self) -> str:
        return f"{self.name}_io_manager"

    @property
    def pool(self) -> str:
        """The pool of all steps that read the source. dagster.yaml can limit how many run at once."""
        return f"aurora_sync/{dagster_name(self.source)}"

    @property
    def assessment_key(self) -> dg.AssetKey:
        """The key of the asset that assesses the source. It has three parts, as that of a verification."""
        return dg.AssetKey([self.name, "advisor", "assessment"])

    def verification_key(self, group: str) -> dg.AssetKey:
        """Return the key of the asset that verifies a group. It has three parts; tables have two, source tables
        four."""
        return dg.AssetKey([self.name, group, "verification"])

    @property
    def schedule_status(self) -> dg.DefaultScheduleStatus:
        return dg.DefaultScheduleStatus(self.default_status)

    @property
    def sensor_status(self) -> dg.DefaultSensorStatus:
        return dg.DefaultSensorStatus(self.default_status)


def status_of(text: str) -> DefaultStatus:
    """Return the default status that AURORA_SYNC_DEFAULT_STATUS names; STOPPED if it is empty. Raises ConfigError."""
    match text:
        case "RUNNING":
            return "RUNNING"
        case "STOPPED" | "":
            return "STOPPED"
    raise ConfigError(f"AURORA_SYNC_DEFAULT_STATUS: found {text!r}; expected RUNNING or STOPPED")


def dagster_name(text: str) -> str:
    """Return a valid Dagster name (``[A-Za-z0-9_]+``) for a PostgreSQL name. Different names stay different.

    >>> dagster_name("order_items"), dagster_name("Order Items")
    ('order_items', 'Order_Items_dbc868')
    """
    kept = re.sub(r"[^A-Za-z0-9_]", "_", text)
    return kept if kept == text else f"{kept}_{hashlib.sha256(text.encode()).hexdigest()[:6]}"
