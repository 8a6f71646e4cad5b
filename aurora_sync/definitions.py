"""The code location: tables.yaml as Dagster definitions."""

import gc
import os
from pathlib import Path

import dagster as dg

from aurora_sync.config.loader import load
from aurora_sync.orchestration.factory import build_definitions, executor
from aurora_sync.orchestration.project import status_of
from aurora_sync.orchestration.resources import Connections

connections = Connections()
config = load(Path(os.environ.get("AURORA_SYNC_TABLES") or "tables.yaml"))

defs = dg.Definitions.merge(
    build_definitions(config, connections, default_status=status_of(os.environ.get("AURORA_SYNC_DEFAULT_STATUS", ""))),
    dg.Definitions(executor=executor(connections)),
)

# The definitions live as long as the process. The garbage collector would visit them again and again: for 1,000 tables,
# while Dagster resolves the jobs, for 0.3 CPU seconds of each process.
gc.freeze()
